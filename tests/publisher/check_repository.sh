#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A repository by modelpub, from outside: one line per property, "ok NAME" or "not ok NAME". Needs no root.
#
#	MODELPUB=build/modelpub tests/publisher/check_repository.sh [NAME...]
#
# Uses cutcalls and tuf-client beside modelpub, and another implementation of TUF where there is one.
. "$(dirname "$0")/lib.sh"
. "$top/tests/publisher/repo.sh"
client_targets() { # the set is complete for a client, and the wanted version is there with every blob
	mkdir -p t dev
	"$B/tuf-client" --metadata-dir dev init "$W/K/root.json"
	"$B/tuf-client" --metadata-dir dev --metadata-url "file://$PWD/$1/metadata/" --target-name det/policy.json \
		--target-name det/1.3.0/default/manifest.json --target-name seg/policy.json --target-dir t \
		--target-base-url "file://$PWD/$1/targets/" download
}

helpers_end

fixture 1 2 3 4

the_forms_of_the_contract_work() {
	modelpub init REPO --keys KEYDIR
	for k in root targets release policy snapshot timestamp; do [ "$(stat -c %a KEYDIR/$k.pem)" = 600 ]; done
	cmp KEYDIR/root.json REPO/metadata/1.root.json
	expect 0 'NOT checked here' modelpub publish REPO "$(bundle 1)" --keys KEYDIR
	modelpub publish REPO "$(bundle 2)" --keys KEYDIR --percent 10 --match device_class=x
	modelpub revoke REPO det 1.2.0 --keys KEYDIR --action stop
	modelpub revoke REPO det 1.2.0 --keys KEYDIR --action rollback
	modelpub revoke REPO det 1.2.0 --keys KEYDIR --action withdraw
	modelpub refresh REPO --keys KEYDIR
	expect 0 '2 versions' ok REPO --root KEYDIR/root.json
	[ -f "REPO/blobs/sha256/$(sha256sum "$(bundle 1)/payload/weights.bin" | sed 's/^\(..\)\([0-9a-f]*\).*/\1\/\1\2/')/00000" ]
}

public_keys_beside_role_keys_are_trusted_and_shown() {
	mkdir K
	cp "$W/release.pem" "$W/release.pub.pem" K/
	cp "$W/stranger.pub.pem" K/timestamp.pub.pem # named after a role: not a key that signs models
	expect 0 "trusted to sign models: $(cat "$W/release.id")" modelpub init REPO --keys K
	[ "$(grep -c trusted "$W/out")" = 1 ]
	modelpub publish REPO "$(bundle 1)" --keys K 2>said
	absent 'NOT checked' said
	[ "$(modelpub trust REPO --keys K | wc -l)" = 1 ]
}

