#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The layers hold: common <- verifier <- fs, common <- verifier <- publisher, common <- fetcher.
# A file that includes what its folder may not see does not compile, and the verifier is pure: it
# calls nothing but its libraries, and keeps no variables.
set -eu
# shellcheck source=../scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
B=${MFS_BUILD:-$top/build}
[ -f "$B/Makefile" ] || die "not configured: $B"
bad=0
complain() { echo "layers: $*"; bad=1; }

flags_of() { make -s -C "$B" --no-print-directory --eval "mfs-show: ; @echo \$($1)" mfs-show 2>/dev/null; }
# compiles VARIABLE FOLDER HEADER: does a file of FOLDER that includes HEADER pass the preprocessor?
compiles() {
	local flags
	flags=$(flags_of "$1_CPPFLAGS")
	[ -n "$flags" ] || die "no target $1"
	# shellcheck disable=SC2086 # a list of flags
	(cd "$B" && printf '#include "%s"\n' "$3" |
		gcc -E $flags -x c - >/dev/null 2>&1)
}
may() { compiles "$@" || complain "a file of $2/ cannot include $3, which it may"; }
must_not() { ! compiles "$@" || complain "a file of $2/ can include $3, which it must not"; }

may libmfscommon_a common error.h
must_not libmfscommon_a common mfs_verify.h
must_not libmfscommon_a common engine.h
may libmfsverify_a verifier error.h
must_not libmfsverify_a verifier engine.h
must_not libmfsverify_a verifier fs/engine/engine.h
must_not libmfsverify_a verifier signer.h
may modelpub publisher mfs_verify.h
must_not modelpub publisher engine.h
must_not modelpub publisher fs/engine/engine.h
may modelfs_fetch fetcher wire.h
must_not modelfs_fetch fetcher mfs_verify.h
must_not modelfs_fetch fetcher mfs_config.h
must_not modelfs_fetch fetcher engine.h
must_not libmfsfs_a fs fetcher.h
may libmfsfs_a fs mfs_verify.h
must_not libmfsfs_a fs signer.h
must_not libmfsfs_a fs publisher/signer.h

# The verifier's own header is for the verifier.
must_not libmfsfs_a fs internal.h
must_not modelpub publisher internal.h

# Within fs/: what is below does not know what is above. tree, serve, update, health, keeper and cmd stand side by side.
rank() {
	case $1 in
	config | link) echo 1 ;; state) echo 2 ;; store) echo 3 ;; read) echo 4 ;; engine) echo 5 ;; *) echo 6 ;;
	esac
}
for d in "$top"/fs/*/; do
	d=$(basename "$d")
	while IFS=: read -r file h; do
		for at in "$top"/fs/*/"$h"; do
			[ -f "$at" ] || continue
			at=$(basename "$(dirname "$at")")
			[ "$(rank "$at")" -le "$(rank "$d")" ] || complain "fs/$d/$(basename "$file") includes $h of fs/$at, which is above it"
		done
	done < <(grep -HoE '#include "[a-z_0-9]+\.h"' "$top/fs/$d"/*.[ch] | sed -E 's/#include "(.*)"/\1/')
done

# Includes by a path that climbs out of the folder would get round the flags.
grep -rnE '#include "(\.\./|(common|verifier|fs|publisher|fetcher)/)' "$top"/common "$top"/verifier "$top"/fs \
	"$top"/publisher "$top"/fetcher --include='*.[ch]' && complain "an include by path"

# ARCHITECTURE.md names every folder, and nothing that is not there.
doc=$top/ARCHITECTURE.md
for d in "$top"/*/Makemodule.am "$top"/fs/*/Makemodule.am "$top"/{scripts,.ci,m4}/x; do
	d=$(basename "$(dirname "$d")")
	grep -q "\(^\|[ \`]\)$d/" "$doc" || complain "ARCHITECTURE.md does not name the folder $d/"
done
while IFS= read -r f; do
	[ -n "$(find "$top"/{common,verifier,fs,publisher,fetcher,tests,scripts} "$top"/*.md -path "*/${f#/}" -print -quit)" ] ||
		complain "ARCHITECTURE.md names $f, which is not there"
done < <(grep -o '`[^` ]*`' "$doc" | tr -d '`' | grep -E '\.(c|h|sh|md)$' | sort -u)

lib=$B/libmfsverify.a
[ -f "$lib" ] || make -s -C "$B" libmfsverify.a >/dev/null
tmp=$(mktemp)
# Undefined symbols of the verifier that neither it nor an allowed library defines.
nm --defined-only "$lib" | awk 'NF == 3 {print $3}' | sort -u >"$tmp"
trap 'rm -f "$tmp" "$tmp.u"' EXIT
nm -u "$lib" | awk '$1 == "U" {print $2}' | sort -u | comm -23 - "$tmp" >"$tmp.u"
allow=$(dirname "$0")/layers.allow
if grep -vxE "$(grep -v '^#' "$allow" | paste -sd '|' -)" "$tmp.u"; then
	complain "the verifier calls what tests/layers.allow does not list (above): no files, sockets, clock, logging"
fi
# (Sanitizers add data of their own.)
grep -q __asan "$tmp.u" || size -A "$lib" | awk '$1 ~ /^\.(data|bss|tdata|tbss)(\.[^r].*)?$/ && $2 > 0 {n += $2; print} END {exit n > 0}' ||
	complain "the verifier keeps variables (above): no globals"
[ "$bad" = 0 ] && echo "layers hold"
exit "$bad"
