#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# modelpub from outside: one line per property, "ok NAME" or "not ok NAME". Needs no root.
#
#	MODELPUB=build/modelpub tests/publisher/check_modelpub.sh [NAME...]
#
# Without MODELPUB: modelpub of $MFS_BUILD or $BUILD, else of build/ in the source tree.
# Exits 1 if a property does not hold.
. "$(dirname "$0")/lib.sh"

resign() { # BUNDLE: sign whatever manifest.json holds, without modelpub
	openssl pkeyutl -sign -rawin -inkey "$W/release.pem" -in "$1/manifest.json" -out "$1/signature.sig"
}

refused() { expect 3 "$2" modelpub verify --pub "$W/release.pub.pem" "$1"; }
pack() { modelpub pack --id det --key "$W/release.pem" --quiet "$@"; }

helpers_end

# Fixture: keys, and one encrypted bundle B of three files with their sources in src.
mkdir src
modelpub key --out release.pem >release.id && modelpub key --out stranger.pem >stranger.id &&
	modelpub key --model-key --out mk.bin >mk.id || exit 1
openssl rand -out src/weights.bin 700000 && echo labels >src/labels.txt && : >src/empty || exit 1
pack --version 1.0.0 --release 1 --model-key mk.bin --out B src >/dev/null || exit 1
pack --version 1.0.0 --release 1 --out P src >/dev/null || exit 1

key_files_have_modes_and_are_never_overwritten() {
	modelpub key --out a.pem >id
	[ "$(stat -c %a a.pem)" = 600 ]
	openssl pkey -in a.pem -pubout -outform DER | sha256sum | cut -c1-64 | cmp - id
	openssl pkey -in a.pem -pubout | cmp - a.pub.pem
	modelpub key --type ecdsa-p256 --out e.pem
	openssl pkey -in e.pem -text -noout | grep -q 'P-256'
	modelpub key --model-key --out m.bin >mid
	[ "$(stat -c '%a %s' m.bin)" = "600 32" ]
	{ printf 'modelfs model key'; cat m.bin; } | sha256sum | cut -c1-64 | cmp - mid
	sha256sum a.pem a.pub.pem m.bin >sums
	expect 1 'a.pub.pem.*(exists|overwritten)' modelpub key --out a.pem
	rm a.pub.pem
	expect 1 'a.pem.*(exists|overwritten)' modelpub key --out a.pem
	[ ! -e a.pub.pem ]
	expect 1 'm.bin.*(exists|overwritten)' modelpub key --model-key --out m.bin
	sed -i '/a.pub/d' sums
	sha256sum -c --quiet sums
}

encrypted_private_keys_need_their_pass_phrase() {
	echo secret >pass
	modelpub key --passout file:pass --out k.pem
	grep -q ENCRYPTED k.pem
	echo x >f
	expect 4 'terminal' setsid "$MODELPUB" pack --id m --version 1.0.0 --release 1 --key k.pem --out b f
	P=wrong expect 1 'k.pem' modelpub pack --id m --version 1.0.0 --release 1 --key k.pem --passin env:P --out b f
	[ ! -e b ]
	P=secret expect 0 packed modelpub pack --id m --version 1.0.0 --release 1 --key k.pem --passin env:P --out b f
	modelpub verify --pub k.pub.pem b
}

every_kind_packs_and_verifies() {
	modelpub key --type ecdsa-p256 --out e.pem
	: >zero
	head -c 1 "$W/src/weights.bin" >one
	head -c 65535 "$W/src/weights.bin" >below
	head -c 65536 "$W/src/weights.bin" >exact
	head -c 65537 "$W/src/weights.bin" >above
	head -c 1048577 /dev/zero >zeros
	for k in "$W/release" e; do
		for how in "" "--model-key $W/mk.bin" "--model-key $W/mk.bin --cipher chacha20-poly1305"; do
			for chunk in "" "--chunk-size 65536" "--chunk-size 1048576"; do
				rm -rf b
				# shellcheck disable=SC2086
				modelpub pack --id m --version 1.0.0 --release 1 --key "$k.pem" $how $chunk --out b zero one below exact above zeros
				modelpub verify --pub "$k.pub.pem" b
			done
		done
	done
}

