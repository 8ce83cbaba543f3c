#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Release N-1 after N, or another manifest with release N: rollback_attempt, unmounted, mounted and after a restart; and
# after a rollback what lies between the active release and the committed one.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
install_ "$W/b2" || fail "install of release 2: exit $?"
gen raw 300K 7 "$W/other.bin"
pack 1.9.0 2 "$W/b2x" "$W/other.bin"
pack 0.9.0 1 "$W/b1x" "$W/other.bin"
older() {
	refused "$W/b1x" rollback_attempt
	refused "$W/b2x" rollback_attempt
}
older
status_ det | grep -q 1.2.0 || fail "the newer version is not active: $(status_ det)"
need_fuse
mount_
older
[ "$(readlink "$MNT/det/active")" = versions/1.2.0 ] || fail "active -> $(readlink "$MNT/det/active")"
kill -KILL "$(serve_pid)"
older
unmount_
mount_
older
diff -r "$W/src2" "$MNT/det/active" || fail "the active version differs"

step "gone back below the floor: nothing that is not above it comes in, whatever is active"
gen raw 300K 8 "$W/third.bin"
pack 1.3.0 3 "$W/b3" "$W/third.bin"
pack 1.4.0 4 "$W/b4" "$W/other.bin"
install_ "$W/b4" || fail "install of release 4: exit $?"
expect 0 "1.2.0 is active" "$modelfs" rollback -c "$CFG" det
expect 0 "no longer held" "$modelfs" unpin -c "$CFG" det
below() {
	refused "$W/b3" rollback_attempt
	grep -q "older than the committed release 4" "$W/expect.out" || fail "$(cat "$W/expect.out")"
	status_ --json | jq -e '.models[0] | .active.release == 2 and .floor.release == 4' >>"$W/log" || fail "$(status_ det)"
}
below
kill -KILL "$(serve_pid)"
below
unmount_
below
