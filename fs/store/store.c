/* SPDX-License-Identifier: Apache-2.0 */
/* The store's folder: opening, looking up blobs, room, collection. Adding blobs: put.c. */
#include "store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "io.h"
#include "log.h"
#include "store_io.h"

enum mfs_code
mfs_store_folder(int at, const char *path, struct mfs_err *err)
{
	char parent[MFS_BLOB_PATH] = ".";
	const char *slash = strrchr(path, '/');
	mfs_autoclose int fd = mfs_open_beneath(at, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	enum mfs_code code;
	struct stat st;

	if (fd >= 0)
		return MFS_OK;
	if (slash != NULL) {
		(void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		if ((code = mfs_store_folder(at, parent, err)) != MFS_OK)
			return code;
	}
	/* Every parent is a real folder now. */
	if (fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
		if (unlinkat(at, path, 0) != 0)
			return mfs_fail_sys(err, MFS_IO, "%s: not a folder, and cannot be removed", path);
		mfs_log(MFS_LOG_WARN, "%s: something else stood in the place of this folder and was removed", path);
	}
	if (mkdirat(at, path, 0750) != 0 && errno != EEXIST)
		return mfs_fail_sys(err, MFS_IO, "%s: mkdir", path);
	return mfs_dir_sync(at, parent, err);
}

enum mfs_code
mfs_store_open(int dirfd, const int *seeds, size_t n_seeds, struct mfs_store **out, struct mfs_err *err)
{
	static const char *const folders[] = { "blobs/sha256", "manifests", "staging" };
	MFS_CLEANUP(mfs_cleanup_store) struct mfs_store *s = calloc(1, sizeof(*s));
	enum mfs_code code;

	*out = NULL;
	if (s == NULL || (n_seeds > 0 && (s->seeds = calloc(n_seeds, sizeof(*s->seeds))) == NULL)) {
		free(s);
		s = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "store");
	}
	if ((s->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3)) < 0)
		return mfs_fail_sys(err, MFS_IO, "store: folder");
	for (; s->n_seeds < n_seeds; s->n_seeds++)
		if ((s->seeds[s->n_seeds] = fcntl(seeds[s->n_seeds], F_DUPFD_CLOEXEC, 3)) < 0)
			return mfs_fail_sys(err, MFS_IO, "store: seed %zu", s->n_seeds);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		struct mfs_err why = MFS_ERR_INIT;

		/* A store on a read-only disk can still be read. */
		if (mfs_store_folder(s->dirfd, folders[i], &why) != MFS_OK && why.sys_errno != EROFS &&
			why.sys_errno != EACCES) {
			(void)mfs_err_context(&why, "store/");
			if (err != NULL)
				*err = why;
			return why.code;
		}
	}
	if (n_seeds > 0 && (code = mfs_seeds_open(s->seeds, s->n_seeds, &s->bundles, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&s);
	return MFS_OK;
}

void
mfs_store_close(struct mfs_store *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n_seeds; i++)
		(void)close(s->seeds[i]);
	if (s->dirfd >= 0)
		(void)close(s->dirfd);
	mfs_seeds_free(s->bundles);
	free(s->seeds);
	free(s);
}

int
mfs_store_dirfd(const struct mfs_store *s)
{
	return s->dirfd;
}

void
mfs_blob_path(char out[MFS_BLOB_PATH], const struct mfs_sha256 *hash)
{
	const char *hex = MFS_HEX(hash);

	(void)snprintf(out, MFS_BLOB_PATH, "blobs/sha256/%.2s/%s", hex, hex);
}

static int
blob_open_at(int dirfd, const char *path, int flags)
{
	/* O_NONBLOCK: a FIFO in the place of a blob must not hang the open; it has no effect on files. */
	mfs_autoclose int fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | flags, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return mfs_steal_fd(&fd);
}

