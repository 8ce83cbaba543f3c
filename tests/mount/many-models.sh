#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many models with policies of their own change together: one check brings them all, none takes another one's away
# while it is on its way, serve may die in the middle, and what fell out of `retain` is collected once for all.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
keys
models=${MFS_MODELS:-24}
names=()
for ((i = 0; i < models; i++)); do names+=("m$(printf %02d "$i")"); done
"$modelpub" init "$W/repo" --keys "$W/keys" --trust "$W/release.pub.pem" >>"$W/log" 2>&1 || fail "modelpub init: exit $?"
release_all() { # N
	for id in "${names[@]}"; do
		printf '%s %s\n' "$id" "$1" >"$W/a.txt"
		pack_plain "1.$1.0" "$1" "$W/b" "$W/a.txt"
		"$modelpub" publish "$W/repo" "$W/b" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish: exit $?"
		rm -rf "$W/b"
	done
}
release_all 1
config_extra="repository: \"file://$W/repo\""$'\n'"update: {interval: 1h, retain: 1, probation: 0}"$'\n'
config "${names[@]/%/: {serve: paged\}}"
sed -i "s|^trust: .*|trust: {root: \"$W/keys/root.json\", keys: [release.pub.pem]}|" "$CFG"
chmod 0711 "$W"
all_show() { # N
	for id in "${names[@]}"; do
		[ "$(cat "$MNT/$id/active/a.txt" 2>/dev/null)" = "$id $1" ] || return 1
	done
}

step "$models models come in by one check, although serve dies in it"
mount_
some() { [ "$(find "$MNT/.active" -mindepth 1 -maxdepth 1 | wc -l)" -ge 3 ]; }
until_true 60 some || fail "nothing comes in: $(status_)"
kill -KILL "$(serve_pid)"
until_true 120 all_show 1 || fail "not all: $(status_ | grep -v 'serving 1.1.0' | head -n 5)"
! grep -E '"(signature_invalid|hash_mismatch|malformed|io)"' "$W/state/events.jsonl" || fail "trouble with good models"

step "all of them change, twice"
for v in 2 3; do
	release_all "$v"
	expect 0 "is offered" "$modelfs" check -c "$CFG"
	until_true 120 all_show "$v" || fail "not all: $(status_ | grep -v "serving 1.$v.0" | head -n 5)"
done
kept() { [ "$(find "$W/store/manifests" -mindepth 1 -maxdepth 1 -type d | wc -l)" = $((2 * models)) ]; }
until_true 100 kept || fail "$(find "$W/store/manifests" -mindepth 1 -maxdepth 1 -type d | wc -l) versions are kept, wanted $((2 * models))"
unmount_
