/* SPDX-License-Identifier: Apache-2.0 */
#include "grants.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "repo_internal.h"
#include "span.h"

static bool
is_hex(const char *name, size_t len, struct mfs_sha256 *out)
{
	return mfs_hex_decode(out->b, MFS_SHA256_LEN, name, len);
}

static void
tell(const struct mfs_grants *g, const char *path, const char *why)
{
	if (g->note != NULL)
		g->note(g->arg, path, why);
}

/* Is it for a key of the manifest? A further model key is known by a wrap of the manifest's content key. */
static bool
wanted(const struct mfs_grants *g, const struct mfs_sha256 *model_key, bool further, const struct mfs_sha256 *id, bool kwp)
{
	const struct mfs_manifest *m = g->only;

	if (m == NULL)
		return true;
	if (kwp)
		return mfs_sha256_equal(&m->content_key_id, id) && m->n_wraps > 0;
	for (size_t i = 0; i < m->n_wraps; i++)
		if (mfs_sha256_equal(&m->wraps[i].model_key_id, model_key))
			return true;
	return further;
}

/* The bytes that the repository has under that name; NULL: none. */
static uint8_t *
present(const struct mfs_grants *g, const char *path, size_t *len)
{
	uint8_t *bytes = NULL;

	return mfs_file_read(g->to->fd, path, MFS_GRANT_BYTES_MAX, &bytes, len, NULL) == MFS_OK ? bytes : NULL;
}

static enum mfs_code
one_copy(struct mfs_grants *g, int dir, const char *folder, const char *name, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL, *old = NULL;
	mfs_autoclose int fd = -1;
	char path[600]; /* folder and name have their shapes by now; the compiler does not know */
	size_t len, old_len = 0;
	struct stat st;
	enum mfs_code code;

	(void)snprintf(path, sizeof(path), "grants/%s/%s", folder, name);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: not a regular file", path);
	if ((fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	if ((code = mfs_fd_read(fd, path, MFS_GRANT_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
		return code;
	if (g->look)
		return MFS_OK;
	if (len == 0) {
		tell(g, path, "is empty");
		return MFS_OK;
	}
	if ((old = present(g, path, &old_len)) != NULL && old_len == len && memcmp(old, bytes, len) == 0)
		return MFS_OK;
	if (old != NULL && !g->replace) {
		tell(g, path, "the repository has another one of this name, which stays; remove that to replace it");
		return MFS_OK;
	}
	if (g->out == NULL) {
		code = mfs_repo_write(g->to, path, MFS_SPAN(bytes, len), err);
	} else {
		char name_out[640];

		(void)snprintf(name_out, sizeof(name_out), "%s/%s", mfs_step_names[MFS_STEP_BLOBS], path);
		code = mfs_outdir_write(g->out, name_out, bytes, len, err);
	}
	g->added += code == MFS_OK;
	return code;
}

/* "HEX.hpke", "HEX.kwp" */
static bool
grant_name(const char *name, struct mfs_sha256 *id, bool *kwp)
{
	const char *dot = strchr(name, '.');

	if (dot == NULL || !is_hex(name, (size_t)(dot - name), id))
		return false;
	*kwp = strcmp(dot, ".kwp") == 0;
	return *kwp || strcmp(dot, ".hpke") == 0;
}

/* Does this folder hold the manifest's content key, under a model key that the manifest does not name? */
static bool
is_further(const struct mfs_grants *g, int dir)
{
	char name[2 * MFS_SHA256_LEN + 8];

	if (g->only == NULL || g->only->n_wraps == 0)
		return false;
	(void)snprintf(name, sizeof(name), "%s.kwp", MFS_HEX(&g->only->content_key_id));
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum mfs_code
folder_copy(struct mfs_grants *g, int grants, const char *folder, struct mfs_err *err)
{
	const int fd = openat(grants, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	mfs_autodir DIR *d = NULL;
	struct mfs_sha256 key, id;
	const struct dirent *e;
	enum mfs_code code;
	char path[600];
	bool kwp, further;

	(void)snprintf(path, sizeof(path), "grants/%s", folder);
	if (fd < 0 && errno == ELOOP)
		return mfs_fail(err, MFS_MALFORMED, "%s: a link", MFS_ESC(path));
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		if (fd < 0 && errno == ENOTDIR) {
			tell(g, path, "is no grant");
			return MFS_OK;
		}
		(void)mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
		if (fd >= 0)
			(void)close(fd);
		return err->code;
	}
	if (!is_hex(folder, strlen(folder), &key)) {
		tell(g, path, "is no grant");
		return MFS_OK;
	}
	further = is_further(g, fd);
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "grants/%s/%s", folder, e->d_name);
		if (!grant_name(e->d_name, &id, &kwp))
			tell(g, path, "is no grant");
		else if (!wanted(g, &key, further, &id, kwp))
			tell(g, path, "is for another model's key");
		else if ((code = one_copy(g, fd, folder, e->d_name, err)) != MFS_OK)
			return code;
	}
	return errno == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "grants/%s: read", folder);
}

enum mfs_code
mfs_grants_copy(struct mfs_grants *g, struct mfs_err *err)
{
	const int fd = mfs_open_beneath(g->from, "grants", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;
	enum mfs_code code;

	g->added = 0;
	if (fd < 0 && errno == ENOENT)
		return MFS_OK;
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR || errno == EXDEV))
		return mfs_fail(err, MFS_MALFORMED, "grants: not a folder");
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		(void)mfs_fail_sys(err, MFS_IO, "grants");
		if (fd >= 0)
			(void)close(fd);
		return err->code;
	}
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0)
		if (e->d_name[0] != '.' && (code = folder_copy(g, fd, e->d_name, err)) != MFS_OK)
			return code;
	return errno == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "grants: read");
}
