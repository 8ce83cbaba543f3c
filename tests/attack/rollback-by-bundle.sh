#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Second and third door back to an older, rightly signed version: a bundle, a stick with an older copy of the whole
# repository, and a mirror, or whoever reaches the disk, that has an older version's blobs for the newer name, from the
# start or in the middle of a download. Mounted, not mounted, under observation and by a new serve.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
repository
hostile_start "$W/repo"
follow "$HOSTILE"
for v in 1 2 3 4 5; do release "$v"; done
gen raw 60K 7 "$W/other.bin"
pack 1.4.1 4 "$W/b4x" "$W/other.bin"
mount_
for v in 1 2; do
	publish "$v"
	cp -a "$W/repo" "$W/day$v"
	brings "$v"
	expect 0 "marked good" "$modelfs" mark -c "$CFG" good det active
	shows "$v"
done
publish 4
cp -a "$W/repo" "$W/day4"
brings 4
[ "$(now_)" = "1.4.0 2" ] || fail "active and floor: $(now_)"

floor=2 # as long as release 4 is observed
doors() { # WHAT
	local b before
	before=$(find "$W/store/blobs" -type f | sort | sha256sum)
	for b in b1 b2 b3 b4x; do
		expect 3 "rollback_attempt" "$modelfs" install -c "$CFG" "$W/$b"
	done
	event 1.3.0 16
	for d in 1 2; do
		expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det --from "$W/day$d"
		expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det --from "file://$W/day$d"
	done
	if mountpoint -q "$MNT"; then shows 4; fi
	[ "$(now_)" = "1.4.0 $floor" ] || fail "$1: active and floor: $(now_)"
	[ "$before" = "$(find "$W/store/blobs" -type f | sort | sha256sum)" ] || fail "$1: something stayed in the store"
	echo "  $1: rollback_attempt"
}
step "bundles of older releases, of one between the floor and what is observed, of another version; sticks of older days"
doors "under observation"
fresh_serve
doors "by a new serve"
expect 0 "marked good" "$modelfs" mark -c "$CFG" good det active
floor=4
doors "committed"
unmount_
doors "not mounted"
mount_
doors "mounted again"

step "a stick may have what is new, though the network replays an older day"
rm -rf "$W/repo"
cp -a "$W/day2" "$W/repo"
expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det --from "$W/day4"
expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
shut
rm -rf "$W/repo"
cp -a "$W/day4" "$W/repo"

step "an older version's blobs for the newer name, all of them or the rest of them"
publish 5
cp -a "$W/repo" "$W/true"
blobs_of() { jq -r '.files[] | .sha256, (.chunks_sha256 // empty)' "$1/manifest.json" | while read -r h; do echo "blobs/sha256/${h:0:2}/$h/00000"; done; }
weights() { (cd "$1" && sha256sum payload/weights.bin | cut -d' ' -f 1); }
new=$(weights "$W/b5") old=$(weights "$W/b4")
payload=blobs/sha256/${new:0:2}/$new/00000 older=blobs/sha256/${old:0:2}/$old/00000
not_yet() { # WHAT: and nobody gets anything until the next one
	faults_clear
	expect 3 "hash_mismatch" "$modelfs" update -c "$CFG" det
	until_true 20 next_is "1.5.0 download hash_mismatch" || fail "$1: $(cycle_ .)"
	event 1.5.0 12
	shows 4
	[ "$(now_)" = "1.4.0 4" ] || fail "$1: active and floor: $(now_)"
	[ "$(cycle_ .refused)" = null ] || fail "$1: condemned: $(cycle_ .refused)"
	shut
	fresh_serve # which has no grudge against the server
	echo "  $1: hash_mismatch"
}
paste -d' ' <(blobs_of "$W/b5") <(blobs_of "$W/b4") | while read -r as is; do cp "$W/true/$is" "$W/repo/$as"; done
not_yet "all of them, a set that fits"
paste -d' ' <(blobs_of "$W/b5") <(blobs_of "$W/b5") | while read -r as is; do cp "$W/true/$is" "$W/repo/$as"; done
half=$(($(stat -c %s "$W/true/$payload") / 2))
{ head -c "$half" "$W/true/$payload"; tail -c +$((half + 1)) "$W/true/$older"; } >"$W/repo/$payload"
not_yet "the second half"

step "on the disk, in the middle of a download: what is journalled is read again"
cp "$W/true/$payload" "$W/repo/$payload"
fault_only stall count=all "after=$half" "path=$new"
# By itself: the update that waited goes on with a new serve.
"$modelfs" update -c "$CFG" det >>"$W/log" 2>&1 &
waiting=$!
jobs_started+=("$waiting")
some() { faulted && [ "$(cycle_ .next.done)" -gt 100000 ]; }
until_true 20 some || fail "it does not come: $(cycle_ .)"
kill "$waiting"
wait "$waiting" || true
unmount_
staged=$(find "$W/store/staging" -type f -size +100k | head -n 1)
[ -n "$staged" ] || fail "nothing is staged: $(find "$W/store/staging" -ls)"
dd if="$W/true/$older" of="$staged" bs=64K count=2 conv=notrunc status=none
faults_clear
mount_
update_ det || [ "$(status_ det --json | jq -r .active.version)" = 1.5.0 ] || fail "update: exit $?"
shows 5
"$modelfs" verify -c "$CFG" det >>"$W/log" 2>&1 || fail "verify: exit $?"
expect 0 "marked good" "$modelfs" mark -c "$CFG" good det active
[ "$(now_)" = "1.5.0 5" ] || fail "active and floor: $(now_)"
unmount_
