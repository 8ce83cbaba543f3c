#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One byte flipped in a chunk table (head, hashes, tags): install refuses it.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
t=chunks/weights.bin
for off in 0 8 12 16 24 31 32 63 64 79 80 -48 -17 -16 -1; do
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/$t" "$off"
	refused "$W/bad" hash_mismatch malformed
	grep -q "weights.bin" "$W/expect.out" || fail "the message does not name the table: $(cat "$W/expect.out")"
	expect 3 '(hash_mismatch|malformed)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
still_good
