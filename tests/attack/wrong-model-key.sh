#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A wrong, short or missing model key: a clear outcome, no bytes, and the other models are served.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture 'det: {serve: paged, model_key: "file:mk.bin"}' 'other: {serve: paged}'
gen raw 100K 3 "$W/other.bin"
id=other
pack_plain 1.0.0 1 "$W/b3" "$W/other.bin"
install_ "$W/b3" || fail "install: exit $?"
id=det
cp "$W/mk.bin" "$W/good"
mounted=no
( need_fuse ) >/dev/null 2>&1 && mounted=yes
for kind in wrong short missing; do
	step "$kind"
	case $kind in
	wrong) head -c 32 /dev/urandom >"$W/mk.bin" ;;
	short) head -c 31 /dev/urandom >"$W/mk.bin" ;;
	missing) rm -f "$W/mk.bin" ;;
	esac
	rc=0
	timeout 60 "$modelfs" install -c "$CFG" "$W/b2" >"$W/expect.out" 2>&1 || rc=$?
	[ "$rc" != 0 ] && [ "$rc" -lt 64 ] || fail "install with a $kind model key: exit $rc: $(cat "$W/expect.out")"
	grep -qE 'key_unavailable|decrypt_failed|config_invalid' "$W/expect.out" || fail "outcome: $(cat "$W/expect.out")"
	grep -q mk.bin "$W/expect.out" || grep -q det "$W/expect.out" || fail "the message names neither key nor model: $(cat "$W/expect.out")"
	[ "$mounted" = yes ] || continue
	rc=0
	timeout 30 "$modelfs" mount -c "$CFG" >"$W/expect.out" 2>&1 || rc=$?
	if [ "$rc" = 0 ]; then
		at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
		! cat "$MNT/det/active/weights.bin" >"$W/out" 2>/dev/null || fail "a model was read without its key"
		[ ! -s "$W/out" ] || fail "bytes came out without the key"
		same "$W/other.bin" "$MNT/other/active/other.bin"
		grep -qE 'key' "$MNT/det/status" || fail "status does not say why: $(cat "$MNT/det/status")"
		unmount_
	else
		fail "one model without its key keeps the others from being mounted: exit $rc: $(cat "$W/expect.out")"
	fi
	cp "$W/good" "$W/mk.bin"
done
status_ det | grep -q 1.1.0 || fail "the active version changed"
[ "$mounted" = no ] || mount_
still_good
