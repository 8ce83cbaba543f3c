#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A signed manifest nested too deeply, from 17 levels to a million: refused, no crash.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for depth in 16 17 100 2000 1000000; do
	step "$depth"
	copy_bundle "$W/b2" "$W/bad"
	{
		# {"aaa":[[...]],"build_time":...: canonical but for its depth
		printf '{"aaa":'
		head -c "$depth" /dev/zero | tr '\0' '['
		head -c "$depth" /dev/zero | tr '\0' ']'
		printf ','
		tail -c +2 "$W/b2/manifest.json"
	} >"$W/bad/manifest.json"
	sign_manifest "$W/bad"
	refused "$W/bad" malformed limit_exceeded
	expect 3 '(malformed|limit_exceeded)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
still_good