int
mfs_store_blob_open(struct mfs_store *s, const struct mfs_sha256 *hash, int flags)
{
	char path[MFS_BLOB_PATH];
	int fd, first;

	mfs_blob_path(path, hash);
	fd = blob_open_at(s->dirfd, path, flags);
	first = errno;
	for (size_t i = 0; fd < 0 && i < s->n_seeds; i++)
		fd = blob_open_at(s->seeds[i], path, flags);
	if (fd < 0 && s->bundles != NULL)
		fd = mfs_seeds_blob_open(s->bundles, hash, flags);
	if (fd < 0)
		errno = first;
	return fd;
}

void
mfs_store_blob_drop(struct mfs_store *s, const struct mfs_sha256 *hash)
{
	char path[MFS_BLOB_PATH];

	mfs_blob_path(path, hash);
	(void)unlinkat(s->dirfd, path, 0);
}

static bool
blob_has_at(int dirfd, const char *path, uint64_t size)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		(uint64_t)st.st_size == size;
}

bool
mfs_store_blob_has(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size)
{
	char path[MFS_BLOB_PATH];
	struct stat st;

	mfs_blob_path(path, hash);
	/* What stands in the store is what will be opened, also if it is damaged and a seed's is not. */
	if (fstatat(s->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
	for (size_t i = 0; i < s->n_seeds; i++)
		if (blob_has_at(s->seeds[i], path, size))
			return true;
	if (s->bundles != NULL) {
		mfs_autoclose int fd = mfs_seeds_blob_open(s->bundles, hash, 0);

		return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == size;
	}
	return false;
}

enum mfs_code
mfs_store_lock(struct mfs_store *s, int *fd, struct mfs_err *err)
{
	mfs_autoclose int lock = mfs_open_beneath(s->dirfd, "install.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK,
		0640);

	*fd = -1;
	if (lock < 0) {
		(void)mfs_fail_sys(err, MFS_IO, "store/install.lock");
		if (errno == EACCES || errno == EPERM)
			(void)mfs_err_hint(err,
				"; everything in the store must belong to the user that modelfs runs as: 'chown -R' gives it back");
		else if (errno == ELOOP || errno == EISDIR || errno == ENXIO)
			(void)mfs_err_hint(err, "; it is not a regular file and holds nothing: remove it");
		return MFS_IO;
	}
	if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK)
			return mfs_fail(err, MFS_CONDITION_UNMET,
				"store/install.lock: an installation or gc is running: try again when it is done");
		return mfs_fail_sys(err, MFS_IO, "store/install.lock");
	}
	*fd = mfs_steal_fd(&lock);
	return MFS_OK;
}

static double
mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

enum mfs_code
mfs_store_room(struct mfs_store *s, uint64_t need, uint64_t min_free, struct mfs_err *err)
{
	struct statvfs v;
	uint64_t avail, total, keep, want;

	if (need == 0)
		return MFS_OK;
	if (fstatvfs(s->dirfd, &v) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: statvfs");
	avail = (uint64_t)v.f_bavail * v.f_frsize;
	total = (uint64_t)v.f_blocks * v.f_frsize;
	keep = min_free <= 100 ? total / 100 * min_free : min_free;
	want = need + need / 20;
	if (want > avail || avail - want < keep)
		return mfs_fail(err, MFS_INSUFFICIENT_STORAGE,
			"store: %.1f MiB needed (with 5 %% to spare), %.1f MiB free of which min_free keeps %.1f MiB: free "
			"some space, for example with 'modelfs gc'", mib(want), mib(avail), mib(keep));
	return MFS_OK;
}

enum mfs_code
mfs_store_clean(struct mfs_store *s, struct mfs_err *err)
{
	mfs_autodir DIR *d = NULL;
	int fd = mfs_open_beneath(s->dirfd, "staging", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0 && errno == ENOENT)
		return MFS_OK;
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		enum mfs_code code = mfs_fail_sys(err, MFS_IO, "store/staging");

		if (fd >= 0)
			(void)close(fd);
		return code;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !mfs_stage_is(e->d_name) &&
			mfs_remove_all(dirfd(d), e->d_name) != 0)
			/* Names here are random: what cannot be removed is in nobody's way. */
			mfs_log(MFS_LOG_WARN, "store/staging/%s: cannot be removed: %s", MFS_ESC(e->d_name), strerror(errno));
	return MFS_OK;
}

