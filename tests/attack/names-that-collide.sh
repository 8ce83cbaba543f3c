#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two names that differ by case only, a name twice, or a file that is also a folder: malformed.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for pair in 'Weights.bin weights.bin' 'weights.bin weights.bin' 'a a/b' 'A a/b' 'x/Y/z x/y/Z' 'a/b/c a/B'; do
	step "$pair"
	copy_bundle "$W/b2" "$W/bad"
	edit_manifest "$W/bad" '(.files[] | select(.name == "small.bin") | .name) = "'"${pair% *}"'" |
		(.files[] | select(.name == "weights.bin" and has("chunks_sha256")) | .name) = "'"${pair#* }"'"'
	refused "$W/bad" malformed
	expect 3 malformed "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
still_good
