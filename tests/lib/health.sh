# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests of health commands and hooks, after e2e.sh: commands run as another user, so the
# mount and the folder $P that they write to lie outside of the private $W.
# shellcheck shell=bash disable=SC2034,SC2154 # MNT and id are e2e.sh's
need_fuse
need_tool setpriv
P=$(mktemp -d /tmp/modelfs-test-XXXXXX)
at_exit "rm -rf --one-file-system $P"
chmod 0755 "$P"
mkdir -m 1777 "$P/out"
MNT=$P/mnt
CHECK_UID=61100 # of the only model

# check SCRIPT: what the health command is from now on; it finds $P in its environment.
check() {
	printf '#!/bin/sh\nP=%s\n%s\n' "$P" "$1" >"$P/check.new"
	chmod 0755 "$P/check.new"
	mv "$P/check.new" "$P/check"
}
as() { # UID COMMAND...
	local uid=$1
	shift
	setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
# next_bundle: another version of $id, packed into $W/b; $version is its name.
release=0
next_bundle() {
	release=$((release + 1))
	version=1.$release.0
	mkdir -p "$P/src"
	rm -rf "$W/b"
	gen safetensors 400K "$release" "$P/src/weights.safetensors"
	(cd "$P/src" && pack "$version" "$release" "$W/b" weights.safetensors "$@")
}
active_is() { [ "$(readlink "$MNT/$id/active")" = "versions/$1" ]; }
# A check that is made to fail for the next version would condemn the active one too while that is observed.
config_extra=$'update: {probation: 0}\n'
