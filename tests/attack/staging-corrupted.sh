#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a mounted update has on disk is changed by somebody else while it comes, over a restart, while it is checked and
# before it is activated: staged payloads, tables, journals, what was kept of the signature. It is noticed and fetched
# again, no version is condemned for it, nothing outside of the store is touched, and never is a wrong byte shown.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_tool pgrep
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
unset config_extra
repository "det: {serve: paged, model_key: \"file:mk.bin\", health: {command: [$P/check, health], timeout: 60s}}"
sed -i "s|probation: 10m|probation: 0, conditions: {hold_file: $W/hold}|" "$CFG"
size=6M
for v in 1 2; do release "$v"; done
check 'exit 0'
hostile_start "$W/repo"
follow "$HOSTILE"
publish 1
mount_
brings 1
publish 2
unmount_
cp -a "$W/state" "$W/state.1"
cp -a "$W/store" "$W/store.1"
hash_of() { jq -r --arg f "$1" ".files[] | select(.name == \$f).$2" "$W/b2/manifest.json"; }
weights=$(hash_of weights.bin sha256) table=$(hash_of weights.bin chunks_sha256) small=$(hash_of small.bin sha256)
staging=$W/store/staging/dl-det
data=$staging/$weights.data journal=$staging/$weights.journal
echo "not yours" >"$W/outside"

# again: release 1 is active, and nothing of release 2 was ever asked for.
again() {
	! mountpoint -q "$MNT" || unmount_
	rm -rf "$W/state" "$W/store"
	cp -a "$W/state.1" "$W/state"
	cp -a "$W/store.1" "$W/store"
	faults_clear
	mount_
}
# half: the download of release 2 stands still in the middle of its payload.
half() {
	again
	fault stall count=all after=600000 "path=$weights"
	expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
	some() { faulted && [ "$(cycle_ '.next.done')" -gt 1000000 ]; }
	until_true 20 some || fail "$(cycle_ .)"
}
wrong() { # 1.1.0 or 1.2.0 is shown, and not all that can be read of it is right; by its name: it may be swapped meanwhile
	local n f
	n=$(readlink "$MNT/det/active") n=${n#versions/1.} n=${n%.0}
	for f in weights.bin small.bin; do
		! cat "$MNT/det/versions/1.$n.0/$f" >"$W/got" 2>/dev/null || cmp -s "$W/got" "$W/src$n/$f" || return 0
	done
	return 1
}
# comes: 1.2.0 does, with attempts by hand instead of pauses, right to the byte; the store holds the right bytes in the end.
comes() {
	for _ in 1 2 3 4 5; do
		! wrong || fail "$1: a wrong byte was shown"
		update_ det && break
		[ "$(readlink "$MNT/det/active")" != versions/1.2.0 ] || break
		case $(cycle_ .next.why.outcome) in
		io | hash_mismatch) echo "  $1: $(cycle_ .next.why.outcome)" ;;
		*) fail "$1: $(cycle_ .)" ;;
		esac
		shows 1
	done
	shows 2
	[ "$(cycle_ .refused)" = null ] || fail "$1: refused: $(cycle_ .refused)"
	timeout 60 "$modelfs" verify -c "$CFG" det >>"$W/log" 2>&1 || fail "$1: verify: exit $?"
	[ -z "${2-}" ] || fresh_serve # which does not go on with a repair
	clean() { [ -z "$(find "$W/store/staging" -type f)" ]; }
	until_true 10 clean || fail "$1: left: $(find "$W/store/staging")"
	[ "$(cat "$W/outside")" = "not yours" ] || fail "$1: a file outside was written to"
	[ "$(now_)" = "1.2.0 2" ] || fail "$1: $(now_)"
	echo "  $1: fetched again"
}

step "while it comes"
half
flip "$data" 10
flip "$data" 1100000
truncate -s 3000000 "$data"
faults_clear
fetch_dies
comes "payload flipped and cut off"
half
cp "$W/repo/blobs/sha256/${table:0:2}/$table/00000" "$W/swap"
mv "$W/swap" "$data"
flip "$staging/$table.data" 100
rm "$staging/$small.data" "$journal"
faults_clear
fetch_dies
comes "payload swapped, table flipped, others gone"

step "over a restart"
half

kill -STOP "$(serve_pid)"
head -c 6291456 /dev/urandom >"$W/swap"
cat "$W/swap" >"$data"
printf '\377\377\377\377\377\377' | dd of="$journal" bs=1 seek=96 conv=notrunc status=none
faults_clear
fresh_serve
comes "the journal claims all of a payload that is garbage"
half
faults_clear
kill -STOP "$(serve_pid)"
rm "$data" "$journal" "$staging/$small.data" "$staging/$table.data"
ln -s "$W/outside" "$data"
mkdir "$journal" "$journal/x"
ln "$W/outside" "$staging/$small.data"
mkfifo "$staging/$table.data"
chown -Rh "$(stat -c %u:%g "$W/store")" "$journal" "$data" "$staging/$table.data"
fresh_serve
comes "links, folders and pipes"

step "while it is checked, and a repair cannot be had"
# checked: the blobs of release 2 stand in the store, and its check waits for $P/out/go; then it reads all of it.
checked() {
	again
	rm -f "$P/out/began" "$P/out/go"
	check '[ "$1" = health ] || exit 0
touch $P/out/began; until [ -e $P/out/go ]; do sleep 0.05; done
cat $MODELFS_DIR/weights.bin >$P/out/seen || exit 1'
	expect 0 "1.2.0 is offered" "$modelfs" check -c "$CFG" det
	until_true 20 test -e "$P/out/began" || fail "it is not checked: $(cycle_ .)"
}
checked
flip "$(blob "$table")" 100
truncate -s 5000000 "$(blob "$weights")"
fault 503 count=all path=/blobs/
touch "$P/out/go"
until_true 40 next_is "1.2.0 download io" || fail "$(cycle_ .)"
cmp -n "$(stat -c %s "$P/out/seen")" "$P/out/seen" "$W/src2/weights.bin" || fail "the check read a wrong byte"
shows 1
event 1.2.0 32
faults_clear
comes "a table flipped, a payload cut off" repair

step "checked, and held before it is activated"
id2=$(sha256sum <"$W/b2/manifest.json") id2=${id2%% *}
for what in manifest.json signature.sig; do
	checked
	touch "$W/hold" "$P/out/go"
	until_true 20 next_is "1.2.0 activate held" || fail "$(cycle_ .)"
	for f in "$W/store/manifests/$id2" "$W/state/manifests/$id2"; do flip "$f/$what" 50; done
	cat "$(blob "$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b1/manifest.json")")" >"$(blob "$weights")"
	fresh_serve
	rm "$W/hold"
	comes "both copies of $what, and another release's payload" repair
done
unmount_
