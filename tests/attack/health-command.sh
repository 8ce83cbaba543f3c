#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Health commands that hang, fork, eat memory, print without end, use the network, look into what they may
# not, or are killed: refused or put off in time, nothing of them remains, and keeper goes on.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
keys
seg_uid=61101
CHECK_UID=61164 # of this test alone: what others check at the same time is not its rest, and no victim of its forks
config "det: {model_key: \"file:mk.bin\", health: {command: [$P/check], user: $CHECK_UID, timeout: 5s, memory: 64MiB}}" \
	"seg: {model_key: \"file:mk.bin\", health: {command: [$P/check-seg], timeout: 30s}}"
check 'exit 0'
mount_
keeper=$(keeper_pid)
next_bundle
install_ "$W/b" || fail "install with a check that passes: exit $?"
good=$version

# attack NAME OUTCOME SCRIPT: the version is not activated, and this is said about it.
attack() {
	step "$1"
	rm -f "$P/out"/*
	check "$3"
	next_bundle
	rc=0
	timeout 60 "$modelfs" install -c "$CFG" "$W/b" >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	[ "$rc" -ne 0 ] || fail "$1: installed"
	grep -qE "$2" "$W/said" || fail "$1: no $2 in: $(cat "$W/said")"
	active_is "$good" || fail "$1: another version is active"
	[ ! -L "$MNT/det/candidate" ] || fail "$1: the candidate is still shown"
	[ "$(keeper_pid)" = "$keeper" ] && kill -0 "$keeper" || fail "$1: keeper died"
	until_true 5 gone || fail "$1: left behind: $(ps -u "$CHECK_UID")"
}
gone() { [ -z "$(ps -o pid= -u "$CHECK_UID")" ]; }

attack "fails" health_check_failed 'echo the model is bad; exit 1'
grep -q "the model is bad" "$W/said" || fail "what it said is lost"
jq -r 'select(.source == "health") | .detail' "$MNT/det/events" | grep -q "exit 1: the model is bad$" ||
	fail "its output is not in the events: $(cat "$MNT/det/events")"
attack "asks to try later" condition_unmet 'exit 75'
attack "hangs" health_check_failed 'trap "" TERM INT; sleep 1000'
attack "leaves children" health_check_failed 'for i in 1 2 3; do (trap "" TERM HUP; setsid sleep 1000 &) ; done; exit 3'
attack "forks without end" health_check_failed 'f() { f | f & }; f; wait; sleep 1; exit 1'
attack "eats memory" 'health_check_failed|no_memory' 'x=$(head -c 300000000 /dev/zero | tr "\0" x); echo ${#x}; [ ${#x} -lt 300000000 ]; exit 1'
attack "prints without end" health_check_failed 'exec yes'
attack "uses the network" health_check_failed 'readlink /proc/self/ns/net >"$P/out/net"; bash -c "exec 3<>/dev/tcp/127.0.0.1/22" && exit 0; exit 9'
[ -s "$P/out/net" ] && [ "$(cat "$P/out/net")" != "$(readlink /proc/self/ns/net)" ] || fail "it is in the host's network: $(cat "$P/out/net")"
grep -q "unreachable" "$W/said" || fail "the network answered: $(cat "$W/said")"
attack "kills itself" health_check_failed 'kill -KILL $$'
attack "kills everything it can" health_check_failed 'kill -KILL -1; kill -KILL 1; exit 1'
attack "kills modelfs" health_check_failed "kill -KILL $keeper \$(cat $W/run/*pid) ; exit 1"
attack "writes to the mount" health_check_failed 'touch "$MODELFS_DIR/x" "$MODELFS_DIR/../../generation" && exit 0; exit 1'
attack "looks for descriptors" health_check_failed 'for f in /proc/self/fd/*; do readlink "$f" >>"$P/out/fds"; done; exit 1'
! grep -qE 'fuse|memfd|socket|anon_inode' "$P/out/fds" || fail "it inherited $(cat "$P/out/fds")"

step "is replaced by something that cannot run"
next_bundle
mv "$P/check" "$P/check.away"
rc=0
"$modelfs" install -c "$CFG" "$W/b" >"$W/said" 2>&1 || rc=$?
[ "$rc" -ne 0 ] && grep -q config_invalid "$W/said" || fail "exit $rc: $(cat "$W/said")"
check 'exit 0'
install_ "$W/b" || fail "a missing command condemned the version"
good=$version

step "reads what another model's check is about"
printf '#!/bin/sh\ntouch %s/out/seg-ready\nwhile [ ! -e %s/out/seg-go ]; do sleep 0.05; done\n' "$P" "$P" >"$P/check-seg"
chmod 0755 "$P/check-seg"
rm -f "$P/out"/*
id=seg
rm -rf "$W/bseg"
(cd "$P/src" && pack 9.0.0 9 "$W/bseg" weights.safetensors)
id=det
"$modelfs" install -c "$CFG" "$W/bseg" >>"$W/log" 2>&1 &
jobs_started=("$!")
until_true 20 test -e "$P/out/seg-ready" || fail "the check of seg did not start"
as "$seg_uid" cat "$MNT/seg/versions/9.0.0/weights.safetensors" >/dev/null || fail "seg's own check cannot read it"
! as "$CHECK_UID" cat "$MNT/seg/versions/9.0.0/weights.safetensors" 2>/dev/null >/dev/null || fail "det's check reads seg's candidate"
! as "$CHECK_UID" ls "$MNT/seg/versions/9.0.0" >/dev/null 2>&1 || fail "det's check lists seg's candidate"
touch "$P/out/seg-go"
wait "${jobs_started[0]}" || fail "seg was not installed"
jobs_started=()

step "keeper and mount are as before"
next_bundle
install_ "$W/b" || fail "the next good version is refused"
active_is "$version" || fail "$version is not active"
[ "$(keeper_pid)" = "$keeper" ] || fail "keeper is another"
unmount_
