#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Names that lead out of the tree or are no names, signed by the release key: refused, and nothing is written outside.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
echo precious >"$W/victim"
i=0
long=$(printf 'n%.0s' {1..256})
deep=$(printf 'd/%.0s' {1..16})f
huge=$(printf "$(printf 'x%.0s' {1..200})/%.0s" {1..5})$(printf 'y%.0s' {1..30})
for name in '../victim' '../../victim' '/etc/passwd' 'a/../../victim' 'a/./b' './small.bin' 'a//b' 'a/' '' '.' '..' '../' \
	'payload/../../victim' "$long" "$deep" "$huge" 'weights.bin/x'; do
	i=$((i + 1))
	copy_bundle "$W/b2" "$W/bad"
	jq -cSj --arg n "$name" '(.files[] | select(.name == "small.bin") | .name) = $n' "$W/b2/manifest.json" >"$W/bad/manifest.json"
	sign_manifest "$W/bad"
	refused "$W/bad" malformed limit_exceeded
	expect 3 '(malformed|limit_exceeded)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
done
[ "$(cat "$W/victim")" = precious ] || fail "a file outside was written"
for field in model_id version variant; do
	for v in '../x' 'a/b' '..' '' '.hidden' "$long" '-x' 'a b'; do
		copy_bundle "$W/b2" "$W/bad"
		jq -cSj --arg v "$v" ".$field = \$v" "$W/b2/manifest.json" >"$W/bad/manifest.json"
		sign_manifest "$W/bad"
		refused "$W/bad" malformed limit_exceeded
	done
done
still_good
