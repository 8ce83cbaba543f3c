#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Links and special files in a bundle are refused, never followed, and never make install wait.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for f in payload/weights.bin payload/small.bin chunks/weights.bin manifest.json signature.sig; do
	for kind in symlink fifo folder device socket; do
		step "$kind at $f"
		copy_bundle "$W/b2" "$W/bad"
		rm "$W/bad/$f"
		case $kind in
		symlink) ln -s "$W/b2/$f" "$W/bad/$f" ;;
		fifo) mkfifo "$W/bad/$f" ;;
		folder) mkdir "$W/bad/$f" ;;
		device) mknod "$W/bad/$f" c 1 3 2>/dev/null || continue ;;
		socket) node -e 'require("net").createServer().listen(process.argv[1], () => process.exit())' "$W/bad/$f" 2>/dev/null || continue
			[ -S "$W/bad/$f" ] || continue ;;
		esac
		refused "$W/bad" malformed signature_invalid
		grep -q "$(basename "$f")" "$W/expect.out" || fail "the message does not name $f: $(cat "$W/expect.out")"
		rc=0
		timeout 20 "$modelpub" verify --pub "$W/release.pub.pem" "$W/bad" >"$W/expect.out" 2>&1 || rc=$?
		[ "$rc" = 3 ] || fail "modelpub verify: exit $rc with a $kind at $f: $(cat "$W/expect.out")"
	done
done
step "a folder that is a link"
copy_bundle "$W/b2" "$W/bad"
mv "$W/bad/payload" "$W/elsewhere"
ln -s "$W/elsewhere" "$W/bad/payload"
refused "$W/bad" malformed
still_good
