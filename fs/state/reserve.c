/* SPDX-License-Identifier: Apache-2.0 */
/* Room that is kept in the state's folder. See reserve.h. */
#include "reserve.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "io.h"
#include "log.h"

#define SPACE      "space"
#define STEP       (UINT64_C(64) << 10) /* bytes; it is a multiple of this, and more than what is needed is given back */
#define BLOCK      UINT64_C(4096)       /* what a file takes at least */
#define SIZE_DEPTH 2u                   /* folders below the state: tuf/<repository> */

struct mfs_reserve {
	pthread_mutex_t lock; /* of the files */
	int state_dirfd;
	bool create; /* lock: it is to be made where there is none */
	bool told;   /* lock: that there can be none */
	struct mfs_reserve_facts now;   /* lock */
	pthread_mutex_t said_lock;      /* taken after lock; never held across I/O */
	struct mfs_reserve_facts said;  /* said_lock: a copy for who asks */
};

static uint64_t
round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static bool
no_space(int e)
{
	return e == ENOSPC || e == EDQUOT;
}

/* ---- how much ----------------------------------------------------------------------------------------------- */

/* What the files of a folder take, and of the folders below it. */
static uint64_t
taken(int at, const char *path, unsigned depth)
{
	int fd = mfs_open_beneath(at, path, O_RDONLY | O_DIRECTORY, 0);
	mfs_autodir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	uint64_t sum = 0;

	if (d == NULL) {
		mfs_cleanup_close(&fd);
		return 0;
	}
	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (S_ISREG(st.st_mode))
			sum += round_up((uint64_t)st.st_size, BLOCK);
		else if (S_ISDIR(st.st_mode) && depth > 0)
			sum += taken(dirfd(d), e->d_name, depth - 1);
	}
	return sum;
}

