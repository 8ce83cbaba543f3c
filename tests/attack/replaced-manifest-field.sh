#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A manifest field replaced without the release key: signature_invalid, whatever the field.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for edit in '.version = "9.9.9"' '.release = 9' '.model_id = "other"' '.build_time += 1' '.key_epoch = 2' \
	'.files[0].size += 1' '.files[0].sha256 = .files[1].sha256' '.files[0].name = "x"' 'del(.encryption)' \
	'.files |= reverse' '.compat.memory = 1' '.critical = []' '.note = "harmless"'; do
	copy_bundle "$W/b2" "$W/bad"
	jq -cSj "$edit" "$W/b2/manifest.json" >"$W/bad/manifest.json"
	refused "$W/bad" signature_invalid
	expect 3 signature_invalid "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
step "the signature of another manifest"
copy_bundle "$W/b2" "$W/bad"
cp "$W/b1/signature.sig" "$W/bad/signature.sig"
refused "$W/bad" signature_invalid
still_good
