# SPDX-License-Identifier: Apache-2.0
# Sourced by every end-to-end test (tests/mount, tests/attack): a private folder $W with its own
# keys, configuration, state, store, run folder and mountpoint; all of it is gone at the end.
# shellcheck shell=bash
set -eu
set -E -o pipefail

e2e_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../scripts/lib.sh
. "$e2e_lib/../../scripts/lib.sh"
B=${MFS_BUILD:-$top/build}
modelfs=$B/modelfs modelpub=$B/modelpub
export PATH=$B:$PATH
export LC_ALL=C.UTF-8

skip() { echo "SKIP: $*"; exit 77; }
fail() {
	echo "FAILED at line ${BASH_LINENO[0]} of ${BASH_SOURCE[1]##*/}: $*" >&2
	if [ -f "$W/log" ]; then tail -n 30 "$W/log" >&2; fi
	exit 1
}
step() { echo "- $*"; }

[ -x "$modelfs" ] && [ -x "$modelpub" ] || skip "modelfs is not built (scripts/build)"
[ "$(id -u)" = 0 ] || skip "not root"
have jq || skip "jq is not installed"
have openssl || skip "openssl is not installed"
work test
W=$work
trap 'echo "a command failed at line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND" >&2; [ ! -s "$W/log" ] || tail -n 20 "$W/log" >&2' ERR
CFG=$W/modelfs.yaml MNT=$W/mnt

need_fuse() { [ -c /dev/fuse ] && [ -r /dev/fuse ] || skip "/dev/fuse is not there"; }
need_resident() { # the resident tier needs FUSE passthrough
	local major minor
	IFS=.- read -r major minor _ <<<"$(uname -r)"
	[ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 9 ]; } || skip "Linux $(uname -r) has no FUSE passthrough (6.9)"
}
need_tool() { have "$1" || skip "$1 is not installed"; }
need_program() { [ -x "$B/$1" ] || skip "$1 is not built (make test-tools)"; }

# keys: a release key, a stranger's key and a model key.
keys() {
	"$modelpub" key --out "$W/release.pem" >/dev/null
	"$modelpub" key --out "$W/stranger.pem" >/dev/null
	head -c 32 /dev/urandom >"$W/mk.bin"
	chmod 0600 "$W/mk.bin"
}

