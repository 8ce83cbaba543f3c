#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A bundle without a signature, with an empty one, or without a manifest is refused.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
copy_bundle "$W/b2" "$W/bad"
rm "$W/bad/signature.sig"
refused "$W/bad" signature_invalid
grep -q signature.sig "$W/expect.out" || fail "the message does not name signature.sig: $(cat "$W/expect.out")"
expect 3 signature_invalid "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
: >"$W/bad/signature.sig"
refused "$W/bad" signature_invalid
copy_bundle "$W/b2" "$W/bad"
rm "$W/bad/manifest.json"
rc=0
"$modelfs" install -c "$CFG" "$W/bad" >"$W/expect.out" 2>&1 || rc=$?
[ "$rc" = 1 ] || [ "$rc" = 3 ] || fail "no manifest: exit $rc"
grep -q manifest.json "$W/expect.out" || fail "the message does not name manifest.json: $(cat "$W/expect.out")"
still_good
