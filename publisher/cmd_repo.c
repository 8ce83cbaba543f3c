/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd_repo.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "change.h"
#include "io.h"
#include "lanes.h"
#include "publish.h"
#include "record.h"

void
mfs_repocmd_init(struct mfs_repocmd *c, const char *name, int argc, char **argv)
{
	*c = (struct mfs_repocmd){ .name = name, .argc = argc, .argv = argv };
}

void
mfs_repocmd_clear(struct mfs_repocmd *c)
{
	mfs_args_free(&c->key_args);
	mfs_repocmd_close(c);
}

void
mfs_repocmd_close(struct mfs_repocmd *c)
{
	mfs_keyring_free(c->ring);
	mfs_repo_free(c->repo);
	mfs_outdir_free(c->outdir);
	c->ring = NULL;
	c->repo = NULL;
	c->outdir = NULL;
}

int
mfs_repocmd_fail(const struct mfs_repocmd *c, const struct mfs_err *err)
{
	return mfs_report(c->name, NULL, err);
}

int
mfs_repocmd_end(const struct mfs_repocmd *c, bool changed)
{
	const int exit_code = mfs_finish(c->name);

	return exit_code == MFS_EXIT_DONE && !changed ? MFS_EXIT_NOTHING : exit_code;
}

void
mfs_repocmd_note(const struct mfs_repocmd *c, const char *fmt, ...)
{
	va_list ap;

	if (c->quiet)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "modelpub %s: ", c->name);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
}

/* One of MFS_REPO_OPTIONS: an exit code, or -1 when it is another one. */
static int
option_common(struct mfs_repocmd *c, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;

	switch (opt) {
	case MFS_OPT_KEYS:
		c->keys = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_KEY:
		return mfs_args_add(&c->key_args, arg, &err) == MFS_OK ? MFS_EXIT_DONE : mfs_repocmd_fail(c, &err);
	case MFS_OPT_PASSIN:
		c->passin = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_EXPIRES:
		if (mfs_lifetimes_set(&c->life, arg, &err) != MFS_OK)
			return mfs_usage(c->name, "%s", err.msg);
		return MFS_EXIT_DONE;
	case MFS_OPT_ROOT:
		c->root = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_OUT:
		c->out = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_STAGE:
		c->stage = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_REUSE:
		c->reuse = arg;
		return MFS_EXIT_DONE;
	case MFS_OPT_QUIET:
		c->quiet = true;
		return MFS_EXIT_DONE;
	default:
		return -1;
	}
}

int
mfs_repocmd_parse(struct mfs_repocmd *c, const struct option *options, const char *help,
	int (*take)(void *user, int opt, const char *arg), void *user)
{
	int opt, taken;

	while ((opt = getopt_long(c->argc, c->argv, "", options, NULL)) != -1) {
		if (opt == MFS_OPT_HELP) {
			(void)fputs(help, stdout);
			return mfs_finish(c->name);
		}
		if (opt == '?') /* getopt_long has said so */
			return MFS_EXIT_USAGE;
		if ((taken = option_common(c, opt, optarg)) == -1)
			taken = take(user, opt, optarg);
		if (taken != MFS_EXIT_DONE)
			return taken;
	}
	return MFS_PARSED;
}

int
mfs_repocmd_offer(const struct mfs_repocmd *c, struct mfs_offer *o, struct mfs_args *match, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = MFS_OK;

	switch (opt) {
	case MFS_OPT_PERCENT:
		code = mfs_offer_percent_set(o, arg, &err);
		break;
	case MFS_OPT_STEPS:
		code = mfs_offer_steps_set(o, arg, &err);
		break;
	case MFS_OPT_AUTO:
		o->automatic = true;
		break;
	case MFS_OPT_MATCH:
		code = mfs_args_add(match, arg, &err);
		o->match = match->v;
		o->n_match = match->n;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return code == MFS_OK ? MFS_EXIT_DONE : mfs_usage(c->name, "%s", err.msg);
}

/* Without it a command that is given the same keys does not notice when an older state comes back. */
static void
seen_keep(const struct mfs_repocmd *c, bool tell)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (c->keys != NULL && !c->behind && mfs_record_write(c->repo, c->keys, &err) != MFS_OK && tell)
		mfs_repocmd_note(c, "what is in %s now is not kept beside the keys, so that an older state of it would not be noticed: %s",
			MFS_ESC(c->path), err.msg);
}

