#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A version that is being checked belongs to its check alone, also when serve is killed meanwhile, and
# becomes everybody's the moment it is active, in both tiers.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
keys
reader=61999

# The check says what it sees, waits, reads everything again, and passes.
waiting='
exec >"$P/out/said" 2>&1
id -u
readlink "$MODELFS_DIR/../../candidate"
stat -c "%a %u" "$MODELFS_DIR" "$MODELFS_DIR/weights.safetensors"
sha256sum <"$MODELFS_DIR/weights.safetensors"
touch "$P/out/ready"
while [ ! -e "$P/out/go" ]; do sleep 0.05; done
sha256sum <"$MODELFS_DIR/weights.safetensors" || exit 1
touch "$P/out/done"'

is_private() {
	local v=$MNT/det/versions/$version
	[ "$(readlink "$MNT/det/candidate")" = "versions/$version" ] || fail "no candidate"
	as "$CHECK_UID" cmp "$P/src/weights.safetensors" "$v/weights.safetensors" || fail "the check's user cannot read it"
	for who in "$reader" 61101 65534; do
		! as "$who" ls "$v" >/dev/null 2>&1 || fail "uid $who lists a candidate"
		! as "$who" cat "$v/weights.safetensors" >/dev/null 2>&1 || fail "uid $who reads a candidate"
	done
	as "$reader" ls "$MNT/det/active/" >/dev/null || fail "the active version is hidden too"
}

run() { # TIER KILLS
	local n
	rm -f "$P/out"/*
	next_bundle
	install_ "$W/b" &
	jobs_started=("$!")
	until_true 20 test -e "$P/out/ready" || fail "the check did not start: $(cat "$P/out/said")"
	is_private
	active_is "$before" || fail "it is active before it was checked"
	for ((n = 0; n < $2; n++)); do
		fresh_serve
		is_private
	done
	touch "$P/out/go"
	until_true 20 test -e "$P/out/done" || fail "the check lost its files: $(cat "$P/out/said")"
	wait "${jobs_started[0]}" || [ "$2" -gt 0 ] || fail "the install failed"
	jobs_started=()
	[ "$(sed -n 1p "$P/out/said")" = "$CHECK_UID" ] || fail "it ran as $(cat "$P/out/said")"
	[ "$(sed -n 2p "$P/out/said")" = "versions/$version" ] || fail "candidate led to $(cat "$P/out/said")"
	[ "$(sed -n 3,4p "$P/out/said" | tr '\n' ' ')" = "500 $CHECK_UID 400 $CHECK_UID " ] || fail "modes: $(cat "$P/out/said")"
	[ "$(sha256sum <"$P/src/weights.safetensors")" = "$(sed -n 5p "$P/out/said")" ] || fail "it read something else"
	[ "$(sed -n 5p "$P/out/said")" = "$(sed -n 6p "$P/out/said")" ] || fail "it read something else after the kill"
}

tiers="paged"
( need_resident ) >/dev/null 2>&1 && tiers="paged resident"
for tier in $tiers; do
	step "$tier"
	config "det: {serve: $tier, model_key: \"file:mk.bin\", health: {command: [$P/check], timeout: 60s}}"
	check 'exit 0'
	mount_
	next_bundle
	install_ "$W/b" || fail "install with a check that passes: exit $?"
	active_is "$version" || fail "$version is not active"
	before=$version
	wait_tier det "$tier"
	check "$waiting"
	run "$tier" 0
	as "$reader" cmp "$P/src/weights.safetensors" "$MNT/det/active/weights.safetensors" || fail "not everybody's once active"
	active_is "$version" || fail "$version is not active"
	[ ! -e "$MNT/det/candidate" ] && [ ! -L "$MNT/det/candidate" ] || fail "an active version is still a candidate"
	before=$version
	step "$tier, serve killed during the check"
	run "$tier" 2
	unmount_
	check 'exit 0'
	mount_
	[ ! -L "$MNT/det/candidate" ] || fail "a restart remembers a candidate"
	install_ "$W/b" || [ $? = 2 ] || fail "install after the restart"
	active_is "$version" || fail "$version is not active after the restart"
	unmount_
done

step "another variant of the active version"
config "det: {serve: paged, model_key: \"file:mk.bin\", health: {command: [$P/check], timeout: 60s}}"
# shellcheck disable=SC2016 # for the check
check 'echo "$MODELFS_VERSION ${MODELFS_DIR##*/} ${MODELFS_VECTORS##*/} $(sha256sum <"$MODELFS_DIR/weights.safetensors")" >"$P/out/said"; exit 0'
mount_
gen safetensors 300K 77 "$P/src/weights.safetensors"
rm -rf "$W/b"
"$modelpub" pack --id det --version "$version" --variant fp16 --release "$release" --key "$W/release.pem" --model-key "$W/mk.bin" \
	--out "$W/b" "$P/src/weights.safetensors" >>"$W/log" 2>&1 || fail "modelpub pack --variant"
install_ "$W/b" || fail "another variant of the active version: exit $?"
[ "$(cat "$P/out/said")" = "$version $version+fp16 $version+fp16.json $(sha256sum <"$P/src/weights.safetensors")" ] ||
	fail "the check saw $(cat "$P/out/said")"
active_is "$version" || fail "active leads to $(readlink "$MNT/det/active")"
same "$P/src/weights.safetensors" "$MNT/det/active/weights.safetensors"
unmount_
