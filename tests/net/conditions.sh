#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What fetch says of the host: power supplies, batteries, NetworkManager's metered flag over a real
# D-Bus, interfaces; and what it says when there is none of that, or something that is none.
# shellcheck source=../lib/e2e.sh disable=SC1091,SC2154
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/web.sh"
need_program remoteget
chmod 0711 "$W"
mkdir -p "$W/repo"
P=$(mktemp -d /tmp/modelfs-power.XXXXXX) # fetch, another user, opens it by its path
at_exit "rm -rf $P"
chmod 0755 "$P"
from="--from=$W/repo"
supply() { # NAME FILE=VALUE...
	local f
	mkdir -p "$P/$1"
	for f in "${@:2}"; do echo "${f#*=}" >"$P/$1/${f%%=*}"; done
}
power() { wants "^ok $1 metered=0" "$from" "power=$P" "bus=$W/none" facts; }

step "power"
wants '^ok on_ac=1 battery=-1 ' "$from" "power=$W/none" "bus=$W/none" facts
power 'on_ac=1 battery=-1'
supply AC type=Mains online=1
power 'on_ac=1 battery=-1'
supply BAT0 type=Battery present=1 status=Charging capacity=80
supply BAT1 type=Battery present=1 status=Full capacity=70
supply mouse type=Battery scope=Device present=1 status=Discharging capacity=3
supply absent type=Battery present=0 status=Discharging capacity=1
power 'on_ac=1 battery=70'
supply AC online=0
supply BAT0 status=Discharging
power 'on_ac=0 battery=70'
supply usb type=USB_PD online=1
power 'on_ac=1 battery=70'
supply usb online=0
supply BAT1 capacity=999
power 'on_ac=0 battery=80'
rm -rf "${P:?}/AC" "$P/usb"
supply BAT0 status=Unknown
power 'on_ac=-1 battery=80'

step "interfaces: loopback never counts"
if unshare -n true 2>/dev/null && have ip; then
	unshare -n sh -c "ip link set lo up; '$B/remoteget' '$from' 'bus=$W/none' facts" >"$W/got" 2>>"$W/log" || fail "remoteget"
	grep -qE 'nets=$' "$W/got" || fail "$(cat "$W/got")"
fi

step "a bus that is none"
need_python
"$python" - "$P/odd.bus" <<'END' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
s.listen(8)
answers = [b"", b"REJECTED\r\n", b"OK 1234\r\n" + b"\xff" * 4000, b"OK 1\r\n" + b"l\2\0\1" + b"\xff\xff\xff\xff" * 4,
           b"OK 1\r\nl\2\0\1\0\0\0\0\1\0\0\0\6\0\0\0\5\1u\0\1\0\0\0", b"x" * 300]
for a in answers:
    c, _ = s.accept()
    c.sendall(a)
    c.close()
s.accept()[0].recv(1)
END
jobs_started+=($!)
until_true 10 test -S "$P/odd.bus" || fail "no socket"
for _ in 1 2 3 4 5 6 7; do wants '^ok .*metered=0' "$from" "bus=$P/odd.bus" facts; done

step "metered, by NetworkManager"
need_tool dbus-daemon
cat >"$W/bus.conf" <<END
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$P/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
END
# A bus takes only users that the host knows, and fetch becomes "modelfs-fetch" where there is one.
unshare -m true 2>/dev/null || skip "no mount namespaces"
{ grep -v '^modelfs-fetch:' /etc/passwd; echo 'modelfs-fetch:x:61199:61199::/nonexistent:/usr/sbin/nologin'; } >"$W/passwd"
chmod 0644 "$W/passwd"
known() { unshare -m sh -c 'mount --bind "$0" /etc/passwd && exec "$@"' "$W/passwd" "$@"; }
known dbus-daemon --nofork --nopidfile --config-file="$W/bus.conf" >>"$W/log" 2>&1 &
jobs_started+=($!)
until_true 10 test -S "$P/bus" || fail "no bus"
wants '^ok .*metered=0' "$from" "bus=$P/bus" facts # a user that it does not know
for value in 0:0 1:1 2:2 3:1 4:2 9:0; do
	"$python" "$e2e_lib/metered-bus.py" "$P/bus" "${value%:*}" >"$W/nm" 2>>"$W/log" &
	nm=$!
	jobs_started+=("$nm")
	until_true 10 grep -q ready "$W/nm" || fail "nobody on the bus"
	# fetch asks the bus for a moment only: a loaded machine may need another.
	metered() {
		known "$B/remoteget" "$from" "bus=$P/bus" facts >"$W/got" 2>>"$W/log" && grep -qE "^ok .*metered=${value#*:} " "$W/got"
	}
	until_true 30 metered || fail "$value: $(cat "$W/got")"
	kill "$nm"
	wait "$nm" 2>/dev/null || true
done
