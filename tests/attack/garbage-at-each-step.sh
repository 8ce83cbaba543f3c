#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Garbage in the place of each file that an update of a mounted model asks for: wrong bytes, too many, none, an older
# file, a page of HTML instead. Each has its outcome in what the command says, in status and in an event, no version is
# condemned for it, what is active stays readable, and when the server is honest the version comes.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
# shellcheck source=../lib/hostile.sh
. "$(dirname "$0")/../lib/hostile.sh"
repository
for v in 1 2; do release "$v"; done
publish 1
hostile_start "$W/repo"
follow "$HOSTILE"
mount_
brings 1
publish 2
forge targets . # which a publish leaves as they are
events_now() { "$modelfs" events -c "$CFG" --json | tail -n 1 | jq .seq; }

# spoilt FILE WORD HOW OUTCOME: FILE is spoilt for one update; WORD: what is said of it. The right one stands there again,
# but nobody gets it before the next one is spoilt.
spoilt() {
	local at=$W/repo/$1 name=${1##*/} rc=0 since
	since=$(events_now)
	[ ! -e "$at" ] || cp "$at" "$W/right"
	case $3 in
	flipped) flip "$at" 60 ;;
	longer) { cat "$at" 2>/dev/null || true; head -c 700000 /dev/zero; } >"$W/long" && mv "$W/long" "$at" ;;
	empty) : >"$at" ;;
	older) cp "$W/repo/metadata/1.${name#*.}" "$at" ;;
	esac
	case $3 in
	endless) fault_only endless count=all "path=$name" ;;
	html) fault_only login count=all "path=$name" ;;
	*) faults_clear ;;
	esac
	"$modelfs" update -c "$CFG" det >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	case $4 in net_*) [ "$rc" = 4 ] ;; *) [ "$rc" = 3 ] ;; esac || fail "$2 $3: exit $rc: $(cat "$W/said")"
	grep -q " $4: .*$2" "$W/said" || fail "$2 $3: not $4: $(cat "$W/said")"
	[ "$(cycle_ "(.refused == null) and ([.check.outcome, .offer.outcome, .next.why.outcome] | any(. == \"$4\"))")" = true ] || fail "$2 $3: status: $(cycle_ .)"
	# The same outcome again is no event again.
	[ "$4" = "${last-}" ] || "$modelfs" events -c "$CFG" --json | jq -es --argjson s "$since" --arg o "$4" --arg w "$2" \
		'any(.seq > $s and .outcome == $o and (.detail | contains($w)))' >>"$W/log" || fail "$2 $3: no event: $("$modelfs" events -c "$CFG" | tail -n 3)"
	last=$4
	cmp "$W/src1/weights.bin" "$MNT/det/active/weights.bin" && cmp "$W/src1/small.bin" "$MNT/det/active/small.bin" || fail "$2 $3: $(cat "$MNT/det/status")"
	shut
	if [ -f "$W/right" ]; then mv "$W/right" "$at"; else rm -f "$at"; fi
	echo "  $2 $3: $4"
}
each() { # FILE WORD
	spoilt "$1" "$2" flipped hash_mismatch
	spoilt "$1" "$2" longer limit_exceeded
	spoilt "$1" "$2" html net_portal
}
md() { echo "metadata/$(role_newest "$1").$1.json"; }
target() { realpath --relative-to "$W/repo" "$(target_now "$1" "$2")"; }

step "metadata, in the order in which it is asked for"
next=metadata/2.root.json
spoilt $next root.json older rollback_attempt
spoilt $next root.json longer limit_exceeded
spoilt $next root.json empty malformed
spoilt $next root.json html net_portal
spoilt metadata/timestamp.json timestamp.json flipped malformed
spoilt metadata/timestamp.json timestamp.json longer limit_exceeded
spoilt metadata/timestamp.json timestamp.json empty malformed
spoilt metadata/timestamp.json timestamp.json endless limit_exceeded
spoilt metadata/timestamp.json timestamp.json html net_portal
jq -cj '.signed.version += 1' "$W/repo/metadata/timestamp.json" >"$W/unsigned"
cp "$W/repo/metadata/timestamp.json" "$W/timestamp"
cp "$W/unsigned" "$W/repo/metadata/timestamp.json"
spoilt metadata/timestamp.json timestamp.json as-it-is metadata_signature_invalid
cp "$W/timestamp" "$W/repo/metadata/timestamp.json"
each "$(md snapshot)" snapshot.json
each "$(md targets)" targets.json
each "$(md policy.det)" policy.det
each "$(target policy.det det/policy.json)" policy.json
spoilt "$(target policy.det det/policy.json)" policy.json endless limit_exceeded
# Another list of keys; the policy was not taken yet.
jq -cSj '.[0].models = ["det"]' "$(target_now targets trust.json)" >"$W/trust.json"
target_put targets trust.json "$W/trust.json"
each "$(target targets trust.json)" trust.json
each "$(md release.det)" release.det
manifest=$(target release.det det/1.2.0/default/manifest.json)
spoilt "$manifest" manifest.json empty hash_mismatch
spoilt "$manifest" manifest.json endless limit_exceeded
each "$manifest" manifest.json
each "$(target release.det det/1.2.0/default/signature.sig)" signature.sig

step "a chunk table, a payload"
blob_of() { jq -r --arg f "$1" ".files[] | select(.name == \$f).$2" "$W/b2/manifest.json" | while read -r h; do echo "blobs/sha256/${h:0:2}/$h/00000"; done; }
spoilt "$(blob_of weights.bin chunks_sha256)" weights.bin flipped hash_mismatch
at=$(blob_of weights.bin sha256)
spoilt "$at" weights.bin flipped hash_mismatch

step "honest again, but for a page for the first who asks for the payload, and for what lies behind its signed bytes"
cat "$W/src1/weights.bin" >>"$W/repo/$at"
fault_only login "path=$(basename "${at%/*}")"
brings 2
faulted || fail "nobody asked for the payload"
clean() { [ -z "$(find "$W/store/staging" -type f)" ]; }
until_true 10 clean || fail "left in staging: $(find "$W/store/staging" -type f)"
"$modelfs" verify -c "$CFG" det >>"$W/log" 2>&1 || fail "verify: exit $?"
! "$modelfs" events -c "$CFG" det | grep -E "known_bad|condemned" || fail "condemned"
unmount_
