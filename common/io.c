/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

int
mfs_read_full(int fd, void *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = read(fd, (char *)buf + got, n - got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			if (r == 0)
				errno = EIO;
			return -1;
		}
		got += (size_t)r;
	}
	return 0;
}

int
mfs_pread_full(int fd, void *buf, size_t n, off_t off)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(fd, (char *)buf + got, n - got, off + (off_t)got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			if (r == 0)
				errno = EIO;
			return -1;
		}
		got += (size_t)r;
	}
	return 0;
}

int
mfs_write_full(int fd, const void *buf, size_t n)
{
	size_t put = 0;

	while (put < n) {
		ssize_t r = write(fd, (const char *)buf + put, n - put);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		put += (size_t)r;
	}
	return 0;
}

int
mfs_pwrite_full(int fd, const void *buf, size_t n, off_t off)
{
	size_t put = 0;

	while (put < n) {
		ssize_t r = pwrite(fd, (const char *)buf + put, n - put, off + (off_t)put);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		put += (size_t)r;
	}
	return 0;
}

enum mfs_code
mfs_fd_read(int fd, const char *what, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = NULL;
	struct stat st;
	size_t size;

	*out = NULL;
	*len = 0;
	if (fstat(fd, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(what));
	if (!S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: not a regular file", MFS_ESC(what));
	if ((uint64_t)st.st_size > cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %lld bytes, limit %zu", MFS_ESC(what),
			(long long)st.st_size, cap);
	size = (size_t)st.st_size;
	if ((buf = malloc(size + 1)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu bytes", MFS_ESC(what), size);
	if (mfs_pread_full(fd, buf, size, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: read", MFS_ESC(what));
	buf[size] = 0;
	*len = size;
	*out = mfs_steal(&buf);
	return MFS_OK;
}

enum mfs_code
mfs_file_read(int dirfd, const char *path, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	/* O_NONBLOCK: a FIFO must not hang the open; it is refused by type afterwards. */
	mfs_autoclose int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	*out = NULL;
	*len = 0;
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	return mfs_fd_read(fd, path, cap, out, len, err);
}

/* ".NAME.new" beside NAME. */
static enum mfs_code
temporary(const char *name, char out[300], struct mfs_err *err)
{
	return snprintf(out, 300, ".%s.new", name) < 300 ? MFS_OK : mfs_fail(err, MFS_INTERNAL, "%s: name too long", name);
}

enum mfs_code
mfs_file_prepare(int dirfd, const char *name, const void *buf, size_t len, mode_t mode, int *out, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code;
	char tmp[300];

	*out = -1;
	if ((code = temporary(name, tmp, err)) != MFS_OK)
		return code;
	(void)unlinkat(dirfd, tmp, 0);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s: create", tmp);
	if (mfs_write_full(fd, buf, len) != 0 || fsync(fd) != 0) {
		code = mfs_fail_sys(err, MFS_IO, "%s: write", tmp);
		(void)unlinkat(dirfd, tmp, 0);
		return code;
	}
	*out = mfs_steal_fd(&fd);
	return MFS_OK;
}

enum mfs_code
mfs_file_finish(int dirfd, const char *name, int *fd, struct mfs_err *err)
{
	enum mfs_code code;
	char tmp[300];

	if ((code = temporary(name, tmp, err)) != MFS_OK)
		return code;
	if ((*fd >= 0 && close(mfs_steal_fd(fd)) != 0) || renameat(dirfd, tmp, dirfd, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: rename", name);
	return mfs_dir_sync(dirfd, NULL, err);
}

enum mfs_code
mfs_file_replace(int dirfd, const char *name, const void *buf, size_t len, mode_t mode, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code = mfs_file_prepare(dirfd, name, buf, len, mode, &fd, err);
	char tmp[300];

	if (code == MFS_OK && (code = mfs_file_finish(dirfd, name, &fd, err)) != MFS_OK && temporary(name, tmp, NULL) == MFS_OK)
		(void)unlinkat(dirfd, tmp, 0);
	return code;
}

enum mfs_code
mfs_dir_sync(int dirfd, const char *path, struct mfs_err *err)
{
	/* A descriptor opened here works for AT_FDCWD and O_PATH folders too. */
	mfs_autoclose int fd = openat(dirfd, path != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: sync folder", path != NULL ? path : ".");
	return MFS_OK;
}

enum mfs_code
mfs_mkdirs(int dirfd, const char *path, mode_t mode, struct mfs_err *err)
{
	mfs_autofree char *copy = strdup(path);

	if (copy == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	for (char *p = copy + (copy[0] == '/');; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (copy[0] != '\0' && mkdirat(dirfd, copy, mode) != 0 && errno != EEXIST)
			return mfs_fail_sys(err, MFS_IO, "%s: mkdir", MFS_ESC(copy));
		*p = c;
		if (c == '\0')
			return MFS_OK;
	}
}

static int
open_resolve(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = (flags & (O_CREAT | __O_TMPFILE)) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | resolve,
	};

	for (;;) {
		long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		/* RESOLVE_BENEATH may ask for another try when a rename raced with it. */
		if (fd < 0 && errno == EAGAIN)
			continue;
		return (int)fd;
	}
}

int
mfs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolve(dirfd, path, flags, mode, 0);
}

#define REMOVE_DEPTH 64

static int
remove_level(int at, const char *name, unsigned depth)
{
	mfs_autodir DIR *d = NULL;
	int fd;

	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (depth == 0) {
		errno = ELOOP;
		return -1;
	}
	fd = open_resolve(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_NO_XDEV);
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		mfs_cleanup_close(&fd);
		return -1;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			remove_level(dirfd(d), e->d_name, depth - 1) != 0)
			return -1;
	return unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

int
mfs_remove_all(int dirfd, const char *name)
{
	return remove_level(dirfd, name, REMOVE_DEPTH);
}

static int64_t
clock_ms(clockid_t id)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
mfs_clock_mono_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

int64_t
mfs_clock_boot_ms(void)
{
	return clock_ms(CLOCK_BOOTTIME);
}

int64_t
mfs_clock_wall(void)
{
	return (int64_t)time(NULL);
}
