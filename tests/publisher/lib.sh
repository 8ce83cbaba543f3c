# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# What the scripts of this folder share; sourced. Sets W, a folder of its own that is the current one and
# is removed at the end, and MODELPUB.
set -u
export LC_ALL=C.UTF-8
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
MODELPUB=${MODELPUB:-${MFS_BUILD:-${BUILD:-$top/build}}/modelpub}
case $MODELPUB in /*) ;; *) MODELPUB=$PWD/$MODELPUB ;; esac
[ -x "$MODELPUB" ] || { echo "SKIP: $MODELPUB is not built"; exit 77; }
command -v openssl >/dev/null || { echo "SKIP: openssl is not installed"; exit 77; }
unset SOURCE_DATE_EPOCH
W=$(mktemp -d "${TMPDIR:-/tmp}/check-publisher.XXXXXX") || exit 1
W=$(cd "$W" && pwd -P)
trap 'rm -rf "$W"' EXIT
trap 'exit 130' INT TERM HUP
cd "$W" || exit 1
failed=0

modelpub() { timeout 120 "$MODELPUB" "$@"; }

# property NAME: run function NAME in a folder and shell of its own.
selected=" $* "
property() {
	local rc
	[ "$selected" = "  " ] || case $selected in *" $1 "*) ;; *) return ;; esac
	mkdir "$W/p.$1"
	(
		set -eE -o pipefail
		trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
		cd "$W/p.$1"
		"$1"
	) >"$W/log" 2>&1
	rc=$?
	if [ $rc -eq 0 ]; then
		echo "ok $1"
	else
		echo "not ok $1"
		tail -n 20 "$W/log" | sed 's/^/  | /'
		failed=1
	fi
	rm -rf "$W/p.$1"
}

say_fail() { echo "$*" >&2; return 1; }

# expect CODE REGEX COMMAND...
expect() {
	local want=$1 regex=$2 rc=0
	shift 2
	"$@" >"$W/out" 2>&1 </dev/null || rc=$?
	if [ $rc -ne "$want" ]; then say_fail "exit $rc, wanted $want: $*: $(tail -n 3 "$W/out")"; return 1; fi
	if ! grep -qE -- "$regex" "$W/out"; then say_fail "no /$regex/ in what $* said: $(cat "$W/out")"; return 1; fi
}

count() { find "$1" -mindepth 1 -maxdepth 1 -name "$2" | wc -l; } # FOLDER PATTERN

# A leading "!" does not end a shell that runs with -e; these do.
differ() { if cmp -s "$1" "$2"; then say_fail "$1 and $2 are equal"; return 1; fi; }
absent() { if grep -q -- "$1" "$2"; then say_fail "$2 has '$1'"; return 1; fi; }

flip() { # FILE OFFSET: change one bit
	local b
	b=$(od -An -tu1 -j "$2" -N 1 "$1")
	[ -n "$b" ] || say_fail "$1 has no byte $2"
	# shellcheck disable=SC2059
	printf "\\x$(printf %02x $((b ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}


# copy FROM TO: a repository that a test begins with anew is not one that was set back.
copy() { rm -rf "$2" && cp -a "$1" "$2" && rm -f "$W"/K/seen.*.json; }

# properties: every function that was defined since helpers_end, in alphabetical order.
helpers=
helpers_end() { helpers=" $(declare -F | sed 's/^declare -f //' | tr '\n' ' ') "; }
properties() {
	local p
	for p in $(declare -F | sed 's/^declare -f //'); do
		case $helpers in *" $p "*) ;; *) property "$p" ;; esac
	done
}
