#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whole update cycles of a mount (a commit, a health check that fails, a probation that fails, revocations), ended at
# calls of serve that change a disk: serve, fetch or keeper dies there, or all at once and what is not synced. What restarts
# them restarts them; then the cycle ends by itself as if nothing had happened: the old version or the new one is there
# whole all the time, the floor is never lower, and the disk holds what it holds after an undisturbed cycle.
#
# A random few of the calls are taken, with two of the parts in each cycle. MFS_SEED=N takes those of an earlier run,
# MFS_CUTS=N another number per cycle and part, MFS_CUTS=all every call, MFS_SHARD=I/N of these every Nth, MFS_CYCLES and
# MFS_PARTS (one of them "all": ended, and nothing lost) what is named, and MFS_CUT=N that call alone.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
need_program cutat
seed=${MFS_SEED:-$(($(date +%s) % 32768))} cuts=${MFS_CUTS:-1} shard=${MFS_SHARD:-1/1}
cycles=${MFS_CYCLES:-commit refused taken-back revoked-back withdrawn} all_parts=(serve fetch keeper power)
step "MFS_SEED=$seed"
RANDOM=$seed

unset config_extra
# What the check says: $P/out/candidate and $P/out/probation.
# shellcheck disable=SC2016 # for the command
check 'exit "$(cat "$P/out/$MODELFS_REASON")"'
size=300K
probation=1s
update_extra="max_interval: 2s, retain: 1"
repository "det: {model_key: \"file:mk.bin\", health: {command: [$P/check], timeout: 20s, interval: 1s}}"
# "ACTIVE FLOOR" of det, read in the mount; nothing when it cannot be read.
seen() { jq -r '"\(.active.version) \(.floor.release)"' "$MNT/det/status.json" 2>/dev/null || true; }
verdicts() { echo "$1" >"$P/out/candidate"; echo "$2" >"$P/out/probation"; }
verdicts 0 0
release 1
release 2
sed -i 's/interval: 1h/interval: 1s/' "$CFG"
publish 1
update_ || fail "update: exit $?"
mount_
committed() { [ "$(seen)" = "1.1.0 1" ]; }
until_true 20 committed || fail "release 1 is not committed: $(cat "$MNT/det/status")"
unmount_

keep() { # AS: state, store and repository, to begin there again
	local d
	for d in state store repo; do
		rm -rf "$W/$d.$1"
		cp -a "$W/$d" "$W/$d.$1"
	done
}
restore() {
	local d
	for d in state store repo; do
		rm -rf "${W:?}/$d"
		cp -a "$W/$d.$1" "$W/$d"
	done
}

state_of() {
	jq -r '"\(.active.version) \(.floor.release) \(.cycle.next) \(.cycle.observation) \(.cycle.refused.version)"' \
		"$MNT/det/status.json" 2>>"$W/log" || true
}
# at_rest WANTED: that is shown and nothing is under way, in the words of the status.
at_rest() { [ "$(state_of)" = "$1" ]; }
# sound WHEN: what is shown is one of $may, whole; the floor is not lower than it was.
sound() {
	local now floor v
	now=$(seen)
	case " $may " in
	*" ${now// /:} "*) ;;
	*) fail "$1: active and floor are \"$now\", not one of $may" ;;
	esac
	floor=${now#* }
	[ "$floor" -ge "$floor_was" ] || fail "$1: the floor fell from $floor_was to $floor"
	floor_was=$floor
	# Between two looks it may have been swapped: what is open is one version all the same.
	v=$(cd "$MNT/det/active" 2>/dev/null && cat weights.bin small.bin | sha256sum) || v=none
	case " $sums none " in
	*" ${v%% *} "*) ;;
	*) fail "$1: what is active is not a version: $now" ;;
	esac
	[ "${v%% *}" != none ] || [ -n "$absent" ] || [ -e "$MNT/det/active" ] || fail "$1: nothing is active"
}
sums="$(cat "$W"/src1/weights.bin "$W"/src1/small.bin | sha256sum)"
sums="${sums%% *} $(cat "$W"/src2/weights.bin "$W"/src2/small.bin | sha256sum)"
sums=${sums%% -}
# What the disk holds; trusted state has two copies each, and the temporary of its last write may be there.
holds() { (cd "$W" && find state store -name '.*.new' -prune -o -type f -print) | sort; }

