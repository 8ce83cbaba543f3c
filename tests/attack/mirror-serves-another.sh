#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A mirror sends another model's blobs, or an older release's, in the place of what is asked for, and the repository's
# own server does the same with manifests, policies and role files: nothing of it gets in, another source is asked, no
# version is condemned, and what was active stays until the right bytes come.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/web.sh
. "$(dirname "$0")/../lib/web.sh"
need_nginx
repository
seg() { # N: release N of seg, with files of the same names and lengths as those of det
	mkdir -p "$W/seg-src$1"
	gen raw 400K "5$1" "$W/seg-src$1/weights.bin"
	gen raw 5000 "5$1" "$W/seg-src$1/small.bin"
	(cd "$W/seg-src$1" && id=seg pack "1.$1.0" "$1" "$W/seg$1" weights.bin small.bin)
	"$modelpub" publish "$W/repo" "$W/seg$1" --keys "$W/keys" >>"$W/log" 2>&1 || fail "modelpub publish seg"
}
for v in 1 2 3; do release "$v"; done
publish 1
seg 1
chmod 0755 "$W"
origin=$(port_free) mirror=$(port_free)
web_start "server { listen 127.0.0.1:$origin; root $W/repo; } server { listen 127.0.0.1:$mirror; root $W/mirror; }"
follow "http://127.0.0.1:$origin" "\"http://127.0.0.1:$mirror\""
mount_
update_ || [ $? = 2 ] || fail "update: exit $?"
shows 1
publish 2
seg 2

# Where the blobs of a bundle lie, in the order of its manifest: payload, table, payload, ...
blobs_of() { jq -r '.files[] | .sha256, (.chunks_sha256 // empty)' "$1/manifest.json" | while read -r h; do echo "blobs/sha256/${h:0:2}/$h/00000"; done; }
# disguise BUNDLE: the mirror has this bundle's blobs under the names of those of release 2.
disguise() {
	local as is to=$W/mirror-${1##*/}
	paste -d' ' <(blobs_of "$W/b2") <(blobs_of "$1") | while read -r as is; do
		mkdir -p "$to/${as%/*}"
		cp "$W/repo/$is" "$to/$as"
	done
	[ "$(find "$to" -type f | wc -l)" -ge 3 ] || fail "no disguise: $(find "$to")"
	ln -s "${to##*/}" "$W/mirror.new" && mv -T "$W/mirror.new" "$W/mirror" # at once: a download may be under way
}
asked() { web_logged; grep -c "^$1 .*/blobs/" "$W/web.log" || true; }
innocent() {
	[ "$(cycle_ .refused)" = null ] || fail "refused: $(cycle_ .refused)"
	! "$modelfs" events -c "$CFG" det | grep -E "known_bad|malformed|signature_invalid|key_untrusted" || fail "condemned"
}

step "another model's blobs, and an older release's, from a mirror without an alternative"
follow_only() { sed -i "s#mirrors: .*#mirrors: [{url: \"http://127.0.0.1:$mirror\", only: true}]}}#" "$CFG"; }
unmount_
cp "$CFG" "$W/both.yaml"
follow_only
mount_
for other in seg2 b1; do
	disguise "$W/$other"
	fresh_serve # which has no grudge against the mirror
	web_log_begin
	expect 3 "hash_mismatch" "$modelfs" update -c "$CFG" det
	[ "$(asked "$mirror")" -gt 0 ] && [ "$(asked "$origin")" = 0 ] || fail "asked: $(cat "$W/web.log")"
	next_is "1.2.0 download hash_mismatch" || fail "$(cycle_ .)"
	shows 1
	innocent
done
event 1.2.0 12
unmount_

step "and from a mirror with one: the repository is asked"
cp "$W/both.yaml" "$CFG"
web_log_begin
mount_ # and what waits for its next try may go on at once
brings 2
[ "$(asked "$mirror")" -gt 0 ] && [ "$(asked "$origin")" -gt 0 ] || fail "asked: $(cat "$W/web.log")"
innocent

step "another model's or version's file for each that the metadata names"
publish 3
seg 3
cp -a "$W/repo" "$W/true"
newest() { # FOLDER PATTERN: name of the newest such file in it
	find "$W/true/$1" -maxdepth 1 -name "$2" -printf '%T@ %P\n' | sort -n | tail -n 1 | cut -d' ' -f 2
}
# swapped FILE OTHER: the server has OTHER's bytes under FILE's name. What was swapped before is right again only then:
# after a failure modelfs asks by itself, at a time that nobody knows here, and never is all of it right.
wrong=
put_right() { [ -z "$wrong" ] || { cp "$W/true/$wrong" "$W/right" && mv "$W/right" "$W/repo/$wrong"; }; }
swapped() {
	[ -f "$W/true/$1" ] && [ -f "$W/true/$2" ] || fail "no such files: $1 $2"
	! cmp -s "$W/true/$1" "$W/true/$2" || fail "$1 and $2 are the same"
	cp "$W/true/$2" "$W/other"
	mv "$W/other" "$W/repo/$1"
	[ "$wrong" = "$1" ] || put_right
	wrong=$1
	rc=0
	"$modelfs" update -c "$CFG" det >"$W/said" 2>&1 || rc=$?
	cat "$W/said" >>"$W/log"
	[ "$rc" = 3 ] || [ "$rc" = 4 ] || fail "$2 as $1: exit $rc: $(cat "$W/said")"
	grep -qE 'hash_mismatch|metadata_signature_invalid|malformed|limit_exceeded|rollback_attempt' "$W/said" || fail "$2 as $1: no outcome: $(cat "$W/said")"
	shows 2
	innocent
	echo "  $2: $(grep -oE 'hash_mismatch|metadata_signature_invalid|malformed|limit_exceeded|rollback_attempt' "$W/said" | head -n 1)"
}
# In the order in which they are asked for: what was taken once is not fetched again.
role() { (cd "$W/true/metadata" && printf '%s\n' *".$1.json" | sort -n | tail -n 1); }
policies=$(cd "$W/true" && ls -t targets/det/*.policy.json)
t=targets/det/1.3.0/default
swapped "metadata/$(role snapshot)" metadata/1.snapshot.json
swapped "metadata/$(role policy.det)" "metadata/$(role policy.seg)"
swapped "metadata/$(role policy.det)" metadata/1.policy.det.json
swapped "$(head -n 1 <<<"$policies")" "targets/seg/$(newest targets/seg '*.policy.json')"
swapped "$(head -n 1 <<<"$policies")" "$(tail -n 1 <<<"$policies")"
swapped "metadata/$(role release.det)" "metadata/$(role release.seg)"
swapped "metadata/$(role release.det)" metadata/1.release.det.json
for from in targets/seg/1.3.0/default targets/det/1.1.0/default; do
	for what in manifest.json signature.sig; do
		swapped "$t/$(newest "$t" "*.$what")" "$from/$(newest "$from" "*.$what")"
	done
done

step "honest again"
put_right
brings 3
unmount_
