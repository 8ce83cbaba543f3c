#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Numbers out of range in a signed manifest: malformed or limit_exceeded, never wrapped, never a huge allocation.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
edit_raw() { # SED
	copy_bundle "$W/b2" "$W/bad"
	sed -i -E "$1" "$W/bad/manifest.json"
	! cmp -s "$W/b2/manifest.json" "$W/bad/manifest.json" || fail "the edit did nothing: $1"
	sign_manifest "$W/bad"
	refused "$W/bad" malformed limit_exceeded
	expect 3 '(malformed|limit_exceeded)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
}
for n in 0 -1 9007199254740992 9223372036854775807 9223372036854775808 18446744073709551616 1e300 99999999999999999999999999 '"2"' null true '[]'; do
	step "release $n"
	edit_raw "s/\"release\":2\\b/\"release\":$n/"
done
for n in -1 9007199254740991 9007199254740992 18446744073709551615; do
	step "size $n"
	edit_raw "s/\"size\":5000\\b/\"size\":$n/"
done
for n in 0 1 3 65535 32768 131073 2097152 4294967296 4294967295; do
	step "chunk size $n"
	edit_raw "s/\"chunk_size\":131072/\"chunk_size\":$n/"
done
for n in -1 0 9007199254740992; do
	step "key epoch $n"
	edit_raw "s/\"key_epoch\":1\\b/\"key_epoch\":$n/"
done
still_good
