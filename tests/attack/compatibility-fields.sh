#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each field of a manifest that says where it runs, wrong for this host, in the update of a mounted model: refused with
# its outcome before a payload is fetched, told once, not tried again by itself; a malformed one condemns its manifest;
# what is active stays, and the next version that fits comes.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_fuse
# shellcheck source=../lib/repo.sh
. "$(dirname "$0")/../lib/repo.sh"
# shellcheck source=../lib/forge.sh
. "$(dirname "$0")/../lib/forge.sh"
size=60K
two=$(printf '2%.0s' {1..64})
one=$(printf '1%.0s' {1..64})
repository "det: {model_key: \"file:mk.bin\", input_schema_sha256: \"$two\", output_schema_sha256: \"$two\", preprocess_sha256: \"$two\"}"
sed -i -e "s|probation: 10m|probation: 0|" \
	-e 's|region: eu}|region: eu, labels: {site: x}, apps: {vision: 3.2.0}, runtimes: {onnxruntime: 1.17.0}}|' "$CFG"
wanted="{input_schema_sha256: \"$two\", output_schema_sha256: \"$two\", preprocess_sha256: \"$two\"}" # by the application
release 1
edit_manifest "$W/b1" ".compat = $wanted"
publish 1
mount_
brings 1
n=1
# fits_not OUTCOME JQ OF COMPAT: the next release with it is refused so.
fits_not() {
	n=$((n + 1))
	release "$n"
	edit_manifest "$W/b$n" ".compat = ($wanted | $2)"
	publish "$n"
	expect 3 "$1" "$modelfs" update -c "$CFG" det
	[ "$(cycle_ '.refused | "\(.version) \(.why.outcome)"')" = "1.$n.0 $1" ] || fail "$2: $(cycle_ .)"
	[ "$(cycle_ .next)" = null ] || fail "$2: it goes on: $(cycle_ .next)"
	grep -q "$1" "$MNT/det/status" || fail "$2: $(cat "$MNT/det/status")"
	expect 3 "$1" "$modelfs" check -c "$CFG" det
	[ "$("$modelfs" events -c "$CFG" --json | jq -s --arg o "$1" --arg v "1.$n.0" '[.[] | select(.outcome == $o and .version == $v)] | length')" = 1 ] ||
		fail "$2: not told once: $("$modelfs" events -c "$CFG" | tail -n 3)"
	[ ! -e "$(blob "$(jq -r '.files[0].sha256' "$W/b$n/manifest.json")")" ] && [ -z "$(find "$W/store/staging" -type f)" ] ||
		fail "$2: a payload was fetched"
	shows 1
	echo "  $2: $1"
}
step "what this host is not, or has not"
fits_not incompatible_runtime '.platforms = ["linux/riscv128"]'
fits_not incompatible_runtime '.labels = {site: ["y", "z"]}'
fits_not incompatible_runtime '.apps = [{name: "vision", min: "4.0.0"}]'
fits_not incompatible_runtime '.apps = [{name: "vision", max: "3.1.0"}]'
fits_not incompatible_runtime '.runtimes = [{name: "onnxruntime", min: "2.0.0"}]'
fits_not incompatible_runtime '.memory = 9000000000000000'
fits_not incompatible_runtime '.depends = [{model_id: "other", min_release: 1}]'
fits_not incompatible_schema ".input_schema_sha256 = \"$one\""
fits_not incompatible_schema ".output_schema_sha256 = \"$one\""
fits_not incompatible_schema ".preprocess_sha256 = \"$one\""

step "one that fits in every field"
n=$((n + 1))
release "$n"
edit_manifest "$W/b$n" ".compat = {labels: {site: [\"x\", \"y\"]}, apps: [{name: \"vision\", min: \"3.0.0\", max: \"4.0.0\"}],
	runtimes: [{name: \"tensorrt\"}, {name: \"onnxruntime\", min: \"1.0.0\"}], memory: 1000} + $wanted"
publish "$n"
brings "$n"

step "one that cannot be, by who has every key"
n=$((n + 1))
release "$n"
publish "$n"
was=$(sha256sum <"$W/b$n/manifest.json") was=${was%% *}
edit_manifest "$W/b$n" '.compat = {page_size: 2048}'
is=$(sha256sum <"$W/b$n/manifest.json") is=${is%% *}
for what in manifest.json signature.sig; do target_put release.det "det/1.$n.0/default/$what" "$W/b$n/$what"; done
sed "s/$was/$is/" "$(target_now policy.det det/policy.json)" >"$W/policy"
target_put policy.det det/policy.json "$W/policy"
expect 3 "malformed.*page_size" "$modelfs" update -c "$CFG" det
event "1.$n.0" 14
expect 3 "known_bad|malformed" "$modelfs" update -c "$CFG" det
shows $((n - 1))
unmount_
