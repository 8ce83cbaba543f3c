#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Test vectors of the verifier, made without it and without the library calls it uses.

HKDF, HMAC, AES-KWP, GHASH, ChaCha20-Poly1305 and XXH3 are written out here (only the AES block
comes from a library), checked against the RFCs' own vectors before anything is written, and the
signatures are made by the openssl command. Writes vectors.h beside itself. New keys each time.
"""
import hashlib, hmac, json, os, struct, subprocess, tempfile
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = os.path.dirname(os.path.abspath(__file__))
out = []


def H(s):
    return bytes.fromhex(s.replace(" ", "").replace("\n", ""))


def aes_block(key, block, decrypt=False):
    c = Cipher(algorithms.AES(key), modes.ECB())
    e = c.decryptor() if decrypt else c.encryptor()
    return e.update(block) + e.finalize()


# ---- HKDF-SHA256 (RFC 5869) -----------------------------------------------------------------
def hkdf(ikm, salt, info, n):
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    t, okm, i = b"", b"", 1
    while len(okm) < n:
        t = hmac.new(prk, t + info + bytes([i]), hashlib.sha256).digest()
        okm, i = okm + t, i + 1
    return okm[:n]


RFC5869 = [
    (b"\x0b" * 22, H("000102030405060708090a0b0c"), H("f0f1f2f3f4f5f6f7f8f9"), H(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")),
    (bytes(range(0x00, 0x50)), bytes(range(0x60, 0xb0)), bytes(range(0xb0, 0x100)), H(
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87")),
    (b"\x0b" * 22, b"", b"", H(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")),
]
for ikm, salt, info, okm in RFC5869:
    assert hkdf(ikm, salt, info, len(okm)) == okm


# ---- AES-KWP (RFC 5649) ------------------------------------------------------------------------
def kwp(kek, key):
    aiv = H("a65959a6") + struct.pack(">I", len(key))
    p = key + bytes(-len(key) % 8)
    if len(p) == 8:
        return aes_block(kek, aiv + p)
    a, r = aiv, [p[i:i + 8] for i in range(0, len(p), 8)]
    for j in range(6):
        for i in range(len(r)):
            b = aes_block(kek, a + r[i])
            a = (int.from_bytes(b[:8], "big") ^ (len(r) * j + i + 1)).to_bytes(8, "big")
            r[i] = b[8:]
    return a + b"".join(r)


KEK5649 = H("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
assert kwp(KEK5649, H("c37b7e6492584340bed12207808941155068f738")) == H(
    "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a")
assert kwp(KEK5649, H("466f7250617369")) == H("afbeb0f07dfbf5419200f2ccb50bb24f")


# ---- AES-GCM (SP 800-38D) -------------------------------------------------------------------------
def gmul(x, y):
    z, v = 0, x
    for i in range(127, -1, -1):
        if y >> i & 1:
            z ^= v
        v = v >> 1 ^ (0xe1 << 120 if v & 1 else 0)
    return z


def gcm(key, nonce, plain):
    h = int.from_bytes(aes_block(key, bytes(16)), "big")
    ctr = lambda i: aes_block(key, nonce + struct.pack(">I", i))
    c = b"".join(bytes(a ^ b for a, b in zip(plain[i:i + 16], ctr(2 + i // 16))) for i in range(0, len(plain), 16))
    y = 0
    for i in range(0, len(c), 16):
        y = gmul(y ^ int.from_bytes(c[i:i + 16].ljust(16, b"\0"), "big"), h)
    y = gmul(y ^ (len(c) * 8), h)
    return c, bytes(a ^ b for a, b in zip(y.to_bytes(16, "big"), ctr(1)))


# test case 14 of the GCM specification: also chunk 0 under the zero key
assert gcm(bytes(32), bytes(12), bytes(16)) == (H("cea7403d4d606b6e074ec5d3baf39d18"),
                                               H("d0d1c8a799996bf0265b98b5d48ab919"))


# ---- ChaCha20-Poly1305 (RFC 8439) --------------------------------------------------------------------
def chacha_block(key, counter, nonce):
    def quarter(s, a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xffffffff
            v = s[z] ^ s[x]
            s[z] = (v << n | v >> 32 - n) & 0xffffffff

    start = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    s = start[:]
    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(s, *q)
    return struct.pack("<16I", *((a + b) & 0xffffffff for a, b in zip(s, start)))


def chacha(key, nonce, plain, aad=b""):
    c = b"".join(bytes(a ^ b for a, b in zip(plain[i:i + 64], chacha_block(key, 1 + i // 64, nonce)))
                 for i in range(0, len(plain), 64))
    otk = chacha_block(key, 0, nonce)[:32]
    r = int.from_bytes(otk[:16], "little") & 0x0ffffffc0ffffffc0ffffffc0fffffff
    s, acc = int.from_bytes(otk[16:], "little"), 0
    pad = lambda b: b + bytes(-len(b) % 16)
    msg = pad(aad) + pad(c) + struct.pack("<QQ", len(aad), len(c))
    for i in range(0, len(msg), 16):
        acc = (acc + int.from_bytes(msg[i:i + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return c, ((acc + s) & (1 << 128) - 1).to_bytes(16, "little")


assert chacha(bytes(range(0x80, 0xa0)), H("070000004041424344454647"),
              b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
              b"sunscreen would be it.", H("50515253c0c1c2c3c4c5c6c7"))[1] == H("1ae10b594f09e26a7e902ecbd0600691")

# ---- XXH3-128 of 33 to 64 bytes ------------------------------------------------------------------------
SECRET = H("b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
           "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c")
M64 = (1 << 64) - 1


def xxh3_128(d):
    assert 33 <= len(d) <= 64
    p1, p2, p4 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x85EBCA77C2B2AE63
    r = lambda b, i: int.from_bytes(b[i:i + 8], "little")

    def mix16(b, i, s):
        v = (r(b, i) ^ r(SECRET, s)) * (r(b, i + 8) ^ r(SECRET, s + 8))
        return v & M64 ^ v >> 64

    def mix32(lo, hi, i, j, s):
        lo = (lo + mix16(d, i, s) & M64) ^ (r(d, j) + r(d, j + 8) & M64)
        hi = (hi + mix16(d, j, s + 16) & M64) ^ (r(d, i) + r(d, i + 8) & M64)
        return lo, hi

    def avalanche(h):
        h ^= h >> 37
        h = h * 0x165667919E3779F9 & M64
        return h ^ h >> 32

    n = len(d)
    lo, hi = mix32(n * p1 & M64, 0, 16, n - 32, 32)
    lo, hi = mix32(lo, hi, 0, n - 16, 0)
    a = avalanche(lo + hi & M64)
    b = -avalanche(lo * p1 + hi * p4 + n * p2 & M64) & M64
    return b.to_bytes(8, "big") + a.to_bytes(8, "big")


# ---- output ---------------------------------------------------------------------------------------------
def emit(name, b):
    if isinstance(b, str):
        out.append("static const char vec_%s[] __attribute__((unused)) =" % name)
        out.extend("\t%s" % json.dumps(line) for line in b.splitlines(True))
        out[-1] += ";"
        return
    out.append("static const uint8_t vec_%s[%d] __attribute__((unused)) = {" % (name, max(len(b), 1)))
    for i in range(0, len(b), 16):
        out.append("\t" + " ".join("0x%02x," % c for c in b[i:i + 16]))
    out.append("};")


lp = lambda b: struct.pack(">H", len(b)) + b
canonical = lambda v: json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
sha = lambda b: hashlib.sha256(b).digest()

for i, (ikm, salt, info, okm) in enumerate(RFC5869, 1):
    emit("hkdf%d_ikm" % i, ikm)
    emit("hkdf%d_salt" % i, salt)
    emit("hkdf%d_info" % i, info)
    emit("hkdf%d_okm" % i, okm)

content, model = bytes(range(32)), bytes(range(0x40, 0x60))
emit("content_key", content)
emit("model_key", model)
emit("content_key_id", sha(b"modelfs content key" + content))
emit("model_key_id", sha(b"modelfs model key" + model))
emit("wrapped", kwp(model, content))

plain = b"the plaintext of one file"
for cipher, tag in (("AES-256-GCM", "aes"), ("ChaCha20-Poly1305", "chacha")):
    info = lp(b"modelfs/1 file") + lp(cipher.encode()) + lp(b"det") + lp(b"sub/model.onnx") + struct.pack(">I", 131072)
    salt = hmac.new(hkdf(content, b"", b"modelfs/1 salt", 32), info + sha(plain), hashlib.sha256).digest()
    key = hkdf(content, salt, info, 32)
    emit("salt_" + tag, salt)
    emit("file_key_" + tag, key)
    for name, index in (("0", 0), ("1", 1), ("far", (1 << 32) + 5)):
        c, t = (gcm if tag == "aes" else chacha)(key, index.to_bytes(12, "big"), plain)
        emit("chunk_%s_%s" % (tag, name), c)
        emit("tag_%s_%s" % (tag, name), t)
emit("plain_sha256", sha(plain))
emit("plain", plain)

state_key = bytes(range(0x80, 0xa0))
frame = b"MFSTATE1" + struct.pack("<IIQQ", 1, 0, 0x0102030405060708, 2) + b"{}"
frame += xxh3_128(frame)
frame += hmac.new(state_key, frame, hashlib.sha256).digest()
emit("state_key", state_key)
emit("frame", frame)

with tempfile.TemporaryDirectory() as d:
    def run(*a):
        return subprocess.run(("openssl",) + a, cwd=d, check=True, capture_output=True).stdout

    run("genpkey", "-algorithm", "ED25519", "-out", "ed.pem")
    run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "p256.pem")
    run("genpkey", "-algorithm", "ED25519", "-out", "foreign.pem")
    run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem")
    run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "p384.pem")
    ids = {}
    for k in ("ed", "p256", "foreign", "rsa", "p384"):
        run("pkey", "-in", k + ".pem", "-pubout", "-out", k + ".pub.pem")
        ids[k] = sha(run("pkey", "-in", k + ".pem", "-pubout", "-outform", "DER"))
        emit("%s_pem" % k, open(os.path.join(d, k + ".pub.pem")).read())
        emit("%s_id" % k, ids[k])
    run("ec", "-in", "p256.pem", "-pubout", "-conv_form", "compressed", "-out", "compressed.pem")
    emit("compressed_pem", open(os.path.join(d, "compressed.pem")).read())
    manifest = canonical({
        "format": "modelfs-manifest/1", "model_id": "det", "variant": "default", "version": "1.0.0", "release": 1,
        "build_time": 1700000000, "key_epoch": 1, "compat": {},
        "key_ids": [ids["ed"].hex(), ids["p256"].hex(), ids["foreign"].hex()],
        "files": [{"name": "model.onnx", "size": len(plain), "sha256": sha(plain).hex(), "chunk_size": 131072,
                   "tag": "0" * 32, "media": "onnx", "executable": False}]})
    open(os.path.join(d, "manifest.json"), "w").write(manifest)
    for k in ("ed", "foreign"):
        emit("sig_" + k, run("pkeyutl", "-sign", "-rawin", "-inkey", k + ".pem", "-in", "manifest.json"))
    emit("sig_p256", run("dgst", "-sha256", "-sign", "p256.pem", "manifest.json"))
    emit("manifest", manifest)
    emit("manifest_id", sha(manifest.encode()))

with open(os.path.join(HERE, "vectors.h"), "w") as f:
    f.write("/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by make.py: do not edit. */\n"
            "/* clang-format off */\n" + "\n".join(out) + "\n")
