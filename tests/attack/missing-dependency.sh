#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A bundle that needs another model in another release is refused before a byte of it is copied, and installs once
# that model is there.
# shellcheck source=../lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
fixture 'det: {serve: paged, model_key: "file:mk.bin"}' 'voc: {serve: paged, model_key: "file:mk.bin"}'
gen raw 9000 3 "$W/words.bin"
for v in 1 2; do id=voc pack "1.$v.0" "$v" "$W/v$v" "$W/words.bin"; done
edit_manifest "$W/b2" '.compat.depends = [{"min_release": 2, "model_id": "voc"}]'
refused "$W/b2" incompatible_runtime
install_ "$W/v1" || fail "install of voc: exit $?"
refused "$W/b2" incompatible_runtime
install_ "$W/v2" || fail "install of voc: exit $?"
install_ "$W/b2" || fail "what was missing is there: exit $?"
