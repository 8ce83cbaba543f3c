#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# modelpub in the hands of somebody who gets it wrong, on hosts that do not play along: each command says what, where and
# what to do, the repository stays servable, and the next command works. One line per property.
#
#	MODELPUB=build/modelpub tests/publisher/check_newcomer.sh [NAME...]
. "$(dirname "$0")/lib.sh"
. "$top/tests/publisher/repo.sh"

# each FUNCTION: with the arguments of every command that changes the repository REPO; ST is a staged change of it.
each() {
	local f=$1
	$f publish REPO "$(bundle 3)" --quiet
	$f rollout REPO det --rollout 1.2.0 --percent 50
	$f advance REPO det
	$f revoke REPO det 1.1.0 --action stop
	$f republish REPO det 1.1.0 --as 1.5.0 --sign "$W/release.pem"
	$f trust REPO "$W/stranger.pub.pem"
	$f refresh REPO
	$f refresh REPO --all
	$f rotate REPO targets
	$f rotate REPO policy.det
	$f metadata commit REPO ST
	$f gc REPO --keep 1 --grace 0m
}
begin() { # REPO, its keys K, ST: as they were
	copy "$W/R2" REPO
	copy "$W/K2" K
	rm -rf ST
	cp -a "$W/ST" ST
}
key_files() { find "$1" -name '*.pem*' | sort; } # FOLDER
next_works() { # and what is served verifies
	ok REPO || say_fail "after $*"
	modelpub refresh REPO --keys K >next 2>&1 || say_fail "after $*: $(tail -n 1 next)"
}
helpers_end
fixture 1 2 3
copy R1 R2
modelpub publish R2 B2 --keys K --percent 10 >/dev/null || exit 1
rm -f K/seen.*
modelpub metadata stage R2 ST --renew release.det --add-key "policy.det=$W/stranger.pub.pem" --keys K >/dev/null || exit 1
cp -a K K2

# ---- wrong arguments ------------------------------------------------------------------------------------------------

