/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub check: a repository as a device will see it, all of it. */
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blobs.h"
#include "cmd.h"
#include "io.h"
#include "md.h"
#include "mfs_policy.h"
#include "mfs_tuf.h"
#include "progress.h"
#include "publish.h"
#include "source.h"

static const char help_text[] =
	"usage: modelpub check REPO|URL [--root FILE] [--model ID ...] [--full] [options]\n"
	"\n"
	"Read a repository as a device does, from a trusted root: signatures, versions, expiry, trust list,\n"
	"policies, every manifest with its signature, and that every blob is there in its length. Each problem\n"
	"is a line; exit 0 only without any.\n"
	"\n"
	"  --root FILE      root.json to trust (default: the repository's own oldest one)\n"
	"  --model ID       only this model (repeatable)\n"
	"  --full           read every byte of every blob (folders only)\n"
	"  --time TIME      as if it were TIME, for example 2027-01-31T00:00:00Z\n"
	"  --quiet          problems alone\n"
	"  --help           this text\n";

enum { OPT_ROOT = MFS_OPT_OTHER, OPT_MODEL, OPT_FULL, OPT_TIME, OPT_QUIET };

static const struct option options[] = { { "root", required_argument, NULL, OPT_ROOT },
	{ "model", required_argument, NULL, OPT_MODEL }, { "full", no_argument, NULL, OPT_FULL },
	{ "time", required_argument, NULL, OPT_TIME }, { "quiet", no_argument, NULL, OPT_QUIET },
	{ "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 } };

struct check {
	const char *where, *root;
	struct mfs_args models;
	bool full, quiet;
	int64_t now;
	struct mfs_source *src;
	struct mfs_tuf *tuf;
	struct mfs_trust *trust; /* NULL while trust.json lists none */
	enum mfs_code worst; /* the first problem */
	size_t problems, n_models, n_versions, n_blobs;
	uint64_t bytes;
};

static void
check_clear(struct check *c)
{
	mfs_args_free(&c->models);
	mfs_source_free(c->src);
	mfs_tuf_free(c->tuf);
	mfs_trust_free(c->trust);
}

/* A problem that does not end the check. */
static void
problem(struct check *c, const struct mfs_err *err)
{
	c->problems++;
	if (c->worst == MFS_OK)
		c->worst = err->code;
	(void)printf("problem: %s: %s\n", mfs_code_name(err->code), err->msg);
}

/* Answer what the client wants until it wants nothing more. */
static enum mfs_code
feed(struct check *c, struct mfs_err *err)
{
	for (;;) {
		mfs_autofree uint8_t *bytes = NULL;
		char path[MFS_TUF_FILE_MAX + 16];
		struct mfs_tuf_want want;
		enum mfs_code code;
		bool found;
		size_t len;

		if ((code = mfs_tuf_next(c->tuf, &want, err)) != MFS_OK || want.name == NULL)
			return code;
		(void)snprintf(path, sizeof(path), "metadata/%s", want.name);
		if ((code = mfs_source_get(c->src, path, want.cap, &bytes, &len, &found, err)) != MFS_OK)
			return code;
		code = mfs_tuf_feed(c->tuf, found ? MFS_TUF_BYTES : MFS_TUF_NOT_FOUND, MFS_SPAN(bytes, len), err);
		if (code != MFS_OK)
			return mfs_err_context(err, "%s: ", path);
	}
}

/* The bytes of a target, by its delegations. *out NULL: nobody names it. */
static enum mfs_code
target_get(struct check *c, const char *path, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	mfs_autofree char *file = NULL;
	struct mfs_tuf_target t;
	enum mfs_code code;
	bool found;

	*out = NULL;
	*len = 0;
	if ((code = mfs_tuf_find(c->tuf, path, err)) != MFS_OK || (code = feed(c, err)) != MFS_OK)
		return mfs_err_context(err, "%s: ", MFS_ESC(path));
	if (!mfs_tuf_found(c->tuf, &t))
		return MFS_OK;
	if (asprintf(&file, "targets/%s", t.name) < 0) {
		file = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	if ((code = mfs_source_get(c->src, file, cap, out, len, &found, err)) != MFS_OK)
		return code;
	if (!found)
		return mfs_fail(err, MFS_NET_HTTP, "%s: is not there", MFS_ESC(file));
	if ((code = mfs_tuf_target_check(&t, MFS_SPAN(*out, *len), err)) != MFS_OK) {
		mfs_cleanup_free(out);
		return mfs_err_context(err, "%s: ", MFS_ESC(file));
	}
	return MFS_OK;
}

/* ---- blobs ------------------------------------------------------------------------------------- */

static enum mfs_code
blob_check(struct check *c, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err)
{
	char dir[MFS_BLOB_PATH], path[MFS_BLOB_PATH + 24];
	enum mfs_code code;

	(void)mfs_blob_path(dir, hash);
	c->n_blobs++;
	c->bytes += size;
	if (c->full)
		return mfs_blob_verify(mfs_source_dir(c->src), hash, size, NULL, err);
	for (uint64_t i = 0; i < mfs_blob_parts(size); i++) {
		const uint64_t left = size - i * MFS_BLOB_PART, want = left < MFS_BLOB_PART ? left : MFS_BLOB_PART;
		int64_t length;

		(void)snprintf(path, sizeof(path), "%s/%05llu", dir, (unsigned long long)i);
		if ((code = mfs_source_length(c->src, path, &length, err)) != MFS_OK)
			return code;
		if (length < 0)
			return mfs_fail(err, MFS_HASH_MISMATCH, "%s: is missing; publish its bundle again, or upload 1-blobs", path);
		if ((uint64_t)length != want)
			return mfs_fail(err, MFS_HASH_MISMATCH, "%s: %lld bytes, %llu are signed", path, (long long)length,
				(unsigned long long)want);
	}
	return MFS_OK;
}

/* ---- one version --------------------------------------------------------------------------------- */

struct signatures {
	struct mfs_signature list[MFS_KEY_IDS_MAX];
	uint8_t *bytes[MFS_KEY_IDS_MAX];
	size_t n;
};

static void
signatures_clear(struct signatures *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->bytes[i]);
}

/* signature.sig, and one for each further key id. */
static enum mfs_code
signatures_get(struct check *c, const char *folder, const struct mfs_manifest *m, struct signatures *s,
	struct mfs_err *err)
{
	for (size_t i = 0; i < m->n_key_ids; i++) {
		char path[MFS_TUF_PATH_MAX + 96];
		enum mfs_code code;
		uint8_t *bytes;
		size_t len;

		if (i == 0)
			(void)snprintf(path, sizeof(path), "%ssignature.sig", folder);
		else
			(void)snprintf(path, sizeof(path), "%ssignature.%s.sig", folder, MFS_HEX(&m->key_ids[i]));
		if ((code = target_get(c, path, MFS_SIGNATURE_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
			return code;
		if (bytes == NULL)
			continue;
		s->bytes[s->n] = bytes;
		s->list[s->n].bytes = MFS_SPAN(bytes, len);
		if (i > 0)
			s->list[s->n].key_id = m->key_ids[i];
		s->n++;
	}
	return MFS_OK;
}

static enum mfs_code
manifest_check(struct check *c, const char *path, struct mfs_span bytes, struct mfs_manifest **out, struct mfs_err *err)
{
	MFS_CLEANUP(signatures_clear) struct signatures sigs = { .n = 0 };
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL, *again = NULL;
	char folder[MFS_TUF_PATH_MAX], want[MFS_TUF_PATH_MAX];
	enum mfs_code code;

	if ((code = mfs_manifest_parse(bytes, &m, err)) != MFS_OK)
		return code;
	(void)snprintf(folder, sizeof(folder), "%.*s", (int)(strlen(path) - strlen("manifest.json")), path);
	(void)snprintf(want, sizeof(want), "%s/%s/%s/", m->model_id, m->version, m->variant);
	if (strcmp(folder, want) != 0)
		return mfs_fail(err, MFS_MALFORMED, "names %s inside", MFS_ESC(want));
	if ((code = signatures_get(c, folder, m, &sigs, err)) != MFS_OK)
		return code;
	if (sigs.n == 0)
		return mfs_fail(err, MFS_SIGNATURE_INVALID, "no signature beside it");
	if (c->trust != NULL &&
		(code = mfs_bundle_verify(bytes, sigs.list, sigs.n, c->trust, 1, &again, NULL, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&m);
	return MFS_OK;
}

static void
version_check(struct check *c, const char *path)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;
	size_t len;

	c->n_versions++;
	code = target_get(c, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, &err);
	if (code == MFS_OK && bytes == NULL)
		code = mfs_fail(&err, MFS_MALFORMED, "the delegations do not lead to it");
	if (code == MFS_OK)
		code = manifest_check(c, path, MFS_SPAN(bytes, len), &m, &err);
	if (code != MFS_OK || m == NULL) {
		(void)mfs_err_context(&err, "%s: ", MFS_ESC(path));
		problem(c, &err);
		return;
	}
	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		if (blob_check(c, &f->sha256, f->size, &err) != MFS_OK ||
			(f->chunks > 1 && blob_check(c, &f->chunks_sha256, mfs_table_length(f->chunks), &err) != MFS_OK)) {
			(void)mfs_err_context(&err, "%s %s: %s: ", m->model_id, m->version, MFS_ESC(f->name));
			problem(c, &err);
		}
	}
}

/* ---- one model ------------------------------------------------------------------------------------- */

/* Every manifest that a policy offers or goes back to must be published. */
static void
entry_check(struct check *c, const json_t *targets, const char *model_id, const struct mfs_policy_entry *e,
	const char *what)
{
	char path[MFS_TUF_PATH_MAX];
	struct mfs_err err = MFS_ERR_INIT;
	const char *hash;

	(void)snprintf(path, sizeof(path), "%s/%s/%s/manifest.json", model_id, e->version, e->variant);
	hash = json_string_value(json_object_get(json_object_get(json_object_get(targets, path), "hashes"), "sha256"));
	if (hash != NULL && strcmp(hash, MFS_HEX(&e->manifest)) == 0)
		return;
	(void)mfs_fail(&err, MFS_MALFORMED, "%s/policy.json: %s names %s %s %s, which is not published", MFS_ESC(model_id), what,
		e->version, e->variant, MFS_HEX(&e->manifest));
	problem(c, &err);
}

static void
policy_check(struct check *c, const char *model_id, const json_t *targets)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	char path[MFS_ID_MAX + 16];
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/policy.json", model_id);
	if (target_get(c, path, MFS_POLICY_BYTES_MAX, &bytes, &len, &err) != MFS_OK ||
		(bytes != NULL && mfs_policy_parse(MFS_SPAN(bytes, len), model_id, &p, &err) != MFS_OK)) {
		problem(c, &err);
		return;
	}
	if (p == NULL) {
		if (!c->quiet)
			(void)printf("%s: no policy: devices are offered nothing\n", MFS_ESC(model_id));
		return;
	}
	for (size_t i = 0; i < p->n_rollouts; i++)
		for (size_t k = 0; k < p->rollouts[i].n_variants; k++)
			entry_check(c, targets, model_id, &p->rollouts[i].variants[k].entry, "a rollout");
	for (size_t i = 0; i < p->n_revoked; i++)
		if (!mfs_sha256_is_zero(&p->revoked[i].rollback_to.manifest))
			entry_check(c, targets, model_id, &p->revoked[i].rollback_to, "a rollback");
}

static bool
ends_with(const char *s, const char *tail)
{
	const size_t n = strlen(s), k = strlen(tail);

	return n >= k && strcmp(s + n - k, tail) == 0;
}

static void
model_check(struct check *c, const char *model_id)
{
	char role[MFS_ROLE_ROOM], path[MFS_ID_MAX + 40];
	mfs_autofree uint8_t *none = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autojson json_t *doc = NULL;
	struct mfs_tuf_role release;
	json_t *targets, *value;
	const char *key;
	size_t len;

	c->n_models++;
	/* A path that only this role can speak for, so that it is fetched and verified. */
	(void)snprintf(path, sizeof(path), "%s/0.0.0-none/none/manifest.json", model_id);
	if (target_get(c, path, MFS_MANIFEST_BYTES_MAX, &none, &len, &err) != MFS_OK) {
		problem(c, &err);
		return;
	}
	if (!mfs_tuf_role_find(c->tuf, mfs_role_release(role, model_id), &release) ||
		mfs_md_parse(role, release.bytes, MFS_TUF_TARGETS_MAX, &doc, &err) != MFS_OK) {
		(void)mfs_fail(&err, MFS_MALFORMED, "%s: the delegations do not lead to it", MFS_ESC(role));
		problem(c, &err);
		return;
	}
	targets = json_object_get(mfs_md_signed(doc), "targets");
	policy_check(c, model_id, targets);
	json_object_foreach(targets, key, value)
		if (ends_with(key, "/manifest.json"))
			version_check(c, key);
}

/* ---- all -------------------------------------------------------------------------------------------- */

static enum mfs_code
root_bytes(struct check *c, uint8_t **out, size_t *len, struct mfs_err *err)
{
	enum mfs_code code;
	bool found;

	if (c->root != NULL)
		return mfs_file_read(AT_FDCWD, c->root, MFS_TUF_ROOT_MAX, out, len, err);
	code = mfs_source_get(c->src, "metadata/1.root.json", MFS_TUF_ROOT_MAX, out, len, &found, err);
	if (code == MFS_OK && !found)
		return mfs_fail(err, MFS_NET_HTTP, "%s: no repository: metadata/1.root.json is not there", MFS_ESC(c->where));
	return code;
}

static enum mfs_code
trust_get(struct check *c, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = target_get(c, "trust.json", MFS_TRUSTLIST_BYTES_MAX, &bytes, &len, err)) != MFS_OK || bytes == NULL)
		return code;
	if ((code = mfs_trustlist_parse(MFS_SPAN(bytes, len), &list, err)) != MFS_OK)
		return code;
	if (list->n_keys == 0) {
		if (!c->quiet)
			(void)printf("trust.json: lists no key: signatures of models are not checked here\n");
		return MFS_OK;
	}
	if ((code = mfs_trust_new(&c->trust, err)) != MFS_OK)
		return code;
	return mfs_trustlist_apply(list, c->trust, err);
}

static bool
wanted(const struct check *c, const char *model_id)
{
	for (size_t i = 0; i < c->models.n; i++)
		if (strcmp(c->models.v[i], model_id) == 0)
			return true;
	return c->models.n == 0;
}

/* A model that was asked for and is not there was not checked. */
static enum mfs_code
models_known(const struct check *c, const json_t *roles, struct mfs_err *err)
{
	for (size_t i = 0; i < c->models.n; i++) {
		bool known = false;

		for (size_t k = 0; k < json_array_size(roles) && !known; k++) {
			const char *name = json_string_value(json_object_get(json_array_get(roles, k), "name"));

			known = name != NULL && strncmp(name, "release.", 8) == 0 && strcmp(name + 8, c->models.v[i]) == 0;
		}
		if (!known)
			return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no model %s", MFS_ESC(c->where), MFS_ESC(c->models.v[i]));
	}
	return MFS_OK;
}

static enum mfs_code
models_check(struct check *c, struct mfs_err *err)
{
	mfs_autojson json_t *doc = NULL;
	struct mfs_tuf_role targets;
	const json_t *roles;
	enum mfs_code code;

	if (!mfs_tuf_role_find(c->tuf, "targets", &targets))
		return mfs_fail(err, MFS_INTERNAL, "targets: verified and not there");
	if ((code = mfs_md_parse("targets", targets.bytes, MFS_TUF_TARGETS_MAX, &doc, err)) != MFS_OK)
		return code;
	roles = json_object_get(json_object_get(mfs_md_signed(doc), "delegations"), "roles");
	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));

		if (name != NULL && strncmp(name, "release.", 8) == 0 && wanted(c, name + 8))
			model_check(c, name + 8);
	}
	return models_known(c, roles, err);
}

