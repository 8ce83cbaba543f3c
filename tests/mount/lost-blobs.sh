#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Blobs of what is active were lost or damaged while nothing was mounted: with a repository they are fetched again when
# it is mounted, without a poll, in both tiers, read or not; without one the model says what is wrong.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
need_fuse
tier=auto
( need_resident ) >/dev/null 2>&1 || tier=paged
repository "det: {model_key: \"file:mk.bin\", serve: $tier}"
sed -i 's/probation: 10m/probation: 0/' "$CFG"
release 1
release 2
publish 1
update_ || fail "update: exit $?"
publish 2
update_ || fail "update: exit $?"
[ "$(now_)" = "1.2.0 2" ] || fail "$(now_)"
cp -a "$W/store/blobs" "$W/blobs"
payload=$(blob "$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b2/manifest.json")")
table=$(blob "$(jq -r '.files[] | select(.name == "weights.bin").chunks_sha256' "$W/b2/manifest.json")")
small=$(blob "$(jq -r '.files[] | select(.name == "small.bin").sha256' "$W/b2/manifest.json")")
is_whole() { diff -r "$W/blobs" "$W/store/blobs" >/dev/null; }
# Nobody reads, and no poll is due: it is repaired all the same.
repaired() { # WHAT
	local polled
	polled=$(cycle_ .last_check)
	mount_
	until_true 40 is_whole || fail "$1: not repaired: $(diff -r "$W/blobs" "$W/store/blobs"; cat "$MNT/det/status")"
	there() { [ "$(readlink "$MNT/det/active")" = versions/1.2.0 ]; }
	until_true 20 there || fail "$1: not shown: $(cat "$MNT/det/status")"
	[ "$tier" = paged ] || wait_tier det resident
	shows 2
	[ "$(readlink "$MNT/det/previous")" = versions/1.1.0 ] || fail "$1: no previous version: $(ls -l "$MNT/det")"
	[ "$(cycle_ .last_check)" = "$polled" ] || fail "$1: it was polled"
	# Said once it is done: a moment after the bytes are there.
	told() { grep -q '"source":"scrub"' "$MNT/det/events"; }
	until_true 10 told || fail "$1: no event: $(cat "$MNT/det/events")"
	event 1.2.0 0
	[ "$(now_)" = "1.2.0 2" ] || fail "$1: $(now_)"
	unmount_
	rm -f "$W/state/events"*
}
step "the store is gone"
rm -r "$W/store"
install -d -o "$(stat -c %u "$W/state")" -g "$(stat -c %g "$W/state")" "$W/store"
repaired "no store"

step "a table, a small file, and a part"
rm "$table"
truncate -s 100 "$small"
flip "$payload" 200000
repaired "$tier"

step "paged: a part is damaged, and nobody reads it"
sed -i "s/serve: $tier/serve: paged/" "$CFG"
tier=paged
flip "$payload" 140000
flip "$small" 7
repaired paged

step "the repository lacks it: said, and tried again"
mv "$W/repo/blobs" "$W/away"
rm "$payload"
mount_
said() { grep -q '"source":"scrub".*' "$MNT/det/events" && grep -q '^serving: *nothing' "$MNT/det/status"; }
until_true 20 said || fail "$(cat "$MNT/det/status" "$MNT/det/events")"
grep -q 'note:.*missing from the store' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
mv "$W/away" "$W/repo/blobs"
"$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || true
until_true 20 there || fail "not tried again: $(cat "$MNT/det/status" "$MNT/det/events")"
shows 2
unmount_

step "unmounted: an update brings what is lost"
rm "$payload" "$small"
expect 0 "1.2.0 is active" "$modelfs" update -c "$CFG" det
is_whole || fail "$(diff -r "$W/blobs" "$W/store/blobs")"
[ "$(now_)" = "1.2.0 2" ] || fail "$(now_)"
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det

step "what was signed is lost in both places: had again, and without a health check"
signed=manifests/$(sha256sum <"$W/b2/manifest.json" | cut -d ' ' -f 1)
rm -r "$W/state/$signed" "$W/store/$signed"
mount_
grep -q '^serving: *nothing' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
expect 0 "1.2.0 is active" "$modelfs" update -c "$CFG" det
shows 2
[ "$(now_)" = "1.2.0 2" ] || fail "$(now_)"
diff -r "$W/state/$signed" "$W/store/$signed" || fail "not kept twice"
unmount_

