#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Signature files by keys that a manifest does not list, around the one that counts: the bundle stays as good as it
# was, also after the next start (they must not crowd the good one out of the store); too many are a limit.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
config
gen raw 300K 1 "$W/weights.bin"
(cd "$W" && pack 1.1.0 1 "$W/b1" weights.bin)
key_id=$(jq -r '.key_ids[0]' "$W/b1/manifest.json")
copy_bundle "$W/b1" "$W/crowd"
mv "$W/crowd/signature.sig" "$W/crowd/signature.$key_id.sig"
for i in 1 2 3 4 5 6 7 8; do
	head -c 64 /dev/urandom >"$W/crowd/signature.$(printf '%064x' "$((i * 0x111111))").sig"
done
install_ "$W/crowd" || fail "a good signature among eight strangers': exit $?"
for d in "$W/state" "$W/store"; do
	n=$(find "$d/manifests" -name 'signature*' | wc -l)
	[ "$n" = 1 ] || fail "$n signatures were kept in $d"
done
expect 0 'all as signed' "$modelfs" verify -c "$CFG" det
status_ --json | jq -e '.models[0].active.version == "1.1.0"' >/dev/null || fail "not shown after the next start"
touch "$W/crowd/signature.$(printf '%064x' 9).sig"
refused "$W/crowd" limit_exceeded
for i in $(seq 3000); do : >"$W/crowd/signature.$(printf '%064x' "$i").sig"; done
refused "$W/crowd" limit_exceeded
