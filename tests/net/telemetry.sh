#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Telemetry from end to end: a collector on loopback gets what the manual says and nothing else, on a
# connection without credentials; a dead one is in nobody's way; without telemetry nothing is sent.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_fuse
need_python
keys
"$modelpub" init "$W/repo" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub init"
mkdir -p "$W/src"
echo 'the-content-of-a-model-file' >"$W/src/secret-name.txt"
gen raw 1M 1 "$W/src/weights.bin"
id="private-model"
(cd "$W/src" && pack_plain 1.0.0-rc.1 1 "$W/b1" weights.bin secret-name.txt)
"$modelpub" publish "$W/repo" "$W/b1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish"
chmod -R a+rX "$W/repo"
cat >"$W/collector.py" <<'END'
import http.server, json, sys
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as f:
            f.write(json.dumps({"path": self.path, "from": self.client_address[1], "headers": dict(self.headers),
                                "body": json.loads(body)}).encode() + b"\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
with open(sys.argv[1], "w") as f: f.write("%d\n" % s.server_address[1])
s.serve_forever()
END
"$python" "$W/collector.py" "$W/port" "$W/posts" >>"$W/log" 2>&1 &
jobs_started+=("$!")
until_true 10 test -s "$W/port" || fail "the collector does not start"
base="repository: \"file://$W/repo\"
device: {id: device-4711, class: jetson-orin, region: eu-private, labels: {site: secret-site}}
update: {interval: 1h, probation: 0s}
"
config_extra="${base}telemetry: {url: \"http://127.0.0.1:$(cat "$W/port")\"}
" config "$id: {health: {command: [/bin/sh, -c, 'echo what-the-model-said'], timeout: 10s}}"
sed -i 's|^trust: .*|trust: {root: keys/root.json, keys: [release.pub.pem]}|' "$CFG"
chmod 0711 "$W"

step "what an update reports"
mount_
timeout 60 "$modelfs" update -c "$CFG" "$id" >>"$W/log" 2>&1 || fail "update: exit $?"
until_true 60 test -s "$W/posts" || fail "nothing was sent: $(cat "$W/run/log")"
sleep 0.5
jq -e . "$W/posts" >/dev/null || fail "no JSON"
[ "$(wc -l <"$W/posts")" = 1 ] || fail "more than one batch: $(cat "$W/posts")"
got=$(jq -c '[.body.resourceLogs[].scopeLogs[].logRecords[] | [.body.stringValue, (.attributes[] | .value.stringValue)]]' "$W/posts")
[[ $got == *'["downloaded","downloaded","ok","none","1.0.0-rc.1"]'* ]] || fail "$got"
[[ $got == *'["activated","activated","ok","none","1.0.0-rc.1"]'* ]] || fail "$got"
[ "$(jq -r .path "$W/posts")" = /v1/logs ] || fail "$(jq -r .path "$W/posts")"

step "nothing else: no name, place, id, content, output, exact time; no credentials"
keys=$(jq -c '[.body | .. | objects | keys[]] | unique' "$W/posts")
want='["attributes","body","key","logRecords","resource","resourceLogs","scope","scopeLogs","severityNumber","severityText","stringValue","timeUnixNano","value"]'
[ "$(jq -c '. - ["name"]' <<<"$keys")" = "$want" ] || fail "fields: $keys"
keys=$(jq -c '[.body | .. | objects | .key? // empty] | unique' "$W/posts")
[ "$keys" = '["modelfs.class","modelfs.device.class","modelfs.outcome","modelfs.transition","modelfs.version","service.name"]' ] || fail "attributes: $keys"
for private in private-model device-4711 eu-private secret-site secret-name content-of what-the-model-said "$W" "$(hostname)" \
	"$(cat /etc/machine-id 2>/dev/null || echo none-such)"; do
	! grep -qF -- "$private" "$W/posts" || fail "'$private' was sent: $(cat "$W/posts")"
done
jq -e '[.body | .. | .timeUnixNano? // empty | tonumber / 1000000000 % 3600] | all(. == 0)' "$W/posts" >/dev/null || fail "an exact time"
jq -e '.headers | keys - ["Host", "User-Agent", "Accept", "Content-Type", "Content-Length"] == []' "$W/posts" >/dev/null ||
	fail "headers: $(jq -c .headers "$W/posts")"
[ "$(jq -r '.headers["Content-Type"]' "$W/posts")" = application/json ] || fail "content type"
unmount_

step "a dead collector is in nobody's way"
(cd "$W/src" && pack_plain 1.1.0 2 "$W/b2" weights.bin)
"$modelpub" publish "$W/repo" "$W/b2" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish"
chmod -R a+rX "$W/repo"
sed -i 's|^telemetry: .*|telemetry: {url: "http://127.0.0.1:9/v1/logs"}|' "$CFG"
mount_
timeout 60 "$modelfs" update -c "$CFG" "$id" >>"$W/log" 2>&1 || fail "update with a dead collector: exit $?"
[ "$(readlink "$MNT/$id/active")" = versions/1.1.0 ] || fail "$(readlink "$MNT/$id/active")"
queued() { grep -q ' 1.1.0$' "$W/state/telemetry"; }
until_true 20 queued || fail "not kept: $(cat "$W/state/telemetry")"
told() { status_ 2>>"$W/log" | grep -qE '^telemetry: nothing is delivered since .* UTC, [0-9]+ records? waits?: net_'; }
until_true 90 told || fail "nobody says that nothing is delivered: $(status_)"
"$modelfs" doctor -c "$CFG" >"$W/doctor.out" 2>&1 || true
grep -qE '^warn +telemetry: nothing is delivered since ' "$W/doctor.out" || fail "doctor: $(cat "$W/doctor.out")"
[ "$(grep -c 'telemetry: not delivered' "$W/run/log")" = 1 ] || fail "the log says it again and again: $(cat "$W/run/log")"
unmount_

step "without telemetry nothing is kept or sent"
rm -f "$W/state/telemetry"
(cd "$W/src" && pack_plain 1.2.0 3 "$W/b3" weights.bin)
"$modelpub" publish "$W/repo" "$W/b3" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish"
chmod -R a+rX "$W/repo"
sed -i '/^telemetry: /d' "$CFG"
mount_
timeout 60 "$modelfs" update -c "$CFG" "$id" >>"$W/log" 2>&1 || fail "update: exit $?"
unmount_
[ ! -e "$W/state/telemetry" ] || fail "kept: $(cat "$W/state/telemetry")"
[ "$(wc -l <"$W/posts")" = 1 ] || fail "sent: $(tail -n 1 "$W/posts")"
