#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A repository of modelpub is read by another implementation of TUF through its life: published, keys of
# every role rotated, revoked. Both it and our client find the same targets with the same bytes, follow
# from what they kept, and refuse one changed bit.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib.sh
. "$here/../../scripts/lib.sh"
build=${MFS_BUILD:-$top/build}
client=$build/tuf-client modelpub=$build/modelpub
for f in "$client" "$modelpub"; do [ -x "$f" ] || die "not built: $f"; done
work ours-by-another
rc=0
/usr/bin/python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); import othertuf' "$here" >"$work/log" 2>&1 || rc=$?
if [ "$rc" = 77 ]; then cat "$work/log"; exit 77; fi
cd "$work"

mkdir src
echo "a model" >src/model.bin
"$modelpub" key --out release.pem >log
for i in 1 2; do
	echo "$i" >src/number
	"$modelpub" pack --id det --key release.pem --quiet --version "1.$i.0" --release "$i" --out "B$i" src >log
done
"$modelpub" init repo --keys keys --trust release.pub.pem >log
cp repo/metadata/1.root.json root.json
mkdir state
"$client" --metadata-dir state init root.json

# Every target that the newest metadata names, by both; from what each has kept.
both() { # STEP
	local names=() t n=0
	while read -r t; do names+=("$t"); done < <(cat "$(ls -v repo/metadata/*.targets.json | tail -n 1)" \
		"$(newest release.det)" "$(newest policy.det)" | grep -oE '"[^"]+":\{("custom":\{[^}]*\},)?"hashes"' | cut -d'"' -f2 | sort -u)
	[ "${#names[@]}" -gt 0 ] || die "$1: no targets"
	/usr/bin/python3 "$here/read-repo.py" --state other repo/metadata root.json "${names[@]}" >list ||
		die "$1: the other implementation refuses"
	rm -rf got
	mkdir got
	for t in "${names[@]}"; do
		"$client" --metadata-url "file://$work/repo/metadata" --metadata-dir state --target-name "$t" --target-dir got \
			--target-base-url "file://$work/repo/targets" download || die "$1: our client refuses $t"
		[ "$(cat got/* | sha256sum | cut -c1-64)" = "$(awk -v t="$t" '$1 == t {print $2}' list)" ] ||
			die "$1: $t differs"
		rm -f got/*
		n=$((n + 1))
	done
	say "$1: $n targets"
}
newest() { ls -v repo/metadata/*."$1".json 2>/dev/null | tail -n 1 || true; }

"$modelpub" publish repo B1 --keys keys >log
both published
"$modelpub" publish repo B2 --keys keys --percent 10 >log
both "published again"
for role in timestamp snapshot targets policy release root; do
	"$modelpub" rotate repo "$role" --keys keys >log 2>&1 || "$modelpub" rotate repo "$role.det" --keys keys >log 2>&1 ||
		die "rotate $role: $(cat log)"
	both "rotated $role"
done
"$modelpub" revoke repo det 1.2.0 --keys keys --action withdraw >log
"$modelpub" refresh repo --keys keys >log
both revoked

flip() { # FILE: one bit in its middle
	local at byte
	at=$(($(stat -c %s "$1") / 2))
	byte=$(od -An -tu1 -j "$at" -N 1 "$1")
	printf '%b' "\\0$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
for f in repo/metadata/2.root.json repo/metadata/timestamp.json "$(newest snapshot)" "$(newest targets)" "$(newest policy.det)"; do
	[ -f "$f" ] || continue
	flip "$f"
	rm -rf state got
	mkdir state got
	"$client" --metadata-dir state init root.json
	ours=0 theirs=0
	"$client" --metadata-url "file://$work/repo/metadata" --metadata-dir state --target-name det/policy.json --target-dir got \
		--target-base-url "file://$work/repo/targets" download 2>log || ours=$?
	/usr/bin/python3 "$here/read-repo.py" repo/metadata root.json det/policy.json >list 2>&1 || theirs=$?
	flip "$f"
	[ "$ours $theirs" = "1 1" ] || die "one bit of $f: ours exits $ours, the other $theirs"
done
say "ours-by-another: good"
