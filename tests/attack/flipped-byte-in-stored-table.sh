#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A byte flipped in a stored chunk table, while mounted and before mounting: no wrong byte, an error.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
config 'det: {serve: paged, model_key: "file:mk.bin"}'
gen raw 1M 1 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"
table=$(blob "$(jq -r '.files[0].chunks_sha256' "$W/b1/manifest.json")")
[ -f "$table" ] || fail "no blob at $table"
for off in 0 16 40 70 -1; do
	step "byte $off, before mounting"
	cp "$table" "$W/table"
	flip "$table" "$off"
	rc=0
	timeout 30 "$modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || rc=$?
	if mountpoint -q "$MNT"; then
		at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
		! cat "$MNT/det/active/weights.bin" >"$W/out" 2>/dev/null || fail "a file with a damaged table was read"
		[ ! -s "$W/out" ] || cmp -n "$(stat -c %s "$W/out")" "$W/out" "$W/weights.bin" || fail "a WRONG BYTE came out"
		unmount_
	fi
	cp "$W/table" "$table"
done
mount_
same "$W/weights.bin" "$MNT/det/active/weights.bin"
