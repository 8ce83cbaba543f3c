# SPDX-License-Identifier: Apache-2.0
# Sourced after e2e.sh by tests that need a web server on loopback: nginx with certificates of its own.
# shellcheck shell=bash disable=SC2154,SC2034

python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3 || true)
need_python() { [ -n "$python" ] || skip "python3 is not installed"; }
need_nginx() {
	nginx=$(command -v nginx || true)
	[ -n "$nginx" ] || nginx=/usr/sbin/nginx
	[ -x "$nginx" ] || nginx=${MODELFS_CACHE:-$top/build/cache}/nginx/usr/sbin/nginx
	[ -x "$nginx" ] || skip "nginx is not here (scripts/deps)"
	have curl || skip "curl is not installed"
}

# certificates: $W/tls/{ca,server,client,stranger}.{pem,key}; the server's are for localhost and 127.0.0.1.
certificates() {
	local n
	mkdir -p "$W/tls"
	for n in ca stranger; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$W/tls/$n.key" \
			-out "$W/tls/$n.pem" -days 30 -subj "/CN=$n" >/dev/null 2>&1
	done
	printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >"$W/tls/ext"
	for n in server client; do
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$W/tls/$n.key" \
			-out "$W/tls/$n.csr" -subj "/CN=$n" >/dev/null 2>&1
		openssl x509 -req -in "$W/tls/$n.csr" -CA "$W/tls/ca.pem" -CAkey "$W/tls/ca.key" -CAcreateserial \
			-days 30 -extfile "$W/tls/ext" -out "$W/tls/$n.pem" >/dev/null 2>&1
	done
}
pin_of() { # CERTIFICATE: as curl writes it
	echo "sha256//$(openssl x509 -in "$1" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)"
}

port_free() { # a port that nobody listens on now, no one twice; not one that the kernel gives to who connects
	local p
	while :; do
		p=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
		mkdir "$W/port.$p" 2>/dev/null || continue
		grep -qiE ": [0-9A-F]*:$(printf %04X "$p") " /proc/net/tcp /proc/net/tcp6 || { echo "$p"; return; }
	done
}

# web_start SERVERS: nginx with these server blocks, in which TLS stands for the lines of a TLS server.
# What was asked is in $W/web.log (see web_logged): port, request, status, protocol, Authorization, Range, who sent the certificate, connection.
web_start() {
	local tls="ssl_certificate $W/tls/server.pem; ssl_certificate_key $W/tls/server.key;
		ssl_client_certificate $W/tls/ca.pem; ssl_verify_client optional;"
	mkdir -p "$W/web"
	cat >"$W/web/nginx.conf" <<-END
		daemon off; user root; worker_processes 1; pid $W/web/pid; error_log $W/web/error.log;
		events { worker_connections 256; }
		http {
			log_format t '\$server_port "\$request" \$status \$server_protocol auth="\$http_authorization" range="\$http_range" cert="\$ssl_client_s_dn" conn=\$connection';
			access_log $W/web.log t; default_type application/octet-stream; sendfile on; keepalive_timeout 65;
			client_body_temp_path $W/web/1; proxy_temp_path $W/web/2; fastcgi_temp_path $W/web/3;
			uwsgi_temp_path $W/web/4; scgi_temp_path $W/web/5;
			${1//TLS/$tls}
		}
	END
	: >"$W/web.log"
	web_settle=$(port_free)
	sed -i "s|default_type|server { listen 127.0.0.1:$web_settle; access_log off; return 204; } &|" "$W/web/nginx.conf"
	"$nginx" -e "$W/web/error.log" -p "$W/web/" -c "$W/web/nginx.conf" >>"$W/log" 2>&1 &
	jobs_started+=($!)
	until_true 10 test -s "$W/web/pid" || fail "nginx does not start: $(cat "$W/web/error.log")"
}

# web_log: all that was answered, also what was so a moment ago: nginx writes a line after its answer. It has one process,
# which does one thing after the other, so that whoever got an answer to this finds the lines of those before. Before each
# look at the file that is not repeated.
web_logged() { curl -sS -o /dev/null "http://127.0.0.1:$web_settle/" || fail "nginx does not answer"; }
web_log_begin() { web_logged; : >"$W/web.log"; } # anew, from here

# odd_start: the server of odd answers; sets $odd to its port. What it was asked is in $W/odd.log.
odd_start() {
	"$python" "$e2e_lib/odd-http.py" "$W/odd.port" "$W/odd.log" >>"$W/log" 2>&1 &
	jobs_started+=($!)
	until_true 10 test -s "$W/odd.port" || fail "odd-http.py does not start"
	odd=$(cat "$W/odd.port")
}

# get CONFIG... OPTION... REQUEST...: remoteget, its answers in $W/got.
get() {
	local rc=0
	timeout 120 "$B/remoteget" "$@" >"$W/got" 2>>"$W/log" || rc=$?
	cat "$W/got" >>"$W/log"
	[ "$rc" = 0 ] || fail "remoteget $*: exit $rc"
}
# wants REGEX COMMAND...: the only answer matches.
wants() {
	local regex=$1
	shift
	get "$@"
	[ "$(wc -l <"$W/got")" = 1 ] || fail "$*: $(wc -l <"$W/got") answers"
	grep -qE -- "$regex" "$W/got" || fail "$*: no /$regex/ in: $(cat "$W/got")"
}
