#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A stick: export to FAT32, by its rules (tests/lib/fatlike.c) and by the kernel's vfat where there is one, and update from it.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/repo.sh"
need_fuse
need_program fatlike
need_program cutcalls
need_program modelfs-fetch
need_tool fusermount3

stick=$W/stick
# plug KIND: a fresh stick at $stick; again with the argument "same": what is on it stays.
plug() {
	mkdir -p "$stick" "$W/back"
	case $1 in
	vfat)
		[ "${2-}" = same ] || { rm -f "$W/fat.img" && truncate -s 64M "$W/fat.img" && mkfs.vfat -F 32 "$W/fat.img"; } >>"$W/log" 2>&1
		mount -o loop "$W/fat.img" "$stick" 2>>"$W/log"
		return
		;;
	fat) set -- "${2-}" ;;
	strict) set -- "${2-}" --strict ;;
	esac
	[ "$1" = same ] || { rm -rf "$W/back" && mkdir "$W/back"; }
	shift
	"$B/fatlike" "$@" "$W/back" "$stick" >>"$W/log" 2>&1 &
	until_true 20 mountpoint -q "$stick" || fail "fatlike does not mount: $(tail -n 3 "$W/log")"
}
unplug() { ! mountpoint -q "$stick" || until_true 20 umount "$stick"; }
at_exit "umount '$stick' 2>/dev/null || umount -l '$stick' 2>/dev/null || true"
pub() { timeout 120 "$modelpub" "$@" >>"$W/log" 2>&1; }
u() { # CODE REGEX ARGUMENT...
	local code=$1 regex=$2
	shift 2
	expect "$code" "$regex" "$modelfs" update -c "$CFG" det "$@"
}
damaged() { find "$stick/repo/blobs" -type f -size +200k | head -n 1; }

size=300K
repository
mount_
n=0
for kind in vfat fat strict; do
	step "$kind"
	if ! plug $kind; then
		[ "$kind" = vfat ] || fail "no stick"
		echo "  the kernel has no vfat or loop, or there is no mkfs.vfat: skipped"
		continue
	fi
	release $((n += 1))
	publish $n
	# Whatever case a name is written in, and again: only what is new.
	pub export "$W/repo" "$stick/Repo" --model det || fail "export: exit $?"
	expect 0 ' 0 blobs copied' "$modelpub" export "$W/repo" "$stick/REPO"
	pub check "$stick/repo" --full --root "$W/keys/root.json" || fail "check"
	u 0 "1.$n.0 is active" --from "$stick/rePO"
	shows $n
	# Two within two seconds are two, also for who looks at time and length.
	stamp() { stat -c '%s %Y' "$stick/repo/metadata/timestamp.json"; }
	was=$(stamp)
	pub refresh "$W/repo" --keys "$W/keys" || fail "refresh"
	pub export "$W/repo" "$stick/repo" || fail "export: exit $?"
	[ "$(stamp)" != "$was" ] || fail "the same time and length: $was"

	# It is pulled at any moment: what it says is whole, and the next export goes on.
	release $((n += 1))
	publish $n
	for at in 3 9 20 40 60; do
		"$B/cutcalls" "$at" "$B/modelpub" export "$W/repo" "$stick/repo" >>"$W/log" 2>&1 || [ $? = 137 ] || fail "export"
		unplug
		plug $kind same
		pub check "$stick/repo" --full || fail "killed at call $at"
	done
	pub export "$W/repo" "$stick/repo" || fail "export after it was killed: exit $?"
	u 0 "1.$n.0 is active" --from "$stick/repo"
	shows $n

	# What is damaged on it is brought again; leftovers are collected.
	f=$(damaged)
	truncate -s 1000 "$f"
	! pub check "$stick/repo" || fail "damaged, and check says nothing"
	expect 0 '1 blob copied' "$modelpub" export "$W/repo" "$stick/repo"
	pub check "$stick/repo" --full || fail "still damaged"
	f=$(find "$stick/repo/targets" -name '*.manifest.json' | head -n 1)
	flip "$f" 100
	! pub check "$stick/repo" || fail "a bit of a manifest, and check says nothing"
	pub export "$W/repo" "$stick/repo" || fail "export: exit $?"
	pub check "$stick/repo" --full || fail "a manifest is still damaged"
	pub gc "$stick/repo" --grace 0m || [ $? = 2 ] || fail "gc"
	[ -z "$(find "$stick/repo" -name '.*.new')" ] || fail "left over: $(find "$stick/repo" -name '.*.new')"
	pub check "$stick/repo" --full || fail "gc took something"

	# Secrets are not written where everybody reads them; what is none is.
	expect 1 'others could read it.*umask=077' "$modelpub" key --out "$stick/k.pem"
	expect 1 'others could read it' "$modelpub" init "$stick/own" --keys "$stick/keys"
	[ -z "$(find "$stick" -name '*.pem*')" ] || fail "$(find "$stick" -name '*.pem*')"
	rm -rf "$stick/own"
	pub init "$stick/own" --keys "$W/keys.$kind" --trust "$W/release.pub.pem" || fail "a repository on a stick"
	pub publish "$stick/own" "$W/b$n" --keys "$W/keys.$kind" || fail "publish on a stick"
	pub revoke "$stick/own" det "1.$n.0" --action stop --keys "$W/keys.$kind" || fail "revoke on a stick"
	pub check "$stick/own" --full || fail "check of it"
	# A bundle comes on one, too.
	"$modelpub" pack --id det --version "1.$((n + 1)).0" --release $((n + 1)) --key "$W/release.pem" --model-key "$W/mk.bin" \
		--out "$stick/bundle" "$W/src$n/weights.bin" >>"$W/log" 2>&1 || fail "pack onto a stick"
	pub verify "$stick/bundle" --pub "$W/release.pub.pem" || fail "verify"
	n=$((n + 1))
	install_ "$stick/bundle" || fail "install from a stick: exit $?"
	unplug
done
echo "PASS"
