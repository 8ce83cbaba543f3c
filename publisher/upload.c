/* SPDX-License-Identifier: Apache-2.0 */
/* upload.c - upload folders that come back, and the blobs of whatever comes back. */
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blobs.h"
#include "change.h"
#include "grants.h"
#include "io.h"
#include "repo_internal.h"

#define CHANGE_CAP (4u << 20)

static void
fts_end(FTS **f)
{
	if (*f != NULL)
		(void)fts_close(*f);
}

/* By the sizes of their parts: their folder's name is their hash, and it is checked. */
enum mfs_code
mfs_change_blobs(int fd, const char *path, struct mfs_repo *r, struct mfs_err *err)
{
	mfs_autofree char *top = NULL;
	MFS_CLEANUP(fts_end) FTS *f = NULL;
	mfs_autoclose int from = openat(fd, mfs_step_names[MFS_STEP_BLOBS], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct mfs_grants grants = { .from = from, .to = r };
	const FTSENT *e;
	uint64_t size = 0;

	if (from < 0)
		return errno == ENOENT ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if (mfs_grants_copy(&grants, err) != MFS_OK)
		return mfs_err_context(err, "%s/%s/", MFS_ESC(path), mfs_step_names[MFS_STEP_BLOBS]);
	if (faccessat(from, "blobs", F_OK, 0) != 0)
		return MFS_OK;
	if (asprintf(&top, "%s/%s/blobs", path, mfs_step_names[MFS_STEP_BLOBS]) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((f = fts_open((char *const[]){ top, NULL }, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(top));
	while ((e = fts_read(f)) != NULL) {
		struct mfs_sha256 hash;
		enum mfs_code code;

		if (e->fts_info == FTS_D)
			size = 0;
		else if (e->fts_info == FTS_F)
			size += (uint64_t)e->fts_statp->st_size;
		else if (e->fts_info == FTS_DP && mfs_hex_decode(hash.b, MFS_SHA256_LEN, e->fts_name, strlen(e->fts_name))) {
			if (size == 0) /* no empty file has parts */
				return mfs_fail(err, MFS_HASH_MISMATCH, "%s: its parts are missing; bring it again", MFS_ESC(e->fts_path));
			if ((code = mfs_blob_copy(from, r->fd, &hash, size, false, NULL, NULL, err)) != MFS_OK)
				return mfs_err_context(err, "%s: ", MFS_ESC(path));
		}
	}
	return MFS_OK;
}

bool
mfs_upload_is(const char *path)
{
	mfs_autofree char *file = NULL;

	return asprintf(&file, "%s/change.json", path) >= 0 && access(file, F_OK) == 0;
}

void
mfs_upload_free(struct mfs_upload *u)
{
	if (u == NULL)
		return;
	mfs_cleanup_close(&u->fd);
	json_decref(u->arguments);
	free(u->command);
	free(u->repository);
	free(u->folder);
	free(u->path);
	free(u);
}

static bool
text_take(const json_t *doc, const char *key, char **out)
{
	const char *s = json_string_value(json_object_get(doc, key));

	return s != NULL && (*out = strdup(s)) != NULL;
}

enum mfs_code
mfs_upload_load(const char *path, struct mfs_upload **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_upload) struct mfs_upload *u = calloc(1, sizeof(*u));
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autojson json_t *doc = NULL;
	const char *format, *parent;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if (u == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	u->fd = -1;
	if ((u->path = strdup(path)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((u->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if ((code = mfs_file_read(u->fd, "change.json", CHANGE_CAP, &bytes, &len, err)) != MFS_OK)
		return mfs_err_context(err, "%s/", MFS_ESC(path));
	if ((code = mfs_json_parse("change.json", MFS_SPAN(bytes, len), CHANGE_CAP, &doc, err)) != MFS_OK)
		return code;
	format = json_string_value(json_object_get(doc, "format"));
	parent = json_string_value(json_object_get(doc, "parent"));
	u->root_version = json_integer_value(json_object_get(doc, "root_version"));
	u->arguments = json_incref(json_object_get(doc, "arguments"));
	if (format == NULL || strcmp(format, MFS_CHANGE_FORMAT) != 0 || parent == NULL ||
		!mfs_hex_decode(u->parent.b, MFS_SHA256_LEN, parent, strlen(parent)) || !json_is_array(u->arguments) ||
		!text_take(doc, "command", &u->command) || !text_take(doc, "repository", &u->repository) ||
		!text_take(doc, "folder", &u->folder))
		return mfs_fail(err, MFS_MALFORMED, "%s/change.json: not of an upload folder of modelpub", MFS_ESC(path));
	*out = mfs_steal(&u);
	return MFS_OK;
}

enum mfs_code
mfs_upload_fresh(const struct mfs_upload *u, const struct mfs_repo *r, struct mfs_err *err)
{
	if (mfs_sha256_equal(&u->parent, &r->timestamp.sha256))
		return MFS_OK;
	return mfs_fail(err, MFS_CONDITION_UNMET,
		"%s: was made upon another state than %s is in now (timestamp version %lld): 'modelpub rebase %s %s --keys KEYDIR' "
		"makes it again", MFS_ESC(u->path), MFS_ESC(r->path), (long long)r->timestamp.version, MFS_ESC(r->path),
		MFS_ESC(u->path));
}

/* The timestamp and the roots of a step have an order of their own. */
static bool
is_root(const char *path)
{
	const char *name = strrchr(path, '/');
	const size_t digits = name != NULL ? strspn(name + 1, "0123456789") : 0;

	return digits > 0 && strcmp(name + 1 + digits, ".root.json") == 0;
}

typedef enum mfs_code file_fn(struct mfs_repo *r, const char *path, struct mfs_span bytes, void *arg, struct mfs_err *err);

/* STEP/targets/... or STEP/metadata/..., those that `which` takes, each to fn with its path in the repository. */
static enum mfs_code
files_each(const struct mfs_upload *u, enum mfs_step step, bool roots, struct mfs_repo *r, file_fn *fn, void *arg,
	struct mfs_err *err)
{
	mfs_autofree char *top = NULL;
	MFS_CLEANUP(fts_end) FTS *f = NULL;
	const FTSENT *e;
	enum mfs_code code;

	if (faccessat(u->fd, mfs_step_names[step], F_OK, 0) != 0)
		return MFS_OK;
	if (asprintf(&top, "%s/%s", u->path, mfs_step_names[step]) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(u->path));
	if ((f = fts_open((char *const[]){ top, NULL }, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(top));
	while ((e = fts_read(f)) != NULL) {
		mfs_autofree uint8_t *bytes = NULL;
		size_t len;

		if (e->fts_info != FTS_F || is_root(e->fts_path) != roots)
			continue;
		if ((code = mfs_file_read(AT_FDCWD, e->fts_path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
			(code = fn(r, e->fts_path + strlen(top) + 1, MFS_SPAN(bytes, len), arg, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
file_bring(struct mfs_repo *r, const char *path, struct mfs_span bytes, void *arg, struct mfs_err *err)
{
	(void)arg;
	return mfs_repo_write(r, path, bytes, err);
}

static enum mfs_code
file_count(struct mfs_repo *r, const char *path, struct mfs_span bytes, void *arg, struct mfs_err *err)
{
	(void)r;
	(void)path;
	(void)bytes;
	(void)err;
	++*(size_t *)arg;
	return MFS_OK;
}

struct last { /* what comes last: the timestamp, and with other keys of it the root before it */
	struct mfs_span timestamp;
	bool done;
};

static enum mfs_code
root_bring(struct mfs_repo *r, const char *path, struct mfs_span bytes, void *arg, struct mfs_err *err)
{
	struct last *last = arg;

	last->done = true;
	return mfs_repo_write_root_first(r, path, bytes, last->timestamp, err);
}

enum mfs_code
mfs_upload_apply(const struct mfs_upload *u, struct mfs_repo *r, struct mfs_err *err)
{
	mfs_autofree uint8_t *timestamp = NULL;
	mfs_autofree char *path = NULL;
	struct last last = { .done = false };
	enum mfs_code code;
	size_t len, n = 0;

	if ((code = mfs_upload_fresh(u, r, err)) != MFS_OK || (code = mfs_change_blobs(u->fd, u->path, r, err)) != MFS_OK ||
		(code = files_each(u, MFS_STEP_METADATA, false, r, file_count, &n, err)) != MFS_OK)
		return code;
	if (asprintf(&path, "%s/" MFS_REPO_TIMESTAMP, mfs_step_names[MFS_STEP_TIMESTAMP]) < 0) {
		path = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(u->path));
	}
	if ((code = mfs_file_read(u->fd, path, MFS_TUF_TIMESTAMP_MAX, &timestamp, &len, err)) != MFS_OK) {
		/* Grants alone: nothing was signed. */
		if (code == MFS_IO && err->sys_errno == ENOENT && n == 0 && faccessat(u->fd, "1-blobs/grants", F_OK, 0) == 0 &&
			files_each(u, MFS_STEP_METADATA, true, r, file_count, &n, NULL) == MFS_OK &&
			files_each(u, MFS_STEP_TIMESTAMP, true, r, file_count, &n, NULL) == MFS_OK && n == 0)
			return MFS_OK;
		return mfs_err_context(err, "%s/", MFS_ESC(u->path));
	}
	if ((code = mfs_upload_check(u, r, MFS_SPAN(timestamp, len), err)) != MFS_OK ||
		(code = files_each(u, MFS_STEP_TARGETS, false, r, file_bring, NULL, err)) != MFS_OK ||
		(code = files_each(u, MFS_STEP_METADATA, false, r, file_bring, NULL, err)) != MFS_OK)
		return code;
	/* A root in step 3 comes before the timestamp, one in step 4 after it. */
	last.timestamp = MFS_SPAN(timestamp, len);
	if ((code = files_each(u, MFS_STEP_METADATA, true, r, root_bring, &last, err)) != MFS_OK ||
		(!last.done && (code = mfs_repo_write(r, MFS_REPO_TIMESTAMP, last.timestamp, err)) != MFS_OK))
		return code;
	return files_each(u, MFS_STEP_TIMESTAMP, true, r, file_bring, NULL, err);
}
