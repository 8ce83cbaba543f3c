#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A byte flipped on disk under a mounted version, paged: that chunk is EIO, no wrong byte, the rest is right.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fileprobe
keys
gen raw 1M 1 "$W/weights.bin"
gen raw 5000 1 "$W/small.bin"
cp "$W/weights.bin" "$W/orig"
for kind in encrypted plain; do
	rm -rf "$W/state" "$W/store" "$W/b1"
	if [ "$kind" = encrypted ]; then
		config 'det: {serve: paged, model_key: "file:mk.bin"}'
		pack 1.0.0 1 "$W/b1" "$W/weights.bin" "$W/small.bin"
	else
		config 'det: {serve: paged}'
		pack_plain 1.0.0 1 "$W/b1" "$W/weights.bin" "$W/small.bin"
	fi
	install_ "$W/b1" || fail "install: exit $?"
	chunk=$(jq '.files[] | select(.name == "weights.bin") | .chunk_size' "$W/b1/manifest.json")
	data=$(blob "$(jq -r '.files[] | select(.name == "weights.bin") | .sha256' "$W/b1/manifest.json")")
	small=$(blob "$(jq -r '.files[] | select(.name == "small.bin") | .sha256' "$W/b1/manifest.json")")
	[ -f "$data" ] && [ -f "$small" ] || fail "no blob at $data"
	mount_
	same "$W/weights.bin" "$MNT/det/active/weights.bin"
	for off in 0 $((chunk - 1)) "$chunk" $((chunk * 5 + 77)) 1048575; do
		step "$kind, byte $off"
		flip "$data" "$off"
		forget "$MNT/det/active/weights.bin"
		"$B/fileprobe" damaged "$MNT/det/active/weights.bin" "$W/weights.bin" $((off / chunk * chunk)) "$chunk" || fail "byte $off"
		flip "$data" "$off"
	done
	step "$kind: both good again after the repair of the disk"
	forget "$MNT/det/active/weights.bin"
	same "$W/weights.bin" "$MNT/det/active/weights.bin"
	step "$kind: a file of one chunk"
	flip "$small" 4999
	forget "$MNT/det/active/small.bin"
	! cat "$MNT/det/active/small.bin" >"$W/out" 2>"$W/err" || fail "a damaged file of one chunk was read"
	grep -q 'Input/output error' "$W/err" || fail "not EIO: $(cat "$W/err")"
	[ ! -s "$W/out" ] || fail "bytes of a damaged chunk came out"
	grep -q '"hash_mismatch"' "$MNT/det/events" || fail "no event of the damage: $(tail -n 2 "$MNT/det/events")"
	grep -qE '^modelfs_outcomes_total\{[^}]*hash_mismatch' "$MNT/.modelfs/metrics.prom" || fail "metrics do not count it"
	rc=0
	timeout 60 "$modelfs" verify -c "$CFG" det >"$W/verify" 2>&1 || rc=$?
	[ "$rc" = 3 ] && grep -q hash_mismatch "$W/verify" || fail "verify did not find the damage: exit $rc, $(cat "$W/verify")"
	[ "$(readlink "$MNT/det/active")" = versions/1.0.0 ] || fail "damage moved the active link"
	unmount_
done