keys_are_made_once_and_never_overwritten() {
	mkdir K
	modelpub key --out K/snapshot.pem >/dev/null
	rm K/snapshot.pub.pem
	cp K/snapshot.pem kept
	modelpub init REPO --keys K
	cmp kept K/snapshot.pem
	sha256sum K/* >sums
	expect 1 'repository already' modelpub init REPO --keys K
	modelpub init OTHER --keys K
	sha256sum -c --quiet sums
	ok OTHER --root K/root.json
	ok REPO --root K/root.json
	rm K/root.pem
	expect 1 'root.json.*other root keys' modelpub init THIRD --keys K
}

a_bundle_that_devices_would_refuse_is_not_published() {
	fresh
	copy "$(bundle 2)" b
	flip b/payload/weights.bin 1000
	expect 3 'hash_mismatch.*weights.bin' modelpub publish REPO b --keys "$W/K"
	modelpub pack --id det --key "$W/stranger.pem" --version 1.9.0 --release 9 --quiet --out s "$W/src" >/dev/null
	expect 3 'key_untrusted.*modelpub trust' modelpub publish REPO s --keys "$W/K"
	copy "$(bundle 2)" u
	rm u/signature.sig
	expect 3 'signature_invalid' modelpub publish REPO u --keys "$W/K"
	diff -r "$W/R1" REPO
	modelpub trust REPO "$W/stranger.pub.pem" --keys "$W/K"
	modelpub publish REPO s --keys "$W/K"
	expect 2 'nothing to change' modelpub trust REPO "$W/stranger.pub.pem" --keys "$W/K"
	# scope and epoch
	modelpub trust REPO "$W/stranger.pub.pem" --model other --keys "$W/K"
	pack --key "$W/stranger.pem" --version 1.9.1 --release 10 --out t "$W/src"
	expect 0 published modelpub publish REPO t --keys "$W/K"
	expect 3 key_untrusted ok REPO # 1.9.0 is by a key that may not sign det any more
}

without_a_trust_list_an_unsigned_bundle_is_refused_too() {
	modelpub init REPO --keys K
	copy "$(bundle 1)" u
	rm u/signature.sig
	expect 3 signature_invalid modelpub publish REPO u --keys K
	expect 3 '(key_untrusted|signature_invalid)' modelpub publish REPO "$(bundle 1)" --keys K --pub "$W/stranger.pub.pem"
	modelpub publish REPO "$(bundle 1)" --keys K --pub "$W/release.pub.pem" 2>said
	absent 'NOT checked' said
}

names_and_releases_only_go_forward() {
	fresh
	expect 2 'already published' modelpub publish REPO "$(bundle 1)" --keys "$W/K"
	pack --version 1.1.0 --release 1 --out second "$W/src/labels.txt"
	expect 3 'policy_rejected.*never names two' modelpub publish REPO second --keys "$W/K"
	modelpub publish REPO "$(bundle 3)" --keys "$W/K"
	expect 3 'rollback_attempt.*not above release 3' modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	pack --version 1.4.1 --release 3 --out same "$W/src"
	expect 3 'rollback_attempt.*release 3 is 1.3.0' modelpub publish REPO same --keys "$W/K"
	pack --version 1.5.0 --release 1000004 --out jump "$W/src"
	expect 3 'policy_rejected.*slip' modelpub publish REPO jump --keys "$W/K"
	pack --version 1.5.0 --release 1000003 --out most "$W/src"
	modelpub publish REPO most --keys "$W/K"
	# another variant of the same version shares its release; it has no other
	pack --version 1.5.0 --release 1000003 --variant int8 --out v "$W/src"
	modelpub publish REPO v --keys "$W/K" --match class=small
	pack --version 1.5.0 --release 1000004 --variant int4 --out w "$W/src"
	expect 3 'policy_rejected.*share' modelpub publish REPO w --keys "$W/K"
	modelpub pack --id DET --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out upper "$W/src" >/dev/null
	expect 3 'policy_rejected.*ignoring case' modelpub publish REPO upper --keys "$W/K"
	ok REPO
}

a_new_key_epoch_starts_a_new_line_of_releases() {
	fresh
	modelpub trust REPO "$W/stranger.pub.pem" --epoch 2 --keys "$W/K"
	modelpub pack --id det --key "$W/stranger.pem" --key-epoch 2 --version 2.0.0 --release 1 --quiet --out e2 "$W/src" >/dev/null
	modelpub publish REPO e2 --keys "$W/K"
	expect 3 'rollback_attempt.*key epoch' modelpub publish REPO "$(bundle 2)" --keys "$W/K"
}

the_first_bundle_needs_the_targets_key_and_later_ones_do_not() {
	modelpub init REPO --keys K
	keys_of nothing
	cp -r K few
	rm few/targets.pem few/root.pem
	expect 4 'key_unavailable.*delegation.*role targets' modelpub publish REPO "$(bundle 1)" --keys few
	modelpub publish REPO "$(bundle 1)" --keys K
	modelpub publish REPO "$(bundle 2)" --keys few
	rm few/release.pem
	expect 4 'key_unavailable.*role release.det' modelpub publish REPO "$(bundle 3)" --keys few
}

revoke_needs_the_policy_key_and_no_release_key() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	keys_of pager policy snapshot timestamp
	modelpub revoke REPO det 1.2.0 --keys pager --action rollback --to 1.1.0 --otherwise withdraw --reason 'wrong labels'
	policy | grep -q '1.2.0: revoked, rollback to 1.1.0: wrong labels'
	expect 2 'already revoked' modelpub revoke REPO det 1.2.0 --keys pager --action rollback --to 1.1.0 --otherwise withdraw --reason 'wrong labels'
	expect 3 'not published' modelpub revoke REPO det 1.20.0 --keys pager --action stop
	expect 3 'no model' modelpub revoke REPO dte 1.2.0 --keys pager --action stop
	expect 3 'revoked itself' modelpub revoke REPO det 1.1.0 --keys pager --action rollback --to 1.2.0
	expect 64 'rollback' modelpub revoke REPO det 1.2.0 --keys pager --action stop --to 1.1.0
	expect 64 'action' modelpub revoke REPO det 1.2.0 --keys pager
	modelpub revoke REPO det 1.2.0 --keys pager --lift
	policy >p
	absent revoked p
	rm pager/policy.pem
	expect 4 'role policy.det' modelpub revoke REPO det 1.2.0 --keys pager --action stop
	ok REPO --root "$W/K/root.json"
}

refresh_needs_the_timestamp_key_alone() {
	fresh
	keys_of cron timestamp
	before=$(version REPO/metadata/timestamp.json)
	listing REPO | grep -v timestamp.json >others
	modelpub refresh REPO --keys cron
	[ "$(version REPO/metadata/timestamp.json)" = $((before + 1)) ]
	listing REPO | grep -v timestamp.json | cmp - others
	ok REPO
	keys_of wrong snapshot
	mv wrong/snapshot.pem wrong/timestamp.pem
	expect 4 'role timestamp.*does not list them' modelpub refresh REPO --keys wrong
	mkdir none
	expect 4 'key_unavailable.*timestamp.pem' modelpub refresh REPO --keys none
	# by a URI, and by a file with one
	modelpub refresh REPO --key "timestamp=$W/K/timestamp.pem"
	printf 'file:%s\n' "$W/K/timestamp.pem" >none/timestamp.uri
	modelpub refresh REPO --keys none
}

# Web servers name a file by its length and its second: what is published twice in one must differ in it.
each_timestamp_has_a_second_of_its_own() {
	local last=0 now
	fresh
	for _ in 1 2 3; do
		modelpub refresh REPO --keys "$W/K"
		now=$(stat -c %Y REPO/metadata/timestamp.json)
		[ "$now" -gt "$last" ] || say_fail "$now after $last"
		last=$now
	done
	ok REPO
}

refresh_renews_what_nears_its_end_when_the_keys_are_there() {
	fresh
	modelpub refresh REPO --keys "$W/K" --all --expires snapshot=10m --expires policy=10m --expires release=10m
	keys_of cron timestamp
	expect 0 'snapshot expires soon' modelpub refresh REPO --keys cron
	keys_of online timestamp snapshot policy
	expect 0 'release.det expires soon' modelpub refresh REPO --keys online
	grep -q 'renewed: policy.det' "$W/out"
	modelpub refresh REPO --keys "$W/K" >said
	grep -q 'renewed: release.det' said
	modelpub refresh REPO --keys "$W/K" >said
	absent renewed said
	ok REPO
}

lifetimes_of_init_are_kept() {
	days() { # FILE: whole days until it expires
		echo $((($(date -u -d "$(grep -oE '"expires":"[^"]*"' "$1" | cut -d'"' -f4)" +%s) - $(date +%s) + 3600) / 86400))
	}
	newest() { find REPO/metadata -name "*.$1.json" | sort -V | tail -n 1; }
	modelpub init REPO --keys K --trust "$W/release.pub.pem" --expires timestamp=3d --expires policy=60d --expires release=90d
	modelpub publish REPO "$(bundle 1)" --keys K
	[ "$(days REPO/metadata/timestamp.json) $(days "$(newest policy.det)") $(days "$(newest release.det)")" = "3 60 90" ]
	[ "$(days "$(newest snapshot)")" = 7 ]
	# a cron job has the timestamp key alone, and no option
	keys_of cron timestamp
	cp K/timestamp.pem cron/
	modelpub refresh REPO --keys cron
	[ "$(days REPO/metadata/timestamp.json)" = 3 ]
	# what a command is given is of that command
	modelpub refresh REPO --keys cron --expires timestamp=9d
	[ "$(days REPO/metadata/timestamp.json)" = 9 ]
	modelpub refresh REPO --keys cron
	[ "$(days REPO/metadata/timestamp.json)" = 3 ]
	# unless it is to be kept, by who may sign that
	expect 4 'role (targets|snapshot)' modelpub refresh REPO --keys cron --expires timestamp=5d --keep
	expect 64 'what --expires says' modelpub refresh REPO --keys cron --keep
	modelpub refresh REPO --keys K --expires timestamp=5d --keep
	modelpub refresh REPO --keys cron
	modelpub revoke REPO det 1.1.0 --keys K --action stop
	[ "$(days REPO/metadata/timestamp.json) $(days "$(newest policy.det)")" = "5 60" ]
	ok REPO --root K/root.json
	other_tuf REPO/metadata K/root.json det/policy.json
	# it is signed: who may write the folder cannot have a year signed
	sed -i 's/"timestamp":432000/"timestamp":999999999/' "$(newest targets)"
	expect 3 'hash_mismatch|metadata_signature_invalid' modelpub refresh REPO --keys cron
}

expired_metadata_is_told_and_refresh_cures_it() {
	fresh
	expect 4 'metadata_expired.*refresh' ok REPO --time 2099-01-01T00:00:00Z
	modelpub refresh REPO --keys "$W/K" --expires timestamp=1m
	sleep_until_expired=$(date -u -d '+2 minutes' +%Y-%m-%dT%H:%M:%SZ)
	expect 4 'metadata_expired' ok REPO --time "$sleep_until_expired"
	modelpub refresh REPO --keys "$W/K"
	ok REPO --time "$sleep_until_expired"
}

publish_may_be_killed_at_every_call() {
	killed_everywhere publish REPO "$(bundle 2)" --keys K --quiet
	grep -q old seen
	grep -q new seen
	[ "$(tail -n 1 seen)" = new ]
}

revoke_may_be_killed_at_every_call() {
	killed_everywhere revoke REPO det 1.1.0 --keys K --action stop
	policy | grep -q revoked
}

rotation_may_be_killed_at_every_call() {
	for role in timestamp release; do
		killed_everywhere rotate REPO $role --keys K
	done
}

readers_during_a_publish_see_one_state() {
	fresh
	(
		set +e
		while [ ! -e stop ]; do
			modelpub check --quiet --root "$W/K/root.json" REPO >>reads 2>&1 || echo FAILED >>reads
		done
	) &
	reader=$!
	for i in 2 3 4; do
		modelpub publish REPO "$(bundle $i)" --keys "$W/K" --quiet
		modelpub revoke REPO det 1.$i.0 --keys "$W/K" --action stop
		modelpub revoke REPO det 1.$i.0 --keys "$W/K" --lift
		modelpub refresh REPO --keys "$W/K"
	done
	: >stop
	wait $reader
	[ "$(grep -c checked reads)" -gt 0 ]
	if grep -vE '^checked' reads; then return 1; fi
}

two_writers_do_not_meet() {
	fresh
	cat >hold <<-EOF
		touch held; while [ ! -e go ]; do sleep 0.05; done
	EOF
	exec 8<REPO
	flock 8
	expect 4 'condition_unmet.*another modelpub' modelpub refresh REPO --keys "$W/K"
	flock -u 8
	modelpub refresh REPO --keys "$W/K"
}

an_upload_folder_has_four_steps_and_leaves_the_repository_alone() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --out UP
	diff -r "$W/R1" REPO
	[ "$(ls UP)" = "$(printf '%s\n' 1-blobs 2-targets 3-metadata 4-timestamp change.json)" ]
	[ "$(find UP/4-timestamp -type f)" = UP/4-timestamp/metadata/timestamp.json ]
	[ "$(find UP/1-blobs -type f | wc -l)" = 1 ] # what the repository holds is not sent again
	# any copy tool, in order; after each step a client reads the old state or the new one
	for s in 1-blobs 2-targets 3-metadata 4-timestamp; do
		cp -a UP/$s/. REPO/
		now_new_or_old REPO
	done
	[ "$(tr '\n' ' ' <seen)" = "old old old new " ]
	expect 1 'not empty' modelpub refresh REPO --keys "$W/K" --out UP
}

grants_of_a_bundle_come_along() {
	local mk ck dev other
	openssl rand -out mk.bin 32 && chmod 0600 mk.bin
	pack --version 1.2.0 --release 2 --model-key mk.bin --out b "$W/src" >/dev/null
	mk=$(grep -oE '"model_key_id":"[0-9a-f]{64}"' b/manifest.json | grep -oE '[0-9a-f]{64}')
	ck=$(grep -oE '"content_key_id":"[0-9a-f]{64}"' b/manifest.json | grep -oE '[0-9a-f]{64}')
	dev=$(echo dev-1 | sha256sum | cut -c1-64) other=$(echo other | sha256sum | cut -c1-64)
	mkdir -p "b/grants/$mk" "b/grants/$other" "b/grants/$dev"
	head -c 113 /dev/urandom >"b/grants/$mk/$dev.hpke"
	head -c 40 /dev/urandom >"b/grants/$other/$ck.kwp" # a further model key of this model
	head -c 113 /dev/urandom >"b/grants/$other/$dev.hpke"
	head -c 113 /dev/urandom >"b/grants/$dev/$dev.hpke" # of another model
	head -c 40 /dev/urandom >"b/grants/$other/$mk.kwp"
	echo x >"b/grants/$mk/README" && echo x >"b/grants/README" && : >"b/grants/$mk/$other.hpke"
	fresh
	expect 0 '3 grants added' modelpub publish REPO b --keys "$W/K" --percent 5
	[ "$(grep -c 'not copied' "$W/out")" = 5 ]
	(cd REPO && find grants -type f | sort) >have
	printf '%s\n' "grants/$mk/$dev.hpke" "grants/$other/$ck.kwp" "grants/$other/$dev.hpke" | sort | diff - have
	cmp "b/grants/$mk/$dev.hpke" "REPO/grants/$mk/$dev.hpke"
	ok REPO --root "$W/K/root.json"
	# again: nothing; another device later: that alone; one that is there is not replaced
	expect 2 'already published' modelpub publish REPO b --keys "$W/K"
	head -c 113 /dev/urandom >"b/grants/$mk/$mk.hpke"
	cp "b/grants/$mk/$dev.hpke" kept && head -c 113 /dev/urandom >"b/grants/$mk/$dev.hpke"
	expect 0 '1 grant added' modelpub publish REPO b --keys "$W/K"
	grep -q "$mk/$dev.hpke: not copied: the repository has another" "$W/out"
	cmp kept "REPO/grants/$mk/$dev.hpke"
	# an upload takes what the repository lacks, a commit and an export all of it
	fresh
	modelpub publish REPO b --keys "$W/K" --percent 5 --out UP
	[ ! -e REPO/grants ]
	cmp "b/grants/$mk/$mk.hpke" "UP/1-blobs/grants/$mk/$mk.hpke"
	modelpub metadata commit REPO UP
	ok REPO --full
	[ "$(find REPO/grants -type f | wc -l)" = 4 ]
	modelpub export REPO stick
	diff -r REPO/grants stick/grants
	head -c 113 /dev/urandom >"b/grants/$mk/$ck.hpke"
	expect 0 '1 grant added to the upload UP2' modelpub publish REPO b --keys "$W/K" --out UP2
	[ "$(find UP2 -type f | sort)" = "$(printf '%s\n' "UP2/1-blobs/grants/$mk/$ck.hpke" UP2/change.json)" ]
	cp -a UP2/1-blobs/. REPO/
	expect 2 'already published' modelpub publish REPO b --keys "$W/K" --out UP3
	[ ! -e UP3 ]
	# a bundle is not believed: no link is followed
	fresh
	ln -sf /etc/passwd "b/grants/$mk/$dev.hpke"
	expect 3 "malformed.*$dev.hpke: not a regular file" modelpub publish REPO b --keys "$W/K"
	diff -r "$W/R1" REPO
	rm -r b/grants && ln -s "$PWD/stick/grants" b/grants
	expect 3 'malformed.*grants: not a folder' modelpub publish REPO b --keys "$W/K"
}

grant_wraps_what_is_packed_for_a_further_key() {
	local ck new k
	for k in mk new third; do openssl rand -out $k.bin 32 && chmod 0600 $k.bin; done
	key_id() { { printf 'modelfs model key'; cat "$1"; } | sha256sum | cut -d ' ' -f 1; }
	pack --version 1.2.0 --release 2 --model-key mk.bin --out b "$W/src" >/dev/null
	ck=$(grep -oE '"content_key_id":"[0-9a-f]{64}"' b/manifest.json | grep -oE '[0-9a-f]{64}')
	new=grants/$(key_id new.bin)/$ck.kwp
	fresh
	modelpub publish REPO b --keys "$W/K" --no-offer
	cp -a REPO before
	# no key of a role, nothing signed: one file more
	expect 0 '1 grant added' modelpub grant REPO det 1.2.0 --model-key mk.bin --for new.bin
	[ "$(diff -rq before REPO)" = "Only in REPO: grants" ]
	[ "$(cd REPO && find grants -type f)" = "$new" ] && [ "$(stat -c %s "REPO/$new")" = 40 ]
	ok REPO --full
	# RFC 5649, as another implementation has it
	if openssl enc -list 2>/dev/null | grep -q id-aes256-wrap-pad; then
		openssl enc -d -id-aes256-wrap-pad -K "$(od -An -tx1 -v new.bin | tr -d ' \n')" -iv A65959A6 -in "REPO/$new" -out opened 2>/dev/null &&
			[ "$({ printf 'modelfs content key'; cat opened; } | sha256sum | cut -d ' ' -f 1)" = "$ck" ]
	fi
	# the same again, a key that the manifest has: nothing; a damaged one is made anew
	cp "REPO/$new" good
	expect 2 'nothing to add' modelpub grant REPO det 1.2.0 --model-key mk.bin --for new.bin --for mk.bin
	head -c 40 /dev/urandom >"REPO/$new"
	expect 0 '1 grant added' modelpub grant REPO det --model-key mk.bin --for new.bin
	cmp good "REPO/$new"
	# the key of a grant opens it as well; every version of the model, and what does not open is named
	expect 0 'left out: det 1.[0-9].0 ' modelpub grant REPO det --model-key third.bin --model-key new.bin --for third.bin
	[ -f "REPO/grants/$(key_id third.bin)/$ck.kwp" ]
	# an upload takes what is new
	fresh
	modelpub publish REPO b --keys "$W/K" --no-offer
	cp -a REPO before2
	expect 0 '1 grant added: UP' modelpub grant REPO det 1.2.0 --model-key mk.bin --for new.bin --out UP
	diff -r before2 REPO
	[ "$(find UP -type f | sort)" = "$(printf '%s\n' "UP/1-blobs/$new" UP/change.json)" ]
	cmp good "UP/1-blobs/$new"
	modelpub metadata commit REPO UP
	cmp good "REPO/$new"
	# into a bundle, which publish takes along
	expect 0 '1 grant added' modelpub grant b --model-key mk.bin --for new.bin
	cmp good "b/$new"
	expect 2 'nothing to add' modelpub grant b --model-key mk.bin --for new.bin
	modelpub verify --pub "$W/release.pub.pem" b
	# refused
	expect 4 'key_unavailable.*no content key for model key' modelpub grant b --model-key third.bin --for new.bin
	expect 4 'key_unavailable' modelpub grant REPO det 1.2.0 --model-key third.bin --for mk.bin
	expect 3 'not_selected.*has no version 9.9.9' modelpub grant REPO det 9.9.9 --model-key mk.bin --for new.bin
	expect 3 'not_selected.*has no model nothing' modelpub grant REPO nothing --model-key mk.bin --for new.bin
	expect 1 'config_invalid.*32 raw bytes' modelpub grant b --model-key mk.bin --for b/manifest.json
	expect 64 'want --model-key' modelpub grant b --for new.bin
	expect 64 'want REPO' modelpub grant --model-key mk.bin --for new.bin
	expect 64 'for a repository' modelpub grant b --model-key mk.bin --for new.bin --out x
	# a bundle is not believed: no link is followed
	mkdir elsewhere && rm -r b/grants && ln -s "$PWD/elsewhere" b/grants
	expect 1 'io: ' modelpub grant b --model-key mk.bin --for new.bin
	rm b/grants && mkdir b/grants && ln -s "$PWD/elsewhere" "b/${new%/*}"
	expect 1 'io: ' modelpub grant b --model-key mk.bin --for new.bin
	[ -z "$(ls elsewhere)" ]
}

publishing_needs_metadata_and_targets_and_no_blobs() {
	fresh
	rm -r REPO/blobs
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --out UP
	[ "$(find UP/1-blobs -type f | wc -l)" -ge 3 ]
	modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop --out UP2
	[ "$(find UP2/1-blobs)" = UP2/1-blobs ]
	copy "$W/R1" SERVED
	modelpub metadata commit SERVED UP
	ok SERVED --full
}

a_stale_parent_is_refused_and_rebase_signs_anew() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --out UP
	expect 2 'not stale' modelpub rebase REPO UP --keys "$W/K"
	modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop
	listing REPO >before
	expect 4 'condition_unmet.*rebase' modelpub metadata commit REPO UP
	listing REPO | cmp - before
	find UP/1-blobs -type f -printf '%i\n' | sort >inodes
	modelpub rebase REPO UP --keys "$W/K"
	find UP/1-blobs -type f -printf '%i\n' | sort | cmp - inodes # no byte was copied again
	[ ! -e UP.rebased ]
	modelpub metadata commit REPO UP
	policy | grep -q '1.1.0: revoked'
	policy | grep -q '1.2.0.*rollout 1.2.0 to 100'
	ok REPO --full
}

an_offline_root_is_signed_by_two_of_three_holders() {
	fresh
	copy "$W/K" K
	for h in 1 2 3; do mkdir H$h && modelpub key --out H$h/root.pem >/dev/null; done
	modelpub metadata stage REPO S --keys K --add-key root=H1/root.pub.pem --add-key root=H2/root.pub.pem \
		--add-key root=H3/root.pub.pem --threshold root=2 --remove-key "root=$(grep -o '"root":{"keyids":\["[0-9a-f]*' REPO/metadata/1.root.json | grep -oE '[0-9a-f]{64}')"
	diff -r "$W/R1" REPO
	expect 4 '0 of 2 signatures, 1 of 1' modelpub metadata status S
	expect 3 'metadata_signature_invalid' modelpub metadata commit REPO S --keys K
	diff -r "$W/R1" REPO
	cp -r S S1 && rm -r S # it travels
	expect 0 '1 of 2' modelpub metadata sign S1 --keys H1
	expect 0 '1 of 2' modelpub metadata sign S1 --keys H1 # twice is once
	expect 3 'metadata_signature_invalid' modelpub metadata commit REPO S1 --keys K
	cp -r S1 S3
	keys_of stranger
	cp "$W/stranger.pem" stranger/root.pem
	expect 4 'nothing was signed' modelpub metadata sign S3 --keys stranger
	expect 0 '2 of 2.*complete' sh -c "'$MODELPUB' metadata sign S3 --keys H3 | tr '\n' ' '"
	modelpub metadata status S3
	keys_of online snapshot timestamp
	modelpub metadata commit REPO S3 --keys online
	ok REPO --root "$W/K/root.json"
	expect 4 'condition_unmet.*stage it again' modelpub metadata commit REPO S3 --keys online
	# from now on two holders are needed; one alone is not enough
	modelpub metadata stage REPO T --renew root
	modelpub metadata sign T --keys H2
	expect 3 'signature' modelpub metadata commit REPO T --keys online
	modelpub metadata sign T --keys H1
	modelpub metadata commit REPO T --keys online
	ok REPO --root "$W/K/root.json"
	other_tuf REPO/metadata "$W/K/root.json" trust.json det/policy.json
}

a_repository_may_begin_with_an_offline_root() {
	for h in 1 2 3; do mkdir H$h && modelpub key --out H$h/root.pem >/dev/null; done
	modelpub init REPO --keys K --trust "$W/release.pub.pem" --root-pub H1/root.pub.pem --root-pub H2/root.pub.pem \
		--root-pub H3/root.pub.pem --root-threshold 2 --stage S
	[ ! -e K/root.pem ]
	cp H1/root.pub.pem K/ann.pub.pem
	expect 0 'lists no key' modelpub init OTHER --keys K --root-pub K/ann.pub.pem --stage T # a holder signs no models
	modelpub metadata sign S --keys H1
	modelpub metadata sign S --keys H2
	modelpub metadata commit REPO S --keys K
	modelpub publish REPO "$(bundle 1)" --keys K
	ok REPO
}

a_release_is_signed_by_two_holders() {
	fresh
	mkdir H2 && modelpub key --out H2/release.pem >/dev/null
	modelpub metadata stage REPO S --keys "$W/K" --add-key release.det=H2/release.pub.pem --threshold release.det=2
	modelpub metadata sign S --keys H2
	modelpub metadata commit REPO S --keys "$W/K"
	ok REPO
	expect 4 'role release.det: 1 of 2 keys' modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --stage P
	expect 0 '1 version' modelpub check REPO
	expect 4 'release.det.*1 of 2' modelpub metadata status P
	modelpub metadata sign P --keys H2
	keys_of online snapshot timestamp
	modelpub metadata commit REPO P --keys online
	expect 0 '2 versions' modelpub check REPO --full --root "$W/K/root.json"
	policy | grep -q 'rollout 1.2.0 to 100'
}

a_lock_out_cannot_be_staged() {
	fresh
	expect 1 'nobody could sign' modelpub metadata stage REPO S --keys "$W/K" --threshold timestamp=2
	expect 1 'nobody could sign' modelpub metadata stage REPO S --keys "$W/K" --remove-key "timestamp=$(grep -o '"timestamp":{"keyids":\["[0-9a-f]*' REPO/metadata/1.root.json | grep -oE '[0-9a-f]{64}')"
	[ ! -e S ]
}

every_role_rotates_and_a_device_that_was_off_follows() {
	fresh
	copy "$W/K" K
	mkdir dev
	"$B/tuf-client" --metadata-dir dev init "$W/K/root.json"
	client dev
	cp -r dev off
	for role in timestamp snapshot targets root release policy; do
		modelpub rotate REPO $role --keys K
		[ -f K/$role-2.pem ]
		cmp K/$role.pem "$W/K/$role.pem"
		client dev
		ok REPO --root "$W/K/root.json"
	done
	client off
	cmp off/root.json dev/root.json
	# the old keys sign no more
	expect 4 'key_unavailable' modelpub refresh REPO --keys "$W/K" --root K/root.json
	for role in timestamp snapshot targets root release policy; do mv K/$role.pem K/$role.old; done
	modelpub publish REPO "$(bundle 2)" --keys K
	ok REPO --root "$W/K/root.json"
	modelpub rotate REPO timestamp --keys K
	[ -f K/timestamp-3.pem ]
	other_tuf REPO/metadata "$W/K/root.json" det/policy.json det/1.2.0/default/manifest.json
}

a_lost_key_is_rotated_without_it() {
	fresh
	copy "$W/K" K
	rm K/timestamp.pem K/snapshot.pem K/targets.pem K/policy.pem
	expect 4 key_unavailable modelpub refresh REPO --keys K
	for role in timestamp snapshot targets policy; do modelpub rotate REPO $role --keys K; done
	modelpub revoke REPO det 1.1.0 --keys K --action stop
	ok REPO --root "$W/K/root.json"
	mkdir dev
	"$B/tuf-client" --metadata-dir dev init "$W/K/root.json"
	client dev
}

a_failed_rotation_leaves_no_key_behind() {
	fresh
	copy "$W/K" K
	rm K/root.pem
	ls K/*.pem >before
	expect 4 'role root' modelpub rotate REPO timestamp --keys K
	ls K/*.pem | cmp - before
	expect 1 'no such role' modelpub rotate REPO release.nothing --keys K
	ls K/*.pem | cmp - before
}

tampered_metadata_is_not_signed_again() {
	fresh
	cp REPO/metadata/1.release.det.json kept
	sed -i 's/"length":[0-9]*/"length":7/' REPO/metadata/1.release.det.json
	expect 3 'metadata_signature_invalid' modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	cp kept REPO/metadata/1.release.det.json
	p=$(find REPO/targets/det -name '*.policy.json')
	sed -i 's/"fraction":10000/"fraction":00100/' "$p"
	expect 3 'hash_mismatch' modelpub revoke REPO det 1.1.0 --keys "$W/K" --action stop
	fresh
	modelpub init EVIL --keys EK >/dev/null
	cp EVIL/metadata/1.root.json REPO/metadata/1.root.json
	expect 3 'metadata_signature_invalid' modelpub refresh REPO --keys "$W/K"
	fresh
	cp REPO/metadata/timestamp.json old
	modelpub refresh REPO --keys "$W/K" --all
	rm REPO/metadata/*.snapshot.json
	expect 1 'snapshot' modelpub refresh REPO --keys "$W/K"
}

rollouts_climb_only_when_confirmed() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --steps 1,10@0m,100@2d
	policy | grep -q '1.2.0 to 1.00 %, step 1 of 3'
	keys_of pager policy snapshot timestamp
	expect 4 'condition_unmet.*exit code 1' modelpub advance REPO det --if 'false' --keys pager
	policy | grep -q 'step 1 of 3'
	expect 0 'to 10.00 %, step 2 of 3' modelpub advance REPO det --keys pager \
		--if "test \$MODELFS_MODEL/\$MODELFS_VERSION/\$MODELFS_RELEASE/\$MODELFS_ROLLOUT/\$MODELFS_STEP/\$MODELFS_FRACTION = det/1.2.0/2/1.2.0/2/1000"
	modelpub advance REPO det --keys pager
	policy | grep -q 'to 10.00 %, step 2 of 3; next 100.00 % after' # confirmed, and not yet due
	expect 2 'no step waits' modelpub advance REPO det --keys pager
	salt=$(grep -o '"salt":"[0-9a-f]*"' REPO/targets/det/*policy.json | sed 's/.*://' | sort | uniq -c | sort -n | tail -n 1)
	modelpub rollout REPO det --rollout 1.2.0 --percent 5 --keys pager
	grep -q "$(echo "$salt" | grep -oE '"[0-9a-f]+"')" "$(ls -t REPO/targets/det/*policy.json | head -n 1)" # the same devices
	modelpub rollout REPO det --rollout 1.2.0 --remove --keys pager
	policy >p
	absent 'rollout 1.2.0' p
	modelpub rollout REPO det --version 1.2.0 --match region=eu --match region=us --keys pager
	policy | grep -q 'of region=eu|us'
	expect 3 'no rollout' modelpub rollout REPO det --rollout nothing --percent 5 --keys pager
	modelpub rollout REPO det --min-release 2 --enforce withdraw --keys pager
	expect 3 'only rises' modelpub rollout REPO det --min-release 1 --keys pager
	ok REPO
}

a_policy_that_changed_while_the_condition_ran_is_not_advanced() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" --percent 10
	expect 4 'changed while' modelpub advance REPO det --keys "$W/K" \
		--if "'$MODELPUB' revoke REPO det 1.2.0 --keys '$W/K' --action stop"
	policy | grep -q '1.2.0 to 10.00 %'
}

republish_brings_old_files_forward() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	find REPO/blobs -type f | sort >before
	expect 3 'key_untrusted' modelpub republish REPO det 1.1.0 --as 1.2.1 --sign "$W/stranger.pem" --keys "$W/K"
	expect 3 'never names two' modelpub republish REPO det 1.1.0 --as 1.2.0 --release 2 --sign "$W/release.pem" --keys "$W/K"
	expect 3 'rollback_attempt' modelpub republish REPO det 1.1.0 --as 1.2.1 --release 2 --sign "$W/release.pem" --keys "$W/K"
	modelpub republish REPO det 1.1.0 --as 1.2.1 --sign "$W/release.pem" --keys "$W/K"
	find REPO/blobs -type f | sort | cmp - before
	ok REPO --full
	policy | grep -q 'det 1.2.1 (default), release 3: rollout 1.2.1 to 100'
	a=$(find REPO/targets/det/1.2.1 -name '*.manifest.json')
	b=$(find REPO/targets/det/1.1.0 -name '*.manifest.json')
	[ "$(grep -o '"files":.*' "$a" | sed 's/"key_.*//')" = "$(grep -o '"files":.*' "$b" | sed 's/"key_.*//')" ]
}

