/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub export: a repository, or a part of its models, to a stick or a site's mirror. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobs.h"
#include "cmd.h"
#include "cmd_repo.h"
#include "grants.h"
#include "io.h"
#include "repo.h"
#include "repo_internal.h"
#include "walk.h"

static const char help_text[] =
	"usage: modelpub export REPO DIR [--model ID ...] [--version X.Y.Z ...] [options]\n"
	"\n"
	"Copy what REPO offers now into DIR, a repository itself: for 'modelfs update --from DIR', or to be served at\n"
	"a site. Run it again to bring DIR up to date: only what is new is copied. Every byte is checked on the way.\n"
	"\n"
	"  --model ID       files of this model alone (repeatable); metadata always comes whole\n"
	"  --version X.Y.Z  files of this version alone (repeatable)\n"
	"  --root FILE      root.json to trust\n"
	"  --link           hard-link blobs instead of copying them, where the filesystem can\n"
	"  --quiet          no progress bar\n"
	"  --help           this text\n";

enum { OPT_MODEL = MFS_OPT_OTHER, OPT_VERSION, OPT_ROOT, OPT_LINK, OPT_QUIET };

static const struct option options[] = { { "model", required_argument, NULL, OPT_MODEL },
	{ "version", required_argument, NULL, OPT_VERSION }, { "root", required_argument, NULL, OPT_ROOT },
	{ "link", no_argument, NULL, OPT_LINK }, { "quiet", no_argument, NULL, OPT_QUIET },
	{ "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 } };

struct export {
	struct mfs_args models, versions;
	const char *root;
	bool link, quiet;
	int lock; /* of to's blobs/ */
	struct mfs_repo *from, *to; /* to: a folder that is written as one, without roles */
	struct mfs_progress *progress;
	uint8_t *timestamp;
	size_t timestamp_len;
	uint64_t total, copied;
	size_t blobs, files;
};

static void
export_clear(struct export *x)
{
	mfs_args_free(&x->models);
	mfs_args_free(&x->versions);
	mfs_repo_free(x->from);
	mfs_repo_free(x->to);
	mfs_cleanup_close(&x->lock);
	mfs_progress_end(x->progress);
	free(x->timestamp);
}

static bool
in_list(const struct mfs_args *list, const char *s, size_t len)
{
	for (size_t i = 0; i < list->n; i++)
		if (strlen(list->v[i]) == len && strncmp(list->v[i], s, len) == 0)
			return true;
	return list->n == 0;
}

/* "det/1.1.0/default/manifest.json": is the model and the version wanted? Policies and trust.json always are. */
static bool
wanted(const struct export *x, const char *path)
{
	const char *version = strchr(path, '/'), *rest = version != NULL ? strchr(version + 1, '/') : NULL;

	if (rest == NULL)
		return true;
	return in_list(&x->models, path, (size_t)(version - path)) &&
		in_list(&x->versions, version + 1, (size_t)(rest - version - 1));
}

static enum mfs_code
blob_size(void *arg, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err)
{
	(void)hash;
	(void)err;
	((struct export *)arg)->total += size;
	return MFS_OK;
}

static enum mfs_code
blob_copy(void *arg, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err)
{
	struct export *x = arg;
	bool added;
	enum mfs_code code = mfs_blob_copy(x->from->fd, x->to->fd, hash, size, x->link, x->progress, &added, err);

	if (code == MFS_OK && added) {
		x->copied += size;
		x->blobs++;
	}
	return code;
}

static enum mfs_code
manifest_size(void *arg, const struct mfs_repo_role *role, const char *path, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	(void)role;
	return wanted(arg, path) ? mfs_walk_blobs(m, blob_size, arg, err) : MFS_OK;
}

static enum mfs_code
manifest_copy(void *arg, const struct mfs_repo_role *role, const char *path, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	(void)role;
	return wanted(arg, path) ? mfs_walk_blobs(m, blob_copy, arg, err) : MFS_OK;
}

static enum mfs_code
target_copy(void *arg, const struct mfs_repo_role *role, const char *path, const char *file, size_t len,
	struct mfs_err *err)
{
	struct export *x = arg;
	mfs_autofree uint8_t *bytes = NULL, *there = NULL;
	enum mfs_code code;
	size_t n;

	if (!wanted(x, path))
		return MFS_OK;
	if ((code = mfs_repo_target_read(x->from, role->name, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
		return code;
	/* Compared: sticks lose bits. */
	if (mfs_file_read(x->to->fd, file, len, &there, &n, NULL) == MFS_OK && n == len && memcmp(there, bytes, n) == 0)
		return MFS_OK;
	x->files++;
	return mfs_repo_write(x->to, file, MFS_SPAN(bytes, len), err);
}

/* metadata/NAME as it is; sha256 NULL: verified otherwise. */
static enum mfs_code
metadata_copy(struct export *x, const char *name, const struct mfs_sha256 *sha256, struct mfs_err *err)
{
	char path[MFS_TUF_FILE_MAX + 16];
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_sha256 got;
	enum mfs_code code;
	size_t len;

	(void)snprintf(path, sizeof(path), "metadata/%s", name);
	if ((code = mfs_file_read(x->from->fd, path, MFS_TUF_TARGETS_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(bytes, len), &got, err)) != MFS_OK)
		return code;
	if (sha256 != NULL && !mfs_sha256_equal(&got, sha256))
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: changed while it was exported; run export again", path);
	return mfs_repo_write(x->to, path, MFS_SPAN(bytes, len), err);
}

static enum mfs_code
role_copy(void *arg, struct mfs_repo_role *role, struct mfs_err *err)
{
	char name[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;

	if ((code = mfs_tuf_file_name(role->name, role->version, name, err)) != MFS_OK)
		return code;
	return metadata_copy(arg, name, &role->sha256, err);
}

/* All of them, the oldest first: a device that was off for long follows the chain, which never has a gap. */
static enum mfs_code
roots_copy(struct export *x, struct mfs_err *err)
{
	char name[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 16];
	int64_t first = x->from->root.version;
	enum mfs_code code;

	for (int64_t v = first; v >= 1; first = v--) {
		if ((code = mfs_tuf_file_name("root", v, name, err)) != MFS_OK)
			return code;
		(void)snprintf(path, sizeof(path), "metadata/%s", name);
		if (faccessat(x->from->fd, path, F_OK, 0) != 0)
			break;
	}
	for (int64_t v = first; v <= x->from->root.version; v++)
		if ((code = mfs_tuf_file_name("root", v, name, err)) != MFS_OK ||
			(code = metadata_copy(x, name, NULL, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

/* Grants are outside TUF, small, and verify by content wherever they come from. */
static enum mfs_code
grants_copy(struct export *x, struct mfs_err *err)
{
	struct mfs_grants g = { .from = x->from->fd, .to = x->to, .replace = true };

	return mfs_grants_copy(&g, err);
}

/* What an export makes, and what systems leave on a disk. */
static bool
is_of_export(const char *name)
{
	static const char *const names[] = { "metadata", "targets", "blobs", "grants", "lost+found", "System Volume Information" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return name[0] == '.';
}

/* Somebody's own files are not mixed with a repository, nor a repository with another one or with itself. */
static enum mfs_code
target_fits(const struct export *x, struct mfs_err *err)
{
	mfs_autofree char *from = realpath(x->from->path, NULL), *to = realpath(x->to->path, NULL);
	mfs_autofree uint8_t *ours = NULL, *theirs = NULL;
	mfs_autodir DIR *d = opendir(x->to->path);
	const char *const path = MFS_ESC(x->to->path);
	const struct dirent *e;
	size_t n, k;

	if (from == NULL || to == NULL || d == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	if (strncmp(to, from, strlen(from)) == 0 && (to[strlen(from)] == '/' || to[strlen(from)] == '\0'))
		return mfs_fail(err, MFS_IO, "%s: is the repository itself, or within it; choose another folder", path);
	if (mfs_file_read(x->to->fd, "metadata/1.root.json", MFS_TUF_ROOT_MAX, &theirs, &k, NULL) == MFS_OK) {
		if (mfs_file_read(x->from->fd, "metadata/1.root.json", MFS_TUF_ROOT_MAX, &ours, &n, NULL) == MFS_OK &&
			(n != k || memcmp(ours, theirs, n) != 0))
			return mfs_fail(err, MFS_IO, "%s: holds another repository (its 1.root.json differs); choose another folder", path);
		return MFS_OK; /* its owner may keep further files there */
	}
	while ((e = readdir(d)) != NULL)
		if (!is_of_export(e->d_name))
			return mfs_fail(err, MFS_IO, "%s: is not empty, and '%s' is not of a repository; choose a folder of its own", path,
				MFS_ESC(e->d_name));
	return MFS_OK;
}

/* The target folder: absent, empty, or an earlier export of this repository that is not newer. */
static enum mfs_code
target_open(struct export *x, const char *path, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autojson json_t *doc = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_repo_alloc(path, &x->to, err)) != MFS_OK || (code = mfs_mkdirs(AT_FDCWD, path, 0777, err)) != MFS_OK)
		return code;
	if ((x->to->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if ((code = target_fits(x, err)) != MFS_OK)
		return code;
	if ((code = mfs_repo_lock(x->to, err)) != MFS_OK || (code = mfs_repo_lock_blobs(x->to, &x->lock, err)) != MFS_OK)
		return code;
	code = mfs_file_read(x->to->fd, "metadata/timestamp.json", MFS_TUF_TIMESTAMP_MAX, &bytes, &len, err);
	if (code == MFS_IO && err->sys_errno == ENOENT)
		return MFS_OK;
	if (code != MFS_OK || (code = mfs_md_parse("timestamp.json", MFS_SPAN(bytes, len), MFS_TUF_TIMESTAMP_MAX, &doc, err)) !=
		MFS_OK)
		return code;
	if (mfs_md_version(doc) > x->from->timestamp.version)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
			"%s: holds timestamp version %lld, newer than version %lld of %s: is it another repository?", MFS_ESC(path),
			(long long)mfs_md_version(doc), (long long)x->from->timestamp.version, MFS_ESC(x->from->path));
	return MFS_OK;
}

/* The timestamp that the rest is read by: it may be replaced while blobs are copied. */
static enum mfs_code
timestamp_keep(struct export *x, struct mfs_err *err)
{
	struct mfs_sha256 got;
	enum mfs_code code;

	if ((code = mfs_file_read(x->from->fd, "metadata/timestamp.json", MFS_TUF_TIMESTAMP_MAX, &x->timestamp,
		     &x->timestamp_len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(x->timestamp, x->timestamp_len), &got, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&got, &x->from->timestamp.sha256))
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: changed while it was read; run export again", MFS_ESC(x->from->path));
	return MFS_OK;
}

static enum mfs_code
export_run(struct export *x, const char *repo, const char *dir, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_repo_open(repo, false, x->root, &x->from, err)) != MFS_OK ||
		(code = timestamp_keep(x, err)) != MFS_OK || (code = target_open(x, dir, err)) != MFS_OK ||
		(code = mfs_walk_manifests(x->from, manifest_size, x, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < x->models.n; i++) {
		mfs_autofree char *role = NULL;

		if (asprintf(&role, "release.%s", x->models.v[i]) < 0)
			return mfs_fail(err, MFS_NO_MEMORY, "models");
		if (!mfs_repo_delegates(x->from, role))
			return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no model %s", MFS_ESC(repo), MFS_ESC(x->models.v[i]));
	}
	x->progress = mfs_progress_new("exporting", x->total, x->quiet);
	if ((code = mfs_walk_manifests(x->from, manifest_copy, x, err)) != MFS_OK || (code = grants_copy(x, err)) != MFS_OK ||
		(code = mfs_walk_targets(x->from, target_copy, x, err)) != MFS_OK ||
		(code = mfs_walk_roles(x->from, role_copy, x, err)) != MFS_OK || (code = roots_copy(x, err)) != MFS_OK)
		return code;
	return mfs_repo_write(x->to, "metadata/timestamp.json", MFS_SPAN(x->timestamp, x->timestamp_len), err);
}

static int
run(struct export *x, const char *repo, const char *dir)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (export_run(x, repo, dir, &err) != MFS_OK)
		return mfs_report("export", NULL, &err);
	mfs_progress_end(x->progress);
	x->progress = NULL;
	(void)printf("exported: %s: %zu blob%s copied, %s of %s; metadata valid until %s\n", MFS_ESC(dir), x->blobs,
		x->blobs == 1 ? "" : "s", MFS_SIZE(x->copied), MFS_SIZE(x->total),
		MFS_TIME(mfs_md_expires(x->from->timestamp.doc)));
	return mfs_finish("export");
}

int
mfs_cmd_export(int argc, char **argv)
{
	MFS_CLEANUP(export_clear) struct export x = { .lock = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case OPT_MODEL:
		case OPT_VERSION:
			if (mfs_args_add(c == OPT_MODEL ? &x.models : &x.versions, optarg, &err) != MFS_OK)
				return mfs_report("export", NULL, &err);
			break;
		case OPT_ROOT:
			x.root = optarg;
			break;
		case OPT_LINK:
			x.link = true;
			break;
		case OPT_QUIET:
			x.quiet = true;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("export");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (optind + 2 != argc)
		return mfs_usage("export", "want REPO and DIR");
	return run(&x, argv[optind], argv[optind + 1]);
}
