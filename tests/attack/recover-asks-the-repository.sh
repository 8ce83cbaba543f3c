#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A lost state is no way around a revocation: 'recover' asks the repository what its policy forbids.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
repository
release 1
publish 1
install_ "$W/b1" || fail "install"

step "revoked while the state is lost"
revoke 1 withdraw
rm "$W/state/anchor.0" "$W/state/anchor.1"
expect 0 'repository default: minima and revocations' "$modelfs" recover -c "$CFG"
mount_
[ ! -e "$MNT/det/active" ] || fail "a revoked version is shown after recover"
expect 0 'revoked' "$modelfs" status -c "$CFG" det
unmount_

step "without its repository the new state stands, and is said to know less"
mv "$W/repo" "$W/away"
rm "$W/state/anchor.0" "$W/state/anchor.1"
rc=0
"$modelfs" recover -c "$CFG" >"$W/out" 2>&1 || rc=$?
[ "$rc" -ne 0 ] || fail "recover without its repository exits 0"
grep -q "not known until 'modelfs check' succeeds" "$W/out" || fail "recover said: $(cat "$W/out")"
mount_
expect 0 'det' "$modelfs" status -c "$CFG"
unmount_
