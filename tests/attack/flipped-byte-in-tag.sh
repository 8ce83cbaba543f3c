#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A tag that is wrong although the release key signed it (in the manifest, in a table): decrypt_failed at install.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
step "the tag of a file of one chunk, in the manifest"
copy_bundle "$W/b2" "$W/bad"
edit_manifest "$W/bad" '(.files[] | select(.name == "small.bin") | .tag) |= (if startswith("0") then "1" + .[1:] else "0" + .[1:] end)'
refused "$W/bad" decrypt_failed
for off in 64 79 112 -1; do
	step "the tag at $off of a table"
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/chunks/weights.bin" "$off"
	sum=$(sha256sum <"$W/bad/chunks/weights.bin" | cut -d' ' -f1)
	edit_manifest "$W/bad" '(.files[] | select(.name == "weights.bin") | .chunks_sha256) = "'"$sum"'"'
	refused "$W/bad" decrypt_failed
done
still_good
