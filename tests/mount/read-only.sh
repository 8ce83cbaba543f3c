#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every mutation on the public mount is EROFS.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fsprobe
keys
config
gen raw 200K 1 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"
mount_
for d in "$MNT" "$MNT/det" "$MNT/det/versions/1.0.0" "$MNT/.modelfs"; do
	f=$MNT/det/versions/1.0.0/weights.bin
	[ "$d" != "$MNT/.modelfs" ] || f=$MNT/.modelfs/version
	[ "$d" != "$MNT/det" ] || f=$MNT/det/generation
	"$B/fsprobe" readonly "$d" "$f" "$MNT/det/active" || fail "a mutation below $d was not refused with EROFS"
done
same "$W/weights.bin" "$MNT/det/active/weights.bin"