static void
expiry_print(const struct check *c)
{
	struct mfs_tuf_role role;

	for (size_t i = 0; mfs_tuf_role(c->tuf, i, &role); i++)
		if (!role.drop && !c->quiet)
			(void)printf("%s: version %lld, valid until %s\n", MFS_ESC(role.name), (long long)role.version,
				MFS_TIME(role.expires));
}

static enum mfs_code
check_run(struct check *c, struct mfs_err *err)
{
	const struct mfs_tuf_options opt = { .now = c->now };
	mfs_autofree uint8_t *root = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_source_open(c->where, &c->src, err)) != MFS_OK || (code = root_bytes(c, &root, &len, err)) != MFS_OK ||
		(code = mfs_tuf_new(MFS_SPAN(root, len), &opt, &c->tuf, err)) != MFS_OK)
		return code;
	if (c->full && mfs_source_dir(c->src) < 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--full is for folders");
	if ((code = feed(c, err)) != MFS_OK) {
		if (code == MFS_METADATA_EXPIRED)
			return mfs_err_hint(err, "; 'modelpub refresh' signs anew");
		return code;
	}
	if ((code = trust_get(c, err)) != MFS_OK)
		return code;
	return models_check(c, err);
}

static int
run(struct check *c)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (check_run(c, &err) != MFS_OK)
		return mfs_report("check", NULL, &err);
	expiry_print(c);
	(void)printf("%s: %s: %zu model%s, %zu version%s, %zu blobs, %s%s\n", c->problems == 0 ? "checked" : "PROBLEMS",
		MFS_ESC(c->where), c->n_models, c->n_models == 1 ? "" : "s", c->n_versions, c->n_versions == 1 ? "" : "s",
		c->n_blobs, MFS_SIZE(c->bytes), c->full ? ", every byte" : "");
	if (mfs_finish("check") != MFS_EXIT_DONE)
		return MFS_EXIT_FAILED;
	return c->problems == 0 ? MFS_EXIT_DONE : (int)mfs_code_exit(c->worst);
}

int
mfs_cmd_check(int argc, char **argv)
{
	MFS_CLEANUP(check_clear) struct check c = { .now = mfs_clock_wall() };
	struct mfs_err err = MFS_ERR_INIT;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case OPT_ROOT:
			c.root = optarg;
			break;
		case OPT_MODEL:
			if (mfs_args_add(&c.models, optarg, &err) != MFS_OK)
				return mfs_report("check", NULL, &err);
			break;
		case OPT_FULL:
			c.full = true;
			break;
		case OPT_TIME:
			if (!mfs_md_time_parse(optarg, &c.now))
				return mfs_usage("check", "--time %s: want a time as 2027-01-31T00:00:00Z", MFS_ESC(optarg));
			break;
		case OPT_QUIET:
			c.quiet = true;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("check");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return mfs_usage("check", "want exactly one REPO or URL");
	c.where = argv[optind];
	return run(&c);
}
