#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One byte flipped in the manifest, at several offsets: install refuses it (mostly as signature_invalid; a damaged
# list of key ids as malformed or key_untrusted, since it says which key to verify with). Where a digit becomes another
# one, it is a well-formed manifest still: nothing but the signature tells.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
size=$(stat -c %s "$W/b2/manifest.json")
for i in $(seq 0 12); do
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/manifest.json" $(((size - 1) * i / 12))
	refused "$W/bad" signature_invalid malformed key_untrusted
	expect 3 "(signature_invalid|malformed|key_untrusted)" "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done

digits=$(grep -obE '"(build_time|chunk_size|chunks_sha256|release|sha256|size|version)":"?[^0-9",}]*[0-9]' "$W/b2/manifest.json")
[ "$(wc -l <<<"$digits")" -ge 8 ] || fail "digits: $digits"
while IFS=: read -r at text; do
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/manifest.json" $((at + ${#text} - 1)) 1
	jq -e . "$W/bad/manifest.json" >>"$W/log" 2>&1 || [ "${text: -1}" = 1 ] || fail "no manifest any more: $text"
	refused "$W/bad" signature_invalid
	expect 3 signature_invalid "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done <<<"$digits"
still_good
