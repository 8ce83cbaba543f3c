#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of corpus/{json,manifest,table,state}; what fuzzing found lies beside them."""
import hashlib, hmac, os, struct

HERE = os.path.dirname(os.path.abspath(__file__))
REJECT = os.path.join(HERE, "..", "reject")


def put(corpus, name, data):
    folder = os.path.join(HERE, "corpus", corpus)
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, name), "wb").write(data)


for name in ("plain", "encrypted", "critical-known", "no-compat"):
    put("manifest", name, open(os.path.join(REJECT, "ok", name + ".json"), "rb").read())
for name in ("file-as-folder-not-adjacent", "duplicate-key", "very-deep-nesting", "wraps-twice", "name-twice", "bad-utf8",
             "enormous-number", "truncated"):
    data = open(os.path.join(REJECT, "malformed", name + ".json"), "rb").read()[:4096]
    put("manifest", name, data)
    put("json", name, data)
for i, text in enumerate(('{}', '{"a":[1,-2,true,null,{"b":"\\"\\\\"}]}', '{"a" : "\\u00e4\\/"}', '{"b":1,"a":9007199254740991}',
                          '{"a":"\u00e4\U0001f600"}', '[]', '{"a":1.5}')):
    put("json", "text-%d" % i, text.encode())


def table(flags, size, tag=b"\0" * 16, chunk=65536):
    n = -(-size // chunk)
    out = struct.pack("<BQ", flags, size)
    if n > 1:
        out += b"MFCHUNK1" + struct.pack("<IIQQ", chunk, 0, size, n) + b"".join(bytes([i]) * 32 + tag for i in range(n))
    return out


for name, data in (("empty", table(0, 0)), ("one", table(0, 1)), ("two", table(0, 65537)), ("sealed", table(1, 200000, b"\1" * 16)),
                   ("tag-when-plain", table(0, 200000, b"\1" * 16)), ("huge", table(7, 1 << 45, chunk=1 << 45)),
                   ("short", table(0, 65537)[:-1]), ("long", table(0, 65537) + b"\0"), ("large-chunks", table(4, 600000, chunk=262144))):
    put("table", name, data)

vref = lambda c, r: '{"key_epoch":1,"manifest":"%s","release":%d,"variant":"default","version":"%d.0.0"}' % (c * 64, r, r)
anchor = (('{"format":"modelfs-anchor/1.0","models":{"det":{"active":%s,"bad":[{"manifest":"%s","why":"known_bad"}],"floor":'
          '{"key_epoch":1,"manifest":"%s","release":3},"known":[%s,%s],"min_key_epoch":0,"min_release":0,"model_id":"det",'
          '"policy":{"enforce":"keep","highest_minimum":{"key_epoch":1,"release":2},"issued":1,"revoked":['
          '{"action":"rollback","otherwise":"keep","reason":"r","rollback_to":{"manifest_sha256":"' + "b" * 64 + '","release":2,'
          '"variant":"default","version":"2.0.0"},"version":"3.0.0"}],"sequence":1,"sha256":"' + "e" * 64 + '"},"previous":%s,"retained":[%s],"revoked":["%s"],"soon":1}},"repositories":{"default":{"root":{"sha256":"' + "a" * 64 + '","version":1},"trust":[]}},"tuf":{}}') % (
              vref("a", 3), "c" * 64, "a" * 64, vref("a", 3), vref("b", 2), vref("b", 2), vref("b", 2), "d" * 64)).encode()
empty = b'{"format":"modelfs-anchor/1.0","models":{}}'
put("state", "anchor", anchor)
put("state", "anchor-empty", empty)
put("state", "anchor-major-2", empty.replace(b"1.0", b"2.0"))
key = bytes([1, 2, 3] + [0] * 29)
for name, kind in (("frame", 1), ("frame-of-another-kind", 2)):
    frame = b"MFSTATE1" + struct.pack("<IIQQ", kind, 0, 7, len(empty)) + empty + bytes(16)
    put("state", name, frame + hmac.new(key, frame, hashlib.sha256).digest())
