#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A web server misbehaves once, in every way it can, at several places of a download: the version arrives whole, a fault
# costs one chunk at most, and when it never stops misbehaving nothing reaches the store and the byte budget holds.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_program dltool
need_tool curl
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
keys
mkdir -p "$W/repo" "$W/store"
gen raw 9000000 7 "$W/big.bin"
gen raw 300000 8 "$W/small.bin"
pack_plain 1.0.0 1 "$W/b1" "$W/big.bin" "$W/small.bin"
blobs "$W/b1" "$W/repo"
hostile_start "$W/repo"
configure() { # ORIGIN [MIRRORS]
	config_extra="repositories: {default: {url: \"$1\", root: release.pub.pem${2:+, mirrors: [$2]}}}
"
	config 'det: {}'
}
configure "$HOSTILE"
chunk=131072
needed=$(cd "$W/b1" && du -bc payload/* chunks/* | tail -n 1 | cut -f 1)

download() { # EXPECTED OUTCOME, OPTION...: the line of dltool is in $line
	local want=$1
	shift
	line=$(timeout 200 dltool "$CFG" "$W/store" "$W/b1" "slow=1000,${slow:-3}" backoff=20 "$@" 2>>"$W/log") || true
	echo "$line" >>"$W/log"
	[ "${line%% *}" = "$want" ] || fail "$what: wanted $want: $line"
}
value() { sed -n "s/.* $1=\([0-9]*\).*/\1/p" <<<"$line"; }
whole() {
	local file hash
	for file in "$W"/b1/payload/* "$W"/b1/chunks/*; do
		hash=$(sha256sum <"$file") hash=${hash%% *}
		cmp "$file" "$W/store/blobs/sha256/${hash:0:2}/$hash" || fail "$what: $file differs"
	done
	[ -z "$(ls -A "$W/store/staging")" ] || fail "$what: left in staging: $(ls "$W/store/staging")"
}
nothing() { [ -z "$(find "$W/store/blobs" -type f)" ] || fail "$what: $(find "$W/store/blobs" -type f) reached the store"; }
fresh() { rm -rf "$W/store"; mkdir "$W/store"; }

what="no fault"
download ok
whole
[ "$(value fetched)" = "$needed" ] || fail "$line: $needed bytes are needed"

# A fault costs one chunk.
step "one fault, at each of the first requests"
for mode in 500 408 404 403 503 416 truncate corrupt wrong-range short-206 long-206 whole etag endless redirect portal login \
	reset gzip junk headers; do
	for nth in 0 1 3; do
		what="$mode at request $nth"
		fresh
		faults_clear
		fault "$mode" nth=$nth after=200000
		download ok
		whole
		[ "$(value wasted)" -le $chunk ] || fail "$what: $line"
	done
done
step "slow ones"
slow=2
for mode in hang stall drip slow-headers; do
	for nth in 1 4; do
		what="$mode at request $nth"
		fresh
		faults_clear
		fault "$mode" nth=$nth after=200000
		download ok
		whole
		[ "$(value wasted)" -le $chunk ] || fail "$what: $line"
	done
done
slow=

step "429 with Retry-After"
what=429
fresh
faults_clear
fault 429 retry=1 nth=3
begun=$(date +%s%N)
download ok
whole
[ $((($(date +%s%N) - begun) / 1000000)) -ge 900 ] || fail "$what: it did not wait: $line"
fresh
faults_clear
fault 429 retry=500 count=all
download net_http
[ "$(value retry)" -ge 400 ] || fail "$what: $line"
nothing

step "faults that never end: nothing reaches the store, within the byte budget"
budget=3000000
for mode in corrupt truncate short-206 wrong-range etag endless login 500; do
	what="$mode for ever"
	fresh
	faults_clear
	case $mode in etag | short-206) continue ;; esac # the bytes are right
	fault "$mode" count=all after=100
	for _ in 1 2 3; do
		line=$(timeout 60 dltool "$CFG" "$W/store" "$W/b1" slow=1000,1 backoff=5 patience=1 budget=$budget 2>>"$W/log") &&
			fail "$what: $line"
		[ "$(value fetched)" -le $budget ] || fail "$what: $line"
		nothing
	done
	# And when it has become honest again, what was right before is not fetched again.
	faults_clear
	download ok
	whole
done

step "a server that knows no ranges"
what="no ranges"
fresh
faults_clear
fault whole count=all
download ok
whole

step "another mirror takes over"
mkdir "$W/rotten"
cp -r "$W/repo/blobs" "$W/rotten/"
find "$W/rotten" -type f | while read -r f; do [ ! -s "$f" ] || flip "$f" 0; done
for mirror in "file://$W/rotten" "http://127.0.0.1:1" "file://$W/absent" "$HOSTILE/nowhere"; do
	what="mirror $mirror"
	fresh
	faults_clear
	configure "$HOSTILE" "$mirror"
	download ok
	whole
	[ "$(value wasted)" -le $((8 * chunk)) ] || fail "$what: $line"
done
what="only the rotten mirror"
fresh
faults_clear
configure "$HOSTILE" "{url: \"file://$W/rotten\", only: true}"
download hash_mismatch patience=2
nothing
[ "$(hostile_stats | jq .requests)" = 0 ] || fail "$what: the repository was asked: $(hostile_stats)"

step "fetch is killed again and again"
what="fetch killed"
fresh
faults_clear
configure "$HOSTILE"
download ok kill=150 patience=150
whole
