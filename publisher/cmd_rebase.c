/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub rebase: an upload folder that became stale, made again upon what the repository holds now. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "change.h"
#include "cmd.h"
#include "cmd_repo.h"
#include "io.h"

static const char help_text[] =
	"usage: modelpub rebase REPO DIR --keys KEYDIR [options]\n"
	"\n"
	"DIR is an upload folder (--out) that was made upon an older state of REPO: do again what made it, upon\n"
	"the present state, and replace DIR. Blobs in DIR are used again. Exit 2 when DIR is not stale.\n"
	"\n"
	"  --keys KEYDIR        role keys\n"
	"  --key ROLE=URI       a role key elsewhere (repeatable)\n"
	"  --passin SOURCE      pass phrase of the keys: file:PATH or env:NAME\n"
	"  --root FILE          root.json to trust (default: KEYDIR/root.json if there is one)\n"
	"  --help               this text\n";

static const struct option options[] = { { "keys", required_argument, NULL, MFS_OPT_KEYS },
	{ "key", required_argument, NULL, MFS_OPT_KEY }, { "passin", required_argument, NULL, MFS_OPT_PASSIN },
	{ "root", required_argument, NULL, MFS_OPT_ROOT }, { "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 } };

struct request {
	const char *keys, *passin, *root;
	struct mfs_args key_args;
	struct mfs_upload *up;
	char *repo, *dir, *keys_path, *root_path, *out, *reuse; /* absolute */
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->key_args);
	mfs_upload_free(r->up);
	free(r->repo);
	free(r->dir);
	free(r->keys_path);
	free(r->root_path);
	free(r->out);
	free(r->reuse);
}

static enum mfs_code
absolute(const char *path, char **out, struct mfs_err *err)
{
	if (path == NULL)
		return MFS_OK;
	return (*out = realpath(path, NULL)) != NULL ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
}

/* Is the folder stale? Asked before anything is done; the lock is free again afterwards. */
static enum mfs_code
stale(const struct request *r, bool *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_repo) struct mfs_repo *repo = NULL;
	enum mfs_code code = mfs_repo_open(r->repo, false, r->root_path, &repo, err);

	*out = code == MFS_OK && mfs_upload_fresh(r->up, repo, NULL) != MFS_OK;
	return code;
}

/* The command again, with this repository, these keys, and a new folder beside the old one. */
static enum mfs_code
arguments_make(const struct request *r, struct mfs_args *args, struct mfs_err *err)
{
	const char *const more[] = { "--out", r->out, "--reuse", r->reuse, r->keys_path != NULL ? "--keys" : NULL, r->keys_path,
		r->root_path != NULL ? "--root" : NULL, r->root_path, r->passin != NULL ? "--passin" : NULL, r->passin };
	enum mfs_code code = mfs_args_add(args, r->up->command, err);
	bool named = false;

	for (size_t i = 0; i < json_array_size(r->up->arguments) && code == MFS_OK; i++) {
		const char *s = json_string_value(json_array_get(r->up->arguments, i));

		if (s == NULL)
			return mfs_fail(err, MFS_MALFORMED, "change.json: arguments[%zu]: not text", i);
		if (!named && strcmp(s, r->up->repository) == 0) {
			named = true;
			s = r->repo;
		}
		code = mfs_args_add(args, s, err);
	}
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]) && code == MFS_OK; i++)
		if (more[i] != NULL)
			code = mfs_args_add(args, more[i], err);
	for (size_t i = 0; i < r->key_args.n && code == MFS_OK; i++)
		if ((code = mfs_args_add(args, "--key", err)) == MFS_OK)
			code = mfs_args_add(args, r->key_args.v[i], err);
	return code;
}

/* The new folder in the place of the old one. */
static enum mfs_code
replace(const struct request *r, struct mfs_err *err)
{
	const char *name = strrchr(r->out, '/') + 1; /* absolute: there is one */
	mfs_autofree char *parent = strndup(r->out, (size_t)(name - r->out));
	mfs_autoclose int fd = -1;

	if (parent == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->out));
	if ((fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		renameat2(AT_FDCWD, r->out, AT_FDCWD, r->dir, RENAME_EXCHANGE) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: put in the place of %s", MFS_ESC(r->out), MFS_ESC(r->dir));
	if (mfs_remove_all(fd, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: remove", MFS_ESC(r->out));
	return MFS_OK;
}

static enum mfs_code
prepare(struct request *r, const char *repo, const char *dir, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = absolute(repo, &r->repo, err)) != MFS_OK || (code = absolute(dir, &r->dir, err)) != MFS_OK ||
		(code = absolute(r->keys, &r->keys_path, err)) != MFS_OK ||
		(code = absolute(r->root, &r->root_path, err)) != MFS_OK ||
		(code = mfs_upload_load(r->dir, &r->up, err)) != MFS_OK)
		return code;
	if (asprintf(&r->out, "%s.rebased", r->dir) < 0 || asprintf(&r->reuse, "%s/%s", r->dir, mfs_step_names[MFS_STEP_BLOBS]) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(dir));
	return MFS_OK;
}

static int
run(struct request *r, const char *repo, const char *dir)
{
	mfs_autoargs struct mfs_args args = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	bool is_stale;
	int exit_code;

	if (prepare(r, repo, dir, &err) != MFS_OK || stale(r, &is_stale, &err) != MFS_OK)
		return mfs_report("rebase", NULL, &err);
	if (!is_stale) {
		(void)printf("not stale: %s\n", MFS_ESC(dir));
		return mfs_finish("rebase") == MFS_EXIT_DONE ? MFS_EXIT_NOTHING : MFS_EXIT_FAILED;
	}
	if (arguments_make(r, &args, &err) != MFS_OK)
		return mfs_report("rebase", NULL, &err);
	if (chdir(r->up->folder) != 0) {
		(void)mfs_fail_sys(&err, MFS_IO, "%s: where %s ran", MFS_ESC(r->up->folder), MFS_ESC(r->up->command));
		return mfs_report("rebase", NULL, &err);
	}
	exit_code = mfs_command_again((int)args.n, args.v);
	if (exit_code != MFS_EXIT_DONE)
		return exit_code;
	if (replace(r, &err) != MFS_OK)
		return mfs_report("rebase", NULL, &err);
	(void)printf("rebased: %s\n", MFS_ESC(r->dir));
	return mfs_finish("rebase");
}

int
mfs_cmd_rebase(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .keys = NULL };
	struct mfs_err err = MFS_ERR_INIT;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case MFS_OPT_KEYS:
			r.keys = optarg;
			break;
		case MFS_OPT_KEY:
			if (mfs_args_add(&r.key_args, optarg, &err) != MFS_OK)
				return mfs_report("rebase", NULL, &err);
			break;
		case MFS_OPT_PASSIN:
			r.passin = optarg;
			break;
		case MFS_OPT_ROOT:
			r.root = optarg;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("rebase");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (optind + 2 != argc)
		return mfs_usage("rebase", "want REPO and DIR");
	return run(&r, argv[optind], argv[optind + 1]);
}
