#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rollout of which less is left, or none: devices that have its version keep it, and nothing is refused or alarmed.
# A new device gets the older one. Only a revocation goes back.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
probation=0 repository
for v in 1 2 3; do release "$v"; done
rollout() { "$modelpub" rollout "$W/repo" det "$@" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub rollout $*"; }
publish 1
mount_
m() { expect "$1" "$2" "$modelfs" "${@:3}" -c "$CFG"; }
update_ det || fail "update: exit $?"
shows 1
publish 2
m 0 '1.2.0' update

for change in "--percent 0" --remove; do
	step "$change"
	# shellcheck disable=SC2086 # two words
	rollout --rollout 1.2.0 $change
	m 2 'nothing to do' update
	[ "$(readlink "$MNT/det/active")" = versions/1.2.0 ] || fail "active is $(readlink "$MNT/det/active")"
	m 0 'by rollout 1.1.0' explain det
done
jq -es 'all(.code != 16)' "$MNT/det/events" >/dev/null || fail "an alarm: $(tail -n 3 "$MNT/det/events")"

step "a version that others get: status says so"
rollout --version 1.2.0 --rollout again
m 2 'nothing to do' update
m 0 'note: *nothing to do' status det
publish 3 --percent 0
m 2 'rollout 1.3.0: not in the fraction' update det
m 0 'note: *1.2.0 is what this host is offered; rollout 1.3.0: not in the fraction' status det
m 0 'update: *not_selected: .*rollout 1.3.0: not in the fraction' explain det
passed_over() {
	m 0 'note: *1.2.0 is what this host is offered; rollout 1.3.0: not in the fraction' status det
	m 0 'update: *not_selected: .*rollout 1.3.0: not in the fraction' explain det
}
kill -KILL "$(serve_pid)"
passed_over
unmount_
passed_over
mount_
passed_over

step "a later version, and a revocation"
rollout --rollout 1.3.0 --percent 100
m 0 '1.3.0' update
m 0 'stays at 1.3.0' pin det 1.3.0
m 0 'note: *pinned to 1.3.0' status det
m 0 'no longer held' unpin det
m 0 '1.2.0 is active' rollback det
for gate in download staging activation; do m 0 "$gate waits: held: by a rollback, until 'modelfs unpin det'" explain det; done
m 0 'no longer held' unpin det
# Let go, it goes on by itself: it may be there before the command asks.
timeout 60 "$modelfs" update -c "$CFG" >>"$W/log" 2>&1 || [ $? = 2 ] || fail "update: not done"
[ "$(readlink "$MNT/det/active")" = versions/1.3.0 ] || fail "active is $(readlink "$MNT/det/active")"
revoke 3 rollback
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || true
[ "$(readlink "$MNT/det/active")" = versions/1.2.0 ] || fail "active is $(readlink "$MNT/det/active")"
unmount_
