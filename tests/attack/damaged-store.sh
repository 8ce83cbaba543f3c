#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The store was deleted or tampered with while nothing was mounted: never an older version, never a wrong byte, no
# command hangs, and installing the same bundle again repairs whatever stands in the way.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
mounts=no
( need_fuse ) >/dev/null 2>&1 && mounts=yes
install_ "$W/b2" || fail "install of release 2: exit $?"
cp -a "$W/state" "$W/state.0"
cp -a "$W/store" "$W/store.0"
id=det
# shellcheck disable=SC2034 # these three are used by the texts given to damage
{
	payload=$(blob "$(jq -r '.files[] | select(.name == "weights.bin").sha256' "$W/b2/manifest.json")")
	table=$(blob "$(jq -r '.files[] | select(.name == "weights.bin").chunks_sha256' "$W/b2/manifest.json")")
	signed=$W/store/manifests/$(sha256sum <"$W/b2/manifest.json" | cut -d' ' -f1)
}
s=$W/store
owner=$(stat -c %u:%g "$s")

# shown: release 2 with its bytes, or EIO, or nothing at all with a reason.
shown() {
	local f rc
	[ "$mounts" = yes ] || return 0
	mount_
	if [ -e "$MNT/det/active" ]; then
		[ "$(readlink "$MNT/det/active")" = versions/1.2.0 ] || fail "$1: $(readlink "$MNT/det/active") is active"
		for f in weights.bin small.bin; do
			rc=0
			cat "$MNT/det/active/$f" >"$W/got" 2>/dev/null || rc=$?
			[ "$rc" != 0 ] || same "$W/got" "$W/src2/$f"
			[ "$rc" = 0 ] || [ "$2" = damaged ] || fail "$1: $f: EIO after the repair"
		done
	else
		[ "$2" = damaged ] || fail "$1: nothing is active after the repair"
		grep -qE '^note: +[a-z_]+: ' "$MNT/det/status" || fail "$1: no reason in status: $(cat "$MNT/det/status")"
	fi
	unmount_
}
damage() { # WHAT COMMAND
	local rc=0
	rm -rf "$W/state" "$s"
	cp -a "$W/state.0" "$W/state"
	cp -a "$W/store.0" "$s"
	eval "$2"
	[ ! -d "$s" ] || chown -Rh "$owner" "$s"
	shown "$1" damaged
	timeout 60 "$modelfs" install -c "$CFG" "$W/b2" >"$W/expect.out" 2>&1 || rc=$?
	cat "$W/expect.out" >>"$W/log"
	[ "$rc" = 0 ] || [ "$rc" = 2 ] || fail "$1: the repair: exit $rc: $(tail -n 2 "$W/expect.out")"
	shown "$1" repaired
	timeout 60 "$modelfs" verify -c "$CFG" det >>"$W/log" 2>&1 || fail "$1: verify after the repair: exit $?"
	expect 3 rollback_attempt "$modelfs" install -c "$CFG" "$W/b1"
	echo "  $1: repaired"
}
damage "no store" 'rm -rf "$s"'
damage "a payload with other bytes" 'flip "$payload" 200000'
damage "a payload cut off" 'truncate -s -1 "$payload"'
damage "a folder for a payload" 'rm "$payload"; mkdir -p "$payload/x"'
damage "a FIFO for a payload" 'rm "$payload"; mkfifo "$payload"'
damage "a link for a payload" 'rm "$payload"; ln -s /etc/passwd "$payload"'
damage "a link for a table" 'cp "$table" "$W/table"; rm "$table"; ln -s "$W/table" "$table"'
damage "a file for a folder of blobs" 'rm -r "${payload%/*}"; touch "${payload%/*}"'
damage "a link for a folder of blobs" 'mv "${payload%/*}" "$W/moved"; ln -sfn "$W/moved" "${payload%/*}"'
damage "a file for all blobs" 'rm -r "$s/blobs"; touch "$s/blobs"'
damage "a link for all blobs" 'rm -r "$s/blobs"; ln -s / "$s/blobs"'
damage "no manifests anywhere" 'rm -r "$s/manifests" "$W/state/manifests"'
damage "a file for a manifest's folder" 'rm -r "$signed"; touch "$signed"'
damage "folders for a manifest and its temporary" 'rm "$signed/manifest.json"; mkdir "$signed/manifest.json" "$signed/.manifest.json.new"'
damage "folders in staging" 'mkdir -p "$s/staging/x/y"; touch "$s/staging/x/y/z"'
damage "a link for staging" 'rmdir "$s/staging"; ln -s / "$s/staging"'
[ -e /etc/passwd ] && [ -s "$W/table" ] || fail "something outside the store was removed"
step "status never says that nothing was installed"
restored() { rm -rf "$W/state" "$s"; cp -a "$W/state.0" "$W/state"; cp -a "$W/store.0" "$s"; }
restored; rm -r "$s"; expect 1 'store.*the state is there' "$modelfs" status -c "$CFG"
restored; rm -r "$W/state"; expect 1 "state.*'modelfs recover'" "$modelfs" status -c "$CFG"
restored; rm "$W/state/key"; expect 4 "'modelfs recover'" "$modelfs" status -c "$CFG"
rm -r "$W/state" "$s"; expect 0 'nothing was ever installed' "$modelfs" status -c "$CFG"
