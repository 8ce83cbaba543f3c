#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One byte flipped in a payload, at several offsets: install refuses it as hash_mismatch, unmounted and mounted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
attack() {
	local f off
	for f in weights.bin small.bin; do
		for off in $(offsets "$W/b2/payload/$f"); do
			copy_bundle "$W/b2" "$W/bad"
			flip "$W/bad/payload/$f" "$off"
			refused "$W/bad" hash_mismatch
			grep -q "$f" "$W/expect.out" || fail "the message does not name $f: $(cat "$W/expect.out")"
			expect 3 hash_mismatch "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
		done
	done
}
attack
need_fuse
mount_
attack
diff -r "$W/src1" "$MNT/det/active" || fail "the active version suffered"
still_good
