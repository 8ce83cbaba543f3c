#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The client over HTTP: exactly the requests that are needed, in order, none twice; every fault of a
# server ends the run with exit 1, leaves what was trusted, and the next run is good again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib.sh
. "$here/../../scripts/lib.sh"
build=${MFS_BUILD:-$top/build}
client=$build/tuf-client
[ -x "$client" ] || die "not built: $client"
work requests
rc=0
/usr/bin/python3 "$here/make-repo.py" "$work/repo" >"$work/log" 2>&1 || rc=$?
if [ "$rc" = 77 ]; then cat "$work/log"; exit 77; fi
[ "$rc" = 0 ] || { cat "$work/log"; die "make-repo.py failed"; }
repo="$work/repo/2-delegated"
: >"$work/requests"
/usr/bin/python3 "$here/server.py" "$repo" "$work/port" "$work/requests" &
jobs_started=("$!")
for _ in $(seq 600); do [ ! -s "$work/port" ] || break; sleep 0.1; done
url=http://127.0.0.1:$(cat "$work/port")

fresh() { rm -rf "$work/state" "$work/got"; mkdir "$work/state" "$work/got"; }
init() { "$client" --metadata-dir "$work/state" init "$work/repo/root.json"; }
# Options in another order, and bases with a slash at the end.
download() {
	"$client" --target-base-url "$url/targets/" --target-dir "$work/got" --target-name "$1" --metadata-dir "$work/state" \
		--metadata-url "$url/metadata/" download 2>"$work/why"
}
asked() { paste -sd ' ' "$work/requests"; : >"$work/requests"; }
expect_asked() {
	local got
	got=$(asked)
	[ "$got" = "$1" ] || die "asked for: $got, not for: $1"
}
M=/metadata T=/targets
digest=$(sha256sum "$repo"/targets/det/*.policy.json | cut -c1-64)

fresh
init
expect_asked ""
download det/policy.json || die "$(cat "$work/why")"
expect_asked "$M/2.root.json $M/timestamp.json $M/2.snapshot.json $M/2.targets.json $M/1.policy.det.json $T/det/$digest.policy.json"
download det/policy.json || die "$(cat "$work/why")"
expect_asked "$M/2.root.json $M/timestamp.json"
download seg/a.bin || die "$(cat "$work/why")"
expect_asked "$M/2.root.json $M/timestamp.json $M/1.group.json $M/1.%C3%BCber%20uns.json $T/seg/$(cd "$repo/targets/seg" && echo *.a.bin)"

# Each fault at each step: exit 1 (never a signal, never another code), nothing asked twice, nothing
# behind it asked at all; what was verified before it stays.
list=("$M/2.root.json" "$M/timestamp.json" "$M/2.snapshot.json" "$M/2.targets.json" "$M/1.policy.det.json"
	"$T/det/$digest.policy.json")
n=0
for at in 0 1 2 3 4 5; do
	for fault in 404 403 500 close truncate endless redirect empty; do
		case $at-$fault in 0-404 | 0-403) continue ;; esac # that is how the chain of roots ends
		fresh
		init
		echo "${list[at]} $fault" >"$repo/.fault"
		rc=0
		download det/policy.json || rc=$?
		[ "$rc" = 1 ] || die "$fault for ${list[at]}: exit $rc: $(cat "$work/why")"
		expect_asked "${list[*]:0:at+1}"
		rm "$repo/.fault"
		[ "$(find "$work/got" -type f | wc -l)" = 0 ] || die "$fault for ${list[at]}: something was stored as target"
		[ "$(find "$work/state" -type f | wc -l)" = $((at < 5 ? (at == 0 ? 1 : at) : 5)) ] ||
			die "$fault for ${list[at]}: trusted: $(ls "$work/state")"
		download det/policy.json || die "after $fault: $(cat "$work/why")"
		: >"$work/requests"
		n=$((n + 1))
	done
done
say "requests: $n faults, good after each"