/* The repository, by the root that is trusted, locked. */
static enum mfs_code
repo_get(struct mfs_repocmd *c, bool create, struct mfs_err *err)
{
	mfs_autofree char *pin = NULL;
	enum mfs_code code;

	if (c->root != NULL)
		pin = strdup(c->root);
	else if (c->keys != NULL && asprintf(&pin, "%s/root.json", c->keys) >= 0 && access(pin, F_OK) != 0)
		mfs_cleanup_free(&pin);
	code = create ? mfs_repo_create(c->path, &c->repo, err) : mfs_repo_open(c->path, true, pin, &c->repo, err);
	if (code != MFS_OK)
		return code;
	mfs_lifetimes_given(c->repo, &c->life);
	if (create || c->keys == NULL)
		return MFS_OK;
	code = mfs_record_check(c->repo, c->keys, c->restored, err);
	/* No refusal: a revocation must be possible from whatever copy there is, and devices refuse what they know already. */
	if (code == MFS_ROLLBACK_ATTEMPT) {
		if (!c->behind)
			(void)fprintf(stderr, "modelpub %s: WARNING: %s\n", c->name, err->msg);
		c->behind = true;
		*err = (struct mfs_err)MFS_ERR_INIT;
		return MFS_OK;
	}
	if (code != MFS_OK)
		return code;
	if (c->repo->record == NULL)
		seen_keep(c, false); /* others may have written it */
	return MFS_OK;
}

enum mfs_code
mfs_repocmd_again(struct mfs_repocmd *c, struct mfs_err *err)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	enum mfs_code code;

	/* Others hold the lock for as long as a few files take. */
	for (int tries = 0;; tries++) {
		mfs_repo_free(c->repo);
		c->repo = NULL;
		code = repo_get(c, false, err);
		if (code != MFS_CONDITION_UNMET || tries == 200 || mfs_interrupted() != 0)
			return code;
		(void)nanosleep(&pause, NULL);
	}
}

