#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A download is ended, with all its processes, before calls that change a disk all over it, and staging is damaged in
# between: what was journalled is not fetched again, never a wrong byte reaches the store, and the next attempt succeeds.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_program dltool
need_program cutcalls
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
keys
mkdir -p "$W/repo" "$W/store"
gen raw 9000000 7 "$W/big.bin"
gen raw 300000 8 "$W/small.bin"
pack_plain 1.0.0 1 "$W/b1" "$W/big.bin" "$W/small.bin"
blobs "$W/b1" "$W/repo"
config_extra="repositories: {default: {url: \"file://$W/repo\", root: release.pub.pem}}
"
config 'det: {}'
chunk=131072 batch=1000000
hash=$(sha256sum <"$W/big.bin") hash=${hash%% *}
staged=$W/store/staging/dl-det/$hash
fresh() { rm -rf "$W/store"; mkdir "$W/store"; }
whole() {
	local file h
	for file in "$W"/b1/payload/* "$W"/b1/chunks/*; do
		h=$(sha256sum <"$file") h=${h%% *}
		cmp "$file" "$W/store/blobs/sha256/${h:0:2}/$h" || fail "cut $1: $file differs"
	done
	[ -z "$(ls -A "$W/store/staging")" ] || fail "cut $1: left in staging: $(ls "$W/store/staging")"
}
# No blob is in its place before all of them are right: one that is there is right.
none_wrong() {
	local f
	[ -d "$W/store/blobs" ] || return 0
	find "$W/store/blobs" -type f | while read -r f; do
		[ "$(sha256sum <"$f")" = "$(basename "$f")  -" ] || fail "cut $1: $f is wrong"
	done
}
claimed() { # chunks that the journal claims
	local n=0 b
	[ -s "$staged.journal" ] || { echo 0; return; }
	for b in $(od -An -v -tu1 -j 96 "$staged.journal"); do
		while [ "$b" -gt 0 ]; do
			n=$((n + (b & 1))) b=$((b >> 1))
		done
	done
	echo "$n"
}
value() { sed -n "s/.* $1=\([0-9]*\).*/\1/p" <<<"$line"; }

"$B/cutcalls" 0 dltool "$CFG" "$W/store" "$W/b1" batch=$batch >"$W/calls" 2>&1 || fail "without a cut: $(cat "$W/calls")"
whole none
calls=$(tail -n 1 "$W/calls")
[ "$calls" -gt 50 ] || fail "only $calls calls counted"
step "$calls calls"
resumed_some=no
stride=$((calls / 12 + 1))
for ((i = 1; i <= calls; i++)); do
	# All over it, each of the first (folders, journal) and of the last (renames).
	[ $((i % stride)) = 0 ] || [ "$i" -le 7 ] || [ "$i" -gt $((calls - 7)) ] || continue
	fresh
	rc=0
	"$B/cutcalls" "$i" dltool "$CFG" "$W/store" "$W/b1" batch=$batch >>"$W/log" 2>&1 || rc=$?
	[ "$rc" = 137 ] || [ "$rc" = 0 ] || fail "cut $i: exit $rc"
	none_wrong "$i"
	n=$(claimed)
	if [ -e "$staged.data" ]; then
		there=$(($(stat -c %b "$staged.data") * 512))
		# The batch under way, the one being written, and a chunk of each thread.
		[ $((there - n * chunk)) -le $((2 * batch + 8 * chunk)) ] || fail "cut $i: $there bytes there, $n chunks journalled"
	fi
	case $((i % 4)) in
	1) [ ! -s "$staged.data" ] || flip "$staged.data" $((n > 1 ? chunk + 5 : 0)) ;;
	2) [ ! -s "$staged.journal" ] || { [ $((i % 8)) = 2 ] && flip "$staged.journal" 40 && n=0; } || true ;;
	esac
	line=$(timeout 60 dltool "$CFG" "$W/store" "$W/b1" batch=$batch 2>>"$W/log") || fail "cut $i: the next attempt: $line"
	whole "$i"
	[ ! -e "$staged.data" ] || fail "cut $i: still staged"
	[ "$(value resumed)" -ge $(((n - 1) * chunk)) ] || [ "$rc" = 0 ] || find "$W/store/blobs" -name "$hash" | grep -q . ||
		fail "cut $i: $n chunks were journalled: $line"
	[ "$(value resumed)" -lt $((4 * chunk)) ] || resumed_some=yes
done
[ "$resumed_some" = yes ] || fail "no attempt resumed anything"
