#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A surplus file in payload, chunks or index is refused by name; elsewhere it is ignored and named.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for f in payload/extra.bin payload/dir/extra.bin chunks/small.bin chunks/extra index/extra; do
	step "$f"
	copy_bundle "$W/b2" "$W/bad"
	mkdir -p "$(dirname "$W/bad/$f")"
	echo surplus >"$W/bad/$f"
	refused "$W/bad" malformed
	grep -qE "$(basename "$f")|$(dirname "$f")/" "$W/expect.out" || fail "the message does not name $f: $(cat "$W/expect.out")"
	expect 3 malformed "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
step "elsewhere"
echo notes >"$W/b2/NOTES.txt"
expect 0 "ignored.*NOTES.txt" "$modelfs" install -c "$CFG" "$W/b2"
