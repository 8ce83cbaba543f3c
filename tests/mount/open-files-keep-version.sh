#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is open keeps its version through install, gc and a restart of serve; what opens anew sees the swap.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program fsprobe
keys
config
for v in 1 2 3 4; do
	gen raw 3M "$v" "$W/weights.bin"
	cp "$W/weights.bin" "$W/weights.$v"
	pack "1.$v.0" "$v" "$W/b$v" "$W/weights.bin"
done
install_ "$W/b1" || fail "install: exit $?"
mount_
cat >"$W/later" <<END
set -e
for v in 2 3 4; do "$modelfs" install -c "$CFG" "$W/b\$v"; done
cmp "$W/weights.4" "$MNT/det/active/weights.bin"
"$modelfs" gc -c "$CFG" || [ \$? = 2 ]
kill -KILL "\$("$modelfs" status -c "$CFG" --json | jq -re .serve_pid)"
cmp "$W/weights.4" "$MNT/det/active/weights.bin"
"$modelfs" gc -c "$CFG" || [ \$? = 2 ]
END
timeout 100 "$B/fsprobe" hold "$MNT/det/active/weights.bin" bash -e "$W/later" >"$W/held" 2>>"$W/log" || {
	tail -c 400 "$W/held"; fail "hold"; }
# The commands print before the held file does: its bytes are the last ones.
tail -c "$(stat -c %s "$W/weights.1")" "$W/held" | cmp - "$W/weights.1" || fail "the open file changed its bytes"
[ ! -e "$MNT/det/versions/1.1.0" ] || "$modelfs" gc -c "$CFG" >>"$W/log" 2>&1 || [ $? = 2 ] || fail gc
