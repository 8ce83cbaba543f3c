#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# modelpub plan against a real repository: what it says before a publish is what the policy says after it.
set -eu
export LC_ALL=C.UTF-8
top=$(cd "$(dirname "$0")/../.." && pwd)
MODELPUB=${MODELPUB:-${MFS_BUILD:-${BUILD:-$top/build}}/modelpub}
case $MODELPUB in /*) ;; *) MODELPUB=$PWD/$MODELPUB ;; esac
[ -x "$MODELPUB" ] || { echo "SKIP: $MODELPUB is not built"; exit 77; }
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
W=$(mktemp -d "${TMPDIR:-/tmp}/check-plan.XXXXXX")
trap 'rm -rf "$W"' EXIT
cd "$W"
fail() { echo "check_plan: $*"; exit 1; }
pub() { "$MODELPUB" "$@" >>log 2>&1 || { cat log; fail "modelpub $*"; }; }

mkdir src
echo model >src/model.bin
pub key --out sign.pem
for n in 0 1; do pub pack --id det --version 1.$n.0 --release $((n + 1)) --key sign.pem --quiet --out b$n src; done
pub init repo --keys keys
pub publish repo b0 --keys keys
for i in $(seq 2000); do
	echo "{\"id\":\"dev-$i\",\"class\":\"$([ $((i % 2)) = 0 ] && echo x || echo y)\",\"region\":\"eu\"}"
done >devices
# Nothing is published yet: the draft of an upload.
pub publish repo b1 --keys keys --percent 30 --match device_class=x --out up
draft=$(echo up/2-targets/targets/det/*.policy.json)
[ -f "$draft" ] || fail "no draft policy in the upload: $(find up)"
"$MODELPUB" plan repo --devices devices >now
grep -qE '^ +2000 +100\.00 %  1\.0\.0 ' now || fail "before: $(cat now)"
"$MODELPUB" plan repo --devices devices --policy "$draft" --list --quiet >draft.list
# An independent reading of the draft: hashlib and the definition of a bucket.
python3 - "$draft" devices >expected <<'PY'
import hashlib, json, sys
policy = json.load(open(sys.argv[1]))
for line in open(sys.argv[2]):
    d = json.loads(line)
    for r in policy["rollouts"]:
        if any(d[{"device_class": "class"}.get(k, k)] not in v for k, v in r["match"].items()):
            continue
        x = int.from_bytes(hashlib.sha256(r["salt"].encode() + b"\0" + d["id"].encode()).digest()[:8], "big")
        b = x * 10000 >> 64
        if b < r["steps"][0]["fraction"]:
            v = r["variants"][0]
            print(d["id"], "det", v["version"], v["variant"], v["release"], r["id"], b, sep="\t")
            break
PY
cmp expected draft.list || fail "the plan of the draft differs from an independent reading"
n=$(grep -cP '\t1\.1\.0\t' draft.list) # 30 % of 1000, within five sigma
[ "$n" -ge 228 ] && [ "$n" -le 372 ] || fail "$n of 1000 devices in 30 %"
grep -P '\t1\.1\.0\t' draft.list | grep -qvP '^dev-\d*[02468]\t' && fail "a device of another class is in"
# Another class, an inventory on standard input, one model, a time before anything takes effect.
"$MODELPUB" plan repo --devices - --model det --time 2020-01-01T00:00:00Z <devices >early
grep -qE '2000 +100\.00 %  nothing: no step has taken effect yet' early || fail "early: $(cat early)"
"$MODELPUB" plan repo --devices devices --model seg >out 2>&1 && fail "a model that is not there"
grep -q 'has no model seg' out || fail "$(cat out)"
echo '{"id":"dev-1"' | "$MODELPUB" plan repo --devices - >out 2>&1 && fail "a broken inventory is accepted"
grep -q 'line 1' out || fail "$(cat out)"
rc=0
"$MODELPUB" plan repo >out 2>&1 || rc=$?
[ $rc = 64 ] || fail "without --devices: $rc"
# A revocation shows, and moves devices to what is below.
pub publish repo b1 --keys keys
pub revoke repo det 1.1.0 --keys keys --action withdraw
"$MODELPUB" plan repo --devices devices >after
grep -qE '^ +2000 +100\.00 %  1\.0\.0 ' after || fail "after: $(cat after)"
grep -q '1.1.0 is revoked where it runs: withdraw' after || fail "after: $(cat after)"
echo "ok check_plan"
