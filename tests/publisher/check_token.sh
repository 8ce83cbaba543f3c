#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Signing keys that stay where they are: by store URI in a TPM (a software one), for bundles and for the roles of a
# repository. Needs swtpm, tpm2-tools and the OpenSSL provider tpm2.
. "$(dirname "$0")/lib.sh"
tpm=${MODELFS_CACHE:-$top/build/cache}/tpm # scripts/deps
if [ -d "$tpm/usr/bin" ]; then
	lib=$(printf '%s\n' "$tpm"/usr/lib/*-linux-gnu)
	export PATH=$PATH:$tpm/usr/bin LD_LIBRARY_PATH=$lib:$lib/swtpm OPENSSL_MODULES=$lib/ossl-modules
fi
for c in swtpm tpm2_createprimary; do
	command -v "$c" >/dev/null || { echo "SKIP: $c is not installed (swtpm, tpm2-tools)"; exit 77; }
	"$c" --version >run 2>&1 || { echo "SKIP: $c does not run here: $(tail -n 1 run)"; exit 77; }
done
modules=${OPENSSL_MODULES:-$(openssl version -m | cut -d '"' -f 2)}
[ -e "$modules/tpm2.so" ] || { echo "SKIP: OpenSSL has no provider tpm2 (tpm2-openssl)"; exit 77; }
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$W"' EXIT

# A TPM of its own, on two ports that are free.
mkdir tpm
for _ in $(seq 20); do
	port=$((20000 + RANDOM % 20000))
	swtpm socket --tpm2 --tpmstate "dir=$W/tpm" --flags not-need-init,startup-clear --log level=0 \
		--server "type=tcp,port=$port,bindaddr=127.0.0.1" --ctrl "type=tcp,port=$((port + 1)),bindaddr=127.0.0.1" >swtpm.log 2>&1 &
	pid=$!
	export TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=$port TPM2OPENSSL_TCTI=swtpm:host=127.0.0.1,port=$port
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || break
		tpm2_getrandom 1 >/dev/null 2>&1 && break 2
		sleep 0.1
	done
	kill "$pid" 2>/dev/null
	pid=
done
[ -n "$pid" ] || { cat swtpm.log; echo "not ok swtpm starts"; exit 1; }
{
	tpm2_createprimary -Q -C o -c prim.ctx && tpm2_flushcontext -t
	tpm2_create -Q -C prim.ctx -G ecc256:ecdsa-sha256 -u k.pub -r k.priv -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
	tpm2_flushcontext -t
	tpm2_load -Q -C prim.ctx -u k.pub -r k.priv -c k.ctx && tpm2_evictcontrol -Q -C o -c k.ctx 0x81000001
	tpm2_flushcontext -t
} >tpm.log 2>&1
printf 'openssl_conf = c\n[c]\nproviders = p\n[p]\ndefault = d\ntpm2 = d\n[d]\nactivate = 1\n' >token.cnf
with_token() { OPENSSL_CONF=$W/token.cnf modelpub "$@"; }
with_token_pub() { OPENSSL_CONF=$W/token.cnf openssl pkey -in handle:0x81000001 -pubout -out "$1"; }
with_token_pub token.pub.pem || { cat tpm.log; echo "not ok the TPM has a key"; exit 1; }
helpers_end
head -c 300000 /dev/urandom >w.bin
modelpub key --out release.pem >/dev/null

a_bundle_is_signed_in_the_tpm_and_verified_without() {
	with_token pack --id det --version 1.0.0 --release 1 --key handle:0x81000001 --out b "$W/w.bin"
	modelpub verify --pub "$W/token.pub.pem" b
	openssl pkeyutl -verify -rawin -digest sha256 -pubin -inkey "$W/token.pub.pem" -sigfile b/signature.sig -in b/manifest.json
	expect 3 key_untrusted modelpub verify --pub "$W/release.pub.pem" b
}

a_token_signs_beside_a_file() {
	with_token pack --id det --version 1.0.0 --release 1 --key "$W/release.pem" --key handle:0x81000001 --out b "$W/w.bin"
	modelpub verify --pub "$W/token.pub.pem" --pub "$W/release.pub.pem" --threshold 2 b
	modelpub pack --id det --version 1.0.0 --release 1 --no-sign --pub "$W/token.pub.pem" --out c "$W/w.bin"
	with_token sign --key handle:0x81000001 c
	modelpub verify --pub "$W/token.pub.pem" c
}

a_role_of_a_repository_is_signed_in_the_tpm() {
	mkdir keys
	echo handle:0x81000001 >keys/timestamp.uri
	modelpub key --out keys/release.pem
	with_token init repo --keys keys --trust "$W/release.pub.pem"
	with_token refresh repo --keys keys
	modelpub check --root keys/root.json repo
}

a_key_without_its_provider_is_unavailable() {
	expect 4 'key_unavailable: handle:0x81000001: .*OPENSSL_CONF' modelpub pack --id det --version 1.0.0 --release 1 \
		--key handle:0x81000001 --out b "$W/w.bin"
	[ ! -e b ]
	expect 1 'handle:0x81000009: no private key' with_token pack --id det --version 1.0.0 --release 1 --key handle:0x81000009 \
		--out b "$W/w.bin"
	[ ! -e b ]
}

properties
exit $failed
