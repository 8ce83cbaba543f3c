#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many small files, nested folders, empty files, sizes around a chunk, names with spaces and UTF-8.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
config
mkdir -p "$W/src/a b/c/ü/d" "$W/src/many"
for s in 0 1 4095 4096 4097 65535 65536 65537 131071 131072 131073 262143 262144 262145; do
	gen raw "$s" "$s" "$W/src/size $s"
done
for i in $(seq 1 400); do printf 'file %s\n' "$i" >"$W/src/many/f$i"; done
gen raw 131072 3 "$W/src/a b/c/ü/d/模型.bin"
printf x >"$W/src/a b/-leading dash"
printf y >"$W/src/a b/c/$(printf 'n%.0s' {1..255})"
printf z >"$W/src/a b/quote'\"\$(x)"
pack 1.0.0 1 "$W/b1" "$W/src"
expect 0 . "$modelpub" verify --pub "$W/release.pub.pem" "$W/b1"
install_ "$W/b1" || fail "install: exit $?"
tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
for tier in $tiers; do
	step "$tier"
	config "det: {serve: $tier, model_key: \"file:mk.bin\"}"
	mount_
	wait_tier det "$tier"
	diff -r "$W/src" "$MNT/det/active" || fail "the tree differs"
	[ "$(find "$MNT/det/versions/1.0.0/" -type f | wc -l)" = "$(find "$W/src" -type f | wc -l)" ] || fail "number of files"
	[ "$(find "$MNT/det/versions/1.0.0/many" -type f | sort -u | wc -l)" = 400 ] || fail "a listing of 400 names"
	find "$MNT/det/versions/1.0.0/" -type f -print0 | xargs -0 -n 8 -P 4 cat | wc -c >"$W/sum"
	[ "$(cat "$W/sum")" = "$(find "$W/src" -type f -print0 | xargs -0 cat | wc -c)" ] || fail "bytes in all"
	unmount_
done
