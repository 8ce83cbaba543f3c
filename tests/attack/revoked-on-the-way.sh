#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A version is revoked while its bytes come, while it is checked, when it is staged and held, and when its activation
# waits for who is loading: it never becomes active, also with a restart in between, what was active is served byte for
# byte all the time, and the next version comes.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
unset config_extra
repository "det: {model_key: \"file:mk.bin\", health: {command: [$P/check, health], timeout: 60s}, on_reject: [$P/check, rejected]}"
for v in 1 2 3 4 5 6 7 8; do release "$v"; done
hostile_start "$W/repo"
follow "$HOSTILE"
sed -i "s|probation: 10m|probation: 0, conditions: {hold_file: $W/hold}|" "$CFG"
log=$P/out/log
touch "$log"
chmod 0666 "$log"
passing='echo "$* $MODELFS_OUTCOME $MODELFS_VERSION" >>$P/out/log'
# The check of one version says that it has begun, and waits.
waiting=$passing'
[ "$1" = health ] || exit 0
touch $P/out/began; until [ -e $P/out/go ]; do sleep 0.05; done'

waits_at() { [ "$(cycle_ '.next | "\(.version) \(.step)"')" = "1.$1.0 $2" ]; }
# Nothing of release $1 is left: it was refused as revoked, and release $2 is what it was. $3: no hook ran, nothing was mounted.
ended() {
	idle() { [ "$(cycle_ .next)" = null ]; }
	until_true 30 idle || fail "it goes on: $(cycle_ .)"
	shows "$2"
	[ "$(cycle_ '.refused | "\(.version) \(.why.outcome)"')" = "1.$1.0 revoked" ] || fail "refused: $(cycle_ .refused)"
	event "1.$1.0" 23
	[ -n "${3:-}" ] || until_true 20 grep -qx "rejected revoked 1.$1.0" "$log" || fail "on_reject did not run: $(cat "$log")"
	clean() { [ ! -L "$MNT/det/candidate" ] && [ ! -e "$MNT/det/versions/1.$1.0" ] && [ -z "$(find "$W/store/staging" -type f)" ]; }
	until_true 20 clean "$1" || fail "left: $(ls "$MNT/det" "$MNT/det/versions"; find "$W/store/staging" -type f)"
}
check "$passing"
publish 1
mount_
brings 1

for serve in lives dies; do
	[ "$serve" = lives ] && v=2 || v=3
	step "while its bytes come; serve $serve"
	publish "$v"
	fault_only stall count=all after=100 path=/blobs/
	expect 0 "1.$v.0 is offered" "$modelfs" check -c "$CFG" det
	until_true 20 faulted || fail "nothing is fetched: $(cycle_ .)"
	waits_at "$v" download || fail "$(cycle_ .)"
	revoke "$v" stop
	if [ "$serve" = dies ]; then
		fault_only stall count=all after=100 path=/blobs/
		fresh_serve
		until_true 20 faulted || fail "the next serve does not go on: $(cycle_ .)"
		waits_at "$v" download || fail "$(cycle_ .)"
	fi
	shows 1
	expect 2 "nothing newer|is revoked" "$modelfs" check -c "$CFG" det
	ended "$v" 1
done
faults_clear
expect 2 "nothing newer|is revoked" "$modelfs" update -c "$CFG" det
shows 1

step "while it is checked"
check "$waiting"
publish 4
expect 0 "1.4.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
revoke 4 withdraw
expect 2 "nothing newer|is revoked" "$modelfs" check -c "$CFG" det
ended 4 1
rm "$P/out/began"

# held N: release N is staged and checked, and waits for the hold file to go.
held() {
	rm -f "$P/out/go" "$P/out/began"
	check "$waiting"
	publish "$1"
	expect 0 "1.$1.0 is offered" "$modelfs" check -c "$CFG" det
	until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
	touch "$W/hold" "$P/out/go"
	until_true 20 waits_at "$1" activate || fail "$(cycle_ .)"
	is_held() { [ "$(cycle_ .next.why.outcome)" = held ]; }
	until_true 20 is_held || fail "$(cycle_ .)"
	shows 1
}
step "staged and held; serve dies in between"
held 5
fresh_serve
waits_at 5 activate || fail "$(cycle_ .)"
revoke 5 rollback
expect 2 "nothing newer|is revoked" "$modelfs" check -c "$CFG" det
ended 5 1
rm "$W/hold"
expect 2 "nothing newer|is revoked" "$modelfs" update -c "$CFG" det
shows 1

step "staged and held; revoked while nothing is mounted"
held 6
unmount_
revoke 6 stop
expect 2 "nothing newer|is revoked" "$modelfs" check -c "$CFG" det
rm "$W/hold"
mount_
ended 6 1 unmounted

step "its activation waits for who is loading"
check "$passing"
exec 9<"$MNT/det/active/small.bin"
publish 7
expect 0 "1.7.0 is offered" "$modelfs" check -c "$CFG" det
activated() { [ "$(status_ det --json | jq -r .active.version)" = 1.7.0 ]; }
until_true 20 activated || fail "$(cycle_ .)"
revoke 7 rollback
rc=0
"$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || rc=$?
shows 1
event 1.7.0 23 from
exec 9<&-

step "the next version comes"
publish 8
update_ det || [ "$(now_)" = "1.8.0 8" ] || fail "update: exit $?"
"$modelfs" wait -c "$CFG" det --version 1.8.0 --timeout 20s >>"$W/log" || fail "1.8.0 does not come: $(cat "$MNT/det/status")"
shows 8
[ "$(now_)" = "1.8.0 8" ] || fail "$(now_)"
unmount_
