#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a server may answer, and the outcome that each gets. After every one of them fetch lives on.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_python
need_program remoteget
odd_start
from=--from=http://127.0.0.1:$odd

step "answers to a whole file"
while read -r case regex; do
	wants "^$regex" "$from" slow=1000,4 cap=100000 "meta:$case"
done <<'END'
fine ok http=200 bytes=5000 received=5000 from=0 total=5000 retry=0 etag="v1" 
moved ok http=200 bytes=5000
truncated net_protocol http=200
chunk-truncated net_protocol http=200
nothing net_protocol http=0
garbage net_protocol http=0
old-http net_protocol http=0
reset net_protocol http=200
hang net_timeout http=0
drip net_timeout http=200
endless limit_exceeded http=200
announced limit_exceeded http=200 bytes=0
headers-endless net_protocol http=0 bytes=0
interim-endless net_protocol http=0 bytes=0
bad-length net_protocol http=0 bytes=0
range-fine net_protocol http=206 bytes=0
unasked-304 net_protocol http=304
html net_portal http=200 bytes=0
html-404 ok http=404 bytes=0 .* not_found
elsewhere net_portal http=302 bytes=0
to-file net_protocol http=302 bytes=0
to-user net_protocol http=302 bytes=0
no-location net_protocol http=302
loop net_protocol http=302 .*redirects
no-content net_protocol http=204
s401 net_http http=401
s404 ok http=404 .* not_found
s408 net_http http=408
s410 ok http=410 .* not_found
s429 net_http http=429 .*retry=7
s429-huge net_http http=429 .*retry=86400
s429-bad net_http http=429 .*retry=0
s500 net_http http=500
s503 net_http http=503 .*retry=120
s511 net_portal http=511
slow-error net_http http=500
long-error net_http http=500
END

step "answers to a range"
while read -r case regex; do
	wants "^$regex" "$from" slow=1000,4 range=100,50 'etag="v1"' "meta:$case"
done <<'END'
range-fine ok http=206 bytes=50 received=50 from=100 total=5000
wrong-range net_protocol http=206 bytes=0
range-longer net_protocol http=206 bytes=0
range-shorter net_protocol http=206 bytes=0
range-no-total net_protocol http=[0-9]* bytes=0
range-no-header net_protocol http=206 bytes=0
range-lengths-differ net_protocol http=206 bytes=0
multipart net_protocol http=206 bytes=0
range-other-etag net_protocol http=206 bytes=0 .*changed
fine net_protocol http=200 bytes=0 .*no ranges
s416 net_http http=416 bytes=0 .*total=5000
END
wants '^ok http=200 bytes=50 received=[0-9]* from=100 total=5000' "$from" range=100,50 discard=150 meta:fine

step "a hash or a grant may be HTML, metadata never is"
wants '^ok http=200 bytes=13' "$from" grant:html
wants '^net_portal' "$from" target:html

step "nobody there, no such name"
wants '^net_timeout http=0' "--from=http://127.0.0.1:9" meta:x
if unshare -n true 2>/dev/null; then
	timeout 60 unshare -n "$B/remoteget" --from=http://no-such-host.invalid slow=1000,20 meta:x >"$W/got" 2>>"$W/log" || fail "remoteget"
	grep -q '^net_resolve http=0' "$W/got" || fail "an unknown name: $(cat "$W/got")"
fi

step "one fetch takes all of them in a row"
get "$from" slow=1000,4 cap=100000 meta:truncated meta:garbage meta:endless meta:headers-endless meta:loop meta:elsewhere \
	meta:reset meta:hang pid meta:fine pid
[ "$(grep -cE '^[0-9]+$' "$W/got")" = 2 ] && [ "$(grep -E '^[0-9]+$' "$W/got" | uniq | wc -l)" = 1 ] ||
	fail "fetch was replaced: $(cat "$W/got")"
grep -q '^ok http=200 bytes=5000' "$W/got" || fail "it does not fetch any more"

step "an endless body does not grow fetch, nor do many at once"
"$B/remoteget" "$from" cap=300000000 threads=8 meta:endless pid sleep:600000 >"$W/got" 2>>"$W/log" &
getter=$!
jobs_started+=("$getter")
until_true 60 grep -qE '^[0-9]+$' "$W/got" || fail "no pid"
hwm=$(awk '/VmHWM/ {print $2}' "/proc/$(grep -m1 -E '^[0-9]+$' "$W/got")/status")
[ "$hwm" -lt 49152 ] || [ -n "${ASAN_OPTIONS##log_path*}" ] || grep -q MFS_SANITIZERS "$B/common/config.h" ||
	fail "fetch grew to $hwm KiB"
kill "$getter"

step "through a proxy, which gets the whole URL"
config_extra="repositories: {default: {url: \"http://models.invalid/r\", proxy: \"http://127.0.0.1:$odd\"}}
" config
sed -i "s|^trust: .*|trust: {root: root.json}|" "$CFG"
echo '{}' >"$W/root.json"
wants '^ok http=200 bytes=5000' "$CFG" meta:fine
grep -q '^GET http://models.invalid/r/metadata/fine HTTP/1.1 -$' "$W/odd.log" || fail "$(tail -n 1 "$W/odd.log")"
