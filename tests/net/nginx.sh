#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real web server: http, https with CA file, client certificate and pinned key, HTTP/2, ranges,
# conditions, mirrors by template, the token and where it never goes, the bandwidth limit.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_nginx
need_program remoteget
certificates
hash=ab$(printf 'c%.0s' {1..62})
mkdir -p "$W/repo/metadata" "$W/repo/targets/det" "$W/repo/blobs/sha256/ab/$hash" "$W/repo/grants"
echo '{"signed": {}}' >"$W/repo/metadata/timestamp.json"
echo 'with a space' >"$W/repo/targets/det/a b.json"
head -c 3000000 /dev/urandom >"$W/repo/blobs/sha256/ab/$hash/00000"
http=$(port_free) https=$(port_free) other=$(port_free)
web_start "
	server { listen 127.0.0.1:$http; root $W/repo; }
	server { listen 127.0.0.1:$https ssl http2; root $W/repo; TLS
		location /private/ { alias $W/repo/; if (\$ssl_client_verify != SUCCESS) { return 403; } }
		location /token/ { alias $W/repo/; if (\$http_authorization != \"Bearer s3cret\") { return 401; } }
		location /to-mirror/ { rewrite ^/to-mirror/(.*) https://localhost:$other/\$1 redirect; }
		location /to-http/ { rewrite ^/to-http/(.*) http://127.0.0.1:$http/\$1 redirect; }
	}
	server { listen 127.0.0.1:$other ssl; root $W/repo; TLS }"
printf 's3cret\n' >"$W/token"
chmod 0600 "$W/token"
echo '{}' >"$W/root.json"
ca="ca: $W/tls/ca.pem"
cert="cert: $W/tls/client.pem, key: $W/tls/client.key"
base=https://localhost:$https
cat >"$CFG" <<END
mount: $MNT
state: $W/state
store: $W/store
run: $W/run
trust: {root: root.json}
repositories:
  r0: {url: "$base", tls: {$ca}, mirrors: ["http://127.0.0.1:$http/blobs/sha256/ab/{hash}/{part}", {url: "https://localhost:$other", only: true}]}
  r1: {url: "$base/private", tls: {$ca, $cert}}
  r2: {url: "$base/private", tls: {$ca}}
  r3: {url: "$base"}
  r4: {url: "$base", tls: {ca: $W/tls/stranger.pem}}
  r5: {url: "$base", tls: {$ca, pin: "$(pin_of "$W/tls/stranger.pem")"}}
  r6: {url: "$base", tls: {$ca, pin: "$(pin_of "$W/tls/server.pem")"}}
  r7: {url: "$base/token", auth: {token_file: $W/token}, tls: {$ca, $cert}, mirrors: ["https://localhost:$other", "$base"]}
  r8: {url: "$base/to-mirror", auth: {token_file: $W/token}, tls: {$ca, $cert}, mirrors: ["https://localhost:$other"]}
  r9: {url: "$base/to-mirror", tls: {$ca}}
models: {det: {repository: r0}}
END
"$modelfs" config check -c "$CFG" >>"$W/log" 2>&1 || fail "the configuration is refused"
last() { web_logged; tail -n 1 "$W/web.log"; }

step "http and https, the CA file counts"
wants '^ok http=200 bytes=15 .* total=15' --from="http://127.0.0.1:$http" meta:timestamp.json
wants '^ok http=200 bytes=15' "$CFG" repo=0 meta:timestamp.json
[[ $(last) == *HTTP/2.0* ]] || fail "not HTTP/2: $(last)"
wants '^net_tls http=0' "$CFG" repo=3 meta:timestamp.json
wants '^net_tls http=0' "$CFG" repo=4 meta:timestamp.json
wants '^ok http=200 bytes=13' "$CFG" repo=0 'target:det/a%20b.json'

step "the pinned key counts"
wants '^net_tls http=0 .*pinned' "$CFG" repo=5 meta:timestamp.json
wants '^ok http=200' "$CFG" repo=6 meta:timestamp.json

step "the client certificate opens the door"
wants '^ok http=200 bytes=15' "$CFG" repo=1 meta:timestamp.json
[[ $(last) == *'cert="CN=client"'* ]] || fail "$(last)"
wants '^ok http=403 bytes=0 .*not_found' "$CFG" repo=2 meta:timestamp.json
wants '^net_http http=403' "$CFG" repo=2 target:det/x

step "absent, not modified, modified"
wants '^ok http=404 .*not_found' "$CFG" repo=0 meta:2.root.json
get "$CFG" repo=0 meta:timestamp.json
etag=$(sed -n 's/.* etag=\("[^"]*"\) .*/\1/p' "$W/got")
[ -n "$etag" ] || fail "no ETag"
wants '^ok http=304 bytes=0 .*not_modified' "$CFG" repo=0 "etag=$etag" meta:timestamp.json
wants '^ok http=200 bytes=15' "$CFG" repo=0 'etag="other"' meta:timestamp.json

step "whole parts and ranges, from the repository and its mirrors"
for mirror in -1 0 1; do
	wants '^ok http=200 bytes=3000000 received=3000000' "$CFG" repo=0 "mirror=$mirror" "out=$W/whole" "blob:$hash/0"
	same "$W/whole" "$W/repo/blobs/sha256/ab/$hash/00000"
	wants '^ok http=206 bytes=100000 received=100000 from=1000000 total=3000000' "$CFG" repo=0 "mirror=$mirror" \
		range=1000000,100000 "out=$W/range" "blob:$hash/0"
	cmp -n 100000 -i 1000000:0 "$W/repo/blobs/sha256/ab/$hash/00000" "$W/range" || fail "another range"
	wants '^ok http=206 bytes=1 .* from=2999999 total=3000000' "$CFG" repo=0 "mirror=$mirror" range=2999999,4096 "blob:$hash/0"
	wants '^net_http http=416 .*total=3000000' "$CFG" repo=0 "mirror=$mirror" range=3000000,4096 "blob:$hash/0"
done
etag=$(sed -n 's/.* etag=\("[^"]*"\) .*/\1/p' <(get "$CFG" repo=0 range=0,10 "blob:$hash/0"; cat "$W/got"))
wants '^ok http=206 bytes=10' "$CFG" repo=0 range=0,10 "etag=$etag" "blob:$hash/0"
wants '^net_protocol http=200 .*(no ranges|changed)' "$CFG" repo=0 range=5,10 'etag="old"' "blob:$hash/0"
wants '^config_invalid' "$CFG" repo=0 mirror=0 meta:timestamp.json # a template has no place for it

step "what is not configured is refused by fetch itself"
wants '^config_invalid' "$CFG" repo=10 meta:timestamp.json
wants '^config_invalid' "$CFG" repo=0 mirror=2 "blob:$hash/0"
wants '^config_invalid' "$CFG" post:x

step "the token and the certificate go to their own server, and nowhere else"
wants '^ok http=200 bytes=15' "$CFG" repo=7 meta:timestamp.json
[[ $(last) == *'auth="Bearer s3cret"'*'cert="CN=client"'* ]] || fail "$(last)"
wants '^ok http=206' "$CFG" repo=7 mirror=0 range=0,10 "blob:$hash/0"
[[ $(last) == *'auth="-"'*'cert="-"'* ]] || fail "sent to a mirror on another port: $(last)"
wants '^ok http=206' "$CFG" repo=7 mirror=1 range=0,10 "blob:$hash/0"
[[ $(last) == *'auth="Bearer s3cret"'* ]] || fail "a mirror on the same server: $(last)"
wants '^ok http=200 bytes=15' "$CFG" repo=8 meta:timestamp.json # redirected to the mirror
[[ $(last) == "$other "*'auth="-"'*'cert="-"'* ]] || fail "sent along with a redirect: $(last)"
grep -q 'to-mirror.*auth="Bearer s3cret"' "$W/web.log" || fail "the repository itself did not get it"
wants '^net_portal http=302' "$CFG" repo=9 meta:timestamp.json # the same redirect, to a host that is not configured
sed -i "s|  r9: .*|  r9: {url: \"$base/to-http\", tls: {$ca}, mirrors: [\"http://127.0.0.1:$http\"]}|" "$CFG"
wants '^net_protocol http=302 .*https to http' "$CFG" repo=9 meta:timestamp.json
! grep -rqF s3cret "$W/log" "$W/got" || fail "the token is in a log"

step "a connection is kept, and a new one is made after a failure"
web_log_begin
get "$CFG" repo=0 meta:timestamp.json meta:2.root.json "blob:$hash/0" meta:timestamp.json "blob:$hash/0"
web_logged
[ "$(grep -c HTTP/1.1 "$W/web.log")" = 2 ] || fail "blobs go by HTTP/1.1: $(cat "$W/web.log")"
for version in 1.1 2.0; do # one connection for the blobs, one for all else
	[ "$(sed -n "/HTTP.$version/s/.*conn=//p" "$W/web.log" | uniq | wc -l)" = 1 ] || fail "connections: $(cat "$W/web.log")"
done
web_log_begin
get --from="http://127.0.0.1:$http" cap=10 meta:timestamp.json meta:timestamp.json
web_logged
[ "$(sed 's/.*conn=//' "$W/web.log" | uniq | wc -l)" = 2 ] || fail "the same connection after a failure: $(cat "$W/web.log")"

step "the bandwidth limit holds for all requests together"
printf 'update: {bandwidth: 1MB/s}\n' >>"$CFG"
before=$(date +%s%N)
get "$CFG" repo=0 threads=2 range=0,1500000 "blob:$hash/0"
ms=$((($(date +%s%N) - before) / 1000000))
[ "$(grep -c '^ok http=206 bytes=1500000 ' "$W/got")" = 2 ] || fail "$(cat "$W/got")"
[ "$ms" -ge 2300 ] || fail "3 MB at 1 MB/s took $ms ms"

step "a fetch that is killed in the middle: an error, then another one"
before=$(grep -c 'was dropped' "$W/log" || true)
get "$CFG" repo=0 kill=400 range=0,2500000 "blob:$hash/0" "blob:$hash/0" pid
sed -n 1p "$W/got" | grep -q '^net_protocol .*fetch' || fail "killed: $(cat "$W/got")"
sed -n 2p "$W/got" | grep -q '^ok http=206 bytes=2500000' || fail "no other fetch: $(cat "$W/got")"
[ "$(grep -c 'was dropped' "$W/log")" -gt "$before" ] || fail "nobody noticed"
