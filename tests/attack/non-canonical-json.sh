#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A manifest that is signed but not canonical JSON: malformed.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
bad() { # what was done is in $W/m
	copy_bundle "$W/b2" "$W/bad"
	cp "$W/m" "$W/bad/manifest.json"
	sign_manifest "$W/bad"
	refused "$W/bad" malformed
	grep -q manifest.json "$W/expect.out" || fail "the message does not name manifest.json: $(cat "$W/expect.out")"
	expect 3 malformed "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
}
m=$W/b2/manifest.json
step "white space"; jq -S . "$m" >"$W/m"; bad
step "final newline"; { cat "$m"; echo; } >"$W/m"; bad
step "key order"; jq -cj 'to_entries | reverse | from_entries' "$m" >"$W/m"; bad
step "an escape that is not needed"; sed 's/"det"/"\\u0064et"/' "$m" >"$W/m"; bad
step "a number as 1.0"; sed 's/"release":2\b/"release":2.0/' "$m" >"$W/m"; bad
step "a number as 2e0"; sed 's/"release":2\b/"release":2e0/' "$m" >"$W/m"; bad
step "a byte order mark"; { printf '\xef\xbb\xbf'; cat "$m"; } >"$W/m"; bad
step "a second document"; { cat "$m"; printf '{}'; } >"$W/m"; bad
step "a NUL at the end"; { cat "$m"; printf '\0'; } >"$W/m"; bad
step "an array"; { printf '['; cat "$m"; printf ']'; } >"$W/m"; bad
step "nothing"
copy_bundle "$W/b2" "$W/bad"
: >"$W/bad/manifest.json"
refused "$W/bad" malformed signature_invalid
still_good