openssl_and_sha256sum_alone_can_check_a_bundle() {
	modelpub key --type ecdsa-p256 --out e.pem
	modelpub pack --id m --version 1.0.0 --release 1 --key e.pem --out E "$W/src"
	openssl pkeyutl -verify -rawin -pubin -inkey "$W/release.pub.pem" -in "$W/B/manifest.json" -sigfile "$W/B/signature.sig"
	openssl pkeyutl -verify -rawin -digest sha256 -pubin -inkey e.pub.pem -in E/manifest.json -sigfile E/signature.sig
	for b in "$W/B" "$W/P" E; do
		tr '{' '\n' <"$b/manifest.json" | sed -n 's/.*"name":"\([^"]*\)".*,"sha256":"\([0-9a-f]*\)".*/\2  \1/p' >sums
		[ "$(grep -c . sums)" = 3 ]
		(cd "$b/payload" && sha256sum -c --quiet "$OLDPWD/sums")
		tr '{' '\n' <"$b/manifest.json" | sed -n 's/.*"chunks_sha256":"\([0-9a-f]*\)".*"name":"\([^"]*\)".*/\1  \2/p' >sums
		[ "$(grep -c . sums)" = 1 ]
		(cd "$b/chunks" && sha256sum -c --quiet "$OLDPWD/sums")
	done
	cmp "$W/P/payload/weights.bin" "$W/src/weights.bin"
	differ "$W/B/payload/weights.bin" "$W/src/weights.bin"
}

same_input_gives_the_same_bytes() {
	openssl rand -out ck 32
	for i in 1 2; do
		cp -r "$W/src" "src$i" # other inodes, other times
		SOURCE_DATE_EPOCH=1700000000 pack --version 1.0.0 --release 1 --model-key "$W/mk.bin" --content-key ck \
			--out "b$i" "src$i"
		SOURCE_DATE_EPOCH=1700000000 pack --version 1.0.0 --release 1 --out "p$i" "src$i"
	done
	diff -r b1 b2
	diff -r p1 p2
	grep -q '"build_time":1700000000' b1/manifest.json
	SOURCE_DATE_EPOCH=1x expect 1 SOURCE_DATE_EPOCH pack --version 1.0.0 --release 1 --out p3 src1
	[ ! -e p3 ]
}

base_keeps_unchanged_files_as_the_same_blobs() {
	cp -r "$W/src" src
	flip src/weights.bin 5
	pack --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base "$W/B" --out b src
	modelpub verify --pub "$W/release.pub.pem" b
	cmp b/payload/labels.txt "$W/B/payload/labels.txt"
	differ b/payload/weights.bin "$W/B/payload/weights.bin"
	pack --version 1.2.0 --release 3 --model-key "$W/mk.bin" --out fresh src
	differ fresh/payload/labels.txt "$W/B/payload/labels.txt"
	# cipher and chunk size are the base's too
	pack --version 2.0.0 --release 1 --model-key "$W/mk.bin" --cipher chacha20-poly1305 --chunk-size 65536 --out c1 "$W/src"
	pack --version 2.1.0 --release 2 --model-key "$W/mk.bin" --base c1 --out c2 "$W/src"
	diff -r c1/payload c2/payload
	diff -r c1/chunks c2/chunks
}

a_changed_file_shares_no_key_with_its_base() {
	cp -r "$W/src" src
	flip src/weights.bin 699999 # the last chunk: all earlier plaintext is equal
	pack --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base "$W/B" --out b src
	for f in b "$W/B"; do od -An -v -tx1 -w16 "$f/payload/weights.bin" | sort -u >"$(basename "$f").blocks"; done
	[ -z "$(comm -12 b.blocks B.blocks)" ]
}

base_is_refused_where_devices_would_refuse_the_result() {
	expect 3 'policy_rejected.*never names two' pack --version 1.0.0 --release 2 --model-key "$W/mk.bin" --base "$W/B" --out b "$W/src"
	expect 3 rollback_attempt pack --version 1.1.0 --release 1 --model-key "$W/mk.bin" --base "$W/B" --out b "$W/src"
	expect 3 policy_rejected modelpub pack --id other --key "$W/release.pem" --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base "$W/B" --out b "$W/src"
	openssl rand -out mk2 32
	expect 4 key_unavailable pack --version 1.1.0 --release 2 --model-key mk2 --base "$W/B" --out b "$W/src"
	expect 4 key_unavailable pack --version 1.1.0 --release 2 --base "$W/B" --out b "$W/src"
	[ "$(ls -A)" = mk2 ]
}

