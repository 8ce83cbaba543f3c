#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# inotify on generation fires MODIFY, CLOSE_WRITE and ATTRIB when a version is installed or rolled back.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fsprobe
keys
config
for v in 1 2; do
	gen raw 200K "$v" "$W/weights.bin"
	pack "1.$v.0" "$v" "$W/b$v" "$W/weights.bin"
done
install_ "$W/b1" || fail "install: exit $?"
mount_
"$B/fsprobe" watch "$MNT/det/generation" "$modelfs" install -c "$CFG" "$W/b2" >>"$W/log" 2>&1 || fail "install did not fire"
"$B/fsprobe" watch "$MNT/det/generation" "$modelfs" rollback -c "$CFG" det >>"$W/log" 2>&1 || fail "rollback did not fire"
[ "$(readlink "$MNT/det/active")" = versions/1.1.0 ] || fail "after rollback active -> $(readlink "$MNT/det/active")"
