#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of serve, ten times during concurrent reads: no error, no wrong byte, in both tiers, also without RESEND.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program hammer
keys
gen raw 48M 11 "$W/weights.bin"
kills=${KILLS:-10}

crash() { # TIER
	local n pid new hammer
	config "det: {serve: $1, model_key: \"file:mk.bin\"}"
	rm -f "$W/stop"
	mount_
	wait_tier det "$1"
	"$B/hammer" "$MNT/det/active/weights.bin" "$W/weights.bin" "$W/stop" 6 >"$W/hammer.out" 2>&1 &
	hammer=$!
	jobs_started=("$hammer")
	for n in $(seq 1 "$kills"); do
		sleep "0.$((n % 4 + 2))"
		pid=$(serve_pid) || fail "no serve_pid in status --json (kill $n)"
		kill -KILL "$pid" || fail "serve $pid was gone before kill $n"
		serve_changed() { new=$(serve_pid 2>/dev/null) && [ "$new" != "$pid" ]; }
		until_true 10 serve_changed || fail "no new serve within 10 s of kill $n"
	done
	sleep 0.5
	touch "$W/stop"
	timeout 40 tail --pid="$hammer" -f /dev/null || fail "the readers hang after $kills kills"
	jobs_started=()
	wait "$hammer" || fail "a reader failed: $(cat "$W/hammer.out")"
	cat "$W/hammer.out" >>"$W/log"
	echo "  $1: $kills kills, $(tr '\n' ' ' <"$W/hammer.out")"
	same "$W/weights.bin" "$MNT/det/active/weights.bin"
	awk '/^modelfs_serve_restarts_total / {n = $2} END {exit !(n >= '"$kills"')}' "$MNT/.modelfs/metrics.prom" ||
		fail "metrics do not count the restarts: $(grep restarts "$MNT/.modelfs/metrics.prom")"
	unmount_
}

config
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"
tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
for tier in $tiers; do
	step "$tier"
	crash "$tier"
done
step "paged, without RESEND"
export MODELFS_TEST_NO_RESEND=1
crash paged
unset MODELFS_TEST_NO_RESEND
[ "$tiers" != paged ] || skip "resident tier: Linux $(uname -r) has no FUSE passthrough (paged passed)"
