/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub sign: signatures for a bundle that exists, made here or elsewhere. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "gate.h"
#include "io.h"
#include "pack.h"

static const char help_text[] =
	"usage: modelpub sign --key KEY [--key ...] [--passin SOURCE] BUNDLE\n"
	"       modelpub sign --rekey --key KEY [--key ...] [--pub FILE ...] [--key-epoch N] BUNDLE\n"
	"       modelpub sign --pub FILE --digest-out FILE BUNDLE\n"
	"       modelpub sign --pub FILE --signature FILE BUNDLE\n"
	"\n"
	"Sign a bundle's manifest with keys that it lists. Every signature is verified before it is stored.\n"
	"\n"
	"  --key KEY           signing key: PEM file or OpenSSL store URI (repeatable)\n"
	"  --passin SOURCE     its pass phrase: file:PATH or env:NAME (else asked for on the terminal)\n"
	"  --rekey             list exactly these keys in the manifest; the old signatures go, and the\n"
	"                      manifest's SHA-256, its identity, changes: only before it was ever published\n"
	"  --key-epoch N       with --rekey: epoch of the keys on devices\n"
	"  --pub FILE          public key of one who signs elsewhere (a KMS); with --rekey repeatable\n"
	"  --digest-out FILE   write what it must sign: the manifest for Ed25519, its SHA-256 for ECDSA P-256\n"
	"  --signature FILE    store its signature: raw Ed25519, ECDSA in DER or as 64 bytes\n"
	"  --help              this text\n";

enum { OPT_KEY = MFS_OPT_OTHER, OPT_PASSIN, OPT_REKEY, OPT_EPOCH, OPT_PUB, OPT_DIGEST, OPT_SIGNATURE };

