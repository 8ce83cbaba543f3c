# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts and by tests/run. Needs bash.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by the scripts
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
cores() { nproc 2>/dev/null || echo 2; }

# work NAME: make a private folder $work and remove it, with all that still runs or is mounted
# below it, when the script ends, fails or is interrupted. `at_exit COMMAND` adds to the ending.
jobs_started=()
at_exit_commands=()
at_exit() { at_exit_commands=("$*" "${at_exit_commands[@]}"); }
work() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/modelfs-$1.XXXXXX")
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

finish() {
	local rc=$? c p all=()
	trap '' INT TERM HUP
	trap - EXIT ERR
	set +e
	for p in "${jobs_started[@]}"; do mapfile -t -O "${#all[@]}" all < <(descendants "$p"; echo "$p"); done
	[ "${#all[@]}" = 0 ] || kill -TERM "${all[@]}" 2>/dev/null
	for p in "${jobs_started[@]}"; do wait "$p" 2>/dev/null; done
	for p in "${all[@]}"; do
		for _ in $(seq 150); do [ -d "/proc/$p" ] || break; sleep 0.2; done
	done
	for c in "${at_exit_commands[@]}"; do eval "$c"; done
	sweep "$work"
	rm -rf --one-file-system "$work"
	exit "$rc"
}

# What a process has started and still has, children of children too.
descendants() {
	local c
	for c in $(ps -o pid= --ppid "$1" 2>/dev/null); do
		descendants "$c"
		echo "$c"
	done
}

mounts_below() { awk -v d="$1/" 'index($5 "/", d) == 1 {print $5}' /proc/self/mountinfo | sort -r; }

# Processes that carry this private folder in their command line (it is unique to one run). One look at all of them;
# the folder comes on standard input, else grep would find itself.
pids_below() {
	# shellcheck disable=SC2062 # files, not a pattern
	{ grep -lsaF --file=- /proc/[0-9]*/cmdline <<<"$1/" || true; } | sed -n "s|^/proc/\([0-9]*\)/.*|\1|; /^$$\$/!p"
}

# sweep FOLDER: end and unmount what was left below a private folder. Says what it found.
sweep() {
	local m p left=0 _
	for m in $(mounts_below "$1"); do
		left=1
		say "left mounted: $m"
		timeout 10 umount "$m" 2>/dev/null || timeout 10 umount -f -l "$m" 2>/dev/null || umount -l "$m"
	done
	for p in $(pids_below "$1"); do
		[ "$p" != "$BASHPID" ] || continue
		[ -d "/proc/$p" ] || continue
		for _ in 1 2 3 4 5 6 7 8 9 10; do [ -d "/proc/$p" ] || continue 2; sleep 0.1; done
		left=1
		say "left running: $p $(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | cut -c1-120)"
		kill -TERM "$p" 2>/dev/null
		for _ in 1 2 3 4 5 6 7 8 9 10; do [ -d "/proc/$p" ] || break; sleep 0.2; done
		kill -KILL "$p" 2>/dev/null
	done
	return "$left"
}

# quietly LOG COMMAND...: output to LOG; on failure its end is shown.
quietly() {
	local log=$1 rc=0
	shift
	"$@" >>"$log" 2>&1 </dev/null || rc=$?
	if [ "$rc" -ne 0 ]; then
		tail -n 40 "$log" >&2
		printf '%s: failed (%s): %s; whole log: %s\n' "${0##*/}" "$rc" "$*" "$log" >&2
	fi
	return "$rc"
}
