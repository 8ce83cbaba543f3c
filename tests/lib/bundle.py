#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Bundles read and written without modelfs, from modelfs-bundle(5) alone.

	bundle.py read  BUNDLE PUB.pem MODEL_KEY|- OUTDIR         every check of the page; plaintexts to OUTDIR
	bundle.py write BUNDLE KEY.pem MODEL_KEY|- JSON NAME=FILE...   JSON: fields of the manifest to set, beside
	                                                          cipher, chunk_size and content_key (hex)

MODEL_KEY is a file of 32 bytes. Exit 1 and one line when a bundle does not hold.
"""
import hashlib, hmac, json, os, re, struct, sys

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding, aes_key_wrap_with_padding

CIPHERS = {"AES-256-GCM": AESGCM, "ChaCha20-Poly1305": ChaCha20Poly1305}
MAX_INT = 2**53 - 1


class Bad(Exception):
    pass


def need(ok, what):
    if not ok:
        raise Bad(what)


# ---- canonical JSON ---------------------------------------------------------------------------------
def canonical(value):
    """The one form, written by hand: json.dumps is not asked."""
    if value is True or value is False:
        return b"true" if value else b"false"
    if value is None:
        return b"null"
    if isinstance(value, int):
        need(abs(value) <= MAX_INT, "integer of magnitude above 2^53-1")
        return b"%d" % value
    if isinstance(value, str):
        need(not re.search("[\x00-\x1f\x7f]", value), "control character in a string")
        return b'"' + value.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8") + b'"'
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    need(isinstance(value, dict), "a number that is no integer")
    need(all(k.isascii() for k in value), "a key that is not ASCII")
    return b"{" + b",".join(canonical(k) + b":" + canonical(value[k]) for k in sorted(value)) + b"}"


def levels(value):
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)
    return 0


def parse(raw):
    def once(pairs):
        need(len({k for k, _ in pairs}) == len(pairs), "a key twice")
        return dict(pairs)

    need(len(raw) <= 16 << 20, "manifest.json: above 16 MiB")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except ValueError as e:
        raise Bad("manifest.json: %s" % e)
    need(levels(value) <= 16, "manifest.json: more than 16 levels")
    need(canonical(value) == raw, "manifest.json: not the canonical form")
    return value


# ---- fields ---------------------------------------------------------------------------------------------
HEX64 = re.compile(r"[0-9a-f]{64}\Z")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
                    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?\Z", re.A)
KNOWN = {"format", "model_id", "variant", "version", "release", "build_time", "key_ids", "key_epoch", "compat",
         "preprocess", "quantization", "files", "encryption", "delta_bases", "health", "critical"}


def integer(v, low, high, what):
    need(type(v) is int and low <= v <= high, "%s: want an integer from %d to %d" % (what, low, high))


def check_name(name):
    need(isinstance(name, str) and 0 < len(name.encode()) <= 1024, "file name %r" % name)
    parts = name.split("/")
    need(len(parts) <= 16, "file name %r: components" % name)
    for p in parts:
        need(1 <= len(p.encode()) <= 255 and p not in (".", ".."), "file name %r" % name)
        need(not re.search("[\x00-\x1f\x7f-\x9f]", p), "file name %r: control character" % name)


def fold(name):
    return "".join(c.lower() if c.isascii() else c for c in name)


def check_manifest(m):
    need(isinstance(m, dict) and m.get("format") == "modelfs-manifest/1", "format")
    for f, n in (("model_id", 127), ("variant", 64)):
        need(isinstance(m.get(f), str) and ID.match(m[f]) and len(m[f]) <= n, f)
    need(isinstance(m.get("version"), str) and SEMVER.match(m["version"]) and len(m["version"]) <= 64, "version")
    integer(m.get("release"), 1, MAX_INT, "release")
    integer(m.get("build_time"), 0, 9223372035, "build_time")
    integer(m.get("key_epoch"), 1, MAX_INT, "key_epoch")
    ids = m.get("key_ids")
    need(isinstance(ids, list) and 1 <= len(ids) <= 8 and all(isinstance(i, str) and HEX64.match(i) for i in ids)
         and len(set(ids)) == len(ids), "key_ids")
    need(set(m.get("critical", [])) <= KNOWN, "critical")
    e = m.get("encryption")
    if e is not None:
        need(e["cipher"] in CIPHERS and HEX64.match(e["content_key_id"]), "encryption")
        need(1 <= len(e["wraps"]) <= 64 and len({w["model_key_id"] for w in e["wraps"]}) == len(e["wraps"]), "wraps")
        need(all(re.match(r"[0-9a-f]{80}\Z", w["wrapped"]) for w in e["wraps"]), "wrapped")
    files = m.get("files")
    need(isinstance(files, list) and 1 <= len(files) <= 65536, "files")
    seen, folders = set(), set()
    for f in files:
        check_name(f["name"])
        integer(f["size"], 0, 1 << 46, "size")
        integer(f["chunk_size"], 1 << 16, 1 << 20, "chunk_size")
        need(f["chunk_size"] & f["chunk_size"] - 1 == 0, "chunk_size")
        need(HEX64.match(f["sha256"]), "sha256")
        count = -(-f["size"] // f["chunk_size"])
        need(("chunks_sha256" in f) == (count > 1), "%s: chunks_sha256" % f["name"])
        need(("tag" in f) == (count == 1), "%s: tag" % f["name"])
        need(("salt" in f) == (e is not None), "%s: salt" % f["name"])
        need(f.get("salt") != "0" * 64, "salt")
        need(f.get("media", "other") in ("gguf", "onnx", "safetensors", "tflite", "text", "other"), "media")
        need(type(f.get("executable", False)) is bool, "executable")
        n = fold(f["name"])
        need(n not in seen, "%s: twice" % f["name"])
        seen.add(n)
        folders |= {n.rsplit("/", i)[0] for i in range(1, n.count("/") + 1)}
    need(not seen & folders, "a file that is also a folder")


# ---- keys -------------------------------------------------------------------------------------------------
def lp(b):
    return struct.pack(">H", len(b)) + b


def sha(b):
    return hashlib.sha256(b).digest()


def hkdf32(ikm, salt, info):
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()


def file_info(cipher, model_id, name, chunk_size):
    return lp(b"modelfs/1 file") + lp(cipher.encode()) + lp(model_id.encode()) + lp(name.encode()) + struct.pack(">I", chunk_size)


def file_salt(content, info, plain_sha):
    return hmac.new(hkdf32(content, bytes(32), b"modelfs/1 salt"), info + plain_sha, hashlib.sha256).digest()


def key_id(public):
    return sha(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hex()


# ---- read ---------------------------------------------------------------------------------------------------
def slurp(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def read(bundle, pub, mk_file, out):
    raw = slurp(bundle, "manifest.json")
    public = serialization.load_pem_public_key(slurp(pub))
    ids = json.loads(raw)["key_ids"]  # only to know which file to look at
    need(key_id(public) in ids, "key_ids: not by this key")
    name = "signature.sig" if ids[0] == key_id(public) else "signature.%s.sig" % key_id(public)
    sig = slurp(bundle, name)
    need(len(sig) <= 1024, "signature")
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(sig, raw)
    else:
        need(isinstance(public.curve, ec.SECP256R1), "curve")
        public.verify(sig, raw, ec.ECDSA(hashes.SHA256()))
    m = parse(raw)
    check_manifest(m)
    e = m.get("encryption")
    if e:
        mk = slurp(mk_file)
        wrap = [w for w in e["wraps"] if w["model_key_id"] == sha(b"modelfs model key" + mk).hex()]
        need(wrap, "no wrap for this model key")
        content = aes_key_unwrap_with_padding(mk, bytes.fromhex(wrap[0]["wrapped"]))
        need(sha(b"modelfs content key" + content).hex() == e["content_key_id"], "content_key_id")
    want = {"payload": set(), "chunks": set(), "index": set()}
    for f in m["files"]:
        want["payload"].add(f["name"])
        want["index"].add(f["name"])
        stored, size, cs = slurp(bundle, "payload", f["name"]), f["size"], f["chunk_size"]
        need(len(stored) == size and sha(stored).hex() == f["sha256"], "payload/%s" % f["name"])
        count = -(-size // cs)
        entries = []
        if count > 1:
            want["chunks"].add(f["name"])
            table = slurp(bundle, "chunks", f["name"])
            need(sha(table).hex() == f["chunks_sha256"], "chunks/%s" % f["name"])
            need(len(table) == 32 + 48 * count and table[:32] == struct.pack("<8sIIQQ", b"MFCHUNK1", cs, 0, size, count), "table")
            entries = [(table[i:i + 32], table[i + 32:i + 48]) for i in range(32, len(table), 48)]
        elif count == 1:
            entries = [(bytes.fromhex(f["sha256"]), bytes.fromhex(f["tag"]))]
        plain = []
        if e:
            info, salt = file_info(e["cipher"], m["model_id"], f["name"], cs), bytes.fromhex(f["salt"])
            aead = CIPHERS[e["cipher"]](hkdf32(content, salt, info))
        for i, (digest, tag) in enumerate(entries):
            chunk = stored[i * cs:(i + 1) * cs]
            need(sha(chunk) == digest, "%s: chunk %d" % (f["name"], i))
            if e:
                plain.append(aead.decrypt(i.to_bytes(12, "big"), chunk + tag, None))
            else:
                need(tag == bytes(16), "a tag without encryption")
                plain.append(chunk)
        plain = b"".join(plain)
        need(not e or file_salt(content, info, sha(plain)) == salt, "%s: salt" % f["name"])
        to = os.path.join(out, f["name"])
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with open(to, "wb") as o:
            o.write(plain)
    for kind, names in want.items():
        for d, subs, files in os.walk(os.path.join(bundle, kind)):
            need(not any(os.path.islink(os.path.join(d, x)) for x in subs + files), "a link")
            need(subs or files, "%s: an empty folder" % d)
            for x in files:
                n = os.path.relpath(os.path.join(d, x), os.path.join(bundle, kind))
                need(n in names, "%s/%s: surplus" % (kind, n))
    print(json.dumps({"manifest_sha256": sha(raw).hex(), "files": len(m["files"]), "version": m["version"]}))


# ---- write --------------------------------------------------------------------------------------------------
def write(bundle, key_file, mk_file, fields, files):
    key = serialization.load_pem_private_key(slurp(key_file), None)
    fields = json.loads(fields)
    cipher, cs = fields.pop("cipher", "AES-256-GCM"), fields.pop("chunk_size", 131072)
    content = bytes.fromhex(fields.pop("content_key", os.urandom(32).hex()))
    m = {"format": "modelfs-manifest/1", "model_id": "det", "variant": "default", "version": "1.0.0", "release": 1,
         "build_time": 1700000000, "key_ids": [key_id(key.public_key())], "key_epoch": 1}
    m.update(fields)
    mk = None if mk_file == "-" else slurp(mk_file)
    if mk:
        m["encryption"] = {"cipher": cipher, "content_key_id": sha(b"modelfs content key" + content).hex(), "wraps": [
            {"model_key_id": sha(b"modelfs model key" + mk).hex(), "wrapped": aes_key_wrap_with_padding(mk, content).hex()}]}

    def put(data, *path):
        to = os.path.join(bundle, *path)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with open(to, "xb") as f:
            f.write(data)

    m["files"] = []
    for arg in files:
        name, source = arg.split("=", 1)
        plain = slurp(source)
        f = {"name": name, "size": len(plain), "chunk_size": cs}
        if mk:
            info = file_info(cipher, m["model_id"], name, cs)
            salt = file_salt(content, info, sha(plain))
            f["salt"] = salt.hex()
            aead = CIPHERS[cipher](hkdf32(content, salt, info))
        stored, entries = [], []
        for i in range(-(-len(plain) // cs)):
            chunk, tag = plain[i * cs:(i + 1) * cs], bytes(16)
            if mk:
                both = aead.encrypt(i.to_bytes(12, "big"), chunk, None)
                chunk, tag = both[:-16], both[-16:]
            stored.append(chunk)
            entries.append(sha(chunk) + tag)
        stored = b"".join(stored)
        f["sha256"] = sha(stored).hex()
        put(stored, "payload", name)
        if len(entries) == 1:
            f["tag"] = entries[0][32:].hex()
        elif entries:
            table = struct.pack("<8sIIQQ", b"MFCHUNK1", cs, 0, len(plain), len(entries)) + b"".join(entries)
            f["chunks_sha256"] = sha(table).hex()
            put(table, "chunks", name)
        m["files"].append(f)
    raw = canonical(m)
    put(raw, "manifest.json")
    put(key.sign(raw) if isinstance(key, ed25519.Ed25519PrivateKey) else key.sign(raw, ec.ECDSA(hashes.SHA256())), "signature.sig")


if __name__ == "__main__":
    try:
        if sys.argv[1] == "read":
            read(*sys.argv[2:6])
        else:
            write(*sys.argv[2:6], sys.argv[6:])
    except (Bad, InvalidSignature, InvalidTag, OSError) as e:
        sys.exit("bundle.py: %s %s" % (type(e).__name__, e))
