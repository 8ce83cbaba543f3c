#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A version that fails its health check is refused, remembered and reported once; one that fails in its probation is
# taken back at once; "try later" blames nobody; an installation without a mount is checked when it is mounted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
unset config_extra
repository "det: {model_key: \"file:mk.bin\", health: {command: [$P/check, health], timeout: 10s, interval: 1s}, on_reject: [$P/check, rejected]}"
sed -i 's/probation: 10m/probation: 10s/' "$CFG"
for v in 1 2 3 4 5; do release "$v"; done
echo 0 >"$P/out/verdict"
chmod 0666 "$P/out/verdict"
# shellcheck disable=SC2016 # for the command
check 'echo "$1 $MODELFS_REASON $MODELFS_OUTCOME $MODELFS_VERSION" >>$P/out/log; [ "$1" != health ] || exit "$(cat $P/out/verdict)"'
log=$P/out/log
touch "$log"
chmod 0666 "$log"
committed() { [ "$(now_)" = "$1" ]; }

step "good: checked, swapped, observed, committed"
publish 1
mount_
update_ det || [ "$(now_)" != "null 0" ] || fail "update: exit $?"
shows 1
until_true 30 committed "1.1.0 1" || fail "never committed: $(cat "$MNT/det/status")"
grep -q 'health probation' "$log" || fail "not checked in its probation: $(cat "$log")"

step "refused"
echo 1 >"$P/out/verdict"
publish 2
! update_ det || fail "a version that fails its check became active"
shows 1
until_true 10 grep -qx 'rejected refused health_check_failed 1.2.0' "$log" || fail "on_reject did not run: $(cat "$log")"
echo 0 >"$P/out/verdict"
n=$(grep -c 'health candidate .*1.2.0' "$log")
expect 3 "known_bad" "$modelfs" update -c "$CFG" det
expect 3 "known_bad" "$modelfs" update -c "$CFG" det
[ "$(grep -c 'health candidate .*1.2.0' "$log")" = "$n" ] || fail "it was tried again"
shows 1

step "taken back in its probation"
publish 3
brings 3
echo 1 >"$P/out/verdict"
back() { [ "$(readlink "$MNT/det/active")" = versions/1.1.0 ]; }
until_true 20 back || fail "still there: $(cat "$MNT/det/status")"
shows 1
[ "$(now_)" = "1.1.0 1" ] || fail "floor: $(now_)"
"$modelfs" events -c "$CFG" det | grep -q 'rollback_triggered' || fail "no event: $("$modelfs" events -c "$CFG" det)"
echo 0 >"$P/out/verdict"
expect 3 "known_bad" "$modelfs" update -c "$CFG" det

step "try later"
echo 75 >"$P/out/verdict"
publish 4
expect 4 "health waits" "$modelfs" update -c "$CFG" det
shows 1
echo 0 >"$P/out/verdict"
brings 4
until_true 30 committed "1.4.0 4" || fail "never committed: $(cat "$MNT/det/status")"
unmount_

step "installed without a mount"
install_ "$W/b5" || fail "install: exit $?"
[ "$(now_)" = "1.5.0 4" ] || fail "committed without its check: $(now_)"
mount_
until_true 30 committed "1.5.0 5" || fail "never committed: $(cat "$MNT/det/status")"
shows 5
unmount_
