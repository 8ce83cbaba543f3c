#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every way in which a runtime touches a file gives the right bytes, in both tiers.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fileprobe
tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
keys
gen raw 20M 5 "$W/weights.bin"
gen onnx 1M 5 "$W/model.onnx"
for tier in $tiers; do
	for kind in encrypted plain; do
		step "$tier, $kind"
		rm -rf "$W/state" "$W/store" "$W/b1"
		if [ "$kind" = encrypted ]; then
			config "det: {serve: $tier, model_key: \"file:mk.bin\"}"
			pack 1.0.0 1 "$W/b1" "$W/weights.bin" "$W/model.onnx"
		else
			config "det: {serve: $tier}"
			pack_plain 1.0.0 1 "$W/b1" "$W/weights.bin" "$W/model.onnx"
		fi
		install_ "$W/b1" || fail "install: exit $?"
		mount_
		wait_tier det "$tier"
		for f in weights.bin model.onnx; do
			"$B/fileprobe" all "$MNT/det/active/$f" "$W/$f" >>"$W/log" 2>&1 || fail "fileprobe of $f in tier $tier"
			# again, from the page cache
			"$B/fileprobe" all "$MNT/det/active/$f" "$W/$f" >>"$W/log" 2>&1 || fail "fileprobe of $f, warm, in tier $tier"
		done
		unmount_
	done
done
[ "$tiers" != paged ] || skip "resident tier: Linux $(uname -r) has no FUSE passthrough (paged passed)"