a_base_must_be_signed_by_a_known_key() {
	# An attacker who knows an old content key must not be able to make it the next one.
	copy "$W/B" base
	pack --version 0.9.0 --release 1 --model-key "$W/mk.bin" --out leaked "$W/src"
	old=$(grep -o '"encryption":{[^]]*]}' leaked/manifest.json)
	new=$(grep -o '"encryption":{[^]]*]}' base/manifest.json)
	[ "$old" != "$new" ]
	m=$(cat base/manifest.json)
	printf %s "${m/"$new"/"$old"}" >base/manifest.json
	expect 3 'signature_invalid.*base' pack --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base base --out b "$W/src"
	openssl pkeyutl -sign -rawin -inkey "$W/stranger.pem" -in base/manifest.json -out base/signature.sig
	expect 3 'signature_invalid.*base' pack --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base base --out b "$W/src"
	rm base/signature.sig
	expect 3 'signature_invalid.*base' pack --version 1.1.0 --release 2 --model-key "$W/mk.bin" --base base --out b "$W/src"
	[ ! -e b ]
	# after a rotation
	rotated() {
		modelpub pack --id det --version 1.1.0 --release 2 --key "$W/stranger.pem" --model-key "$W/mk.bin" --base "$W/B" --out b "$@" "$W/src"
	}
	expect 3 'key_untrusted.*base-pub' rotated
	expect 0 packed rotated --base-pub "$W/release.pub.pem"
	cmp b/payload/weights.bin "$W/B/payload/weights.bin"
	expect 64 base-pub pack --version 1.1.0 --release 2 --base-pub "$W/release.pub.pem" --out c "$W/src"
}

flipped_bytes_are_refused() {
	for at in 0 1 131071 131072 350000 699999; do
		copy "$W/B" b
		flip b/payload/weights.bin $at
		refused b 'hash_mismatch.*payload/weights.bin: offset [0-9]+'
	done
	copy "$W/B" b
	flip b/payload/labels.txt 3
	refused b 'hash_mismatch.*payload/labels.txt'
	for at in 0 8 12 16 24 32 63 64 79 80 319; do # header, hash, tag, next entries
		copy "$W/B" b
		flip b/chunks/weights.bin $at
		refused b '(hash_mismatch|malformed).*chunks/weights.bin'
	done
	for at in 0 1 200 700 $(($(stat -c %s "$W/B/manifest.json") - 1)); do
		copy "$W/B" b
		flip b/manifest.json $at
		refused b '(signature_invalid|key_untrusted|malformed).*manifest.json'
	done
	for at in 0 31 32 63; do
		copy "$W/B" b
		flip b/signature.sig $at
		refused b signature_invalid
	done
}

damaged_bundles_are_refused() {
	for f in payload/weights.bin payload/labels.txt chunks/weights.bin; do
		for how in 'truncate -s -1' 'truncate -s 0' 'truncate -s +1' rm; do
			copy "$W/B" b
			$how b/$f
			refused b "hash_mismatch.*${f#*/}"
		done
	done
	copy "$W/B" b
	printf x >b/payload/empty
	refused b hash_mismatch
	copy "$W/B" b
	cp "$W/P/payload/weights.bin" b/payload/weights.bin
	refused b hash_mismatch
	copy "$W/B" b
	cp "$W/P/manifest.json" "$W/P/signature.sig" b/
	refused b hash_mismatch
	copy "$W/B" b
	truncate -s 17M b/manifest.json
	refused b limit_exceeded
	copy "$W/B" b
	truncate -s 2000 b/signature.sig
	refused b limit_exceeded
	expect 3 malformed modelpub verify --pub "$W/release.pub.pem" "$W/src"
	expect 1 io modelpub verify --pub "$W/release.pub.pem" "$W/nothing"
}

