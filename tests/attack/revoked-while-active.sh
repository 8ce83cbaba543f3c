#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The kill switch: a revocation acts at the refresh that brings it, also on a pinned version and on one that a
# process is loading, and at the mount after one that came while nothing was mounted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
mkdir -p "$W/src"
chmod 0755 "$W"
for v in 1 2 3; do
	head -c 200000 /dev/urandom >"$W/src/model.bin"
	head -c 200000 /dev/urandom >"$W/src/second.bin"
	pack_plain "1.$v.0" "$v" "$W/b$v" "$W/src/model.bin" "$W/src/second.bin"
done
pub() { "$modelpub" "$@" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub $1"; chmod -R a+rX "$W/repo"; }
pub init "$W/repo"
pub publish "$W/repo" "$W/b1"
config_extra="repository: \"file://$W/repo\"
device: {id: dev-1}
update: {interval: 1d, probation: 0}
"
# a hook that fails is an event with what it said, wherever its user may write
config "det: {on_change: [/bin/sh, -c, 'echo because \$MODELFS_REASON; exit 1']}"
sed -i 's#^trust: .*#trust: {root: keys/root.json, keys: [release.pub.pem]}#' "$CFG"
mount_
m() { expect "$1" "$2" "$modelfs" "${@:3}" -c "$CFG"; }
m 0 '1.1.0' update
grep -q 1.1.0 "$MNT/det/generation" || fail "1.1.0 is not active"
pub publish "$W/repo" "$W/b2"
m 0 '1.2.0' update
m 0 '.' pin det 1.2.0

step "revoked with rollback: a pinned version, while a process is loading it"
exec 9<"$MNT/det/active/model.bin"
pub revoke "$W/repo" det 1.2.0 --action rollback --reason leak
rc=0
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || rc=$?
[ "$(readlink "$MNT/det/active")" = versions/1.1.0 ] || fail "active is $(readlink "$MNT/det/active") after the check that brought the revocation (exit $rc)"
[ "$(stat -c %s "$MNT/det/active/second.bin")" = 200000 ] || fail "a loader cannot go on"
exec 9<&-
until_true 20 grep -q 'because rollback' "$MNT/det/events" || fail "on_change did not run: $(tail -n 3 "$MNT/det/events")"
jq -es 'any(.code == 23 and .from == "1.2.0" and .to == "1.1.0")' "$MNT/det/events" >/dev/null || fail "no event says so: $(tail -n 3 "$MNT/det/events")"

step "withdrawn while nothing is mounted: acts before anything is shown"
unmount_
pub revoke "$W/repo" det 1.1.0 --action withdraw --reason leak
rc=0
"$modelfs" check -c "$CFG" >>"$W/log" 2>&1 || rc=$?
mount_
[ ! -e "$MNT/det/active" ] || fail "a withdrawn version is shown"
m 0 'revoked' status det
m 3 'revoked' install "$W/b1"

step "a later version ends it"
pub publish "$W/repo" "$W/b3"
m 0 '1.3.0' update
[ "$(readlink "$MNT/det/active")" = versions/1.3.0 ] || fail "1.3.0 is not active"
unmount_
