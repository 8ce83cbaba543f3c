#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Published, found, fetched, checked, swapped, observed, committed; pinned, marked, superseded; each command's exit code.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
need_fuse
repository
for v in 1 2 3 4; do release "$v"; done

step "not mounted"
publish 1
update_ || fail "update: exit $?"
[ "$(now_)" = "1.1.0 0" ] || fail "active and floor: $(now_)"
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det
mount_
shows 1

step "a poll with nothing new; then a new version"
expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
status_ --json | jq -e '.fetch_sandbox | .uid and .no_new_privs' >/dev/null || fail "nothing is said of the sandbox of fetch: $(status_ --json)"
expect 0 'fetch sandbox' sh -c "'$modelfs' doctor -c '$CFG' || true"
publish 2
expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
# What is offered is brought by itself; `update` waits for that, or finds it done.
rc=0
"$modelfs" update -c "$CFG" det >"$W/said" 2>&1 || rc=$?
{ [ "$rc" = 0 ] || [ "$rc" = 2 ]; } && grep -q "1.2.0 is active" "$W/said" || fail "update: exit $rc: $(cat "$W/said")"
shows 2
grep -q '^modelfs_cycle_state{model="det",state="observe"} 1' "$MNT/.modelfs/metrics.prom" || fail "no cycle state"
grep -q '^next: *1.2.0 is observed' "$MNT/det/status" || fail "status: $(cat "$MNT/det/status")"
[ "$(now_)" = "1.2.0 0" ] || fail "the floor was raised too early: $(now_)"
expect 0 "marked good" "$modelfs" mark -c "$CFG" good det active
[ "$(now_)" = "1.2.0 2" ] || fail "not committed: $(now_)"

step "pinned"
expect 0 "stays at 1.2.0" "$modelfs" pin -c "$CFG" det 1.2.0
publish 3
expect 3 "pinned" "$modelfs" update -c "$CFG" det
shows 2
grep -q '^note: *pinned to 1.2.0' "$MNT/det/status" || fail "status: $(cat "$MNT/det/status")"
expect 0 "no longer held" "$modelfs" unpin -c "$CFG" det
"$modelfs" wait -c "$CFG" det --version 1.3.0 --timeout 20s >>"$W/log" || fail "unpinned, and 1.3.0 does not come: $(cat "$MNT/det/status")"
shows 3

step "marked bad: back at once, and not fetched again"
expect 0 "1.3.0 is marked bad; 1.2.0 is active" "$modelfs" mark -c "$CFG" bad det active
shows 2
[ "$(now_)" = "1.2.0 2" ] || fail "floor: $(now_)"
expect 3 "known_bad" "$modelfs" update -c "$CFG" det
expect 3 "known_bad" "$modelfs" update -c "$CFG" det
shows 2

step "from a stick"
cp -a "$W/repo" "$W/stick"
publish 4
expect 3 "known_bad" "$modelfs" update -c "$CFG" det --from "$W/stick"
rm -rf "$W/stick"
cp -a "$W/repo" "$W/stick"
expect 0 "1.4.0 is active" "$modelfs" update -c "$CFG" det --from "$W/stick"
shows 4
expect 0 "rollout 1.4.0: selected" "$modelfs" explain -c "$CFG" det

step "what an incident needs"
expect 0 "no keys" "$modelfs" evidence -c "$CFG" -o "$W/evidence.tar"
tar tf "$W/evidence.tar" >"$W/list"
grep -q '^state/tuf/default/root.json$' "$W/list" && grep -q '^state/policy/det.json$' "$W/list" || fail "evidence: $(cat "$W/list")"
! grep -q 'state/key' "$W/list" || fail "the state key is in the evidence"
! tar xOf "$W/evidence.tar" | grep -qF -f <(od -An -tx1 -v "$W/mk.bin" | tr -d ' \n') || fail "a model key is in the evidence"
expect 1 "exists" "$modelfs" evidence -c "$CFG" -o "$W/evidence.tar"
"$modelfs" device -c "$CFG" --json | jq -e '.id == "dev-1" and .class == "x" and .region == "eu"' >>"$W/log" || fail "device --json"

step "explained as well while nothing is mounted: the same policy, the same choice; what is not asked is said"
choice() { sed -n '/^policy:/,/^download/{/^download/d;p;}' "$1"; }
"$modelfs" explain -c "$CFG" det >"$W/mounted.txt"
unmount_
sed 's|^update: {|update: {conditions: {power: ac, hold_file: hold}, window: "00:00-23:59", |' "$CFG" >"$W/held.yaml"
"$modelfs" explain -c "$CFG" det >"$W/offline.txt" || fail "explain without a mount"
[ -n "$(choice "$W/offline.txt")" ] && diff <(choice "$W/mounted.txt") <(choice "$W/offline.txt") || fail "another choice without a mount"
grep -q '^active: *1.4.0 (release 4)' "$W/offline.txt" && grep -q 'next: *once modelfs is mounted' "$W/offline.txt" || fail "$(cat "$W/offline.txt")"
expect 0 "power and network: not asked for" "$modelfs" explain -c "$W/held.yaml" det
touch "$W/hold"
expect 0 "download waits: held: held by the file $W/hold" "$modelfs" explain -c "$W/held.yaml" det
printf ' ' >>"$W/state/policy/det.json"
expect 0 "policy: *none in force" "$modelfs" explain -c "$CFG" det
"$modelfs" status -c "$CFG" >"$W/before"
"$modelfs" explain -c "$CFG" det >/dev/null
cmp "$W/before" <("$modelfs" status -c "$CFG") || fail "explain changed something"
mount_
shows 4
unmount_
