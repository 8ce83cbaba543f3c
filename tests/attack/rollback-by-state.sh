#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Last door back to an older, rightly signed version: what the device itself remembers of updates. Older copies of the
# repository's metadata, of policies, of the cycle document with an update to an older release on its way, and of the
# anchor, alone and together with a repository that replays the same day: nothing of it goes back. A whole older state
# with its file counter is what nobody can tell without a TPM: status says so, and the next check brings what is new.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
size=60K
repository
hostile_start "$W/repo"
follow "$HOSTILE"
sed -i "s|probation: 10m|probation: 0, conditions: {hold_file: $W/hold}|" "$CFG"
for v in 1 2 3 4; do release "$v"; done
state=$W/state
state_copy() { # TO: while serve may be replacing one of its files
	local tries
	for tries in 1 2 3 4 5 6 7 8; do
		rm -rf "$1"
		cp -a "$state" "$1" 2>>"$W/log" && return
	done
	fail "no copy of the state in $tries tries"
}
# An update to release 2 is on its way when the state is copied, once at its download.
publish 1
mount_
brings 1
publish 2
fault stall count=all after=100 path=/blobs/
expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 faulted || fail "nothing is fetched: $(cycle_ .)"
fresh_serve # its document is on disk
state_copy "$W/old"
cp -a "$W/repo" "$W/day2"
faults_clear
fresh_serve
update_ det || [ "$(now_)" = "1.2.0 2" ] || fail "update: exit $?"
expect 0 "stays at 1.2.0" "$modelfs" pin -c "$CFG" det 1.2.0
state_copy "$W/pinned"
expect 0 "no longer held" "$modelfs" unpin -c "$CFG" det
publish 3
update_ det || [ "$(now_)" = "1.3.0 3" ] || fail "update: exit $?"
shows 3
revoke 1 stop
expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
[ "$(now_)" = "1.3.0 3" ] || fail "active and floor: $(now_)"
unmount_
cp -a "$state" "$W/new"
cp -a "$W/repo" "$W/day3"

restore() {
	rm -rf "$state" "$W/repo"
	cp -a "$W/new" "$state"
	cp -a "$W/day3" "$W/repo"
}
held() { # WHAT: release 3 is served and committed, and what is revoked stays so
	shows 3
	[ "$(now_)" = "1.3.0 3" ] || fail "$1: active and floor: $(now_)"
	expect 3 "revoked|rollback_attempt" "$modelfs" install -c "$CFG" "$W/b1"
	expect 3 "rollback_attempt" "$modelfs" install -c "$CFG" "$W/b2"
	shows 3
}
# replayed WHAT: mounted with that state, asking an honest repository, then one that replays day 2.
replayed() {
	local rc
	mount_
	held "$1"
	rc=0
	"$modelfs" update -c "$CFG" det >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	[ "$rc" = 2 ] || grep -q "${2:-nothing newer}" "$W/said" || fail "$1: update: exit $rc: $(cat "$W/said")"
	held "$1, after an update"
	unmount_
	echo "  $1: nothing goes back"
}
# with_day_2 WHAT: and the network replays that day.
with_day_2() {
	rm -rf "$W/repo"
	cp -a "$W/day2" "$W/repo"
	mount_
	held "$1"
	expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
	[ "$(cycle_ '[.check.outcome, .offer.outcome] | any(. == "rollback_attempt")')" = true ] || fail "$1: $(cycle_ .)"
	held "$1"
	fresh_serve
	expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
	held "$1"
	unmount_
	echo "  $1, and the network too: rollback_attempt"
}

step "older metadata and policies"
for what in tuf policy "tuf policy"; do
	restore
	for part in $what; do rm -r "${state:?}/$part" && cp -a "$W/old/$part" "$state/$part"; done
	replayed "$what"
	restore
	for part in $what; do rm -r "${state:?}/$part" && cp -a "$W/old/$part" "$state/$part"; done
	with_day_2 "$what"
done

step "an older cycle document: an update to release 2 is on its way again"
restore
cp -a "$W"/old/cycle.* "$state/"
mount_
refused_() { [ "$(cycle_ '"\(.refused.version) \(.refused.why.outcome)"')" = "1.2.0 rollback_attempt" ] && [ "$(cycle_ .next)" = null ]; }
until_true 30 refused_ || fail "$(cycle_ .)"
event 1.2.0 16
held "the cycle document"
unmount_
# ... with everything that it speaks of.
for what in "" "tuf policy"; do
	restore
	cp -a "$W"/old/cycle.* "$state/"
	for part in $what; do rm -r "${state:?}/$part" && cp -a "$W/old/$part" "$state/$part"; done
	with_day_2 "the cycle document${what:+, $what}"
done
restore
cp -a "$W"/pinned/cycle.* "$state/"
mount_
held "the cycle document of a pin"
grep -q "^note: .*pinned" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
expect 0 "no longer held" "$modelfs" unpin -c "$CFG" det
held "the cycle document of a pin, unpinned"
unmount_

step "older anchors are told by the counter"
for what in "anchor.0 anchor.1" "anchor.0 anchor.1 cycle.0 cycle.1" "anchor.0 anchor.1 cycle.0 cycle.1 tuf policy manifests"; do
	restore
	for part in $what; do rm -r "${state:?}/$part" && cp -a "$W/old/$part" "$state/$part"; done
	rc=0
	timeout 30 "$modelfs" mount -c "$CFG" >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	if mountpoint -q "$MNT"; then
		[ ! -e "$MNT/det/active" ] || fail "$what: served: $(readlink "$MNT/det/active")"
		status_ det | grep -q state_replayed || fail "$what: status: $(status_ det)"
		unmount_
	else
		grep -q "state_replayed" "$W/said" || fail "$what: exit $rc: $(cat "$W/said")"
	fi
	expect 3 "state_replayed" "$modelfs" update -c "$CFG" det
	echo "  $what: state_replayed"
done

step "all of it, the file counter too: said to be possible, and cured by the next check"
restore
rm -rf "$state"
cp -a "$W/old" "$state"
mount_
status_ det | grep -q "^protection: .*not against a copied disk" || fail "$(status_ det)"
update_ det || [ "$(now_)" = "1.3.0 3" ] || fail "update: exit $?"
held "the whole state, after an update"
unmount_
restore
mount_
held "as it was"
publish 4
update_ det || [ "$(now_)" = "1.4.0 4" ] || fail "update: exit $?"
shows 4
[ "$(now_)" = "1.4.0 4" ] || fail "active and floor: $(now_)"
unmount_
