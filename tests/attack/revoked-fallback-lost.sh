#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A revocation goes back to a version of which the store has lost a part: whoever can delete from the store takes away
# neither the kill switch nor, for long, the model.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
need_fuse
repository 'det: {model_key: "file:mk.bin", serve: paged}'
# What a check offers waits for this file to go: what is fetched here, is fetched for the revocation.
sed -i "s#probation: 10m#probation: 0, conditions: {hold_file: $W/hold}#" "$CFG"
for v in 1 2; do
	release "$v"
	publish "$v"
	update_ || fail "update: exit $?"
done
[ "$(now_)" = "1.2.0 2" ] || fail "$(now_)"
lose() { rm "$(blob "$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b$1/manifest.json")")"; }
back() { [ "$(readlink "$MNT/det/active")" = versions/1.1.0 ]; }

step "while it is mounted: withdrawn at once, fetched, and gone back to without another check"
mount_
touch "$W/hold"
lose 1
mv "$W/repo/blobs" "$W/away"
revoke 2 rollback --otherwise withdraw
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || true
[ ! -e "$MNT/det/active" ] || fail "a revoked version is shown: $(readlink "$MNT/det/active")"
mv "$W/away" "$W/repo/blobs"
until_true 60 back || fail "not gone back: $(cat "$MNT/det/status" "$MNT/det/events")"
shows 1
jq -es 'any(.code == 23 and .from == "1.2.0" and .to == "1.1.0")' "$MNT/det/events" >/dev/null || fail "no event: $(tail -n 5 "$MNT/det/events")"
unmount_
[ "$(now_)" = "1.1.0 2" ] || fail "$(now_)"
