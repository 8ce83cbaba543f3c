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
publish() { "$modelpub" publish "$W/repo" "$W/b$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish $1"; }
update_() { timeout 120 "$modelfs" update -c "$CFG" "$@" >>"$W/log" 2>&1; }
# now_: "VERSION FLOOR" of det.
now_() { status_ --json | jq -r '.models[0] | "\(.active.version) \(.floor.release)"'; }
shows() { # N: the mount shows exactly what was packed as release N
	[ "$(readlink "$MNT/det/active")" = "versions/1.$1.0" ] || fail "1.$1.0 is not active: $(cat "$MNT/det/status")"
	diff -r "$W/src$1" "$MNT/det/active" || fail "release $1 differs"
}
