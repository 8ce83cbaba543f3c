#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The configuration is broken, gone, or another one while a mount runs with the good one: whoever only asks is answered by
# that mount, and told so in one line; who would write without it is refused; it can be unmounted.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
need_program genmodel
keys
gen raw 1M 1 "$W/weights.bin"
pack 1.0.0 1 "$W/b1" "$W/weights.bin"
pack 1.1.0 2 "$W/b2" "$W/weights.bin"
pack 1.2.0 3 "$W/b3" "$W/weights.bin"
config
install_ "$W/b1" && install_ "$W/b2" || fail "install"
cp "$CFG" "$W/good.yaml"

# ask OUT-REGEX COMMAND...: answered by the mount, with one line that says why it was asked.
before='what is mounted runs with the configuration before it'
ask() {
	local regex=$1 command=$2 rc=0
	shift 2
	timeout 120 "$modelfs" "$command" -c "$CFG" "$@" >"$W/out" 2>"$W/err" || rc=$?
	[ "$rc" -eq 0 ] || fail "$command: exit $rc: $(cat "$W/out" "$W/err")"
	grep -qE -- "$regex" "$W/out" || fail "$command said: $(cat "$W/out")"
	[ "$(grep -cF "$before" "$W/err")" = 1 ] || fail "$command does not say once that the file is broken: $(cat "$W/err")"
	grep -qE "^modelfs: $command: config_invalid: .*$wrong" "$W/err" || fail "$command does not say /$wrong/: $(cat "$W/err")"
}
refused_() { # COMMAND...: by the file, whatever is mounted; and without a word of the mount
	local command=$1
	shift
	expect 1 "$wrong" "$modelfs" "$command" -c "$CFG" "$@"
	! grep -qF "$before" "$W/expect.out" || fail "$command: $(cat "$W/expect.out")"
}
all_asked() {
	ask 'det: serving 1.1.0' status
	ask '^model: +det$' status det
	ask '' status --json && jq -e '.models[0].id == "det"' "$W/out" >/dev/null || fail "no JSON"
	ask ': activated' events det
	ask 'det' explain det
	ask '' wait det --version 1.1.0 --timeout 30s
	ask 'all as signed' verify
	ask '^det 1.1.0$' exec det -- sh -c 'echo "$MODELFS_MODEL $MODELFS_VERSION"'
	rm -f "$W/e.tar" && ask 'no keys, no model bytes' evidence -o "$W/e.tar"
	expect 1 '^fail +configuration: .*runs with the configuration before it' "$modelfs" doctor -c "$CFG"
	grep -qE '^ok +control socket: ' "$W/expect.out" || fail "doctor does not look at the mount: $(cat "$W/expect.out")"
	refused_ config check
	refused_ install "$W/b3"
	refused_ keys show
	refused_ keys retrust
}

step "invalid: answered all the same, and changed through serve; what writes by itself is refused"
mount_
[ "$("$modelfs" status -c "$CFG" 2>&1 >/dev/null)" = "" ] || fail "something is said of a good file"
printf 'models: [\n' >"$CFG"
wrong="$CFG:[0-9]+:[0-9]+: "
all_asked
ask 'det 1.0.0 is active' rollback det
ask 'no longer held' unpin det
ask 'marked good|1.1.0 is active|is active' pin det 1.1.0
ask 'no longer held' unpin det
keeper=$(keeper_pid)
kill -HUP "$keeper"
logged() { grep -q 'reload refused, the old configuration stays' "$W/run/log"; }
until_true 20 logged || fail "the reload was not refused"
ask 'det: serving 1.1.0' status

