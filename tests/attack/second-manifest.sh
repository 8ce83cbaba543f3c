#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A second manifest for a known version or a known release is refused, also for one that is only retained.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
install_ "$W/b2" || fail "install of release 2: exit $?"
gen raw 300K 8 "$W/other.bin"
pack 1.2.0 3 "$W/same-version" "$W/other.bin"
pack 1.1.0 4 "$W/retained-version" "$W/other.bin"
pack 1.3.0 2 "$W/same-release" "$W/other.bin"
pack 1.2.0 2 "$W/same-both" "$W/other.bin"
second() {
	refused "$W/same-version" malformed rollback_attempt policy_rejected
	refused "$W/retained-version" malformed rollback_attempt policy_rejected
	refused "$W/same-release" rollback_attempt
	refused "$W/same-both" malformed rollback_attempt policy_rejected
}
second
need_fuse
mount_
second
diff -r "$W/src2" "$MNT/det/active" || fail "the active version differs"
pack 1.3.0 3 "$W/b3" "$W/other.bin"
install_ "$W/b3" || fail "the true next release is refused: exit $?"
