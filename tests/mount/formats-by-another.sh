#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# modelfs-bundle(5) holds byte for byte: a program that knows nothing but the page opens what modelpub packs, and what it
# writes itself is verified, installed and read.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
/usr/bin/python3 -c 'import cryptography' 2>/dev/null || skip "python3-cryptography is not installed"
other() { /usr/bin/python3 "$top/tests/lib/bundle.py" "$@" >>"$W/log" 2>&1; }

keys
"$modelpub" key --type ecdsa-p256 --out "$W/p256.pem" >/dev/null
mkdir -p "$W/src/a/b/c"
# what lies on and beside every edge of a chunk, of both sizes used below
for n in 0 1 65535 65536 65537 131071 131072 131073 262144 700001; do gen raw "$n" 3 "$W/src/f$n"; done
gen raw 200000 4 "$W/src/a/b/c/Größe – 模型 .bin"
gen raw 16 5 "$W/src/a/q\"uote\\.txt"

for key in release p256; do
	for kind in plain AES-256-GCM:131072 ChaCha20-Poly1305:65536 AES-256-GCM:1048576; do
		step "packed by modelpub, read by another: $key, $kind"
		b=$W/ours.$key.$kind opt=()
		case $kind in
		plain) mk=- ;;
		*)
			mk=$W/mk.bin cipher=${kind%:*}
			opt=(--model-key "$mk" --cipher "${cipher,,}" --chunk-size "${kind#*:}")
			;;
		esac
		"$modelpub" pack --id det --version 1.0.0 --release 1 --key "$W/$key.pem" "${opt[@]}" --out "$b" "$W/src" >>"$W/log" 2>&1 ||
			fail "pack"
		other read "$b" "$W/$key.pub.pem" "$mk" "$W/out.$key.$kind" || fail "the page does not describe what modelpub wrote"
		diff -r "$W/src" "$W/out.$key.$kind" || fail "another plaintext"
	done
done
step "the other reader is no friend: it refuses a flipped byte, another key, a surplus file"
b=$W/ours.release.AES-256-GCM:131072
flip "$b/payload/f700001" 600000
! other read "$b" "$W/release.pub.pem" "$W/mk.bin" "$W/no" || fail "it took a flipped byte"
flip "$b/payload/f700001" 600000
! other read "$b" "$W/stranger.pub.pem" "$W/mk.bin" "$W/no" || fail "it took another key"
: >"$b/chunks/f1"
! other read "$b" "$W/release.pub.pem" "$W/mk.bin" "$W/no" || fail "it took a surplus file"

args=()
while IFS= read -r f; do args+=("$f=$W/src/$f"); done < <(cd "$W/src" && find . -type f -printf '%P\n')
config 'det: {serve: paged, model_key: "file:mk.bin"}'
sed -i 's/^trust:.*/trust: {keys: [release.pub.pem, p256.pub.pem]}/' "$CFG"
mount_
n=0
for key in release p256; do
	for kind in plain AES-256-GCM:131072 ChaCha20-Poly1305:65536 AES-256-GCM:1048576; do
		n=$((n + 1))
		step "written by another, verified, installed and read: $key, $kind"
		mk=$W/mk.bin fields=$(printf '{"release":%s,"version":"1.0.%s","quantization":{"text":"\\"é\\\\"}' "$n" "$n")
		case $kind in
		plain) mk=- fields+='}' ;;
		*) fields+=$(printf ',"cipher":"%s","chunk_size":%s}' "${kind%:*}" "${kind#*:}") ;;
		esac
		other write "$W/theirs.$n" "$W/$key.pem" "$mk" "$fields" "${args[@]}" || fail "the other writer"
		expect 0 "" "$modelpub" verify --pub "$W/$key.pub.pem" "$W/theirs.$n"
		install_ "$W/theirs.$n" || fail "install: exit $?"
		[ "$(readlink "$MNT/det/active")" = "versions/1.0.$n" ] || fail "not active"
		diff -r "$W/src" "$MNT/det/active/" || fail "another plaintext in the mount"
	done
done

step "with the same content key and time both write the same bytes"
head -c 32 /dev/urandom >"$W/ck"
other write "$W/same.theirs" "$W/release.pem" "$W/mk.bin" "$(printf '{"content_key":"%s","quantization":{"bits":4}}' \
	"$(od -An -v -tx1 "$W/ck" | tr -d ' \n')")" "${args[@]}" || fail "the other writer"
printf 'quantization: {bits: 4}\n' >"$W/meta.yaml"
SOURCE_DATE_EPOCH=1700000000 "$modelpub" pack --id det --version 1.0.0 --release 1 --key "$W/release.pem" --model-key "$W/mk.bin" \
	--content-key "$W/ck" --meta "$W/meta.yaml" --out "$W/same.ours" "$W/src" >>"$W/log" 2>&1 || fail "pack"
diff -r "$W/same.ours/payload" "$W/same.theirs/payload" || fail "other payloads"
diff -r "$W/same.ours/chunks" "$W/same.theirs/chunks" || fail "other tables"
strip() { jq -S '.files |= (map(del(.media, .executable)) | sort_by(.name))' "$1/manifest.json"; }
diff <(strip "$W/same.ours") <(strip "$W/same.theirs") || fail "another manifest"
