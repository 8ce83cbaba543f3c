#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two names follow one model: install asks for which one, each has its own floor, active version and node ids; a name
# whose model_id was changed by mistake loses nothing, not even by recover.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
both() { config 'det: {serve: paged, model_key: "file:mk.bin"}' 'det-beta: {model_id: det, serve: paged, model_key: "file:mk.bin"}'; }
both
for v in 1 2; do
	gen raw 300K "$v" "$W/weights$v.bin"
	pack "1.$v.0" "$v" "$W/b$v" "$W/weights$v.bin"
done
expect 3 "not_selected.*'det' and as 'det-beta'" "$modelfs" install -c "$CFG" "$W/b1"
expect 1 'config_invalid.*det, det-beta' "$modelfs" install -c "$CFG" "$W/b1" nobody
expect 0 'det 1\.1\.0 is active' "$modelfs" install -c "$CFG" "$W/b1" det
expect 0 'det-beta 1\.2\.0 is active' "$modelfs" install -c "$CFG" "$W/b2" det-beta
expect 3 rollback_attempt "$modelfs" install -c "$CFG" "$W/b1" det-beta
floors() { status_ --json | jq -r '[.models[] | "\(.id) \(.active.version) \(.floor.release)"] | join(", ")'; }
[ "$(floors)" = "det 1.1.0 1, det-beta 1.2.0 2" ] || fail "$(floors)"
step "a wrong model_id"
config 'det: {model_id: other, serve: paged}'
status_ --json | jq -e '.models[0].absent.outcome == "config_invalid"' >/dev/null || fail "$(status_)"
expect 1 config_invalid "$modelfs" rollback -c "$CFG" det
expect 0 . "$modelfs" recover -c "$CFG"
both
[ "$(floors)" = "det 1.1.0 1, det-beta 1.2.0 2" ] || fail "after recover: $(floors)"
need_fuse
mount_
same "$W/weights1.bin" "$MNT/det/active/weights1.bin"
same "$W/weights2.bin" "$MNT/det-beta/active/weights2.bin"
expect 0 'det 1\.2\.0 is active' "$modelfs" install -c "$CFG" "$W/b2" det
same "$W/weights2.bin" "$MNT/det/active/weights2.bin"
a=$(stat -c %i "$MNT/det/active/weights2.bin") b=$(stat -c %i "$MNT/det-beta/active/weights2.bin")
[ "$a" != "$b" ] || fail "both names have inode $a"