surplus_files_are_refused_by_name() {
	for f in payload/extra payload/d/extra chunks/labels.txt chunks/extra index/extra; do
		copy "$W/B" b
		mkdir -p "b/${f%/*}"
		: >"b/$f"
		refused b "malformed.*${f%%/*}/.*surplus"
	done
	copy "$W/B" b
	mkdir b/payload/emptyfolder
	refused b 'malformed.*emptyfolder'
	copy "$W/B" b
	echo hello >b/README
	mkdir b/grants b/index
	: >b/grants/some
	: >b/index/weights.bin
	expect 0 'ignored.*README' modelpub verify --pub "$W/release.pub.pem" b
	absent grants "$W/out"
}

links_and_special_files_are_refused() {
	for f in payload/weights.bin chunks/weights.bin manifest.json signature.sig; do
		copy "$W/B" b
		mv b/$f kept
		ln -s "$PWD/kept" b/$f
		refused b malformed
		rm b/$f
		mkfifo b/$f
		refused b malformed
		rm b/$f
		mkdir b/$f
		refused b malformed
	done
	for d in payload chunks; do
		copy "$W/B" b
		mv b/$d kept.$d
		ln -s "$PWD/kept.$d" b/$d
		refused b malformed
	done
}

hostile_manifests_are_refused_even_when_signed() {
	local m
	m=$(cat "$W/B/manifest.json")
	try() { # WHAT MANIFEST
		copy "$W/B" b
		printf %s "$2" >b/manifest.json
		resign b
		refused b "${3:-malformed.*: its publisher has to make a new version}" || say_fail "$1"
	}
	try "white space" "${m/\{/\{ }"
	try "final newline" "$m
"
	try "order of keys" "${m/\"model_id\":\"det\",\"release\":1/\"release\":1,\"model_id\":\"det\"}"
	try "duplicate key" "${m/\"release\":1/\"release\":1,\"release\":1}"
	try "number too large" "${m/\"release\":1/\"release\":9007199254740992}"
	try "decimal" "${m/\"release\":1/\"release\":1.0}"
	try "negative" "${m/\"release\":1/\"release\":-1}"
	try "not UTF-8" "${m/labels.txt/labels$'\xff'txt}"
	try "traversal" "${m/labels.txt/..\/..\/xxxx}"
	try "absolute" "${m/labels.txt/\/etc\/passw}"
	try "collision by case" "${m/\"name\":\"labels.txt\"/\"name\":\"WEIGHTS.bin\"}"
	try "missing field" "${m/\"release\":1,/}"
	try "wrong type" "${m/\"release\":1/\"release\":\"1\"}"
	try "deep" "${m/\"release\":1/\"quantization\":$(printf '[%.0s' {1..40})$(printf ']%.0s' {1..40}),\"release\":1}"
	try "unknown critical" "${m/\"encryption\":/\"critical\":[\"quantum\"],\"encryption\":}" 'malformed.*upgrade modelfs$'
	copy "$W/B" b
	resign b
	modelpub verify --pub "$W/release.pub.pem" b
}

unsigned_and_foreign_bundles_are_refused() {
	copy "$W/B" b
	rm b/signature.sig
	refused b signature_invalid
	: >b/signature.sig
	refused b signature_invalid
	expect 3 key_untrusted modelpub verify --pub "$W/stranger.pub.pem" "$W/B"
	copy "$W/B" b
	openssl pkeyutl -sign -rawin -inkey "$W/stranger.pem" -in b/manifest.json -out b/signature.sig
	refused b signature_invalid
	expect 3 '(key_untrusted|signature_invalid)' modelpub verify --pub "$W/stranger.pub.pem" b
	expect 3 'key_untrusted.*epoch' modelpub verify --key-epoch 2 --pub "$W/release.pub.pem" "$W/B"
	pack --key-epoch 2 --version 1.0.0 --release 1 --out e2 "$W/src"
	refused e2 'key_untrusted.*epoch'
	modelpub verify --key-epoch 2 --pub "$W/release.pub.pem" e2
	expect 1 config_invalid modelpub verify --pub "$W/src/labels.txt" "$W/B"
	expect 64 '--pub' modelpub verify "$W/B"
}

