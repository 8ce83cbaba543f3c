#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ONNX Runtime computes the same from the mount as from the plain file, before, during and after an install.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_tool node
export ORT_DIR=${MODELFS_CACHE:-$top/build/cache}/npm
[ -d "$ORT_DIR/node_modules/onnxruntime-node" ] || skip "onnxruntime-node is not installed (scripts/deps --tests)"
ort() { timeout 120 node "$e2e_lib/ort.js" "$@"; }
keys
for v in 1 2; do
	mkdir -p "$W/src$v"
	gen onnx 2M "$v" "$W/src$v/model.onnx"
	gen onnx-external 4M "$v" "$W/src$v/external.onnx"
	(cd "$W/src$v" && pack "1.$v.0" "$v" "$W/b$v" model.onnx external.onnx external.onnx.data)
	ort run "$W/src$v/model.onnx" "$W/src$v/external.onnx" >"$W/want$v" 2>>"$W/log" || fail "ONNX Runtime does not run the plain file"
done
! cmp -s "$W/want1" "$W/want2" || fail "both versions compute the same: the test shows nothing"
tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
for tier in $tiers; do
	step "$tier: before"
	rm -rf "$W/state" "$W/store" "$W/stop"*
	config "det: {serve: $tier, model_key: \"file:mk.bin\", pin: off}"
	install_ "$W/b1" || fail "install: exit $?"
	mount_
	wait_tier det "$tier"
	ort run "$MNT/det/active/model.onnx" "$MNT/det/active/external.onnx" >"$W/got" 2>>"$W/log" || fail "ONNX Runtime on the mount"
	same "$W/want1" "$W/got"
	step "$tier: during"
	ort loop "$MNT/det/active/model.onnx" "$W/stop" >"$W/loop" 2>>"$W/log" &
	loop=$!
	jobs_started=("$loop")
	seen() { [ "$(jq length "$W/stop.seen" 2>/dev/null)" = "$1" ]; }
	until_true 40 seen 1 || fail "ONNX Runtime did not load the model"
	install_ "$W/b2" || fail "install during inference: exit $?"
	ort run "$MNT/det/active/model.onnx" "$MNT/det/active/external.onnx" >"$W/got" 2>>"$W/log" || fail "ONNX Runtime right after the install"
	same "$W/want2" "$W/got"
	until_true 40 seen 2 || fail "the loop never saw the new version"
	touch "$W/stop"
	wait "$loop" || fail "ONNX Runtime failed during the install"
	jobs_started=()
	jq -e --rawfile a "$W/want1" --rawfile b "$W/want2" \
		'.seen == [($a | split("\n"))[0], ($b | split("\n"))[0]] and .kept == .seen[0]' "$W/loop" >/dev/null ||
		fail "outputs during the install: $(cat "$W/loop")"
	step "$tier: after"
	wait_tier det "$tier"
	ort run "$MNT/det/active/model.onnx" "$MNT/det/active/external.onnx" "$MNT/det/previous/model.onnx" >"$W/got" 2>>"$W/log" ||
		fail "ONNX Runtime after the install"
	{ cat "$W/want2"; head -1 "$W/want1"; } | cmp - "$W/got" || fail "outputs after the install"
	echo "  $tier: $(cut -c1-120 "$W/loop")"
	unmount_
done
