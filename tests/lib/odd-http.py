#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""odd-http.py PORTFILE LOG: a web server whose answers are wrong, each in the way that the last
component of the path names. Says its port in PORTFILE, and each request's first line and
Authorization in LOG. Also a proxy: an absolute URL is answered as its path is."""
import os
import socket
import sys
import threading
import time

BODY = b"x" * 5000


def head(status, *lines):
    return ("HTTP/1.1 %s\r\n%s\r\n" % (status, "".join(l + "\r\n" for l in lines))).encode()


def whole(c):
    c.sendall(head("200 OK", "Content-Length: 5000", 'ETag: "v1"') + BODY)


def drip(c):
    c.sendall(head("200 OK", "Content-Length: 5000"))
    for i in range(5000):
        c.sendall(b"x")
        time.sleep(0.2)


def endless(c):
    c.sendall(head("200 OK", "Transfer-Encoding: chunked"))
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    while True:
        c.sendall(piece)


def headers_endless(c):
    c.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        c.sendall(b"X-Filler: " + b"y" * 1000 + b"\r\n")


def interim_endless(c):
    while True:
        c.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50)


def reset(c):
    c.sendall(head("200 OK", "Content-Length: 5000") + BODY[:100])
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def status(code, *lines):
    return lambda c: c.sendall(head("%d Status" % code, "Content-Length: 2", *lines) + b"no")


CASES = {
    "fine": whole,
    "truncated": lambda c: c.sendall(head("200 OK", "Content-Length: 5000") + BODY[:100]),
    "chunk-truncated": lambda c: c.sendall(head("200 OK", "Transfer-Encoding: chunked") + b"100\r\nxx"),
    "nothing": lambda c: None,
    "garbage": lambda c: c.sendall(b"\0\1\2 not http at all\r\n\r\n"),
    "old-http": lambda c: c.sendall(BODY),
    "reset": reset,
    "hang": lambda c: time.sleep(60),
    "drip": drip,
    "endless": endless,
    "headers-endless": headers_endless,
    "interim-endless": interim_endless,
    "announced": lambda c: c.sendall(head("200 OK", "Content-Length: 99999999999") + BODY),
    "bad-length": lambda c: c.sendall(head("200 OK", "Content-Length: -5") + BODY),
    "wrong-range": lambda c: c.sendall(head("206 Partial", "Content-Length: 50", "Content-Range: bytes 101-150/5000") + BODY[:50]),
    "range-longer": lambda c: c.sendall(head("206 Partial", "Content-Length: 60", "Content-Range: bytes 100-159/5000") + BODY[:60]),
    "range-shorter": lambda c: c.sendall(head("206 Partial", "Content-Length: 40", "Content-Range: bytes 100-139/5000") + BODY[:40]),
    "range-no-total": lambda c: c.sendall(head("206 Partial", "Content-Length: 50", "Content-Range: bytes 100-149/*") + BODY[:50]),
    "range-no-header": lambda c: c.sendall(head("206 Partial", "Content-Length: 50") + BODY[:50]),
    "range-lengths-differ": lambda c: c.sendall(head("206 Partial", "Content-Length: 49", "Content-Range: bytes 100-149/5000") + BODY[:50]),
    "multipart": lambda c: c.sendall(head("206 Partial", "Content-Length: 50", "Content-Type: multipart/byteranges; boundary=x") + BODY[:50]),
    "range-other-etag": lambda c: c.sendall(head("206 Partial", "Content-Length: 50", "Content-Range: bytes 100-149/5000", 'ETag: "v2"') + BODY[:50]),
    "range-fine": lambda c: c.sendall(head("206 Partial", "Content-Length: 50", "Content-Range: bytes 100-149/5000", 'ETag: "v1"') + BODY[:50]),
    "unasked-304": lambda c: c.sendall(head("304 Not Modified")),
    "html": lambda c: c.sendall(head("200 OK", "Content-Type: text/html; charset=utf-8", "Content-Length: 13") + b"<html></html>"),
    "html-404": lambda c: c.sendall(head("404 Not Found", "Content-Type: text/html", "Content-Length: 13") + b"<html></html>"),
    "elsewhere": status(302, "Location: http://127.0.0.1:9/login"),
    "to-file": status(302, "Location: file:///etc/passwd"),
    "to-user": status(302, "Location: http://u:p@127.0.0.1:9/"),
    "no-location": status(302),
    "loop": status(302, "Location: loop"),
    "moved": status(301, "Location: fine"),
    "no-content": status(204),
    "s401": status(401),
    "s404": status(404),
    "s408": status(408),
    "s410": status(410),
    "s416": status(416, "Content-Range: bytes */5000"),
    "s429": status(429, "Retry-After: 7"),
    "s429-huge": status(429, "Retry-After: 99999999"),
    "s429-bad": status(429, "Retry-After: soon"),
    "s500": status(500),
    "s503": status(503, "Retry-After: 120"),
    "s511": status(511),
    "slow-error": lambda c: (c.sendall(head("500 Error", "Content-Length: 5000")), time.sleep(60)),
    "long-error": lambda c: c.sendall(head("500 Error", "Content-Length: 50000000") + b"x" * 50000000),
}


def serve(c, log):
    try:
        data = b""
        while b"\r\n\r\n" not in data:
            got = c.recv(65536)
            if not got:
                return
            data += got
        lines = data.decode("latin-1").split("\r\n")
        auth = [l for l in lines if l.lower().startswith("authorization:")]
        log.write("%s %s\n" % (lines[0], auth[0] if auth else "-"))
        log.flush()
        name = lines[0].split(" ")[1].split("/")[-1]
        CASES.get(name, status(404))(c)
    except OSError:
        pass
    finally:
        try:
            c.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        c.close()


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    log = open(sys.argv[2], "w")
    with open(sys.argv[1] + ".new", "w") as f:
        f.write("%d\n" % listener.getsockname()[1])
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    while True:
        c, _ = listener.accept()
        threading.Thread(target=serve, args=(c, log), daemon=True).start()


main()