thresholds_count_distinct_keys() {
	pack --version 1.0.0 --release 1 --key "$W/stranger.pem" --out b "$W/src"
	[ -f "b/signature.$(cat "$W/stranger.id").sig" ]
	modelpub verify --pub "$W/release.pub.pem" --pub "$W/stranger.pub.pem" --threshold 2 b
	modelpub verify --pub "$W/stranger.pub.pem" b
	copy b c
	rm "c/signature.$(cat "$W/stranger.id").sig"
	expect 3 key_untrusted modelpub verify --pub "$W/release.pub.pem" --pub "$W/stranger.pub.pem" --threshold 2 c
	cp c/signature.sig "c/signature.$(cat "$W/release.id").sig" # one key twice
	expect 3 key_untrusted modelpub verify --pub "$W/release.pub.pem" --pub "$W/stranger.pub.pem" --threshold 2 c
	expect 64 threshold modelpub verify --pub "$W/release.pub.pem" --threshold 2 b
	expect 3 malformed pack --version 1.0.0 --release 1 --key "$W/release.pem" --out d "$W/src" # one key twice
	[ ! -e d ]
}

signatures_can_be_added_later() {
	pack --no-sign --pub "$W/stranger.pub.pem" --version 1.0.0 --release 1 --out b "$W/src"
	[ "$(count b 'signature*')" = 0 ]
	refused b signature_invalid
	expect 3 key_untrusted modelpub sign --key "$(modelpub key --out x.pem >/dev/null; echo x.pem)" b
	expect 0 'signature.sig' modelpub sign --key "$W/release.pem" b
	expect 2 'already signed' modelpub sign --key "$W/release.pem" b
	modelpub verify --pub "$W/release.pub.pem" b
	expect 0 "signature.$(cat "$W/stranger.id").sig" modelpub sign --key "$W/stranger.pem" b
	modelpub verify --pub "$W/release.pub.pem" --pub "$W/stranger.pub.pem" --threshold 2 b
	flip b/signature.sig 7
	expect 0 'signed' modelpub sign --key "$W/release.pem" b # a broken one is replaced
	modelpub verify --pub "$W/release.pub.pem" b
	modelpub sign --rekey --key x.pem --key-epoch 3 b
	[ "$(count b 'signature*')" = 1 ]
	modelpub verify --pub x.pub.pem --key-epoch 3 b
	refused b key_untrusted
}

keys_elsewhere_sign_through_files() {
	modelpub key --type ecdsa-p256 --out e.pem
	modelpub pack --no-sign --pub "$W/release.pub.pem" --pub e.pub.pem --id m --version 1.0.0 --release 1 --out b "$W/src"
	modelpub sign --pub "$W/release.pub.pem" --digest-out d1 b
	cmp d1 b/manifest.json
	openssl pkeyutl -sign -rawin -inkey "$W/release.pem" -in d1 -out s1
	modelpub sign --pub e.pub.pem --digest-out d2 b
	[ "$(od -An -v -tx1 d2 | tr -d ' \n')" = "$(sha256sum <b/manifest.json | cut -c1-64)" ]
	openssl pkeyutl -sign -inkey e.pem -in d2 -out s2
	expect 3 signature_invalid modelpub sign --pub "$W/release.pub.pem" --signature s2 b
	[ ! -e b/signature.sig ]
	modelpub sign --pub "$W/release.pub.pem" --signature s1 b
	modelpub sign --pub e.pub.pem --signature s2 b
	modelpub verify --pub "$W/release.pub.pem" --pub e.pub.pem --threshold 2 b
	# r and s as 64 bytes, the form of tokens
	openssl asn1parse -inform DER -in s2 | sed -n 's/.*INTEGER *:\(.*\)/\1/p' |
		while read -r n; do printf '%064s' "$n" | tr ' ' 0; done | sed 's/../\\x&/g' >hex
	printf '%b' "$(cat hex)" >raw
	[ "$(stat -c %s raw)" = 64 ]
	rm "b/signature.$(openssl pkey -pubin -in e.pub.pem -outform DER | sha256sum | cut -c1-64).sig"
	modelpub sign --pub e.pub.pem --signature raw b
	modelpub verify --pub e.pub.pem b
}

