/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub refresh: what a cron job does, with the timestamp key alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_repo.h"
#include "record.h"

static const char help_text[] =
	"usage: modelpub refresh REPO --keys KEYDIR [options]\n"
	"\n"
	"Sign a new timestamp. The timestamp key is enough; every other role of which less than a third of\n"
	"its lifetime is left is signed again too if its keys are at hand, and named if they are not.\n"
	"\n"
	"  --all                sign every role again whose keys are at hand\n"
	"  --keep               lifetimes of --expires count from now on, as those of init do (targets and snapshot\n"
	"                       keys are needed too)\n"
	"  --restored           REPO is an older state than KEYDIR has seen, and there is no newer one any more: sign it\n"
	"                       anew above that (keys of every role that has changed since)\n" MFS_REPO_HELP;

enum { OPT_ALL = MFS_OPT_OTHER, OPT_KEEP, OPT_RESTORED };

static const struct option options[] = { { "all", no_argument, NULL, OPT_ALL }, { "keep", no_argument, NULL, OPT_KEEP },
	{ "restored", no_argument, NULL, OPT_RESTORED },
	MFS_REPO_OPTIONS };

struct renewal {
	struct mfs_repocmd *c;
	bool all;
	bool snapshot; /* its keys are here: what is named in it can be signed again */
	struct mfs_err why; /* why they are not */
};

static void
tell(const struct renewal *n, const char *name, const char *what, const struct mfs_err *why)
{
	(void)fprintf(stderr, "modelpub refresh: %s: %s %s: %s\n", MFS_ESC(n->c->repo->path), MFS_ESC(name), what, why->msg);
}

/* Sign a role again when it is time and its keys are here; name it when they are not. */
static enum mfs_code
renew(struct renewal *n, const char *name, bool in_snapshot, struct mfs_err *err)
{
	struct mfs_err missing = MFS_ERR_INIT;
	struct mfs_repo_role *role;
	enum mfs_code code;
	int64_t left;

	if (in_snapshot && !mfs_repo_role_made(n->c->repo, name) &&
		(!n->snapshot || mfs_repo_keys_check(n->c->repo, n->c->ring, name, NULL) != MFS_OK))
		return MFS_OK; /* delegated, and never signed by its holders yet */
	if ((code = mfs_repo_role(n->c->repo, name, &role, &missing)) != MFS_OK) {
		if (in_snapshot && !n->snapshot) { /* it is not touched: the timestamp does not wait for it */
			tell(n, name, "cannot be read", &missing);
			return MFS_OK;
		}
		*err = missing;
		return code;
	}
	left = mfs_md_expires(role->doc) - n->c->repo->now;
	if (!n->all && left > n->c->repo->life.s[mfs_life_of(name)] / 3)
		return MFS_OK;
	if (in_snapshot && !n->snapshot)
		missing = n->why;
	else if (mfs_repo_keys_check(n->c->repo, n->c->ring, name, &missing) == MFS_OK) {
		(void)printf("renewed: %s\n", MFS_ESC(name));
		return mfs_repo_touch(n->c->repo, name, err);
	}
	if (left <= n->c->repo->life.s[mfs_life_of(name)] / 3)
		tell(n, name, left > 0 ? "expires soon, and was not renewed" : "HAS EXPIRED, and was not renewed", &missing);
	return MFS_OK;
}

static enum mfs_code
delegated(struct renewal *n, struct mfs_err *err)
{
	const json_t *roles =
		json_object_get(json_object_get(mfs_md_signed(n->c->repo->targets.doc), "delegations"), "roles");
	enum mfs_code code;

	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));

		if (name != NULL && (code = renew(n, name, true, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
refresh(struct mfs_repocmd *c, const char *repo, bool all, bool keep, struct mfs_err *err)
{
	static const char *const need[] = { "timestamp", "snapshot", "targets", NULL }, *const usual[] = { "timestamp", NULL };
	struct renewal n = { .c = c, .all = all, .why = MFS_ERR_INIT };
	enum mfs_code code;

	if ((code = mfs_repocmd_open(c, repo, false, err)) != MFS_OK ||
		(code = mfs_repocmd_need(c, keep ? need : usual, err)) != MFS_OK ||
		(keep && (code = mfs_lifetimes_keep(c->repo, &c->life, err)) != MFS_OK) ||
		(code = mfs_record_resume(c->repo, c->ring, err)) != MFS_OK)
		return code;
	if (c->repo->record != NULL)
		mfs_repocmd_note(c, "%s: goes on from an older state: models, versions, rollouts, revocations and trusted keys that came "
			"after it are to be made again", MFS_ESC(c->path));
	/* Whatever else is renewed comes into the snapshot, but for the root: without its key nothing else can be. */
	n.snapshot = mfs_repo_keys_check(c->repo, c->ring, "snapshot", &n.why) == MFS_OK;
	if ((code = renew(&n, "snapshot", true, err)) != MFS_OK || (code = delegated(&n, err)) != MFS_OK ||
		(code = renew(&n, "targets", true, err)) != MFS_OK || (code = renew(&n, "root", false, err)) != MFS_OK)
		return code;
	return mfs_repocmd_commit(c, err);
}

struct request {
	struct mfs_repocmd c;
	bool all, keep;
};

static void
request_clear(struct request *r)
{
	mfs_repocmd_clear(&r->c);
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct request *r = user;

	(void)arg;
	if (opt == OPT_ALL)
		r->all = true;
	else if (opt == OPT_KEEP)
		r->keep = true;
	else if (opt == OPT_RESTORED)
		r->c.restored = true;
	else
		return MFS_EXIT_USAGE;
	return MFS_EXIT_DONE;
}

int
mfs_cmd_refresh(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];
	int done;

	mfs_repocmd_init(&r.c, "refresh", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 1 != argc)
		return mfs_usage("refresh", "want exactly one REPO");
	if (r.keep && memcmp(&r.c.life, &(struct mfs_lifetimes){ 0 }, sizeof(r.c.life)) == 0)
		return mfs_usage("refresh", "--keep keeps what --expires says");
	if (r.c.restored && r.c.keys == NULL)
		return mfs_usage("refresh", "--restored goes by what --keys KEYDIR has seen");
	if (refresh(&r.c, argv[optind], r.all, r.keep, &err) != MFS_OK)
		return mfs_repocmd_fail(&r.c, &err);
	(void)printf("refreshed: timestamp valid until %s, in %s\n", MFS_TIME(mfs_md_expires(r.c.repo->timestamp.doc)),
		mfs_repocmd_where(&r.c, where));
	return mfs_finish("refresh");
}
