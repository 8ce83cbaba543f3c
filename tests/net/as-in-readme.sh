#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What README says about carrying a repository, as it is written there: behind nginx with contrib's configuration,
# on a stick with FAT, from a site's cache (an export behind a web server, or a caching proxy).
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/repo.sh"
. "$(dirname "$0")/../lib/web.sh"
need_nginx
need_fuse
certificates
repository
mkdir "$W/srv"
release 1
publish 1
mv "$W/repo" "$W/srv/repo"
ln -s srv/repo "$W/repo" # where publish of tests/lib/repo.sh looks for it
https=$(port_free) cache=$(port_free) proxy=$(port_free)
url=https://localhost:$https/repo
site=$(sed -e "s|listen 443 ssl http2;|listen 127.0.0.1:$https ssl http2;|" -e 's|models.example;|localhost;|' \
	-e "s|/etc/ssl/models.example.pem|$W/tls/server.pem|" -e "s|/etc/ssl/private/models.example.key|$W/tls/server.key|" \
	-e "s|/srv/models;|$W/srv;|" "$top/contrib/nginx/modelfs-repository.conf")
for changed in "127.0.0.1:$https" "$W/tls/server.pem" "$W/tls/server.key" "root $W/srv;" "server_name localhost;"; do
	[[ $site == *"$changed"* ]] || fail "contrib's configuration has another form: no $changed"
done
web_start "$site
	server { listen 127.0.0.1:$cache; root $W/cache; }
	proxy_cache_path $W/web/cache levels=1:2 keys_zone=c:1m;
	server { listen 127.0.0.1:$proxy; location / {
		proxy_pass https://127.0.0.1:$https; proxy_cache c; proxy_set_header Host localhost; } }"
head_of() { # PATH: the answer's head
	curl -sS -o /dev/null -D - --cacert "$W/tls/ca.pem" "$url/$1" | tr -d '\r'
}
asked() { web_logged; grep -E "^$1 .*$2" "$W/web.log" || true; } # PORT REGEX
source_is() { # [MIRRORS]: the configuration follows the repository behind nginx
	sed -i -E "/^repositor/d" "$CFG"
	printf 'repositories: {default: {url: "%s", tls: {ca: tls/ca.pem}%s}}\n' "$url" "${1:+, mirrors: $1}" >>"$CFG"
}
u() { # CODE REGEX [ARGUMENT]...
	local code=$1 regex=$2
	shift 2
	expect "$code" "$regex" "$modelfs" update -c "$CFG" det "$@"
}

step "nginx: an update through contrib's configuration, and what it says about caching"
source_is
u 0 '1.1.0 is active'
head_of metadata/timestamp.json | grep -qi '^cache-control: public, max-age=60$' || fail "$(head_of metadata/timestamp.json)"
for f in metadata/1.root.json "$(cd "$W/repo" && find targets -name '*.manifest.json')" "$(cd "$W/repo" && find blobs -type f | head -n 1)"; do
	head_of "$f" | grep -qi '^cache-control: .*immutable$' || fail "$f: $(head_of "$f")"
done
echo x >"$W/repo/metadata/.timestamp.json.new"
for f in metadata/.timestamp.json.new metadata/ metadata/9.root.json; do
	head_of "$f" | grep -qE '^HTTP/[0-9.]+ (404|403)' || fail "$f: $(head_of "$f")"
	! head_of "$f" | grep -qi immutable || fail "$f is missing for ever: $(head_of "$f")"
done
rm "$W/repo/metadata/.timestamp.json.new"

step "a stick: exported, taken along, brought up to date"
fat=no stick=$W/stick
mkdir "$stick"
if have mkfs.vfat; then
	truncate -s 64M "$W/fat.img"
	mkfs.vfat -F 32 "$W/fat.img" >>"$W/log" 2>&1
	if mount -o loop "$W/fat.img" "$stick" 2>>"$W/log"; then
		fat=yes
		at_exit "umount '$stick' 2>/dev/null || true"
	fi
fi
step "  ... FAT32: $fat"
release 2
publish 2
expect 0 'exported' "$modelpub" export "$W/repo" "$stick/repo" --model det
web_log_begin
u 0 '1.2.0 is active' --from "$stick/repo"
[ -z "$(asked "$https" .)" ] || fail "the network was asked: $(cat "$W/web.log")"
release 3
publish 3
expect 0 ' copied, ' "$modelpub" export "$W/repo" "$stick/repo" --model det
u 0 '1.3.0 is active' --from "$stick/repo"
expect 0 '0 blobs copied' "$modelpub" export "$W/repo" "$stick/repo" --model det

step "a site cache: metadata from the repository, blobs from next door"
release 4
publish 4
expect 0 'exported' "$modelpub" export "$W/repo" "$W/cache/repo"
source_is "[{url: \"http://127.0.0.1:$cache/repo\", only: true}]"
web_log_begin
u 0 '1.4.0 is active'
[ -n "$(asked "$cache" /blobs/)" ] || fail "the cache was not asked: $(cat "$W/web.log")"
[ -z "$(asked "$https" /blobs/)$(asked "$cache" /metadata/)" ] || fail "$(cat "$W/web.log")"
release 5
publish 5 # not in the cache: `only` waits for it
u 4 'net_http'
source_is "[\"http://127.0.0.1:$cache/repo\"]"
web_log_begin
u 0 '1.5.0 is active'
[ -n "$(asked "$https" /blobs/)" ] || fail "the repository was not asked: $(cat "$W/web.log")"

step "a caching proxy next door"
release 6
publish 6
source_is "[{url: \"http://127.0.0.1:$proxy/repo\", only: true}]"
web_log_begin
u 0 '1.6.0 is active'
[ -n "$(asked "$proxy" /blobs/)" ] || fail "the proxy was not asked: $(cat "$W/web.log")"
