# SPDX-License-Identifier: Apache-2.0
"""
Finds another implementation of TUF: Debian's python3-tuf, installed or unpacked by scripts/deps. Exits
77 with the reason when there is none. Imported by the scripts beside it.
"""
import os, sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CACHE = os.environ.get("MODELFS_CACHE") or os.path.join(TOP, "build", "cache")
sys.dont_write_bytecode = True
sys.path.append(os.path.join(CACHE, "python", "usr", "lib", "python3", "dist-packages"))


def skip(reason):
    print("SKIP: " + reason)
    sys.exit(77)


try:
    import cryptography.hazmat.primitives.asymmetric.types as types
except ImportError:
    skip("python3-cryptography is not installed")
# Older releases of that library have these under their former names only.
for new, old in (("PrivateKeyTypes", "PRIVATE_KEY_TYPES"), ("PublicKeyTypes", "PUBLIC_KEY_TYPES")):
    if not hasattr(types, new):
        setattr(types, new, getattr(types, old))
try:
    import tuf.api.metadata  # noqa: F401
    import tuf.ngclient  # noqa: F401
    from securesystemslib.signer import CryptoSigner

    CryptoSigner.generate_ed25519()
except Exception as e:  # whatever is missing or too old says so itself
    skip("python3-tuf or python3-securesystemslib cannot be used: %s" % e)
