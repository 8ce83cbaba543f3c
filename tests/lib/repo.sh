# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154,SC2034 # of tests/lib/e2e.sh
# Sourced after e2e.sh by tests of updates: a repository below $W that the device follows over file://.
# shellcheck shell=bash
# repository [MODEL LINE]...: keys, an empty repository, a configuration. $update_extra: further keys of `update`.
repository() {
	[ -f "$W/release.pem" ] || keys
	"$modelpub" init "$W/repo" --keys "$W/keys" --trust "$W/release.pub.pem" >>"$W/log" 2>&1 || fail "modelpub init"
	[ $# -gt 0 ] || set -- 'det: {model_key: "file:mk.bin"}'
	config_extra="repository: \"file://$W/repo\"
device: {id: dev-1, class: x, region: eu}
update: {interval: 1h, probation: ${probation:-10m}${update_extra:+, $update_extra}}
"
	config "$@"
	sed -i "s|^trust: .*|trust: {root: keys/root.json, keys: [release.pub.pem]}|" "$CFG"
}
# release N: version 1.N.0 with two files, source in $W/srcN, bundle in $W/bN.
release() {
	mkdir -p "$W/src$1"
	gen raw "${size:-400K}" "$1" "$W/src$1/weights.bin"
	gen raw 5000 "$1" "$W/src$1/small.bin"
	(cd "$W/src$1" && pack "1.$1.0" "$1" "$W/b$1" weights.bin small.bin)
}
publish() { # N [OPTION]...
	"$modelpub" publish "$W/repo" "$W/b$1" --keys "$W/keys" "${@:2}" >>"$W/log" 2>&1 || fail "modelpub publish $1"
}
# revoke N ACTION [OPTION]...: version 1.N.0 of det.
revoke() {
	"$modelpub" revoke "$W/repo" det "1.$1.0" --keys "$W/keys" --action "$2" --reason leak "${@:3}" >>"$W/log" 2>&1 ||
		fail "modelpub revoke 1.$1.0"
}
# A mount that has nothing asks by itself at once: the first update may find that done (exit 2).
update_() {
	local rc=0 first=${first_update:-}
	first_update=
	timeout 120 "$modelfs" update -c "$CFG" "$@" >>"$W/log" 2>&1 || rc=$?
	[ "$rc" != 2 ] || [ -z "$first" ] || rc=0
	return "$rc"
}
# brings N: an update of det, after which release N is shown. A poll that is due after a failure may bring it before.
brings() {
	local rc=0
	update_ det || rc=$?
	[ "$rc" = 0 ] || [ "$rc" = 2 ] || fail "update: exit $rc: $(cat "$MNT/det/status")"
	shows "$1"
}
# now_: "VERSION FLOOR" of det.
now_() { status_ --json | jq -r '.models[0] | "\(.active.version) \(.floor.release)"'; }
# shows N: the mount shows exactly what was packed as release N. It fails at once: never a condition of until_true.
shows() {
	[ "$(readlink "$MNT/det/active")" = "versions/1.$1.0" ] || fail "1.$1.0 is not active: $(cat "$MNT/det/status")"
	diff -r "$W/src$1" "$MNT/det/active" || fail "release $1 differs"
}
# follow URL [MIRROR,...]: the device asks there instead.
follow() {
	sed -i -e "s#^repository: .*#repositories: {default: {url: \"$1\", root: keys/root.json${2:+, mirrors: [$2]}}}#" "$CFG"
}
# cycle_ JQ: of the update cycle of det in status --json, one line.
cycle_() { status_ det --json 2>>"$W/log" | jq -rc ".cycle | $1"; }
# next_is "VERSION STEP OUTCOME": what is on its way, where it is, and what it waits for.
next_is() { [ "$(cycle_ '.next | "\(.version) \(.step) \(.why.outcome)"')" = "$1" ]; }
# event VERSION CODE [from]: an event says so of the version, as the one that came, or that it went from.
event() {
	"$modelfs" events -c "$CFG" --json >"$W/events" 2>>"$W/log" || fail "events: exit $?"
	jq -es --arg v "$1" --argjson c "$2" --arg f "${3:-to}" 'any(.code == $c and (.[$f] == $v or .version == $v))' "$W/events" >>"$W/log" ||
		fail "no event with code $2 about $1: $(tail -n 3 "$W/events")"
}
