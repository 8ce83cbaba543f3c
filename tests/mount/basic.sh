#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole chain: pack, verify, install before mounting, mount, every byte and every node, unmount.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program genmodel
keys
config 'det: {serve: auto, model_key: "file:mk.bin"}' 'plain: {serve: paged}' 'empty: {serve: auto}'

step "pack, verify, install"
mkdir -p "$W/src/sub/deep er"
gen onnx 3M 1 "$W/src/model.onnx"
gen onnx-external 2M 1 "$W/src/big.onnx"
gen gguf 1M 1 "$W/src/sub/model.gguf"
gen safetensors 300K 1 "$W/src/sub/deep er/größe.safetensors"
printf 'cat\ndog\n' >"$W/src/labels.txt"
cp -r "$W/src" "$W/src2"
gen onnx 3M 2 "$W/src2/model.onnx"
pack 1.0.0 1 "$W/b1" "$W/src"
pack 1.1.0 2 "$W/b2" "$W/src2"
id=plain
(cd "$W/src" && pack_plain 0.1.0 7 "$W/b3" model.onnx)
id=det
expect 0 . "$modelpub" verify --pub "$W/release.pub.pem" "$W/b1"
install_ "$W/b1" || fail "install before mounting: exit $?"
install_ "$W/b3" || fail "install of the second model: exit $?"

step "mount, compare"
mount_
grep -q " $MNT .* - fuse[^ ]* modelfs " /proc/self/mountinfo || grep " $MNT " /proc/self/mountinfo || fail "not in mountinfo"
mnt_opts=$(awk -v m="$MNT" '$5 == m {print $6}' /proc/self/mountinfo)
for o in ro nosuid nodev noexec; do [[ ,$mnt_opts, == *,$o,* ]] || fail "mounted without $o: $mnt_opts"; done
diff -r "$W/src" "$MNT/det/active" || fail "the tree differs"
diff -r "$W/src" "$MNT/det/versions/1.0.0" || fail "the tree differs"
same "$W/src/model.onnx" "$MNT/plain/active/model.onnx"

step "links"
[ "$(readlink "$MNT/det/active")" = versions/1.0.0 ] || fail "active -> $(readlink "$MNT/det/active")"
[ ! -e "$MNT/det/previous" ] && [ ! -L "$MNT/det/previous" ] || fail "previous of a first version"
[ ! -L "$MNT/empty/active" ] || fail "a model without a version has an active link"
[ "$(readlink "$MNT/.active/det")" = ../det/active ] || fail ".active/det -> $(readlink "$MNT/.active/det")"
[ ! -L "$MNT/.active/empty" ] || fail ".active lists a model that has none"
[ "$(ls "$MNT/.release/det")" = 1 ] || fail ".release/det: $(ls "$MNT/.release/det")"
same "$W/src/model.onnx" "$MNT/.release/det/1/model.onnx"
same "$W/src/model.onnx" "$MNT/.active/det/model.onnx"
[ "$(find "$MNT" -xtype l | wc -l)" = 0 ] || fail "dangling links: $(find "$MNT" -xtype l)"

step "what was signed"
same "$W/b1/manifest.json" "$MNT/det/manifests/1.0.0.json"
same "$W/b1/signature.sig" "$MNT/det/manifests/1.0.0.sig"

step "listing, stat, df"
ls -laR "$MNT" >"$W/ls.out" || fail "ls -laR"
[ "$(ls "$MNT")" = "$(printf 'det\nempty\nplain')" ] || fail "ls: $(ls "$MNT")"
[ "$(stat -c '%a %F' "$MNT/det/active/model.onnx" | cut -d' ' -f2-)" = "regular file" ] || fail "stat of a file"
[ "$(stat -c %s "$MNT/det/active/model.onnx")" = "$(stat -c %s "$W/src/model.onnx")" ] || fail "size"
[ "$(stat -c %a "$MNT/plain/active/model.onnx")" = 444 ] || fail "mode of a plain file"
df "$MNT" >/dev/null || fail "df"
[ "$(stat -c %h "$MNT/det/versions/1.0.0/sub")" = 3 ] || fail "nlink of a folder with one folder: $(stat -c %h "$MNT/det/versions/1.0.0/sub")"
find "$MNT" -printf '%i\n' | sort | uniq -d >"$W/dup"
[ ! -s "$W/dup" ] || fail "inode numbers twice: $(head -3 "$W/dup")"

