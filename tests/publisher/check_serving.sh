#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A repository is served, killed and shared while it changes: one line per property, "ok NAME" or "not ok NAME".
#
#	MODELPUB=build/modelpub tests/publisher/check_serving.sh [NAME...]
. "$(dirname "$0")/lib.sh"
. "$top/tests/publisher/repo.sh"

calls_of() { "$B/cutcalls" 0 "$MODELPUB" "$@" 2>&1 >/dev/null | tail -n 1; } # COMMAND...: of modelpub
new_client() { # DIR
	mkdir "$1"
	"$B/tuf-client" --metadata-dir "$1" init "$W/K/root.json"
}
modes() { find "$1" -mindepth 1 -printf '%y %m\n' | sort -u | tr '\n' ' '; } # what there is of files and folders
# numbers_once DIR: each version of a role has one content, of all that was seen (in the file `numbers`).
numbers_once() {
	touch numbers
	(cd "$1/metadata" && sha256sum [0-9]*.json) | cat - numbers | sort -u >numbers.new
	mv numbers.new numbers
	[ "$(awk '{print $2}' numbers | sort | uniq -d)" = "" ] || say_fail "used twice: $(awk '{print $2}' numbers | sort | uniq -d)"
}
client_policies() { # DIR: what the client takes of the policies
	"$B/tuf-client" --metadata-dir "$1" --metadata-url "file://$PWD/REPO/metadata/" --target-name det/policy.json \
		--target-name seg/policy.json --target-dir "$1" --target-base-url "file://$PWD/REPO/targets/" download
}
policy_sequence() { # REPO ID
	modelpub export "$1" "$1.x" --quiet >/dev/null
	grep -ho '"sequence":[0-9]*' "$1.x/targets/$2"/*.policy.json | cut -d: -f2 | sort -n | tail -n 1
	rm -rf "$1.x"
}
older_is_told() { # STATE KEYS: whatever signs upon it says what to do, and the record stays
	local warning='WARNING: REPO: timestamp version [0-9]+, but .*seen\..*a backup.*devices that know.*bring metadata/.*--restored'
	cat "$2"/seen.*.json >record
	told() {
		rm -rf UP ST
		copy "$1" REPO
		shift
		expect 0 "$warning" modelpub "$@"
		cat "$keys"/seen.*.json | cmp record - || say_fail "the record after $*"
	}
	keys=$2
	told "$1" publish REPO "$(bundle 3)" --keys "$2" --quiet
	told "$1" revoke REPO det 1.1.0 --action stop --keys "$2"
	told "$1" rollout REPO det --rollout 1.1.0 --percent 50 --keys "$2"
	told "$1" refresh REPO --keys "$2"
	told "$1" publish REPO "$(bundle 3)" --keys "$2" --out UP
	told "$1" metadata stage REPO ST --renew policy.det --keys "$2"
	rm -rf UP ST
}
helpers_end
fixture 1 2 3

# ---- killed -----------------------------------------------------------------------------------------------

# The old key is gone, so it cannot sign along: the new root comes first.
rotation_without_the_old_key_may_be_killed_at_every_call() {
	local role n calls rc
	for role in timestamp snapshot; do
		copy "$W/R1" REPO
		copy "$W/K" K
		rm K/$role.pem
		calls=$(calls_of rotate REPO $role --keys K)
		n=0
		while [ $((n += 1)) -le "$calls" ]; do
			copy "$W/R1" REPO
			copy "$W/K" K
			rm K/$role.pem
			rc=0
			"$B/cutcalls" "$n" "$MODELPUB" rotate REPO $role --keys K >/dev/null 2>&1 || rc=$?
			[ $rc -eq 137 ] || [ $rc -eq 0 ] || say_fail "$role, call $n: exit $rc"
			# whatever command comes next, by whomever: it needs no key
			rc=0
			modelpub gc REPO >said 2>&1 || rc=$?
			[ $rc -eq 0 ] || [ $rc -eq 2 ] || say_fail "$role, after call $n of $calls: exit $rc: $(cat said)"
			now_new_or_old REPO || say_fail "$role, call $n of $calls"
			modelpub rotate REPO $role --keys K >said 2>&1 || say_fail "$role, again after call $n: $(cat said)"
			now_new_or_old REPO
			rm -rf dev
			new_client dev
			client dev
		done
	done
}

a_reader_is_told_of_an_interrupted_rotation() {
	fresh
	copy "$W/K" K
	rm K/timestamp.pem
	local n=0 rc
	# the call before the last one that matters: the new root is there, its timestamp is not
	while [ $((n += 1)) -le 60 ]; do
		copy "$W/R1" REPO
		rc=0
		"$B/cutcalls" "$n" "$MODELPUB" rotate REPO timestamp --keys K >/dev/null 2>&1 || rc=$?
		rm -f K/timestamp*.pem
		[ ! -e REPO/metadata/2.root.json ] || break
	done
	expect 3 'metadata_signature_invalid.*interrupted.*refresh' modelpub export REPO X
	# what is beside it counts only by the keys of the new root
	cp "$W/R1/metadata/timestamp.json" REPO/metadata/.timestamp.json.new
	expect 3 'metadata_signature_invalid' modelpub gc REPO
}

init_may_be_killed_at_every_call() {
	local n=0 calls rc
	copy "$W/K" K
	rm K/root.json
	calls=$(calls_of init REPO --keys K --trust "$W/release.pub.pem")
	[ "$calls" -gt 10 ]
	while [ $((n += 1)) -le "$calls" ]; do
		rm -rf REPO K
		copy "$W/K" K
		rm K/root.json
		rc=0
		"$B/cutcalls" "$n" "$MODELPUB" init REPO --keys K --trust "$W/release.pub.pem" >/dev/null 2>&1 || rc=$?
		[ $rc -eq 137 ] || [ $rc -eq 0 ] || say_fail "call $n: exit $rc"
		rc=0
		modelpub init REPO --keys K --trust "$W/release.pub.pem" >said 2>&1 || rc=$?
		if [ $rc -ne 0 ]; then
			grep -q 'is a repository already' said || say_fail "again after call $n: exit $rc: $(cat said)"
		fi
		ok REPO
		modelpub publish REPO "$(bundle 1)" --keys K >/dev/null
		ok REPO --root REPO/metadata/1.root.json
	done
}

a_number_that_an_interrupted_change_used_is_not_used_again() {
	local n=0 calls
	copy "$W/R1" REPO
	calls=$(calls_of publish REPO "$(bundle 2)" --keys "$W/K" --quiet)
	while [ $((n += 2)) -le "$calls" ]; do
		copy "$W/R1" REPO
		rm -f numbers
		"$B/cutcalls" "$n" "$MODELPUB" publish REPO "$(bundle 2)" --keys "$W/K" --quiet >/dev/null 2>&1 || true
		numbers_once REPO
		modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop >/dev/null
		numbers_once REPO || say_fail "call $n of $calls"
	done
	ok REPO
}

an_upload_brings_a_new_root_last_or_ready() {
	local n calls rc
	for old in with without; do
		fresh
		copy "$W/K" K
		[ $old = with ] || rm K/timestamp.pem
		rm -rf UP
		modelpub rotate REPO timestamp --keys K --out UP
		calls=$(calls_of metadata commit REPO UP)
		n=0
		while [ $((n += 1)) -le "$calls" ]; do
			fresh
			"$B/cutcalls" "$n" "$MODELPUB" metadata commit REPO UP >/dev/null 2>&1 || true
			[ $old = without ] || now_new_or_old REPO # at this moment
			rc=0
			modelpub gc REPO >said 2>&1 || rc=$?
			[ $rc -eq 0 ] || [ $rc -eq 2 ] || say_fail "$old, after call $n of $calls: $(cat said)"
			now_new_or_old REPO
			rc=0
			modelpub metadata commit REPO UP >said 2>&1 || rc=$?
			[ $rc -eq 0 ] || grep -q 'rebase' said || say_fail "$old, again after call $n: $(cat said)"
			now_new_or_old REPO
		done
	done
}

# ---- an older state ------------------------------------------------------------------------------------------

# A backup is restored, or a copy goes the wrong way: it verifies, and is signed upon with versions that devices know.
a_repository_that_was_set_back_is_noticed() {
	fresh
	copy "$W/K" K
	copy REPO OLD
	modelpub publish REPO "$(bundle 2)" --keys K
	copy REPO NEW
	ok OLD # it verifies
	older_is_told OLD K
	# the timestamp alone, as a cache or a sync that was cut off leaves it
	copy NEW CUT
	cp OLD/metadata/timestamp.json CUT/metadata/
	older_is_told CUT K
	# what is as new, or newer by other hands, is fine
	copy NEW REPO
	modelpub refresh REPO --keys K
	mkdir elsewhere
	cp K/*.pem K/root.json elsewhere/
	modelpub refresh REPO --keys elsewhere
	modelpub rollout REPO det --rollout 1.2.0 --percent 50 --keys K
	# the same number, signed twice: devices have seen the one or the other
	copy REPO ONE
	modelpub refresh REPO --keys K
	copy ONE REPO
	expect 0 'WARNING.*a newer one' modelpub refresh REPO --keys K
	copy ONE REPO
	sleep 1.1
	modelpub refresh REPO --keys elsewhere
	expect 0 'WARNING.*another one of that version' modelpub refresh REPO --keys K
	modelpub refresh REPO --keys K 2>said
	[ ! -s said ]
	# another repository with the same folder of keys is another one
	modelpub init OTHER --keys K --trust "$W/release.pub.pem"
	modelpub publish OTHER "$(bundle 1)" --keys K --root OTHER/metadata/1.root.json
}

what_was_seen_is_kept_whole_or_told() {
	fresh
	copy "$W/K" K
	modelpub refresh REPO --keys K
	seen=$(echo K/seen.*.json)
	[ -f "$seen" ]
	echo '{"format":"other"}' >"$seen"
	expect 3 'malformed: K/seen\..*not a record.*remove this file' modelpub refresh REPO --keys K
	head -c 20 /dev/urandom >"$seen"
	expect 3 'malformed: .*K/seen\..*remove this file' modelpub refresh REPO --keys K
	rm "$seen"
	modelpub refresh REPO --keys K
	[ -f "$seen" ]
	# a folder of keys that cannot be written is no reason not to sign
	if [ "$(id -u)" = 0 ] && mkdir ro && mount --bind K ro 2>/dev/null && mount -o remount,bind,ro ro 2>/dev/null; then
		rc=0
		modelpub refresh REPO --keys ro >said 2>&1 || rc=$?
		umount ro
		[ $rc = 0 ] || say_fail "$(cat said)"
		grep -q 'not kept beside the keys.*ead-only' said || say_fail "$(cat said)"
	fi
}

# Nothing newer is left anywhere but in devices: they go on with what is signed then.
a_state_that_was_lost_is_gone_on_from() {
	fresh
	copy "$W/K" K
	copy REPO OLD
	modelpub publish REPO "$(bundle 2)" --keys K --percent 10
	modelpub revoke REPO det 1.1.0 --action stop --keys K
	modelpub pack --id seg --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out seg "$W/release.id" >/dev/null
	modelpub publish REPO seg --keys K
	new_client dev
	client dev
	client_policies dev
	numbers_once REPO
	sequence=$(policy_sequence REPO det)
	older_is_told OLD K
	copy OLD REPO
	# not without the keys of what has changed
	mkdir few
	cp K/root.json K/seen.*.json K/timestamp.pem K/snapshot.pem few/
	expect 4 'key_unavailable' modelpub refresh REPO --restored --keys few
	listing OLD >before
	listing REPO | cmp before -
	expect 0 'goes on from an older state' modelpub refresh REPO --restored --keys K
	ok REPO --root K/root.json
	numbers_once REPO
	[ "$(policy_sequence REPO det)" -gt "$sequence" ] || say_fail "sequence $(policy_sequence REPO det), was $sequence"
	client dev
	client_policies dev
	# from here on as ever
	modelpub publish REPO "$(bundle 2)" --keys K
	modelpub publish REPO seg --keys K
	numbers_once REPO
	client dev
	ok REPO --full
	expect 0 'refreshed' modelpub refresh REPO --restored --keys K
	# a new root cannot be made again
	copy REPO OLD
	modelpub rotate REPO timestamp --keys K
	copy OLD REPO
	expect 0 'WARNING.*a newer' modelpub refresh REPO --keys K
	copy OLD REPO
	expect 3 'rollback_attempt.*bring metadata/2.root.json back' modelpub refresh REPO --restored --keys K
	expect 64 'goes by what' modelpub refresh REPO --restored --key timestamp=K/timestamp.pem
}

# ---- two at a time ------------------------------------------------------------------------------------------

# The kill switch does not wait until a large bundle has been read and copied.
revoke_does_not_wait_for_a_publish() {
	local n=-1 calls rc through=0
	fresh
	calls=$(calls_of publish REPO "$(bundle 2)" --keys "$W/K" --quiet)
	while [ $((n += 2)) -le "$calls" ]; do
		copy "$W/R1" REPO
		rc=0
		CUTCALLS_RUN="timeout 20 '$MODELPUB' revoke REPO det 1.1.0 --keys '$W/K' --action stop >revoked 2>&1; echo \$? >code" \
			"$B/cutcalls" "$n" "$MODELPUB" publish REPO "$(bundle 2)" --keys "$W/K" --quiet >said 2>&1 || rc=$?
		[ $rc -eq 0 ] || say_fail "publish, call $n of $calls: exit $rc: $(cat said)"
		policy | grep -q '1.2.0.*rollout 1.2.0 to 100' || say_fail "call $n: the rollout is lost"
		case $(cat code) in
		0)
			through=$((through + 1))
			policy | grep -q '1.1.0: revoked' || say_fail "call $n: the revocation is lost"
			;;
		4) grep -q 'another modelpub' revoked || say_fail "$(cat revoked)" ;;
		*) say_fail "revoke, call $n: $(cat revoked)" ;;
		esac
	done
	ok REPO --full
	# every call while blobs come in, and those before and after it
	[ "$through" -ge 4 ] || say_fail "only $through of $calls"
}

# What was trusted when the bundle was read may not be any more when it is signed.
a_key_that_goes_while_a_publish_reads_does_not_count() {
	local n=-2 calls rc went=0 id
	modelpub key --out other.pem >/dev/null
	fresh
	modelpub trust REPO other.pub.pem --keys "$W/K" >/dev/null
	id=$(modelpub trust REPO | awk 'NR == 1 {print $1}')
	for k in $(modelpub trust REPO | awk '{print $1}'); do
		[ "$(grep -c "$k" "$(bundle 2)/manifest.json")" = 0 ] || id=$k
	done
	copy REPO BEFORE
	calls=$(calls_of publish REPO "$(bundle 2)" --keys "$W/K" --quiet)
	while [ $((n += 3)) -le "$calls" ]; do
		copy BEFORE REPO
		rc=0
		CUTCALLS_RUN="timeout 20 '$MODELPUB' trust REPO --remove $id --keys '$W/K' >gone 2>&1; echo \$? >code" \
			"$B/cutcalls" "$n" "$MODELPUB" publish REPO "$(bundle 2)" --keys "$W/K" --quiet >said 2>&1 || rc=$?
		[ "$(cat code)" = 0 ] || { [ $rc -eq 0 ] || say_fail "call $n: $(cat said)"; continue; }
		if [ $rc -ne 0 ]; then
			[ $rc -eq 3 ] && grep -q key_untrusted said || say_fail "call $n: exit $rc: $(cat said)"
			went=$((went + 1))
			modelpub check REPO >said || true # 1.1.0 is not trusted any more either
			grep -q '1 version' said || say_fail "call $n: $(cat said)"
		fi
	done
	[ "$went" -ge 3 ] || say_fail "only $went of $calls"
}

two_publishes_do_not_meet() {
	local n=0 calls rc second=0
	fresh
	calls=$(calls_of publish REPO "$(bundle 2)" --keys "$W/K" --quiet)
	while [ $((n += 4)) -le "$calls" ]; do
		copy "$W/R1" REPO
		rc=0
		CUTCALLS_RUN="timeout 20 '$MODELPUB' publish REPO '$(bundle 3)' --keys '$W/K' --quiet >second 2>&1; echo \$? >code" \
			"$B/cutcalls" "$n" "$MODELPUB" publish REPO "$(bundle 2)" --keys "$W/K" --quiet >said 2>&1 || rc=$?
		case $(cat code) in
		0) # 1.3.0 went before it
			second=$((second + 1))
			[ $rc -eq 3 ] && grep -q rollback_attempt said || [ $rc -eq 0 ] || say_fail "call $n: exit $rc: $(cat said)"
			;;
		4) [ $rc -eq 0 ] || say_fail "call $n: exit $rc: $(cat said)" ;;
		*) say_fail "call $n: $(cat second)" ;;
		esac
		ok REPO --full
	done
	rc=0
	CUTCALLS_RUN="timeout 20 '$MODELPUB' gc REPO --grace 0m >second 2>&1; echo \$? >code" \
		"$B/cutcalls" $((calls / 2)) "$MODELPUB" publish REPO "$(bundle 3)" --keys "$W/K" --quiet >said 2>&1 || rc=$?
	[ $rc -eq 0 ] || [ $rc -eq 2 ]
	ok REPO --full
}

nothing_is_collected_under_a_publish() {
	local n=0 calls rc
	fresh
	calls=$(calls_of publish REPO "$(bundle 2)" --keys "$W/K" --quiet)
	while [ $((n += 3)) -le "$calls" ]; do
		copy "$W/R1" REPO
		rc=0
		CUTCALLS_RUN="timeout 20 '$MODELPUB' gc REPO --grace 0m >second 2>&1" \
			"$B/cutcalls" "$n" "$MODELPUB" publish REPO "$(bundle 2)" --keys "$W/K" --quiet >said 2>&1 || rc=$?
		[ $rc -eq 0 ] || say_fail "call $n: exit $rc: $(cat said)"
		ok REPO --full || say_fail "call $n of $calls"
	done
}

# The second one looked while the folder was empty.
two_inits_do_not_mix() {
	local n=0 calls rc
	calls=$(calls_of init REPO --keys K)
	while [ $((n += 1)) -le "$calls" ]; do
		rm -rf REPO K K2
		mkdir REPO
		rc=0
		CUTCALLS_RUN="timeout 20 '$MODELPUB' init REPO --keys K2 >second 2>&1; echo \$? >code" \
			"$B/cutcalls" "$n" "$MODELPUB" init REPO --keys K >said 2>&1 || rc=$?
		ok REPO || say_fail "call $n of $calls: a mixture"
		case $rc$(cat code) in
		00 | 11 | 14 | 44) say_fail "call $n: $rc and $(cat code)" ;;
		0*) cmp REPO/metadata/1.root.json K/root.json ;;
		*0) cmp REPO/metadata/1.root.json K2/root.json ;;
		esac
	done
}

# ---- served ---------------------------------------------------------------------------------------------------

a_umask_does_not_hide_what_is_served() {
	umask 022
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --link
	[ "$(modes REPO)" = "d 755 f 644 " ] || say_fail "$(modes REPO)"
	umask 077
	copy "$(bundle 3)" b
	chmod -R go= b
	modelpub publish REPO b --keys "$W/K" --link
	modelpub refresh REPO --keys "$W/K"
	modelpub pack --id seg --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out seg "$W/release.id" >/dev/null
	modelpub publish REPO seg --keys "$W/K" --out UP
	[ "$(stat -c %a UP)" = 700 ]
	modelpub metadata commit REPO UP
	[ "$(modes REPO)" = "d 755 f 644 " ] || say_fail "$(modes REPO)"
	mkdir SITE
	chmod 755 SITE
	modelpub export REPO SITE
	[ "$(modes SITE)" = "d 755 f 644 " ] || say_fail "$(modes SITE)"
	[ "$(modes b)" = "d 700 f 600 " ] || say_fail "the bundle's modes changed: $(modes b)"
	# a folder that few may read stays theirs
	modelpub init OWN --keys K --trust "$W/release.pub.pem"
	chmod 750 OWN
	modelpub publish OWN "$(bundle 1)" --keys K
	[ "$(find OWN -perm /007 | wc -l)" = 0 ]
	[ "$(stat -c %a OWN/metadata/timestamp.json)" = 640 ]
}

the_timestamp_key_alone_tells_what_nears_its_end() {
	fresh
	modelpub refresh REPO --keys "$W/K" --all --expires policy=10m --expires release=10m --expires targets=10m --expires root=10m
	keys_of cron timestamp
	modelpub refresh REPO --keys cron >said 2>&1
	for role in policy.det release.det targets root; do
		grep -qE "$role expires soon, and was not renewed: " said || say_fail "nothing about $role: $(cat said)"
	done
	absent 'snapshot expires' said
	ok REPO
	# a role that cannot be read is told, and does not keep the timestamp from being renewed
	modelpub refresh REPO --keys "$W/K" --all
	rm "$(find REPO/metadata -name '*.release.det.json' | sort -V | tail -n 1)"
	before=$(version REPO/metadata/timestamp.json)
	expect 0 'release.det cannot be read' modelpub refresh REPO --keys cron
	[ "$(version REPO/metadata/timestamp.json)" = $((before + 1)) ]
	expect 1 'release.det' modelpub refresh REPO --keys "$W/K"
}

what_no_device_takes_is_told() {
	[ -x "$B/shiftclock-modelpub" ] || return 0
	fresh
	modelpub refresh REPO --keys "$W/K" --all --expires targets=1m --expires root=1m
	mkdir bin
	cp "$B/shiftclock-modelpub" bin/modelpub
	printf '\x78\0\0\0\0\0\0\0' >bin/modelpub.clock # two minutes ahead
	keys_of online release policy snapshot timestamp
	expect 0 'targets HAS EXPIRED' bin/modelpub publish REPO "$(bundle 2)" --keys online --root "$W/K/root.json"
	grep -q 'root HAS EXPIRED' "$W/out"
	expect 0 'targets HAS EXPIRED' bin/modelpub revoke REPO det 1.1.0 --keys online --root "$W/K/root.json" --action stop
}

# Caches hold a timestamp for a minute: what it leads to stays, however old the file is.
what_was_let_go_has_its_grace() {
	fresh
	find REPO -exec touch -d '3 days ago' {} +
	listing REPO | grep -v timestamp >before
	stamp=$(stat -c %Z REPO/metadata/1.snapshot.json REPO/metadata/2.snapshot.json 2>/dev/null | sort -n | tail -n 1)
	while [ "$(date +%s)" -le $((stamp + 1)) ]; do sleep 0.2; done
	modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	expect 2 'collected' modelpub gc REPO
	(cd REPO && sha256sum -c --quiet ../before)
	# let go by the change itself, not by the copy that this test made
	for f in $(sed 's/^[^ ]* *//' before | grep -E 'metadata/.*(snapshot|policy.det|release.det)|policy.json'); do
		echo "$(stat -c %Z "REPO/$f") $f"
	done | sort >changed
	[ "$(awk -v s="$stamp" '($1 > s) {n++} END {print n + 0}' changed)" -ge 4 ] || say_fail "$(cat changed)"
	find REPO -name '*.manifest.json' -path '*1.1.0*' -printf '%C@\n' >m
	modelpub rollout REPO det --rollout 1.1.0 --remove --keys "$W/K"
	modelpub gc REPO --keep 1 --keys "$W/K"
	(cd REPO && sha256sum -c --quiet ../before)
	modelpub gc REPO --grace 0m
	[ "$(find REPO -name '*.manifest.json' | wc -l)" = 1 ]
	ok REPO --full
}

