#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Metadata, manifests and lists that are rightly signed and larger than their caps, and a payload that never ends, in the
# update of a mounted model: limit_exceeded in what the command says, in status and in events, nothing of it is kept,
# what is active is served, and the next version of a bearable size comes.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
repository
sed -i "s|probation: 10m|probation: 0|" "$CFG"
for v in 1 2; do release "$v"; done
publish 1
hostile_start "$W/repo"
follow "$HOSTILE"
mount_
brings 1
# Nobody is to see what is right on the way from one thing too large to the next.
shut
publish 2
state_size() { du -sb "$W/state" | cut -f 1; }
before=$(state_size)

# over WHAT: the update is refused for it.
over() {
	faults_clear
	expect 3 "limit_exceeded: .*$1" "$modelfs" update -c "$CFG" det
	[ "$(cycle_ '[.check.outcome, .offer.outcome] | any(. == "limit_exceeded")')" = true ] || fail "$1: $(cycle_ .)"
	[ "$(cycle_ .refused)" = null ] || fail "$1: a version was blamed: $(cycle_ .refused)"
	"$modelfs" events -c "$CFG" --json | jq -es 'any(.outcome == "limit_exceeded")' >>"$W/log" || fail "$1: no event"
	grep -q limit_exceeded "$MNT/det/status" || fail "$1: $(cat "$MNT/det/status")"
	shows 1
	[ $(($(state_size) - before)) -lt 200000 ] || fail "$1: it was kept: $(find "$W/state" -size +100k)"
	[ -z "$(find "$W/store/staging" -type f)" ] || fail "$1: left in staging"
	shut
	echo "  $1"
}
# padded FILE BYTES: a field that nobody knows, so long.
padded() { jq --argjson n "$2" '.signed | .padding = [range($n / 1000 | floor) | "x" * 1000]' "$1" >"$W/forge.next"; }
md=$W/repo/metadata

step "top-level roles, larger than a device reads"
cp "$md/timestamp.json" "$W/timestamp.json"
padded "$W/timestamp.json" 20000
role_sign "$W/forge.next" "$md/timestamp.json" "$W/keys/timestamp.pem"
over timestamp.json
cp "$W/timestamp.json" "$md/timestamp.json"
online '.padding = [range(2200) | "x" * 1000]'
over snapshot
online 'del(.padding)'
forge targets '.padding = [range(5400) | "x" * 1000]'
over targets
forge targets 'del(.padding)'
n=$(($(role_newest root) + 1))
jq --argjson n "$n" '.signed | .version = $n | .padding = [range(600) | "x" * 1000]' "$md/$((n - 1)).root.json" >"$W/forge.next"
role_sign "$W/forge.next" "$md/$n.root.json" "$W/keys/root.pem"
over root.json
rm "$md/$n.root.json"

step "delegated ones, and what they name"
cp "$(target_now policy.det det/policy.json)" "$W/policy"
jq -cSj '.sequence += 1 | .padding = [range(1100) | "x" * 1000]' "$W/policy" >"$W/policy.big"
target_put policy.det det/policy.json "$W/policy.big"
over policy.json
jq -cSj '.sequence += 1' "$W/policy" >"$W/policy.next"
target_put policy.det det/policy.json "$W/policy.next"
cp "$(target_now release.det det/1.2.0/default/manifest.json)" "$W/manifest"
cp "$(target_now release.det det/1.2.0/default/signature.sig)" "$W/signature"
target_put release.det det/1.2.0/default/manifest.json "$W/manifest" 17000000
over manifest.json
target_put release.det det/1.2.0/default/manifest.json "$W/manifest"
target_put release.det det/1.2.0/default/signature.sig "$W/signature" 2000
over signature.sig
target_put release.det det/1.2.0/default/signature.sig "$W/signature"

step "a payload without end: no more than its signed bytes are taken"
payload=$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b2/manifest.json")
faults_clear
fault endless count=all "path=$payload"
expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 faulted || fail "$(cycle_ .)"
faults_clear
"$modelfs" wait -c "$CFG" det --version 1.2.0 --timeout 30s >>"$W/log" || fail "1.2.0 does not come: $(cycle_ .)"
shows 2
[ "$(stat -c %s "$(blob "$payload")")" = 409600 ] || fail "the payload has $(stat -c %s "$(blob "$payload")") bytes"
unmount_