what_gc_dropped_can_still_be_revoked() {
	begin
	modelpub publish REPO "$(bundle 3)" --keys K
	modelpub rollout REPO det --rollout 1.2.0 --remove --keys K
	id=$(sha256sum REPO/targets/det/1.2.0/default/*.manifest.json | cut -d' ' -f1)
	expect 0 'dropped: det/1.2.0' modelpub gc REPO --keep 1 --keys K --grace 0m
	expect 0 'revoked: det 1.2.0: withdraw' modelpub revoke REPO det 1.2.0 --action withdraw --keys K
	modelpub export REPO X
	grep -q '"version":"1.2.0"' X/targets/det/*.policy.json
	# a slip is none, unless the manifest is named
	expect 3 'not_selected: det 9.9.9: not published.*--manifest' modelpub revoke REPO det 9.9.9 --action stop --keys K
	expect 0 'revoked' modelpub revoke REPO det 9.9.9 --manifest "$id" --action stop --keys K
	ok REPO
}

an_export_mixes_with_nothing() {
	begin
	cp -a "$W/src" mine
	listing mine >before
	expect 1 "mine: is not empty, and '.*' is not of a repository; choose" modelpub export REPO mine
	expect 1 "is not of a repository" modelpub export REPO "$(bundle 1)"
	listing mine | cmp before -
	expect 1 'is the repository itself' modelpub export REPO REPO
	expect 1 'is the repository itself, or within' modelpub export REPO REPO/targets
	ln -s REPO alias
	expect 1 'is the repository itself' modelpub export REPO alias
	modelpub init OTHER --keys KO --trust "$W/release.pub.pem"
	mkdir SITE
	mkdir "SITE/System Volume Information" SITE/.Trashes
	modelpub export OTHER SITE
	expect 1 'SITE: holds another repository' modelpub export REPO SITE
	modelpub refresh OTHER --keys KO
	echo hello >SITE/index.html # a site's own
	modelpub export OTHER SITE
	ok SITE
}

what_is_asked_for_and_not_there_is_told() {
	begin
	expect 3 'not_selected: REPO: has no model nope' modelpub check REPO --model det --model nope
	expect 3 'not_selected: REPO: has no model nope' modelpub gc REPO --keep 1 --model nope --keys K
	expect 1 '--key timestmp=.*want root, targets' modelpub refresh REPO --keys K --key timestmp=K/timestamp.pem
	expect 64 '--variant goes with' modelpub rollout REPO det --variant int8
	expect 64 '--auto goes with' modelpub rollout REPO det --rollout 1.2.0 --auto --keys K
	expect 1 'config_invalid: --reason .*one line' modelpub revoke REPO det 1.1.0 --action stop --reason $'a\nb' --keys K
	expect 1 'stage.json: No such file.*want a folder that' modelpub metadata status REPO
	next_works
}

others_keys_are_told_from_ones_own() {
	other() { # ARGUMENT...
		[ "$1" != gc ] || return 0 # needs none
		begin
		expect 3 'not_signed|metadata_signature_invalid: REPO/metadata/1.root.json.*with KO/root.json.*another repository.s keys' \
			modelpub "$@" --keys KO
		expect 4 'key_unavailable: .*the repository does not list them' modelpub "$@" --keys few
		next_works "$@"
	}
	modelpub init OTHER --keys KO
	cp -a KO few
	rm few/root.json
	key_files KO >before
	each other
	key_files KO | cmp before -
}

# By stick, mail or git: what comes back is looked at whole before a byte of the repository changes.
a_change_that_was_damaged_on_its_way_is_refused() {
	begin
	copy "$W/K2" KN
	modelpub publish REPO "$(bundle 3)" --keys K --out UP
	modelpub rotate REPO timestamp --keys KN --out UPR
	modelpub publish REPO "$(bundle 3)" --keys K --stage STP
	listing REPO >before
	damage() { # FOLDER FILE COMMAND...: flipped, and gone
		local dir=$1 f=$2 how
		shift 2
		for how in flip rm; do
			rm -rf CAME
			cp -a "$dir" CAME
			copy "$W/R2" REPO # without blobs that came with the last one
			if [ $how = flip ]; then flip "CAME/$f" "$(($(stat -c %s "CAME/$f") / 2))"; else rm "CAME/$f"; fi
			rc=0
			modelpub metadata commit REPO CAME --keys K >said 2>&1 || rc=$?
			case $how$rc in flip3 | rm3 | rm1) ;; *) say_fail "$f, $how: exit $rc: $(cat said)" ;; esac
			grep -q 'CAME\|weights.bin\|blobs/' said || say_fail "$f, $how: $(cat said)"
			listing REPO | grep -v blobs/ | cmp - <(grep -v blobs/ before) || say_fail "$f, $how: something was written"
			ok REPO
		done
	}
	for f in $(cd UP && find [1-4]-* -type f); do damage UP "$f"; done
	for f in $(cd UPR && find [3-4]-* -type f); do damage UPR "$f"; done
	for f in $(cd STP && find targets 1-blobs -type f); do damage STP "$f"; done
	mkdir UP/3-metadata/blobs
	expect 3 'malformed: UP/3-metadata/blobs: is no part of an upload' modelpub metadata commit REPO UP
	rmdir UP/3-metadata/blobs
	expect 0 committed modelpub metadata commit REPO UP
	ok REPO --full
	begin
	expect 0 committed modelpub metadata commit REPO UPR
	ok REPO --full
	begin
	expect 0 committed modelpub metadata commit REPO STP --keys K
	ok REPO --full
	# what belongs to this machine is not in it, however short it was written
	modelpub refresh REPO --key timestamp=K/timestamp.pem --passi file:geheim --roo "$W/K/root.json" --ou UPS
	absent geheim UPS/change.json
	absent root.json UPS/change.json
	absent UPS UPS/change.json
}

# ---- hosts ------------------------------------------------------------------------------------------------------------

a_repository_that_cannot_be_written_is_told_first() {
	mkdir ro
	mount --bind "$W/R2" ro 2>/dev/null && mount -o remount,bind,ro ro 2>/dev/null || return 0
	read_only() {
		copy "$W/K2" K
		cp -a "$W/ST" ST
		[ "$1" != gc ] || set -- "$@" --model det
		set -- "${@/#REPO/ro}"
		expect 1 'io: .*ro/.*[Rr]ead-only' modelpub "$@" --keys K
		[ "$1" = metadata ] || [ "$1" = gc ] || grep -q 'run this as its owner.*--out' "$W/out"
		key_files K >after
		key_files "$W/K2" | sed "s|$W/K2|K|" | cmp - after
		rm -rf ST
	}
	each read_only || { umount ro; return 1; }
	umount ro
}

a_disk_that_is_full_is_told_and_nothing_else_happens() {
	mkdir full
	mount -t tmpfs -o size=1600k none full 2>/dev/null || return 0
	fills() {
		[ "$1" != gc ] || return 0 # makes room
		find full -mindepth 1 -delete
		cp -a "$W/R2" full/REPO && cp -a "$W/K2" full/K && cp -a "$W/ST" full/ST && rm -f full/K/seen.*
		dd if=/dev/zero of=full/rest bs=4k 2>/dev/null || true
		(
			cd full
			key_files K >"$W/keys.before"
			expect 5 'insufficient_storage: .*No space left.*make room' modelpub "$@" --keys K
			absent 'not kept beside the keys' "$W/out" # what is said is why it failed
			ok REPO
			rm rest
			find REPO K -name '*.new' -o -name '*.pem.??????' >left
			[ ! -s left ] || say_fail "$1 left $(cat left)"
			key_files K | cmp "$W/keys.before" -
			rc=0
			modelpub "$@" --keys K >next 2>&1 || rc=$?
			[ $rc = 0 ] || [ $rc = 2 ] || say_fail "$*: again: exit $rc: $(tail -n 1 next)"
			ok REPO
		)
	}
	each fills || { umount full; return 1; }
	umount full
}

another_modelpub_at_work_is_told() {
	busy() {
		begin
		expect 4 'condition_unmet: REPO: another modelpub.*try again' flock REPO "$MODELPUB" "$@" --keys K
		key_files K >after
		key_files "$W/K2" | sed "s|$W/K2|K|" | cmp - after
		next_works "$@"
	}
	each busy
}

# publish, revoke and rotate at every call: check_repository.sh, check_serving.sh; the others here, at some of them.
a_kill_leaves_the_next_command_working() {
	killed() {
		local n=0 calls rc
		case $1 in publish | revoke) return 0 ;; esac
		begin
		calls=$("$B/cutcalls" 0 "$MODELPUB" "$@" --keys K 2>&1 >/dev/null | tail -n 1)
		[ "$calls" -gt 5 ] || say_fail "$*: $calls calls"
		while [ $((n += 7)) -le "$calls" ]; do
			begin
			rc=0
			"$B/cutcalls" "$n" "$MODELPUB" "$@" --keys K >/dev/null 2>&1 || rc=$?
			[ $rc -eq 137 ] || [ $rc -eq 0 ] || say_fail "$*, call $n: exit $rc"
			ok REPO || say_fail "$*, call $n of $calls"
			rc=0
			modelpub "$@" --keys K >next 2>&1 || rc=$?
			[ $rc -eq 0 ] || [ $rc -eq 2 ] || grep -qE "stage it again|never names two" next ||
				say_fail "$*, again after call $n: exit $rc: $(tail -n 1 next)"
			next_works "$*, call $n"
		done
	}
	each killed
}

properties
exit $failed
