#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A model beyond 4 GiB: every length is 64-bit, in both tiers.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fileprobe
[ "$(df --output=avail -k "$W" | tail -1)" -gt $((1 << 20)) ] || skip "less than 1 GiB free below ${TMPDIR:-/tmp}"
keys
gen sparse 4200M 9 "$W/big.bin"
# Plain, so that holes stay holes in bundle and store.
config 'det: {serve: paged}'
pack_plain 1.0.0 1 "$W/b1" "$W/big.bin"
[ "$(du -k "$W/b1" | tail -1 | cut -f1)" -lt $((1 << 20)) ] || skip "modelpub writes holes as bytes here: $(du -sh "$W/b1")"
install_ "$W/b1" || fail "install: exit $?"
mount_
[ "$(stat -Lc %s "$MNT/det/active/big.bin")" = 4404019200 ] || fail "size $(stat -Lc %s "$MNT/det/active/big.bin")"
"$B/fileprobe" all "$MNT/det/active/big.bin" "$W/big.bin" >>"$W/log" 2>&1 || fail "fileprobe, paged"
unmount_
( need_resident ) >/dev/null 2>&1 || skip "resident tier: Linux $(uname -r) has no FUSE passthrough (paged passed)"
mem=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
[ "$mem" -gt $((12 << 20)) ] || skip "resident tier: less than 12 GiB of memory available (paged passed)"
config_extra='memory_budget: 60%
' config 'det: {serve: resident}'
mount_
wait_tier det resident 90
"$B/fileprobe" all "$MNT/det/active/big.bin" "$W/big.bin" >>"$W/log" 2>&1 || fail "fileprobe, resident"
unmount_