# Whatever was uploaded before: each of the four steps is there to be copied, and every folder can be committed.
an_upload_has_its_four_folders() {
	local up mk dev
	openssl rand -out mk.bin 32 && chmod 0600 mk.bin
	pack --version 1.2.0 --release 2 --model-key mk.bin --out b "$W/src" >/dev/null
	mk=$(grep -oE '"model_key_id":"[0-9a-f]{64}"' b/manifest.json | grep -oE '[0-9a-f]{64}')
	dev=$(echo dev-1 | sha256sum | cut -c1-64)
	fresh
	modelpub publish REPO b --keys "$W/K" --out UP
	modelpub metadata commit REPO UP
	# grants alone, a timestamp alone, a policy: all can be uploaded and committed
	mkdir -p "b/grants/$mk" && head -c 113 /dev/urandom >"b/grants/$mk/$dev.hpke"
	modelpub publish REPO b --keys "$W/K" --out UP1
	expect 0 committed modelpub metadata commit REPO UP1
	cmp "b/grants/$mk/$dev.hpke" "REPO/grants/$mk/$dev.hpke"
	modelpub refresh REPO --keys "$W/K" --out UP2
	expect 0 committed modelpub metadata commit REPO UP2
	modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop --out UP3
	expect 0 committed modelpub metadata commit REPO UP3
	ok REPO --full
	for up in UP UP1 UP2 UP3; do
		[ "$(ls $up)" = "$(printf '%s\n' 1-blobs 2-targets 3-metadata 4-timestamp change.json)" ] || say_fail "$(ls $up)"
	done
}

secrets_do_not_come_into_change_json() {
	fresh
	head -c 32 /dev/zero >pin
	echo geheim >pass
	modelpub key --out s.pem --passout file:pass >/dev/null
	modelpub trust REPO s.pub.pem --keys "$W/K" >/dev/null
	modelpub republish REPO det 1.1.0 --as 1.5.0 --sign s.pem --passin file:pass --keys "$W/K" --out UP
	absent 'file:pass' UP/change.json
	modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop --reason 'pkcs11:object=a?pin-value=4711;x=1' --out UP2
	absent 4711 UP2/change.json
	grep -q 'pkcs11:object=a?x=1' UP2/change.json
}

properties
exit $failed
