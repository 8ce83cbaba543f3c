#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The configuration's minimum rises above the active version: nothing is served, no older version is, and installing
# that version again is refused instead of reported as done.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
install_ "$W/b2" || fail "install of release 2: exit $?"
config 'det: {serve: auto, model_key: "file:mk.bin", min_release: 3}'
gen raw 9000 3 "$W/weights.bin"
pack 1.3.0 3 "$W/b3" "$W/weights.bin"
refused_all() {
	expect 3 policy_rejected "$modelfs" install -c "$CFG" "$W/b2"
	expect 3 policy_rejected "$modelfs" install -c "$CFG" "$W/b1"
	expect 2 "below the minimum" "$modelfs" rollback -c "$CFG" det
	status_ --json | jq -e '.models[0] | .active == null and .absent.outcome == "policy_rejected"' >/dev/null ||
		fail "status: $(status_ --json | jq -c '.models[0]')"
}
refused_all
if ( need_fuse ) >/dev/null 2>&1; then
	mount_
	[ ! -e "$MNT/det/active" ] && [ -z "$(ls "$MNT/det/versions")" ] || fail "served: $(ls "$MNT/det/versions")"
	refused_all
fi
install_ "$W/b3" || fail "a version at the minimum: exit $?"
status_ --json | jq -e '.models[0].active.release == 3' >/dev/null || fail "release 3 is not active"
