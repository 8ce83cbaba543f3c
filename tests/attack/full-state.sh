#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whoever fills the disk that holds the state (a log that grew) holds off no revocation: it is written with the
# reserve, and where that is gone too it acts from memory. Nothing new becomes active meanwhile, what is active is
# served byte for byte, and with room again all of it is on the disk and stays so over restarts.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
size=100K
repository
sed -i "s|probation: 10m|probation: 0, retain: 2|" "$CFG"
mkdir -p "$W/state" "$W/old"
for v in 1 2 3 4 5; do release "$v"; done
revoke() { "$modelpub" revoke "$W/repo" det "1.$1.0" --keys "$W/keys" --action "$2" --reason leak >>"$W/log" 2>&1 || fail "revoke $1"; }
check_() { timeout 30 "$modelfs" check -c "$CFG" det >"$W/said" 2>&1 || true; cat "$W/said" >>"$W/log"; }
# Of the state in status --json.
state_() { status_ --json 2>>"$W/log" | jq -r ".state.$1"; }
nothing() { [ ! -e "$MNT/det/active" ]; }
floor_() { status_ --json | jq -r '.models[0].floor.release'; }
said_() { "$modelfs" events -c "$CFG" --json >"$W/events" 2>>"$W/log" && jq -es --arg c "$1" --arg d "$2" \
	'any(.source == "state" and .outcome == $c and (.detail | contains($d)))' "$W/events" >>"$W/log" || fail "no event: $1 $2: $(tail -n 3 "$W/events")"; }

mount -t tmpfs -o size=1m,mode=0700 modelfs-test "$W/state" 2>/dev/null || skip "cannot mount a tmpfs here"
at_exit "umount -l $W/state"
publish 1
mount_
update_ det || fail "update: exit $?"
publish 2
update_ det || fail "update: exit $?"
shows 2
[ "$(state_ full)" = false ] || fail "full: $(status_)"
reserve=$(state_ reserve)
[ "$reserve" -ge 262144 ] && [ "$(stat -c %b "$W/state/reserve/space")" -ge $((reserve / 512)) ] || fail "no reserve: $(status_ --json | jq -c .state)"
# To the last byte.
fill() { cat /dev/zero >>"$W/state/filler" 2>/dev/null || true; ! echo x 2>/dev/null >>"$W/state/more" || fail "not full"; rm -f "$W/state/more"; }
room() { rm -f "$W/state/filler"; }
beyond() { rm -rf "$W/state/reserve"; fill; }
# From here each part begins: release 2 of the state and of the repository.
unmount_
cp -a "$W/state" "$W/old/state"
cp -a "$W/repo" "$W/old/repo"
begin() {
	find "$W/state" -mindepth 1 -delete
	cp -a "$W/old/state/." "$W/state/"
	rm -rf "$W/repo"
	cp -a "$W/old/repo" "$W/repo"
	mount_
	shows 2
	[ "$(state_ full)" = false ] || fail "full: $(status_)"
}
is() { if [ "$1" = nothing ]; then nothing || fail "not nothing: $(cat "$MNT/det/status")"; else shows "$1"; fi; }
# stays N|nothing: so it is now, and from the first moment of the next serve on, with the floor where it was.
stays() {
	is "$1"
	fresh_serve
	is "$1"
	[ "$(floor_)" = 2 ] || fail "the floor: $(floor_)"
}

step "full: an update waits and says why, a revocation acts and is on the disk"
begin
fill
publish 3
expect 5 insufficient_storage "$modelfs" update -c "$CFG" det
shows 2
[ "$(cycle_ '.offer.outcome')" = insufficient_storage ] || fail "$(cycle_ .)"
grep -q "insufficient_storage" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
expect 5 "make room" "$modelfs" install -c "$CFG" "$W/b3"
shows 2
revoke 3 stop
check_
expect 3 revoked "$modelfs" install -c "$CFG" "$W/b3"
shows 2
revoke 2 rollback
check_
stays 1
revoke 1 withdraw
check_
nothing || fail "$(cat "$MNT/det/status")"
said_ insufficient_storage "make room there"
grep -q "^det: .*withdrawn" <(status_) || fail "$(status_)"
stays nothing
expect 1 "fail  state: .*(full|free)" "$modelfs" doctor -c "$CFG"
room
publish 4
brings 4
[ "$(state_ full)" = false ] || fail "full: $(status_)"
[ "$(state_ reserve)" = "$(state_ reserve_wanted)" ] || fail "the reserve: $(status_ --json | jq -c .state)"
unmount_

for action in rollback withdraw; do
	[ $action = rollback ] && want=1 || want=nothing
	step "full beyond the reserve: $action acts from memory"
	begin
	beyond
	# Nothing else is offered then: with room an older rollout would bring 1.1.0 back instead of nothing.
	[ "$want" = 1 ] || "$modelpub" rollout "$W/repo" det --keys "$W/keys" --rollout 1.1.0 --remove >>"$W/log" 2>&1 || fail "rollout"
	revoke 2 $action
	check_
	grep -q insufficient_storage "$W/said" || fail "check said: $(cat "$W/said")"
	is "$want"
	said_ insufficient_storage "from memory alone"
	status_ | grep -q "^state: a revocation acts from memory alone: " || fail "$(status_)"
	[ "$(state_ unwritten)" != null ] || fail "$(status_ --json | jq -c .state)"
	expect 1 "fail  state: a revocation acts from memory" "$modelfs" doctor -c "$CFG"
	expect 5 insufficient_storage "$modelfs" install -c "$CFG" "$W/b5"
	# The next serve goes on with it, and asks at once.
	stays "$want"
	room
	written() { [ "$(state_ full)" = false ] && [ "$(state_ unwritten)" = null ]; }
	until_true 40 written || fail "not written by itself: $(status_)"
	stays "$want"
	unmount_
	mount_
	is "$want"
	# What the policy says beside it was never written: the next check brings it, and moves nothing.
	check_
	stays "$want"
	publish 4
	brings 4
	[ "$(now_)" = "1.4.0 4" ] || fail "$(now_)"
	unmount_
done
[ -z "$(find "$W/state" -name '*.new')" ] || fail "left: $(find "$W/state" -name '*.new')"
