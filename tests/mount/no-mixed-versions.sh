#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who opens the files of `active` one after the other gets all of one version, through installs and deaths of serve;
# who starts after an install has returned gets the new one.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program loader
keys
swaps=${SWAPS:-12}
for n in $(seq 1 $((swaps + 1))); do
	mkdir "$W/v"
	for f in a.bin b.bin c.bin; do
		# shellcheck disable=SC2059 # the format is the byte
		head -c 100000 /dev/zero | tr '\0' "\\$(printf %03o "$n")" >"$W/v/$f"
	done
	pack "1.0.$n" "$n" "$W/b$n" "$W/v/a.bin" "$W/v/b.bin" "$W/v/c.bin"
	rm -r "$W/v"
done

swap_under_loaders() { # TIER KILL_EVERY
	local n pid new l loaders=() before
	config "det: {serve: $1, model_key: \"file:mk.bin\"}"
	rm -rf "$W/stop" "$W/state" "$W/store"
	echo 1 >"$W/floor"
	install_ "$W/b1" || fail "install: exit $?"
	mount_
	for l in 1 2 3 4; do
		"$B/loader" "$MNT/det/active" "$W/stop" "$W/floor" "$l" a.bin b.bin c.bin >"$W/loader.$l" 2>&1 &
		loaders+=("$!")
	done
	jobs_started=("${loaders[@]}")
	for n in $(seq 2 $((swaps + 1))); do
		if [ $((n % $2)) = 0 ]; then
			# while loads of the old version are under way and the swap is on its way
			install_ "$W/b$n" &
			before=$!
			jobs_started=("${loaders[@]}" "$before")
			sleep "0.0$((n % 9))"
			pid=$(serve_pid) && kill -KILL "$pid"
			wait "$before" || install_ "$W/b$n" || [ $? = 2 ] || fail "install of version $n after a kill"
			jobs_started=("${loaders[@]}")
		else
			install_ "$W/b$n" || fail "install of version $n: exit $?"
		fi
		echo "$n" >"$W/floor.new" && mv "$W/floor.new" "$W/floor"
		sleep 0.1
	done
	touch "$W/stop"
	for l in 1 2 3 4; do
		wait "${loaders[$((l - 1))]}" || fail "$1: $(cat "$W/loader.$l")"
	done
	jobs_started=()
	echo "  $1: $swaps swaps, $(cat "$W"/loader.* | tr '\n' ' ')"
	unmount_
}
tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
for tier in $tiers; do
	step "$tier"
	swap_under_loaders "$tier" 1000000
	step "$tier, serve killed"
	swap_under_loaders "$tier" 3
done
[ "$tiers" != paged ] || skip "resident tier: Linux $(uname -r) has no FUSE passthrough (paged passed)"