export_makes_a_repository_of_its_own() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	modelpub pack --id seg --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out seg "$W/release.id" >/dev/null
	modelpub publish REPO seg --keys "$W/K"
	modelpub export REPO STICK
	ok STICK --full --root "$W/K/root.json"
	expect 0 '0 blobs copied' modelpub export REPO STICK
	modelpub publish REPO "$(bundle 3)" --keys "$W/K"
	expect 0 '1 blob copied' modelpub export REPO STICK
	ok STICK --full
	modelpub export REPO SITE --model det --version 1.3.0
	[ "$(find SITE/targets -name '*.manifest.json')" = "$(cd REPO && find targets/det/1.3.0 -name '*.manifest.json' | sed 's/^/SITE\//')" ]
	client_targets SITE
	expect 3 'rollback_attempt' modelpub export "$W/R1" STICK
	expect 3 'no model nothing' modelpub export REPO X --model nothing
	x=$(find REPO/blobs -type f -size +200k | head -n 1)
	flip "$x" 5
	expect 3 'hash_mismatch' modelpub export REPO FRESH
}

gc_removes_only_what_nothing_refers_to() {
	fresh
	for i in 2 3; do modelpub publish REPO "$(bundle $i)" --keys "$W/K"; done
	mkdir -p "REPO/blobs/sha256/00/$(printf '0%.0s' {1..64})" REPO/blobs/sha256/aa/.junk.new REPO/targets/own
	echo x >"REPO/blobs/sha256/00/$(printf '0%.0s' {1..64})/00000"
	echo own >REPO/metadata/README.txt
	echo own >REPO/targets/own/file
	: >REPO/metadata/.timestamp.json.new
	modelpub export REPO WHOLE
	listing WHOLE >whole
	modelpub gc REPO --dry-run --grace 0m >said
	listing REPO >before
	grep -q 'would remove: blobs/sha256/00/0000' said
	expect 0 'collected' modelpub gc REPO --grace 0m
	[ ! -e REPO/blobs/sha256/00 ]
	[ ! -e REPO/blobs/sha256/aa/.junk.new ]
	[ ! -e REPO/metadata/.timestamp.json.new ]
	[ -f REPO/metadata/README.txt ]
	[ -f REPO/targets/own/file ]
	(cd REPO && sha256sum -c --quiet ../whole)
	ok REPO --full
	expect 2 'collected' modelpub gc REPO --grace 0m
	if [ -x "$B/shiftclock-modelpub" ]; then # without a grace nothing is too young, whatever time it was when gc began
		mkdir bin
		cp "$B/shiftclock-modelpub" bin/modelpub
		printf '\xf6\xff\xff\xff\xff\xff\xff\xff' >bin/modelpub.clock # ten seconds behind
		mkdir -p "REPO/blobs/sha256/00/$(printf '0%.0s' {1..64})"
		echo x >"REPO/blobs/sha256/00/$(printf '0%.0s' {1..64})/00000"
		expect 0 'collected' bin/modelpub gc REPO --grace 0m
		[ ! -e REPO/blobs/sha256/00 ]
	fi
	# what is young may be in somebody's hands
	modelpub refresh REPO --keys "$W/K" --all
	expect 2 'collected' modelpub gc REPO
	# old versions go, but none that the policy names
	modelpub revoke REPO det 1.3.0 --action rollback --to 1.1.0 --keys "$W/K"
	expect 2 'would remove' modelpub gc REPO --keep 1 --dry-run --keys "$W/K"
	modelpub rollout REPO det --rollout 1.2.0 --remove --keys "$W/K"
	expect 0 'would drop: det/1.2.0' modelpub gc REPO --keep 1 --dry-run --keys "$W/K"
	expect 0 'dropped: det/1.2.0/default' modelpub gc REPO --keep 1 --keys "$W/K" --grace 0m
	ok REPO --full
	find REPO/targets -name '*.manifest.json' >left
	[ "$(wc -l <left)" = 2 ]
	absent 1.2.0 left
}

