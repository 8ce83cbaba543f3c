# SPDX-License-Identifier: Apache-2.0
# Sourced after repo.sh by tests of what whoever holds role keys of a repository can publish: metadata that modelpub
# would never write, rightly signed. With jq and openssl alone.
# shellcheck shell=bash disable=SC2154

# role_newest ROLE: the highest version in $W/repo.
role_newest() {
	(cd "$W/repo/metadata" && printf '%s\n' *".$1.json") | sort -n | tail -n 1 | cut -d. -f 1
}
# key_id_of PEM: as the metadata of $W/repo names it; an Ed25519 key.
key_id_of() {
	local public
	public=$(openssl pkey -in "$1" -pubout -outform DER | tail -c 32 | od -An -tx1 -v | tr -d ' \n')
	jq -r --arg p "$public" '(.signed.keys // {}, .signed.delegations.keys // {}) | to_entries[] | select(.value.keyval.public == $p) | .key' \
		"$W"/repo/metadata/*.root.json "$W"/repo/metadata/*.targets.json | head -n 1 | grep . || fail "$1 is no role's key"
}
# role_sign SIGNED OUT KEY...: the role file with these signatures; with $forge_keyid they claim to be that key's.
role_sign() {
	local signed=$1 out=$2 key sigs=""
	shift 2
	jq -cSj . "$signed" >"$W/forge.signed"
	for key in "$@"; do
		openssl pkeyutl -sign -rawin -inkey "$key" -in "$W/forge.signed" -out "$W/forge.sig" || fail "cannot sign"
		sigs+=${sigs:+,}$(printf '{"keyid":"%s","sig":"%s"}' "${forge_keyid:-$(key_id_of "$key")}" "$(od -An -tx1 -v "$W/forge.sig" | tr -d ' \n')")
	done
	printf '{"signatures":[%s],"signed":%s}' "$sigs" "$(cat "$W/forge.signed")" >"$out.new" && mv "$out.new" "$out"
}
# meta_of FILE VERSION: how the role above names it.
meta_of() {
	printf '{"hashes":{"sha256":"%s"},"length":%s,"version":%s}' "$(sha256sum <"$1" | cut -d' ' -f 1)" "$(stat -c %s "$1")" "$2"
}
# online [JQ]: the next snapshot, changed by JQ, and a timestamp that names it, by the keys of these two roles alone.
online() {
	local n md=$W/repo/metadata forge_keyid=
	n=$(role_newest snapshot)
	jq ".signed | .version = $((n + 1)) | ${1:-.}" "$md/$n.snapshot.json" >"$W/forge.next"
	n=$((n + 1))
	role_sign "$W/forge.next" "$md/$n.snapshot.json" "$W/keys/snapshot.pem"
	jq --argjson m "$(meta_of "$md/$n.snapshot.json" "$n")" '.signed | .version += 1 | .meta["snapshot.json"] = $m' \
		"$md/timestamp.json" >"$W/forge.next"
	role_sign "$W/forge.next" "$md/timestamp.json" "$W/keys/timestamp.pem"
}
# role_put ROLE FILE VERSION: FILE is now this version of ROLE, whatever is in it, and snapshot and timestamp say so.
role_put() {
	local to=$W/repo/metadata/$3.$1.json
	cp "$2" "$to"
	online ".meta[\"$1.json\"] = $(meta_of "$to" "$3")"
}
# forge ROLE JQ [KEY]...: the next version of targets or of a delegated role, its `signed` changed by JQ.
forge() {
	local n role=$1 change=$2
	shift 2
	[ $# -gt 0 ] || set -- "$W/keys/${role%%.*}.pem"
	n=$(role_newest "$role")
	jq ".signed | .version = $((n + 1)) | $change" "$W/repo/metadata/$n.$role.json" >"$W/forge.next"
	role_sign "$W/forge.next" "$W/forge.role" "$@"
	role_put "$role" "$W/forge.role" $((n + 1))
}
# target_put ROLE PATH FILE [LENGTH]: FILE lies under its hash in targets/, and ROLE names it as PATH, with its length or LENGTH.
target_put() {
	local hash to
	hash=$(sha256sum <"$3" | cut -d' ' -f 1)
	to=$W/repo/targets/$(dirname "$2")/$hash.${2##*/}
	mkdir -p "${to%/*}"
	cp "$3" "$to"
	forge "$1" ".targets[\"$2\"] = {hashes: {sha256: \"$hash\"}, length: ${4:-$(stat -c %s "$3")}}"
}
# target_now ROLE PATH: the file that ROLE names as PATH now.
target_now() {
	local hash
	hash=$(jq -r --arg p "$2" '.signed.targets[$p].hashes.sha256' "$W/repo/metadata/$(role_newest "$1").$1.json")
	realpath "$W/repo/targets/$(dirname "$2")/$hash.${2##*/}"
}
