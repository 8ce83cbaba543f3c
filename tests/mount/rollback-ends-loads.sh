#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A process that never stops loading holds up an installation for its minute, but never a rollback.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
fixture
mount_
# One of two files, again and again, by a process that lives.
(
	while [ ! -e "$W/stop" ]; do
		exec 7<"$MNT/det/versions/1.1.0/small.bin" || exit 1
		: >"$W/loads"
		sleep 0.2
	done
) &
loading=$!
jobs_started=("$loading")
until_true 10 test -e "$W/loads" || fail "nobody loads"
install_ "$W/b2" &
waiting=$!
jobs_started+=("$waiting")
swapped() { [ "$(readlink "$MNT/det/active")" = versions/1.2.0 ]; }
until_true 20 swapped || fail "the new version is not active"
kill -0 "$waiting" || fail "the installation did not wait for who is loading"
timeout 30 "$modelfs" rollback -c "$CFG" det >>"$W/log" 2>&1 || fail "rollback: exit $? (124: it waited for the loader)"
wait "$waiting" || fail "install: exit $?"
[ "$(readlink "$MNT/det/active")" = versions/1.1.0 ] || fail "active leads to $(readlink "$MNT/det/active")"
kill -0 "$loading" || fail "the loader ended before"
touch "$W/stop"
wait "$loading" || fail "the loader got an error"
jobs_started=()
unmount_
