/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.h - a private folder per test, removed with all that is in it. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

static inline int
scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static inline void
scratch_remove(const char *path)
{
	(void)nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/*
 * Below TMPDIR, else /dev/shm (thousands of fsyncs cost nothing there), else /tmp; aborts when
 * there is none. Returns an open folder; path of 256 bytes.
 */
static inline int
scratch_make(char path[256], const char *name)
{
	const char *base = getenv("TMPDIR");
	int fd;

	if (base == NULL || base[0] != '/')
		base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	(void)snprintf(path, 256, "%.180s/%s-XXXXXX", base, name);
	if (mkdtemp(path) == NULL || (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		perror(path);
		abort();
	}
	return fd;
}

static inline int
scratch_folder(int dirfd, const char *name)
{
	int fd = mkdirat(dirfd, name, 0700) == 0 ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0) {
		perror(name);
		abort();
	}
	return fd;
}

static inline void
scratch_write(int dirfd, const char *name, const void *bytes, size_t n)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || mfs_write_full(fd, bytes, n) != 0) {
		perror(name);
		abort();
	}
	(void)close(fd);
}

/* malloc'd, NUL after *n bytes; NULL when absent. */
static inline uint8_t *
scratch_read(int dirfd, const char *name, size_t *n)
{
	uint8_t *out = NULL;

	return mfs_file_read(dirfd, name, 64u << 20, &out, n, NULL) == MFS_OK ? out : NULL;
}

static inline bool
scratch_has(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Entries of a folder, without "." and "..". */
static inline int
scratch_count(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL)
		return -1;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.' || (e->d_name[1] != '\0' && e->d_name[1] != '.');
	(void)closedir(d);
	return n;
}

#endif
