#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Without root: mounted through fusermount3, paged, readable by its user; a killed serve and a killed keeper are recovered from.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_tool fusermount3
need_tool setpriv
user=65534
as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"; }
if ! as_user test -w /dev/fuse; then
	# As udev would have made it, seen by this test alone.
	[ -z "${MFS_OWN_FUSE:-}" ] || fail "/dev/fuse has mode $(stat -c %a /dev/fuse) though it was made anew"
	need_tool unshare
	mknod -m 0666 "$W/fuse" c 10 229 || skip "/dev/fuse may not be opened by other users, and none can be made"
	# shellcheck disable=SC2016
	MFS_OWN_FUSE=1 unshare --mount --propagation private bash -c 'mount --bind "$1" /dev/fuse && exec bash "$2"' - "$W/fuse" "$0"
	exit
fi
keys
config 'det: {serve: auto, model_key: "file:mk.bin"}'
gen raw 4M 14 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
cp "$modelfs" "$W/modelfs"
chmod 0755 "$W"
chown -R "$user:$user" "$W"
as_user "$W/modelfs" install -c "$CFG" "$W/b1" >>"$W/log" 2>&1 || fail "install: exit $?"
at_exit "setpriv --reuid $user --regid $user --clear-groups -- $W/modelfs unmount --force -c $CFG >/dev/null 2>&1 || true"

as_user timeout 30 "$W/modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || fail "mount: exit $?"
as_user cmp "$W/weights.bin" "$MNT/det/active/weights.bin" || fail "the bytes differ"
as_user grep -q 'without root' "$MNT/det/status" || fail "status does not say why it is paged"
serve=$(pgrep -P "$(keeper_pid)") || fail "no serve"
kill -KILL "$serve"
as_user timeout 10 cmp "$W/weights.bin" "$MNT/det/active/weights.bin" || fail "the bytes differ after serve was killed"
kill -KILL "$(keeper_pid)"
as_user timeout 30 "$W/modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || fail "mount after keeper was killed: exit $?"
as_user timeout 10 cmp "$W/weights.bin" "$MNT/det/active/weights.bin" || fail "the bytes differ after keeper was killed"
as_user timeout 30 "$W/modelfs" unmount -c "$CFG" >>"$W/log" 2>&1 || fail "unmount: exit $?"
! mountpoint -q "$MNT" || fail "still mounted"

# A mount whose configuration was broken is found by what lies below XDG_RUNTIME_DIR: of this user, and of nobody else.
as_user mkdir -m 0700 "$W/xdg"
cp "$CFG" "$W/good.yaml"
as_user env XDG_RUNTIME_DIR="$W/xdg" timeout 30 "$W/modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || fail "mount: exit $?"
printf 'models: [\n' >"$CFG"
as_user env XDG_RUNTIME_DIR="$W/xdg" timeout 30 "$W/modelfs" status -c "$CFG" >"$W/out" 2>"$W/err" || fail "status: exit $?: $(cat "$W/err")"
grep -q 'det: serving 1.0.0' "$W/out" || fail "$(cat "$W/out")"
grep -q 'what is mounted runs with the configuration before it' "$W/err" || fail "$(cat "$W/err")"
expect 1 "$CFG:[0-9]+:[0-9]+" env XDG_RUNTIME_DIR="$W/xdg" "$W/modelfs" status -c "$CFG" # root looks in its own place
chmod 0777 "$W/xdg/modelfs/running"
expect 1 "$CFG:[0-9]+:[0-9]+" setpriv --reuid "$user" --regid "$user" --clear-groups -- env XDG_RUNTIME_DIR="$W/xdg" "$W/modelfs" status -c "$CFG"
chmod 0700 "$W/xdg/modelfs/running"
as_user env XDG_RUNTIME_DIR="$W/xdg" timeout 30 "$W/modelfs" unmount -c "$CFG" >>"$W/log" 2>&1 || fail "unmount: exit $?"
! mountpoint -q "$MNT" || fail "still mounted"
cp "$W/good.yaml" "$CFG"
