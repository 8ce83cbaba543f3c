#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A repository that another implementation of TUF made is read by ours, step by step of its life; what
# is in it is found with the right bytes, what nobody may speak for is not, and one changed byte in any
# file of it is refused by both.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib.sh
. "$here/../../scripts/lib.sh"
build=${MFS_BUILD:-$top/build}
client=$build/tuf-client
[ -x "$client" ] || die "not built: $client"
work made-by-another
rc=0
/usr/bin/python3 "$here/make-repo.py" "$work/repo" >"$work/log" 2>&1 || rc=$?
if [ "$rc" = 77 ]; then cat "$work/log"; exit 77; fi
[ "$rc" = 0 ] || { cat "$work/log"; die "make-repo.py failed"; }

mkdir "$work/state" "$work/got"
"$client" --metadata-dir "$work/state" init "$work/repo/root.json"

get() { # STEP TARGET...
	local base=file://$work/repo/$1 names=() t
	shift
	for t; do names+=(--target-name "$t"); done
	"$client" --metadata-url "$base/metadata" --metadata-dir "$work/state" "${names[@]}" --target-dir "$work/got" \
		--target-base-url "$base/targets/" download 2>"$work/why"
}

for step in "$work"/repo/*/; do
	step=$(basename "$step")
	found=0 refused=0
	while read -r path digest; do
		rm -rf "$work/got"
		mkdir "$work/got"
		if [ "$digest" = - ]; then
			if get "$step" "$path"; then die "$step: $path was found"; fi
			grep -q not_selected "$work/why" || die "$step: $path: $(cat "$work/why")"
			refused=$((refused + 1))
		else
			get "$step" "$path" || die "$step: $path: $(cat "$work/why")"
			[ "$(cat "$work/got"/* | sha256sum)" = "$digest  -" ] || die "$step: $path: other bytes"
			found=$((found + 1))
		fi
	done <"$work/repo/$step/expect"
	mapfile -t all < <(awk '$2 != "-" {print $1}' "$work/repo/$step/expect")
	get "$step" "${all[@]}" || die "$step: all at once: $(cat "$work/why")"
	/usr/bin/python3 "$here/read-repo.py" --state "$work/other" "$work/repo/$step/metadata" "$work/repo/root.json" "${all[@]}" \
		>"$work/list" || die "$step: the other implementation refuses its own repository"
	[ "$(awk '{print $1, $2}' "$work/list")" = "$(awk '$2 != "-"' "$work/repo/$step/expect")" ] || die "$step: the two differ"
	say "$step: $found found, $refused not"
	[ "$found" -gt 0 ] || die "$step: nothing to find"
	[ ! -s "$work/why" ] || die "$step: $(cat "$work/why")"
done
for f in "$work"/state/*; do case $f in *.json) ;; *) die "left behind: $f" ;; esac; done

# One changed byte: a bit in the middle of each file, on a device that has nothing yet.
flip() { # FILE
	local size byte
	size=$(($(stat -c %s "$1") / 2))
	byte=$(od -An -tu1 -j "$size" -N 1 "$1")
	printf '%b' "\\0$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$size" conv=notrunc status=none
}
step=3-rotated
for f in 2.root.json 3.root.json timestamp.json 2.snapshot.json 3.snapshot.json 2.targets.json 2.policy.det.json; do
	[ -f "$work/repo/$step/metadata/$f" ] || continue
	flip "$work/repo/$step/metadata/$f"
	rm -rf "$work/state" "$work/other"
	mkdir "$work/state"
	"$client" --metadata-dir "$work/state" init "$work/repo/root.json"
	ours=0 theirs=0
	get "$step" det/policy.json || ours=$?
	/usr/bin/python3 "$here/read-repo.py" "$work/repo/$step/metadata" "$work/repo/root.json" det/policy.json >"$work/list" 2>&1 ||
		theirs=$?
	flip "$work/repo/$step/metadata/$f"
	[ "$ours" = "$theirs" ] || die "one bit of $f: ours exits $ours, the other $theirs: $(cat "$work/why")"
	case $f in 2.snapshot.json) want=0 ;; *) want=1 ;; esac # an old snapshot is not read
	[ "$ours" = "$want" ] || die "one bit of $f: exit $ours, not $want"
done
say "made-by-another: good"
