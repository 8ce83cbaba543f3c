#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packing again with the same content key never repeats a nonce over other bytes: every changed file gets another key.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
keys
gen raw 700K 1 "$W/a.bin"
gen raw 5000 1 "$W/b.bin"
gen raw 0 1 "$W/empty.bin"
pack 1.0.0 1 "$W/b1" "$W/a.bin" "$W/b.bin" "$W/empty.bin"
repack() { # VERSION RELEASE
	"$modelpub" pack --id det --version "$1" --release "$2" --key "$W/release.pem" --model-key "$W/mk.bin" \
		--base "$W/b$((${2} - 1))" --out "$W/b$2" "$W/a.bin" "$W/b.bin" "$W/empty.bin" >>"$W/log" 2>&1 || fail "pack --base"
}
field() { jq -r --arg n "$2" ".files[] | select(.name == \$n) | .$3" "$W/b$1/manifest.json"; }
step "an unchanged file is the same blob"
flip "$W/a.bin" 400000
repack 1.0.1 2
[ "$(jq -r .encryption.content_key_id "$W/b1/manifest.json")" = "$(jq -r .encryption.content_key_id "$W/b2/manifest.json")" ] ||
	fail "pack --base took another content key"
[ "$(field 1 b.bin sha256)" = "$(field 2 b.bin sha256)" ] || fail "an unchanged file became another blob"
[ "$(field 1 b.bin salt)" = "$(field 2 b.bin salt)" ] || fail "salt of an unchanged file"
step "a changed file has another salt, so another key, and shares no ciphertext block"
[ "$(field 1 a.bin salt)" != "$(field 2 a.bin salt)" ] || fail "one salt over two contents: nonces repeat"
for v in 1 2; do od -An -v -tx1 -w16 "$W/b$v/payload/a.bin" | sort >"$W/blocks$v"; done
[ -z "$(comm -12 "$W/blocks1" "$W/blocks2" | head -1)" ] || fail "both ciphertexts share a block although the key is another"
step "many contents, many salts"
for r in 3 4 5 6; do
	flip "$W/a.bin" $((r * 100000))
	repack "1.0.$r" "$r"
done
for r in 1 2 3 4 5 6; do field "$r" a.bin salt; done | sort | uniq -d >"$W/dup"
[ ! -s "$W/dup" ] || fail "a salt twice: $(cat "$W/dup")"
step "back to an earlier content: the same key over the same bytes, so the same blob"
for r in 3 4 5 6; do flip "$W/a.bin" $((r * 100000)); done
repack 1.0.7 7
[ "$(field 2 a.bin sha256)" = "$(field 7 a.bin sha256)" ] || fail "the same content under the same key is another blob"
