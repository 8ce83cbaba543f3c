#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A signed bundle from a stick obeys the last known policy; with 'offline_install: fresh' it must be what
# fresh metadata offers. Mounted and not.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
repository
for v in 1 2 3; do release "$v"; done
publish 1
publish 2
revoke 1 withdraw

step "signed: before any refresh only the signature can be asked"
install_ "$W/b1" || fail "install of a signed bundle"
expect 0 '.' "$modelfs" check -c "$CFG"
expect 3 'revoked' "$modelfs" install -c "$CFG" "$W/b1"
install_ "$W/b3" || fail "a later one that nobody forbids"

step "fresh: only what the policy offers"
sed -i 's/interval: 1h/interval: 1h, offline_install: fresh/' "$CFG"
rm -r "$W/state" "$W/store"
expect 4 'never fetched' "$modelfs" install -c "$CFG" "$W/b3"
expect 0 '.' "$modelfs" check -c "$CFG"
expect 3 'the policy offers 1.2.0 here' "$modelfs" install -c "$CFG" "$W/b3"
mount_
expect 3 'the policy offers 1.2.0 here' "$modelfs" install -c "$CFG" "$W/b3"
rc=0
install_ "$W/b2" || rc=$? # the cycle may have been faster
[ "$rc" -eq 0 ] || [ "$rc" -eq 2 ] || fail "install of what is offered: exit $rc"
until_true 20 grep -q 1.2.0 "$MNT/det/generation" || fail "1.2.0 is not active"
unmount_