folders_become_their_contents() {
	mkdir -p m/sub/deep m/.git m/sub/.cache m/hollow elsewhere
	echo w >m/sub/deep/w.bin
	echo t >m/t.txt
	echo secret >m/.git/config
	echo attr >m/.gitattributes
	echo c >m/sub/.cache/c
	echo target >elsewhere/blob
	ln -s ../elsewhere/blob m/linked.bin
	expect 0 'left out: m/.gitattributes' modelpub pack --id m --key "$W/release.pem" --version 1.0.0 --release 1 --out b m
	grep -q 'left out: m/hollow (an empty folder)' "$W/out"
	grep -q 'left out: m/sub/.cache' "$W/out"
	(cd b/payload && find . -type f | sort) | tr '\n' ' ' | grep -qx './linked.bin ./sub/deep/w.bin ./t.txt '
	cmp b/payload/linked.bin elsewhere/blob
	modelpub verify --pub "$W/release.pub.pem" b
	pack --version 1.0.0 --release 1 --out c m/ m/sub/deep/w.bin # a file beside a folder
	[ -f c/payload/w.bin ]
}

what_devices_would_take_for_damaged_is_said() {
	head -c 5000 /dev/zero >zero.onnx
	cp zero.onnx real.gguf
	printf 'GGUF' | dd of=real.gguf conv=notrunc status=none
	loud() { modelpub pack --id det --key "$W/release.pem" --version 1.0.0 --release 1 "$@"; }
	expect 0 '^zero.onnx: does not begin like onnx: .*media: other' loud --out b1 zero.onnx real.gguf
	absent real.gguf "$W/out"
	printf 'files: {zero.onnx: {media: other}}\n' >meta.yaml
	expect 0 packed loud --meta meta.yaml --out b2 zero.onnx
	absent 'begin like' "$W/out"
}

inputs_that_cannot_be_packed_are_refused_by_name() {
	try() { expect "${3:-3}" "$1" pack --version 1.0.0 --release 1 --out b "$2"; [ ! -e b ]; }
	mkdir fifo links broken case ctl empty
	mkfifo fifo/f
	try 'malformed.*fifo/f.*special' fifo
	try 'malformed.*special' fifo/f
	ln -s /etc links/l
	try 'malformed.*links/l.*folder' links
	ln -s /nonexistent broken/l
	try 'io.*broken/l' broken 1
	echo 1 >case/Model.bin
	echo 2 >case/model.bin
	try 'malformed.*odel.bin.*case' case
	: >"ctl/a
b"
	try 'malformed.*ctl' ctl
	try 'malformed.*no files' empty
	try 'io.*nowhere' nowhere 1
	mkdir -p deep/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g
	: >deep/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h
	try 'limit_exceeded|malformed' deep
	mkdir a b1
	echo 1 >a/x
	echo 2 >b1/x
	expect 3 'malformed.*a/x and b1/x|malformed.*b1/x and a/x' pack --version 1.0.0 --release 1 --out b a b1
	mkdir -p fold/x
	echo 1 >fold/x/y
	echo 2 >x
	expect 3 'malformed.*folder' pack --version 1.0.0 --release 1 --out b fold x
	[ ! -e b ]
	[ "$(count . '.?*')" = 0 ]
}

