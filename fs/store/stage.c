/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads under way: folders staging/dl-<id>/, kept across restarts until their version is complete or superseded. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "store_io.h"

#define FOLDER_PATH (sizeof("staging/" MFS_STAGE_PREFIX) + MFS_ID_MAX)

enum mfs_code
mfs_stage_open(struct mfs_store *s, const char *id, int *dirfd, struct mfs_err *err)
{
	char path[FOLDER_PATH];
	enum mfs_code code;

	*dirfd = -1;
	if (!mfs_model_id_ok(id, strlen(id)))
		return mfs_fail(err, MFS_INTERNAL, "store: staging for '%s'", MFS_ESC(id));
	(void)snprintf(path, sizeof(path), "staging/" MFS_STAGE_PREFIX "%s", id);
	if ((code = mfs_store_folder(s->dirfd, path, err)) != MFS_OK)
		return mfs_err_context(err, "store/");
	if ((*dirfd = mfs_open_beneath(s->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "store/%s", path);
	return MFS_OK;
}

int
mfs_stage_find(struct mfs_store *s, const char *id)
{
	char path[FOLDER_PATH];

	if (!mfs_model_id_ok(id, strlen(id))) {
		errno = EINVAL;
		return -1;
	}
	(void)snprintf(path, sizeof(path), "staging/" MFS_STAGE_PREFIX "%s", id);
	return mfs_open_beneath(s->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* Call fn for every entry of a folder; it may remove that entry. */
static void
each_entry(int at, const char *path, void (*fn)(int dirfd, const char *name, void *user), void *user)
{
	mfs_autodir DIR *d = NULL;
	int fd = mfs_open_beneath(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return;
	if ((d = fdopendir(fd)) == NULL) {
		(void)close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			fn(dirfd(d), e->d_name, user);
}

struct keep {
	const struct mfs_sha256 *hashes;
	const char *const *ids;
	size_t n;
};

static void
remove_logged(int dirfd, const char *name)
{
	if (mfs_remove_all(dirfd, name) != 0)
		mfs_log(MFS_LOG_WARN, "store/staging: %s: cannot be removed: %s", MFS_ESC(name), strerror(errno));
}

static void
trim_one(int dirfd, const char *name, void *user)
{
	const struct keep *k = user;
	struct mfs_sha256 hash;
	const char *dot = strchr(name, '.');

	if (dot != NULL && (strcmp(dot, ".data") == 0 || strcmp(dot, ".journal") == 0) &&
		mfs_hex_decode(hash.b, MFS_SHA256_LEN, name, (size_t)(dot - name)))
		for (size_t i = 0; i < k->n; i++)
			if (mfs_sha256_equal(&k->hashes[i], &hash))
				return;
	remove_logged(dirfd, name);
}

void
mfs_stage_trim(int dirfd, const struct mfs_sha256 *keep, size_t n_keep)
{
	struct keep k = { .hashes = keep, .n = n_keep };

	each_entry(dirfd, ".", trim_one, &k);
}

static void
collect_one(int dirfd, const char *name, void *user)
{
	const struct keep *k = user;

	if (!mfs_stage_is(name))
		return; /* a temporary: mfs_store_clean */
	for (size_t i = 0; i < k->n; i++)
		if (strcmp(name + strlen(MFS_STAGE_PREFIX), k->ids[i]) == 0)
			return;
	remove_logged(dirfd, name);
}

void
mfs_stage_collect(struct mfs_store *s, const char *const *ids, size_t n)
{
	struct keep k = { .ids = ids, .n = n };

	each_entry(s->dirfd, "staging", collect_one, &k);
}

struct filter {
	bool (*keep)(void *user, const char *id);
	void *user;
};

static void
filter_one(int dirfd, const char *name, void *user)
{
	const struct filter *f = user;

	if (mfs_stage_is(name) && !f->keep(f->user, name + strlen(MFS_STAGE_PREFIX)))
		remove_logged(dirfd, name);
}

void
mfs_stage_filter(struct mfs_store *s, bool (*keep)(void *user, const char *id), void *user)
{
	struct filter f = { .keep = keep, .user = user };

	each_entry(s->dirfd, "staging", filter_one, &f);
}

void
mfs_stage_drop(struct mfs_store *s, const char *id)
{
	char name[FOLDER_PATH];
	mfs_autoclose int fd = mfs_open_beneath(s->dirfd, "staging", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0 || !mfs_model_id_ok(id, strlen(id)))
		return;
	(void)snprintf(name, sizeof(name), MFS_STAGE_PREFIX "%s", id);
	remove_logged(fd, name);
}

bool
mfs_stage_is(const char *name)
{
	const size_t n = strlen(MFS_STAGE_PREFIX);

	return strncmp(name, MFS_STAGE_PREFIX, n) == 0 && mfs_model_id_ok(name + n, strlen(name + n));
}
