#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Eight processes load two files of `active` again and again while it is swapped: no error, and never two versions
# in one load. 1,000 swaps with MFS_SWAPS=1000 (scripts/bench).
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program swapload
swaps=${MFS_SWAPS:-40}
keys
config "det: {serve: paged}"
for v in 1 2; do
	mkdir "$W/src$v"
	# Both files begin with the version's own bytes.
	for f in a.bin b.bin; do printf '%08d' "$v" | cat - <(head -c 20000 /dev/urandom) >"$W/src$v/$f"; done
	(cd "$W/src$v" && pack_plain "1.$v.0" "$v" "$W/b$v" a.bin b.bin)
	install_ "$W/b$v" || fail "install: exit $?"
done
mount_
"$B/swapload" 8 600 "$MNT/det/active" a.bin b.bin >"$W/loads" 2>"$W/load.err" &
loads=$!
at_exit "kill $loads 2>/dev/null || true"
start=$(date +%s%N)
for ((i = 0; i < swaps; i++)); do
	"$modelfs" pin -c "$CFG" det "1.$((i % 2 + 1)).0" >>"$W/log" 2>&1 || fail "swap $i: exit $?"
	[ "$(readlink "$MNT/det/active")" = "versions/1.$((i % 2 + 1)).0" ] || fail "swap $i did not happen"
done
took=$(($(date +%s%N) - start))
kill -TERM "$loads" 2>/dev/null || true
wait "$loads" || fail "a load failed: $(sort "$W/load.err" | uniq -c | head -n 5)"
seen=$(sed 's/.*, \([0-9]*\) versions.*/\1/' "$W/loads")
[ "$seen" -ge "$swaps" ] || fail "only $seen changes seen in $swaps swaps"
step "$swaps swaps, $((took / swaps / 1000)) us each; $(cat "$W/loads")"
unmount_
