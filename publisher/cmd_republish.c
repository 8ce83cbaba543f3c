/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub republish: an older version's files as a new version. No blob moves. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_repo.h"
#include "gate.h"
#include "io.h"
#include "offer.h"
#include "pack.h"
#include "publish.h"
#include "trustfile.h"

static const char help_text[] =
	"usage: modelpub republish REPO ID VERSION --as X.Y.Z --sign KEY --keys KEYDIR [options]\n"
	"\n"
	"Publish the files of an older version as a new version: the way back that every device can take forward.\n"
	"No file is copied. Keys needed: one that signs models (--sign), release, policy, snapshot, timestamp.\n"
	"\n"
	"  --as X.Y.Z           the new version\n"
	"  --release N          its release (default: the highest + 1)\n"
	"  --sign KEY           signing key: PEM file or OpenSSL store URI (repeatable)\n"
	"  --key-epoch N        epoch of these keys (default: that of the older version)\n"
	"  --variant NAME       variant of the older version\n"
	"  --percent N          to N % of the devices now, to all once 'modelpub advance' confirms\n"
	"  --steps LIST         PERCENT@TIME,...\n"
	"  --match KEY=VALUE    only devices like this (repeatable)\n" MFS_REPO_HELP;

enum { OPT_AS = MFS_OPT_OTHER, OPT_RELEASE, OPT_SIGN, OPT_EPOCH, OPT_VARIANT };

static const struct option options[] = { { "as", required_argument, NULL, OPT_AS },
	{ "release", required_argument, NULL, OPT_RELEASE }, { "sign", required_argument, NULL, OPT_SIGN },
	{ "key-epoch", required_argument, NULL, OPT_EPOCH }, { "variant", required_argument, NULL, OPT_VARIANT },
	MFS_OFFER_OPTIONS, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	const char *model_id, *version, *variant, *as;
	int64_t release, epoch;
	struct mfs_args sign, match;
	struct mfs_offer offer;
	struct mfs_signer *signers[MFS_KEY_IDS_MAX];
	size_t n_signers;
	struct mfs_bundle_docs docs; /* the new manifest and its signatures */
	struct mfs_manifest *m;
	struct mfs_policy *p;
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->sign);
	mfs_args_free(&r->match);
	for (size_t i = 0; i < r->n_signers; i++)
		mfs_signer_free(r->signers[i]);
	mfs_bundle_docs_free(&r->docs);
	mfs_manifest_free(r->m);
	mfs_policy_free(r->p);
	mfs_repocmd_clear(&r->c);
}

/* The manifest of the older version, as JSON. */
static enum mfs_code
old_read(struct request *r, json_t **out, struct mfs_err *err)
{
	char role[MFS_ROLE_ROOM], path[MFS_TUF_PATH_MAX];
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_policy_entry e;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_offer_entry(r->c.repo, r->model_id, r->version, r->variant, &e, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "%s/%s/%s/manifest.json", r->model_id, e.version, e.variant);
	code = mfs_repo_target_read(r->c.repo, mfs_role_release(role, r->model_id), path, MFS_MANIFEST_BYTES_MAX, &bytes, &len,
		err);
	if (code != MFS_OK)
		return code;
	return mfs_json_parse_canonical(path, MFS_SPAN(bytes, len), MFS_MANIFEST_BYTES_MAX, out, err);
}

/* The highest release that is published in an epoch, by the targets' own notes. */
static int64_t
highest_release(struct request *r, int64_t epoch)
{
	char role[MFS_ROLE_ROOM];
	struct mfs_repo_role *by;
	json_t *targets, *t;
	const char *path;
	int64_t highest = 0;

	if (mfs_repo_role(r->c.repo, mfs_role_release(role, r->model_id), &by, NULL) != MFS_OK)
		return 0;
	targets = json_object_get(mfs_md_signed(by->doc), "targets");
	json_object_foreach(targets, path, t) {
		const json_t *custom = json_object_get(t, "custom");
		const int64_t n = json_integer_value(json_object_get(custom, "release"));

		if (json_integer_value(json_object_get(custom, "key_epoch")) == epoch && n > highest)
			highest = n;
	}
	return highest;
}

