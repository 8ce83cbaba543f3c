#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# First door back to an older, rightly signed version: metadata. Older files, whole older repositories, sets put together
# of two days, and what who stole the online keys, or the policy's key too, can sign: refused or not followed, also when
# serve is new and when the state lost its copies. What is active is served, and the next release comes.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
size=60K
repository
hostile_start "$W/repo"
follow "$HOSTILE"
sed -i 's|probation: 10m|probation: 0|' "$CFG"
for v in 1 2 3 4; do release "$v"; done
mount_
for v in 1 2 3; do
	publish "$v"
	forge targets . # which a publish leaves as they are
	cp -a "$W/repo" "$W/day$v"
	brings "$v"
done
[ "$(now_)" = "1.3.0 3" ] || fail "active and floor: $(now_)"


# day N: the repository as it was after release N. What is honest now is $W/today.
day() { rm -rf "$W/repo" && cp -a "$W/day$1" "$W/repo"; }
today() { rm -rf "$W/today" && cp -a "$W/repo" "$W/today"; }
honest() { rm -rf "$W/repo" && cp -a "$W/today" "$W/repo"; }
# held WHAT: release 3 is served and committed.
held() {
	shows 3
	[ "$(now_)" = "1.3.0 3" ] || fail "$1: active and floor: $(now_)"
	[ "$(cycle_ .refused)" = null ] || fail "$1: condemned: $(cycle_ .refused)"
}
# refused WHAT OUTCOME [kept]: again and again, and by a new serve that, unless `kept`, has lost what was stored of the
# repository. Then the repository is honest again, and nothing else is new.
refused() {
	local since how
	since=$("$modelfs" events -c "$CFG" --json | tail -n 1 | jq .seq)
	for how in check update anew; do
		if [ "$how" = anew ]; then
			[ $# = 3 ] || rm -f "$W"/state/tuf/default/{timestamp,snapshot,targets}.json "$W"/state/tuf/default/*.det.json
			fresh_serve
		fi
		expect 3 " $2: " "$modelfs" "${how/anew/update}" -c "$CFG" det
		[ "$(cycle_ "[.check.outcome, .offer.outcome] | any(. == \"$2\")")" = true ] && grep -q "^note: .*$2" "$MNT/det/status" ||
			fail "$1, $how: $(cycle_ .) $(cat "$MNT/det/status")"
		held "$1, $how"
	done
	"$modelfs" events -c "$CFG" --json | jq -es --argjson s "$since" --arg o "$2" 'any(.seq > $s and .outcome == $o)' >>"$W/log" ||
		fail "$1: no event: $("$modelfs" events -c "$CFG" | tail -n 3)"
	honest
	expect 2 "nothing newer" "$modelfs" update -c "$CFG" det
	held "$1, honest again"
	echo "  $1: $2"
}
newest() { (cd "$1/metadata" && printf '%s\n' *".$2.json") | sort -n | tail -n 1; } # FOLDER ROLE: its file
# older DAY ROLE: how a snapshot names the role of that day.
older() { meta_of "$W/day$1/metadata/$(newest "$W/day$1" "$2")" "$(newest "$W/day$1" "$2" | cut -d. -f 1)"; }

step "by the network alone"
today
day 1
refused "all of day 1" rollback_attempt
cp "$W/day2/metadata/timestamp.json" "$W/repo/metadata/"
refused "the timestamp of day 2" rollback_attempt
for role in snapshot policy.det; do
	forge targets .
	forge policy.det .
	today
	cp "$W/day2/metadata/$(newest "$W/day2" $role)" "$W/repo/metadata/$(newest "$W/repo" $role)"
	refused "new, but for the $role of day 2" hash_mismatch
done

step "by who has the keys of snapshot and timestamp"
# The publisher goes on meanwhile, beyond what the thief signs: that is $W/today.
publisher() {
	cp -a "$W/repo" "$W/before"
	forge policy.det .
	forge policy.det .
	today
	rm -rf "$W/repo" && mv "$W/before" "$W/repo"
}
publisher
jq --argjson m "$(older 2 snapshot)" '.signed | .version += 1 | .meta["snapshot.json"] = $m' "$W/repo/metadata/timestamp.json" >"$W/older"
role_sign "$W/older" "$W/repo/metadata/timestamp.json" "$W/keys/timestamp.pem"
refused "the snapshot of day 2 by a newer timestamp" rollback_attempt
set --
for role in targets release.det; do
	publisher
	online ".meta[\"$role.json\"] = $(older 2 $role)"
	# Versions of delegations are those of the stored snapshot; what they say of policies and releases is in the anchor.
	[ "$role" != release.det ] || set -- kept
	refused "the $role of day 2 by a newer snapshot" rollback_attempt "$@"
done

step "by who has the policy's key too"
policy=$(target_now policy.det det/policy.json)
cp "$W/day2/targets/det/$(jq -r '.signed.targets["det/policy.json"].hashes.sha256' "$W/day2/metadata/$(newest "$W/day2" policy.det)").policy.json" "$W/policy.2"
publisher
target_put policy.det det/policy.json "$W/policy.2"
refused "the policy of day 2 by a newer role" rollback_attempt
# A policy may choose among releases, but it moves no device back: only a revocation does.
jq -cSj --argjson s "$(jq .sequence "$policy")" '.sequence = $s + 1' "$W/policy.2" >"$W/policy.bad"
target_put policy.det det/policy.json "$W/policy.bad"
for command in check update; do
	expect 2 "1.2.0.*older|nothing newer" "$modelfs" "$command" -c "$CFG" det
	held "an older release is offered"
done
fresh_serve
expect 2 "1.2.0.*older|nothing newer" "$modelfs" update -c "$CFG" det
held "an older release is offered to a new serve"
unmount_
expect 2 "1.2.0.*older|nothing newer" "$modelfs" update -c "$CFG" det
mount_
held "an older release is offered while nothing is mounted"

step "and forward"
publish 4
policy=$(target_now policy.det det/policy.json)
jq -cSj '.sequence += 5' "$policy" >"$W/policy.good" # beyond the thief's
target_put policy.det det/policy.json "$W/policy.good"
brings 4
[ "$(now_)" = "1.4.0 4" ] || fail "active and floor: $(now_)"
unmount_
