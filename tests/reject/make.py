#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Writes the reject corpus of manifests: malformed/<name>.json, each with one thing wrong, and
malformed/<name>.says, a part of the message. ok/ holds what they were made from.
"""
import copy, hashlib, json, os

HERE = os.path.dirname(os.path.abspath(__file__))
ONE, TWO = "1" * 64, "2" * 64
EMPTY = hashlib.sha256(b"").hexdigest()


def canonical(v):
    return json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def small(name, **more):
    return dict({"name": name, "size": 5, "sha256": ONE, "chunk_size": 65536, "tag": "0" * 32, "media": "onnx",
                 "executable": False}, **more)


def large(name, **more):
    return dict({"name": name, "size": 131073, "sha256": ONE, "chunk_size": 65536, "chunks_sha256": TWO}, **more)


PLAIN = {"format": "modelfs-manifest/1", "model_id": "det", "variant": "default", "version": "1.0.0", "release": 1,
         "build_time": 1700000000, "key_epoch": 1, "key_ids": [ONE],
         "compat": {"platforms": ["linux/amd64"], "labels": {"site": ["x"]}, "memory": 1, "page_size": 4096,
                    "apps": [{"name": "a", "min": "1.0.0", "max": "2.0.0"}], "runtimes": [{"name": "r"}],
                    "depends": [{"model_id": "tok", "min_release": 1, "max_release": 2}],
                    "input_schema_sha256": ONE},
         "files": [small("model.onnx"), large("data/weights.bin"),
                   {"name": "empty", "size": 0, "sha256": EMPTY, "chunk_size": 65536}]}
CRYPT = copy.deepcopy(PLAIN)
CRYPT["encryption"] = {"cipher": "AES-256-GCM", "content_key_id": ONE,
                       "wraps": [{"model_key_id": ONE, "wrapped": "3" * 80}, {"model_key_id": TWO, "wrapped": "3" * 80}]}
for f in CRYPT["files"]:
    f["salt"] = TWO
CRYPT["files"][0]["tag"] = "4" * 32

written = set()


def write(code, name, data, says=None):
    folder = os.path.join(HERE, code)
    os.makedirs(folder, exist_ok=True)
    assert (code, name) not in written, name
    written.add((code, name))
    open(os.path.join(folder, name + ".json"), "wb").write(data)
    if says is not None:
        open(os.path.join(folder, name + ".says"), "w").write(says)


DELETE = object()


def bad(name, path, value, says, base=PLAIN):
    """One field, by its path, replaced, added or deleted."""
    m = copy.deepcopy(base)
    o = m
    for step in path[:-1]:
        o = o[step]
    if value is DELETE:
        del o[path[-1]]
    elif isinstance(o, list) and path[-1] == len(o):
        o.append(value)
    else:
        o[path[-1]] = value
    write("malformed", name, canonical(m), says)


def raw(name, data, says):
    write("malformed", name, data, says)


write("ok", "plain", canonical(PLAIN))
write("ok", "encrypted", canonical(CRYPT))
write("ok", "unknown-field", canonical(dict(PLAIN, later={"x": [1]})))
write("ok", "critical-known", canonical(dict(PLAIN, critical=["files", "compat"])))
write("ok", "no-compat", canonical({k: v for k, v in PLAIN.items() if k != "compat"}))

base = canonical(PLAIN)
raw("empty", b"", "offset 0")
raw("not-json", b"\x7fELF", "offset 0")
raw("array", b"[" + base + b"]", "not a JSON object")
raw("duplicate-key", base[:-1] + b',"version":"1.0.0"}', "duplicate")
raw("duplicate-key-nested", base.replace(b'"size":5', b'"size":5,"size":5', 1), "duplicate")
raw("final-newline", base + b"\n", "not canonical")
raw("trailing-bytes", base + b"{}", "not JSON")
raw("white-space", base.replace(b":", b": ", 1), "not canonical")
raw("unsorted", b'{"format":"modelfs-manifest/1",' + base[1:].replace(b'"format":"modelfs-manifest/1",', b""), "not canonical")
raw("escaped-letter", base.replace(b'"det"', b'"d\\u0065t"'), "not canonical")
raw("byte-order-mark", b"\xef\xbb\xbf" + base, "not JSON")
raw("float", base.replace(b'"release":1', b'"release":1.0'), "not an integer")
raw("exponent", base.replace(b'"release":1', b'"release":1e0'), "not an integer")
raw("huge-number", base.replace(b'"release":1', b'"release":9007199254740992'), "2^53-1")
raw("enormous-number", base.replace(b'"release":1', b'"release":1' + b"0" * 400), "2^53-1")
raw("minus-zero", base.replace(b'"size":0', b'"size":-0'), "not canonical")
raw("deep-nesting", base[:-1] + b',"zz":' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 16")
raw("very-deep-nesting", b'{"a":' + b"[" * 100000, "deeper than 16")
raw("bad-utf8", base.replace(b"model.onnx", b"model\xff.onnx"), "not JSON")
raw("overlong-utf8", base.replace(b"model.onnx", b"..\xc0\xafx"), "not JSON")
raw("surrogate-utf8", base.replace(b"model.onnx", b"m\xed\xa0\x80"), "not JSON")
raw("nul-escaped", base.replace(b"model.onnx", b"model\\u0000.onnx"), "control character")
raw("nul-raw", base.replace(b"model.onnx", b"model\x00.onnx"), "control character")
raw("newline-in-name", base.replace(b"model.onnx", b"model\\n.onnx"), "control character")
raw("delete-in-name", base.replace(b"model.onnx", b"model\x7f.onnx"), "control character")
raw("key-not-ascii", base[:-1] + b',"\xc3\xa4":1}', "not ASCII")
raw("truncated", base[:-1], "not JSON")

for key in ("format", "model_id", "variant", "version", "release", "build_time", "key_epoch", "key_ids", "files"):
    bad("missing-" + key, [key], DELETE, key + ": missing")
    bad("null-" + key, [key], None, key + ": not")
for key in ("name", "size", "sha256", "chunk_size", "tag"):
    bad("missing-file-" + key, ["files", 0, key], DELETE, "files[0].%s: missing" % key)
    bad("wrong-type-file-" + key, ["files", 0, key], True, "files[0].%s: not" % key)
bad("missing-chunks_sha256", ["files", 1, "chunks_sha256"], DELETE, "files[1].chunks_sha256: missing")

bad("format-2", ["format"], "modelfs-manifest/2", "format: 'modelfs-manifest/2'")
bad("model_id-traversal", ["model_id"], "../det", "model_id")
bad("model_id-empty", ["model_id"], "", "model_id: 0 bytes")
bad("model_id-long", ["model_id"], "a" * 128, "model_id: 128 bytes")
bad("variant-slash", ["variant"], "a/b", "variant")
bad("version-traversal", ["version"], "..", "version")
bad("version-two-parts", ["version"], "1.0", "semantic version")
bad("version-build", ["version"], "1.0.0+x", "semantic version")
bad("version-leading-zero", ["version"], "01.0.0", "semantic version")
bad("release-0", ["release"], 0, "release: 0 is not within 1")
bad("release-negative", ["release"], -1, "release")
bad("release-string", ["release"], "1", "release: not an integer")
bad("key_epoch-0", ["key_epoch"], 0, "key_epoch")
bad("build_time-negative", ["build_time"], -1, "build_time")
bad("build_time-far", ["build_time"], 253402300800, "build_time")
bad("key_ids-none", ["key_ids"], [], "key_ids: 0 entries")
bad("key_ids-nine", ["key_ids"], ["%064x" % i for i in range(9)], "key_ids: 9 entries")
bad("key_ids-twice", ["key_ids"], [ONE, ONE], "key_ids[1]: the same as key_ids[0]")
bad("key_ids-upper-case", ["key_ids"], ["A" * 64], "key_ids[0]: not 64 lower-case")
bad("key_ids-short", ["key_ids"], ["1" * 63], "key_ids[0]")
bad("critical-unknown", ["critical"], ["files", "telepathy"], "critical[1]: the publisher demands a reader that knows 'telepathy'")
bad("critical-absent-field", ["critical"], ["nowhere"], "nowhere")
bad("critical-type", ["critical"], "files", "critical: not an array")
bad("critical-item-type", ["critical"], [1], "critical[0]: not a string")
bad("files-none", ["files"], [], "files: 0 entries; 1 to 65536 are")
bad("files-item-type", ["files", 0], "model.onnx", "files[0]: not an object")
for i, name in enumerate(("/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".", "", "\u0085", "a" * 256,
                          "/".join("1234567890abcdefg"), "a/" * 600 + "a")):
    bad("name-%02d" % i, ["files", 0, "name"], name, "files[0].name")
bad("name-twice", ["files", 0, "name"], "empty", "used twice")
bad("name-case-collision", ["files", 0, "name"], "EMPTY", "where case is ignored")
bad("name-case-collision-in-folder", ["files", 0, "name"], "Data/Weights.BIN", "where case is ignored")
bad("file-as-folder", ["files", 0, "name"], "data", "also a folder")
bad("file-as-folder-by-case", ["files", 0, "name"], "DATA", "also a folder")
m = copy.deepcopy(PLAIN)
m["files"] = [small("a"), small("a-b"), small("a.b"), small("a/b"), small("a0")]
write("malformed", "file-as-folder-not-adjacent", canonical(m), "also a folder")
bad("chunk_size-100000", ["files", 0, "chunk_size"], 100000, "files[0].chunk_size: 100000 is not a power of two from 65536 to 1048576")
bad("chunk_size-small", ["files", 0, "chunk_size"], 32768, "chunk_size: 32768 is not a power of two")
bad("chunk_size-large", ["files", 0, "chunk_size"], 2097152, "chunk_size: 2097152 is not a power of two")
bad("chunk_size-0", ["files", 0, "chunk_size"], 0, "chunk_size: 0 is not a power of two")
bad("chunk_size-2-32", ["files", 0, "chunk_size"], 4294967296 + 65536, "chunk_size: 4295032832 is not")
bad("size-negative", ["files", 0, "size"], -1, "files[0].size")
bad("size-huge", ["files", 1, "size"], (1 << 46) + 1, "files[1].size")
bad("sha256-short", ["files", 0, "sha256"], "1" * 62, "files[0].sha256")
bad("sha256-upper-case", ["files", 0, "sha256"], "A" * 64, "files[0].sha256")
bad("surplus-tag-many-chunks", ["files", 1, "tag"], "0" * 32, "files[1].tag: surplus")
bad("surplus-tag-empty-file", ["files", 2, "tag"], "0" * 32, "files[2].tag: surplus")
bad("surplus-table-one-chunk", ["files", 0, "chunks_sha256"], ONE, "files[0].chunks_sha256: surplus")
bad("surplus-table-empty-file", ["files", 2, "chunks_sha256"], ONE, "files[2].chunks_sha256: surplus")
bad("tag-short", ["files", 0, "tag"], "0" * 30, "files[0].tag")
bad("tag-not-zero-when-plain", ["files", 0, "tag"], "0" * 31 + "1", "files[0].tag: not zero")
bad("surplus-salt-when-plain", ["files", 0, "salt"], ONE, "files[0].salt: surplus")
bad("missing-salt", ["files", 1, "salt"], DELETE, "files[1].salt: missing", CRYPT)
bad("missing-salt-empty-file", ["files", 2, "salt"], DELETE, "files[2].salt: missing", CRYPT)
bad("zero-salt", ["files", 0, "salt"], "0" * 64, "files[0].salt: all zero", CRYPT)
bad("empty-file-with-a-hash", ["files", 2, "sha256"], ONE, "files[2].sha256: not that of an empty file")
bad("media-unknown", ["files", 0, "media"], "exe", "files[0].media: 'exe'")
bad("media-type", ["files", 0, "media"], 1, "files[0].media: not a string")
bad("executable-type", ["files", 0, "executable"], 1, "files[0].executable: not true or false")

bad("encryption-type", ["encryption"], [], "encryption: not an object", CRYPT)
bad("encryption-null", ["encryption"], None, "encryption: not an object", PLAIN)
bad("cipher-unknown", ["encryption", "cipher"], "AES-128-ECB", "encryption.cipher: 'AES-128-ECB'", CRYPT)
bad("cipher-case", ["encryption", "cipher"], "aes-256-gcm", "encryption.cipher", CRYPT)
bad("cipher-missing", ["encryption", "cipher"], DELETE, "encryption.cipher: missing", CRYPT)
bad("content_key_id-missing", ["encryption", "content_key_id"], DELETE, "encryption.content_key_id: missing", CRYPT)
bad("wraps-none", ["encryption", "wraps"], [], "encryption.wraps: 0 entries", CRYPT)
bad("wraps-65", ["encryption", "wraps"], [{"model_key_id": "%064x" % i, "wrapped": "3" * 80} for i in range(65)],
    "encryption.wraps: 65 entries", CRYPT)
bad("wraps-twice", ["encryption", "wraps", 1, "model_key_id"], ONE, "encryption.wraps[1].model_key_id: the same", CRYPT)
bad("wraps-short", ["encryption", "wraps", 0, "wrapped"], "3" * 78, "encryption.wraps[0].wrapped", CRYPT)
bad("wraps-item-type", ["encryption", "wraps", 0], 1, "encryption.wraps[0]: not an object", CRYPT)

bad("compat-type", ["compat"], [], "compat: not an object")
bad("platforms-none", ["compat", "platforms"], [], "compat.platforms: 0 entries")
bad("platforms-type", ["compat", "platforms"], "linux/amd64", "compat.platforms: not an array")
bad("platforms-form", ["compat", "platforms", 0], "amd64", "compat.platforms[0]")
bad("platforms-twice", ["compat", "platforms"], ["linux/arm", "linux/arm"], "compat.platforms[1]: the same")
bad("labels-type", ["compat", "labels"], ["x"], "compat.labels: not an object")
bad("labels-value-type", ["compat", "labels", "site"], "x", "compat.labels.site: not an array")
bad("labels-no-value", ["compat", "labels", "site"], [], "compat.labels.site: 0 entries")
bad("memory-0", ["compat", "memory"], 0, "compat.memory")
bad("page_size-form", ["compat", "page_size"], 5000, "compat.page_size: not a power of two")
bad("apps-no-name", ["compat", "apps", 0, "name"], DELETE, "compat.apps[0].name: missing")
bad("apps-version", ["compat", "apps", 0, "min"], "1", "compat.apps[0].min")
bad("apps-min-above-max", ["compat", "apps", 0, "min"], "2.0.1", "compat.apps[0].min: 2.0.1 is above max 2.0.0")
bad("runtimes-item-type", ["compat", "runtimes", 0], "r", "compat.runtimes[0]: not an object")
bad("depends-itself", ["compat", "depends", 0, "model_id"], "det", "compat.depends[0].model_id")
bad("depends-min-above-max", ["compat", "depends", 0, "min_release"], 3, "compat.depends[0].min_release: above")
bad("schema-form", ["compat", "input_schema_sha256"], "x", "compat.input_schema_sha256")
bad("delta_bases-form", ["delta_bases"], ["x"], "delta_bases[0]")
bad("delta_bases-type", ["delta_bases"], {}, "delta_bases: not an array")
bad("health-type", ["health"], "check.sh", "health: not an object")
