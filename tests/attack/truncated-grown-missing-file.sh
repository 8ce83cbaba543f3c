#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A file truncated, grown or missing: refused, whichever file it is.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for f in payload/weights.bin payload/small.bin chunks/weights.bin; do
	step "$f"
	for how in 'truncate -s -1' 'truncate -s 0' 'truncate -s +1' 'truncate -s +131072' 'rm'; do
		copy_bundle "$W/b2" "$W/bad"
		$how "$W/bad/$f"
		refused "$W/bad" hash_mismatch malformed
		grep -q "${f#*/}" "$W/expect.out" || fail "the message does not name $f: $(cat "$W/expect.out")"
		expect 3 '(hash_mismatch|malformed)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
	done
done
step "manifest.json"
copy_bundle "$W/b2" "$W/bad"
truncate -s -1 "$W/bad/manifest.json"
refused "$W/bad" signature_invalid
copy_bundle "$W/b2" "$W/bad"
truncate -s 17M "$W/bad/manifest.json"
refused "$W/bad" limit_exceeded
still_good
