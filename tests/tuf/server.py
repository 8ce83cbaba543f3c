#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Serves a folder over plain HTTP/1.0 on 127.0.0.1 and notes every request:

	server.py FOLDER PORTFILE LOGFILE

FOLDER/.fault, when it is there, holds "PATH FAULT": what happens to requests of that path.
	404, 403, 500       that status, with a body
	close               no answer at all
	truncate            half of the body, then the end
	endless             the body, then spaces without end (and no length)
	redirect            302 to the same path with ?again
	empty               200 with nothing
"""
import http.server, os, sys, urllib.parse

FOLDER, PORTFILE, LOGFILE = sys.argv[1:4]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(LOGFILE, "a") as log:
            log.write(self.path + "\n")
        fault = ""
        try:
            with open(os.path.join(FOLDER, ".fault")) as f:
                path, _, kind = f.read().strip().partition(" ")
                fault = kind if path == self.path else ""
        except OSError:
            pass
        try:
            with open(FOLDER + urllib.parse.unquote(self.path), "rb") as f:
                data = f.read()
        except OSError:
            data, fault = b"", fault or "404"
        if fault == "close":
            self.close_connection = True
            return
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path + "?again")
            self.end_headers()
            return
        self.send_response(200)
        if fault != "endless":
            self.send_header("Content-Length", "0" if fault == "empty" else str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(b"" if fault == "empty" else data[: len(data) // 2] if fault == "truncate" else data)
            while fault == "endless":
                self.wfile.write(b" " * 65536)
        except OSError:
            pass

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(PORTFILE + ".new", "w") as f:
    f.write(str(server.server_address[1]))
os.rename(PORTFILE + ".new", PORTFILE)
server.serve_forever()
