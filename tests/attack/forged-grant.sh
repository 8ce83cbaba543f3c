#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Wrapped content keys beside a manifest are unsigned. Whatever stands in grants/ of a bundle, of a repository or of the
# store, forged, foreign, swapped, cut, swollen, a link or a special file: the outcome is key_unavailable, nothing of
# the version gets in, it is not condemned, not one byte comes out, and the right wrap works afterwards.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
keys
head -c 32 /dev/urandom >"$W/new.bin"
head -c 32 /dev/urandom >"$W/third.bin"
chmod 0600 "$W"/*.bin
key_id() { { printf 'modelfs model key'; cat "$1"; } | sha256sum | cut -d ' ' -f 1; }
mk=$(key_id "$W/new.bin")
third=$(key_id "$W/third.bin")
size=100K repository 'det: {serve: paged, model_key: "file:new.bin"}'
sed 's/^repository:.*//; s/^update:.*//; s/root: keys.root.json, //' "$CFG" >"$W/alone.yaml"
cp "$CFG" "$W/followed.yaml"
for v in 1 2; do size=200K release "$v"; done
content() { jq -r .encryption.content_key_id "$1/manifest.json"; }
ck=$(content "$W/b1")
[ "$ck" != "$(content "$W/b2")" ] || fail "the bundles share a content key"
for v in 1 2; do
	"$modelpub" grant "$W/b$v" --model-key "$W/mk.bin" --for "$W/new.bin" >>"$W/log" 2>&1 || fail "grant: exit $?"
	mv "$W/b$v/grants" "$W/grants$v"
done
good=$W/grants1/$mk/$ck.kwp
[ "$(stat -c %s "$good")" = 40 ] || fail "no wrap: $(find "$W/grants1")"
foreign=$W/grants2/$mk/$(content "$W/b2").kwp

# What may stand there. place KIND FOLDER: it has FOLDER/grants, and no wrap that is of use.
kinds="forged foreign flipped cut empty swollen large other-key raw-key link folder-link all-link fifo folder device names"
place() {
	local g=$2/grants d=$2/grants/$mk f=$2/grants/$mk/$ck.kwp
	rm -rf "$g"
	mkdir -p "$d"
	case $1 in
	forged) head -c 40 /dev/urandom >"$f" ;;
	foreign) cp "$foreign" "$f" ;;
	flipped) cp "$good" "$f" && flip "$f" 20 ;;
	cut) head -c 39 "$good" >"$f" ;;
	empty) : >"$f" ;;
	swollen) { cat "$good"; echo; } >"$f" ;;
	large) { cat "$good"; head -c 5000000 /dev/zero; } >"$f" ;;
	other-key) # wrapped for a key that this host does not have, under both names
		mkdir -p "$g/$third"
		"$modelpub" grant "$W/b1" --model-key "$W/mk.bin" --for "$W/third.bin" >>"$W/log" 2>&1 || fail "grant: exit $?"
		cp "$W/b1/grants/$third/$ck.kwp" "$f"
		cp "$f" "$g/$third/"
		[ "$2" = "$W/b1" ] || rm -r "$W/b1/grants" ;;
	raw-key) head -c 8 /dev/zero >"$f" && cat "$W/new.bin" >>"$f" ;;
	link) ln -s "$good" "$f" ;;
	folder-link) rmdir "$d" && ln -s "$W/grants1/$mk" "$d" ;;
	all-link) rm -r "$g" && ln -s "$W/grants1" "$g" ;;
	fifo) mkfifo "$f" ;;
	folder) mkdir "$f" && cp "$good" "$f/" ;;
	device) mknod "$f" c 1 5 2>/dev/null || : >"$f" ;;
	names) cp "$good" "$g/$ck.kwp"
		for name in "$ck.kwp.kwp" "$ck.KWP" "${ck^^}.kwp" "$ck" "..%2f$ck.kwp" " $ck.kwp" $'\n'; do cp "$good" "$d/$name"; done
		mkdir "$g/..." "$g/${mk^^}" && cp "$good" "$g/${mk^^}/$ck.kwp" ;;
	esac
}
nothing_of_it() {
	[ -z "$(find "$W/store/blobs" "$W/store/manifests" "$W/store/grants" -type f 2>/dev/null)" ] || fail "$1: left: $(find "$W/store" -type f)"
}

