# SPDX-License-Identifier: Apache-2.0
# Sourced after e2e.sh by tests that need a web server which misbehaves (tests/tools/hostile-http.py).
# shellcheck shell=bash
[ -x /usr/bin/python3 ] || skip "no /usr/bin/python3"
hostile_stats() { curl -sS "$HOSTILE_CTL/_stats"; }

# hostile_start ROOT: serve a folder; its URL is in $HOSTILE. With $hostile_tls "CERT KEY" over TLS.
hostile_start() {
	local scheme=http
	rm -f "$W/port"
	# shellcheck disable=SC2086,SC2154 # two words; e2e.sh sets top
	/usr/bin/python3 "$top/tests/tools/hostile-http.py" "$1" --port-file "$W/port" ${hostile_tls:+--tls $hostile_tls} \
		>>"$W/log" 2>&1 &
	hostile_pid=$!
	jobs_started+=("$hostile_pid")
	until_true 10 test -s "$W/port" || fail "the web server does not start"
	[ -z "${hostile_tls:-}" ] || scheme=https
	HOSTILE=$scheme://127.0.0.1:$(cat "$W/port")
	HOSTILE_CTL=$HOSTILE
}
# fault MODE [KEY=VALUE]...: see the tool.
fault() {
	local mode=$1 q
	shift
	q=$(IFS='&'; echo "$*")
	curl -sS "$HOSTILE_CTL/_fault?mode=$mode${q:+&$q}" >/dev/null
}
# fault_only MODE [KEY=VALUE]...: at once in the place of all others; faulted counts from here.
fault_only() { fault "$@" only=1; }
# shut: nobody gets anything. After a failure modelfs asks again by itself, at a time that no test knows: until
# fault_only or faults_clear it sees nothing of what is changed meanwhile.
shut() { fault_only 503 count=all; }
faults_clear() { curl -sS "$HOSTILE_CTL/_clear" >/dev/null; curl -sS "$HOSTILE_CTL/_reset" >/dev/null; }

fetch_dies() { # what stands still is asked for again at once
	local pid
	pid=$(pgrep -P "$(keeper_pid)" -x modelfs-fetch) || fail "no fetch: $(pgrep -a -P "$(keeper_pid)")"
	kill -KILL "$pid"
}

# blobs BUNDLE REPO: the blobs of a bundle as a repository has them, in parts.
blobs() {
	local file hash
	(cd "$1" && find payload chunks -type f 2>/dev/null) | while read -r file; do
		hash=$(sha256sum <"$1/$file") hash=${hash%% *}
		mkdir -p "$2/blobs/sha256/${hash:0:2}/$hash"
		split -b 256M -d -a 5 "$1/$file" "$2/blobs/sha256/${hash:0:2}/$hash/"
		[ -s "$1/$file" ] || : >"$2/blobs/sha256/${hash:0:2}/$hash/00000"
	done
}
# faulted: at least one request met its fault since faults_clear.
faulted() { [ "$(hostile_stats | jq .faults)" -gt 0 ]; }
