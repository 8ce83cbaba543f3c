#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A manifest with a key twice, signed by the release key: malformed.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for twice in 's/"release":2\b/"release":2,"release":3/' 's/"model_id":"det"/"model_id":"det","model_id":"det"/' \
	's/"name":"small.bin"/"name":"small.bin","name":"small2.bin"/'; do
	copy_bundle "$W/b2" "$W/bad"
	sed -i "$twice" "$W/bad/manifest.json"
	! cmp -s "$W/b2/manifest.json" "$W/bad/manifest.json" || fail "the edit did nothing: $twice"
	sign_manifest "$W/bad"
	refused "$W/bad" malformed
	expect 3 malformed "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
still_good
