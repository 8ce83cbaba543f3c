#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every command, without a mount and with one: what it does, what it says, its exit code.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program genmodel

m() { # m CODE REGEX COMMAND ARGUMENT...
	local code=$1 regex=$2
	local command=$3
	shift 3
	expect "$code" "$regex" "$modelfs" "$command" -c "$CFG" "$@"
}

step "before anything was installed"
keys
config
m 0 'nothing was ever installed' status
m 0 'right: 1 model, 1 trust key' config check
m 0 'nothing was ever installed here' explain det
m 1 "no model 'dat'" explain dat
m 0 '^trust  [0-9a-f]{64}  epoch 1' keys show
m 0 '^state: ' config show
m 4 'not mounted' wait det --timeout 200ms
m 4 'no version is active' exec det -- true
m 1 'keys init' device
m 0 'made the device key' keys init
m 2 'nothing to do' keys init
m 2 'nothing to go back to' rollback det
m 2 'all as signed' verify
m 2 '0 removed' gc
m 1 "no model 'dat'.*configured: det" status dat
expect 64 'usage: modelfs install' "$modelfs" install
expect 64 'no such option' "$modelfs" status --frob
expect 64 "no command 'frob'" "$modelfs" frob
expect 0 'usage: modelfs wait' "$modelfs" wait --help
[ ! -e "$W/store/blobs" ] || [ -z "$(find "$W/store/blobs" -type f)" ] || fail "blobs of nothing"

step "device: the key that grants are addressed to, as others see it"
"$modelfs" device -c "$CFG" --json >"$W/device.json" || fail "device"
[ "$(wc -l <"$W/device.json")" = 1 ] || fail "device is not one line"
openssl pkey -in "$W/state/device-key" -pubout -outform DER -out "$W/device.der"
jq -e --arg id "$(sha256sum <"$W/device.der" | cut -d' ' -f1)" --arg key "$(od -An -tx1 -v "$W/device.der" | tr -d ' \n')" \
	'.device_key_id == $id and .public_key == $key and .device_key_type == "P-256"' "$W/device.json" >/dev/null ||
	fail "device: $(cat "$W/device.json")"
m 0 "^device_key_id +$(jq -r .device_key_id "$W/device.json")" device
"$modelfs" device -c "$CFG" --json | cmp - "$W/device.json" || fail "the device key changed"
m 0 'ok +device key: P-256' doctor
rm "$W/state/device-key"
m 0 'made the device key' device
expect 0 "no keys" "$modelfs" evidence -c "$CFG" -o "$W/evidence.tar"
! tar tf "$W/evidence.tar" | grep -q device-key || fail "the device key is in the evidence"
sed "s|^models:|device: {key: \"file:state/own.pem\"}\nmodels:|" "$CFG" >"$W/own.yaml"
openssl genpkey -algorithm X25519 -out "$W/state/own.pem"
chmod 0600 "$W/state/own.pem"
expect 0 '"device_key_type":"X25519"' "$modelfs" device --json -c "$W/own.yaml"
rm "$W/evidence.tar"
expect 0 "no keys" "$modelfs" evidence -c "$W/own.yaml" -o "$W/evidence.tar"
! tar xOf "$W/evidence.tar" | grep -q 'PRIVATE KEY' || fail "a device key is in the evidence"

fixture_files() {
	local v
	for v in 1 2 3; do
		mkdir -p "$W/src$v"
		gen raw 400K "$v" "$W/src$v/weights.bin"
		(cd "$W/src$v" && pack "1.$v.0" "$v" "$W/b$v" weights.bin)
	done
}
fixture_files