# Devices know what a version was for ever; so does the repository, when nothing else of it is left.
a_name_that_was_collected_stays_taken() {
	fresh
	for i in 2 3; do modelpub publish REPO "$(bundle $i)" --keys "$W/K"; done
	modelpub rollout REPO det --rollout 1.2.0 --remove --keys "$W/K"
	modelpub rollout REPO det --rollout 1.1.0 --remove --keys "$W/K" || true
	expect 0 'dropped: det/1.1.0/default' modelpub gc REPO --keep 1 --keys "$W/K" --grace 0m
	[ "$(find REPO/targets -name '*.manifest.json' | wc -l)" = 1 ]
	pack --version 1.1.0 --release 9 --out again "$W/src/labels.txt"
	expect 3 'policy_rejected: det 1.1.0: was published as release 1,.*new --version' modelpub publish REPO again --keys "$W/K"
	expect 3 'policy_rejected.*release 2,.*new --version' \
		modelpub republish REPO det 1.3.0 --as 1.2.0 --sign "$W/release.pem" --keys "$W/K"
	# also once more was published and collected, and over a rotation of the role's key
	pack --version 1.4.0 --release 4 --out four "$W/src/labels.txt"
	modelpub publish REPO four --keys "$W/K"
	copy "$W/K" K
	modelpub rotate REPO release.det --keys K
	modelpub gc REPO --keep 1 --keys K --grace 0m || [ $? -eq 2 ]
	expect 3 'policy_rejected.*release 1,' modelpub publish REPO again --keys K
	pack --version 1.1.1 --release 9 --out other "$W/src/labels.txt"
	modelpub publish REPO other --keys K
	ok REPO --full
	other_tuf REPO/metadata "$W/K/root.json" det/1.1.1/default/manifest.json
}

