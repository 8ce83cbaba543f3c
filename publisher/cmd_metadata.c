/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub metadata: changes that several holders sign, on several machines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "change.h"
#include "cmd_repo.h"
#include "trustfile.h"

static const char help_text[] =
	"usage: modelpub metadata stage REPO DIR [--keys KEYDIR] CHANGE ...\n"
	"       modelpub metadata sign DIR --keys KEYDIR\n"
	"       modelpub metadata status DIR\n"
	"       modelpub metadata commit REPO DIR --keys KEYDIR\n"
	"\n"
	"Change roles whose keys lie with several holders: stage writes the new metadata into DIR, which travels\n"
	"(stick, mail, git) to each holder, who signs; commit brings it into the repository, with the keys of\n"
	"snapshot and timestamp. It takes an upload folder (--out) too. init, rotate, trust, publish and others stage\n"
	"their change with --stage DIR.\n"
	"status exits 4 while signatures are missing. A change that was staged upon metadata which is not current\n"
	"any more is refused by commit (exit 4): stage it again.\n"
	"\n"
	"Changes:\n"
	"  --renew ROLE              a new version with a new expiry\n"
	"  --add-key ROLE=FILE       a public key (PEM) more (repeatable)\n"
	"  --remove-key ROLE=KEY_ID  a key less: its id as 'status' or the metadata shows it (repeatable)\n"
	"  --threshold ROLE=N        so many of the role's keys must sign\n"
	"  --add-model ID            delegate release.ID and policy.ID, with keys of KEYDIR\n"
	"  --trust FILE              a public key that may sign models (repeatable)\n"
	"Options:\n" MFS_REPO_HELP_KEYS MFS_REPO_HELP_REST;

enum { OPT_RENEW = MFS_OPT_OTHER, OPT_ADD_KEY, OPT_REMOVE_KEY, OPT_THRESHOLD, OPT_ADD_MODEL, OPT_TRUST };

static const struct option options[] = { { "renew", required_argument, NULL, OPT_RENEW },
	{ "add-key", required_argument, NULL, OPT_ADD_KEY }, { "remove-key", required_argument, NULL, OPT_REMOVE_KEY },
	{ "threshold", required_argument, NULL, OPT_THRESHOLD }, { "add-model", required_argument, NULL, OPT_ADD_MODEL },
	{ "trust", required_argument, NULL, OPT_TRUST }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	struct mfs_args renew, add, remove, thresholds, models, trust;
	int blobs; /* the lock of blobs/ */
};

static void
request_clear(struct request *r)
{
	struct mfs_args *const lists[] = { &r->renew, &r->add, &r->remove, &r->thresholds, &r->models, &r->trust };

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		mfs_args_free(lists[i]);
	mfs_cleanup_close(&r->blobs);
	mfs_repocmd_clear(&r->c);
}

static struct mfs_args *
list_of(struct request *r, int c)
{
	switch (c) {
	case OPT_RENEW:
		return &r->renew;
	case OPT_ADD_KEY:
		return &r->add;
	case OPT_REMOVE_KEY:
		return &r->remove;
	case OPT_THRESHOLD:
		return &r->thresholds;
	case OPT_ADD_MODEL:
		return &r->models;
	case OPT_TRUST:
		return &r->trust;
	default:
		return NULL;
	}
}

/* ---- stage ------------------------------------------------------------------------------------ */

