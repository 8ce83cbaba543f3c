/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub pack: files and folders into a signed bundle. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "gate.h"
#include "io.h"
#include "pack.h"
#include "progress.h"

static const char help_text[] =
	"usage: modelpub pack --id ID --version X.Y.Z --release N --key KEY [options] --out BUNDLE FILE|FOLDER...\n"
	"\n"
	"Pack files (by their base names) and folders (their contents) into BUNDLE and sign it.\n"
	"\n"
	"  --id ID              model id\n"
	"  --version X.Y.Z      semantic version; with --variant it names one bundle for ever\n"
	"  --variant NAME       for example a quantization (default: default)\n"
	"  --release N          rises with every version\n"
	"  --key KEY            signing key: PEM file or OpenSSL store URI (repeatable: rotation, thresholds)\n"
	"  --passin SOURCE      its pass phrase: file:PATH or env:NAME (else asked for on the terminal)\n"
	"  --key-epoch N        epoch of the keys on devices (default 1)\n"
	"  --no-sign            leave the bundle unsigned; 'modelpub sign' signs it\n"
	"  --pub FILE           with --no-sign: public key of one who will sign (repeatable)\n"
	"  --model-key FILE     encrypt, for holders of this key (repeatable)\n"
	"  --content-key FILE   content key instead of a random one (32 bytes, or 64 hex digits)\n"
	"  --cipher NAME        aes-256-gcm (default) or chacha20-poly1305\n"
	"  --chunk-size N       65536 to 1048576, a power of two (default 131072; 524288 above 16 GiB)\n"
	"  --base BUNDLE        keep the content key of an earlier bundle: unchanged files give the same blobs\n"
	"  --base-pub FILE      public key that signed the base, if it is not among these keys (repeatable)\n"
	"  --delta-base X       bundle, or SHA-256 of its manifest, that deltas start from (repeatable)\n"
	"  --meta FILE          compatibility, labels, media and more (YAML)\n"
	"  --out BUNDLE         folder to make; must be absent or empty\n"
	"  --quiet              no progress bar, no notes\n"
	"  --help               this text\n";

enum { OPT_ID = MFS_OPT_OTHER, OPT_VERSION, OPT_VARIANT, OPT_RELEASE, OPT_KEY, OPT_PASSIN, OPT_EPOCH, OPT_NO_SIGN,
	OPT_PUB, OPT_MODEL_KEY, OPT_CONTENT_KEY, OPT_CIPHER, OPT_CHUNK, OPT_BASE, OPT_BASE_PUB, OPT_DELTA, OPT_META, OPT_OUT,
	OPT_QUIET };

static const struct option options[] = {
	{ "id", required_argument, NULL, OPT_ID },
	{ "version", required_argument, NULL, OPT_VERSION },
	{ "variant", required_argument, NULL, OPT_VARIANT },
	{ "release", required_argument, NULL, OPT_RELEASE },
	{ "key", required_argument, NULL, OPT_KEY },
	{ "passin", required_argument, NULL, OPT_PASSIN },
	{ "key-epoch", required_argument, NULL, OPT_EPOCH },
	{ "no-sign", no_argument, NULL, OPT_NO_SIGN },
	{ "pub", required_argument, NULL, OPT_PUB },
	{ "model-key", required_argument, NULL, OPT_MODEL_KEY },
	{ "content-key", required_argument, NULL, OPT_CONTENT_KEY },
	{ "cipher", required_argument, NULL, OPT_CIPHER },
	{ "chunk-size", required_argument, NULL, OPT_CHUNK },
	{ "base", required_argument, NULL, OPT_BASE },
	{ "base-pub", required_argument, NULL, OPT_BASE_PUB },
	{ "delta-base", required_argument, NULL, OPT_DELTA },
	{ "meta", required_argument, NULL, OPT_META },
	{ "out", required_argument, NULL, OPT_OUT },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ "help", no_argument, NULL, MFS_OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

/* Options as given, and what they are loaded into. */
struct request {
	struct mfs_pack p;
	struct mfs_args keys, pubs, base_pubs, model_keys, deltas;
	const char *passin, *content_key;
	struct mfs_signer *signers[MFS_KEY_IDS_MAX];
	size_t n_signers;
	struct mfs_signer *base_signers[MFS_KEY_IDS_MAX];
	size_t n_base_signers;
	struct mfs_key models[MFS_WRAPS_MAX];
	struct mfs_key content;
	struct mfs_sha256 delta_ids[MFS_DELTA_BASES_MAX];
	struct mfs_inputs inputs;
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->keys);
	mfs_args_free(&r->pubs);
	mfs_args_free(&r->base_pubs);
	mfs_args_free(&r->model_keys);
	mfs_args_free(&r->deltas);
	for (size_t i = 0; i < r->n_signers; i++)
		mfs_signer_free(r->signers[i]);
	for (size_t i = 0; i < r->n_base_signers; i++)
		mfs_signer_free(r->base_signers[i]);
	for (size_t i = 0; i < MFS_WRAPS_MAX; i++)
		mfs_key_wipe(&r->models[i]);
	mfs_key_wipe(&r->content);
	mfs_inputs_free(&r->inputs);
}