check_finds_what_is_missing_or_wrong() {
	fresh
	ok REPO --full
	x=$(find REPO/blobs -type f -size +200k | head -n 1)
	flip "$x" 77
	ok REPO
	expect 3 'hash_mismatch' ok REPO --full
	truncate -s -1 "$x"
	expect 3 'hash_mismatch.*signed' ok REPO
	rm -r "$(dirname "$x")"
	expect 3 'problem: hash_mismatch.*weights.bin.*missing' ok REPO
	modelpub publish REPO "$(bundle 2)" --keys "$W/K" # shares the blob: it is brought back
	ok REPO --full
	rm REPO/targets/det/1.1.0/default/*signature.sig
	expect 4 'problem: .*signature.sig' ok REPO
}

check_reads_a_web_server() {
	fresh
	/usr/bin/python3 - REPO >port <<-'EOF' &
		import functools, http.server, os, sys
		class Handler(http.server.SimpleHTTPRequestHandler):
		    def do_HEAD(self):
		        self.send_error(403) if os.path.exists("nohead") else super().do_HEAD()
		h = functools.partial(Handler, directory=sys.argv[1])
		s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), h)
		print(s.server_port, flush=True)
		s.serve_forever()
	EOF
	server=$!
	# shellcheck disable=SC2064
	trap "kill $server" EXIT
	for _ in $(seq 1200); do [ -s port ] && break || sleep 0.05; done
	url=http://127.0.0.1:$(cat port)
	expect 0 '1 model, 1 version, 5 blobs' ok "$url/" --root "$W/K/root.json"
	: >nohead # a bucket that lets everybody read, and no more
	expect 0 '1 model, 1 version, 5 blobs' ok "$url/" --root "$W/K/root.json"
	rm nohead
	rm -r "$(dirname "$(find REPO/blobs -type f -size +200k)")"
	expect 3 'hash_mismatch.*missing' ok "$url"
	expect 4 'net_http' ok "$url/nothing"
	expect 1 'folders' ok "$url" --full
}

large_payloads_lie_in_parts() {
	truncate -s 520M big
	printf end >>big
	modelpub pack --id big --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out b big >/dev/null
	fresh
	modelpub publish REPO b --keys "$W/K" --quiet
	h=$(sha256sum <big | cut -c1-64)
	d=REPO/blobs/sha256/${h:0:2}/$h
	[ "$(ls "$d" | tr '\n' ' ')" = "00000 00001 00002 " ]
	[ "$(stat -c %s "$d/00000")" = 268435456 ]
	[ "$(stat -c %s "$d/00002")" = $((520 * 1048576 + 3 - 2 * 268435456)) ]
	cat "$d"/* | cmp - big
	ok REPO --model big --full
}

publishing_a_large_bundle_takes_little_memory() {
	truncate -s 200M big # the limit is less than a sixth
	modelpub pack --id big --key "$W/release.pem" --version 1.0.0 --release 1 --quiet --out b big >/dev/null
	fresh
	/usr/bin/python3 - "$MODELPUB" publish REPO b --keys "$W/K" --quiet >peak <<-'EOF'
		import resource, subprocess, sys
		subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
		print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
	EOF
	[ "$(cat peak)" -lt 32768 ] || say_fail "$(cat peak) KiB"
}

hard_links_share_what_fits_one_part() {
	modelpub init REPO --keys K
	copy "$(bundle 2)" b
	modelpub publish REPO b --keys K --link
	[ "$(find REPO/blobs -type f -links 2 | wc -l)" = 4 ]
	ok REPO --full
}

another_implementation_reads_it() {
	fresh
	modelpub publish REPO "$(bundle 2)" --keys "$W/K"
	other_tuf REPO/metadata "$W/K/root.json" trust.json det/policy.json det/1.1.0/default/manifest.json \
		det/1.2.0/default/manifest.json det/1.2.0/default/signature.sig
	modelpub init EC --keys KE --type ecdsa-p256
	modelpub publish EC "$(bundle 1)" --keys KE
	other_tuf EC/metadata KE/root.json det/policy.json det/1.1.0/default/manifest.json
}

pass_phrases_protect_role_keys() {
	echo secret >pass
	mkdir K
	modelpub key --out K/timestamp.pem --passout file:pass >/dev/null
	modelpub init REPO --keys K --passin file:pass
	modelpub refresh REPO --keys K --passin file:pass
	expect 4 'terminal' setsid "$MODELPUB" refresh REPO --keys K
	ok REPO
}

every_option_is_in_the_manual_and_in_the_completion() {
	for c in init publish rollout advance revoke republish grant refresh trust rotate metadata rebase check export gc; do
		expect 0 "usage: modelpub $c" modelpub $c --help
		modelpub $c --help | grep -oE '^  --[a-z-]+' | sort -u >options
		[ -s options ]
		expect 64 . modelpub $c
		while read -r o; do
			grep -qE -- "Fl -${o#--}( |\$)" "$top/man/modelpub.1" || say_fail "modelpub(1): $c $o"
			sed -n "/^	local shared/p; /^	$c) options/,/;;/p" "$top/contrib/completion/modelpub" | grep -q -- "$o" || say_fail "completion: $c $o"
		done <options
	done
}

properties
exit $failed
