/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub trust: which keys may sign models, in trust.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_repo.h"
#include "trustfile.h"

static const char help_text[] =
	"usage: modelpub trust REPO [FILE.pub.pem ...] [--remove KEY_ID ...] --keys KEYDIR [options]\n"
	"\n"
	"Add public keys that may sign models to trust.json, or remove some; with neither, list them. Keys\n"
	"needed for a change: targets, snapshot, timestamp. Devices add these keys to those of their\n"
	"configuration.\n"
	"\n"
	"  --epoch N            epoch of the keys (default 1): a new one starts a new line of releases\n"
	"  --model ID           only for this model (repeatable; default: every model)\n"
	"  --remove KEY_ID      a key, or at least 8 first digits of its id (repeatable)\n" MFS_REPO_HELP;

enum { OPT_EPOCH = MFS_OPT_OTHER, OPT_MODEL, OPT_REMOVE };

static const struct option options[] = { { "epoch", required_argument, NULL, OPT_EPOCH },
	{ "model", required_argument, NULL, OPT_MODEL }, { "remove", required_argument, NULL, OPT_REMOVE }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	struct mfs_args models, remove;
	int64_t epoch;
	char **files;
	size_t n_files;
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->models);
	mfs_args_free(&r->remove);
	mfs_repocmd_clear(&r->c);
}

static void
list_print(const struct mfs_trustlist *list)
{
	for (size_t i = 0; i < list->n_keys; i++) {
		const struct mfs_trust_entry *e = &list->keys[i];

		(void)printf("%s epoch %lld", MFS_HEX(&e->key_id), (long long)e->epoch);
		for (size_t k = 0; e->models != NULL && e->models[k] != NULL; k++)
			(void)printf("%s%s", k == 0 ? " models " : ",", MFS_ESC(e->models[k]));
		(void)printf("%s\n", e->models == NULL ? " every model" : "");
	}
}

static enum mfs_code
remove_one(struct mfs_trustlist *list, const char *prefix, struct mfs_err *err)
{
	const struct mfs_trust_entry *found = NULL;

	for (size_t i = 0; i < list->n_keys; i++)
		if (strlen(prefix) >= 8 && strncmp(MFS_HEX(&list->keys[i].key_id), prefix, strlen(prefix)) == 0) {
			if (found != NULL)
				return mfs_fail(err, MFS_CONFIG_INVALID, "--remove %s: more than one key begins so", MFS_ESC(prefix));
			found = &list->keys[i];
		}
	if (found == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--remove %s: not in trust.json; 'modelpub trust REPO' lists its keys",
			MFS_ESC(prefix));
	(void)mfs_trustlist_remove(list, &found->key_id);
	return MFS_OK;
}

/* Is there a change at all? The same key with the same epoch and models is none. */
static enum mfs_code
change(struct request *r, struct mfs_trustlist *list, bool *changed, struct mfs_err *err)
{
	mfs_autofree char *before = NULL, *after = NULL;
	enum mfs_code code;
	size_t n;

	if ((code = mfs_trustlist_json(list, &before, &n, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < r->n_files; i++)
		if ((code = mfs_trustfile_add(list, r->files[i], r->epoch, r->models.n > 0 ? r->models.v : NULL, err)) != MFS_OK)
			return code;
	for (size_t i = 0; i < r->remove.n; i++)
		if ((code = remove_one(list, r->remove.v[i], err)) != MFS_OK)
			return code;
	if ((code = mfs_trustlist_json(list, &after, &n, err)) != MFS_OK)
		return code;
	*changed = strcmp(before, after) != 0;
	return MFS_OK;
}

static enum mfs_code
trust(struct request *r, const char *repo, bool *changed, struct mfs_err *err)
{
	static const char *const need[] = { "targets", "snapshot", "timestamp", NULL };
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	enum mfs_code code;

	if ((code = mfs_repocmd_open(&r->c, repo, false, err)) != MFS_OK ||
		(code = mfs_trustfile_load(r->c.repo, &list, err)) != MFS_OK ||
		(code = change(r, list, changed, err)) != MFS_OK)
		return code;
	if (*changed && ((code = mfs_repocmd_need(&r->c, need, err)) != MFS_OK ||
				(code = mfs_trustfile_store(r->c.repo, list, err)) != MFS_OK ||
				(code = mfs_repocmd_commit(&r->c, err)) != MFS_OK))
		return code;
	list_print(list);
	if (list->n_keys == 0)
		mfs_repocmd_note(&r->c, "trust.json lists no key: devices go by their own configuration alone, and publish checks no "
			"signature");
	return MFS_OK;
}

static int
run(struct request *r, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool changed, asked = r->n_files + r->remove.n > 0;
	char where[512];

	if (trust(r, repo, &changed, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (asked)
		(void)printf("%s: %s\n", changed ? "changed" : "nothing to change", mfs_repocmd_where(&r->c, where));
	return mfs_repocmd_end(&r->c, changed || !asked);
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct request *r = user;

	switch (opt) {
	case OPT_EPOCH:
		if (!mfs_parse_int(arg, 1, MFS_JSON_INT_MAX, &r->epoch))
			return mfs_usage("trust", "--epoch %s: want 1 or more", MFS_ESC(arg));
		break;
	case OPT_MODEL:
	case OPT_REMOVE:
		if (mfs_args_add(opt == OPT_MODEL ? &r->models : &r->remove, arg, &err) != MFS_OK)
			return mfs_repocmd_fail(&r->c, &err);
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_trust(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .epoch = 1 };
	int done;

	mfs_repocmd_init(&r.c, "trust", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind >= argc)
		return mfs_usage("trust", "want REPO");
	r.files = argv + optind + 1;
	r.n_files = (size_t)(argc - optind - 1);
	return run(&r, argv[optind]);
}
