#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bad UTF-8, control characters and escapes of them in a signed manifest: malformed, and no raw byte in a message.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
need_tool perl
fixture
# Bytes in hex; the last two are the texts \u0000 and \ud800.
for bytes in ff c0af eda080 f4908080 e282 80 01 7f 0a 5c7530303030 5c7564383030; do
	for key in name version model_id; do
		copy_bundle "$W/b2" "$W/bad"
		K=$key X=$bytes perl -0pe 's/"$ENV{K}":"[^"]*"/"\"$ENV{K}\":\"a" . pack("H*", $ENV{X}) . "\""/e' \
			"$W/b2/manifest.json" >"$W/bad/manifest.json"
		! cmp -s "$W/b2/manifest.json" "$W/bad/manifest.json" || fail "the edit did nothing: $key"
		sign_manifest "$W/bad"
		refused "$W/bad" malformed
		LC_ALL=C perl -ne 'exit 1 if /[^\x20-\x7e\n]/' "$W/expect.out" ||
			fail "raw bytes of the attacker in a message: $(od -c "$W/expect.out" | head)"
	done
done
still_good
