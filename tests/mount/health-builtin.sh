#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The built-in checks: valid models of each format pass; NaN, a cut file and the wrong media are refused with
# file and offset; test vectors are compared.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=../lib/health.sh
. "$(dirname "$0")/../lib/health.sh"
keys
config 'det: {model_key: "file:mk.bin"}'
mount_
n=0
bundle() { # FILE...
	n=$((n + 1))
	rm -rf "$W/b"
	(cd "$W/src" && pack "1.$n.0" "$n" "$W/b" "$@")
}
mkdir -p "$W/src"
nan() { # FILE OFFSET
	printf '\000\000\300\177' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
failed() { # WORDS
	expect 1 "health_check_failed.*$1.*modelfs mark good|$1.*health_check_failed.*modelfs mark good" "$modelfs" install -c "$CFG" "$W/b"
	active_is "$now" || fail "it is active"
}

now=
for f in gguf onnx onnx-external safetensors tflite; do
	step "$f"
	name=model.${f%-external}
	rm -rf "$W/src"/*
	gen "$f" 3M "$n" "$W/src/$name"
	files=("$name")
	[ "$f" != onnx-external ] || files+=("$name.data")
	bundle "${files[@]}"
	install_ "$W/b" || fail "a valid $f is refused: exit $?"
	now=1.$n.0
	active_is "$now" || fail "$now is not active"
	weights=$W/src/$name
	[ "$f" != onnx-external ] || weights=$W/src/$name.data
	size=$(stat -c %s "$weights")
	nan "$weights" $((size - 4))
	bundle "${files[@]}"
	failed "${weights##*/}: offset $((size - 4)): .*NaN"
	[ "$f" != onnx-external ] || continue
	truncate -s $((size / 2)) "$weights"
	bundle "$name"
	failed "$name: offset [0-9]+: "
	gen raw 100K "$n" "$W/src/$name"
	bundle "$name"
	failed "$name: offset [0-9]+: "
done

step "test vectors"
unmount_
config "det: {model_key: \"file:mk.bin\", health: {command: [$P/check]}}"
mount_
rm -rf "$W/src"/*
gen safetensors 100K 7 "$W/src/model.safetensors"
vectors='{"vectors": [{"name": "zeros", "input": [0, 0], "output": {"score": {"value": "0.5", "tolerance": "0.01"}}}]}'
printf '%s' "$vectors" >"$W/src/vectors.json"
printf 'health:\n  vectors:\n    - {name: zeros, input: [0, 0], output: {score: {value: "0.5", tolerance: "0.01"}}}\n' >"$W/inline.yaml"
printf 'health: {file: vectors.json}\n' >"$W/file.yaml"
vector_bundle() { # META
	n=$((n + 1))
	rm -rf "$W/b"
	(cd "$W/src" && pack "1.$n.0" "$n" "$W/b" --meta "$W/$1.yaml" model.safetensors vectors.json)
}
# shellcheck disable=SC2016 # for the check
answer='jq -e "(.health // .).vectors[0].input == [0, 0]" "$MODELFS_VECTORS" >/dev/null || exit 3
echo starting; jq -c "(.health // .).vectors[] | {name, output: {score: SCORE}}" "$MODELFS_VECTORS"'
for how in inline file; do
	check "${answer/SCORE/0.505}"
	vector_bundle "$how"
	install_ "$W/b" || fail "$how: right outputs are refused: $(tail -n 3 "$W/log")"
	now=1.$n.0
	check "${answer/SCORE/0.6}"
	vector_bundle "$how"
	failed "zeros.*score.*0.6, expected 0.5"
	check 'exit 0'
	vector_bundle "$how"
	failed "zeros.*no line"
done
unmount_
