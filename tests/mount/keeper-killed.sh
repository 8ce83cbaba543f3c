#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of keeper during reads: no process hangs, and the next mount recovers by itself.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program hammer
keys
config 'det: {serve: paged, model_key: "file:mk.bin"}'
gen raw 32M 12 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"

for round in 1 2; do
	step "round $round"
	rm -f "$W/stop"
	mount_
	same "$W/weights.bin" "$MNT/det/active/weights.bin"
	# Readers may get errors now, but never a wrong byte, and each must come to its end.
	"$B/hammer" "$MNT/det/active/weights.bin" "$W/weights.bin" "$W/stop" 6 >"$W/hammer.out" 2>&1 &
	hammer=$!
	jobs_started=("$hammer")
	sleep 0.5
	keeper=$(keeper_pid) || fail "no pid file in the run folder: $(ls "$W/run")"
	serve=$(serve_pid) || fail "no serve_pid in status --json"
	kill -KILL "$keeper" || fail "keeper $keeper was not running"
	touch "$W/stop"
	timeout 30 tail --pid="$hammer" -f /dev/null || {
		for t in $(pids_below "$W"); do echo "$t $(grep -E 'State|Name' "/proc/$t/status" | tr '\n' ' ') $(head -n 3 "/proc/$t/stack" 2>/dev/null)"; done
		fail "readers hang 30 s after keeper was killed"
	}
	jobs_started=()
	wait "$hammer" || true
	! grep -q 'WRONG BYTE' "$W/hammer.out" || fail "a wrong byte: $(cat "$W/hammer.out")"
	serve_gone() { ! kill -0 "$serve" 2>/dev/null; }
	until_true 10 serve_gone || fail "serve $serve outlived its keeper"
	for c in "stat $MNT" "ls $MNT/det" "cat $MNT/det/active/weights.bin"; do
		rc=0
		timeout -k 1 10 bash -c "$c" >/dev/null 2>&1 || rc=$?
		[ "$rc" != 124 ] && [ "$rc" != 137 ] || fail "$c hangs after keeper was killed"
	done
	rc=0
	timeout 20 "$modelfs" status -c "$CFG" >>"$W/log" 2>&1 || rc=$?
	[ "$rc" != 124 ] || fail "modelfs status hangs after keeper was killed"
done
step "the next mount, with readers that still hold files of the dead one"
mount_
same "$W/weights.bin" "$MNT/det/active/weights.bin"
exec 8<"$MNT/det/active/weights.bin"
kill -KILL "$(keeper_pid)"
mount_
same "$W/weights.bin" "$MNT/det/active/weights.bin"
rc=0
timeout -k 1 10 head -c 100 <&8 >/dev/null 2>&1 || rc=$?
[ "$rc" != 124 ] && [ "$rc" != 137 ] || fail "a read of a file of the dead mount hangs"
exec 8<&-
[ "$(awk -v m="$MNT" '$5 == m' /proc/self/mountinfo | wc -l)" = 1 ] || fail "the dead mount lies below the new one"
unmount_
