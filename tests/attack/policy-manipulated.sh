#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A policy is spoilt on the way, replayed, changed, gone from newer metadata, another model's, malformed, or signed by
# a stranger: nothing new becomes active, what is revoked stays revoked, also over restarts and while a version is on
# its way, and a revocation is hidden no longer than the spoilt bytes come. What is active is served all the time.
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
for v in 1 2 3 4; do release "$v"; done
gen raw 60K 9 "$W/seg.bin"
id=seg pack 1.1.0 1 "$W/seg1" "$W/seg.bin"
"$modelpub" publish "$W/repo" "$W/seg1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish seg"
policy() { target_now policy.det det/policy.json; }
check 'exit 0'
publish 1
mount_
brings 1
cp "$(policy)" "$W/policy.1"
publish 2
brings 2

# refused_as OUTCOME N: a check says so, status and events too, release N is served, and nothing is left behind.
refused_as() {
	local rc=0
	"$modelfs" check -c "$CFG" det >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	case $1 in net_*) [ "$rc" = 4 ] ;; *) [ "$rc" = 3 ] ;; esac || fail "$what: exit $rc: $(cat "$W/said")"
	grep -q "$1" "$W/said" || fail "$what: $(cat "$W/said")"
	case $1 in
	net_*) [ "$(cycle_ .check.outcome)" = "$1" ] ;;
	*) [ "$(cycle_ .offer.outcome)" = "$1" ] && grep -qE "^(note|last): .*$1" "$MNT/det/status" ;;
	esac || fail "$what: status: $(cycle_ .) $(cat "$MNT/det/status")"
	"$modelfs" events -c "$CFG" --json | jq -es --arg o "$1" 'any(.outcome == $o and (.source == "cycle" or .source == "refresh"))' \
		>>"$W/log" || fail "$what: no event: $("$modelfs" events -c "$CFG" | tail -n 3)"
	shows "$2"
	[ -z "$(find "$W/store/staging" -type f; find "$W/state/policy" -name '*.new')" ] || fail "$what: left behind"
	echo "  $what: $1"
}

step "on the way: the policy that revokes what is active"
revoke 2 rollback
p=$(policy)
cp "$p" "$W/policy.right"
role=$W/repo/metadata/$(role_newest policy.det).policy.det.json
cp "$role" "$W/role.right"
# The role first: once its right bytes came they are kept. After a failure modelfs asks again by itself, at a time that
# nobody knows here: what is wrong gives way to the next wrong thing at once, and the policy is wrong before its role is right.
put_there() { cp "$1" "$2.next" && mv "$2.next" "$2"; }
cp "$p" "$W/bad"
flip "$W/bad" 100
put_there "$W/bad" "$p"
for place in "$role" "$p"; do
	right=$W/policy.right
	[ "$place" = "$p" ] || right=$W/role.right
	for what in "the end cut off" "nothing" "a page of HTML" "longer" "another model's" "gone" "a flipped byte"; do
		cp "$right" "$W/bad"
		case $what in
		"a flipped byte") flip "$W/bad" 100 ;;
		"the end cut off") truncate -s -1 "$W/bad" ;;
		nothing) : >"$W/bad" ;;
		"a page of HTML") echo '<html><body>Room number, please</body></html>' >"$W/bad" ;;
		longer) head -c 2M /dev/zero >"$W/bad" ;;
		"another model's") [ "$place" = "$p" ] && cp "$(target_now policy.seg seg/policy.json)" "$W/bad" ||
			cp "$W/repo/metadata/$(role_newest policy.seg).policy.seg.json" "$W/bad" ;;
		esac
		if [ "$what" = gone ]; then rm "$place"; else put_there "$W/bad" "$place"; fi
		[ "$place" = "$p" ] && what="the policy: $what" || what="its role: $what"
		case $what in
		*gone) refused_as net_http 2 ;;
		*longer) refused_as limit_exceeded 2 ;;
		*) refused_as hash_mismatch 2 ;;
		esac
		[[ $what != *HTML ]] || fresh_serve
	done
	[ "$place" = "$p" ] || put_there "$right" "$place"
