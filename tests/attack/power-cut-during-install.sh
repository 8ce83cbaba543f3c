#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An install of release 2 over release 1 is ended, with all its processes, before every single call that changes a
# disk: release 1 or release 2 is there whole, the floor is never lower, and the next install succeeds and leaves nothing.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_program cutcalls
fixture
mounts=no
( need_fuse ) >/dev/null 2>&1 && mounts=yes
gen raw 9000 7 "$W/old.bin"
pack 0.9.0 1 "$W/b1x" "$W/old.bin"
cp -a "$W/state" "$W/state.1"
cp -a "$W/store" "$W/store.1"
restore() {
	rm -rf "$W/state" "$W/store"
	cp -a "$W/state.1" "$W/state"
	cp -a "$W/store.1" "$W/store"
}
now() { status_ --json | jq -r '.models[0] | "\(.active.version) \(.floor.release)"'; }

# whole: what the mount shows is the source of the version it says.
whole() {
	local v
	mount_
	v=$(readlink "$MNT/det/active") || fail "cut $1: no active version"
	case $v in
	versions/1.1.0) diff -r "$W/src1" "$MNT/det/active" || fail "cut $1: release 1 differs" ;;
	versions/1.2.0) diff -r "$W/src2" "$MNT/det/active" || fail "cut $1: release 2 differs" ;;
	*) fail "cut $1: $v is active" ;;
	esac
	unmount_
}
sweep_cuts() { # COMMAND...: prints nothing; fails at the first cut after which something is wrong
	local calls i rc state stride
	restore
	"$B/cutcalls" 0 "$@" >"$W/calls" 2>&1 || fail "$* without a cut: exit $?: $(cat "$W/calls")"
	calls=$(tail -n 1 "$W/calls")
	[ "$calls" -gt 20 ] || fail "only $calls calls counted"
	# About fifteen cuts anywhere, and each of the last thirty: they are those of the trusted state.
	stride=$((calls / 15 + 1))
	step "$calls calls"
	for ((i = 1; i <= calls; i++)); do
		[ $((i % stride)) = 0 ] || [ "$i" -gt $((calls - 30)) ] || continue
		restore
		rc=0
		"$B/cutcalls" "$i" "$@" >>"$W/log" 2>&1 || rc=$?
		[ "$rc" = 137 ] || [ "$rc" = 0 ] || fail "cut $i: exit $rc"
		state=$(now) || fail "cut $i: no status"
		case $state in
		"1.1.0 1" | "1.2.0 2") ;;
		*) fail "cut $i: active and floor are: $state" ;;
		esac
		if [ "$mounts" = yes ] && { [ $((i % 9)) = 0 ] || [ "$state" != "${last:-}" ]; }; then whole "$i"; fi
		last=$state
		rc=0
		timeout 60 "$modelfs" install -c "$CFG" "$W/b2" >>"$W/log" 2>&1 || rc=$?
		{ [ "$rc" = 0 ] && [ "$state" = "1.1.0 1" ]; } || { [ "$rc" = 2 ] && [ "$state" = "1.2.0 2" ]; } ||
			fail "cut $i ($state): the next install: exit $rc"
		[ "$(now)" = "1.2.0 2" ] || fail "cut $i: after the next install: $(now)"
		[ -z "$(ls -A "$W/store/staging")" ] || fail "cut $i: left in staging: $(ls "$W/store/staging")"
		[ -z "$(find "$W/store" -name '.*.new')" ] || fail "cut $i: left: $(find "$W/store" -name '.*.new')"
		rc=0
		timeout 60 "$modelfs" install -c "$CFG" "$W/b1x" >"$W/expect.out" 2>&1 || rc=$?
		[ "$rc" = 3 ] && grep -q rollback_attempt "$W/expect.out" || fail "cut $i: release 1: exit $rc: $(cat "$W/expect.out")"
	done
	timeout 60 "$modelfs" verify -c "$CFG" >>"$W/log" 2>&1 || fail "verify: exit $?"
}
sweep_cuts "$modelfs" install -c "$CFG" "$W/b2"

# A rollback that was cut off is held if it happened: the next update must not undo it.
step "rollback"
install_ "$W/b2" || [ $? = 2 ] || fail "install of release 2"
rm -rf "$W/state.1" "$W/store.1"
cp -a "$W/state" "$W/state.1"
cp -a "$W/store" "$W/store.1"
"$B/cutcalls" 0 "$modelfs" rollback -c "$CFG" det >"$W/calls" 2>&1 || fail "rollback without a cut: exit $?"
calls=$(tail -n 1 "$W/calls")
[ "$calls" -gt 20 ] || fail "only $calls calls counted"
for ((i = calls - 24; i <= calls; i++)); do
	restore
	"$B/cutcalls" "$i" "$modelfs" rollback -c "$CFG" det >>"$W/log" 2>&1 || true
	state=$(status_ --json | jq -r '.models[0] | "\(.active.version) \(.floor.release) \(.held)"')
	case $state in
	"1.2.0 2 false" | "1.2.0 2 true" | "1.1.0 2 true") ;;
	*) fail "rollback cut $i: active, floor and held are: $state" ;;
	esac
done
