#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A fetch that was taken over: it cannot read the store, the state or a key, write, execute, or trace;
# it has no descriptor but its own; and what it is asked for beyond its origins it refuses.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_program remoteget
need_program fetchjail
! grep -q '^#define MFS_SANITIZERS' "$B/common/config.h" || skip "sanitizers need calls that the sandbox forbids"

step "the real one: its uid, its filter, no capability, no descriptor but its own"
mkdir -p "$W/repo/metadata"
echo hello >"$W/repo/metadata/a"
"$B/remoteget" --from="$W/repo" meta:a pid sleep:600000 >"$W/got" 2>>"$W/log" 8<"$W/repo/metadata/a" &
getter=$!
jobs_started+=("$getter")
until_true 20 grep -qE '^[0-9]+$' "$W/got" || fail "no pid: $(cat "$W/got")"
pid=$(tail -n 1 "$W/got")
has() { grep -qE "^$1:[[:space:]]*$2\$" "/proc/$pid/status" || fail "$1: $(grep "^$1:" "/proc/$pid/status")"; }
has Uid '61181[[:space:]]+61181[[:space:]]+61181[[:space:]]+61181'
has Groups '[[:space:]]*'
has CapEff 0000000000000000
has CapPrm 0000000000000000
has CapBnd 0000000000000000
has NoNewPrivs 1
has Seccomp 2
for fd in /proc/"$pid"/fd/*; do
	to=$(readlink "$fd")
	case $to in
	socket:* | anon_inode:* | pipe:* | /memfd:modelfs-origins* | "$W/repo" | "$W/log" | "$W/got" | /dev/null) ;;
	*) [ "${fd##*/}" -le 2 ] || fail "descriptor ${fd##*/}: $to" ;;
	esac
done
kill "$getter"
wait "$getter" 2>/dev/null || true

step "the same program, taken over"
keys
config
mkdir -p "$W/src" "$W/jail" "$W/origin"
gen raw 200K 1 "$W/src/weights.bin"
(cd "$W/src" && pack 1.0.0 1 "$W/b1" weights.bin)
install_ "$W/b1" || fail "install"
blob=$(find "$W/store/blobs" -type f | head -n 1)
[ -n "$blob" ] || fail "nothing in the store"
cp "$B/remoteget" "$W/jail/remoteget"
cp "$B/fetchjail" "$W/jail/modelfs-fetch"
chmod -R a+rX "$W"
chmod 0711 "$W"
chmod 0644 "$W/mk.bin" "$W/release.pem" "$blob"
printf '%s\n' "$blob" "$W/mk.bin" "$W/release.pem" "$W/state" "$W/modelfs.yaml" /etc/shadow /proc/1/environ /root /tmp \
	"$W/origin/../mk.bin" >"$W/origin/targets"
for last in exec ptrace fork setuid; do
	echo "$last" >"$W/origin/last"
	chmod -R a+rX "$W/origin"
	timeout 60 "$W/jail/remoteget" --from="$W/origin" meta:x >"$W/got" 2>"$W/jail.log" || fail "remoteget"
	cat "$W/jail.log" >>"$W/log"
	grep -q '^jail: uid 61181 61181 61181$' "$W/jail.log" || fail "no attempt was made: $(cat "$W/jail.log")"
	grep -q '^jail: socket AF_INET : WORKED$\|^jail: socket AF_INET: WORKED$' "$W/jail.log" || fail "no network either: $(cat "$W/jail.log")"
	worked=$(grep WORKED "$W/jail.log" | grep -v 'AF_INET' || true)
	[ -z "$worked" ] || fail "$worked"
	[ "$(grep -c '^jail: \(read\|write\) ' "$W/jail.log")" = 20 ] || fail "not every file was tried: $(cat "$W/jail.log")"
	! grep -q "^jail: $last " "$W/jail.log" || fail "$last came back"
	! grep '^jail: descriptor' "$W/jail.log" | grep -vqE 'descriptor ([0-9]|1[0-9])$' || fail "$(grep descriptor "$W/jail.log")"
	grep -q '^net_protocol ' "$W/got" || fail "serve's end did not notice: $(cat "$W/got")"
done