/* "ROLE=VALUE" apart, and the role's delegator marked as edited. role is malloc'd. */
static enum mfs_code
pair(struct mfs_repo *repo, const char *what, const char *arg, char **role, const char **value, struct mfs_err *err)
{
	const char *equals = strchr(arg, '=');
	struct mfs_repo_role *present;
	json_t *body, *keys;
	enum mfs_code code;

	*role = NULL;
	if (equals == NULL || equals == arg || equals[1] == '\0')
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s %s: want ROLE=VALUE", what, MFS_ESC(arg));
	if ((*role = strndup(arg, (size_t)(equals - arg))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	*value = equals + 1;
	if (mfs_repo_slot(repo, *role, &keys) == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s %s: the repository has no role %s", what, MFS_ESC(arg), MFS_ESC(*role));
	if ((code = mfs_repo_role(repo, *role, &present, err)) != MFS_OK)
		return code;
	return mfs_repo_edit(repo, strchr(*role, '.') == NULL ? "root" : "targets", &body, err);
}

static enum mfs_code
key_add(struct mfs_repo *repo, const char *arg, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *key = NULL;
	mfs_autofree char *role = NULL;
	const char *file;
	enum mfs_code code;

	if ((code = pair(repo, "--add-key", arg, &role, &file, err)) != MFS_OK ||
		(code = mfs_signer_load_public(file, &key, err)) != MFS_OK)
		return code;
	return mfs_repo_key_add(repo, role, key, err);
}

static enum mfs_code
key_remove(struct mfs_repo *repo, const char *arg, struct mfs_err *err)
{
	mfs_autofree char *role = NULL;
	const char *prefix, *full = NULL;
	unsigned threshold;
	const json_t *ids;
	enum mfs_code code;
	char id[65];

	if ((code = pair(repo, "--remove-key", arg, &role, &prefix, err)) != MFS_OK)
		return code;
	ids = mfs_repo_keyids(repo, role, &threshold);
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *s = json_string_value(json_array_get(ids, i));

		if (strlen(prefix) < 8 || strncmp(s, prefix, strlen(prefix)) != 0)
			continue;
		if (full != NULL)
			return mfs_fail(err, MFS_CONFIG_INVALID, "--remove-key %s: more than one key begins so", MFS_ESC(arg));
		full = s;
	}
	if (full == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--remove-key %s: not a key of the role (at least 8 digits of its id)",
			MFS_ESC(arg));
	(void)snprintf(id, sizeof(id), "%s", full);
	return mfs_repo_key_remove(repo, role, id, err);
}

static enum mfs_code
threshold_set(struct mfs_repo *repo, const char *arg, struct mfs_err *err)
{
	mfs_autofree char *role = NULL;
	const char *value;
	json_t *keys;
	enum mfs_code code;
	int64_t n;

	if ((code = pair(repo, "--threshold", arg, &role, &value, err)) != MFS_OK)
		return code;
	if (!mfs_parse_int(value, 1, MFS_TUF_KEYS_MAX, &n))
		return mfs_fail(err, MFS_CONFIG_INVALID, "--threshold %s: want 1 to %u", MFS_ESC(arg), MFS_TUF_KEYS_MAX);
	if (json_object_set_new(mfs_repo_slot(repo, role, &keys), "threshold", json_integer(n)) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "--threshold");
	return MFS_OK;
}

/* Nobody may be locked out: every role keeps as many keys as its threshold asks for. */
static enum mfs_code
roles_check(struct mfs_repo *repo, const struct mfs_args *args, struct mfs_err *err)
{
	for (size_t i = 0; i < args->n; i++) {
		mfs_autofree char *role = strndup(args->v[i], strcspn(args->v[i], "="));
		unsigned threshold;
		const json_t *ids;

		if (role == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "roles");
		ids = mfs_repo_keyids(repo, role, &threshold);
		if (json_array_size(ids) < threshold || threshold == 0)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s: %zu keys and a threshold of %u: nobody could sign it any more",
				MFS_ESC(role), json_array_size(ids), threshold);
	}
	return MFS_OK;
}

/* A role whose keys changed is signed by them from now on. Timestamp and snapshot are at commit. */
static enum mfs_code
roles_touch(struct mfs_repo *repo, const struct mfs_args *args, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	for (size_t i = 0; i < args->n && code == MFS_OK; i++) {
		mfs_autofree char *role = strndup(args->v[i], strcspn(args->v[i], "="));

		if (role == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "roles");
		if (strcmp(role, "timestamp") != 0 && strcmp(role, "snapshot") != 0)
			code = mfs_repo_touch(repo, role, err);
	}
	return code;
}

static enum mfs_code
trust_add(struct mfs_repo *repo, const struct mfs_args *files, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	enum mfs_code code;

	if (files->n == 0)
		return MFS_OK;
	if ((code = mfs_trustfile_load(repo, &list, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < files->n; i++)
		if ((code = mfs_trustfile_add(list, files->v[i], 1, NULL, err)) != MFS_OK)
			return code;
	return mfs_trustfile_store(repo, list, err);
}

static enum mfs_code
stage_edit(struct request *r, struct mfs_err *err)
{
	struct mfs_repo *repo = r->c.repo;
	const struct mfs_args *const keyed[] = { &r->add, &r->remove, &r->thresholds };
	enum mfs_code code = MFS_OK;

	for (size_t i = 0; i < r->models.n && code == MFS_OK; i++)
		code = mfs_repo_delegate(repo, r->c.ring, r->models.v[i], err);
	for (size_t i = 0; i < r->add.n && code == MFS_OK; i++)
		code = key_add(repo, r->add.v[i], err);
	for (size_t i = 0; i < r->remove.n && code == MFS_OK; i++)
		code = key_remove(repo, r->remove.v[i], err);
	for (size_t i = 0; i < r->thresholds.n && code == MFS_OK; i++)
		code = threshold_set(repo, r->thresholds.v[i], err);
	for (size_t i = 0; i < 3 && code == MFS_OK; i++)
		if ((code = roles_check(repo, keyed[i], err)) == MFS_OK)
			code = roles_touch(repo, keyed[i], err);
	for (size_t i = 0; i < r->renew.n && code == MFS_OK; i++)
		code = mfs_repo_touch(repo, r->renew.v[i], err);
	return code == MFS_OK ? trust_add(repo, &r->trust, err) : code;
}

static int
stage(struct request *r, const char *repo, const char *dir)
{
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];

	if (r->renew.n + r->add.n + r->remove.n + r->thresholds.n + r->models.n + r->trust.n == 0)
		return mfs_usage("metadata", "stage: no change given");
	r->c.stage = dir;
	if (mfs_repocmd_open(&r->c, repo, false, &err) != MFS_OK || stage_edit(r, &err) != MFS_OK ||
		mfs_repocmd_commit(&r->c, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("staged: %s\n", mfs_repocmd_where(&r->c, where));
	return mfs_finish("metadata");
}

/* ---- sign, status, commit -------------------------------------------------------------------------- */

static enum mfs_code
status_print(const struct mfs_staged *s, bool *complete, struct mfs_err *err)
{
	*complete = true;
	for (size_t i = 0; i < s->n_roles; i++) {
		const struct mfs_staged_role *role = &s->roles[i];
		struct mfs_staged_count n;
		enum mfs_code code = mfs_staged_count(s, i, &n, err);

		if (code != MFS_OK)
			return code;
		(void)printf("%s: version %lld, expires %s: %u of %u signatures", MFS_ESC(role->name),
			(long long)mfs_md_version(role->doc), MFS_TIME(mfs_md_expires(role->doc)), n.valid, n.threshold);
		if (n.old_threshold > 0)
			(void)printf(", %u of %u by keys of the root before it", n.old_valid, n.old_threshold);
		(void)printf("\n");
		*complete = *complete && n.valid >= n.threshold && n.old_valid >= n.old_threshold;
	}
	return MFS_OK;
}

static int
status(struct request *r, const char *dir)
{
	MFS_CLEANUP(mfs_cleanup_staged) struct mfs_staged *s = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	bool complete;

	if (mfs_staged_load(dir, &s, &err) != MFS_OK || status_print(s, &complete, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("%s\n", complete ? "complete: 'modelpub metadata commit' brings it into the repository" :
					"signatures are missing: 'modelpub metadata sign' by their holders");
	if (mfs_finish("metadata") != MFS_EXIT_DONE)
		return MFS_EXIT_FAILED;
	return complete ? MFS_EXIT_DONE : MFS_EXIT_RETRY;
}

static enum mfs_code
ring_open(struct request *r, struct mfs_err *err)
{
	enum mfs_code code = mfs_keyring_new(r->c.keys, r->c.passin, &r->c.ring, err);

	for (size_t i = 0; i < r->c.key_args.n && code == MFS_OK; i++)
		code = mfs_keyring_add(r->c.ring, r->c.key_args.v[i], err);
	return code;
}

static int
sign(struct request *r, const char *dir)
{
	MFS_CLEANUP(mfs_cleanup_staged) struct mfs_staged *s = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	bool complete;
	size_t n;

	if (ring_open(r, &err) != MFS_OK || mfs_staged_load(dir, &s, &err) != MFS_OK ||
		mfs_staged_sign(s, r->c.ring, &n, &err) != MFS_OK || status_print(s, &complete, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (n == 0) {
		(void)mfs_fail(&err, MFS_KEY_UNAVAILABLE, "%s: no key at hand that a staged role lists; nothing was signed",
			MFS_ESC(dir));
		return mfs_repocmd_fail(&r->c, &err);
	}
	(void)printf("signed: %zu signature%s%s\n", n, n == 1 ? "" : "s", complete ? ", complete" : "");
	return mfs_finish("metadata");
}

/* The blobs of a change, which may be many: others may change the repository meanwhile, above all revoke. */
static enum mfs_code
blobs_bring(struct request *r, int fd, const char *path, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_repo_lock_blobs(r->c.repo, &r->blobs, err)) != MFS_OK)
		return code;
	mfs_repo_unlock(r->c.repo);
	if ((code = mfs_change_blobs(fd, path, r->c.repo, err)) != MFS_OK)
		return code;
	return mfs_repocmd_again(&r->c, err);
}

/* An upload folder: signed already, only to be copied in its order. */
static int
upload_commit(struct request *r, const char *repo, const char *dir)
{
	MFS_CLEANUP(mfs_cleanup_upload) struct mfs_upload *u = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_upload_load(dir, &u, &err) != MFS_OK || mfs_repocmd_open(&r->c, repo, false, &err) != MFS_OK ||
		mfs_upload_fresh(u, r->c.repo, &err) != MFS_OK || blobs_bring(r, u->fd, dir, &err) != MFS_OK ||
		mfs_upload_apply(u, r->c.repo, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("committed: %s\n", MFS_ESC(repo));
	return mfs_finish("metadata");
}

static int
commit(struct request *r, const char *repo, const char *dir)
{
	MFS_CLEANUP(mfs_cleanup_staged) struct mfs_staged *s = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];
	bool new = true;

	if (mfs_upload_is(dir))
		return upload_commit(r, repo, dir);
	if (mfs_staged_load(dir, &s, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	for (size_t i = 0; i < s->n_roles; i++)
		new = new && s->roles[i].parent_version == 0;
	/* A change of nothing but new roles with a root among them is a new repository. */
	new = new && s->root == NULL;
	if (mfs_repocmd_open(&r->c, repo, new, &err) != MFS_OK ||
		(!new && (mfs_staged_fresh(s, r->c.repo, &err) != MFS_OK || blobs_bring(r, s->fd, dir, &err) != MFS_OK)) ||
		mfs_staged_apply(s, r->c.repo, &err) != MFS_OK ||
		mfs_repocmd_commit(&r->c, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("committed: %s\n", mfs_repocmd_where(&r->c, where));
	return mfs_finish("metadata");
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct request *r = user;
	struct mfs_args *list = list_of(r, opt);

	if (list == NULL)
		return MFS_EXIT_USAGE;
	return mfs_args_add(list, arg, &err) == MFS_OK ? MFS_EXIT_DONE : mfs_repocmd_fail(&r->c, &err);
}

int
mfs_cmd_metadata(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .blobs = -1 };
	const char *verb;
	int done, n;

	mfs_repocmd_init(&r.c, "metadata", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	n = argc - optind - 1;
	verb = n >= 0 ? argv[optind] : "";
	if (r.c.stage != NULL || r.c.out != NULL)
		return mfs_usage("metadata", "--stage and --out are for other commands: 'metadata stage REPO DIR'");
	if (strcmp(verb, "stage") == 0 && n == 2)
		return stage(&r, argv[optind + 1], argv[optind + 2]);
	if (strcmp(verb, "sign") == 0 && n == 1)
		return sign(&r, argv[optind + 1]);
	if (strcmp(verb, "status") == 0 && n == 1)
		return status(&r, argv[optind + 1]);
	if (strcmp(verb, "commit") == 0 && n == 2)
		return commit(&r, argv[optind + 1], argv[optind + 2]);
	return mfs_usage("metadata", "want stage REPO DIR, sign DIR, status DIR, or commit REPO DIR");
}
