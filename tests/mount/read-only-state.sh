#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that failed and is mounted read-only at boot: what is installed is served, a change is refused.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
fixture
for folder in store state; do # in this order: a refused activation leaves its blobs in the store
	step "$folder is read-only"
	mount --bind "$W/$folder" "$W/$folder"
	at_exit "umount -l $W/$folder 2>/dev/null || true"
	mount -o remount,bind,ro "$W/$folder"
	mount_
	diff -r "$W/src1" "$MNT/det/active" || fail "the installed version differs"
	status_ >>"$W/log" || fail "status: exit $?"
	expect 1 'Read-only file system' "$modelfs" install -c "$CFG" "$W/b2"
	diff -r "$W/src1" "$MNT/det/active" || fail "a refused change was seen"
	unmount_
	umount "$W/$folder"
done
step "writable again"
mount_
still_good
unmount_
