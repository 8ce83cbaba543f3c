#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `modelfs mount --repository DIR --root FILE`: no file is needed, and the other commands need no -c. In namespaces of
# its own, because what it uses are the default folders of a host.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/repo.sh"
if [ "${1:-}" != inside ]; then
	need_fuse
	unshare -m -p -f --mount-proc true 2>/dev/null || skip "no namespaces"
	rc=0
	unshare -m -p -f --mount-proc --kill-child "$0" inside || rc=$?
	exit $rc
fi
for d in /run /var/lib /etc/modelfs /usr/lib/modelfs; do
	[ ! -d "$d" ] || mount -t tmpfs -o mode=0755 none "$d"
done
at_exit "timeout 20 $modelfs unmount --force >/dev/null 2>&1 || true"
chmod 0711 "$W"
keys
mkdir -p "$MNT"
R="$W/a repository" # its URL needs %20
"$modelpub" init "$R" --keys "$W/keys" --trust "$W/release.pub.pem" >>"$W/log" 2>&1 || fail "modelpub init"
release_() {
	mkdir -p "$W/src$1"
	gen raw 300K "$1" "$W/src$1/weights.bin"
	pack_plain "1.$1.0" "$1" "$W/b$1" "$W/src$1"
	"$modelpub" publish "$R" "$W/b$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish $1"
}
m() { timeout 60 "$modelfs" "$@" >>"$W/log" 2>&1; }

step "what is no repository or root is refused, and leaves no configuration"
expect 1 'no model is published' "$modelfs" mount --repository "$R" --root "$W/keys/root.json" "$MNT"
release_ 1
expect 64 'go together' "$modelfs" mount --repository "$R" "$MNT"
expect 64 'go together' "$modelfs" mount --root "$W/keys/root.json" "$MNT"
expect 64 'in the place of -c' "$modelfs" mount -c "$W/none.yaml" --repository "$R" --root "$W/keys/root.json"
expect 64 'no such option' "$modelfs" status --repository "$R"
expect 1 'for a URL write a configuration' "$modelfs" mount --repository https://models.example/r --root "$W/keys/root.json" "$MNT"
expect 1 'No such file' "$modelfs" mount --repository "$R" --root "$W/keys/none.json" "$MNT"
expect 1 'not a folder' "$modelfs" mount --repository "$W/keys/root.json" --root "$W/keys/root.json" "$MNT"
[ ! -e /run/modelfs/modelfs.yaml ] || fail "a configuration was left"

step "a configuration of the host is never hidden"
mkdir -p /run/modelfs
echo 'models: {}' >/run/modelfs/modelfs.yaml
expect 1 '/run/modelfs/modelfs.yaml is there' "$modelfs" mount --repository "$R" --root "$W/keys/root.json" "$MNT"
[ "$(cat /run/modelfs/modelfs.yaml)" = 'models: {}' ] || fail "it was replaced"
rm /run/modelfs/modelfs.yaml

step "mounted by a folder and a root alone; it comes by itself"
m mount --repository "$R" --root "$W/keys/root.json" "$MNT" || fail "mount: exit $?"
m wait det --version 1.1.0 --timeout 60s || fail "wait: $("$modelfs" status det 2>&1)"
same "$W/src1/weights.bin" "$MNT/det/active/weights.bin"
release_ 2
m update det || fail "update: exit $?"
same "$W/src2/weights.bin" "$MNT/det/active/weights.bin"
"$modelfs" status | grep -q '^det: serving 1.2.0 ' || fail "status: $("$modelfs" status)"
expect 4 'mounted already' "$modelfs" mount --repository "$R" --root "$W/keys/root.json" "$MNT"
m keys retrust || fail "retrust: exit $?"

step "it ends with the mount, also after a keeper that was killed"
m unmount || fail "unmount: exit $?"
[ ! -e /run/modelfs/modelfs.yaml ] || fail "the configuration is left"
m mount --repository "$R" --root "$W/keys/root.json" "$MNT" || fail "mount again: exit $?"
kill -KILL "$("$modelfs" status --json | jq -r .keeper_pid)"
until_true 10 sh -c "! '$modelfs' status --json 2>/dev/null | jq -e .mounted >/dev/null" || fail "it still answers"
m mount --repository "$R" --root "$W/keys/root.json" "$MNT" || fail "mount after keeper was killed: exit $?"
expect 4 'already mounted' "$modelfs" mount
[ -e /run/modelfs/modelfs.yaml ] || fail "the configuration of a mount that lives is gone"
kill -KILL "$("$modelfs" status --json | jq -r .keeper_pid)"
until_true 10 sh -c "! '$modelfs' status --json 2>/dev/null | jq -e .mounted >/dev/null" || fail "it still answers"
[ -e /run/modelfs/modelfs.yaml ] || fail "nothing was left: the next step shows nothing"
expect 1 'no configuration in' "$modelfs" mount "$MNT"
m mount --repository "$R" --root "$W/keys/root.json" "$MNT" || fail "mount once more: exit $?"
m unmount || fail "unmount: exit $?"
! mountpoint -q "$MNT" || fail "still mounted"
