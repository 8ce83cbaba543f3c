# shellcheck shell=bash disable=SC2034,SC2154 # of lib.sh
# SPDX-License-Identifier: Apache-2.0
# What the scripts about repositories share; sourced after lib.sh.
B=$(dirname "$MODELPUB")
for t in cutcalls tuf-client; do [ -x "$B/$t" ] || { echo "SKIP: $B/$t is not built"; exit 77; }; done

pack() { modelpub pack --id det --key "$W/release.pem" --quiet "$@" >/dev/null; }
bundle() { echo "$W/B$1"; }
ok() { modelpub check --quiet "$@"; }
version() { grep -oE '"version":[0-9]+}}$' "$1" | grep -oE '[0-9]+'; } # of a metadata file
policy() { modelpub rollout "${1:-REPO}" det; }
other_tuf() { # METADATA ROOT TARGET...: read by another implementation; nothing where there is none
	local rc=0
	/usr/bin/python3 "$top/tests/tuf/read-repo.py" "$@" || rc=$?
	[ $rc -eq 0 ] || [ $rc -eq 77 ]
}
client() { "$B/tuf-client" --metadata-dir "$1" --metadata-url "file://$PWD/REPO/metadata/" refresh; }
keys_of() { # DIR ROLE...: a folder of keys with these alone
	local d=$1 r
	shift
	mkdir -p "$d"
	for r; do cp "$W/K/$r.pem" "$d/"; done
}
fresh() { copy "$W/R1" REPO; } # a repository with det 1.1.0
listing() { (cd "$1" && find . -type f ! -name '.*' -print0 | sort -z | xargs -0 sha256sum); }
now_new_or_old() { # what a client sees at this moment is whole: 1.1.0 alone, or with 1.2.0
	local n
	modelpub check --root "$W/K/root.json" "$1" >see || { cat see; return 1; }
	n=$(grep -oE '[0-9]+ versions?,' see)
	case $n in "1 version,") echo old >>seen ;; "2 versions,") echo new >>seen ;; *) say_fail "sees $n" ;; esac
}

# The crash matrix: whatever call it dies at, a client reads the old state or the new one, and the
# command can be run again.
killed_everywhere() { # COMMAND...: a modelpub command on REPO with keys in K
	local n=0 calls rc
	copy "$W/R1" REPO
	copy "$W/K" K
	calls=$("$B/cutcalls" 0 "$MODELPUB" "$@" 2>&1 >/dev/null | tail -n 1)
	[ "$calls" -gt 5 ]
	while [ $((n += 1)) -le "$calls" ]; do
		copy "$W/R1" REPO
		copy "$W/K" K
		rc=0
		"$B/cutcalls" "$n" "$MODELPUB" "$@" >/dev/null 2>&1 || rc=$?
		[ $rc -eq 137 ] || [ $rc -eq 0 ] || say_fail "call $n: exit $rc"
		now_new_or_old REPO || say_fail "call $n of $calls of: $*"
		rc=0
		modelpub "$@" >/dev/null 2>&1 || rc=$?
		[ $rc -eq 0 ] || [ $rc -eq 2 ] || say_fail "again after call $n: exit $rc"
		now_new_or_old REPO
	done
	listing REPO >after
	absent '/\.' after
}

# fixture N...: a model-signing key, role keys K, bundles BN, a repository R1 with det 1.1.0.
fixture() {
	local i
	mkdir src
	modelpub key --out release.pem >release.id && modelpub key --out stranger.pem >/dev/null || exit 1
	openssl rand -out src/weights.bin 300000 && echo labels >src/labels.txt && : >src/empty || exit 1
	for i; do
		echo "$i" >src/number
		pack --version "1.$i.0" --release "$i" --out "B$i" src || exit 1
	done
	modelpub init R1 --keys K --trust release.pub.pem >/dev/null && modelpub publish R1 B1 --keys K >/dev/null || exit 1
}
