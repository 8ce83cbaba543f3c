#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of corpus/{policy,trustlist}; what fuzzing found lies beside them."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
PICK = {"policy": ("ok", "malformed/revoked-both", "malformed/steps-none", "malformed/fraction-falls", "malformed/confirmed-beyond",
                   "malformed/duplicate-key", "malformed/key-not-ascii", "malformed/critical-unknown"),
        "trust": ("ok", "malformed/key-twice", "malformed/public_key-off-the-curve", "malformed/models-star-and-more",
                  "malformed/truncated")}
for kind, names in PICK.items():
    target = os.path.join(HERE, "corpus", "trustlist" if kind == "trust" else kind)
    os.makedirs(target, exist_ok=True)
    for name in names:
        source = os.path.join(HERE, "..", "reject", kind, name)
        files = [os.path.join(source, f) for f in sorted(os.listdir(source))] if name == "ok" else [source + ".json"]
        for f in files:
            open(os.path.join(target, os.path.basename(f)[:-5]), "wb").write(open(f, "rb").read())
