#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A content key wrapped for another model key after the bundle was packed: from a bundle's grants/, from a repository
# and its mirrors; across restarts, gc, the loss of the file, a new customer group and a change of keys. A version
# without one waits, asks nothing in vain, and says which key is wanted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/web.sh
. "$(dirname "$0")/../lib/web.sh"
need_fuse
need_nginx
keys
head -c 32 /dev/urandom >"$W/new.bin"
head -c 32 /dev/urandom >"$W/third.bin"
chmod 0600 "$W"/*.bin
chmod 0755 "$W"
key_id() { { printf 'modelfs model key'; cat "$1"; } | sha256sum | cut -d ' ' -f 1; }
mk=$(key_id "$W/new.bin")
update_extra='daily_bytes: 1GB'
repository 'det: {serve: auto, model_key: "file:new.bin"}'
cp "$CFG" "$W/file.yaml"
sed 's/^repository:.*//; s/^update:.*//; s/root: keys.root.json, //' "$CFG" >"$W/alone.yaml"
for v in 1 2 3; do release "$v"; done
content() { jq -r .encryption.content_key_id "$1/manifest.json"; }
wrap() { echo "grants/$mk/$(content "$W/b$1").kwp"; } # N: of release N, for the new key
grant() { "$modelpub" grant "$@" --model-key "$W/mk.bin" >>"$W/log" 2>&1; }

step "mounted, by hand: a bundle that holds the wrap"
cp "$W/alone.yaml" "$CFG"
cp -r "$W/b1" "$W/granted"
grant "$W/granted" --for "$W/new.bin" || fail "grant: exit $?"
mount_
expect 4 "key_unavailable.*model key $mk" "$modelfs" install -c "$CFG" "$W/b1"
grep -q "key_unavailable.*$mk" "$MNT/det/events" || fail "no event: $(cat "$MNT/det/events")"
install_ "$W/granted" || fail "install: exit $?"
shows 1
unmount_
mount_
shows 1

step "the wrap is lost: said in words; the next mount has it from the bundle again, without a restart"
unmount_
rm "$W/store/$(wrap 1)"
mount_
! cat "$MNT/det/active/small.bin" >"$W/out" 2>>"$W/log" || fail "read without a key"
grep -qE "^note: *key_unavailable: .*model key $mk, only for $(key_id "$W/mk.bin" | cut -c 1-16)" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"
expect 0 "model key: *$mk, of this host" "$modelfs" explain -c "$CFG" det
grep -q "wrapped: *$(key_id "$W/mk.bin"), in the manifest of 1.1.0" "$W/expect.out" || fail "$(cat "$W/expect.out")"
grep -q "wanted: *$(wrap 1)" "$W/expect.out" || fail "$(cat "$W/expect.out")"
"$modelfs" doctor -c "$CFG" >"$W/said" 2>&1 || true
grep -q "det: key_unavailable: .*$mk" "$W/said" && grep -q "modelpub grant" "$W/said" || fail "doctor: $(cat "$W/said")"
generation=$(cat "$MNT/det/generation")
expect 0 'det 1.1.0 is active' "$modelfs" install -c "$CFG" "$W/granted"
shows 1
[ "$generation" != "$(cat "$MNT/det/generation")" ] || fail "who waits for it is not told"
"$modelfs" doctor -c "$CFG" >"$W/said" 2>&1 || true
! grep -q "det: key_unavailable" "$W/said" || fail "doctor: $(cat "$W/said")"
unmount_

step "a seed of bundles holds one"
rm -r "$W/store/grants"
mkdir "$W/seed" && cp -r "$W/granted" "$W/seed/one"
chmod -R a+rX "$W/seed"
echo 'seed: [seed]' >>"$CFG"
mount_
shows 1
[ ! -e "$W/store/grants" ] || fail "copied: $(find "$W/store/grants")"
unmount_
rm -r "$W/state" "$W/store" "$W/seed"

step "a repository without a wrap: the version waits, each source is asked once, and no byte of it is fetched"
publish 1
origin=$(port_free) mirror=$(port_free)
mkdir "$W/mirror"
web_start "server { listen 127.0.0.1:$origin; root $W/repo; } server { listen 127.0.0.1:$mirror; root $W/mirror; }"
cp "$W/file.yaml" "$CFG"
follow "http://127.0.0.1:$origin" "\"http://127.0.0.1:$mirror\", \"http://127.0.0.1:$mirror/{hash}/{part}\""
expect 4 "key_unavailable.*model key $mk" "$modelfs" update -c "$CFG" det
asked() { grep -c "^$1 .*$2" "$W/web.log" || true; }
[ "$(asked "$mirror" "GET /$(wrap 1) .* 404")" = 1 ] && [ "$(asked "$origin" "GET /$(wrap 1) .* 404")" = 1 ] || fail "asked: $(grep grants "$W/web.log")"
[ "$(grep -c /grants/ "$W/web.log")" = 2 ] || fail "asked: $(grep grants "$W/web.log")"
[ "$(asked "[0-9]*" /blobs/)" = 0 ] || fail "fetched: $(grep blobs "$W/web.log")"
[ "$(cycle_ '.next | "\(.version) \(.step) \(.why.outcome)"')" = "1.1.0 download key_unavailable" ] || fail "$(cycle_ .)"
expect 0 "wanted: *$(wrap 1) of its repository" "$modelfs" explain -c "$CFG" det
expect 0 "^bytes left today: 1000000000" "$modelfs" explain -c "$CFG" det
[ "$(cycle_ .refused)" = null ] || fail "refused: $(cycle_ .refused)"
mount_
grep -qE "^note:.*download of 1.1.0 waits: key_unavailable: .*$mk" "$MNT/det/status" || fail "$(cat "$MNT/det/status")"

