#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whoever fills the disk that holds the state beyond its reserve and then makes modelfs start anew brings back
# nothing that was revoked: not by a crash of serve, not by a reload, not by a crash of keeper where a service manager
# keeps its descriptors. An unmount tries to write once more, and says what it could not.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fdstore
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
size=20K
repository
sed -i "s|probation: 10m|probation: 0, retain: 2|" "$CFG"
mkdir -p "$W/state"
release 1
release 2
mount -t tmpfs -o size=1m,mode=0700 modelfs-test "$W/state" 2>/dev/null || skip "cannot mount a tmpfs here"
at_exit "umount -l $W/state"
nothing() { [ ! -e "$MNT/det/active" ] || fail "$1: $(cat "$MNT/det/status")"; }
state_() { status_ --json 2>>"$W/log" | jq -r ".state.$1"; }
started() { serve_pid >/dev/null 2>&1; }
serve_changed() { local new; new=$(serve_pid 2>/dev/null) && [ "$new" != "$serve" ]; }
# Nobody can be asked again: what is known is in memory alone.
gone() { mv "$W/repo" "$W/repo.away"; }

publish 1
mount_
update_ det || fail "update: exit $?"
unmount_
rm -f "$W/notify"
"$B/fdstore" "$W/notify" "$modelfs" mount -f -c "$CFG" >>"$W/log" 2>&1 &
manager=$!
at_exit "kill $manager 2>/dev/null; timeout 20 $modelfs unmount --force -c $CFG >/dev/null 2>&1 || true"
until_true 20 started || fail "not mounted within 20 s"
publish 2
update_ det || fail "update: exit $?"
shows 2
rm -rf "$W/state/reserve"
cat /dev/zero >"$W/state/filler" 2>/dev/null || true
# Nothing else is offered: an older rollout would bring 1.1.0 instead, once there is room.
"$modelpub" rollout "$W/repo" det --keys "$W/keys" --rollout 1.1.0 --remove >>"$W/log" 2>&1 || fail "rollout"
"$modelpub" revoke "$W/repo" det 1.2.0 --keys "$W/keys" --action withdraw --reason leak >>"$W/log" 2>&1 || fail "revoke"
timeout 30 "$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || true
nothing "after the check"
gone

step "a crash of serve, three times"
for n in 1 2 3; do
	fresh_serve
	nothing "after crash $n"
	[ "$(state_ unwritten)" != null ] || fail "$(status_ --json | jq -c .state)"
done
expect 1 "fail  state: a revocation acts from memory" "$modelfs" doctor -c "$CFG"

step "a reload"
serve=$(serve_pid)
kill -HUP "$(keeper_pid)"
until_true 20 serve_changed || fail "not reloaded"
nothing "after a reload"

step "a crash of keeper"
old=$(keeper_pid)
kill -KILL "$old"
keeper_changed() { local new; new=$(keeper_pid 2>/dev/null) && [ "$new" != "$old" ] && started; }
until_true 20 keeper_changed || fail "no new keeper"
nothing "after a crash of keeper"
[ "$(state_ unwritten)" != null ] || fail "$(status_ --json | jq -c .state)"

step "an unmount that cannot write says what is lost"
kill -TERM "$manager"
wait "$manager" || fail "keeper ended with $?"
grep -q "det: the revocation of version 1.2.0 (withdraw) could not be written and ends with this mount" "$W/log" ||
	fail "not said: $(tail -n 20 "$W/log")"
grep -q "what acted from memory alone is not on the disk" "$W/log" || fail "not said: $(tail -n 20 "$W/log")"

step "an unmount with room writes it"
mv "$W/repo.away" "$W/repo"
mount_
timeout 30 "$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || true
nothing "after the check"
gone
rm -f "$W/state/filler"
unmount_
mount_
nothing "after an unmount with room"
[ "$(state_ unwritten)" = null ] || fail "$(status_ --json | jq -c .state)"
unmount_