static const struct option options[] = {
	{ "key", required_argument, NULL, OPT_KEY },
	{ "passin", required_argument, NULL, OPT_PASSIN },
	{ "rekey", no_argument, NULL, OPT_REKEY },
	{ "key-epoch", required_argument, NULL, OPT_EPOCH },
	{ "pub", required_argument, NULL, OPT_PUB },
	{ "digest-out", required_argument, NULL, OPT_DIGEST },
	{ "signature", required_argument, NULL, OPT_SIGNATURE },
	{ "help", no_argument, NULL, MFS_OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

struct request {
	const char *bundle;
	struct mfs_args keys, pubs;
	const char *passin, *digest_out, *signature;
	int64_t epoch; /* 0: as it is */
	bool rekey;
	struct mfs_signer *signers[MFS_KEY_IDS_MAX]; /* keys, then pubs */
	size_t n_signers;
	/* the bundle */
	int dirfd;
	struct mfs_bundle_docs docs;
	struct mfs_manifest *m;
	size_t written; /* signatures stored */
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->keys);
	mfs_args_free(&r->pubs);
	for (size_t i = 0; i < r->n_signers; i++)
		mfs_signer_free(r->signers[i]);
	mfs_cleanup_close(&r->dirfd);
	mfs_bundle_docs_free(&r->docs);
	mfs_manifest_free(r->m);
}

static struct mfs_span
manifest_span(const struct request *r)
{
	return MFS_SPAN(r->docs.manifest, r->docs.manifest_len);
}

/* Verify, then store. */
static enum mfs_code
signature_store(struct request *r, const struct mfs_signer *key, struct mfs_span sig, struct mfs_err *err)
{
	enum mfs_code code;
	char name[96];

	if ((code = mfs_signature_name(r->m, mfs_signer_key_id(key), name, err)) != MFS_OK ||
		(code = mfs_signature_check(manifest_span(r), key, sig, err)) != MFS_OK ||
		(code = mfs_file_replace(r->dirfd, name, sig.p, sig.len, 0644, err)) != MFS_OK)
		return code;
	r->written++;
	(void)printf("signed: %s: %s by %s\n", MFS_ESC(r->bundle), name, MFS_HEX(mfs_signer_key_id(key)));
	return MFS_OK;
}

/* Is there a good signature by this key already? */
static bool
signature_present(const struct request *r, const struct mfs_signer *key)
{
	const struct mfs_sha256 *id = mfs_signer_key_id(key);

	for (size_t i = 0; i < r->docs.n_sigs; i++) {
		const struct mfs_bundle_sig *s = &r->docs.sigs[i];

		if ((s->key_id[0] == '\0' ? mfs_sha256_equal(&r->m->key_ids[0], id) : strcmp(s->key_id, MFS_HEX(id)) == 0) &&
			mfs_signature_check(manifest_span(r), key, MFS_SPAN(s->bytes, s->len), NULL) == MFS_OK)
			return true;
	}
	return false;
}

static enum mfs_code
sign_here(struct request *r, struct mfs_err *err)
{
	for (size_t i = 0; i < r->keys.n; i++) {
		uint8_t sig[MFS_SIGNATURE_ROOM];
		enum mfs_code code;
		char name[96];
		size_t len;

		if ((code = mfs_signature_name(r->m, mfs_signer_key_id(r->signers[i]), name, err)) != MFS_OK)
			return code;
		if (signature_present(r, r->signers[i])) {
			(void)printf("already signed: %s: %s\n", MFS_ESC(r->bundle), name);
			continue;
		}
		if ((code = mfs_signer_sign(r->signers[i], manifest_span(r), sig, &len, err)) != MFS_OK ||
			(code = signature_store(r, r->signers[i], MFS_SPAN(sig, len), err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
digest_write(const struct request *r, struct mfs_err *err)
{
	const struct mfs_signer *key = r->signers[0];
	struct mfs_sha256 digest;
	enum mfs_code code;
	char name[96];

	if ((code = mfs_signature_name(r->m, mfs_signer_key_id(key), name, err)) != MFS_OK)
		return code;
	if (mfs_signer_type(key) == MFS_SIGNER_ED25519) {
		code = mfs_file_create(r->digest_out, r->docs.manifest, r->docs.manifest_len, 0644, err);
	} else if ((code = mfs_sha256(manifest_span(r), &digest, err)) == MFS_OK) {
		code = mfs_file_create(r->digest_out, digest.b, sizeof(digest.b), 0644, err);
	}
	if (code == MFS_OK)
		(void)printf("to be signed: %s: %s, for %s\n", MFS_ESC(r->digest_out),
			mfs_signer_type(key) == MFS_SIGNER_ED25519 ? "message for Ed25519" :
								     "SHA-256 digest for ECDSA P-256",
			name);
	return code;
}

static enum mfs_code
signature_attach(struct request *r, struct mfs_err *err)
{
	const struct mfs_signer *key = r->signers[0];
	uint8_t der[MFS_SIGNATURE_ROOM];
	mfs_autofree uint8_t *sig = NULL;
	struct mfs_span span;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_file_read(AT_FDCWD, r->signature, MFS_SIGNATURE_BYTES_MAX, &sig, &len, err)) != MFS_OK)
		return code;
	span = MFS_SPAN(sig, len);
	if (mfs_signer_type(key) == MFS_SIGNER_P256 && len == 64) {
		if ((code = mfs_ecdsa_raw_to_der(sig, der, &len, err)) != MFS_OK)
			return code;
		span = MFS_SPAN(der, len);
	}
	if ((code = signature_store(r, key, span, err)) != MFS_OK)
		(void)mfs_err_context(err, "%s: ", MFS_ESC(r->signature));
	return code;
}

/* A manifest that lists other keys: another manifest, so the old signatures go first. */
static enum mfs_code
rekey(struct request *r, struct mfs_err *err)
{
	const struct mfs_sha256 *ids[MFS_KEY_IDS_MAX];
	struct mfs_manifest *m = NULL;
	char *bytes = NULL;
	enum mfs_code code;
	size_t len;

	for (size_t i = 0; i < r->n_signers; i++)
		ids[i] = mfs_signer_key_id(r->signers[i]);
	if ((code = mfs_manifest_rekey(manifest_span(r), ids, r->n_signers, r->epoch, &bytes, &len, &m, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < r->docs.n_sigs && code == MFS_OK; i++) {
		char name[96] = "signature.sig";

		if (r->docs.sigs[i].key_id[0] != '\0')
			(void)snprintf(name, sizeof(name), "signature.%s.sig", r->docs.sigs[i].key_id);
		if (unlinkat(r->dirfd, name, 0) != 0)
			code = mfs_fail_sys(err, MFS_IO, "%s: remove", name);
	}
	if (code == MFS_OK)
		code = mfs_file_replace(r->dirfd, "manifest.json", bytes, len, 0644, err);
	if (code != MFS_OK) {
		free(bytes);
		mfs_manifest_free(m);
		return code;
	}
	mfs_bundle_docs_free(&r->docs);
	mfs_manifest_free(r->m);
	r->docs.manifest = (uint8_t *)bytes;
	r->docs.manifest_len = len;
	r->m = m;
	return MFS_OK;
}

static enum mfs_code
request_run(struct request *r, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_signers_load(r->keys.v, r->keys.n, r->passin, r->pubs.v, r->pubs.n, r->signers, &r->n_signers,
		    err)) != MFS_OK ||
		(code = mfs_bundledir_open(r->bundle, &r->dirfd, err)) != MFS_OK ||
		(code = mfs_gate_read(r->bundle, &r->docs, &r->m, err)) != MFS_OK)
		return code;
	if (r->digest_out != NULL)
		return digest_write(r, err);
	if (r->signature != NULL)
		return signature_attach(r, err);
	if (r->rekey && (code = rekey(r, err)) != MFS_OK)
		return code;
	return sign_here(r, err);
}

static int
request_check(const struct request *r)
{
	const bool elsewhere = r->digest_out != NULL || r->signature != NULL;

	if (r->digest_out != NULL && r->signature != NULL)
		return mfs_usage("sign", "--digest-out and --signature are two steps");
	if (elsewhere && (r->pubs.n != 1 || r->keys.n != 0 || r->rekey))
		return mfs_usage("sign", "--digest-out and --signature want exactly one --pub and no --key");
	if (!elsewhere && r->keys.n == 0 && !(r->rekey && r->pubs.n > 0))
		return mfs_usage("sign", "--key is missing");
	if (!elsewhere && !r->rekey && r->pubs.n > 0)
		return mfs_usage("sign", "--pub goes with --digest-out, --signature or --rekey");
	if (r->epoch != 0 && !r->rekey)
		return mfs_usage("sign", "--key-epoch goes with --rekey");
	if (r->keys.n + r->pubs.n > MFS_KEY_IDS_MAX)
		return mfs_usage("sign", "more than %u keys", MFS_KEY_IDS_MAX);
	return MFS_EXIT_DONE;
}

static int
option_take(struct request *r, int c, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;

	switch (c) {
	case OPT_KEY:
	case OPT_PUB:
		if (mfs_args_add(c == OPT_KEY ? &r->keys : &r->pubs, arg, &err) != MFS_OK)
			return mfs_report("sign", NULL, &err);
		break;
	case OPT_PASSIN:
		r->passin = arg;
		break;
	case OPT_REKEY:
		r->rekey = true;
		break;
	case OPT_EPOCH:
		if (!mfs_parse_int(arg, 1, MFS_JSON_INT_MAX, &r->epoch))
			return mfs_usage("sign", "--key-epoch %s: want an integer from 1 to 2^53-1", MFS_ESC(arg));
		break;
	case OPT_DIGEST:
		r->digest_out = arg;
		break;
	case OPT_SIGNATURE:
		r->signature = arg;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_sign(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .dirfd = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	int c, exit_code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == MFS_OPT_HELP) {
			(void)fputs(help_text, stdout);
			return mfs_finish("sign");
		}
		if ((exit_code = option_take(&r, c, optarg)) != MFS_EXIT_DONE)
			return exit_code;
	}
	if (optind + 1 != argc)
		return mfs_usage("sign", "want exactly one BUNDLE");
	r.bundle = argv[optind];
	if ((exit_code = request_check(&r)) != MFS_EXIT_DONE)
		return exit_code;
	if (request_run(&r, &err) != MFS_OK)
		return mfs_report("sign", r.bundle, &err);
	if ((exit_code = mfs_finish("sign")) != MFS_EXIT_DONE)
		return exit_code;
	return r.written == 0 && r.keys.n > 0 ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
}
