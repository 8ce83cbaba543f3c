#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Versions beyond `retain` leave the store by themselves, mounted or not; what is open stays readable.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
config_extra=$'update: {retain: 1}\n'
config 'det: {serve: paged, model_key: "file:mk.bin"}'
for v in 1 2 3 4 5 6 7; do
	gen raw 200K "$v" "$W/weights$v.bin"
	mkdir "$W/src$v" && mv "$W/weights$v.bin" "$W/src$v/weights.bin"
	pack "1.$v.0" "$v" "$W/b$v" "$W/src$v"
done
versions() { find "$W/store/manifests" -mindepth 1 -maxdepth 1 -type d | wc -l; }
blobs() { find "$W/store/blobs" -type f | wc -l; }

step "not mounted"
for v in 1 2 3 4; do install_ "$W/b$v" || fail "install $v: exit $?"; done
[ "$(versions)" = 2 ] || fail "$(versions) versions are kept, wanted the active one and one before"
[ "$(blobs)" = 4 ] || fail "$(blobs) blobs are kept for two versions of one file with its table"

step "mounted, with a file of the oldest version open"
mount_
exec 9<"$MNT/det/versions/1.3.0/weights.bin"
for v in 5 6 7; do install_ "$W/b$v" || fail "install $v: exit $?"; done
same "$W/src7/weights.bin" "$MNT/det/active/weights.bin"
same "$W/src6/weights.bin" "$MNT/det/previous/weights.bin"
cmp "$W/src3/weights.bin" - <&9 || fail "an open file lost its content to the collection"
[ "$(versions)" = 3 ] || fail "$(versions) versions are kept, wanted two and the open one"
exec 9<&-
collected() { timeout 20 "$modelfs" gc -c "$CFG" >>"$W/log" 2>&1; [ "$(versions)" = 2 ]; }
until_true 10 collected || fail "$(versions) versions are kept after the close"
same "$W/src7/weights.bin" "$MNT/det/active/weights.bin"