step "gone, not a file, reached by a link, from another folder"
wrong='(No such file|not a regular file|Is a directory)'
rm "$CFG"
all_asked
mkdir "$CFG"
ask 'det: serving 1.1.0' status
rmdir "$CFG"
(cd "$W" && timeout 20 "$modelfs" status -c "./${CFG##*/}" 2>"$W/err") | grep -q 'det: serving 1.1.0' || fail "relative: $(cat "$W/err")"
ln -s "$W" "$W/here"
timeout 20 "$modelfs" status -c "$W/here/${CFG##*/}" 2>"$W/err" | grep -q 'det: serving 1.1.0' || fail "by a link: $(cat "$W/err")"
expect 1 'No such file' "$modelfs" status -c "$W/other.yaml"
expect 1 'No such file' "$modelfs" unmount -c "$W/other.yaml"

step "what was reloaded last is what counts; a good file is believed again"
sed 's/^models:$/&\n  seg: {}/' "$W/good.yaml" >"$CFG"
expect 0 'loaded anew' "$modelfs" keys retrust -c "$CFG"
has_seg() { [ -d "$MNT/seg" ]; }
until_true 30 has_seg || fail "the model that was added is not shown"
[ "$(timeout 20 "$modelfs" status -c "$CFG" 2>&1 >/dev/null)" = "" ] || fail "something is said of a good file"
echo 'nonsense: true' >>"$CFG"
wrong="$CFG:[0-9]+:[0-9]+: nonsense: unknown key"
ask '^model: +seg$' status seg

step "unmounted with the broken file; then nothing is answered any more"
timeout 60 "$modelfs" unmount -c "$CFG" 2>"$W/err" || fail "unmount: exit $?: $(cat "$W/err")"
grep -qF "$before" "$W/err" || fail "unmount: $(cat "$W/err")"
! mountpoint -q "$MNT" || fail "still mounted"
refused_ status
refused_ unmount
[ ! -e "$W/run/config" ] || fail "it is left in the run folder"
! find /run/modelfs/running -lname "$W/run" 2>/dev/null | grep . || fail "a link is left"

step "valid, but with another state: what is mounted is found, and ends"
cp "$W/good.yaml" "$CFG"
mount_
sed -i "s|^state: .*|state: $W/state2|; s|^store: .*|store: $W/store2|; s|^run: .*|run: $W/run2|" "$CFG"
wrong="$CFG: state: was $W/state; .* only after 'modelfs unmount'"
ask 'det: serving 1.1.0' status
timeout 60 "$modelfs" unmount -c "$CFG" 2>"$W/err" || fail "unmount: exit $?: $(cat "$W/err")"
! mountpoint -q "$MNT" || fail "still mounted"
expect 0 'not mounted' "$modelfs" status -c "$CFG"

step "keeper was killed: nobody answers, and what is left of it can be removed"
cp "$W/good.yaml" "$CFG"
mount_
printf 'models: [\n' >"$CFG"
wrong="$CFG:[0-9]+:[0-9]+: "
keeper=$(keeper_pid)
kill -KILL "$keeper"
timeout 30 tail --pid="$keeper" -f /dev/null || fail "keeper lives"
refused_ status
timeout 60 "$modelfs" unmount -c "$CFG" 2>"$W/err" || fail "unmount: exit $?: $(cat "$W/err")"
! grep -q " $MNT " /proc/self/mountinfo || fail "a dead mount is left"
cp "$W/good.yaml" "$CFG"
mount_
[ "$("$modelfs" status -c "$CFG" 2>&1 >/dev/null)" = "" ] || fail "something is said of a good file"
unmount_

step "who may not read the file may not read what was read of it"
chmod 0600 "$CFG"
mount_
[ "$(stat -c %a "$W/run/config")" = 600 ] || fail "mode $(stat -c %a "$W/run/config")"
unmount_
chmod 0644 "$CFG"
mount_
[ "$(stat -c %a "$W/run/config")" = 644 ] || fail "mode $(stat -c %a "$W/run/config")"

step "what others could have written is not believed"
printf 'models: [\n' >"$CFG"
chmod 0777 "$W/run"
refused_ status
chmod 0755 "$W/run"
ask 'det: serving 1.1.0' status
chown 65534 "$W/run/config"
refused_ status
chown 0 "$W/run/config"
cp "$W/good.yaml" "$CFG"
unmount_