# one CYCLE PART N: from the beginning to the end.
one() {
	local tracer looks=0 what="$1, $2 dies at call $3"
	restore "$base"
	floor_was=$floor_begin
	rm -f "$W/calls"
	"$B/cutat" "$3" "$2" "$W/" "$W/calls" "$modelfs" mount -f -c "$CFG" >>"$W/log" 2>&1 &
	tracer=$!
	jobs_started=("$tracer")
	# The glance is cheap, the look at the status is not.
	reached() {
		sleep 0.05
		case $(tail -c 30 "$W/calls" 2>/dev/null) in *cut*) return 0 ;; esac
		! kill -0 "$tracer" 2>/dev/null || { [ $((looks++ % 4)) = 3 ] && at_rest "$rest"; }
	}
	until_true 60 reached || fail "$what: neither is the call reached, nor does the cycle end: $(state_of)"
	# At rest before it came so far: nothing happens any more (every poll writes a little).
	kill -USR1 "$tracer" 2>/dev/null || true
	settled() { grep -qE '^(cut|disarmed)' "$W/calls" || ! kill -0 "$tracer" 2>/dev/null; }
	until_true 15 settled || fail "$what: the tracer hangs"
	if grep -q '^cut' "$W/calls"; then
		what="$what ($(awk -v n="$3" -v w="$W/" '$1 == n {sub(w, "", $4); print $3, $4}' "$W/calls"))"
		grep -q '^cut [a-z]* 0' "$W/calls" || done_cuts=$((done_cuts + 1)) # with nothing there to end, it was no cut
	fi
	case $2 in
	keeper | all | power)
		if grep -q '^cut' "$W/calls"; then
			gone() { ! kill -0 "$tracer" 2>/dev/null; }
			until_true 15 gone || fail "$what: something goes on"
			wait "$tracer" || true
			jobs_started=()
			timeout 60 "$modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || fail "$what: mount: exit $?"
		fi
		;;
	esac
	readable() { [ -n "$(seen)" ]; }
	until_true 20 readable || fail "$what: the mount does not come back"
	sound "$what, after it"
	resting() { sleep 0.15; at_rest "$rest"; }
	until_true 60 resting || fail "$what: it does not come to rest: $(cat "$MNT/det/status" "$MNT/det/status.json")"
	sound "$what, at the end"
	announced() { [ "$(cut -d ' ' -f 2 "$MNT/det/generation")" = "$shown" ]; }
	until_true 10 announced || fail "$what: generation: $(cat "$MNT/det/generation")"
	diff -r "$W/src${shown:2:1}" "$MNT/det/active" || fail "$what: $shown differs"
	[ ! -L "$MNT/det/candidate" ] || fail "$what: a candidate is left"
	cleaned() { [ -z "$(ls -A "$W/store/staging" 2>/dev/null)" ]; }
	until_true 5 cleaned || fail "$what: left in staging: $(find "$W/store/staging")"
	unmount_
	if [ "${#jobs_started[@]}" -gt 0 ]; then
		wait "$tracer" || true
		jobs_started=()
	fi
	holds >"$W/holds"
	[ "$3" != 0 ] || cp "$W/holds" "$W/held"
	diff "$W/held" "$W/holds" || fail "$what: the disk holds something else than without it"
	[ "$(status_ --json | jq -r '.models[0] | "\(.active.version) \(.floor.release)"')" = "${rest%% null*}" ] ||
		fail "$what: not mounted: $(status_)"
}
at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"

cycle() { # NAME
	local calls n part i parts=${MFS_PARTS:-${all_parts[*]}}
	one "$1" all 0
	calls=$(grep -cv disarmed "$W/calls")
	[ "$calls" -ge "$least" ] || fail "$1: only $calls calls"
	cp "$W/calls" "$W/calls.$1"
	step "$1: $calls calls"
	if [ -z "${MFS_PARTS:-}${MFS_CUT:-}" ] && [ "$cuts" != all ]; then
		n=$((RANDOM % 4))
		parts="${all_parts[n]} ${all_parts[(n + 1 + RANDOM % 3) % 4]}"
	fi
	for part in $parts; do
		if [ -n "${MFS_CUT:-}" ]; then
			one "$1" "$part" "$MFS_CUT"
		elif [ "$cuts" = all ]; then
			for ((n = ${shard%/*}; n <= calls; n += ${shard#*/})); do one "$1" "$part" "$n"; done
		else
			for ((i = 0; i < cuts; i++)); do one "$1" "$part" $((RANDOM % calls + 1)); done
		fi
	done
}

done_cuts=0 least=40
publish 2
keep published
# committed ACTION: release 2 is committed, then revoked.
committed() {
	restore published
	mount_
	until_true 30 at_rest "1.2.0 2 null null null" || fail "release 2 is not committed: $(cat "$MNT/det/status")"
	unmount_
	revoke 2 "$1"
	keep "$1"
	base=$1 floor_begin=2
}
# Each: what may be seen, and where it rests: active, floor, what is under way, what is observed, what was refused.
for name in $cycles; do
	base=published floor_begin=1 absent=
	verdicts 0 0
	case $name in
	commit) may="1.1.0:1 1.2.0:1 1.2.0:2" shown=1.2.0 rest="1.2.0 2 null null null" ;;
	refused)
		verdicts 1 0
		may="1.1.0:1" shown=1.1.0 rest="1.1.0 1 null null 1.2.0"
		;;
	taken-back)
		verdicts 0 1
		may="1.1.0:1 1.2.0:1" shown=1.1.0 rest="1.1.0 1 null null 1.2.0"
		;;
	revoked-back)
		committed rollback
		may="1.2.0:2 1.1.0:2" shown=1.1.0 rest="1.1.0 2 null null null"
		;;
	withdrawn)
		# Nothing is active then, until what is still offered is: a version that this host has, below its floor.
		committed withdraw
		may="1.2.0:2 null:2 1.1.0:2" shown=1.1.0 rest="1.1.0 2 null null null" absent=yes
		;;
	*) fail "$name: no such cycle" ;;
	esac
	cycle "$name"
done
step "$done_cuts cuts"
