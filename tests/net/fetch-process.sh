#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fetch under keeper: another uid than serve, started when it is needed, killed in the middle of a
# download and nobody is hurt, gone with keeper, and with the configuration that it was started for.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_fuse
need_nginx
certificates
keys
"$modelpub" init "$W/repo" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub init"
mkdir -p "$W/src"
gen raw 24M 1 "$W/src/weights.bin"
(cd "$W/src" && pack_plain 1.0.0 1 "$W/b1" weights.bin)
"$modelpub" publish "$W/repo" "$W/b1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish"
chmod -R a+rX "$W/repo"
https=$(port_free)
web_start "server { listen 127.0.0.1:$https ssl http2; root $W/repo; limit_rate 3m; TLS
	if (\$ssl_client_verify != SUCCESS) { return 403; } }"
printf 's3cret' >"$W/token"
chmod 0600 "$W/token" "$W/tls/client.key"
config_extra="repositories: {default: {url: \"https://localhost:$https\", auth: {token_file: token}, tls: {ca: tls/ca.pem, cert: tls/client.pem, key: tls/client.key}}}
device: {id: dev-1}
update: {interval: 1h, probation: 0s}
" config 'det: {}'
sed -i 's|^trust: .*|trust: {root: keys/root.json, keys: [release.pub.pem]}|' "$CFG"

# The one that runs; not one that was killed and that keeper did not look after yet.
fetch_pid() { ps -o pid=,stat=,comm= --ppid "$(keeper_pid)" | awk '$3 == "modelfs-fetch" && $2 !~ /^Z/ {print $1}' | tail -n 1; }
fetch_runs() { [ -n "$(fetch_pid)" ]; }
uid_of() { awk '/^Uid:/ {print $2}' "/proc/$1/status"; }

step "no fetch before there is something to fetch"
mount_
"$modelfs" update -c "$CFG" det >>"$W/update.log" 2>&1 &
update=$!
jobs_started+=("$update")
until_true 30 fetch_runs || fail "no fetch: $(cat "$W/update.log")"

step "its own uid, no capability"
serve=$(serve_pid)
# It takes them from itself, before anything else.
confined() {
	pid=$(fetch_pid)
	[ -n "$pid" ] && [ "$(uid_of "$pid")" != "$(uid_of "$serve")" ] && [ "$(uid_of "$pid")" != 0 ] &&
		grep -q '^CapEff:[[:space:]]*0000000000000000$' "/proc/$pid/status"
}
until_true 20 confined || fail "fetch: $(grep -E '^(Uid|Cap)' "/proc/$(fetch_pid)/status")"

step "killed in the middle, three times: the update goes on"
downloading() { grep -q 'GET /blobs/.*206\|GET /blobs/.*200' "$W/web.log"; }
partly() { [ "$(du -sk "$W/store/staging" 2>/dev/null | cut -f1)" -gt 500 ]; }
until_true 60 partly || fail "no download: $(cat "$W/update.log" "$W/web.log")"
for _ in 1 2 3; do
	until_true 30 fetch_runs || fail "no fetch any more"
	kill -KILL "$(fetch_pid)" || true # it may just have ended
	sleep 0.7
done
rc=0
wait "$update" || rc=$?
[ "$rc" = 0 ] || [ "$rc" = 4 ] || fail "update: exit $rc: $(cat "$W/update.log")"
if [ "$rc" = 4 ]; then
	timeout 120 "$modelfs" update -c "$CFG" det >>"$W/update.log" 2>&1 || fail "update: exit $?: $(cat "$W/update.log")"
fi
same "$W/src/weights.bin" "$MNT/det/active/weights.bin"
grep -qE 'fetch [0-9]+ was killed by signal 9' "$W/run/log" || fail "keeper did not notice: $(cat "$W/run/log")"
[ "$(serve_pid)" = "$serve" ] || fail "serve was replaced"
! grep -rqF s3cret "$W/run/log" "$W/log" || fail "the token is in a log"
web_logged
grep -q 'auth="Bearer s3cret".*cert="CN=client"' "$W/web.log" || fail "no token, or no certificate"

step "a reload: the next fetch knows the new configuration"
sed -i "s|https://localhost:$https|https://127.0.0.1:$https|" "$CFG"
kill -HUP "$(keeper_pid)"
reloaded() { local now; now=$(serve_pid) && [ "$now" != "$serve" ]; }
until_true 20 reloaded || fail "not reloaded: $(cat "$W/run/log")"
rc=0
timeout 60 "$modelfs" check -c "$CFG" det >>"$W/update.log" 2>&1 || rc=$?
[ "$rc" = 0 ] || [ "$rc" = 2 ] || fail "check: exit $rc: $(tail -n 5 "$W/update.log")"
until_true 10 fetch_runs || fail "no fetch"

step "gone with keeper"
pid=$(fetch_pid)
unmount_
gone() { [ ! -d "/proc/$pid" ]; }
until_true 10 gone || fail "fetch $pid outlived keeper"