static uint64_t
wanted(const struct mfs_reserve *r)
{
	static const char *const documents[] = { "anchor.0", "anchor.1", "cycle.0", "cycle.1", "counter" };
	uint64_t sum = taken(r->state_dirfd, "tuf", SIZE_DEPTH) + taken(r->state_dirfd, "policy", 0);
	struct stat st;

	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
		if (fstatat(r->state_dirfd, documents[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			sum += round_up((uint64_t)st.st_size, BLOCK);
	sum = round_up(2 * sum, STEP);
	return sum < MFS_RESERVE_LEAST ? MFS_RESERVE_LEAST : sum > MFS_RESERVE_MOST ? MFS_RESERVE_MOST : sum;
}

/* ---- the files ------------------------------------------------------------------------------------------------- */

static int
folder_open(const struct mfs_reserve *r, bool create)
{
	if (create && mkdirat(r->state_dirfd, MFS_RESERVE_FOLDER, 0700) != 0 && errno != EEXIST)
		return -1;
	return mfs_open_beneath(r->state_dirfd, MFS_RESERVE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* What stands there and is no file of ours (copied back by root, a link) makes room for one that is. */
static int
space_open(int dir, bool create)
{
	int fd = mfs_open_beneath(dir, SPACE, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		return fd;
	mfs_cleanup_close(&fd);
	if (!create || mfs_remove_all(dir, SPACE) != 0)
		return -1;
	return mfs_open_beneath(dir, SPACE, O_RDWR | O_CREAT | O_EXCL, 0600);
}

static const char *
spare_name(unsigned i, char out[8])
{
	(void)snprintf(out, 8, "%u", i + 1);
	return out;
}

static bool
spares_fill(int dir)
{
	bool all = true;
	char name[8];

	for (unsigned i = 0; i < MFS_RESERVE_INODES; i++) {
		mfs_autoclose int fd = openat(dir, spare_name(i, name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

		all = all && (fd >= 0 || errno == EEXIST);
	}
	return all;
}

/* Bytes from..to of the file are its own on the disk. 0, or -1 with errno */
static int
room_take(int fd, uint64_t from, uint64_t to)
{
	uint8_t random[4096];

	if (fallocate(fd, 0, (off_t)from, (off_t)(to - from)) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -1;
	for (uint64_t at = from; at < to; at += sizeof(random))
		if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
			mfs_pwrite_full(fd, random, sizeof(random), (off_t)at) != 0)
			return -1;
	return fsync(fd);
}

/* As many bytes as there is room for; how many it has then. 0 with errno: none can be kept, for another reason. */
static uint64_t
space_fill(int fd, uint64_t want)
{
	uint64_t have, step = want;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return 0;
	/* A copy of it may have holes. */
	have = (uint64_t)st.st_size < (uint64_t)st.st_blocks * 512 ? (uint64_t)st.st_size : (uint64_t)st.st_blocks * 512;
	have = have / STEP * STEP;
	if (have > want)
		have = want;
	if ((uint64_t)st.st_size != have && ftruncate(fd, (off_t)have) != 0)
		return 0;
	errno = ENOSPC;
	while (have < want && step >= STEP) {
		const uint64_t to = have + step < want ? have + step : want;

		if (room_take(fd, have, to) == 0) {
			have = to;
			continue;
		}
		if (!no_space(errno) || ftruncate(fd, (off_t)have) != 0) /* what it got of the step */
			return 0;
		errno = ENOSPC;
		step = round_up(step / 2, STEP) < step ? round_up(step / 2, STEP) : 0;
	}
	return have;
}

/* ---- filling and giving back -------------------------------------------------------------------------------------- */

static void
said(struct mfs_reserve *r)
{
	(void)pthread_mutex_lock(&r->said_lock);
	r->said = r->now;
	(void)pthread_mutex_unlock(&r->said_lock);
}

static void
impossible(struct mfs_reserve *r)
{
	/* A read-only or failing disk says so itself, at each write. */
	r->now.kept = r->now.full = false;
	r->now.whole = true;
	if (!r->told)
		mfs_log(MFS_LOG_WARN, "state/" MFS_RESERVE_FOLDER ": no room can be kept: %s", strerror(errno));
	r->told = true;
}

/* No more than a file of one step could be written beside it. */
static bool
disk_full(int dir)
{
	struct statvfs s;

	return fstatvfs(dir, &s) == 0 && ((uint64_t)s.f_bavail * s.f_frsize < STEP || (s.f_files > 0 && s.f_favail == 0));
}

/* false with errno when none can be kept. */
static bool
fill(struct mfs_reserve *r, bool create)
{
	mfs_autoclose int dir = folder_open(r, create), fd = -1;
	bool spares;

	r->now.bytes = 0;
	r->now.whole = false;
	r->now.full = true;
	if (dir < 0)
		return no_space(errno);
	spares = spares_fill(dir);
	if ((fd = space_open(dir, true)) < 0)
		return no_space(errno);
	r->now.bytes = space_fill(fd, r->now.want);
	r->now.whole = spares && r->now.bytes == r->now.want;
	if (r->now.bytes == 0 && !no_space(errno))
		return false;
	r->now.full = !r->now.whole || disk_full(dir);
	return true;
}

bool
mfs_reserve_fill(struct mfs_reserve *r, bool create)
{
	struct stat st;
	bool full;

	if (r == NULL)
		return true;
	(void)pthread_mutex_lock(&r->lock);
	r->now.want = wanted(r);
	r->create = r->create || create;
	r->now.kept = r->create || fstatat(r->state_dirfd, MFS_RESERVE_FOLDER, &st, AT_SYMLINK_NOFOLLOW) == 0;
	r->now.whole = true;
	r->now.full = false;
	if (r->now.kept && !fill(r, r->create))
		impossible(r);
	full = r->now.full;
	said(r);
	(void)pthread_mutex_unlock(&r->lock);
	return !full;
}

static bool
release(struct mfs_reserve *r, size_t need)
{
	mfs_autoclose int dir = folder_open(r, false), fd = dir >= 0 ? space_open(dir, false) : -1;
	bool given = false;
	struct stat st;
	char name[8];

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
		const uint64_t size = (uint64_t)st.st_size, give = round_up(need, STEP) + STEP;

		r->now.bytes = size > give ? size - give : 0;
		/* Some filesystems have the blocks again only once that is on the disk. */
		given = ftruncate(fd, (off_t)r->now.bytes) == 0 && fsync(fd) == 0;
	}
	for (unsigned i = MFS_RESERVE_INODES; dir >= 0 && i > 0; i--)
		if (unlinkat(dir, spare_name(i - 1, name), 0) == 0) {
			given = true;
			break;
		}
	return given;
}

bool
mfs_reserve_release(struct mfs_reserve *r, size_t need)
{
	bool given;

	if (r == NULL)
		return false;
	(void)pthread_mutex_lock(&r->lock);
	given = release(r, need);
	if (given && !r->now.full)
		mfs_log(MFS_LOG_WARN, "state/" MFS_RESERVE_FOLDER ": the disk is full: what must be written takes from the reserve");
	if (given) {
		r->now.whole = false;
		r->now.full = true;
	}
	said(r);
	(void)pthread_mutex_unlock(&r->lock);
	return given;
}

enum mfs_code
mfs_reserve_replace(struct mfs_reserve *r, int dirfd, const char *name, const void *buf, size_t len, mode_t mode,
	struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code = mfs_file_replace(dirfd, name, buf, len, mode, &own);

	while (code == MFS_INSUFFICIENT_STORAGE && mfs_reserve_release(r, len)) {
		own = (struct mfs_err)MFS_ERR_INIT;
		code = mfs_file_replace(dirfd, name, buf, len, mode, &own);
	}
	if (code != MFS_OK && err != NULL)
		*err = own;
	return code;
}

void
mfs_reserve_facts(struct mfs_reserve *r, struct mfs_reserve_facts *out)
{
	*out = (struct mfs_reserve_facts){ .whole = true };
	if (r == NULL)
		return;
	(void)pthread_mutex_lock(&r->said_lock);
	*out = r->said;
	(void)pthread_mutex_unlock(&r->said_lock);
}

enum mfs_code
mfs_reserve_open(int state_dirfd, struct mfs_reserve **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_reserve) struct mfs_reserve *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (r == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "reserve");
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_mutex_init(&r->said_lock, NULL);
	r->now.whole = r->said.whole = true;
	if ((r->state_dirfd = fcntl(state_dirfd, F_DUPFD_CLOEXEC, 3)) < 0)
		return mfs_fail_sys(err, MFS_IO, "reserve: the state folder");
	*out = mfs_steal(&r);
	return MFS_OK;
}

void
mfs_reserve_close(struct mfs_reserve *r)
{
	if (r == NULL)
		return;
	mfs_cleanup_close(&r->state_dirfd);
	(void)pthread_mutex_destroy(&r->lock);
	(void)pthread_mutex_destroy(&r->said_lock);
	free(r);
}