every_command() { # the same with and without a mount
	m 0 'det 1.2.0 is active \(was 1.1.0\)' install "$W/b2"
	m 2 'active already: nothing to do' install "$W/b2"
	m 3 'rollback_attempt' install "$W/b1"
	m 0 'rollback_attempt' events det
	m 0 'last:       rollback_attempt' status det
	m 0 "det 1.1.0 is active \\(was 1.2.0\\); held until" rollback det
	m 3 "held.*unpin det" install "$W/b3"
	m 0 "note:       held" status det
	m 0 'no longer held' unpin det
	m 2 'was not held' unpin det
	m 0 'det 1.3.0 is active \(was 1.1.0\)' install "$W/b3"
	m 0 'all as signed' verify det
	m 2 '0 removed' gc
	[ "$("$modelfs" status -c "$CFG" --json | jq -r '.models[0].active.version')" = 1.3.0 ] || fail "status --json"
	[ "$("$modelfs" status det --json -c "$CFG" | jq -r .active.release)" = 3 ] || fail "status ID --json"
	[ "$("$modelfs" events -c "$CFG" --json | jq -rs 'last.boot')" = "$(cat /proc/sys/kernel/random/boot_id)" ] || fail "boot of events"
	"$modelfs" events -c "$CFG" --json | jq -es 'map(.seq) | length > 3 and . == sort' >/dev/null || fail "events --json"
}

step "without a mount"
m 0 'det 1.1.0 is active$' install "$W/b1"
every_command
m 2 'not mounted' keys retrust
m 4 'events -f' events -f

step "doctor says what is weaker, and nothing is broken"
rc=0
"$modelfs" doctor -c "$CFG" --json >"$W/doctor.json" || rc=$?
jq -e '.checks | length > 12 and all(.level == "ok" or .fix != null)' "$W/doctor.json" >/dev/null || fail "doctor: $(cat "$W/doctor.json")"
[ "$rc" = "$(jq 'if .fail > 0 then 1 else 0 end' "$W/doctor.json")" ] || fail "doctor exits $rc"
jq -e '.checks[] | select(.what == "rollback protection" and .level == "warn")' "$W/doctor.json" >/dev/null ||
	fail "doctor does not mind a file counter"

step "doctor finds what is weak, and what cannot be used"
chmod 0666 "$CFG"
m 0 "warn +configuration: $CFG can be changed by others" doctor
chmod 0644 "$CFG" "$W/state/key"
m 0 "warn +state key: $W/state/key" doctor
chmod 0600 "$W/state/key"
m 0 'ok +trusted state: authentic' doctor
mv "$W/state/counter" "$W/counter.away"
m 1 'fail +trusted state: .*cannot be used' doctor
m 1 'modelfs: doctor: state_replayed: .*counter: missing' doctor
mv "$W/counter.away" "$W/state/counter"
m 0 'ok +trusted state: authentic' doctor

step "with a mount"
rm -rf "$W/state" "$W/store"
("$modelfs" wait det --version 1.1.0 --timeout 60s -c "$CFG" >"$W/wait.out" 2>&1) & waiter=$!
mount_
m 0 'policy: *none in force: model det: follows no repository' explain det
m 0 'det 1.1.0 is active$' install "$W/b1"
wait "$waiter" || fail "wait: $(cat "$W/wait.out")"
"$modelfs" events -f -c "$CFG" --json >"$W/follow.out" 2>&1 & follower=$!
at_exit "kill $follower 2>/dev/null || true"
every_command
same "$W/src3/weights.bin" "$MNT/det/active/weights.bin"
[ "$("$modelfs" exec det -c "$CFG" -- sh -c 'echo "$MODELFS_MODEL $MODELFS_VERSION $MODELFS_DIR"')" = "det 1.3.0 $MNT/det/versions/1.3.0" ] ||
	fail "exec"
"$modelfs" exec det -c "$CFG" -- sh -c 'cmp "$MODELFS_DIR/weights.bin" "$0"' "$W/src3/weights.bin" || fail "exec reads"
m 7 'seven' exec det -- sh -c 'echo seven; exit 7'
m 4 'is mounted' recover
cmp "$MNT/det/status" <("$modelfs" status det -c "$CFG") || fail "status and the mounted file differ"

