#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One byte flipped in the signature, at several offsets, or one byte too few or too many: signature_invalid.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture
for off in 0 1 31 32 62 -1; do
	copy_bundle "$W/b2" "$W/bad"
	flip "$W/bad/signature.sig" "$off"
	refused "$W/bad" signature_invalid
done
copy_bundle "$W/b2" "$W/bad"
truncate -s -1 "$W/bad/signature.sig"
refused "$W/bad" signature_invalid
copy_bundle "$W/b2" "$W/bad"
printf x >>"$W/bad/signature.sig"
refused "$W/bad" signature_invalid
copy_bundle "$W/b2" "$W/bad"
head -c 2000 /dev/zero >"$W/bad/signature.sig"
refused "$W/bad" signature_invalid limit_exceeded malformed
still_good
