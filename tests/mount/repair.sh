#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stored chunks that no longer verify are fetched again while a reader waits, and written back; a source that hangs or
# is wrong costs the reader ten seconds at most and ends in EIO, kill -9 works meanwhile, and nobody else waits.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_tool curl
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
keys
gen raw 4000000 7 "$W/big.bin"
gen raw 500 8 "$W/one.bin"
pack 1.0.0 1 "$W/b1" "$W/big.bin" "$W/one.bin"
"$modelpub" init "$W/repo" --keys "$W/role" >>"$W/log" 2>&1 || fail "modelpub init"
"$modelpub" publish "$W/repo" "$W/b1" --keys "$W/role" >>"$W/log" 2>&1 || fail "modelpub publish"
hostile_start "$W/repo"
root=$(find "$W/role" "$W/repo" -name '*root.json' | head -n 1)
config_extra="repositories: {default: {url: \"$HOSTILE\", root: \"$root\"}}
"
config 'det: {serve: paged, model_key: "file:mk.bin"}'
mount_
timeout 60 "$modelfs" update -c "$CFG" >>"$W/log" 2>&1 || fail "modelfs update: exit $?"
same "$W/big.bin" "$MNT/det/active/big.bin"

# Neither the kernel nor serve has plaintext of it any more.
drop() {
	fresh_serve
	echo 3 >/proc/sys/vm/drop_caches
}
stored() { # FILE of the bundle: its blob in the store
	local h
	h=$(sha256sum <"$W/b1/$1") h=${h%% *}
	echo "$W/store/blobs/sha256/${h:0:2}/$h"
}
repairs() { sed -n 's/^modelfs_chunk_repairs_total //p' "$MNT/.modelfs/metrics.prom"; }
blob=$(stored payload/big.bin)
cp "$blob" "$W/good"

step "flipped bytes are repaired while the reader waits"
for off in 0 700000 1500000 3999999; do flip "$blob" $off; done
drop
same "$W/big.bin" "$MNT/det/active/big.bin"
same "$W/good" "$blob"
four() { [ "$(repairs)" = 4 ]; }
until_true 10 four || fail "$(repairs) repairs"
# On a host that is busy the scrub, ten seconds after the new serve's start, may be there before the reader.
told() { grep -qE '"source":"(repair|scrub)"' "$MNT/det/events"; }
until_true 10 told || fail "no event: $(cat "$MNT/det/events")"

step "a small file, and one that is gone or cut off"
flip "$(stored payload/one.bin)" 3
drop
same "$W/one.bin" "$MNT/det/active/one.bin"
truncate -s 100000 "$blob"
echo 3 >/proc/sys/vm/drop_caches
until_true 15 cmp -s "$W/big.bin" "$MNT/det/active/big.bin" || fail "a blob that was cut off is not made anew"
same "$W/good" "$blob"

step "a source that is wrong: EIO, and the rest can be read"
fault corrupt count=all path=blobs
flip "$blob" 1500000
drop
begun=$SECONDS # ten seconds and what a loaded host takes; the source below would hold it for thirty
! dd if="$MNT/det/active/big.bin" of=/dev/null bs=4096 skip=366 count=1 status=none 2>>"$W/log" || fail "a damaged chunk was read"
[ $((SECONDS - begun)) -lt 25 ] || fail "the reader waited for $((SECONDS - begun)) s"
dd if="$MNT/det/active/big.bin" bs=4096 count=10 status=none | cmp - <(head -c 40960 "$W/big.bin") || fail "the good part differs"

step "a source that hangs: kill -9 works, others read"
faults_clear
fault hang count=all path=blobs
flip "$blob" 700000
drop
dd if="$MNT/det/active/big.bin" of=/dev/null bs=4096 skip=171 count=1 status=none 2>>"$W/log" &
reader=$!
jobs_started+=("$reader")
sleep 1
kill -0 "$reader" || fail "the reader did not wait"
timeout 5 cat "$MNT/det/active/one.bin" >/dev/null || fail "another file cannot be read meanwhile"
timeout 5 ls -l "$MNT/det/active/" >/dev/null || fail "ls waits"
kill -9 "$reader" || fail "the reader did not wait so long"
until_true 5 bash -c "! kill -0 $reader 2>/dev/null || grep -q 'State:.*Z' /proc/$reader/status" || fail "the reader cannot be killed"
wait "$reader" || true
begun=$SECONDS
! dd if="$MNT/det/active/big.bin" of=/dev/null bs=4096 skip=171 count=1 status=none 2>>"$W/log" || fail "a damaged chunk was read"
[ $((SECONDS - begun)) -lt 25 ] || fail "the reader waited for $((SECONDS - begun)) s"

step "serve dies while a reader waits: its successor goes on"
faults_clear
sleep 10 # what failed is not tried again before
until_true 30 cmp -s "$W/big.bin" "$MNT/det/active/big.bin" || fail "not repaired when the source is good again"
fault stall count=1 path=blobs after=10
flip "$blob" 100
drop
cat "$MNT/det/active/big.bin" >"$W/out" &
reader=$!
jobs_started+=("$reader")
sleep 0.5
kill -9 "$(serve_pid)"
wait "$reader" || fail "the reader got an error"
same "$W/big.bin" "$W/out"
unmount_
