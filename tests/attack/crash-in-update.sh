#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An update from release 1 to release 2 is ended, with all its processes, before every call that changes a disk, and
# serve is killed at moments all over one: release 1 or 2 is there whole, the floor is never lower, what is active
# is readable all the time, and the next update ends well.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
need_program cutcalls
repository
release 1
release 2
publish 1
probation=0s
sed -i 's/probation: 10m/probation: 0s/' "$CFG"
update_ || fail "update: exit $?"
[ "$(now_)" = "1.1.0 1" ] || fail "$(now_)"
publish 2
cp -a "$W/state" "$W/state.1"
cp -a "$W/store" "$W/store.1"
restore() {
	rm -rf "$W/state" "$W/store"
	cp -a "$W/state.1" "$W/state"
	cp -a "$W/store.1" "$W/store"
}

step "the crash matrix"
restore
"$B/cutcalls" 0 "$modelfs" update -c "$CFG" >"$W/calls" 2>&1 || fail "without a cut: exit $?: $(cat "$W/calls")"
calls=$(tail -n 1 "$W/calls")
[ "$calls" -gt 60 ] || fail "only $calls calls counted"
stride=$((${MFS_CUTS:-45} > calls ? 1 : calls / ${MFS_CUTS:-45} + 1))
step "$calls calls, every ${stride}th"
for ((i = 1; i <= calls; i += stride)); do
	restore
	rc=0
	"$B/cutcalls" "$i" "$modelfs" update -c "$CFG" >>"$W/log" 2>&1 || rc=$?
	[ "$rc" = 137 ] || [ "$rc" = 0 ] || fail "cut $i: exit $rc"
	state=$(now_) || fail "cut $i: no status"
	case $state in
	"1.1.0 1" | "1.2.0 2") ;;
	*) fail "cut $i: active and floor are: $state" ;;
	esac
	timeout 60 "$modelfs" verify -c "$CFG" >>"$W/log" 2>&1 || fail "cut $i ($state): what is active is not whole"
	rc=0
	update_ || rc=$?
	{ [ "$rc" = 0 ] && [ "$state" = "1.1.0 1" ]; } || { [ "$rc" = 2 ] && [ "$state" = "1.2.0 2" ]; } ||
		fail "cut $i ($state): the next update: exit $rc: $(tail -n 5 "$W/log")"
	[ "$(now_)" = "1.2.0 2" ] || fail "cut $i: after the next update: $(now_)"
done

( need_fuse ) >/dev/null 2>&1 || exit 0
step "serve killed in an update"
for ((k = 0; k < ${MFS_KILLS:-8}; k++)); do
	restore
	mount_
	# A reader that never stops: no error, never half of two versions.
	(
		while [ ! -e "$W/stop" ]; do
			v=$(cat "$MNT/det/active/small.bin" | cmp -s - "$W/src1/small.bin" && echo 1 || echo 2)
			[ "$v" = 1 ] || cat "$MNT/det/active/small.bin" | cmp -s - "$W/src2/small.bin" || { echo "a read failed" >"$W/broken"; exit 1; }
		done
	) &
	reader=$!
	{ update_ || true; } &
	updater=$!
	sleep "0.$((k * 4 % 10))$k"
	kill -9 "$(serve_pid)" 2>/dev/null || true
	wait "$updater" || true
	"$modelfs" wait -c "$CFG" det --version 1.2.0 --timeout 5s >>"$W/log" 2>&1 || update_ || [ $? = 2 ] ||
		fail "kill $k: the next update: $(tail -n 5 "$W/log")"
	touch "$W/stop"
	wait "$reader" || fail "kill $k: $(cat "$W/broken")"
	rm -f "$W/stop"
	shows 2
	[ "$(now_)" = "1.2.0 2" ] || fail "kill $k: $(now_)"
	unmount_
done
