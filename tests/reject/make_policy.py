#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Writes the reject corpora of policy.json and trust.json: policy/<code>/<name>.json and
trust/<code>/<name>.json, each with one thing wrong, and <name>.says, a part of the message.
policy/ok and trust/ok hold what they were made from.
"""
import copy, hashlib, json, os

HERE = os.path.dirname(os.path.abspath(__file__))
A, B, C = "a" * 64, "b" * 64, "c" * 64


def canonical(v):
    return json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def entry(sha, version, release, variant="default", **more):
    return dict({"manifest_sha256": sha, "version": version, "variant": variant, "release": release}, **more)


POLICY = {"format": "modelfs-policy/1", "model_id": "det", "sequence": 7, "issued": 1790000000, "min_release": 2,
          "min_key_epoch": 1, "enforce": "keep",
          "revoked": [{"manifest_sha256": C, "reason": "drifts", "action": "stop"},
                      {"version": "1.0.1", "reason": "leaks", "action": "rollback", "otherwise": "withdraw",
                       "rollback_to": entry(A, "1.0.0", 2)},
                      {"version": "1.0.2", "reason": "leaks", "action": "withdraw"}],
          "rollouts": [{"id": "r2", "salt": "s", "match": {"class": ["x", "y"], "app.vision": [">=3.0.0"]}, "confirmed": 1,
                        "variants": [entry(B, "1.2.0", 4, "gpu", match={"accel": ["gpu"]}), entry(A, "1.2.0", 4, match={})],
                        "steps": [{"fraction": 100, "after": 1790000000}, {"fraction": 100, "after": 1790000000, "confirm": False},
                                  {"fraction": 10000, "after": 1790086400, "confirm": True}]},
                       {"id": "r1", "salt": "t", "match": {}, "confirmed": 0, "variants": [entry(A, "1.0.0", 2, match={})],
                        "steps": [{"fraction": 10000, "after": 0, "confirm": False}]}]}
ED25519 = "302a300506032b6570032100" + "38de21bb3af3b9aece265196fd452eeea9cb96cbe461ed40624b54c3f97dd483"
P256 = ("3059301306072a8648ce3d020106082a8648ce3d03010703420004"
        "3785e6cf21f4f6a9d9bdb666385c039284721f5a428607ce2005c08512516699"
        "082199372739d14005dc0cc81f498ff2ed66db55789d29fd14e65a635fbf7d4e")


def key(der, epoch=1, models=("*",)):
    return {"key_id": hashlib.sha256(bytes.fromhex(der)).hexdigest(), "public_key": der, "epoch": epoch, "models": list(models)}


TRUST = [key(ED25519), key(P256, 2, ("det", "seg"))]
written = set()


def write(kind, code, name, data, says=None):
    folder = os.path.join(HERE, kind, code)
    os.makedirs(folder, exist_ok=True)
    assert (kind, code, name) not in written, name
    written.add((kind, code, name))
    open(os.path.join(folder, name + ".json"), "wb").write(data)
    if says is not None:
        open(os.path.join(folder, name + ".says"), "w").write(says)


DELETE = object()


def bad(kind, name, path, value, says, code="malformed"):
    """One field, by its path, replaced, added or deleted."""
    m = copy.deepcopy(POLICY if kind == "policy" else TRUST)
    o = m
    for step in path[:-1]:
        o = o[step]
    if value is DELETE:
        del o[path[-1]]
    elif isinstance(o, list) and path[-1] == len(o):
        o.append(value)
    else:
        o[path[-1]] = value
    write(kind, code, name, canonical(m), says)


def policy(name, path, value, says, **more):
    bad("policy", name, path, value, says, **more)


def trust(name, path, value, says, **more):
    bad("trust", name, path, value, says, **more)


def place(path):
    out = ""
    for p in path:
        out += "[%d]" % p if isinstance(p, int) else ("." if out else "") + p
    return out


write("policy", "ok", "full", canonical(POLICY))
write("policy", "ok", "smallest", canonical(dict(POLICY, revoked=[], rollouts=[])))
write("policy", "ok", "unknown-field", canonical(dict(POLICY, later={"x": [1]})))
write("policy", "ok", "critical-known", canonical(dict(POLICY, critical=["rollouts", "revoked"])))
write("trust", "ok", "full", canonical(TRUST))
write("trust", "ok", "none", b"[]")
write("trust", "ok", "unknown-field", canonical([dict(TRUST[0], later=1)]))

base = canonical(POLICY)
for name, data, says in (
        ("empty", b"", "offset 0"), ("array", b"[" + base + b"]", "not a JSON object"), ("final-newline", base + b"\n", "not canonical"),
        ("truncated", base[:-1], "not JSON"), ("duplicate-key", base[:-1] + b',"sequence":8}', "duplicate"),
        ("duplicate-key-nested", base.replace(b'"salt":"s"', b'"salt":"s","salt":"s"'), "duplicate"),
        ("white-space", base.replace(b":", b": ", 1), "not canonical"),
        ("float", base.replace(b'"sequence":7', b'"sequence":7.0'), "not an integer"),
        ("huge-number", base.replace(b'"sequence":7', b'"sequence":9007199254740992'), "2^53-1"),
        ("bad-utf8", base.replace(b"drifts", b"dri\xffs"), "not JSON"),
        ("control-character", base.replace(b"drifts", b"dri\\u001bs"), "control character"),
        ("key-not-ascii", base.replace(b'"accel"', '"\u00e4"'.encode()), "not ASCII"),
        ("deep-nesting", base[:-1] + b',"zz":' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 16")):
    write("policy", "malformed", name, data, says)
for k in ("format", "model_id", "sequence", "issued", "min_release", "min_key_epoch", "enforce", "revoked", "rollouts"):
    policy("missing-" + k, [k], DELETE, k + ": missing")
    policy("null-" + k, [k], None, k + ": not")
V, S, R = ["rollouts", 0, "variants", 0], ["rollouts", 0, "steps", 2], ["rollouts", 0]
for at, keys in ((R, ("id", "salt", "match", "confirmed", "variants", "steps")),
                 (V, ("manifest_sha256", "version", "variant", "release", "match")), (S, ("fraction", "after")),
                 (["revoked", 0], ("reason", "action")), (["revoked", 1], ("otherwise",)),
                 (["revoked", 1, "rollback_to"], ("manifest_sha256", "version", "variant", "release"))):
    for k in keys:
        name = "-".join(str(x) for x in at + [k])
        policy("missing-" + name, at + [k], DELETE, place(at + [k]) + ": missing")
        policy("wrong-type-" + name, at + [k], True, place(at + [k]) + ": not")

policy("format-2", ["format"], "modelfs-policy/2", "format: 'modelfs-policy/2'")
policy("model_id-traversal", ["model_id"], "../det", "model_id")
policy("model_id-other", ["model_id"], "seg", "model_id: 'seg', but 'det'")
policy("sequence-0", ["sequence"], 0, "sequence: 0 is not within 1")
policy("sequence-negative", ["sequence"], -1, "sequence")
policy("issued-far", ["issued"], 253402300800, "issued")
policy("issued-negative", ["issued"], -1, "issued")
policy("min_release-negative", ["min_release"], -1, "min_release")
policy("min_key_epoch-string", ["min_key_epoch"], "1", "min_key_epoch: not an integer")
policy("enforce-unknown", ["enforce"], "delete", "enforce: 'delete'")
policy("critical-unknown", ["critical"], ["rollouts", "windows"], "critical[1]: the publisher demands a reader that knows 'windows'")
policy("critical-type", ["critical"], "rollouts", "critical: not an array")
policy("critical-item-type", ["critical"], [1], "critical[0]: not a string")

policy("revoked-both", ["revoked", 0, "version"], "1.0.0", "revoked[0]: names both")
policy("revoked-neither", ["revoked", 0, "manifest_sha256"], DELETE, "revoked[0]: names neither")
policy("revoked-zero", ["revoked", 0, "manifest_sha256"], "0" * 64, "all zero")
policy("revoked-upper-case", ["revoked", 0, "manifest_sha256"], "C" * 64, "revoked[0].manifest_sha256: not 64 lower-case")
policy("revoked-version", ["revoked", 1, "version"], "1.0", "semantic version")
policy("revoked-range", ["revoked", 1, "version"], "1.0.0-", "semantic version")
policy("revoked-no-object", ["revoked", 0], C, "revoked[0]: not an object")
policy("revoked-twice", ["revoked", 3], {"version": "1.0.1", "reason": "x", "action": "stop"}, "revoked[3]: names the same as revoked[1]")
policy("reason-empty", ["revoked", 0, "reason"], "", "reason: 0 bytes")
policy("reason-long", ["revoked", 0, "reason"], "x" * 256, "reason: 256 bytes")
policy("action-unknown", ["revoked", 0, "action"], "delete", "action: 'delete'")
policy("action-none", ["revoked", 0, "action"], "none", "action: 'none'")
policy("action-case", ["revoked", 0, "action"], "Stop", "action: 'Stop'")
policy("otherwise-surplus", ["revoked", 0, "otherwise"], "keep", "otherwise: surplus")
policy("otherwise-unknown", ["revoked", 1, "otherwise"], "stop", "otherwise: 'stop'")
policy("rollback_to-surplus", ["revoked", 2, "rollback_to"], entry(A, "1.0.0", 2), "rollback_to: surplus")
policy("rollback_to-itself", ["revoked", 1, "rollback_to"], entry(A, "1.0.1", 2), "the very version that is revoked")
policy("rollback_to-string", ["revoked", 1, "rollback_to"], A, "rollback_to: not an object")

policy("rollout-no-object", ["rollouts", 0], "r2", "rollouts[0]: not an object")
policy("rollout-id-twice", ["rollouts", 1, "id"], "r2", "rollouts[1].id: the same as in rollouts[0]")
policy("rollout-id-slash", ["rollouts", 0, "id"], "a/b", "id: 'a/b'")
policy("salt-empty", ["rollouts", 0, "salt"], "", "salt: 0 bytes")
policy("salt-long", ["rollouts", 0, "salt"], "x" * 256, "salt: 256 bytes")
policy("match-no-list", ["rollouts", 0, "match", "class"], "x", "match.class: not an array")
policy("match-no-values", ["rollouts", 0, "match", "class"], [], "match.class: 0 entries")
policy("match-integer", ["rollouts", 0, "match", "class", 0], 1, "match.class[0]: not a string")
policy("match-empty-value", ["rollouts", 0, "match", "class", 0], "", "match.class[0]")
policy("match-long-value", ["rollouts", 0, "match", "class", 0], "x" * 256, "match.class[0]")
policy("match-empty-key", ["rollouts", 0, "match", ""], ["x"], "a key has 1 to")
policy("match-long-key", ["rollouts", 0, "match", "k" * 256], ["x"], "a key has 1 to")
policy("match-many-keys", ["rollouts", 0, "match"], {"k%d" % i: ["x"] for i in range(65)}, "65 keys, limit 64")
policy("variants-none", ["rollouts", 0, "variants"], [], "variants: 0 entries")
policy("variants-many", ["rollouts", 0, "variants"], [entry(A, "1.2.0", 4, match={})] * 65, "variants: 65 entries")
policy("variant-slash", V + ["variant"], "a/b", "variant: 'a/b'")
policy("variant-version-build", V + ["version"], "1.0.0+x", "semantic version")
policy("variant-release-0", V + ["release"], 0, "release: 0 is not within 1")
policy("variant-manifest-zero", V + ["manifest_sha256"], "0" * 64, "all zero")
policy("variant-match-type", V + ["match", "accel"], {"gpu": 1}, "match.accel: not an array")
policy("steps-none", ["rollouts", 0, "steps"], [], "steps: 0 entries")
policy("steps-many", ["rollouts", 0, "steps"], [{"fraction": 1, "after": 0}] * 65, "steps: 65 entries")
policy("fraction-10001", S + ["fraction"], 10001, "fraction: 10001 is not within 0")
policy("fraction-negative", S + ["fraction"], -1, "fraction")
policy("fraction-falls", S + ["fraction"], 99, "fraction: below that of the step before it")
policy("after-falls", S + ["after"], 1789999999, "after: earlier than that of the step before it")
policy("after-far", S + ["after"], 9223372036, "after")
policy("confirm-type", S + ["confirm"], 1, "confirm: not true or false")
policy("confirmed-beyond", ["rollouts", 0, "confirmed"], 4, "confirmed: 4 is not within 0 to 3")
policy("confirmed-negative", ["rollouts", 0, "confirmed"], -1, "confirmed")
policy("rollouts-257", ["rollouts"], [dict(POLICY["rollouts"][1], id="r%d" % i) for i in range(257)], "257 entries, limit 256",
       code="limit_exceeded")
policy("revoked-4097", ["revoked"], [{"manifest_sha256": "%064x" % (i + 1), "reason": "r", "action": "stop"} for i in range(4097)],
       "4097 entries, limit 4096", code="limit_exceeded")

tbase = canonical(TRUST)
for name, data, says in (
        ("empty", b"", "offset 0"), ("object", b'{"keys":' + tbase + b"}", "not a JSON array"), ("final-newline", tbase + b"\n", "not canonical"),
        ("truncated", tbase[:-1], "not JSON"), ("duplicate-key", tbase.replace(b'"epoch":1', b'"epoch":1,"epoch":1'), "duplicate"),
        ("string", b'"x"', "JSON")):
    write("trust", "malformed", name, data, says)
for k in ("key_id", "public_key", "epoch", "models"):
    trust("missing-" + k, [0, k], DELETE, "[0].%s: missing" % k)
    trust("wrong-type-" + k, [0, k], True, "[0].%s: not" % k)
trust("no-object", [0], "key", "[0]: not an object")
trust("epoch-0", [0, "epoch"], 0, "[0].epoch: 0 is not within 1")
trust("key_id-of-another", [0, "key_id"], A, "[0].key_id: not the SHA-256 of public_key")
trust("key-twice", [2], key(ED25519, 3), "[2].key_id: the same as in [0]")
trust("public_key-upper-case", [0, "public_key"], ED25519.upper(), "[0].public_key")
trust("public_key-odd", [0, "public_key"], ED25519[:-1], "[0].public_key")
trust("public_key-short", [0], key(ED25519[:-2]), "[0].public_key: not the DER")
trust("public_key-rsa", [0], key("30819f300d06092a864886f70d0101010500"), "[0].public_key: not the DER")
trust("public_key-off-the-curve", [1], key(P256[:-2] + "4f"), "[1].public_key: not the DER")
trust("public_key-compressed", [1], key("3039301306072a8648ce3d020106082a8648ce3d030107032200023785e6cf21f4f6a9d9bdb666385c039284721f5a"
                                        "428607ce2005c08512516699"), "[1].public_key: not the DER")
trust("public_key-long", [1, "public_key"], P256 + "00", "[1].public_key: 184 bytes")
trust("models-none", [0, "models"], [], "[0].models: 0 entries")
trust("models-star-and-more", [0, "models"], ["*", "det"], "[0].models[0]: '*'")
trust("models-traversal", [1, "models", 1], "../x", "[1].models[1]: '../x'")
trust("models-integer", [1, "models", 0], 1, "[1].models[0]")
write("trust", "limit_exceeded", "65-keys", canonical([key(ED25519)] * 65), "65 keys, limit 64")
