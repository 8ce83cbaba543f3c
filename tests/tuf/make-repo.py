#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Makes a TUF repository with another implementation, one step of its life at a time:

	make-repo.py DIR

DIR/<step>/ is the whole repository after that step (metadata/, targets/) and a list `expect` of lines
"TARGET SHA256" or "TARGET -" (must not be found). DIR/root.json is the first root.

	1-first        one Ed25519 key per role, thresholds 1; a target of the top-level role
	2-delegated    delegations by path, terminating and not, two levels, keys of all three kinds
	3-rotated      root and snapshot keys rotated, root now 2 of 3, a target changed
	4-hashed       lengths and hashes in timestamp and snapshot; delegations by hash prefix
	5-bins         everything below "bin/" in 32 hash bins
	6-plain        no consistent snapshots any more
"""
import copy, datetime, hashlib, os, shutil, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import othertuf  # noqa: E402, F401
from securesystemslib.signer import CryptoSigner  # noqa: E402
from tuf.api.metadata import (DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, SuccinctRoles,  # noqa: E402
                              TargetFile, Targets, Timestamp)
from tuf.api.serialization.json import JSONSerializer  # noqa: E402

OUT = sys.argv[1]
EXPIRES = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=10)
NEW = {"ed25519": CryptoSigner.generate_ed25519, "ecdsa": CryptoSigner.generate_ecdsa, "rsa": CryptoSigner.generate_rsa}

roles = {"root": Metadata(Root(expires=EXPIRES)), "timestamp": Metadata(Timestamp(expires=EXPIRES)),
         "snapshot": Metadata(Snapshot(expires=EXPIRES)), "targets": Metadata(Targets(expires=EXPIRES))}
signers, files, content, hashes = {}, {}, {}, False
root = roles["root"].signed


def key(role, delegator=None, kind="ed25519"):
    s = NEW[kind]()
    signers.setdefault(role, []).append(s)
    (delegator or root).add_key(s.public_key, role)
    return s


def target(role, path, data):
    content[path] = data
    roles[role].signed.targets[path] = TargetFile.from_data(path, data, ["sha256", "sha512"])


def publish(*names):
    for name in names:
        md = roles[name]
        md.signatures.clear()
        for s in signers[name]:
            md.sign(s, append=True)
        data = md.to_bytes(JSONSerializer(compact=name == "snapshot"))
        numbered = name == "root" or (root.consistent_snapshot and name != "timestamp")
        files[("%d." % md.signed.version if numbered else "") + name + ".json"] = data
        info = MetaFile(md.signed.version)
        if hashes:
            info = MetaFile(md.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
        if name == "snapshot":
            roles["timestamp"].signed.snapshot_meta = info
        elif name not in ("root", "timestamp"):
            roles["snapshot"].signed.meta[name + ".json"] = info
        md.signed.version += 1


def step(name, missing):
    base = os.path.join(OUT, name)
    os.makedirs(os.path.join(base, "metadata"))
    for file, data in files.items():
        with open(os.path.join(base, "metadata", file), "wb") as f:
            f.write(data)
    with open(os.path.join(base, "expect"), "w") as expect:
        for path, data in content.items():
            digest = hashlib.sha256(data).hexdigest()
            folder, _, last = path.rpartition("/")
            os.makedirs(os.path.join(base, "targets", folder), exist_ok=True)
            last = digest + "." + last if root.consistent_snapshot else last
            with open(os.path.join(base, "targets", folder, last), "wb") as f:
                f.write(data)
            expect.write("%s %s\n" % (path, digest))
        for path in missing:
            expect.write("%s -\n" % path)


for role in ("root", "timestamp", "snapshot", "targets"):
    key(role)
target("targets", "trust.json", b'{"keys":[]}\n')
publish("targets", "snapshot", "timestamp", "root")
shutil.rmtree(OUT, ignore_errors=True)
os.makedirs(OUT)
with open(os.path.join(OUT, "root.json"), "wb") as f:
    f.write(files["1.root.json"])
step("1-first", ["nothing", "det/policy.json"])

targets = roles["targets"].signed
targets.delegations = Delegations({}, roles={})
for name, paths, end, kind in (("policy.det", ["det/policy.json"], True, "ecdsa"), ("release.det", ["det/*/*/*"], True, "rsa"),
                               ("group", ["seg/*", "seg/*/*"], False, "ed25519"), ("rest", ["*/*"], False, "ecdsa")):
    targets.delegations.roles[name] = DelegatedRole(name, [], 1, end, paths)
    roles[name] = Metadata(Targets(expires=EXPIRES))
    key(name, targets, kind)
group = roles["group"].signed
group.delegations = Delegations({}, roles={"\u00fcber uns": DelegatedRole("\u00fcber uns", [], 2, True, ["seg/?.bin"])})
roles["\u00fcber uns"] = Metadata(Targets(expires=EXPIRES))
for kind in ("ed25519", "rsa"):
    key("\u00fcber uns", group, kind)
roles["policy.det"].signed.unrecognized_fields["x-note"] = "line\nbreak \"quoted\" back\\slash \u20ac"
target("policy.det", "det/policy.json", b"{}")
target("release.det", "det/1.0.0/default/manifest.json", b"model 1.0.0")
target("\u00fcber uns", "seg/a.bin", b"a" * 70000)
target("rest", "any/thing", b"")
roles["rest"].signed.targets["det/policy.json"] = TargetFile.from_data("det/policy.json", b"not for me to say", ["sha256"])
roles["rest"].signed.targets["det/1.0.0/x"] = TargetFile.from_data("det/1.0.0/x", b"'*' does not cross '/'", ["sha256"])
publish("policy.det", "release.det", "\u00fcber uns", "group", "rest", "targets", "snapshot", "timestamp")
step("2-delegated", ["nothing", "seg/ab.bin", "det/1.0.0/x", "det/2.0.0/default/manifest.json"])

old = signers.pop("root")
root.roles["root"].keyids = []
root.roles["root"].threshold = 2
for kind in ("ecdsa", "ed25519", "rsa"):
    key("root", kind=kind)
del signers["root"][1]
signers["root"] += old
publish("root")
signers.pop("snapshot")
root.roles["snapshot"].keyids = []
key("snapshot", kind="ecdsa")
signers["root"].remove(old[0])
publish("root")
target("policy.det", "det/policy.json", b'{"sequence":2}')
publish("policy.det", "snapshot", "timestamp")
step("3-rotated", ["nothing"])

hashes = True
for i, prefixes in enumerate(([format(n, "x") for n in range(8)], [format(n, "x") for n in range(8, 16)])):
    name = "half-%d" % i
    targets.delegations.roles[name] = DelegatedRole(name, [], 1, False, None, prefixes)
    roles[name] = Metadata(Targets(expires=EXPIRES))
    key(name, targets)
for n in range(6):
    path = "deep/er/file-%d" % n
    half = 0 if hashlib.sha256(path.encode()).hexdigest()[0] in "01234567" else 1
    target("half-%d" % half, path, b"%d" % n)
publish("half-0", "half-1", "targets", "snapshot", "timestamp")
step("4-hashed", ["deep/er/file-7"])

roles["bins"] = Metadata(Targets(expires=EXPIRES))
targets.delegations.roles["bins"] = DelegatedRole("bins", [], 1, True, ["bin/*"])
key("bins", targets)
shared = NEW["ed25519"]()
bins = roles["bins"].signed
bins.delegations = Delegations({}, None, SuccinctRoles([], 1, 5, "bin"))
bins.add_key(shared.public_key)
for name in bins.delegations.succinct_roles.get_roles():
    roles[name] = Metadata(Targets(expires=EXPIRES))
    signers[name] = [shared]
for n in range(6):
    path = "bin/%d" % n
    target(bins.delegations.succinct_roles.get_role_for_target(path), path, b"bin %d" % n)
publish(*bins.delegations.succinct_roles.get_roles(), "bins", "targets", "snapshot", "timestamp")
step("5-bins", ["bin/6", "bin/a/b"])

root.consistent_snapshot = False
publish("root")
publish(*[r for r in roles if r not in ("root", "timestamp", "snapshot", "targets")], "targets", "snapshot", "timestamp")
step("6-plain", ["nothing"])
