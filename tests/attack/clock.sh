#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The clock in an attacker's hand: set back behind what was signed, so that yesterday's metadata looks fresh; set far
# forward, so that everything has expired; and right again. It is said, nothing new is activated meanwhile, what is
# active is served, a revocation acts all the same, no floor is lower, and nobody stays locked out.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
# shellcheck source=../lib/clock.sh
. "$(dirname "$0")/../lib/clock.sh"
size=60K
repository
for v in 1 2 3 4 5; do release "$v"; done
hostile_start "$W/repo"
follow "$HOSTILE"
sed -i 's|probation: 10m|probation: 0|' "$CFG"
# Everybody lives 40 days from now: what binds is what was signed, not when modelfs was built.
today=$((40 * day))
clock modelfs "$today"
clock modelpub "$today"
publish 1
cp -a "$W/repo" "$W/yesterday"
mount_
brings 1
floor() { [ "$(now_)" = "1.$1.0 $1" ] || fail "active and floor: $(now_)"; }
floor 1

step "a day later"
today=$((today + day + hour))
clock modelfs "$today"
clock modelpub "$today"
publish 2
brings 2
floor 2

unset_now() { # RELEASE: the clock is said to be behind, and nothing new comes
	expect 4 "clock_unset: the clock says .*, but it is .* at least" "$modelfs" update -c "$CFG" det
	[ "$(cycle_ .check.outcome)" = clock_unset ] && grep -q '^note: .*clock_unset: the clock says' "$MNT/det/status" ||
		fail "$(cycle_ .check) $(cat "$MNT/det/status")"
	shows "$1"
	floor "$1"
}
step "back behind the policy, but not behind the build: nothing new is activated"
publish 3
clock modelfs $((today - 20 * day))
unset_now 2
"$modelfs" events -c "$CFG" --json | jq -es 'any(.source == "refresh" and .outcome == "clock_unset")' >>"$W/log" ||
	fail "no event: $("$modelfs" events -c "$CFG" | tail -n 3)"
fresh_serve
unset_now 2
unmount_
expect 4 "clock_unset" "$modelfs" update -c "$CFG" det
mount_
shows 2
floor 2

step "and yesterday's metadata, which has expired, is not fresh again for that"
mv "$W/repo" "$W/true"
cp -a "$W/yesterday" "$W/repo"
expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
shows 2
rm -r "$W/repo"
mv "$W/true" "$W/repo"

step "a revocation acts all the same"
revoke 2 rollback
rc=0
"$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || rc=$?
[ "$rc" != 0 ] || fail "a check with a clock that is behind: exit 0"
shows 1
[ "$(now_)" = "1.1.0 2" ] || fail "active and floor: $(now_)"

step "right again"
clock modelfs "$today"
update_ det || [ "$(now_)" = "1.3.0 3" ] || fail "update: exit $?"
shows 3
floor 3

step "far forward: everything has expired"
publish 4
ahead=$((today + 3000 * day))
clock modelfs "$ahead"
expired_now() { # RELEASE
	expect 4 "metadata_expired: " "$modelfs" update -c "$CFG" det
	[ "$(cycle_ .check.outcome)" = metadata_expired ] && grep -q '^updates: .*; metadata expired' "$MNT/det/status" ||
		fail "$(cycle_ .check) $(cat "$MNT/det/status")"
	shows "$1"
	floor "$1"
}
expired_now 3
fresh_serve
expired_now 3
unmount_
mount_
shows 3
clock modelfs $((today + 3 * day)) # the timestamp alone has expired: it is seen, and refused
expired_now 3

step "right again: what came meanwhile is not passed over, and nobody waits for years"
clock modelfs "$today"
fresh_serve
soon=$(($(date +%s) + today + day + hour)) # the longest interval
waits() { [ "$(date -d "$(cycle_ .next_check)" +%s)" -le "$soon" ]; }
until_true 10 waits || fail "the next check: $(cycle_ .next_check)"
update_ det || [ "$(now_)" = "1.4.0 4" ] || fail "update: exit $?"
shows 4
floor 4
[ "$(cycle_ .check.outcome)" = ok ] || fail "$(cycle_ .check)"
! grep -q "unproven\|metadata expired\|clock" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"

step "forward in the middle of an update: its time is over, and it comes when the clock is right"
publish 5
fault stall count=all after=100 path=/blobs/
expect 0 "1.5.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 faulted || fail "nothing is fetched: $(cycle_ .)"
clock modelfs "$ahead"
faults_clear
fresh_serve
over() { [ "$(cycle_ .next)" = null ]; }
until_true 60 over || fail "$(cycle_ .)"
expect 4 "metadata_expired: " "$modelfs" update -c "$CFG" det
shows 4
floor 4
[ "$(cycle_ .refused)" = null ] || fail "condemned: $(cycle_ .refused)"
clock modelfs "$today"
fresh_serve
update_ det || [ "$(now_)" = "1.5.0 5" ] || fail "update: exit $?"
shows 5
floor 5
unmount_