step "what was signed of the version to go back to is lost in both places: fetched again, with its blobs"
old=manifests/$(sha256sum <"$W/b1/manifest.json" | cut -d ' ' -f 1)
rollback_to() { [ "$(status_ det --json 2>>"$W/log" | jq -r .previous)" = "$1" ]; }
kept_twice() { diff -r "$W/state/$old" "$W/store/$old" >>"$W/log" 2>&1; }
cp -a "$W/state/$old" "$W/signed"
rm -r "$W/state/$old" "$W/store/$old"
"$modelfs" gc -c "$CFG" >>"$W/log" 2>&1 || true # nobody names its blobs any more
grep -q '^rollback: *nothing to go back to; 1.1.0 is gone: io: ' <("$modelfs" status -c "$CFG" det) || fail "$("$modelfs" status -c "$CFG" det)"
mount_
until_true 40 rollback_to 1.1.0 || fail "not restored: $(cat "$MNT/det/status" "$MNT/det/events" "$W/run/log")"
kept_twice || fail "not kept twice"
is_whole || fail "$(diff -r "$W/blobs" "$W/store/blobs")"
[ "$(readlink "$MNT/det/previous")" = versions/1.1.0 ] || fail "$(ls -l "$MNT/det")"
grep -q '"source":"scrub".*' <(jq -c 'select(.version == "1.1.0" and .code == 0)' "$MNT/det/events") || fail "$(cat "$MNT/det/events")"
expect 0 '1.1.0 is active' "$modelfs" rollback -c "$CFG" det
shows 1

step "of the active version that is held: nothing is offered that would bring it, and it is fetched all the same"
unmount_
rm -r "$W/state/$old" "$W/store/$old"
mount_
back() { [ "$(readlink "$MNT/det/active")" = versions/1.1.0 ]; }
until_true 40 back || fail "not restored: $(cat "$MNT/det/status" "$MNT/det/events")"
kept_twice || fail "not kept twice"
shows 1
expect 0 'no longer held' "$modelfs" unpin -c "$CFG" det
timeout 60 "$modelfs" update -c "$CFG" det >>"$W/log" 2>&1 || [ $? = 2 ] || fail "update"
shows 2

step "lost while serve runs: written again from memory before it is gone back to"
rm -r "$W/state/$old" "$W/store/$old"
expect 0 '1.1.0 is active' "$modelfs" rollback -c "$CFG" det
kept_twice || fail "not written again"
diff -r "$W/signed" "$W/state/$old" || fail "other bytes"
expect 0 'no longer held' "$modelfs" unpin -c "$CFG" det
timeout 60 "$modelfs" update -c "$CFG" det >>"$W/log" 2>&1 || [ $? = 2 ] || fail "update"
shows 2
unmount_

step "the repository has it no longer: status says so, and nobody promises a rollback"
rm -r "$W/state/$old" "$W/store/$old"
mv "$W/repo/targets/det/1.1.0" "$W/away"
mount_
told_gone() { grep -q '"source":"scrub"' <(jq -c 'select(.version == "1.1.0" and .class == "network")' "$MNT/det/events"); }
until_true 40 told_gone || fail "no event: $(cat "$MNT/det/events")"
grep -q '^rollback: *nothing to go back to; 1.1.0 is gone: io: .*No such file' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
status_ | grep -q '^det: rollback: 1.1.0 is gone: io: ' || fail "$(status_)"
[ "$(jq -r '.gone | [.version, .previous, .outcome] | @csv' "$MNT/det/status.json")" = '"1.1.0",true,"io"' ] || fail "$(jq .gone "$MNT/det/status.json")"
[ ! -e "$MNT/det/previous" ] || fail "previous leads to $(readlink "$MNT/det/previous")"
expect 1 'rollback to 1.1.0: ' "$modelfs" rollback -c "$CFG" det
shows 2
unmount_
mv "$W/away" "$W/repo/targets/det/1.1.0"

step "without a repository: the model says what is wrong"
sed -i -e '/^repository:/d' -e '/^update:/d' -e 's/root: keys.root.json, //' "$CFG"
rm -f "$W/state/events"*
flip "$payload" 140000
mount_
known() { grep -q '"outcome":"hash_mismatch".*"source":"scrub"' "$MNT/det/events"; }
until_true 40 known || fail "no event: $(cat "$MNT/det/events")"
unmount_
rm "$small"
mount_
grep -qE '^note: *io: .*missing from the store.*install the bundle' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
[ ! -e "$MNT/det/active" ] || fail "something is active"
install_ "$W/b2" || fail "install: exit $?"
shows 2
unmount_