static enum mfs_code
signature_add(struct request *r, const struct mfs_signer *key, size_t i, struct mfs_err *err)
{
	const struct mfs_span manifest = MFS_SPAN(r->docs.manifest, r->docs.manifest_len);
	struct mfs_bundle_sig *s = &r->docs.sigs[r->docs.n_sigs];
	uint8_t sig[MFS_SIGNATURE_ROOM];
	enum mfs_code code;
	size_t len;

	if ((code = mfs_signer_sign(key, manifest, sig, &len, err)) != MFS_OK ||
		(code = mfs_signature_check(manifest, key, MFS_SPAN(sig, len), err)) != MFS_OK)
		return code;
	if ((s->bytes = malloc(len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signature");
	memcpy(s->bytes, sig, len);
	s->len = len;
	if (i > 0)
		(void)mfs_sha256_hex(s->key_id, mfs_signer_key_id(key));
	r->docs.n_sigs++;
	return MFS_OK;
}

/* The new manifest: other version, release, time and signers; the same files. */
static enum mfs_code
new_make(struct request *r, struct mfs_err *err)
{
	const struct mfs_sha256 *ids[MFS_KEY_IDS_MAX];
	mfs_autojson json_t *doc = NULL;
	mfs_autofree char *text = NULL;
	enum mfs_code code;
	char *bytes;
	size_t len;

	if ((code = old_read(r, &doc, err)) != MFS_OK)
		return code;
	if (r->epoch == 0)
		r->epoch = json_integer_value(json_object_get(doc, "key_epoch"));
	if (r->release == 0)
		r->release = highest_release(r, r->epoch) + 1;
	if (json_object_set_new(doc, "version", json_string(r->as)) != 0 ||
		json_object_set_new(doc, "release", json_integer(r->release)) != 0 ||
		json_object_set_new(doc, "build_time", json_integer(r->c.repo->now)) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	for (size_t i = 0; i < r->n_signers; i++)
		ids[i] = mfs_signer_key_id(r->signers[i]);
	if ((code = mfs_json_canonical(doc, &text, &len, err)) != MFS_OK ||
		(code = mfs_manifest_rekey(MFS_SPAN(text, len), ids, r->n_signers, r->epoch, &bytes, &len, &r->m, err)) != MFS_OK)
		return code;
	r->docs.manifest = (uint8_t *)bytes;
	r->docs.manifest_len = len;
	if ((r->docs.sigs = calloc(r->n_signers, sizeof(*r->docs.sigs))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signatures");
	for (size_t i = 0; i < r->n_signers; i++)
		if ((code = signature_add(r, r->signers[i], i, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

/* Would devices that go by trust.json take it? */
static enum mfs_code
trust_check(struct request *r, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	enum mfs_code code;

	if ((code = mfs_trustfile_load(r->c.repo, &list, err)) != MFS_OK || list->n_keys == 0)
		return code;
	if ((code = mfs_trust_new(&trust, err)) != MFS_OK || (code = mfs_trustlist_apply(list, trust, err)) != MFS_OK)
		return code;
	return mfs_gate_signatures(&r->docs, trust, 1, &m, NULL, err);
}

static enum mfs_code
republish(struct request *r, const char *repo, struct mfs_err *err)
{
	const struct mfs_policy_rollout *rollout;
	enum mfs_published state;
	enum mfs_code code;

	if ((code = mfs_signers_load(r->sign.v, r->sign.n, r->c.passin, NULL, 0, r->signers, &r->n_signers, err)) != MFS_OK ||
		(code = mfs_repocmd_open_model(&r->c, repo, r->model_id, MFS_NEED_RELEASE | MFS_NEED_POLICY, err)) != MFS_OK ||
		(code = new_make(r, err)) != MFS_OK || (code = trust_check(r, err)) != MFS_OK ||
		(code = mfs_offer_load(r->c.repo, r->model_id, &r->p, err)) != MFS_OK ||
		(code = mfs_publish_check(r->c.repo, r->m, r->p, &state, err)) != MFS_OK ||
		(code = mfs_publish_docs(r->c.repo, r->m, &r->docs, err)) != MFS_OK ||
		(code = mfs_offer_manifest(r->c.repo, r->p, &r->offer, r->m, &rollout, err)) != MFS_OK ||
		(code = mfs_repocmd_commit(&r->c, err)) != MFS_OK)
		return code;
	mfs_offer_print(r->model_id, rollout, r->c.repo->now);
	return MFS_OK;
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct request *r = user;

	switch (opt) {
	case OPT_AS:
		r->as = arg;
		if (!mfs_version_ok(arg, strlen(arg)))
			return mfs_usage("republish", "--as %s: want a semantic version without build metadata", MFS_ESC(arg));
		break;
	case OPT_RELEASE:
	case OPT_EPOCH:
		if (!mfs_parse_int(arg, 1, MFS_JSON_INT_MAX, opt == OPT_RELEASE ? &r->release : &r->epoch))
			return mfs_usage("republish", "%s: want 1 or more", MFS_ESC(arg));
		break;
	case OPT_SIGN:
		if (r->sign.n == MFS_KEY_IDS_MAX)
			return mfs_usage("republish", "more than %u signing keys", MFS_KEY_IDS_MAX);
		if (mfs_args_add(&r->sign, arg, &err) != MFS_OK)
			return mfs_repocmd_fail(&r->c, &err);
		break;
	case OPT_VARIANT:
		r->variant = arg;
		break;
	default:
		return mfs_repocmd_offer(&r->c, &r->offer, &r->match, opt, arg);
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_republish(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .release = 0 };
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];
	int done;

	mfs_repocmd_init(&r.c, "republish", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 3 != argc)
		return mfs_usage("republish", "want REPO, ID and VERSION");
	if (r.as == NULL || r.sign.n == 0)
		return mfs_usage("republish", "--%s is missing", r.as == NULL ? "as" : "sign");
	r.model_id = argv[optind + 1];
	r.version = argv[optind + 2];
	if (!mfs_model_id_ok(r.model_id, strlen(r.model_id)) || !mfs_version_ok(r.version, strlen(r.version)))
		return mfs_usage("republish", "'%s' '%s': want a model id and a version", MFS_ESC(r.model_id), MFS_ESC(r.version));
	if (republish(&r, argv[optind], &err) != MFS_OK)
		return mfs_repocmd_fail(&r.c, &err);
	mfs_print_summary(r.m, "published: ", "");
	(void)printf("in %s\n", mfs_repocmd_where(&r.c, where));
	return mfs_finish("republish");
}
