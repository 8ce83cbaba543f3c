#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A key that signed models is taken out of trust.json while what it signed is active, on its way, in a bundle, on a
# stick: what it signed alone goes at the refresh that says so, nothing more of it is accepted, over restarts too, and
# what another key signed is served and updated. Whoever hides that list, or spoils it, gets nothing new in.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
unset config_extra
repository "det: {model_key: \"file:mk.bin\", health: {command: [$P/check, health], timeout: 60s}}"
sed -i "s|probation: 10m|probation: 0|" "$CFG"
trust() { "$modelpub" trust "$W/repo" "$@" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub trust $*"; }
next=$("$modelpub" key --out "$W/next.pem")
trust "$W/next.pub.pem"
# by KEY N: release N is signed by that key alone.
by() {
	cp "$W/release.pem" "$W/own.pem"
	cp "$W/$1.pem" "$W/release.pem"
	release "$2"
	cp "$W/own.pem" "$W/release.pem"
}
release 1
by next 2
by next 3
by next 4
release 5
check 'exit 0'
publish 1
mount_
brings 1
publish 2
brings 2
[ "$(now_)" = "1.2.0 2" ] || fail "$(now_)"
cp -a "$W/repo" "$W/stick"
"$modelpub" publish "$W/stick" "$W/b4" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish to the stick"

step "its next version is being checked when the key goes; the list is spoilt on the way, over a restart"
check '[ "$1" = health ] || exit 0
touch $P/out/began; until [ -e $P/out/go ]; do sleep 0.05; done'
publish 3
expect 0 "1.3.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
trust --remove "$next"
list=$(target_now targets trust.json)
cp "$list" "$W/list"
for what in flipped gone; do
	if [ "$what" = gone ]; then rm "$list"; else flip "$list" 5; fi
	expect "$([ "$what" = gone ] && echo 4 || echo 3)" "$([ "$what" = gone ] && echo net_http || echo hash_mismatch)" "$modelfs" check -c "$CFG" det
	shows 2
done
cp "$W/list" "$W/list.bad"
flip "$W/list.bad" 5
mv "$W/list.bad" "$list" # at once: a poll may come at any time after a failure
expect 3 "hash_mismatch" "$modelfs" check -c "$CFG" det
fresh_serve
touch "$P/out/go"
until_true 20 next_is "1.3.0 activate hash_mismatch" || fail "$(cycle_ .)"
shows 2

step "the list comes: what the key signed goes, and what was on its way"
cp "$W/list" "$list"
exec 9<"$MNT/det/active/weights.bin"
rc=0
"$modelfs" check -c "$CFG" det >"$W/said" 2>&1 || rc=$?
[ "$rc" = 3 ] && grep -q key_untrusted "$W/said" || fail "exit $rc: $(cat "$W/said")"
gone() { # nothing is active, with a reason; what the other key signed is there, and nothing is left of 1.3.0
	[ ! -L "$MNT/det/active" ] && [ "$(readlink "$MNT/det/previous")" = versions/1.1.0 ] || fail "shown: $(ls -l "$MNT/det")"
	[ "$(ls "$MNT/det/versions")" = 1.1.0 ] || fail "shown: $(ls "$MNT/det/versions")"
	diff -r "$W/src1" "$MNT/det/versions/1.1.0" || fail "1.1.0 differs"
	grep -qE '^note: +key_untrusted' "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
	[ "$(cycle_ .next)" = null ] && [ -z "$(find "$W/store/staging" -type f)" ] || fail "left: $(cycle_ .) $(find "$W/store/staging")"
}
ended() { [ "$(cycle_ .next)" = null ]; }
until_true 20 ended || fail "$(cycle_ .)"
gone
cmp "$W/src2/weights.bin" - <&9 || fail "what was open before is not readable to its end"
exec 9<&-
event 1.2.0 18 from
event 1.3.0 18
[ "$(cycle_ '.refused | "\(.version) \(.why.outcome)"')" = "1.3.0 key_untrusted" ] || fail "$(cycle_ .)"

step "nothing of it is accepted any more"
check 'exit 0'
for again in "" restart remount; do
	case $again in
	restart) fresh_serve ;;
	remount) unmount_; mount_ ;;
	esac
	expect 3 key_untrusted "$modelfs" update -c "$CFG" det
	for v in 2 3 4; do expect 3 key_untrusted "$modelfs" install -c "$CFG" "$W/b$v"; done
	gone
done
expect 3 rollback_attempt "$modelfs" update -c "$CFG" det --from "$W/stick"
gone
unmount_
expect 3 key_untrusted "$modelfs" install -c "$CFG" "$W/b4"
mount_
gone

step "the list is gone from newer metadata: nothing comes back, and it is the list in force when it is there again"
forge targets 'del(.targets["trust.json"])'
expect 3 "policy_rejected.*trust.json is gone" "$modelfs" check -c "$CFG" det
gone

target_put targets trust.json "$W/list"
expect 3 key_untrusted "$modelfs" check -c "$CFG" det
gone

step "the other key's next version"
"$modelpub" publish "$W/repo" "$W/b5" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish 5"
brings 5
[ "$(now_)" = "1.5.0 5" ] || fail "$(now_)"
unmount_
