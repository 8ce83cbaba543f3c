#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A web server that misbehaves on request. Standard library only.

    hostile-http.py ROOT [--port-file FILE] [--tls CERT KEY]

Serves the folder ROOT like any file server (single ranges, ETag, If-None-Match, keep-alive) on a free
port of 127.0.0.1, which is written to FILE (else printed). It is told what to do by requests that are
not counted:

    /_fault?mode=M[&nth=N][&count=C][&after=B][&retry=S][&path=SUBSTRING][&only=1]
                        the Nth request from now on (0 is the next) and the C - 1 after it get fault M;
                        count=all: every one. path: only requests whose path contains it are counted. only:
                        from this moment in the place of all faults there were, with the counters at zero
    /_clear             no faults
    /_stats             {"requests", "faults", "bytes"}: body bytes written since the last /_reset
    /_reset             counters to zero

Modes:
    status CODE as in 500, 408, 404, 403, 503, 304; 429 and 503 with Retry-After when retry is given
    truncate     the connection ends after B bytes of the body
    corrupt      one byte at offset B of the body is flipped
    wrong-range  206 with a Content-Range that is not what was asked for
    short-206    206 with half of what was asked for, honestly announced
    long-206     206 with a Content-Length twice of what was asked for
    whole        200 with all of the file where a range was asked for
    etag         another ETag with every answer
    416          range not satisfiable
    endless      a body without end or length
    hang         headers never come
    stall        the body stops after B bytes, the connection stays open
    drip         one byte of body each 0.3 s
    slow-headers one byte of the headers each 0.3 s
    redirect     to itself, for ever
    portal       302 to a login page on another host
    login        200 with a page of HTML
    reset        the connection is reset after B bytes
    gzip         says Content-Encoding: gzip
    junk         an answer that is not HTTP
    headers      headers without end
