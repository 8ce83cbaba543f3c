#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# on_change runs on a swap and a rollback, on_reject on a refusal, as a user that is not root; one that hangs
# holds nothing up.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
keys
CHECK_UID=61165 # of this test alone: nobody else's processes are its rest
config "det: {model_key: \"file:mk.bin\", health: {user: $CHECK_UID}, on_change: [$P/check, changed], on_reject: [$P/check, rejected]}"
log=$P/out/log
# shellcheck disable=SC2016 # for the hook
check 'echo "$1 $(id -u) $MODELFS_MODEL $MODELFS_REASON $MODELFS_OUTCOME $MODELFS_VERSION $MODELFS_RELEASE dir=${MODELFS_DIR##*/} \
was=${MODELFS_PREVIOUS_DIR##*/} $(ls "$MODELFS_DIR" 2>/dev/null | head -n 1) $(readlink "$MODELFS_DIR/../../active" | head -n 1)" >>$P/out/log'
said() { # LINE
	until_true 10 grep -sqx "$1" "$log" || fail "no '$1' in: $(cat "$log")"
}
mount_
[ ! -e "$log" ] || fail "a mount is no change"
next_bundle
install_ "$W/b" || fail "install: exit $?"
said "changed $CHECK_UID det swap ok 1.1.0 1 dir=1.1.0 was= weights.safetensors versions/1.1.0"
cp -a "$W/b" "$W/b1"
next_bundle
install_ "$W/b" || fail "install: exit $?"
said "changed $CHECK_UID det swap ok 1.2.0 2 dir=1.2.0 was=1.1.0 weights.safetensors versions/1.2.0"
"$modelfs" rollback -c "$CFG" det >>"$W/log" 2>&1 || fail "rollback: exit $?"
said "changed $CHECK_UID det rollback ok 1.1.0 1 dir=1.1.0 was=1.2.0 weights.safetensors versions/1.1.0"
"$modelfs" unpin -c "$CFG" det >>"$W/log" 2>&1 || fail "unpin: exit $?"
next_bundle
flip "$W/b/payload/weights.safetensors" 5000
! install_ "$W/b" || fail "a damaged bundle was installed"
said "rejected $CHECK_UID det refused hash_mismatch $version $release dir= was=1.1.0  "
[ "$(wc -l <"$log")" = 4 ] || fail "more hooks than changes: $(cat "$log")"

step "a hook that hangs"
check 'touch "$P/out/hangs"; sleep 1000'
next_bundle
start=$SECONDS
install_ "$W/b" || fail "install: exit $?"
until_true 10 test -e "$P/out/hangs" || fail "it did not run"
next_bundle
install_ "$W/b" || fail "install while a hook hangs: exit $?"
active_is "$version" || fail "$version is not active"
unmount_
[ $((SECONDS - start)) -lt 60 ] || fail "the hook held the changes up"
gone() { [ -z "$(ps -o pid= -u "$CHECK_UID")" ]; }
until_true 5 gone || fail "it outlives the mount: $(ps -u "$CHECK_UID")"