step "keys retrust: a key that is no longer trusted serves nothing, and comes back"
cp "$W/release.pub.pem" "$W/keep.pem" && cp "$W/stranger.pub.pem" "$W/release.pub.pem"
m 0 'loaded anew' keys retrust
until_true 20 sh -c "! [ -L '$MNT/det/active' ]" || fail "a version of an untrusted key is still active"
m 0 'key_untrusted' status det
cp "$W/keep.pem" "$W/release.pub.pem"
m 0 'loaded anew' keys retrust
until_true 20 test -L "$MNT/det/active" || fail "not active again"
printf 'models: [\n' >"$W/bad.yaml" && cp "$CFG" "$W/good.yaml" && cat "$W/bad.yaml" >"$CFG"
expect 1 "$CFG:[0-9]+:[0-9]+" "$modelfs" config check -c "$CFG"
cp "$W/good.yaml" "$CFG"
m 0 'det: serving 1.3.0' status
printf 'xattrs: true\nread_ahead_kb: 512\n' >>"$CFG"
m 0 'the new read_ahead_kb, xattrs takes effect only after' keys retrust
cp "$W/good.yaml" "$CFG"
until_true 20 "$modelfs" status -c "$CFG" >/dev/null || fail "no status after a reload"
m 0 'only after' keys retrust
until_true 20 "$modelfs" status -c "$CFG" >/dev/null || fail "no status after a reload"
mv "$W/mk.bin" "$W/mk.away"
m 1 'model key .*mk.bin: No such file' config check
mv "$W/mk.away" "$W/mk.bin"
m 0 'right: 1 model' config check

step "a reload is no death of serve: nobody is told of one"
# What keeper says of deaths; under load one may not stop in time.
deaths() { grep -cE 'serve [0-9]+ (was killed by|exited with|does not die)' "$W/run/log" || true; }
restarts() { status_ --json | jq -e .restarts; }
[ "$(restarts)" = "$(deaths)" ] || fail "$(restarts) restarts after $(deaths) deaths and four reloads"
[ "$(deaths)" -gt 0 ] || ! "$modelfs" doctor -c "$CFG" | grep -E '^warn +serve: ' || fail "doctor takes a reload for a crash"

step "who follows events does so across a crash of serve"
before=$(deaths)
kill -KILL "$(serve_pid)"
m 0 'nothing to do|held|active' status det
[ "$(restarts)" -gt "$before" ] || fail "a death is not counted"
"$modelfs" doctor -c "$CFG" | grep -E '^warn +serve: died and was started anew [0-9]+ times? ' >>"$W/log" || fail "doctor does not say it"
m 0 'is active' rollback det
until_true 20 grep -q 'rolled back, held.*' "$W/follow.out" || fail "events -f ended with serve"
[ "$(jq -r .seq "$W/follow.out" | sort -n | uniq -d | wc -l)" = 0 ] || fail "events came twice"
kill "$follower"

step "others may look, not change"
chmod 0755 "$W" 2>/dev/null || true
if setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$CFG"; then
	expect 0 'det: serving' setpriv --reuid 65534 --regid 65534 --clear-groups "$modelfs" status -c "$CFG"
	for c in 'rollback det' 'unpin det' gc verify 'keys retrust'; do
		# shellcheck disable=SC2086 # words
		expect 3 'only root' setpriv --reuid 65534 --regid 65534 --clear-groups "$modelfs" $c -c "$CFG"
	done
fi

step "unmount"
unmount_
m 0 'not mounted' status

step "a MOUNTPOINT on the command line goes before the configuration, for every command; relative to where one stands"
mkdir "$W/here"
(cd "$W/here" && umask 077 && exec timeout 30 "$modelfs" mount -c "../${CFG##*/}" there/it) >>"$W/log" 2>&1 || fail "mount with a MOUNTPOINT: exit $?"
at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
m 0 "$W/here/there/it mounted since" status
m 0 "^$W/here/there/it/det/versions/" exec det -- sh -c 'echo "$MODELFS_DIR"'
if setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$CFG"; then
	expect 0 "^$W/here/there/it/det/versions/" setpriv --reuid 65534 --regid 65534 --clear-groups "$modelfs" exec -c "$CFG" det -- sh -c 'echo "$MODELFS_DIR"'
fi
m 4 "$W/here/there/it: already mounted" mount
unmount_
! mountpoint -q "$W/here/there/it" || fail "still mounted after unmount"
