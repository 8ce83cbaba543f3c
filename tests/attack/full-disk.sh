#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Full disk during install: exit 5, insufficient_storage, nothing is left behind, and the active version stays.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
config 'det: {serve: paged, model_key: "file:mk.bin"}'
mkdir -p "$W/store" "$W/src1" "$W/src2"
mount -t tmpfs -o size=6m,mode=0755 modelfs-test "$W/store" 2>/dev/null || skip "cannot mount a tmpfs here"
at_exit "umount $W/store"
gen raw 1M 1 "$W/src1/weights.bin"
gen raw 12M 2 "$W/src2/weights.bin"
gen raw 100K 2 "$W/src2/a-first.bin"
(cd "$W/src1" && pack 1.0.0 1 "$W/b1" weights.bin)
(cd "$W/src2" && pack 2.0.0 2 "$W/b2" a-first.bin weights.bin)
install_ "$W/b1" || fail "install of a small version: exit $?"
full() {
	local before after
	before=$(find "$W/store" -type f | sort)
	expect 5 insufficient_storage "$modelfs" install -c "$CFG" "$W/b2"
	after=$(find "$W/store" -type f | sort)
	[ "$before" = "$after" ] || fail "left in the store: $(diff <(echo "$before") <(echo "$after"))"
}
step "12 MiB into 6"
full
step "the disk fills while it is written"
gen raw 4M 3 "$W/src2/weights.bin"
rm -rf "$W/b2"
(cd "$W/src2" && pack 2.0.0 2 "$W/b2" a-first.bin weights.bin)
head -c 3M /dev/zero >"$W/store/filler"
full
if ( need_fuse ) >/dev/null 2>&1; then
	step "mounted"
	mount_
	full
	same "$W/src1/weights.bin" "$MNT/det/active/weights.bin"
	rm "$W/store/filler"
	step "room again"
	install_ "$W/b2" || fail "install after room was made: exit $?"
	same "$W/src2/weights.bin" "$MNT/det/active/weights.bin"
	unmount_
fi
step "no inode left while it is written, although the room was enough"
mount -o remount,nr_inodes=$(($(find "$W/store" | wc -l) + 3)) "$W/store"
before=$(find "$W/store" -type f | sort)
gen raw 200K 5 "$W/src2/a-first.bin"
gen raw 200K 6 "$W/src2/weights.bin"
(cd "$W/src2" && pack 2.5.0 3 "$W/b25" a-first.bin weights.bin)
expect 5 insufficient_storage "$modelfs" install -c "$CFG" "$W/b25"
[ "$before" = "$(find "$W/store" -type f | sort)" ] || fail "left in the store: $(diff <(echo "$before") <(find "$W/store" -type f | sort))"
mount -o remount,nr_inodes=10000 "$W/store"
step "a full disk under the state"
cp -a "$W/state" "$W/state.copy"
mount -t tmpfs -o size=1m,mode=0700 modelfs-test "$W/state" 2>/dev/null || skip "cannot mount a tmpfs here"
at_exit "umount $W/state"
cp -a "$W/state.copy/." "$W/state/"
gen raw 50K 4 "$W/small.bin"
pack 3.0.0 4 "$W/b3" "$W/small.bin"
cat /dev/zero >"$W/state/filler" 2>/dev/null || true
rc=0
timeout 60 "$modelfs" install -c "$CFG" "$W/b3" >"$W/expect.out" 2>&1 || rc=$?
[ "$rc" = 5 ] || fail "install with a full state: exit $rc: $(cat "$W/expect.out")"
rm "$W/state/filler"
expect 0 . "$modelfs" status -c "$CFG" det
! grep -q 3.0.0 "$W/expect.out" || fail "a version became active that could not be committed"
install_ "$W/b3" || fail "install after room was made for the state: exit $?"
