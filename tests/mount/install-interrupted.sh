#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An installation that is killed, or whose serve is killed, leaves the old version or the new one, and no rest.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program genmodel
keys
config
for v in 1 2 3; do
	mkdir -p "$W/src$v"
	gen raw 60M "$v" "$W/src$v/weights.bin"
	(cd "$W/src$v" && pack "1.$v.0" "$v" "$W/b$v" weights.bin)
done

# The processes of an installation: the command, and its confined child.
install_pids() { pgrep -f -- "install -c $CFG" || true; }
none_left() { [ -z "$(install_pids)" ]; }

no_rest() {
	[ -z "$(install_pids)" ] || fail "processes remain: $(install_pids)"
	[ -z "$(find "$W/store/staging" -type f)" ] || fail "temporaries remain: $(find "$W/store/staging" -type f)"
}

step "the confined child dies: nothing is installed, staging is clean"
install_ "$W/b1" || fail "install: exit $?"
"$modelfs" install -c "$CFG" "$W/b2" >"$W/killed.out" 2>&1 & pid=$!
until_true 20 pgrep -P "$pid" >/dev/null || true
child=$(pgrep -P "$pid" || true)
[ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
rc=0
wait "$pid" || rc=$?
if [ "$rc" != 0 ]; then
	grep -q 'nothing was installed' "$W/killed.out" || fail "a child that died: $(cat "$W/killed.out")"
	status_ det | grep -q 1.1.0 || fail "the old version is not active"
fi
no_rest

step "the whole command dies at any time: the next installation goes through"
for delay in 0.01 0.03 0.06 0.1; do
	"$modelfs" install -c "$CFG" "$W/b2" >>"$W/log" 2>&1 & pid=$!
	sleep "$delay"
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	until_true 10 none_left || fail "the child outlives its command"
	status_ det | grep -qE '1\.(1|2)\.0' || fail "neither the old nor the new version: $(status_ det)"
done
rc=0
install_ "$W/b2" || rc=$?
[ "$rc" = 0 ] || [ "$rc" = 2 ] || fail "install after kills: exit $rc"
no_rest

step "serve dies while a bundle is installed"
mount_
("$modelfs" install -c "$CFG" "$W/b3" >"$W/b3.out" 2>&1) & pid=$!
for _ in 1 2 3 4 5; do
	kill -KILL "$(serve_pid)" 2>/dev/null || true
	sleep 0.1
done
rc=0
wait "$pid" || rc=$?
[ "$rc" = 0 ] || [ "$rc" = 4 ] || fail "install with dying serves: exit $rc: $(cat "$W/b3.out")"
rc2=0
install_ "$W/b3" || rc2=$?
[ "$rc2" = 2 ] || { [ "$rc" = 4 ] && [ "$rc2" = 0 ]; } || fail "install again: exit $rc2 after $rc"
same "$W/src3/weights.bin" "$MNT/det/active/weights.bin"
no_rest

step "two installations at once: one waits for the other"
rm -rf "$W/b4"
(cd "$W/src1" && pack 1.4.0 4 "$W/b4" weights.bin)
(cd "$W/src2" && pack 1.5.0 5 "$W/b5" weights.bin)
"$modelfs" install -c "$CFG" "$W/b4" >"$W/b4.out" 2>&1 & one=$!
"$modelfs" install -c "$CFG" "$W/b5" >"$W/b5.out" 2>&1 & two=$!
rc=0 rc2=0
wait "$one" || rc=$?
wait "$two" || rc2=$?
[ "$rc2" = 0 ] || fail "the newer one: exit $rc2: $(cat "$W/b5.out")"
[ "$rc" = 0 ] || [ "$rc" = 3 ] || fail "the older one: exit $rc: $(cat "$W/b4.out")"
[ "$(readlink "$MNT/det/active")" = versions/1.5.0 ] || fail "active -> $(readlink "$MNT/det/active")"
no_rest

step "a bundle that serve's user cannot read"
cp -r "$W/b1" "$W/b6" && chmod 0600 "$W/b6/manifest.json"
expect 1 'must be readable for uid' "$modelfs" install -c "$CFG" "$W/b6"
unmount_