/* Where a repeatable option collects. */
static struct mfs_args *
list_of(struct request *r, int c)
{
	switch (c) {
	case OPT_KEY:
		return &r->keys;
	case OPT_PUB:
		return &r->pubs;
	case OPT_BASE_PUB:
		return &r->base_pubs;
	case OPT_MODEL_KEY:
		return &r->model_keys;
	default:
		return &r->deltas;
	}
}

/* One option; MFS_EXIT_DONE to go on. */
static int
option_take(struct request *r, int c, char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	int64_t n;

	switch (c) {
	case OPT_ID:
		r->p.model_id = arg;
		break;
	case OPT_VERSION:
		r->p.version = arg;
		break;
	case OPT_VARIANT:
		r->p.variant = arg;
		break;
	case OPT_RELEASE:
		if (!mfs_parse_int(arg, 1, MFS_JSON_INT_MAX, &r->p.release))
			return mfs_usage("pack", "--release %s: want an integer from 1 to 2^53-1", MFS_ESC(arg));
		break;
	case OPT_EPOCH:
		if (!mfs_parse_int(arg, 1, MFS_JSON_INT_MAX, &r->p.key_epoch))
			return mfs_usage("pack", "--key-epoch %s: want an integer from 1 to 2^53-1", MFS_ESC(arg));
		break;
	case OPT_CHUNK:
		if (!mfs_parse_int(arg, MFS_CHUNK_MIN, MFS_CHUNK_MAX, &n) || (n & (n - 1)) != 0)
			return mfs_usage("pack", "--chunk-size %s: want a power of two from %u to %u", MFS_ESC(arg),
				MFS_CHUNK_MIN, MFS_CHUNK_MAX);
		r->p.chunk_size = (uint32_t)n;
		break;
	case OPT_CIPHER:
		if (strcmp(arg, "aes-256-gcm") == 0)
			r->p.cipher = MFS_CIPHER_AES_256_GCM;
		else if (strcmp(arg, "chacha20-poly1305") == 0)
			r->p.cipher = MFS_CIPHER_CHACHA20_POLY1305;
		else
			return mfs_usage("pack", "--cipher %s: want aes-256-gcm or chacha20-poly1305", MFS_ESC(arg));
		break;
	case OPT_KEY:
	case OPT_PUB:
	case OPT_BASE_PUB:
	case OPT_MODEL_KEY:
	case OPT_DELTA:
		if (mfs_args_add(list_of(r, c), arg, &err) != MFS_OK)
			return mfs_report("pack", NULL, &err);
		break;
	case OPT_PASSIN:
		r->passin = arg;
		break;
	case OPT_CONTENT_KEY:
		r->content_key = arg;
		break;
	case OPT_BASE:
		r->p.base = arg;
		break;
	case OPT_META:
		r->p.meta = arg;
		break;
	case OPT_OUT:
		r->p.out = arg;
		break;
	case OPT_NO_SIGN:
		r->p.sign = false;
		break;
	case OPT_QUIET:
		r->p.quiet = true;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

static int
request_check(const struct request *r, int inputs)
{
	const struct mfs_pack *p = &r->p;

	if (p->model_id == NULL || p->version == NULL || p->release == 0 || p->out == NULL || p->out[0] == '\0')
		return mfs_usage("pack", "--%s is missing", p->model_id == NULL ? "id" :
			p->version == NULL					? "version" :
			p->release == 0						? "release" :
										  "out");
	if (!mfs_model_id_ok(p->model_id, strlen(p->model_id)))
		return mfs_usage("pack", "--id %s: want a letter or digit, then letters, digits or ._- (at most %u)",
			MFS_ESC(p->model_id), MFS_ID_MAX);
	if (!mfs_version_ok(p->version, strlen(p->version)))
		return mfs_usage("pack", "--version %s: want a semantic version without build metadata, for example 1.4.2",
			MFS_ESC(p->version));
	if (!mfs_variant_ok(p->variant, strlen(p->variant)))
		return mfs_usage("pack", "--variant %s: want a letter or digit, then letters, digits or ._- (at most %u)",
			MFS_ESC(p->variant), MFS_VARIANT_MAX);
	if (r->keys.n + r->pubs.n == 0)
		return mfs_usage("pack", p->sign ? "--key is missing" : "--no-sign needs --pub: the manifest names its signers");
	if (p->sign && r->pubs.n > 0)
		return mfs_usage("pack", "--pub goes with --no-sign");
	if (r->keys.n + r->pubs.n > MFS_KEY_IDS_MAX)
		return mfs_usage("pack", "more than %u signing keys", MFS_KEY_IDS_MAX);
	if (r->base_pubs.n > MFS_KEY_IDS_MAX)
		return mfs_usage("pack", "more than %u keys of the base", MFS_KEY_IDS_MAX);
	if (r->base_pubs.n > 0 && p->base == NULL)
		return mfs_usage("pack", "--base-pub goes with --base");
	if (r->model_keys.n > MFS_WRAPS_MAX)
		return mfs_usage("pack", "more than %u model keys", MFS_WRAPS_MAX);
	if (r->deltas.n > MFS_DELTA_BASES_MAX)
		return mfs_usage("pack", "more than %u delta bases", (unsigned)MFS_DELTA_BASES_MAX);
	if (r->model_keys.n == 0 && (r->content_key != NULL || p->cipher != MFS_CIPHER_NONE))
		return mfs_usage("pack", "--%s needs --model-key: nobody could decrypt the bundle",
			r->content_key != NULL ? "content-key" : "cipher");
	if (r->content_key != NULL && p->base != NULL)
		return mfs_usage("pack", "--content-key and --base: the content key comes from one of them");
	if (inputs == 0)
		return mfs_usage("pack", "no files named");
	return MFS_EXIT_DONE;
}

static enum mfs_code
delta_base_read(const char *arg, struct mfs_sha256 *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };

	if (mfs_hex_decode(out->b, MFS_SHA256_LEN, arg, strlen(arg)))
		return MFS_OK;
	if (mfs_gate_read(arg, &docs, &m, err) != MFS_OK)
		return mfs_err_context(err, "--delta-base %s: ", MFS_ESC(arg));
	*out = m->id;
	return MFS_OK;
}

static enum mfs_code
signers_load(struct request *r, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_signers_load(r->keys.v, r->keys.n, r->passin, r->pubs.v, r->pubs.n, r->signers, &r->n_signers,
		     err)) != MFS_OK ||
		(code = mfs_signers_load(NULL, 0, NULL, r->base_pubs.v, r->base_pubs.n, r->base_signers,
			 &r->n_base_signers, err)) != MFS_OK)
		return code;
	r->p.keys = r->signers;
	r->p.n_keys = r->n_signers;
	r->p.base_keys = r->base_signers;
	r->p.n_base_keys = r->n_base_signers;
	return MFS_OK;
}