"""
import http.server
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

PIECE = 64 * 1024
lock = threading.Lock()
faults = []
stats = {"requests": 0, "faults": 0, "bytes": 0}
etag_turn = [0]


def fault_take(path):
    """The fault of this request, or None; counts it down."""
    with lock:
        stats["requests"] += 1
        for f in faults:
            if f["path"] not in path:
                continue
            f["seen"] += 1
            n = f["seen"] - 1 - f["nth"]
            if n >= 0 and (f["count"] is None or n < f["count"]):
                stats["faults"] += 1
                return f
    return None


class Hostile(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = "."
    timeout = 60

    def log_message(self, *args):
        pass

    # ---- what tests ask ----
    def control(self):
        url = urllib.parse.urlsplit(self.path)
        q = dict(urllib.parse.parse_qsl(url.query))
        with lock:
            if url.path == "/_fault" and "only" in q:
                faults.clear()
                for k in stats:
                    stats[k] = 0
            if url.path == "/_fault":
                faults.append({
                    "mode": q["mode"], "nth": int(q.get("nth", 0)), "seen": 0,
                    "count": None if q.get("count") == "all" else int(q.get("count", 1)),
                    "after": int(q.get("after", 0)), "retry": int(q.get("retry", 0)), "path": q.get("path", "")})
            elif url.path == "/_clear":
                faults.clear()
            elif url.path == "/_reset":
                for k in stats:
                    stats[k] = 0
            answer = json.dumps(stats).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    # ---- bodies ----
    def body(self, data):
        for at in range(0, len(data), PIECE):
            piece = data[at:at + PIECE]
            self.wfile.write(piece)
            with lock:
                stats["bytes"] += len(piece)

    def end_now(self, reset=False):
        self.close_connection = True
        try:
            self.wfile.flush()
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self, seconds=30):
        """Until the client goes away, or for so long."""
        end = time.monotonic() + seconds
        self.connection.settimeout(0.2)
        while time.monotonic() < end:
            try:
                if self.connection.recv(1) == b"":
                    break
            except (TimeoutError, socket.timeout):
                continue
            except (OSError, ssl.SSLError):
                break
        self.close_connection = True

    def simple(self, code, text=b"", headers=()):
        self.send_response(code)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.body(text)

    # ---- files ----
    def wanted(self, size):
        """(first, last) of the range that is asked for, None for all, False when it cannot be had."""
        r = self.headers.get("Range")
        if r is None or not r.startswith("bytes=") or "," in r:
            return None
        first, _, last = r[6:].partition("-")
        first = int(first)
        last = min(int(last) if last else size - 1, size - 1)
        return (first, last) if first <= last else False

    def do_GET(self):
        if self.path.startswith("/_"):
            return self.control()
        fault = fault_take(self.path)
        try:
            self.answer(fault)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def answer(self, fault):
        mode = fault["mode"] if fault else ""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        real = os.path.normpath(self.root + "/" + path)
        if mode.isdigit() and mode not in ("416",):
            return self.simple(int(mode), b"" if mode == "304" else b"no", [("Retry-After", str(fault["retry"]))] if fault["retry"] else [])
        if mode == "hang":
            return self.wait()
        if mode == "junk":
            self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
            return self.end_now()
        if mode == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for i in range(100000):
                self.wfile.write(b"X-%d: %s\r\n" % (i, b"y" * 1000))
            return self.end_now()
        if mode == "slow-headers":
            for c in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" * 100:
                self.wfile.write(bytes([c]))
                time.sleep(0.3)
            return self.end_now()
        if mode == "redirect":
            return self.simple(302, b"", [("Location", self.path)])
        if mode == "portal":
            return self.simple(302, b"", [("Location", "http://login.invalid/hotel?from=" + self.path)])
        if mode == "login":
            return self.simple(200, b"<html><body>Room number, please</body></html>" * 100, [("Content-Type", "text/html")])
        if not real.startswith(os.path.normpath(self.root) + "/") or not os.path.isfile(real):
            return self.simple(404, b"not here")
        size = os.path.getsize(real)
        span = self.wanted(size)
        if mode == "416" or span is False:
            return self.simple(416, b"", [("Content-Range", "bytes */%d" % size)])
        st = os.stat(real)
        etag = '"%x-%x"' % (st.st_mtime_ns, size)
        if mode == "etag":
            with lock:
                etag_turn[0] += 1
                etag = '"changed-%d"' % etag_turn[0]
        elif self.headers.get("If-None-Match") == etag:
            return self.simple(304, b"", [("ETag", etag)])
        if mode == "whole" or (mode == "endless" and span is None):
            span = None
        first, last = span or (0, size - 1)
        with open(real, "rb") as f:
            f.seek(first)
            data = f.read(last - first + 1)
        self.deliver(mode, fault["after"] if fault else 0, data, first, last, size, etag, span is not None)

    def deliver(self, mode, after, data, first, last, size, etag, partial):
        length = len(data)
        if mode == "short-206" and partial and length > 1:
            data = data[:length // 2]
            last = first + len(data) - 1
            length = len(data)
        if mode == "wrong-range":
            first, last, partial = first + 1, last + 1, True
        if mode == "long-206":
            length *= 2
        self.send_response(206 if partial else 200)
        self.send_header("ETag", etag)
        if partial:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (first, last, size))
        if mode == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if mode == "endless":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if mode in ("truncate", "stall", "reset"):
            self.body(data[:after])
            if mode == "stall":
                self.wfile.flush()
                return self.wait()
            return self.end_now(mode == "reset")
        if mode == "corrupt" and after < len(data):
            data = data[:after] + bytes([data[after] ^ 0x40]) + data[after + 1:]
        if mode == "drip":
            for c in data:
                self.wfile.write(bytes([c]))
                self.wfile.flush()
                time.sleep(0.3)
            return
        self.body(data)
        if mode == "long-206":
            self.body(data)
        while mode == "endless":
            self.body(bytes(PIECE))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


def main():
    args = sys.argv[1:]
    if not args:
        print(__doc__, file=sys.stderr)
        return 64
    Hostile.root = os.path.abspath(args.pop(0))
    port_file = tls = None
    while args:
        a = args.pop(0)
        if a == "--port-file":
            port_file = args.pop(0)
        elif a == "--tls":
            tls = (args.pop(0), args.pop(0))
        else:
            print("hostile-http.py: %s: unknown" % a, file=sys.stderr)
            return 64
    server = Server(("127.0.0.1", 0), Hostile)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    if port_file:
        with open(port_file + ".new", "w") as f:
            f.write("%d\n" % port)
        os.rename(port_file + ".new", port_file)
    else:
        print(port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