done
fresh_serve
shows 2
put_there "$W/policy.right" "$p"
rc=0
"$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || rc=$?
shows 1
event 1.2.0 23 from

step "by who holds the keys of policy, snapshot and timestamp: what was revoked stays so"
publish 3
cp "$(policy)" "$W/policy.3"
now() { # OUTCOME: and neither the revoked version nor a new one comes, whichever way it is asked for
	refused_as "$1" 1
	[ -z "${by_hand-}" ] || expect 3 "$1" "$modelfs" update -c "$CFG" det
	expect 3 revoked "$modelfs" install -c "$CFG" "$W/b2"
	shows 1
}
put() { what=$1; target_put policy.det det/policy.json "$W/policy.bad"; now "$2"; }
spoil() { jq -cSj "$2" "$W/policy.3" >"$W/policy.bad"; put "$1" "${3:-malformed}"; }
by_hand=yes
cp "$W/policy.1" "$W/policy.bad"
put "the one before the revocation" rollback_attempt
spoil "the same sequence without it" '.sequence = '"$(jq .sequence "$W/policy.right")"' | .revoked = []' rollback_attempt
cp "$(target_now policy.seg seg/policy.json)" "$W/policy.bad"
put "another model's" malformed
what="gone from newer metadata"
forge policy.det 'del(.targets["det/policy.json"])'
now policy_rejected
fresh_serve
now policy_rejected
by_hand=
spoil "a revocation without its action" 'del(.revoked[].action)'
spoil "a sequence that is no integer" '.sequence = "9"'
spoil "a critical field nobody knows" '.critical = ["moon"] | .moon = 1'
spoil "another format" '.format = "modelfs-policy/2"'
jq -S . "$W/policy.3" >"$W/policy.bad"
put "not canonical" malformed
sed 's/"revoked":\[/"revoked":[],"revoked":[/' "$W/policy.3" >"$W/policy.bad"
put "a field twice" malformed
: >"$W/policy.bad"
put "empty" malformed
jq -cSj '.x = [range(20) | "x" * 60000]' "$W/policy.3" >"$W/policy.bad"
put "above the cap" limit_exceeded
what="signed by a stranger"
forge_keyid=$(key_id_of "$W/keys/policy.pem") forge policy.det . "$W/stranger.pem"
now metadata_signature_invalid
what="its role is no JSON"
echo '{"signed"' >"$W/role.bad"
role_put policy.det "$W/role.bad" $(($(role_newest policy.det) + 1))
now malformed

step "on the way of a version that the next policy revokes, over a restart"
jq -cSj '.sequence += 1' "$W/policy.3" >"$W/policy.bad"
cp "$W/role.right" "$W/repo/metadata/$(role_newest policy.det).policy.det.json"
forge policy.det .
target_put policy.det det/policy.json "$W/policy.bad"
check '[ "$1" = health ] || exit 0
touch $P/out/began; until [ -e $P/out/go ]; do sleep 0.05; done'
expect 0 "1.3.0 is offered" "$modelfs" check -c "$CFG" det
until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
jq -cSj '.sequence += 1 | .revoked += [{action: "stop", manifest_sha256: .rollouts[0].variants[0].manifest_sha256, reason: "leak"}]' \
	"$W/policy.bad" >"$W/policy.4"
target_put policy.det det/policy.json "$W/policy.4"
flip "$(policy)" 100
expect 2 "1.3.0: health waits" "$modelfs" check -c "$CFG" det
fresh_serve
touch "$P/out/go"
until_true 20 next_is "1.3.0 activate hash_mismatch" || fail "$(cycle_ .)"
shows 1
cp "$W/policy.4" "$(policy)"
expect 2 "revoked" "$modelfs" check -c "$CFG" det
ended() { [ "$(cycle_ .next)" = null ] && [ -z "$(find "$W/store/staging" -type f)" ] && [ ! -e "$MNT/det/versions/1.3.0" ]; }
until_true 20 ended || fail "$(cycle_ .)"
shows 1
event 1.3.0 23

step "the next honest policy"
publish 4
update_ det || [ "$(now_)" = "1.4.0 4" ] || fail "update: exit $?"
shows 4
[ "$(now_)" = "1.4.0 4" ] || fail "$(now_)"
unmount_
