#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The store's disk is full before a mounted update, or is filled by somebody else while its bytes come, or the state's
# is: insufficient_storage, what is active stays readable, nothing piles up, and it goes on by itself after room was made.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_tool pgrep
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
repository
sed -i "s|probation: 10m|probation: 0, min_free: 0%, retain: 1|" "$CFG"
mkdir -p "$W/store" "$W/state"
mount -t tmpfs -o size=24m,mode=0755 modelfs-test "$W/store" 2>/dev/null || skip "cannot mount a tmpfs here"
at_exit "umount $W/store"
mount -t tmpfs -o size=1m,mode=0700 modelfs-test "$W/state" || skip "cannot mount a tmpfs here"
at_exit "umount $W/state"
size=1M release 1
size=8M release 2
size=8M release 3
size=1M release 4
size=1M release 5
hostile_start "$W/repo"
follow "$HOSTILE"
publish 1
mount_
brings 1
fill() { cat /dev/zero >"$1/filler" 2>/dev/null || true; }
lacks() { next_is "1.$1.0 ${2:-download} insufficient_storage"; }
left() { # nothing but blobs and manifests, and what is staged while an attempt waits
	find "$W/store" "$W/state" \( -name '*.new' -o -name '.*.new' -o -path '*/staging/*' -type f \) | grep . || return 1
}

step "full to the last byte before"
fill "$W/store"
publish 2
for _ in 1 2; do expect 5 insufficient_storage "$modelfs" update -c "$CFG" det; done
[ "$(cycle_ .offer.outcome)" = insufficient_storage ] || fail "$(cycle_ .)"
grep -q insufficient_storage "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
event 1.2.0 30
shows 1
! left || fail "left behind"

step "full, but for a little"
rm "$W/store/filler"
head -c 17M /dev/zero >"$W/store/filler"
expect 5 insufficient_storage "$modelfs" update -c "$CFG" det
lacks 2 || fail "$(cycle_ .)"
grep -q insufficient_storage "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
event 1.2.0 30
shows 1
! left || fail "left behind"
rm "$W/store/filler"
goes_on() { fresh_serve; "$modelfs" wait -c "$CFG" det --version "1.$1.0" --timeout 30s >>"$W/log" || fail "it does not go on: $(cycle_ .)"; shows "$1"; }
goes_on 2

step "filled while its bytes come"
publish 3
payload=$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b3/manifest.json")
fault stall count=all after=600000 "path=$payload"
expect 0 "1.3.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 faulted || fail "$(cycle_ .)"
fill "$W/store"
faults_clear
fetch_dies
until_true 30 lacks 3 || fail "$(cycle_ .)"
shows 2
event 1.3.0 30
rm "$W/store/filler"
goes_on 3
! left || fail "left behind"

step "the state is filled while its bytes come"
publish 4
payload=$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b4/manifest.json")
faults_clear
fault stall count=all after=300000 "path=$payload"
expect 0 "1.4.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 faulted || fail "$(cycle_ .)"
fill "$W/state"
faults_clear
fetch_dies
said() { grep -qE '^last: +insufficient_storage' "$MNT/det/status"; }
until_true 20 said || fail "$(cat "$MNT/det/status")"
shows 3
fresh_serve
until_true 20 said || fail "$(cat "$MNT/det/status")"
shows 3
rm "$W/state/filler"
goes_on 4
[ "$(now_)" = "1.4.0 4" ] || fail "$(now_)"

step "the state is full before"
fill "$W/state"
publish 5
expect 5 insufficient_storage "$modelfs" update -c "$CFG" det
[ "$(cycle_ .offer.outcome)" = insufficient_storage ] || fail "$(cycle_ .)"
shows 4
fresh_serve
shows 4
rm "$W/state/filler"
! left || fail "left behind"
brings 5
[ "$(now_)" = "1.5.0 5" ] || fail "$(now_)"
timeout 60 "$modelfs" verify -c "$CFG" det >>"$W/log" 2>&1 || fail "verify: exit $?"
unmount_
