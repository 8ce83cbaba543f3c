#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of keeper during reads, under a service manager with a descriptor store: the next keeper
# goes on with the connection: no error, no wrong byte, in both tiers.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_resident
need_program hammer
need_program fdstore
keys
config 'det: {serve: paged, model_key: "file:mk.bin"}'
gen raw 24M 13 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"

restarted() { # TIER
	local n old new hammer manager
	step "$1"
	config "det: {serve: $1, model_key: \"file:mk.bin\"}"
	rm -f "$W/stop" "$W/notify"
	"$B/fdstore" "$W/notify" "$modelfs" mount -f -c "$CFG" >>"$W/log" 2>&1 &
	manager=$!
	at_exit "kill $manager 2>/dev/null; timeout 20 $modelfs unmount --force -c $CFG >/dev/null 2>&1 || true"
	until_true 20 mountpoint -q "$MNT" || fail "not mounted within 20 s"
	wait_tier det "$1"
	"$B/hammer" "$MNT/det/active/weights.bin" "$W/weights.bin" "$W/stop" 4 >"$W/hammer.out" 2>&1 &
	hammer=$!
	jobs_started=("$hammer")
	for n in 1 2 3; do
		sleep 0.5
		old=$(keeper_pid) || fail "no pid file"
		kill -KILL "$old" || fail "keeper $old was gone before kill $n"
		keeper_changed() { new=$(keeper_pid 2>/dev/null) && [ "$new" != "$old" ] && serve_pid >/dev/null 2>&1; }
		until_true 10 keeper_changed || fail "no new keeper within 10 s of kill $n"
	done
	touch "$W/stop"
	timeout 40 tail --pid="$hammer" -f /dev/null || fail "the readers hang"
	jobs_started=()
	wait "$hammer" || fail "readers saw it: $(cat "$W/hammer.out")"
	tier_is det "$1" || fail "the tier changed"
	kill -TERM "$manager"
	wait "$manager" || fail "keeper ended with $?"
	! mountpoint -q "$MNT" || fail "still mounted"
}
restarted paged
restarted resident
