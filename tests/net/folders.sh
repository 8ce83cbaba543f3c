#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# file://: folders and sticks. Beneath the folder, through no link, regular files only; also without
# the rights that fetch gave away.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_program remoteget
hash=ab$(printf 'c%.0s' {1..62})
R="$W/a stick/{1}"
mkdir -p "$R/metadata/sub" "$R/blobs/sha256/ab/$hash" "$W/secret"
chmod 0700 "$W" # fetch has another uid: only what keeper opened is within reach
chmod 0755 "$W/a stick" "$R"
echo 'hello' >"$R/metadata/timestamp.json"
head -c 700000 /dev/urandom >"$R/blobs/sha256/ab/$hash/00000"
: >"$R/metadata/empty.json"
echo 'private' >"$W/secret/key"
ln -s "$W/secret/key" "$R/metadata/link-out.json"
ln -s timestamp.json "$R/metadata/link-in.json"
ln -s "$W/secret" "$R/metadata/dir"
mkfifo "$R/metadata/fifo.json"
echo 'not for all' >"$R/metadata/closed.json"
chmod 0600 "$R/metadata/closed.json"
from="--from=$R"

step "whole files, ranges, conditions"
wants '^ok http=200 bytes=6 received=6 from=0 total=6' "$from" meta:timestamp.json
etag=$(sed -n 's/.* etag=\("[^"]*"\) .*/\1/p' "$W/got")
wants '^ok http=304 bytes=0 .*not_modified' "$from" "etag=$etag" meta:timestamp.json
wants '^ok http=200 bytes=0 received=0 from=0 total=0' "$from" meta:empty.json
wants '^ok http=200 bytes=700000' "$from" "out=$W/whole" "blob:$hash/0"
same "$W/whole" "$R/blobs/sha256/ab/$hash/00000"
wants '^ok http=206 bytes=500 .*from=699500 total=700000' "$from" range=699500,4096 "out=$W/range" "blob:$hash/0"
tail -c 500 "$W/whole" | cmp - "$W/range" || fail "another range"
wants '^net_http http=416 .*total=700000' "$from" range=700000,1 "blob:$hash/0"
wants '^limit_exceeded' "$from" cap=699999 "blob:$hash/0"
wants '^ok http=404 .*not_found' "$from" meta:2.root.json
wants '^ok http=404 .*not_found' "$from" meta:timestamp.json/x

step "no links, no pipes, no folders, nothing that is closed"
for f in link-out.json link-in.json dir/key fifo.json sub closed.json; do
	wants '^net_protocol http=0 bytes=0' "$from" "meta:$f"
done
wants '^malformed' "$from" meta:../../secret/key

step "who may not read is told which folder or file, and what mode it lacks"
wants "uid [0-9]+ \\(fetch\\) may not read $W/a stick/\{1\}/metadata/closed.json: mode 0600, uid 0; run chmod o\\+r" "$from" meta:closed.json
chmod 0700 "$R/metadata"
wants "may not enter the folder $W/a stick/\{1\}/metadata: mode 0700, uid 0; run chmod o\\+x" "$from" meta:timestamp.json
chmod 0755 "$R/metadata"
chmod 0750 "$R"
wants "may not enter the folder $W/a stick/\{1\}: mode 0750, uid 0; run chmod o\\+x" "$from" meta:timestamp.json
chmod 0755 "$R"
chmod 0744 "$R/blobs/sha256/ab/$hash"
wants "may not enter the folder $W/a stick/\{1\}/blobs/sha256/ab/$hash: mode 0744" "$from" "blob:$hash/0"
chmod 0755 "$R/blobs/sha256/ab/$hash"
wants '^ok http=200 bytes=700000' "$from" "blob:$hash/0"

step "mirrors that are folders, by template too; one that is not there"
echo '{}' >"$W/root.json"
mkdir -p "$W/cache"
cp "$W/whole" "$W/cache/$hash.00000"
chmod 0644 "$W/cache/$hash.00000"
chmod 0711 "$W"
cat >"$CFG" <<END
mount: $MNT
state: $W/state
store: $W/store
run: $W/run
trust: {root: root.json}
repositories: {default: {url: "file://$W/a%20stick/%7B1%7D", mirrors: ["file://$W/cache/{hash}.{part}", "file://$W/gone"]}}
models: {det: {}}
END
wants '^ok http=200 bytes=6' "$CFG" meta:timestamp.json
wants '^ok http=206 bytes=9 .*from=7 total=700000' "$CFG" mirror=0 range=7,9 "blob:$hash/0"
wants '^ok http=404 .*not_found' "$CFG" mirror=0 "blob:$hash/1"
wants '^net_resolve http=0 .*not there' "$CFG" mirror=1 "blob:$hash/0"

step "many at once"
get "$CFG" threads=30 "blob:$hash/0"
[ "$(grep -c '^ok http=200 bytes=700000 received=700000' "$W/got")" = 30 ] || fail "$(sort "$W/got" | uniq -c)"
