#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who holds the network keeps giving yesterday's metadata, or "not modified" for ever, or nothing at all, and a fix is
# never heard of: once the metadata expires nothing new is activated, by no way, also what was staged before; what is
# active is served byte for byte; status says since when and why; fresh metadata cures it, with `stale: stop` too.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
# shellcheck source=../lib/clock.sh
. "$(dirname "$0")/../lib/clock.sh"
unset config_extra
repository "det: {model_key: \"file:mk.bin\", health: {command: [$P/check], timeout: 60s}}"
for v in 1 2 3 4; do release "$v"; done
hostile_start "$W/repo"
follow "$HOSTILE"
sed -i "s|probation: 10m|probation: 0, conditions: {hold_file: $W/hold}|" "$CFG"
passing='exit 0'
waiting='touch $P/out/began; until [ -e $P/out/go ]; do sleep 0.05; done'
check "$passing"
publish 1
mount_
brings 1
[ "$(now_)" = "1.1.0 1" ] || fail "active and floor: $(now_)"

later=0
# days_pass: one day and an hour, for everybody.
days_pass() {
	later=$((later + day + hour))
	clock modelfs "$later"
	clock modelpub "$later"
}
online() { # REPO: its online keys are at work
	"$modelpub" refresh "$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub refresh: exit $?"
}
expired() { # RELEASE: that one is served, nothing new comes, and status says so
	shows "$1"
	[ "$(now_)" = "1.$1.0 $1" ] || fail "active and floor: $(now_)"
	grep -q "^updates: .*; metadata expired $until: nothing new is activated" "$MNT/det/status" || fail "no $until in $(cat "$MNT/det/status")"
	grep -q "^protection: .*; freshness unproven" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
	[ "$(cycle_ .fresh_until)" = "$(date -u -d "$until" +%FT%TZ)" ] || fail "$(cycle_ .fresh_until) is not $until"
	[ "$(sed -n 's/^modelfs_metadata_expiry_timestamp_seconds{.*role="timestamp"} //p' "$MNT/.modelfs/metrics.prom")" = "$(date -d "$until" +%s)" ] ||
		fail "metrics: $(grep expiry "$MNT/.modelfs/metrics.prom")"
}
refused_now() { # RELEASE [OPTION]...: an update says that metadata has expired
	expect 4 "metadata_expired: .*timestamp" "$modelfs" update -c "$CFG" det "${@:2}"
	[ "$(cycle_ .check.outcome)" = metadata_expired ] || fail "$(cycle_ .check)"
	grep -q '^note: .*metadata_expired: .*timestamp' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
	expired "$1"
}
told() { # CODE: an event of refresh about the repository
	"$modelfs" events -c "$CFG" --json | jq -es --argjson c "$1" 'any(.source == "refresh" and .code == $c)' >>"$W/log" ||
		fail "no event with code $1: $("$modelfs" events -c "$CFG")"
}
# metadata's last second in the words of status
expiry_of() { jq -r '.signed.expires' "$1/metadata/timestamp.json" | tr TZ ' U' | sed 's/U$/ UTC/'; }

step "yesterday's repository for ever"
cp -a "$W/repo" "$W/yesterday"
publish 2
mv "$W/repo" "$W/true"
mv "$W/yesterday" "$W/repo"
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det # nobody can tell yet
until=$(expiry_of "$W/repo")
days_pass
refused_now 1
told 17
refused_now 1
fresh_serve
refused_now 1
unmount_
expect 4 "metadata_expired: .*timestamp" "$modelfs" update -c "$CFG" det
expect 0 "metadata expired $until" "$modelfs" status -c "$CFG" det
mount_
expired 1

step "by a copy of it on a stick too"
cp -a "$W/repo" "$W/stick"
expect 4 "metadata_expired: .*timestamp" "$modelfs" update -c "$CFG" det --from "$W/stick"
expired 1
sed -i 's|probation: 0,|probation: 0, offline_install: fresh,|' "$CFG"
unmount_
mount_
expect 4 "metadata_expired" "$modelfs" install -c "$CFG" "$W/b2"
expired 1

step "not modified, for ever"
online "$W/true"
mv "$W/repo" "$W/yesterday"
cp -a "$W/true" "$W/repo"
fault 304 count=all path=/metadata/timestamp.json
refused_now 1
faulted || fail "nobody was asked"
unmount_
rm "$W/state/tuf/default/timestamp.json"
mount_
expect 4 "net_protocol: .*304 without a condition" "$modelfs" update -c "$CFG" det
expired 1
faults_clear
rm -r "$W/repo"
mv "$W/yesterday" "$W/repo"

