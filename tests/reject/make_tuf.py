#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Writes the reject corpus of TUF metadata: tuf/<role>/<name>.json, each with one thing wrong, beside it
<name>.says, a part of the message; tuf/<role>/ok-*.json is accepted. Every few of them also become the
first inputs of the fuzz targets (../fuzz/corpus/tuf_<role>/).
"""
import copy, json, os, shutil

HERE = os.path.dirname(os.path.abspath(__file__))
ID, OTHER = "1" * 64, "2" * 64
PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
KEY = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "3" * 64}}
EC = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": PEM}, "x-owner": "a"}
ROLE = {"keyids": [ID], "threshold": 1}
INFO = {"version": 1, "length": 10, "hashes": {"sha256": "4" * 64, "sha512": "5" * 128}}
TARGET = {"length": 0, "hashes": {"sha256": "6" * 64}, "custom": {"a": [1, None, True]}}
DELETE = object()


def doc(kind, **body):
    signed = {"_type": kind, "spec_version": "1.0.31", "version": 3, "expires": "2030-01-01T00:00:00Z", "x-more": "line\n"}
    signed.update(copy.deepcopy(body))
    return {"signatures": [{"keyid": ID, "sig": "00"}, {"keyid": OTHER, "sig": ""}], "signed": signed}


BASE = {
    "root": doc("root", consistent_snapshot=True, keys={ID: KEY, OTHER: EC},
                roles={r: dict(ROLE, keyids=[ID]) for r in ("root", "timestamp", "snapshot", "targets")}),
    "timestamp": doc("timestamp", meta={"snapshot.json": INFO}),
    "snapshot": doc("snapshot", meta={"targets.json": {"version": 1}, "release.det.json": INFO, "\u00e4.json": {"version": 2}}),
    "targets": doc("targets", targets={"det/policy.json": TARGET, "x": {"length": 7, "hashes": {"sha512": "7" * 128, "md5": "?"}}},
                   delegations={"keys": {ID: KEY},
                                "roles": [dict(ROLE, name="release.det", terminating=True, paths=["det/*", "det/[a-c]?/*"]),
                                          dict(ROLE, name="../b", terminating=False, path_hash_prefixes=["", "ab", "2d"])]}),
}
BINS = copy.deepcopy(BASE["targets"])
BINS["signed"]["delegations"] = {"keys": {ID: KEY}, "succinct_roles": dict(ROLE, bit_length=9, name_prefix="bin")}
ALONE = copy.deepcopy(BASE["targets"])
del ALONE["signed"]["delegations"]

for role in BASE:
    shutil.rmtree(os.path.join(HERE, "tuf", role), ignore_errors=True)
    os.makedirs(os.path.join(HERE, "tuf", role))
    os.makedirs(os.path.join(HERE, "..", "fuzz", "corpus", "tuf_" + role), exist_ok=True)
written = {role: 0 for role in BASE}


def write(role, name, data, says=None):
    path = os.path.join(HERE, "tuf", role, name)
    assert not os.path.exists(path + ".json"), name
    open(path + ".json", "wb").write(data)
    if says is not None:
        open(path + ".says", "w").write(says)
    if says is None or written[role] % 4 == 0:
        open(os.path.join(HERE, "..", "fuzz", "corpus", "tuf_" + role, name), "wb").write(data[:8192])
    written[role] += 1


def dump(m):
    return json.dumps(m, indent=1, ensure_ascii=False).encode()


def bad(role, name, path, value, says, base=None):
    """One field, by its path, replaced, added or deleted."""
    m = copy.deepcopy(base or BASE[role])
    at = m
    for step in path[:-1]:
        at = at[step]
    if value is DELETE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    write(role, name, dump(m), says)


def every(name, path, value, says):
    for role in BASE:
        bad(role, name, path, value, says)


for role in BASE:
    write(role, "ok-plain", dump(BASE[role]))
    write(role, "ok-compact", json.dumps(BASE[role], separators=(",", ":")).encode())
write("targets", "ok-bins", dump(BINS))
write("targets", "ok-alone", dump(ALONE))
m = copy.deepcopy(BASE["root"])
m["signed"]["roles"]["mirrors"] = {"keyids": [], "threshold": 0}
del m["signed"]["consistent_snapshot"]
write("root", "ok-mirrors", dump(m))

every("signatures-missing", ["signatures"], DELETE, "signatures: missing")
every("signatures-type", ["signatures"], {}, "signatures: not an array")
every("signatures-too-many", ["signatures"], [{"keyid": "%d" % i, "sig": ""} for i in range(257)], "257 entries")
every("signature-item-type", ["signatures", 0], "x", "signatures[0]")
every("signature-no-keyid", ["signatures", 1, "keyid"], DELETE, "signatures[1]")
every("signature-sig-type", ["signatures", 0, "sig"], 1, "signatures[0]")
every("signature-keyid-twice", ["signatures", 1, "keyid"], ID, "stands there twice")
every("signed-missing", ["signed"], DELETE, "signed: missing")
every("signed-type", ["signed"], [], "signed: not an object")
every("type-missing", ["signed", "_type"], DELETE, "_type: missing")
every("type-unknown", ["signed", "_type"], "mirror", "where")
for role in BASE:
    other = {"root": "targets", "targets": "snapshot", "snapshot": "timestamp", "timestamp": "root"}[role]
    bad(role, "type-of-another", ["signed", "_type"], other, "'%s' where %s belongs" % (other, role))
for name, value in (("2", "2.0.0"), ("0", "0.9"), ("word", "one"), ("empty-part", "1."), ("four", "1.0.0.0"), ("sign", "1.-1")):
    every("spec-version-" + name, ["signed", "spec_version"], value, "spec_version")
every("spec-version-number", ["signed", "spec_version"], 1, "spec_version: not a string")
for name, value in (("0", 0), ("negative", -1), ("string", "1"), ("null", None), ("true", True)):
    every("version-" + name, ["signed", "version"], value, "version")
every("version-missing", ["signed", "version"], DELETE, "version: missing")
for name, value in (("missing", DELETE), ("number", 1), ("date", "2030-01-01"), ("space", "2030-01-01 00:00:00Z"),
                    ("february-30", "2030-02-30T00:00:00Z"), ("fraction", "2030-01-01T00:00:00.5Z"), ("zone", "2030-01-01T00:00:00+00:00")):
    every("expires-" + name, ["signed", "expires"], value, "expires")
every("float", ["signed", "x-more"], 1.5, "not an integer")
every("huge-number", ["signed", "x-more"], 2 ** 53, "2^53-1")
deep = 1
for _ in range(20):
    deep = [deep]
every("deep-nesting", ["signed", "x-more"], deep, "16 levels")
for role in BASE:
    plain = dump(BASE[role])
    write(role, "empty", b"", "empty")
    write(role, "array", b"[" + plain + b"]", "not a JSON object")
    write(role, "truncated", plain[:-1], "offset")
    write(role, "trailing", plain + b"x", "offset")
    write(role, "duplicate-key", plain.replace(b'"version": 3', b'"version": 3, "version": 3'), "duplicate")
    write(role, "bad-utf8", plain.replace(b"line", b"\xc3"), "offset")
    write(role, "lone-surrogate", plain.replace(b"line", b"\\ud800"), "offset")
    write(role, "nul", plain.replace(b"line", b"\\u0000"), "offset")
    write(role, "byte-order-mark", b"\xef\xbb\xbf" + plain, "offset")

for r in ("root", "timestamp", "snapshot", "targets"):
    bad("root", "role-%s-missing" % r, ["signed", "roles", r], DELETE, "roles.%s: missing" % r)
R = ["signed", "roles", "targets"]
for role, at, where in (("root", R, "roles.targets."), ("targets", ["signed", "delegations", "roles", 0], "delegations.roles[0]."),
                        ("targets", ["signed", "delegations", "succinct_roles"], "delegations.succinct_roles.")):
    base, tag = (BINS, "bins-") if "succinct_roles" in at else (None, "")
    for name, value in (("missing", DELETE), ("0", 0), ("negative", -1), ("string", "1")):
        bad(role, tag + "threshold-" + name, at + ["threshold"], value, where + "threshold", base)
    bad(role, tag + "keyids-missing", at + ["keyids"], DELETE, where + "keyids: missing", base)
    bad(role, tag + "keyids-type", at + ["keyids"], ID, where + "keyids: not an array", base)
    bad(role, tag + "keyids-item-type", at + ["keyids"], [1], where + "keyids: item 0", base)
    bad(role, tag + "keyids-twice", at + ["keyids"], [ID, OTHER, ID], "stands there twice", base)
    bad(role, tag + "keyids-too-many", at + ["keyids"], ["%064x" % i for i in range(65)], "65 entries", base)
for role, at in (("root", ["signed", "keys"]), ("targets", ["signed", "delegations", "keys"])):
    bad(role, "keys-missing", at, DELETE, "keys: missing")
    bad(role, "keys-type", at, [], "keys: not an object")
    bad(role, "key-type", at + [ID], "x", "not an object")
    for field in ("keytype", "scheme", "keyval"):
        bad(role, "key-no-" + field, at + [ID, field], DELETE, "a key has")
    bad(role, "keyval-type", at + [ID, "keyval"], "3" * 64, "a key has")
bad("root", "consistent-type", ["signed", "consistent_snapshot"], 1, "consistent_snapshot")
bad("root", "roles-type", ["signed", "roles"], [], "roles: not an object")

for role, file in (("timestamp", "snapshot.json"), ("snapshot", "targets.json")):
    at = ["signed", "meta", file]
    bad(role, "meta-missing", ["signed", "meta"], DELETE, "meta: missing")
    bad(role, "meta-type", ["signed", "meta"], [], "meta: not an object")
    bad(role, "meta-without-the-one", at, DELETE, "does not name " + file)
    bad(role, "meta-item-type", at, 1, "not an object")
    for name, value in (("missing", DELETE), ("0", 0), ("string", "1")):
        bad(role, "meta-version-" + name, at, {k: v for k, v in dict(INFO, version=value).items() if v is not DELETE}, "version")
    for name, value in (("0", 0), ("negative", -1), ("string", "1")):
        bad(role, "meta-length-" + name, at, dict(INFO, length=value), "length")
    for name, value in (("type", "x"), ("empty", {}), ("unknown", {"md5": "00"}), ("short", {"sha256": "00"}),
                        ("upper-case", {"sha256": "A" * 64}), ("sha512-long", {"sha256": "4" * 64, "sha512": "5" * 130}), ("value-type", {"sha256": 1})):
        bad(role, "meta-hashes-" + name, at, dict(INFO, hashes=value), "hashes")

at = ["signed", "targets", "det/policy.json"]
bad("targets", "targets-missing", ["signed", "targets"], DELETE, "targets: missing")
bad("targets", "targets-type", ["signed", "targets"], [], "targets: not an object")
bad("targets", "target-type", at, 1, "not an object")
for name, value in (("missing", DELETE), ("negative", -1), ("string", "0")):
    bad("targets", "target-length-" + name, at + ["length"], value, "length")
for name, value in (("missing", DELETE), ("empty", {}), ("unknown", {"md5": "00"}), ("short", {"sha256": "00"})):
    bad("targets", "target-hashes-" + name, at + ["hashes"], value, "hashes")
D = ["signed", "delegations"]
bad("targets", "delegations-type", D, [], "delegations: not an object")
bad("targets", "delegations-neither", D + ["roles"], DELETE, "one of roles and succinct_roles")
bad("targets", "delegations-both", D + ["succinct_roles"], dict(ROLE, bit_length=1, name_prefix="b"), "one of roles and succinct_roles")
bad("targets", "role-item-type", D + ["roles", 1], "x", "delegations.roles[1]: not an object")
for name, value in (("missing", DELETE), ("empty", ""), ("number", 1), ("root", "root"), ("timestamp", "timestamp"), ("snapshot", "snapshot"),
                    ("targets", "targets"), ("long", "n" * 256), ("long-when-encoded", "/" * 80)):
    bad("targets", "role-name-" + name, D + ["roles", 1, "name"], value, "delegations.roles[1].name")
bad("targets", "role-name-twice", D + ["roles", 1, "name"], "release.det", "stands there twice")
bad("targets", "terminating-missing", D + ["roles", 0, "terminating"], DELETE, "terminating: missing")
bad("targets", "terminating-type", D + ["roles", 0, "terminating"], 1, "terminating")
bad("targets", "paths-neither", D + ["roles", 0, "paths"], DELETE, "one of paths")
bad("targets", "paths-both", D + ["roles", 1, "paths"], ["*"], "one of paths")
bad("targets", "paths-type", D + ["roles", 0, "paths"], "*", "paths: not an array")
bad("targets", "paths-item-type", D + ["roles", 0, "paths"], ["*", 1], "paths: item 1")
for name, value in (("type", "a"), ("item-type", [1]), ("not-hex", ["g"]), ("upper-case", ["A"]), ("long", ["a" * 65])):
    bad("targets", "prefixes-" + name, D + ["roles", 1, "path_hash_prefixes"], value, "path_hash_prefixes")
for name, value in (("missing", DELETE), ("0", 0), ("33", 33), ("string", "4")):
    bad("targets", "bit-length-" + name, D + ["succinct_roles", "bit_length"], value, "bit_length", BINS)
for name, value in (("missing", DELETE), ("empty", ""), ("long", "n" * 230)):
    bad("targets", "name-prefix-" + name, D + ["succinct_roles", "name_prefix"], value, "name_prefix", BINS)
print(written)