meta_file_errors_name_line_and_column() {
	printf 'compat:\n  platforms: [linux/amd64]\n  labels: {class: [a, b], site: x}\n  runtimes:\n  - {name: onnxruntime, min: 1.15.0}\n  memory: 2GiB\n  page_size: 4096\n  depends: [{model_id: tok, min_release: 3}]\npreprocess: {mean: [0.5, 1], rgb: true}\nquantization: q4\nhealth: {vectors: [{name: a, output: {y: {min: 0, max: 1}}}]}\nfiles:\n  labels.txt: {media: other, executable: true}\n' >good.yaml
	pack --version 1.0.0 --release 1 --meta good.yaml --out b "$W/src"
	modelpub verify --pub "$W/release.pub.pem" b
	for want in '"memory":2147483648' '"mean":\["0.5",1\]' '"executable":true,"media":"other","name":"labels.txt"' '"site":\["x"\]'; do
		grep -q -- "$want" b/manifest.json || say_fail "$want"
	done
	try() { # LINE:COLUMN TEXT
		printf '%b' "$2" >bad.yaml
		expect 1 "config_invalid: bad.yaml:$1: " pack --version 1.0.0 --release 1 --meta bad.yaml --out c "$W/src"
		[ ! -e c ]
	}
	try 1:1 'compatt: {}\n'
	try 2:3 'compat:\n  colour: red\n'
	try 2:1 'quantization: a\nquantization: b\n'
	try 2:11 'compat:\n  memory: lots\n'
	try 2:14 'compat:\n  platforms: {a: b}\n'
	try 1:8 'files: [a]\n'
	try 2:25 'files:\n  nofile: {media: gguf, media: gguf}\n'
	try 2:3 'files:\n  nofile: {media: gguf}\n'
	try 2:23 'files:\n  labels.txt: {media: mp3}\n'
	try 2:28 'files:\n  labels.txt: {executable: yes}\n'
	try '[0-9]+:[0-9]+' 'compat: {platforms: [linux/amd64\n'
	try 1:9 'health: 3\n'
	try '[0-9]+:[0-9]+' 'health: &a {x: 1}\nquantization: *a\n'
	printf 'compat: {runtimes: [{name: x, min: one}]}\n' >bad.yaml
	expect 3 'malformed.*compat.runtimes' pack --version 1.0.0 --release 1 --meta bad.yaml --out c "$W/src"
	[ ! -e c ]
}

an_existing_output_is_never_touched() {
	mkdir full empty
	echo mine >full/mine
	expect 1 'full.*not empty' pack --version 1.0.0 --release 1 --out full "$W/src"
	echo mine >file
	expect 1 'file.*exists' pack --version 1.0.0 --release 1 --out file "$W/src"
	ln -s empty link
	expect 1 'link.*exists' pack --version 1.0.0 --release 1 --out link "$W/src"
	expect 1 'nowhere' pack --version 1.0.0 --release 1 --out nowhere/b "$W/src"
	[ "$(cat full/mine file)" = "mine
mine" ]
	pack --version 1.0.0 --release 1 --out empty/ "$W/src"
	modelpub verify --pub "$W/release.pub.pem" empty
	[ "$(stat -c %a empty)" = "$(printf %o $((0777 & ~$(umask))))" ]
	[ "$(count . '.?*')" = 0 ]
}

a_signal_leaves_nothing() {
	local pid rc=0
	truncate -s 20G big
	"$MODELPUB" pack --id m --version 1.0.0 --release 1 --key "$W/release.pem" --out b big >log 2>&1 &
	pid=$!
	until [ "$(count . '.b.*')" = 1 ]; do kill -0 $pid; sleep 0.02; done
	kill -TERM $pid
	wait $pid || rc=$?
	[ $rc = 143 ]
	[ "$(ls -A | tr '\n' ' ')" = "big log " ]
}

a_full_disk_leaves_nothing() {
	# RLIMIT_FSIZE stands in for the disk: writes beyond it fail.
	head -c 3000000 /dev/urandom >f
	expect 1 io bash -c 'trap "" XFSZ; ulimit -f 1000; exec "$0" "$@"' "$MODELPUB" pack --id m --version 1.0.0 --release 1 \
		--key "$W/release.pem" --model-key "$W/mk.bin" --out b f
	[ "$(ls -A)" = f ]
	expect 1 'standard output' bash -c 'exec "$0" "$@" >/dev/full' "$MODELPUB" verify --pub "$W/release.pub.pem" "$W/B"
}

# Peak resident memory in KiB of a command, which must succeed.
peak() {
	local pid kib=0 now
	"$@" >"$W/out" 2>&1 &
	pid=$!
	while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/$pid/status 2>/dev/null) && [ -n "$now" ]; do
		kib=$now
		sleep 0.05
	done
	wait $pid || { cat "$W/out" >&2; return 1; }
	echo "$kib"
}