step "nobody answers"
fault 503 count=all
expect 4 "net_http" "$modelfs" update -c "$CFG" det
expired 1
fresh_serve
expired 1
faults_clear

step "fresh metadata cures it, from a stick or by the network"
expect 0 "1.2.0 is active" "$modelfs" update -c "$CFG" det --from "$W/true"
shows 2
[ "$(now_)" = "1.2.0 2" ] || fail "active and floor: $(now_)"
! grep -q "unproven\|metadata expired" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
told 0
rm -r "$W/repo"
mv "$W/true" "$W/repo"

step "staged while it was fresh, and held until it is not"
check "$waiting"
publish 3
expect 0 "1.3.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
touch "$W/hold" "$P/out/go"
until_true 20 next_is "1.3.0 activate held" || fail "$(cycle_ .)"
cp -a "$W/repo" "$W/true"
until=$(expiry_of "$W/repo")
days_pass
rm "$W/hold"
expect 4 "metadata_expired: .*timestamp" "$modelfs" update -c "$CFG" det
expired 2
fresh_serve # which looks at once
waits() { next_is "1.3.0 activate metadata_expired"; }
until_true 20 waits || fail "$(cycle_ .)"
event 1.3.0 17
refused_now 2
waits || fail "$(cycle_ .)"
check "$passing"
online "$W/repo"
update_ det || [ "$(now_)" = "1.3.0 3" ] || fail "update: exit $?"
shows 3

step "expired_grace: as long as it says, and not beyond"
unmount_
cp "$CFG" "$W/plain.yaml"
sed -i 's|probation: 0,|probation: 0, expired_grace: 2h,|' "$CFG"
rm -r "$W/true"
mount_
until=$(expiry_of "$W/repo")
days_pass
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det
! grep -q "metadata expired" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
later=$((later + hour))
clock modelfs "$later"
expect 4 "metadata_expired: .*timestamp" "$modelfs" update -c "$CFG" det
shows 3
unmount_

step "with stale: stop nothing is served until it is cured; the mount comes up all the same"
sed -e 's|probation: 0,|probation: 0, stale: stop,|' -e "s|health: {command|on_change: [$P/changed], health: {command|" "$W/plain.yaml" >"$CFG"
printf '#!/bin/sh\necho "$MODELFS_REASON $MODELFS_OUTCOME $MODELFS_VERSION" >>%s/out/changes\n' "$P" >"$P/changed"
chmod 0755 "$P/changed"
hidden() {
	[ ! -e "$MNT/det/active" ] && [ -z "$(ls "$MNT/det/versions")" ] || fail "served: $(ls "$MNT/det/versions")"
	withheld
}
withheld() { # mounted or not
	status_ --json | jq -e '.models[0] | .active == null and .absent.outcome == "metadata_expired" and .floor.release == 3' >>"$W/log" ||
		fail "status: $(status_ --json | jq -c '.models[0]')"
}
cp -a "$W/state/." "$W/before"
withheld
diff -r "$W/state" "$W/before" >>"$W/log" || fail "who only looked wrote"
rm -r "$W/before"
mount_
hidden
fresh_serve
hidden
expect 4 "metadata_expired" "$modelfs" update -c "$CFG" det
hidden
clock modelpub "$later"
online "$W/repo"
expect 0 "1.3.0 is active" "$modelfs" update -c "$CFG" det
shows 3
told_so() { [ "$(cat "$P/out/changes")" = "$(printf '%s\n' "$@")" ]; } # LINE...: on_change, of all changes and of nothing else
until_true 20 told_so "swap ok 1.3.0" || fail "on_change was told: $(cat "$P/out/changes")"

step "and again while it is mounted"
days_pass
expect 4 "metadata_expired" "$modelfs" update -c "$CFG" det
hidden
until_true 20 told_so "swap ok 1.3.0" "withdraw metadata_expired " || fail "on_change was told: $(cat "$P/out/changes")"
online "$W/repo"
expect 0 "1.3.0 is active" "$modelfs" update -c "$CFG" det
shows 3
until_true 20 told_so "swap ok 1.3.0" "withdraw metadata_expired " "swap ok 1.3.0" ||
	fail "on_change was told: $(cat "$P/out/changes")"
publish 4
update_ det || [ "$(now_)" = "1.4.0 4" ] || fail "update: exit $?"
shows 4
[ "$(now_)" = "1.4.0 4" ] || fail "active and floor: $(now_)"
unmount_
