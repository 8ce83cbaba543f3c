#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `mount -t modelfs` and fstab lines: what mount(8) calls, as it calls it.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
config
gen raw 200K 1 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"
ln -s "$modelfs" "$W/mount.modelfs"

step "options that mean nothing here are refused, by name"
expect 64 "option 'rw'" "$W/mount.modelfs" "$CFG" "$MNT" -o rw,nofail
expect 64 usage "$W/mount.modelfs" "$CFG"
! mountpoint -q "$MNT" || fail "mounted after a refusal"

step "a fake mount mounts nothing"
"$W/mount.modelfs" "$CFG" "$MNT" -f -o ro || fail "a fake mount: exit $?"
! mountpoint -q "$MNT" || fail "mounted by -f"

step "a real one"
at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
timeout 30 "$W/mount.modelfs" "$CFG" "$MNT" -o ro,nosuid,_netdev,x-systemd.automount >>"$W/log" 2>&1 || fail "exit $?"
same "$W/weights.bin" "$MNT/det/active/weights.bin"
unmount_