step "status, events, metrics"
check_documents() {
	local f
	for f in "$MNT"/.modelfs/status "$MNT"/.modelfs/version "$MNT"/.modelfs/config "$MNT"/*/status "$MNT/det/generation"; do
		[ -n "$(cat "$f")" ] || fail "$f is empty"
	done
	for f in "$MNT"/.modelfs/status.json "$MNT"/*/status.json; do
		jq -e 'type == "object"' "$f" >/dev/null || fail "$f is no JSON object"
	done
	jq -es 'length > 0 and all(type == "object" and has("seq") and has("time") and has("outcome"))' "$MNT/det/events" \
		>/dev/null || fail "events are not JSON lines: $(head -3 "$MNT/det/events")"
	grep -vE '^(#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\.)*",?)*\})? -?[0-9.eE+-]+|)$' \
		"$MNT/.modelfs/metrics.prom" && fail "a line of metrics.prom is not Prometheus text"
	grep -q '^modelfs_model_info{.*model="det".*version="'"$1"'"' "$MNT/.modelfs/metrics.prom" || fail "no modelfs_model_info of det $1"
	for f in modelfs_serve_restarts_total modelfs_store_bytes modelfs_resident_bytes modelfs_rollback_protection; do
		grep -qE "^$f(\{| )" "$MNT/.modelfs/metrics.prom" || fail "metrics.prom lacks $f"
	done
	grep -qE "^[0-9]+ .*$1.* $2 .*$(sha256sum <"$3/manifest.json" | cut -c1-64)" "$MNT/det/generation" ||
		fail "generation: $(cat "$MNT/det/generation")"
}
check_documents 1.0.0 1 "$W/b1"
grep -q 1.0.0 "$MNT/det/status" || fail "status does not name the version"
[ "$(stat -c %s "$MNT/det/generation")" -gt 0 ] || fail "generation has size 0"
status_ | grep -q det || fail "modelfs status does not name det"
status_ det | grep -q 1.0.0 || fail "modelfs status det does not name the version"
status_ --json | jq -e . >/dev/null || fail "modelfs status --json"
g1=$(cut -d' ' -f1 "$MNT/det/generation")

step "the next version, while mounted"
install_ "$W/b2" || fail "install while mounted: exit $?"
[ "$(readlink "$MNT/det/active")" = versions/1.1.0 ] || fail "active -> $(readlink "$MNT/det/active")"
[ "$(readlink "$MNT/det/previous")" = versions/1.0.0 ] || fail "previous -> $(readlink "$MNT/det/previous")"
diff -r "$W/src2" "$MNT/det/active" || fail "the tree differs"
diff -r "$W/src" "$MNT/det/previous" || fail "the tree of previous differs"
[ "$(ls "$MNT/.release/det")" = 2 ] || fail ".release/det: $(ls "$MNT/.release/det")"
check_documents 1.1.0 2 "$W/b2"
[ "$(cut -d' ' -f1 "$MNT/det/generation")" -gt "$g1" ] || fail "the generation counter did not grow"
grep -q '^modelfs_outcomes_total{model="det",outcome="ok"' "$MNT/.modelfs/metrics.prom" || fail "metrics do not count the install"
expect 2 . "$modelfs" install -c "$CFG" "$W/b2"

step "mount twice, unmount, mount again"
rc=0
timeout 30 "$modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || rc=$?
[ "$rc" = 2 ] || [ "$rc" = 4 ] || fail "second mount: exit $rc, wanted 2 (nothing to do) or 4 (taken)"
[ "$(awk -v m="$MNT" '$5 == m' /proc/self/mountinfo | wc -l)" = 1 ] || fail "mounted twice"
diff -r "$W/src2" "$MNT/det/active" || fail "a second mount broke the first"
unmount_
[ -z "$(ls -A "$MNT")" ] || fail "something is left in the mountpoint"
until_true 5 test -z "$(pids_below "$W")" || fail "processes left: $(pids_below "$W")"
status_ det | grep -q 1.1.0 || fail "modelfs status of an unmounted system"
mount_
diff -r "$W/src2" "$MNT/det/active" || fail "after mounting again the tree differs"
[ "$(readlink "$MNT/det/previous")" = versions/1.0.0 ] || fail "previous is lost after mounting again"
unmount_
