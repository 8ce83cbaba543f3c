#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Unreadable, deleted or replayed trusted state never lowers the floor: release 1 stays refused after release 2.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
mounts=no
( need_fuse ) >/dev/null 2>&1 && mounts=yes
gen raw 300K 7 "$W/other.bin"
pack 0.9.0 1 "$W/b1x" "$W/other.bin"
pack 0.9.1 2 "$W/b2x" "$W/other.bin"
cp -a "$W/state" "$W/state.1"
install_ "$W/b2" || fail "install of release 2: exit $?"
cp -a "$W/state" "$W/state.2"
cp -a "$W/store" "$W/store.2"
ls "$W/state" >>"$W/log"

# After the damage: release 1 must not get in, by no command, and what is mounted is release 2 or nothing.
never_lower() { # WHAT
	local rc=0 v
	for b in b1x b2x; do
		rc=0
		timeout 60 "$modelfs" install -c "$CFG" "$W/$b" >"$W/expect.out" 2>&1 || rc=$?
		if [ "$rc" = 0 ] || [ "$rc" = 2 ]; then fail "$1: $b (not above release 2) was installed: exit $rc"; fi
		grep -qE 'state_replayed|malformed|signature_invalid|rollback_attempt|counter_unavailable|io:' "$W/expect.out" ||
			fail "$1: no outcome named: $(cat "$W/expect.out")"
	done
	if [ "$mounts" = yes ]; then
		rc=0
		timeout 30 "$modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || rc=$?
		if mountpoint -q "$MNT"; then
			v=$(readlink "$MNT/det/active" 2>/dev/null || true)
			timeout 30 "$modelfs" unmount -c "$CFG" >>"$W/log" 2>&1 || fail "$1: unmount"
			[ -z "$v" ] || [ "$v" = versions/1.2.0 ] || fail "$1: mounted as $v"
		fi
	fi
	rc=0
	timeout 60 "$modelfs" recover -c "$CFG" >"$W/recover.out" 2>&1 || rc=$?
	cat "$W/recover.out" >>"$W/log"
	echo "  $1: refused; recover: exit $rc"
	for b in b1x b2x; do
		rc=0
		timeout 60 "$modelfs" install -c "$CFG" "$W/$b" >"$W/expect.out" 2>&1 || rc=$?
		[ "$rc" != 0 ] && [ "$rc" != 2 ] || fail "$1: after recover $b (not above release 2) was installed: exit $rc"
	done
	v=$(status_ --json 2>>"$W/log" | jq -r '.models[0].active.version // empty') || true
	[ -z "$v" ] || [ "$v" = 1.2.0 ] || fail "$1: after recover $v is active"
}
restore() {
	rm -rf "$W/state" "$W/store"
	cp -a "$W/state.2" "$W/state"
	cp -a "$W/store.2" "$W/store"
}
s=$W/state
for off in 0 5 20 60 -1; do
	restore; flip "$s/anchor.0" "$off"; never_lower "anchor.0 flipped at $off"
	restore; flip "$s/anchor.1" "$off"; never_lower "anchor.1 flipped at $off"
done
restore; flip "$s/anchor.0" 60; flip "$s/anchor.1" 60; never_lower "both anchors flipped"
restore; : >"$s/anchor.0"; : >"$s/anchor.1"; never_lower "both anchors empty"
restore; truncate -s -1 "$s/anchor.0"; truncate -s -1 "$s/anchor.1"; never_lower "both anchors cut"
restore; rm "$s/anchor.0"; never_lower "anchor.0 deleted"
restore; rm "$s/anchor.1"; never_lower "anchor.1 deleted"
restore; rm "$s/anchor.0" "$s/anchor.1"; never_lower "both anchors deleted"
restore; rm "$s/counter"; never_lower "counter deleted"
restore; : >"$s/counter"; never_lower "counter empty"
restore; rm "$s/anchor.0" "$s/anchor.1" "$s/counter"; never_lower "anchors and counter deleted"
restore; rm "$s/key"; never_lower "state key deleted"
restore; rm -rf "${s:?}"/*; never_lower "state emptied"
restore; rm -rf "${s:?}"; never_lower "state deleted"
restore; cp -a "$W"/state.1/anchor.* "$s/"; never_lower "old anchors replayed"
restore; cp -a "$W"/state.1/anchor.0 "$s/"; never_lower "old anchor.0 replayed"
restore; cp -a "$W"/state.1/anchor.1 "$s/"; never_lower "old anchor.1 replayed"
restore; cp -a "$W"/state.1/anchor.0 "$s/anchor.0"; cp -a "$W"/state.1/anchor.0 "$s/anchor.1"; never_lower "one old anchor twice"
restore
status_ det | grep -q 1.2.0 || fail "the untouched state does not work any more"
