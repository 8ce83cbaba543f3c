# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts/bench: downloads from nginx on loopback over TLS, against curl -o of the same file.
# Uses its $W, $size, $rounds, pair, median, say, have, at_exit, modelpub, genmodel.
# shellcheck shell=bash disable=SC2154

update_blobs() { # BUNDLE FOLDER: blobs as a repository has them, in parts
	local file hash
	(cd "$1" && find payload chunks -type f) | while read -r file; do
		hash=$(sha256sum <"$1/$file") hash=${hash%% *}
		mkdir -p "$2/blobs/sha256/${hash:0:2}/$hash"
		split -b 256M -d -a 5 "$1/$file" "$2/blobs/sha256/${hash:0:2}/$hash/"
	done
}

update_serve() { # PORT FOLDER
	mkdir -p "$W/nginx"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$W/nginx/key.pem" -out "$W/nginx/cert.pem" \
		-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
	cat >"$W/nginx/nginx.conf" <<-END
		worker_processes 1; pid $W/nginx/pid; error_log $W/nginx/error.log; user root;
		events { worker_connections 256; }
		http {
			access_log off; sendfile on; default_type application/octet-stream;
			client_body_temp_path $W/nginx/t1; proxy_temp_path $W/nginx/t2; fastcgi_temp_path $W/nginx/t3;
			uwsgi_temp_path $W/nginx/t4; scgi_temp_path $W/nginx/t5;
			server {
				listen 127.0.0.1:$1 ssl http2;
				ssl_certificate $W/nginx/cert.pem; ssl_certificate_key $W/nginx/key.pem;
				root $2;
			}
		}
	END
	"$nginx" -c "$W/nginx/nginx.conf" -p "$W/nginx" 2>>"$W/log" || return 1
	at_exit "[ ! -s $W/nginx/pid ] || kill \$(cat $W/nginx/pid 2>/dev/null) 2>/dev/null"
}

update_modelfs() { # MB/s of download, verification and staging, all on disk at the end
	rm -rf "$W/up/store"
	mkdir "$W/up/store"
	dltool "$W/up/modelfs.yaml" "$W/up/store" "$W/up/bundle" 2>>"$W/log" >"$W/up/line" || { cat "$W/up/line" >>"$W/log"; return 1; }
	sed -n 's/.* cpu=\([0-9]*\)+\([0-9]*\).*/\1 \2/p' "$W/up/line" >>"$W/up/cpu"
	awk -v bytes="$update_bytes" 'match($0, / ms=[0-9]+/) {print bytes / 1000 / substr($0, RSTART + 4, RLENGTH - 4)}' "$W/up/line"
}
update_curl() { # MB/s of the same bytes into one file
	local TIMEFORMAT='%U %S'
	rm -f "$W/up/out"
	{ time curl -sS --cacert "$W/nginx/cert.pem" -o "$W/up/out" -w '%{speed_download}\n' "$update_url/whole" 2>>"$W/log" >"$W/up/speed"; } \
		2>>"$W/up/cpu.curl" || return 1
	awk '{print $1 / 1e6}' "$W/up/speed"
}
update_curl_sync() { # and on disk, as a download of modelfs is when it is done
	local begun
	rm -f "$W/up/out"
	begun=$(date +%s%N)
	curl -sS --cacert "$W/nginx/cert.pem" -o "$W/up/out" "$update_url/whole" && sync "$W/up/out" || return 1
	awk -v bytes="$update_bytes" -v ns=$(($(date +%s%N) - begun)) 'BEGIN {print bytes * 1000 / ns}'
}

nginx=$(command -v nginx || true)
[ -n "$nginx" ] || { [ ! -x /usr/sbin/nginx ] || nginx=/usr/sbin/nginx; }
if [ -z "$nginx" ] || ! have curl; then
	say "nginx or curl is not installed: no figures of downloads"
else
	mkdir -p "$W/up/www"
	genmodel raw "${size}M" 3 "$W/up/model.bin"
	modelpub pack --id det --version 1.0.0 --release 1 --key "$W/release.pem" --out "$W/up/bundle" "$W/up/model.bin" >/dev/null
	update_blobs "$W/up/bundle" "$W/up/www"
	ln "$W/up/bundle/payload/model.bin" "$W/up/www/whole" 2>/dev/null || cp "$W/up/bundle/payload/model.bin" "$W/up/www/whole"
	update_bytes=$(stat -c %s "$W/up/www/whole")
	update_port=$((20000 + RANDOM % 10000)) update_url=https://localhost:$update_port
	if update_serve "$update_port" "$W/up/www"; then
		printf 'mount: %s\nstate: %s\nstore: %s\nrun: %s\nrepositories: {default: {url: "%s", root: "%s", tls: {ca: "%s"}}}\ntrust: {keys: ["%s"]}\nmodels: {det: {}}\n' \
			"$W/mnt" "$W/up/state" "$W/up/store" "$W/up/run" "$update_url" "$W/release.pub.pem" "$W/nginx/cert.pem" \
			"$W/release.pub.pem" >"$W/up/modelfs.yaml"
		cat "$W/up/www/whole" "$W"/up/www/blobs/sha256/*/*/* >/dev/null
		unit=MB/s pair "download, verify, stage over TLS, to curl -o" ">= 0.8" update_modelfs update_curl
		# Seconds of CPU, user and system: they hold on a machine that is busy. Those of the kernel's own threads, which
		# write curl's file back later, are in neither.
		awk -v bytes="$update_bytes" 'NR == FNR {if (FNR > 1) {here += $1; fetch += $2; n++} next} FNR > 1 {curl += $1 + $2; m++} END {
			gb = bytes / 1e9
			printf "%-58s %6.2f   goal %-6s  (%.2f verifying and writing, %.2f fetch; curl -o %.2f)\n", "seconds of CPU of a GB, to curl -o",
				(here + fetch) / n / 1000 / (curl / m), "<= 2", here / n / 1000 / gb, fetch / n / 1000 / gb, curl / m / gb}' \
			"$W/up/cpu" "$W/up/cpu.curl"
		unit=MB/s pair "the same, to curl -o and sync" ">= 0.8" update_modelfs update_curl_sync
		sed -n 's/.* kib=\([0-9]*\)+\([0-9]*\).*/\1 \2/p' "$W/up/line" | awk '{
			printf "%-58s %6.1f   goal %-6s  (MiB: downloading %.1f, fetch %.1f)\n", "memory of a download and fetch", ($1 + $2) / 1024, "< 64",
				$1 / 1024, $2 / 1024}'
		du -s --block-size=1 "$W/up/store" | awk -v bytes="$update_bytes" '{
			printf "%-58s %6.3f   goal %-6s\n", "disk taken by the store, to the size of the version", $1 / bytes, "<= 1.05"}'
		kill "$(cat "$W/nginx/pid")" 2>/dev/null || true
	else
		say "nginx does not start: no figures of downloads: $(tail -n 1 "$W/log")"
	fi
fi
