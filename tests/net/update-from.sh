#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `update --from URL`: reached as the configured repository that it lies below; who we are is said to nobody else.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/repo.sh"
. "$(dirname "$0")/../lib/web.sh"
need_nginx
certificates
repository
for v in 1 2 3; do
	release "$v"
	publish "$v"
	cp -a "$W/repo" "$W/repo$v"
done
https=$(port_free) other=$(port_free)
door="if (\$ssl_client_verify != SUCCESS) { return 403; } if (\$http_authorization != \"Bearer s3cret\") { return 401; }"
web_start "
	server { listen 127.0.0.1:$https ssl; TLS
		location /r/1/ { alias $W/repo1/; $door }
		location /open/ { alias $W/repo2/; }
	}
	server { listen 127.0.0.1:$other ssl; TLS location /r/1/ { alias $W/repo3/; } }"
printf 's3cret\n' >"$W/token"
chmod 0600 "$W/token"
base=https://localhost:$https
sed -i "s|^repository: .*|repositories: {default: {url: \"$base/r\", auth: {token_file: token}, tls: {ca: tls/ca.pem, cert: tls/client.pem, key: tls/client.key, pin: \"$(pin_of "$W/tls/server.pem")\"}}}|" "$CFG"
u() { # u CODE REGEX ARGUMENT...
	local code=$1 regex=$2
	shift 2
	expect "$code" "$regex" "$modelfs" update -c "$CFG" det "$@"
}

step "below the configured URL: its CA file, pin, certificate and token"
u 0 '1.1.0 is active' --from "$base/r/1/"
web_logged
grep -q '/r/1/.* auth="Bearer s3cret".* cert="CN=client"' "$W/web.log" || fail "$(cat "$W/web.log")"

step "elsewhere on the server: its CA file and pin, but neither certificate nor token"
web_log_begin
u 0 '1.2.0 is active' --from "$base/open"
web_logged
! grep -q 's3cret\|CN=client' "$W/web.log" || fail "said to another path: $(cat "$W/web.log")"
sed "s|pin: \"[^\"]*\"|pin: \"$(pin_of "$W/tls/stranger.pem")\"|" "$CFG" >"$W/pinned.yaml"
expect 4 'net_tls' "$modelfs" update -c "$W/pinned.yaml" det --from "$base/open"

step "another server: nothing of it, unless a CA file is named"
web_log_begin
u 4 'net_tls' --from "https://localhost:$other/r/1"
u 4 'net_tls' --from "https://localhost:$other/r/1" --cacert "$W/tls/stranger.pem"
u 0 '1.3.0 is active' --from "https://localhost:$other/r/1" --cacert "$W/tls/ca.pem"
web_logged
! grep -q 's3cret\|CN=client' "$W/web.log" || fail "said to another server: $(cat "$W/web.log")"
# A name that begins alike is another server.
u 4 'net_' --from "${base}0/r/1"

step "what is no place is refused before anything is started"
u 1 "must hold no '..'" --from "$base/r/../open"
u 1 'no user and password' --from "https://a:b@localhost/r"
u 1 'must be a folder, https' --from "ftp://localhost/r"
u 1 'No such file' --from "$W/nowhere"
u 1 'not a folder' --from "$CFG"
u 1 'no https URL' --from "$W/repo" --cacert "$W/tls/ca.pem"
u 1 'No such file' --from "$base/r" --cacert "$W/nowhere"
u 64 'cacert is of --from' --cacert "$W/tls/ca.pem"
! grep -rqF s3cret "$W/log" || fail "the token is in a log"