more_than_four_sparse_gib_pack_and_verify_in_little_memory() {
	local kib size=4404019200
	truncate -s $size big.gguf
	printf GGUF | dd of=big.gguf conv=notrunc status=none
	printf beyond | dd of=big.gguf bs=1 seek=4294967300 conv=notrunc status=none
	printf END | dd of=big.gguf bs=1 seek=$((size - 3)) conv=notrunc status=none
	kib=$(peak "$MODELPUB" pack --id m --version 1.0.0 --release 1 --key "$W/release.pem" --out b big.gguf)
	echo "pack: $kib KiB"
	[ "$kib" -gt 0 ] && [ "$kib" -le 49152 ]
	grep -q "\"media\":\"gguf\",\"name\":\"big.gguf\",\"sha256\":\"[0-9a-f]*\",\"size\":$size" b/manifest.json
	[ "$(stat -c %s b/payload/big.gguf)" = $size ]
	[ "$(stat -c %b b/payload/big.gguf)" -le 4096 ] # 512-byte blocks: holes stay holes
	[ "$(stat -c %s b/chunks/big.gguf)" = $((32 + 48 * (size / 131072))) ]
	tail -c 3 b/payload/big.gguf | grep -qx END
	[ "$(dd if=b/payload/big.gguf bs=1 skip=4294967300 count=6 status=none)" = beyond ]
	kib=$(peak "$MODELPUB" verify --pub "$W/release.pub.pem" b)
	echo "verify: $kib KiB"
	[ "$kib" -gt 0 ] && [ "$kib" -le 49152 ]
	printf X | dd of=b/payload/big.gguf bs=1 seek=4294967296 conv=notrunc status=none
	refused b 'hash_mismatch.*offset 4294967296'
}

encrypting_needs_little_memory_too() {
	local kib
	head -c 150000000 /dev/zero >f
	kib=$(peak "$MODELPUB" pack --id m --version 1.0.0 --release 1 --key "$W/release.pem" --model-key "$W/mk.bin" --out b f)
	echo "pack: $kib KiB"
	[ "$kib" -gt 0 ] && [ "$kib" -le 49152 ]
	modelpub verify --pub "$W/release.pub.pem" b
}

inspect_shows_and_does_not_vouch() {
	expect 0 'NOT VERIFIED' modelpub inspect "$W/B"
	grep -q 'det 1.0.0 (default), release 1' "$W/out"
	expect 0 '"verified": false' modelpub inspect --json "$W/B"
	grep -q "\"manifest_sha256\": \"$(sha256sum <"$W/B/manifest.json" | cut -c1-64)\"" "$W/out"
	copy "$W/B" b
	rm b/signature.sig
	expect 0 'signatures *none' modelpub inspect b
	printf ' ' >>b/manifest.json
	expect 3 malformed modelpub inspect b
}

usage_errors_exit_64() {
	for c in '' 'frobnicate' 'key' 'key --out' 'key --type rsa --out x' 'key --bogus' 'pack' 'verify' 'sign' 'inspect' \
		'pack --id x' 'verify --pub a b c' 'sign --signature a b' 'inspect a b'; do
		# shellcheck disable=SC2086
		expect 64 . modelpub $c
	done
	for bad in '--id -x' '--version 1.0' '--version 1.0.0+b' '--release 0' '--release 1x' '--release 9007199254740992' \
		'--variant a/b' '--chunk-size 100000' '--chunk-size 32768' '--cipher rot13' '--content-key x' '--key-epoch 0'; do
		# shellcheck disable=SC2086
		expect 64 . pack --version 1.0.0 --release 1 --out b $bad "$W/src"
	done
	[ ! -e b ]
	for c in key pack sign verify inspect; do
		expect 0 "usage: modelpub $c" modelpub $c --help
		expect 0 '^modelpub [0-9]' modelpub $c --version
	done
	expect 0 '^modelpub [0-9]' modelpub --version
	expect 0 '^usage' modelpub --help
}

every_option_is_in_the_manual_and_in_the_completion() {
	for c in key pack sign verify inspect; do
		modelpub $c --help | grep -oE '^  --[a-z-]+' | sort -u >options
		[ -s options ]
		while read -r o; do
			grep -qE -- "Fl -${o#--}( |\$)" "$top/man/modelpub.1" || say_fail "modelpub(1): $c $o"
			sed -n "/^	$c) options/,/;;/p" "$top/contrib/completion/modelpub" | grep -q -- "$o" || say_fail "completion: $c $o"
		done <options
	done
}

properties
exit $failed
