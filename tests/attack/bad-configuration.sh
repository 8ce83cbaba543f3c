#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A bad configuration is refused with file, line and column, exit 1, by every command that reads it.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
good() { printf 'mount: %s\nstate: %s\nstore: %s\nrun: %s\n' "$MNT" "$W/state" "$W/store" "$W/run"; }
mkdir -p "$MNT" "$W/run"
try() { # LINE REGEX TEXT
	printf '%b' "$3" >"$CFG"
	expect 1 "modelfs\.yaml:$1:[0-9]+: .*" "$modelfs" config check -c "$CFG"
	grep -qiE -- "$2" "$W/expect.out" || fail "no /$2/ in: $(cat "$W/expect.out")"
	grep -q config_invalid "$W/expect.out" || fail "no outcome in: $(cat "$W/expect.out")"
	expect 1 "modelfs\.yaml:$1:" "$modelfs" mount -c "$CFG"
	once
	expect 1 "modelfs\.yaml:$1:" "$modelfs" mount -f -c "$CFG"
	once
	expect 1 "modelfs\.yaml:$1:" "$modelfs" status -c "$CFG"
}
once() { [ "$(grep -o 'modelfs\.yaml' "$W/expect.out" | wc -l)" = 1 ] || fail "not said once: $(cat "$W/expect.out")"; }
g=$(good)
trust='trust: {keys: [release.pub.pem]}'
printf '%b' "$g\n$trust\nmodels:\n  det: {serve: auto}\n" >"$CFG"
expect 0 . "$modelfs" config check -c "$CFG"
expect 0 det "$modelfs" config show -c "$CFG"
sed -i '1s/^/\xef\xbb\xbf/' "$CFG"
expect 0 . "$modelfs" config check -c "$CFG" # with a byte order mark
try 8 "serv" "$g\n$trust\nmodels:\n  # a comment\n  det: {serv: auto}\n"
try 5 'mout' "$g\nmout: /x\n$trust\nmodels: {det: {}}\n"
try 5 'mount' "$g\nmount: /x\n$trust\nmodels: {det: {}}\n"
try 7 'serve' "$g\n$trust\nmodels:\n  det: {serve: fast}\n"
try 7 'det' "$g\n$trust\nmodels:\n  det: [a]\n"
try 8 'det' "$g\n$trust\nmodels:\n  det: {}\n  det: {}\n"
try 8 'det' "$g\n$trust\nmodels:\n  det: {}\n  DET: {}\n"
try 7 '\.\./x' "$g\n$trust\nmodels:\n  ../x: {}\n"
try 5 'keys' "$g\ntrust: {keys: release.pub.pem}\nmodels: {det: {}}\n"
try '[5-9]' '.' "$g\ntrust: {keys: [release.pub.pem\nmodels: {det: {}}\n"
try 6 'tab|character|token' "$g\n$trust\n\tmodels: {}\n"
try 7 'memory_budget' "$g\n$trust\nmodels: {det: {}}\nmemory_budget: lots\n"
try 7 'counter' "$g\n$trust\nmodels: {det: {}}\ncounter: none\n"
try 6 'pin_window' "$g\n$trust\nmodels: {det: {pin_window: -3s}}\n"

# files that it names: told by every command, and no state or lock is left behind for the next one
printf '%b' "$g\ntrust: {keys: [nowhere.pem]}\nmodels: {det: {}}\n" >"$CFG"
for f in '' -f; do
	# shellcheck disable=SC2086 # none, or one
	expect 1 "^[^ ]*modelfs.*config_invalid: $CFG:5:16: trust.keys: $W/nowhere.pem: No such file" "$modelfs" mount $f -c "$CFG"
	once
done
expect 1 'trust.keys' "$modelfs" verify -c "$CFG"
printf '%b' "$g\n$trust\nmodels: {det: {}}\n" >"$CFG"
expect 2 . "$modelfs" verify -c "$CFG"
rm "$CFG"
expect 1 'modelfs\.yaml' "$modelfs" mount -c "$CFG"
expect 64 'usage|--help' "$modelfs" frobnicate
expect 64 'usage|--help' "$modelfs" mount --frobnicate
! mountpoint -q "$MNT" || fail "something was mounted"
