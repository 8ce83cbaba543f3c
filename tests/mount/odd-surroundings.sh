#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Commands in odd surroundings: a umask that forbids everything, closed descriptors, a full or closed standard output,
# a folder that is gone. What is made is usable, and never is something shown that was not.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
config
for v in 1 2; do
	gen raw 300K "$v" "$W/weights$v.bin"
	pack "1.$v.0" "$v" "$W/b$v" "$W/weights$v.bin"
done
step "umask 0777"
(umask 0777 && "$modelfs" install -c "$CFG" "$W/b1" >/dev/null 2>&1) || fail "install: exit $?"
expect 0 'all as signed' "$modelfs" verify -c "$CFG" det
step "closed descriptors"
"$modelfs" install -c "$CFG" "$W/b2" <&- >&- 2>&- || fail "install: exit $?"
[ "$(status_ --json | jq -r '.models[0].active.version')" = 1.2.0 ] || fail "$(status_)"
expect 0 'all as signed' "$modelfs" verify -c "$CFG" det
step "a standard output that takes nothing"
shown() {
	local rc=0
	"$modelfs" "$@" -c "$CFG" >/dev/full 2>"$W/err" || rc=$?
	[ "$rc" = 1 ] && grep -q 'cannot be written' "$W/err" || fail "$*: exit $rc: $(cat "$W/err")"
	rc=0
	{ "$modelfs" "$@" -c "$CFG" 2>"$W/err" || rc=$?; } | :
	[ ! -s "$W/err" ] || grep -q 'cannot be written' "$W/err" || fail "$*: into a closed pipe: $(cat "$W/err")"
}
for c in status "status --json" events "config show" "keys show"; do
	# shellcheck disable=SC2086 # words
	shown $c
done
step "a working folder that is gone"
mkdir "$W/gone"
(cd "$W/gone" && rmdir "$W/gone" && timeout 20 "$modelfs" status -c "$CFG" >/dev/null) || fail "status: exit $?"
need_fuse
"$modelfs" mount -c "$CFG" <&- >&- 2>&- || fail "mount with closed descriptors: exit $?"
at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
same "$W/weights2.bin" "$MNT/det/active/weights2.bin"
shown status
