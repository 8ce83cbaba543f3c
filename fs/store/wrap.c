/* SPDX-License-Identifier: Apache-2.0 */
/* Wrapped content keys that came beside their manifest: grants/<model_key_id>/<content_key_id>.kwp, as in a repository. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "store_io.h"

#define FOLDER "grants"
#define SUFFIX ".kwp"

void
mfs_wrap_path(char out[MFS_WRAP_PATH], const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key)
{
	(void)snprintf(out, MFS_WRAP_PATH, "%s/%s" SUFFIX, MFS_HEX(model_key), MFS_HEX(content_key));
}

/* Exactly the bytes of a wrap, in a regular file; whatever else stands there is none. */
static bool
read_at(int dirfd, const char *path, uint8_t out[MFS_WRAP_LEN])
{
	mfs_autoclose int fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == MFS_WRAP_LEN &&
		mfs_pread_full(fd, out, MFS_WRAP_LEN, 0) == 0;
}

bool
mfs_store_wrap_next(struct mfs_store *s, const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key,
	size_t *place, uint8_t out[MFS_WRAP_LEN])
{
	char path[sizeof(FOLDER) + MFS_WRAP_PATH];
	char name[MFS_WRAP_PATH];

	mfs_wrap_path(name, model_key, content_key);
	(void)snprintf(path, sizeof(path), FOLDER "/%s", name);
	for (;; (*place)++) {
		int dirfd = *place == 0 ? s->dirfd : *place <= s->n_seeds ? s->seeds[*place - 1]
			: s->bundles != NULL ? mfs_seeds_bundle(s->bundles, *place - 1 - s->n_seeds) : -1;

		if (dirfd < 0)
			return false;
		if (read_at(dirfd, path, out)) {
			(*place)++;
			return true;
		}
	}
}

enum mfs_code
mfs_store_wrap_put(struct mfs_store *s, const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key,
	const uint8_t wrapped[MFS_WRAP_LEN], struct mfs_err *err)
{
	char folder[sizeof(FOLDER) + 2 * MFS_SHA256_LEN + 1], name[2 * MFS_SHA256_LEN + sizeof(SUFFIX)];
	mfs_autoclose int fd = -1;
	uint8_t have[MFS_WRAP_LEN];
	struct stat st;
	enum mfs_code code;

	(void)snprintf(folder, sizeof(folder), FOLDER "/%s", MFS_HEX(model_key));
	(void)snprintf(name, sizeof(name), "%s" SUFFIX, MFS_HEX(content_key));
	if ((code = mfs_store_folder(s->dirfd, folder, err)) != MFS_OK)
		return mfs_err_context(err, "store/");
	if ((fd = mfs_open_beneath(s->dirfd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "store/%s", folder);
	if (read_at(fd, name, have) && memcmp(have, wrapped, sizeof(have)) == 0)
		return MFS_OK;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && mfs_remove_all(fd, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/%s/%s: a folder, and cannot be removed", folder, name);
	code = mfs_file_replace(fd, name, wrapped, MFS_WRAP_LEN, 0640, err);
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "store/%s/", folder);
}

/* ---- collection -------------------------------------------------------------------------------------------- */

static int
id_order(const void *a, const void *b)
{
	return memcmp(a, b, MFS_SHA256_LEN);
}

/* "<64 digits>.kwp" of a content key that is kept. */
static bool
is_kept(const char *name, const struct mfs_sha256 *keep, size_t n_keep)
{
	struct mfs_sha256 id = { { 0 } };
	const char *dot = strchr(name, '.');

	return dot != NULL && strcmp(dot, SUFFIX) == 0 && mfs_hex_decode(id.b, MFS_SHA256_LEN, name, (size_t)(dot - name)) &&
		n_keep > 0 && bsearch(&id, keep, n_keep, sizeof(*keep), id_order) != NULL;
}

static void
remove_at(int dirfd, const char *name)
{
	if (mfs_remove_all(dirfd, name) != 0)
		mfs_log(MFS_LOG_WARN, "store/grants: %s: cannot be removed: %s", MFS_ESC(name), strerror(errno));
}

/* What is kept in one folder of a model key; the rest goes. Opened by name, no link is followed. */
static size_t
folder_collect(int grants, const char *name, const struct mfs_sha256 *keep, size_t n_keep)
{
	int fd = mfs_open_beneath(grants, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	mfs_autodir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	size_t kept = 0;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT) ? 0 : 1; /* not known: it stays */
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (is_kept(e->d_name, keep, n_keep))
			kept++;
		else
			remove_at(dirfd(d), e->d_name);
	}
	return kept;
}

void
mfs_store_wrap_gc(struct mfs_store *s, const struct mfs_sha256 *keep, size_t n_keep)
{
	int fd = mfs_open_beneath(s->dirfd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	mfs_autodir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return; /* none, or not to be listed: nothing of it is in anybody's way */
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct mfs_sha256 id;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (!mfs_hex_decode(id.b, MFS_SHA256_LEN, e->d_name, strlen(e->d_name)) ||
			folder_collect(dirfd(d), e->d_name, keep, n_keep) == 0)
			remove_at(dirfd(d), e->d_name);
	}
}
