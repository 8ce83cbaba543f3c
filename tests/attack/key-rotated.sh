#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every role's key is rotated while a model is mounted: the device follows, also over several rotations at once that it
# did not see. Whoever has an old key can say nothing any more, and what a thief of the online keys did before, fast-forward
# included, ends with the rotation.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
repository
sed -i "s|probation: 10m|probation: 0|" "$CFG"
for v in 1 2 3 4 5; do release "$v"; done
publish 1
mount_
brings 1
# rotate ROLE: the old key goes to $W/old: the publisher destroys it, a thief may have it.
rotate() {
	"$modelpub" rotate "$W/repo" "$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub rotate $1"
	mkdir -p "$W/old"
	mv "$W/keys/$1.pem" "$W/old/$1.pem"
	mv "$W/keys/$1-2.pem" "$W/keys/$1.pem"
}
step "one by one"
for role in timestamp snapshot targets release policy root; do
	rotate "$role"
	expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
done
publish 2
brings 2

step "many at once, while nothing is mounted"
unmount_
for role in root timestamp root policy; do rotate "$role"; done
publish 3
mount_
shows 2
brings 3

step "old keys sign the next version of what was theirs"
cp -a "$W/repo" "$W/true"
honest() { rm -rf "$W/repo/metadata" "$W/repo/targets" && cp -a "$W/true/metadata" "$W/true/targets" "$W/repo/"; }
# said ROLE OUTCOME: what is published now is refused so, and 1.3.0 stays.
said() {
	expect 3 "$2" "$modelfs" update -c "$CFG" det
	[ "$(cycle_ "[.check.outcome, .offer.outcome] | any(. == \"$2\")")" = true ] || fail "$1: $(cycle_ .)"
	"$modelfs" events -c "$CFG" --json | tail -n 3 | jq -es --arg o "$2" 'any(.outcome == $o)' >>"$W/log" || fail "$1: no event: $("$modelfs" events -c "$CFG" | tail -n 3)"
	shows 3
	echo "  $1: $2"
}
# by_old ROLE COMMAND...: it signs with the old key of a role where it would with the present one.
by_old() {
	local role=$1
	shift
	cp "$W/keys/$role.pem" "$W/present.pem"
	cp "$W/old/$role.pem" "$W/keys/$role.pem"
	"$@"
	cp "$W/present.pem" "$W/keys/$role.pem"
}
next_root() { # KEY: a next root in which everything is as before, but for its version
	local n
	n=$(role_newest root)
	jq '.signed | .version += 1' "$W/repo/metadata/$n.root.json" >"$W/forge.next"
	role_sign "$W/forge.next" "$W/repo/metadata/$((n + 1)).root.json" "$1"
}
next_root "$W/old/root.pem"
said root metadata_signature_invalid
honest
by_old timestamp online
said timestamp metadata_signature_invalid
# The claim to be by the present key changes nothing.
honest
jq '.signed | .version += 1' "$W/repo/metadata/timestamp.json" >"$W/forge.next"
forge_keyid=$(key_id_of "$W/keys/timestamp.pem") role_sign "$W/forge.next" "$W/repo/metadata/timestamp.json" "$W/old/timestamp.pem"
said "timestamp, in the name of the present key" metadata_signature_invalid
# From here on what names the forged role is rightly signed, and nothing takes its version back.
honest
by_old snapshot online
said snapshot metadata_signature_invalid
by_old targets forge targets .
said targets metadata_signature_invalid
forge targets .
expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
by_old policy forge policy.det .
said policy metadata_signature_invalid
forge policy.det .
expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
publish 4
rm -rf "$W/true" && cp -a "$W/repo" "$W/true"
by_old release forge release.det .
said release metadata_signature_invalid
forge release.det .
brings 4

step "a thief of the online keys was far ahead: fast-forward"
rm -rf "$W/true" && cp -a "$W/repo" "$W/true"
n=$(role_newest snapshot)
mv "$W/repo/metadata/$n.snapshot.json" "$W/repo/metadata/1000000.snapshot.json"
jq -c '.signed.version = 2000000' "$W/repo/metadata/timestamp.json" >"$W/t" && mv "$W/t" "$W/repo/metadata/timestamp.json"
online
expect 2 "nothing newer" "$modelfs" check -c "$CFG" det
honest
publish 5
expect 3 "rollback_attempt" "$modelfs" update -c "$CFG" det
shows 4
rotate timestamp
brings 5
[ "$(now_)" = "1.5.0 5" ] || fail "$(now_)"
! ls "$W"/state/tuf/default/*.new 2>/dev/null || fail "left behind"
unmount_
