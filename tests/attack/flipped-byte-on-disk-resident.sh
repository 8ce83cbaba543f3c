#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Resident: damage before the fill never becomes a wrong byte; damage after it does not matter any more.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_resident
need_program fileprobe
keys
config 'det: {serve: resident, model_key: "file:mk.bin"}'
gen raw 2M 1 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
install_ "$W/b1" || fail "install: exit $?"
data=$(blob "$(jq -r '.files[0].sha256' "$W/b1/manifest.json")")
chunk=$(jq '.files[0].chunk_size' "$W/b1/manifest.json")
step "before the fill"
flip "$data" 1000000
mount_
for _ in 1 2 3 4; do
	forget "$MNT/det/active/weights.bin"
	"$B/fileprobe" damaged "$MNT/det/active/weights.bin" "$W/weights.bin" $((1000000 / chunk * chunk)) "$chunk" || fail "before the fill"
	sleep 0.2
done
! tier_is det resident || fail "a damaged model became resident"
[ -L "$MNT/det/active" ] || fail "damage took the whole model away"
unmount_
flip "$data" 1000000
step "after the fill"
mount_
wait_tier det resident
flip "$data" 5
flip "$data" 1000000
forget "$MNT/det/active/weights.bin"
same "$W/weights.bin" "$MNT/det/active/weights.bin"
"$B/fileprobe" all "$MNT/det/active/weights.bin" "$W/weights.bin" >>"$W/log" 2>&1 || fail "resident copy"