enum mfs_code
mfs_repocmd_open(struct mfs_repocmd *c, const char *repo, bool create, struct mfs_err *err)
{
	enum mfs_code code;

	if (c->out != NULL && c->stage != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--out and --stage are two ways: use one");
	if ((code = mfs_keyring_new(c->keys, c->passin, &c->ring, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < c->key_args.n; i++)
		if ((code = mfs_keyring_add(c->ring, c->key_args.v[i], err)) != MFS_OK)
			return code;
	if (c->keys != NULL && access(c->keys, F_OK) != 0 && !create)
		return mfs_fail_sys(err, MFS_IO, "--keys %s", MFS_ESC(c->keys));
	c->path = repo;
	if ((code = repo_get(c, create, err)) != MFS_OK)
		return code;
	if (c->out != NULL || c->stage != NULL)
		return mfs_outdir_create(c->out != NULL ? c->out : c->stage, &c->outdir, err);
	return MFS_OK;
}

enum mfs_code
mfs_repocmd_open_model(struct mfs_repocmd *c, const char *repo, const char *model_id, unsigned need, struct mfs_err *err)
{
	char release[MFS_ROLE_ROOM], policy[MFS_ROLE_ROOM];
	const char *roles[5];
	enum mfs_code code;
	size_t n = 0;

	(void)mfs_role_release(release, model_id);
	(void)mfs_role_policy(policy, model_id);
	if ((need & MFS_NEED_RELEASE) != 0)
		roles[n++] = release;
	if ((need & MFS_NEED_POLICY) != 0)
		roles[n++] = policy;
	if (n > 0) {
		roles[n++] = "snapshot";
		roles[n++] = "timestamp";
	}
	roles[n] = NULL;
	if ((code = mfs_repocmd_open(c, repo, false, err)) != MFS_OK)
		return code;
	if (!mfs_repo_delegates(c->repo, (need & MFS_NEED_RELEASE) != 0 ? release : policy))
		return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no model %s", MFS_ESC(repo), MFS_ESC(model_id));
	return mfs_repocmd_need(c, roles, err);
}

/* Said before a key is made or a bundle read. */
static enum mfs_code
may_write(const struct mfs_repocmd *c, struct mfs_err *err)
{
	if (c->out != NULL || faccessat(c->repo->fd, "metadata", W_OK | X_OK, AT_EACCESS) == 0)
		return MFS_OK;
	(void)mfs_fail_sys(err, MFS_IO, "%s/metadata: cannot be written", MFS_ESC(c->path));
	return mfs_err_hint(err, "; run this as its owner, or leave the repository as it is with --out DIR");
}

enum mfs_code
mfs_repocmd_need(struct mfs_repocmd *c, const char *const *roles, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	if (c->stage != NULL)
		return MFS_OK;
	if (*roles != NULL && (code = may_write(c, err)) != MFS_OK)
		return code;
	for (; *roles != NULL && code == MFS_OK; roles++)
		code = mfs_repo_keys_check(c->repo, c->ring, *roles, err);
	return code;
}

enum mfs_code
mfs_repocmd_out(struct mfs_repocmd *c, struct mfs_err *err)
{
	enum mfs_code code;

	/* All four, so that a line that copies one after the other meets none that is missing. */
	for (int i = 0; i < MFS_STEP_N; i++)
		if ((code = mfs_mkdirs(c->outdir->fd, mfs_step_names[i], 0777, err)) != MFS_OK)
			return code;
	if ((code = mfs_change_note(c->repo, c->outdir, c->argc, c->argv, err)) != MFS_OK)
		return code;
	return mfs_outdir_commit(c->outdir, err);
}

/* What the change did not sign anew, and without which no device takes anything. */
static void
expired_tell(const struct mfs_repocmd *c)
{
	const struct mfs_repo_role *const roles[] = { &c->repo->root, &c->repo->targets };

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (mfs_md_expires(roles[i]->doc) <= c->repo->now)
			mfs_repocmd_note(c, "%s: %s HAS EXPIRED: no device takes this before 'modelpub refresh' with its key, or its "
				"holders ('modelpub metadata stage --renew %s'), sign it again", MFS_ESC(c->repo->path), roles[i]->name,
				roles[i]->name);
}

enum mfs_code
mfs_repocmd_commit(struct mfs_repocmd *c, struct mfs_err *err)
{
	enum mfs_code code;

	if (c->stage != NULL)
		return mfs_change_stage(c->repo, c->ring, c->outdir, err);
	if ((code = mfs_repo_commit(c->repo, c->ring, c->outdir, err)) != MFS_OK)
		return code;
	expired_tell(c);
	if (c->out != NULL)
		return mfs_repocmd_out(c, err);
	seen_keep(c, true);
	return MFS_OK;
}

const char *
mfs_repocmd_where(const struct mfs_repocmd *c, char out[512])
{
	if (c->out != NULL)
		(void)snprintf(out, 512, "%s: upload %s, %s, %s, %s, in this order", MFS_ESC(c->out), mfs_step_names[0],
			mfs_step_names[1], mfs_step_names[2], mfs_step_names[3]);
	else if (c->stage != NULL)
		(void)snprintf(out, 512, "%s: to be signed with 'modelpub metadata sign %s', then 'modelpub metadata commit'",
			MFS_ESC(c->stage), MFS_ESC(c->stage));
	else
		(void)snprintf(out, 512, "%s", MFS_ESC(c->repo->path));
	return out;
}
