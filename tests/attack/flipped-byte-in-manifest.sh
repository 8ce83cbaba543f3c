#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One byte flipped in the manifest, at several offsets: install refuses it as signature_invalid.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
size=$(stat -c %s "$W/b2/manifest.json")
for i in $(seq 0 12); do
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/manifest.json" $(((size - 1) * i / 12))
	refused "$W/bad" signature_invalid
	expect 3 signature_invalid "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
still_good
