#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The kill switch: a revocation acts at the refresh that brings it, also on a pinned version and on one that a
# process is loading, and at the mount after one that came while nothing was mounted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# a hook that fails is an event with what it said, wherever its user may write
probation=0 repository "det: {model_key: \"file:mk.bin\", on_change: [/bin/sh, -c, 'echo because \$MODELFS_REASON; exit 1']}"
for v in 1 2 3; do release "$v"; done
publish 1
mount_
m() { expect "$1" "$2" "$modelfs" "${@:3}" -c "$CFG"; }
update_ det || fail "update: exit $?"
until_true 20 grep -q 1.1.0 "$MNT/det/generation" || fail "1.1.0 is not active"
publish 2
m 0 '1.2.0' update
m 0 '.' pin det 1.2.0

step "revoked with rollback: a pinned version, while a process is loading it"
exec 9<"$MNT/det/active/weights.bin"
revoke 2 rollback
rc=0
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || rc=$?
[ "$(readlink "$MNT/det/active")" = versions/1.1.0 ] || fail "active is $(readlink "$MNT/det/active") after the check that brought the revocation (exit $rc)"
cmp "$W/src1/small.bin" "$MNT/det/active/small.bin" || fail "a loader cannot go on"
exec 9<&-
until_true 20 grep -q 'because rollback' "$MNT/det/events" || fail "on_change did not run: $(tail -n 3 "$MNT/det/events")"
jq -es 'any(.code == 23 and .from == "1.2.0" and .to == "1.1.0")' "$MNT/det/events" >/dev/null || fail "no event says so: $(tail -n 3 "$MNT/det/events")"

step "withdrawn while nothing is mounted: acts before anything is shown"
unmount_
revoke 1 withdraw
rc=0
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || rc=$?
mount_
[ ! -e "$MNT/det/active" ] || fail "a withdrawn version is shown"
m 0 'revoked' status det
m 3 'revoked' install "$W/b1"

step "a later version ends it"
publish 3
m 0 '1.3.0' update
[ "$(readlink "$MNT/det/active")" = versions/1.3.0 ] || fail "1.3.0 is not active"
unmount_