static enum mfs_code
keys_load(struct request *r, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = signers_load(r, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < r->model_keys.n; i++)
		if ((code = mfs_model_key_file(r->model_keys.v[i], &r->models[i], err)) != MFS_OK)
			return code;
	r->p.model_keys = r->models;
	r->p.n_model_keys = r->model_keys.n;
	if (r->content_key != NULL) {
		if ((code = mfs_model_key_file(r->content_key, &r->content, err)) != MFS_OK)
			return code;
		r->p.content_key = &r->content;
	}
	for (size_t i = 0; i < r->deltas.n; i++)
		if ((code = delta_base_read(r->deltas.v[i], &r->delta_ids[i], err)) != MFS_OK)
			return code;
	r->p.delta_bases = r->delta_ids;
	r->p.n_delta_bases = r->deltas.n;
	return MFS_OK;
}

/* SOURCE_DATE_EPOCH, else now. */
static enum mfs_code
build_time(int64_t *out, struct mfs_err *err)
{
	const char *s = getenv("SOURCE_DATE_EPOCH");

	if (s == NULL) {
		*out = mfs_clock_wall();
		return MFS_OK;
	}
	if (!mfs_parse_int(s, 0, MFS_BUILD_TIME_MAX, out))
		return mfs_fail(err, MFS_CONFIG_INVALID, "SOURCE_DATE_EPOCH=%s: want seconds since 1970", MFS_ESC(s));
	return MFS_OK;
}

static void
note_print(void *arg, const char *text)
{
	const struct request *r = arg;

	if (!r->p.quiet)
		(void)fprintf(stderr, "%s\n", text);
}

static int
request_run(struct request *r, char **inputs, size_t n)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (build_time(&r->p.build_time, &err) != MFS_OK || keys_load(r, &err) != MFS_OK ||
		mfs_inputs_gather(inputs, n, note_print, r, &r->inputs, &err) != MFS_OK)
		return mfs_report("pack", NULL, &err);
	r->p.inputs = &r->inputs;
	r->p.note = note_print;
	r->p.note_arg = r;
	if (mfs_pack(&r->p, &m, &err) != MFS_OK)
		return mfs_report("pack", NULL, &err);
	mfs_print_summary(m, "packed: ", r->p.sign ? "" : ", unsigned");
	return mfs_finish("pack");
}

int
mfs_cmd_pack(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .p = { .variant = "default", .key_epoch = 1, .sign = true } };
	int c, exit_code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == MFS_OPT_HELP) {
			(void)fputs(help_text, stdout);
			return mfs_finish("pack");
		}
		if ((exit_code = option_take(&r, c, optarg)) != MFS_EXIT_DONE)
			return exit_code;
	}
	if ((exit_code = request_check(&r, argc - optind)) != MFS_EXIT_DONE)
		return exit_code;
	return request_run(&r, argv + optind, (size_t)(argc - optind));
}