step "its publisher makes one for the new group: no key signs anything, and the device updates"
before=$(cd "$W/repo/metadata" && sha256sum -- *)
grant "$W/repo" det --for "$W/new.bin" --for "$W/third.bin" || fail "grant: exit $?"
[ "$before" = "$(cd "$W/repo/metadata" && sha256sum -- *)" ] || fail "metadata changed"
[ -f "$W/repo/grants/$(key_id "$W/third.bin")/$(content "$W/b1").kwp" ] || fail "no wrap for the third: $(find "$W/repo/grants")"
update_ det || fail "update: exit $?"
shows 1
[ "$(asked "$origin" "GET /$(wrap 1) .* 200")" = 1 ] || fail "asked: $(grep grants "$W/web.log")"
same "$W/repo/$(wrap 1)" "$W/store/$(wrap 1)"

step "a mirror that forges it, and one that has a page for everything: the repository is asked"
publish 2
grant "$W/repo" det 1.2.0 --for "$W/new.bin" || fail "grant: exit $?"
mkdir -p "$W/mirror/grants/$mk"
head -c 40 /dev/urandom >"$W/mirror/$(wrap 2)"
update_ det || fail "update: exit $?"
shows 2
same "$W/repo/$(wrap 2)" "$W/store/$(wrap 2)"
publish 3
head -c 20000 /dev/zero >"$W/mirror/$(wrap 3)"
expect 4 "key_unavailable.*does not open" "$modelfs" update -c "$CFG" det
shows 2

step "a mirror alone has it"
grant "$W/b3" --for "$W/new.bin" || fail "grant: exit $?"
cp "$W/b3/$(wrap 3)" "$W/mirror/$(wrap 3)"
rm -r "$W/b3/grants"
update_ det || fail "update: exit $?"
shows 3

step "gc: the wraps of what is kept stay, the others go"
kept() { (cd "$W/store" && find grants -type f | sort); }
[ "$(kept)" = "$({ wrap 1; wrap 2; wrap 3; } | sort)" ] || fail "$(kept)"
sed -i 's/probation: 10m/probation: 0, retain: 1/' "$CFG"
unmount_
rm -r "$W/state/manifests/$(sha256sum <"$W/b1/manifest.json" | cut -d ' ' -f 1)" "$W/store/manifests/$(sha256sum <"$W/b1/manifest.json" | cut -d ' ' -f 1)"
"$modelfs" gc -c "$CFG" >>"$W/log" 2>&1 || [ $? = 2 ] || fail "gc: exit $?"
[ "$(kept)" = "$({ wrap 2; wrap 3; } | sort)" ] || fail "$(kept)"

# What was signed of it is had again, which takes a check: not in the next step.
mount_
until_true 40 test -d "$W/store/manifests/$(sha256sum <"$W/b1/manifest.json" | cut -d ' ' -f 1)" || fail "not restored: $(cat "$MNT/det/events")"
unmount_

step "lost with a repository: fetched again when it is mounted, without a poll"
cp "$W/b3/manifest.json" "$W/m3"
cp "$W/mirror/$(wrap 3)" "$W/wrap3"
rm -r "$W/store/grants"
polled=$(status_ det --json | jq -r .cycle.last_check)
mount_
opens() { cmp -s "$W/src3/weights.bin" "$MNT/det/active/weights.bin"; }
until_true 40 opens || fail "not fetched: $(cat "$MNT/det/status" "$MNT/det/events")"
shows 3
[ "$(cycle_ .last_check)" = "$polled" ] || fail "it was polled"
grep -q '"source":"scrub".*content key' "$MNT/det/events" || fail "no event: $(cat "$MNT/det/events")"
unmount_
mount_
shows 3

step "lost, and nobody has it: nothing is read; when it is there again, asking is enough"
unmount_
rm -r "$W/store/grants" "$W/mirror/$(wrap 3)"
mount_
said() { grep -q '"outcome":"key_unavailable".*"source":"scrub"' "$MNT/det/events"; }
until_true 40 said || fail "no event: $(cat "$MNT/det/events")"
! cat "$MNT/det/active/small.bin" >"$W/out" 2>>"$W/log" || fail "read without a key"
cp "$W/wrap3" "$W/mirror/$(wrap 3)"
"$modelfs" check -c "$CFG" det >>"$W/log" 2>&1 || true
until_true 40 opens || fail "not asked again: $(cat "$MNT/det/status" "$MNT/det/events")"
shows 3
unmount_

step "unmounted: an update brings what is lost"
rm -r "$W/store/grants"
expect 0 "1.3.0 is active" "$modelfs" update -c "$CFG" det
same "$W/wrap3" "$W/store/$(wrap 3)"
expect 2 "nothing newer" "$modelfs" update -c "$CFG" det

step "a change of keys: the device has the third key alone from now on"
grant "$W/repo" det --for "$W/third.bin" || fail "grant: exit $?"
sed -i 's/file:new.bin/file:third.bin/' "$CFG"
mount_
until_true 40 opens || fail "not fetched: $(cat "$MNT/det/status" "$MNT/det/events")"
shows 3
unmount_

step "from a stick"
rm -r "$W/state" "$W/store"
"$modelpub" export "$W/repo" "$W/stick" >>"$W/log" 2>&1 || fail "export: exit $?"
chmod -R a+rX "$W/stick"
: >"$W/web.log"
expect 0 "1.3.0 is active" "$modelfs" update -c "$CFG" det --from "$W/stick"
[ ! -s "$W/web.log" ] || fail "asked: $(cat "$W/web.log")"
mount_
shows 3
unmount_
