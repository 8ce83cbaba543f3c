#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""metered-bus.py SOCKET VALUE: on the D-Bus at SOCKET be org.freedesktop.NetworkManager, whose only
property is Metered. Speaks the wire itself, so that it needs nothing that is not in every Python."""
import os
import socket
import struct
import sys


def pad(b, n):
    return b + b"\0" * (-len(b) % n)


def text(s):
    return struct.pack("<I", len(s)) + s.encode() + b"\0"


def message(kind, serial, fields, signature=b"", body=b""):
    b = b""
    if signature:
        fields = fields + [(8, b"g", bytes([len(signature)]) + signature + b"\0")]
    for code, kind_of, value in fields:
        b = pad(b, 8) + bytes([code, 1]) + kind_of + b"\0" + value
    return pad(struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), serial, len(b)) + b, 8) + body


def call(serial, member, signature=b"", body=b""):
    return message(1, serial, [(1, b"o", text("/org/freedesktop/DBus")), (2, b"s", text("org.freedesktop.DBus")),
                               (3, b"s", text(member)), (6, b"s", text("org.freedesktop.DBus"))], signature, body)


def read(s, n):
    b = b""
    while len(b) < n:
        got = s.recv(n - len(b))
        if not got:
            sys.exit(0)
        b += got
    return b


def receive(s):
    head = read(s, 16)
    _, kind, _, _, body, serial, fields = struct.unpack("<cBBBIII", head)
    raw = read(s, fields + -fields % 8)
    return kind, serial, raw[:fields], read(s, body)


def field(raw, want):
    at = 0
    while at < len(raw):
        code, kind = raw[at], raw[at + 2:at + 3]
        at += 4
        if kind == b"g":
            end = at + 2 + raw[at]
            value = raw[at + 1:end - 1]
        elif kind == b"u":
            end = at + 4
            value = raw[at:end]
        else:
            n = struct.unpack("<I", raw[at:at + 4])[0]
            end = at + 5 + n
            value = raw[at + 4:end - 1]
        if code == want:
            return value
        at = end + -end % 8
    return b""


def main():
    value = int(sys.argv[2])
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    assert read(s, 3) == b"OK "
    while read(s, 1) != b"\n":
        pass
    s.sendall(b"BEGIN\r\n" + call(1, "Hello"))
    s.sendall(call(2, "RequestName", b"su", pad(text("org.freedesktop.NetworkManager"), 4) + struct.pack("<I", 4)))
    while True:
        kind, serial, fields, body = receive(s)
        if kind == 2 and field(fields, 5) == struct.pack("<I", 2):
            print("ready", flush=True)
        if kind == 1 and field(fields, 3) == b"Get":
            ok = body == pad(text("org.freedesktop.NetworkManager"), 4) + text("Metered")
            to = field(fields, 7).decode()
            s.sendall(message(2 if ok else 3, 100 + serial, [(5, b"u", struct.pack("<I", serial)), (6, b"s", text(to))] +
                              ([] if ok else [(4, b"s", text("x.Error"))]),
                              b"v" if ok else b"", b"\1u\0\0" + struct.pack("<I", value) if ok else b""))


main()
