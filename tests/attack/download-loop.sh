#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A server that never sends the right bytes of one version cannot make the device download for ever: the pauses grow
# and are kept over restarts, the byte budget holds over all of them, other models are updated, the version is not
# condemned, and it comes when the server is honest again.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
size=60K
repository 'det: {model_key: "file:mk.bin"}' 'seg: {model_key: "file:mk.bin"}'
release 1
publish 1
other() { # N: release N of seg
	gen raw 60K "1$1" "$W/seg.bin"
	id=seg pack "1.$1.0" "$1" "$W/seg$1" "$W/seg.bin"
	"$modelpub" publish "$W/repo" "$W/seg$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish seg"
}
other 1
hostile_start "$W/repo"
follow "$HOSTILE"
mount_
update_ || [ $? = 2 ] || fail "update: exit $?"
shows 1
size=2M
release 2
publish 2
wrong=$(cd "$W/b2" && sha256sum "$(find payload -type f -size +100k)") wrong=${wrong%% *}
waits() { next_is "1.2.0 download $1"; }

step "wrong bytes, for ever: it pauses, also after a restart"
faults_clear
fault corrupt count=all after=100 "path=$wrong"
expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
# A pause is drawn anew after each failure, longer ones later: one that is not over before all of this was looked at.
pauses() {
	local try
	waits hash_mismatch && try=$(cycle_ '.next.next_try // empty') && [ -n "$try" ] && [ $(($(date -d "$try" +%s) - $(date +%s))) -ge 20 ]
}
until_true 90 pauses || fail "no pause: $(cycle_ .)"
failures=$(cycle_ .next.failures)
spent=$(hostile_stats)
# Of what the server wrote some never left the sockets: what counts is how often it was asked.
[ "$(jq .faults <<<"$spent")" -le $((6 * failures)) ] || fail "a chunk was asked for too often: $spent in $failures tries"
fresh_serve
expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
[ "$(cycle_ .next.failures)" = "$failures" ] || fail "$(cycle_ .next)"
[ "$(hostile_stats | jq .faults)" = "$(jq .faults <<<"$spent")" ] || fail "it was asked again at once: $spent, $(hostile_stats)"
shows 1

step "another model is updated meanwhile"
other 2
update_ seg || [ $? = 2 ] || fail "update seg: exit $?"
cmp "$W/seg.bin" "$MNT/seg/active/seg.bin" || fail "seg is not what was published"

step "nothing is condemned"
[ "$(cycle_ .refused)" = null ] || fail "refused: $(cycle_ .refused)"
! "$modelfs" events -c "$CFG" det | grep -E "known_bad|malformed|signature_invalid" || fail "condemned"
expect 0 "rollout 1.2.0: selected" "$modelfs" explain -c "$CFG" det
unmount_

step "cut bytes and wrong ones, asked for again and again by hand: the budget of the day holds over all restarts"
daily=500000
sed -i "s/probation: 10m/probation: 10m, daily_bytes: ${daily}B/" "$CFG"
rm -rf "$W"/store/staging/*
faults_clear
for mode in truncate corrupt; do
	curl -sS "$HOSTILE_CTL/_clear" >/dev/null
	fault "$mode" count=all after=120000 "path=$wrong"
	mount_
	! update_ det || fail "$mode: it was updated"
	fresh_serve
	! update_ det || fail "$mode: it was updated"
	unmount_
done
mount_
expect 4 "budget" "$modelfs" update -c "$CFG" det
waits rate_limited || fail "$(cycle_ .)"
before=$(hostile_stats | jq .faults)
fresh_serve
expect 4 "budget" "$modelfs" update -c "$CFG" det
[ "$(hostile_stats | jq .faults)" = "$before" ] || fail "blobs were asked for without budget"
# Each cost 120000 bytes at least, of $daily for the day.
[ "$before" -le 12 ] || fail "more than the budget of $daily bytes: $(hostile_stats)"
expect 0 "bytes left today: 0" "$modelfs" explain -c "$CFG" det
shows 1
unmount_

step "honest again"
faults_clear
sed -i "s/, daily_bytes: ${daily}B//" "$CFG"
mount_
brings 2
unmount_
