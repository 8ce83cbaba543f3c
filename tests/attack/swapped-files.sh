#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Files swapped with those of another version, or with each other: hash_mismatch.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for f in payload/weights.bin payload/small.bin chunks/weights.bin; do
	step "$f of the other version"
	copy_bundle "$W/b2" "$W/bad"
	cp "$W/b1/$f" "$W/bad/$f"
	refused "$W/bad" hash_mismatch
done
step "payload and table together"
copy_bundle "$W/b2" "$W/bad"
cp "$W/b1/payload/weights.bin" "$W/bad/payload/weights.bin"
cp "$W/b1/chunks/weights.bin" "$W/bad/chunks/weights.bin"
refused "$W/bad" hash_mismatch
step "two chunks exchanged"
copy_bundle "$W/b2" "$W/bad"
dd if="$W/b2/payload/weights.bin" of="$W/bad/payload/weights.bin" bs=131072 skip=1 count=1 conv=notrunc status=none
dd if="$W/b2/payload/weights.bin" of="$W/bad/payload/weights.bin" bs=131072 skip=0 seek=1 count=1 conv=notrunc status=none
refused "$W/bad" hash_mismatch
step "manifest and signature of the other version"
copy_bundle "$W/b2" "$W/bad"
cp "$W/b1/manifest.json" "$W/b1/signature.sig" "$W/bad/"
rc=0
"$modelfs" install -c "$CFG" "$W/bad" >"$W/expect.out" 2>&1 || rc=$?
[ "$rc" = 2 ] || [ "$rc" = 3 ] || fail "exit $rc: $(cat "$W/expect.out")"
status_ det | grep -q 1.1.0 || fail "the active version changed"
still_good