# config [MODEL LINE]...: a configuration; default is one encrypted model "det".
config() {
	[ $# -gt 0 ] || set -- 'det: {serve: auto, model_key: "file:mk.bin"}'
	mkdir -p "$MNT" "$W/run"
	{
		printf 'mount: %s\nstate: %s\nstore: %s\nrun: %s\n' "$MNT" "$W/state" "$W/store" "$W/run"
		printf 'trust: {keys: [release.pub.pem]}\n'
		printf '%s' "${config_extra:-}"
		printf 'models:\n'
		printf '  %s\n' "$@"
	} >"$CFG"
}

# pack VERSION RELEASE OUT FILE...: an encrypted bundle of model $id (det).
id=det
pack() {
	local version=$1 release=$2 out=$3
	shift 3
	"$modelpub" pack --id "$id" --version "$version" --release "$release" --key "$W/release.pem" \
		--model-key "$W/mk.bin" --out "$out" "$@" >>"$W/log" 2>&1 || fail "modelpub pack $version"
}
pack_plain() {
	local version=$1 release=$2 out=$3
	shift 3
	"$modelpub" pack --id "$id" --version "$version" --release "$release" --key "$W/release.pem" \
		--out "$out" "$@" >>"$W/log" 2>&1 || fail "modelpub pack $version"
}
gen() { "$B/genmodel" "$@"; }

install_() { timeout 120 "$modelfs" install -c "$CFG" "$@" >>"$W/log" 2>&1; }
mount_() {
	timeout 30 "$modelfs" mount -c "$CFG" >>"$W/log" 2>&1 || fail "modelfs mount: exit $?"
	# shellcheck disable=SC2034 # of repo.sh
	first_update=1
	at_exit "timeout 20 $modelfs unmount -c $CFG >/dev/null 2>&1 || true"
}
unmount_() {
	timeout 30 "$modelfs" unmount -c "$CFG" >>"$W/log" 2>&1 || fail "modelfs unmount: exit $?"
	! mountpoint -q "$MNT" || fail "still mounted after unmount"
}
status_() { timeout 20 "$modelfs" status -c "$CFG" "$@"; }
# Nothing, and not 0, while there is none.
serve_pid() { status_ --json 2>>"$W/log" | jq -re '.serve_pid // empty'; }
keeper_pid() {
	local f
	for f in "$W"/run/*pid; do
		[ ! -f "$f" ] || { cat "$f"; return; }
	done
	return 1
}

# expect CODE REGEX COMMAND...: exit code and message.
expect() {
	local want=$1 regex=$2 rc=0
	shift 2
	timeout 120 "$@" >"$W/expect.out" 2>&1 || rc=$?
	cat "$W/expect.out" >>"$W/log"
	[ "$rc" -eq "$want" ] || fail "exit $rc, wanted $want: $* said: $(tail -n 3 "$W/expect.out")"
	grep -qE -- "$regex" "$W/expect.out" || fail "no /$regex/ in what $1 $2 said: $(cat "$W/expect.out")"
}

# until_true SECONDS COMMAND...: as long as a host takes that has nothing else to do. One that is loaded, or stands still for
# a while, gets six times as long: no test says how fast something is.
until_true() {
	local end=$((SECONDS + 6 * $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}
tier_is() { grep -qE "^modelfs_model_info\{[^}]*model=\"$1\"[^}]*tier=\"$2\"" "$MNT/.modelfs/metrics.prom"; }
wait_tier() { until_true "${3:-30}" tier_is "$1" "$2" || fail "model $1 never got tier $2: $(cat "$MNT/$1/status")"; }

same() { cmp "$1" "$2" || fail "$1 differs from $2"; }

# ---- damage ----

# flip FILE OFFSET [BITS]: invert one byte, or these bits of it; a negative offset counts from the end.
flip() {
	local size off=$2 bits=${3:-255} byte
	size=$(stat -c %s "$1")
	[ "$off" -ge 0 ] || off=$((size + off))
	[ "$off" -lt "$size" ] || fail "flip: $1 has no byte $off"
	byte=$(od -An -tu1 -j "$off" -N 1 "$1" | tr -d ' ')
	# shellcheck disable=SC2059 # the format is the byte
	printf "\\$(printf %03o $((byte ^ bits)))" | dd of="$1" bs=1 seek="$off" conv=notrunc,fsync status=none
}
# Offsets worth a flip in a file: first, last, middle and the edges of the second chunk.
offsets() {
	local size
	size=$(stat -c %s "$1")
	printf '%s\n' 0 $((size / 2)) $((size - 1))
	[ "$size" -le 131072 ] || printf '%s\n' 131071 131072
}
copy_bundle() { rm -rf "$2" && cp -a "$1" "$2"; }

# sign_manifest BUNDLE [KEY]: sign whatever manifest.json holds now, as an insider could.
sign_manifest() {
	openssl pkeyutl -sign -rawin -inkey "${2:-$W/release.pem}" -in "$1/manifest.json" -out "$1/signature.sig" ||
		fail "cannot sign"
}
# edit_manifest BUNDLE JQ: change the manifest, keep it canonical, sign it anew.
edit_manifest() {
	jq -cSj "$2" "$1/manifest.json" >"$W/manifest.new" && mv "$W/manifest.new" "$1/manifest.json"
	sign_manifest "$1"
}
blob() { # SHA256: its path in the store
	echo "$W/store/blobs/sha256/${1:0:2}/$1"
}

# refused BUNDLE OUTCOME...: install exits 3, names one of the outcomes, and nothing of it is
# installed: what was active before still is, and no temporary remains.
refused() {
	local bundle=$1 before after outcomes
	shift
	outcomes=$(IFS='|'; echo "$*")
	before=$(installed_now)
	expect 3 "($outcomes)" "$modelfs" install -c "$CFG" "$bundle"
	after=$(installed_now)
	[ "$before" = "$after" ] || fail "a refused bundle changed what is installed: $before -> $after"
}
installed_now() {
	local b=$W/store/blobs
	if mountpoint -q "$MNT"; then
		printf '%s %s ' "$(readlink "$MNT/$id/active" 2>/dev/null)" "$(readlink "$MNT/$id/previous" 2>/dev/null)"
	fi
	# The tier is none of it: a copy in memory may become ready meanwhile.
	status_ "$id" --json 2>/dev/null |
		jq -c '[.. | objects | (.active? // empty, .previous? // empty) | if type == "object" then del(.tier) else . end]' 2>/dev/null || true
	{ [ ! -d "$b" ] || find "$b" "$W/store/staging" -type f 2>/dev/null; } | sort | sha256sum
}

# fixture: release 1 of "det" is installed ($W/b1); release 2 waits in $W/b2. Each holds
# weights.bin (several chunks) and small.bin (one chunk: its tag is in the manifest).
fixture() {
	local v
	keys
	config "$@"
	for v in 1 2; do
		mkdir -p "$W/src$v"
		gen raw 400K "$v" "$W/src$v/weights.bin"
		gen raw 5000 "$v" "$W/src$v/small.bin"
		(cd "$W/src$v" && pack "1.$v.0" "$v" "$W/b$v" weights.bin small.bin)
	done
	install_ "$W/b1" || fail "install of a good bundle: exit $?"
}
# still_good [VERSION]: the good bundle installs after all attacks, so they did not poison it.
still_good() {
	install_ "$W/b2" || fail "the untouched bundle is refused after the attack: exit $?"
	mountpoint -q "$MNT" || return 0
	diff -r "$W/src2" "$MNT/det/active" || fail "the new version differs"
}

# fresh_serve: a new serve, which holds no verified plaintext of the one before. `forget FILE` then makes
# sure that the next read of FILE goes to the disk.
fresh_serve() {
	local pid
	pid=$(serve_pid) || fail "no serve_pid in status --json"
	kill -KILL "$pid"
	serve_is_new() { local new; new=$(serve_pid 2>/dev/null) && [ "$new" != "$pid" ]; }
	until_true 10 serve_is_new || fail "no new serve within 10 s"
}
forget() {
	fresh_serve
	"$B/fileprobe" drop "$1"
}
