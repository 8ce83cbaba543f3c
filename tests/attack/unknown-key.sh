#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Signed by a key that is not trusted: key_untrusted, also when the manifest claims a trusted key or another epoch.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
step "an honest stranger"
(cd "$W/src2" && "$modelpub" pack --id det --version 1.2.0 --release 2 --key "$W/stranger.pem" --model-key "$W/mk.bin" \
	--out "$W/bad" weights.bin small.bin >>"$W/log" 2>&1) || fail "pack"
refused "$W/bad" key_untrusted
expect 3 '(key_untrusted|signature_invalid)' "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad"
step "a stranger who claims our key"
copy_bundle "$W/b2" "$W/bad"
sign_manifest "$W/bad" "$W/stranger.pem"
refused "$W/bad" signature_invalid
step "our key, but an epoch that the trust list does not give it"
copy_bundle "$W/b2" "$W/bad"
edit_manifest "$W/bad" '.key_epoch = 2'
refused "$W/bad" key_untrusted
step "our key, but trusted for other models only"
cp "$CFG" "$W/cfg"
sed -i 's/^trust:.*/trust: {keys: [{file: release.pub.pem, models: [other]}]}/' "$CFG"
rc=0
"$modelfs" install -c "$CFG" "$W/b2" >"$W/expect.out" 2>&1 || rc=$?
[ "$rc" = 3 ] && grep -q key_untrusted "$W/expect.out" || fail "scope of a key: exit $rc, $(cat "$W/expect.out")"
cp "$W/cfg" "$CFG"
still_good
