/* SPDX-License-Identifier: Apache-2.0 */
#include "outdir.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

#define SYNC_EACH_MAX 256 /* files; with more of them one sync of the filesystem is quicker */

/* Length of path without '/' at its end; 0 if no name is left. */
static size_t
path_length(const char *path)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	return len;
}

enum mfs_code
mfs_outdir_check(const char *path, struct mfs_err *err)
{
	mfs_autofree char *trimmed = strndup(path, path_length(path));
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;
	const char *base;
	struct stat st;

	if (trimmed == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	base = strrchr(trimmed, '/');
	base = base != NULL ? base + 1 : trimmed;
	if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return mfs_fail(err, MFS_IO, "'%s': not a name for a new folder", MFS_ESC(path));
	if (lstat(trimmed, &st) != 0) {
		if (errno == ENOENT)
			return MFS_OK;
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	}
	if (!S_ISDIR(st.st_mode))
		return mfs_fail(err, MFS_IO, "%s: exists and is not an empty folder; choose another name or remove it",
			MFS_ESC(path));
	if ((d = opendir(trimmed)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return mfs_fail(err, MFS_IO, "%s: exists and is not empty; choose another name or remove it",
				MFS_ESC(path));
	return MFS_OK;
}

enum mfs_code
mfs_outdir_create(const char *path, struct mfs_outdir **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_outdir) struct mfs_outdir *o = NULL;
	const char *slash;
	enum mfs_code code;
	mode_t mask;

	*out = NULL;
	if ((code = mfs_outdir_check(path, err)) != MFS_OK)
		return code;
	if ((o = calloc(1, sizeof(*o))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	o->fd = -1;
	mask = umask(0);
	(void)umask(mask);
	o->mode = 0777 & ~mask;
	if ((o->path = strndup(path, path_length(path))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	slash = strrchr(o->path, '/');
	if (asprintf(&o->tmp, "%.*s.%s.XXXXXX", slash != NULL ? (int)(slash - o->path + 1) : 0, o->path,
		    slash != NULL ? slash + 1 : o->path) < 0) {
		o->tmp = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	if (mkdtemp(o->tmp) == NULL) {
		code = mfs_fail_sys(err, MFS_IO, "%s: create a folder beside it", MFS_ESC(path));
		mfs_cleanup_free(&o->tmp);
		return code;
	}
	if ((o->fd = open(o->tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(o->tmp));
	*out = mfs_steal(&o);
	return MFS_OK;
}

enum mfs_code
mfs_outdir_file(struct mfs_outdir *o, const char *part, const char *name, int *fd, struct mfs_err *err)
{
	mfs_autofree char *path = NULL;
	enum mfs_code code;
	char *slash;

	*fd = -1;
	if (asprintf(&path, "%s%s%s", part != NULL ? part : "", part != NULL ? "/" : "", name) < 0) {
		path = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	}
	if ((slash = strrchr(path, '/')) != NULL) {
		*slash = '\0';
		if ((code = mfs_mkdirs(o->fd, path, 0777, err)) != MFS_OK)
			return code;
		*slash = '/';
	}
	*fd = mfs_open_beneath(o->fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
	if (*fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s: create", MFS_ESC(o->tmp), MFS_ESC(path));
	o->files++;
	return MFS_OK;
}

enum mfs_code
mfs_outdir_write(struct mfs_outdir *o, const char *name, const void *buf, size_t len, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code = mfs_outdir_file(o, NULL, name, &fd, err);

	if (code != MFS_OK)
		return code;
	if (mfs_write_full(fd, buf, len) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: write", MFS_ESC(name));
	return MFS_OK;
}

static void
fts_end(FTS **f)
{
	if (*f != NULL)
		(void)fts_close(*f);
	*f = NULL;
}

/* Remove a folder of our own, best effort: the error that led here is the one to report. */
static void
tree_remove(char *path)
{
	char *const roots[] = { path, NULL };
	MFS_CLEANUP(fts_end) FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const FTSENT *e;

	if (f == NULL)
		return;
	while ((e = fts_read(f)) != NULL) {
		if (e->fts_info == FTS_D)
			continue;
		if (e->fts_info == FTS_DP)
			(void)rmdir(e->fts_accpath);
		else
			(void)unlink(e->fts_accpath);
	}
}

static enum mfs_code
tree_sync(struct mfs_outdir *o, struct mfs_err *err)
{
	char *const roots[] = { o->tmp, NULL };
	MFS_CLEANUP(fts_end) FTS *f = NULL;
	const FTSENT *e;

	if (o->files > SYNC_EACH_MAX)
		return syncfs(o->fd) == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(o->tmp));
	if ((f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(o->tmp));
	for (errno = 0; (e = fts_read(f)) != NULL; errno = 0) {
		mfs_autoclose int fd = -1;

		if (e->fts_info == FTS_D)
			continue;
		fd = open(e->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || fsync(fd) != 0)
			return mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(e->fts_path));
	}
	if (errno != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(o->tmp));
	return MFS_OK;
}

enum mfs_code
mfs_outdir_commit(struct mfs_outdir *o, struct mfs_err *err)
{
	mfs_autofree char *parent = NULL;
	const char *slash = strrchr(o->path, '/');
	enum mfs_code code;

	/* EPERM: the filesystem keeps no modes, the folder is as it is mounted. */
	if (fchmod(o->fd, o->mode) != 0 && errno != EPERM && errno != EOPNOTSUPP)
		return mfs_fail_sys(err, MFS_IO, "%s: set mode", MFS_ESC(o->tmp));
	if ((code = tree_sync(o, err)) != MFS_OK)
		return code;
	parent = slash != NULL ? strndup(o->path, (size_t)(slash - o->path) + 1) : strdup(".");
	if (parent == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(o->path));
	/* Replaces an empty folder, and nothing else: ENOTEMPTY, ENOTDIR. */
	if (rename(o->tmp, o->path) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: rename", MFS_ESC(o->path));
	mfs_cleanup_free(&o->tmp);
	return mfs_dir_sync(AT_FDCWD, parent, err);
}

void
mfs_outdir_free(struct mfs_outdir *o)
{
	if (o == NULL)
		return;
	mfs_cleanup_close(&o->fd);
	if (o->tmp != NULL)
		tree_remove(o->tmp);
	free(o->tmp);
	free(o->path);
	free(o);
}