/* ---- walking blobs -------------------------------------------------------------------------------- */

/* fn gets an open folder, an entry's name and what fstatat says; nonzero ends the walk with IO. */
typedef int walk_fn(void *user, int dirfd, const char *name, const struct mfs_sha256 *hash, const struct stat *st);

static int
walk_folder(int root, const char *name, walk_fn *fn, void *user)
{
	mfs_autodir DIR *d = NULL;
	int fd = mfs_open_beneath(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return fd < 0 && (errno == ENOTDIR || errno == ENOENT) ? 0 : -1;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct mfs_sha256 hash;
		struct stat st;

		if (!mfs_hex_decode(hash.b, MFS_SHA256_LEN, e->d_name, strlen(e->d_name)) ||
			strncmp(name, e->d_name, 2) != 0)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			if (errno == ENOENT)
				continue;
			return -1;
		}
		if (!S_ISDIR(st.st_mode) && fn(user, dirfd(d), e->d_name, &hash, &st) != 0)
			return -1;
	}
	return 0;
}

static enum mfs_code
walk(struct mfs_store *s, walk_fn *fn, void *user, struct mfs_err *err)
{
	mfs_autoclose int root = mfs_open_beneath(s->dirfd, "blobs/sha256", O_RDONLY | O_DIRECTORY, 0);

	if (root < 0 && errno == ENOENT)
		return MFS_OK;
	if (root < 0)
		return mfs_fail_sys(err, MFS_IO, "store/blobs/sha256");
	for (unsigned i = 0; i < 256; i++) {
		char name[3];
		uint8_t byte = (uint8_t)i;

		mfs_hex_encode(name, &byte, 1);
		if (walk_folder(root, name, fn, user) != 0)
			return mfs_fail_sys(err, MFS_IO, "store/blobs/sha256/%s", name);
	}
	return MFS_OK;
}

struct gc {
	const struct mfs_sha256 *keep;
	size_t n_keep;
	struct timespec start;
	uint64_t freed;
	size_t removed;
};

static int
hash_compare(const void *a, const void *b)
{
	return memcmp(a, b, MFS_SHA256_LEN);
}

static int
gc_one(void *user, int dirfd, const char *name, const struct mfs_sha256 *hash, const struct stat *st)
{
	struct gc *g = user;

	if (g->n_keep > 0 && bsearch(hash, g->keep, g->n_keep, sizeof(*g->keep), hash_compare) != NULL)
		return 0;
	/* ctime changes with the rename into place: what came after the scan began is somebody's. */
	if (st->st_ctim.tv_sec > g->start.tv_sec ||
		(st->st_ctim.tv_sec == g->start.tv_sec && st->st_ctim.tv_nsec >= g->start.tv_nsec))
		return 0;
	if (unlinkat(dirfd, name, 0) != 0)
		return errno == ENOENT ? 0 : -1;
	g->freed += (uint64_t)st->st_blocks * 512;
	g->removed++;
	return 0;
}

enum mfs_code
mfs_store_gc(struct mfs_store *s, const struct mfs_sha256 *keep, size_t n_keep, uint64_t *freed, size_t *removed,
	struct mfs_err *err)
{
	struct gc g = { .keep = keep, .n_keep = n_keep };
	enum mfs_code code;

	/* The coarse clock is the one that stamps files. */
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &g.start);
	code = walk(s, gc_one, &g, err);
	*freed = g.freed;
	*removed = g.removed;
	return code;
}

static int
usage_one(void *user, int dirfd, const char *name, const struct mfs_sha256 *hash, const struct stat *st)
{
	uint64_t *bytes = user;

	(void)dirfd;
	(void)name;
	(void)hash;
	*bytes += (uint64_t)st->st_blocks * 512;
	return 0;
}

enum mfs_code
mfs_store_usage(struct mfs_store *s, uint64_t *bytes, struct mfs_err *err)
{
	*bytes = 0;
	return walk(s, usage_one, bytes, err);
}