step "in a bundle"
cp "$W/alone.yaml" "$CFG"
for kind in $kinds; do
	place "$kind" "$W/b1"
	expect 4 "key_unavailable.*$mk" "$modelfs" install -c "$CFG" "$W/b1"
	case $kind in
	names) ;;
	*) grep -q "in the bundle's grants/ is of no use" "$W/expect.out" || fail "$kind: not said: $(cat "$W/expect.out")" ;;
	esac
	nothing_of_it "$kind"
done
rm -rf "$W/b1/grants"
expect 4 "no content key for model key $mk, only for $(key_id "$W/mk.bin" | cut -c 1-16).*modelpub grant" "$modelfs" install -c "$CFG" "$W/b1"
! grep -q "of no use" "$W/expect.out" || fail "$(cat "$W/expect.out")"

step "in a repository"
publish 1
cp "$W/followed.yaml" "$CFG"
rm -rf "$W/repo/grants"
for kind in none $kinds; do
	[ "$kind" = none ] || place "$kind" "$W/repo"
	chmod -R a+rX "$W/repo" # fetch has a user of its own
	rc=0
	timeout 60 "$modelfs" update -c "$CFG" det >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	[ "$rc" = 4 ] || fail "$kind: exit $rc: $(cat "$W/said")"
	case $kind in # of a link or a special file, fetch itself says what it is
	none | forged | foreign | flipped | cut | empty | swollen | large | other-key | raw-key | names)
		grep -q "key_unavailable.*$mk" "$W/said" || fail "$kind: $(cat "$W/said")" ;;
	esac
	[ -z "$(find "$W/store/blobs" "$W/store/grants" "$W/store/staging" -type f 2>/dev/null)" ] || fail "$kind: left: $(find "$W/store" -type f)"
	[ "$(cycle_ .refused)" = null ] || fail "$kind: refused: $(cycle_ .refused)"
done
rm -rf "$W/repo/grants"

step "the right one, of the repository"
cp -r "$W/grants1" "$W/repo/grants"
expect 0 "1.1.0 is active" "$modelfs" update -c "$CFG" det
same "$good" "$W/store/grants/$mk/$ck.kwp"

step "in the store: unreadable, never a wrong byte; one of a bundle takes its place"
cp "$W/alone.yaml" "$CFG"
owner=$(stat -c %u:%g "$W/store/grants/$mk/$ck.kwp")
mounted=no
( need_fuse ) >/dev/null 2>&1 && mounted=yes
cp -r "$W/b1" "$W/granted" && cp -r "$W/grants1" "$W/granted/grants"
for kind in $kinds; do
	place "$kind" "$W/store"
	chown -hR "$owner" "$W/store/grants"
	if [ "$mounted" = yes ]; then
		mount_
		grep -qE "^note:.*key_unavailable.*$mk" "$MNT/det/status" || fail "$kind: $(cat "$MNT/det/status")"
		for f in weights.bin small.bin; do
			! cat "$MNT/det/active/$f" >"$W/out" 2>>"$W/log" || fail "$kind: $f was read"
			[ ! -s "$W/out" ] || fail "$kind: bytes came out of $f"
		done
		install_ "$W/granted" || fail "$kind: install: exit $?"
		shows 1
		unmount_
	else
		install_ "$W/granted" || fail "$kind: install: exit $?"
	fi
	[ -f "$W/store/grants/$mk/$ck.kwp" ] && [ ! -L "$W/store/grants/$mk/$ck.kwp" ] && cmp -s "$good" "$W/store/grants/$mk/$ck.kwp" ||
		fail "$kind: not in its place: $(ls -lR "$W/store/grants")"
	same "$good" "$W/grants1/$mk/$ck.kwp"
done

step "what lies there besides is collected, and no link is followed"
ln -s "$W/grants1" "$W/store/grants/link"
mkdir -p "$W/store/grants/$third" "$W/store/grants/x/y"
cp "$foreign" "$W/store/grants/$mk/"
chown -hR "$owner" "$W/store/grants"
"$modelfs" gc -c "$CFG" >>"$W/log" 2>&1 || [ $? = 2 ] || fail "gc: exit $?"
[ "$(cd "$W/store/grants" && find . -mindepth 1 | sort | tr '\n' ' ')" = "./$mk ./$mk/$ck.kwp " ] || fail "$(find "$W/store/grants")"
[ -f "$good" ] || fail "a link was followed"
