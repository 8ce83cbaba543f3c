/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - whole reads and writes, capped small files, atomic replacement. */
#ifndef MFS_IO_H
#define MFS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

/* Read or write all of n bytes, across EINTR and short counts. 0, or -1 with errno (EIO at early end). */
int mfs_read_full(int fd, void *buf, size_t n);
int mfs_pread_full(int fd, void *buf, size_t n, off_t off);
int mfs_write_full(int fd, const void *buf, size_t n);
int mfs_pwrite_full(int fd, const void *buf, size_t n, off_t off);

/*
 * Read a whole regular file of at most cap bytes.
 *
 * dirfd   AT_FDCWD or a folder; path is for messages too
 * out     malloc'd, NUL after *len bytes
 * errors  IO (errno kept: ENOENT for an absent one), MALFORMED (not a regular file),
 *         LIMIT_EXCEEDED, NO_MEMORY
 */
enum mfs_code mfs_file_read(int dirfd, const char *path, size_t cap, uint8_t **out, size_t *len,
	struct mfs_err *err);
enum mfs_code mfs_fd_read(int fd, const char *what, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err);

/*
 * Replace dirfd/name atomically and durably: temporary beside it, fsync, rename, fsync of the
 * folder. An old or the new content stands there after a power cut, never a mix.
 */
enum mfs_code mfs_file_replace(int dirfd, const char *name, const void *buf, size_t len, mode_t mode,
	struct mfs_err *err);

/*
 * The two halves of it. After prepare the content stands synced in ".NAME.new" and *fd is open for writing, for
 * its owner, mode and times; finish closes it (unless it is -1: prepared by somebody before) and gives it its name.
 * Prepared and never finished: the next prepare of that name replaces it.
 */
enum mfs_code mfs_file_prepare(int dirfd, const char *name, const void *buf, size_t len, mode_t mode, int *fd,
	struct mfs_err *err);
enum mfs_code mfs_file_finish(int dirfd, const char *name, int *fd, struct mfs_err *err);

/* fsync of a folder given by descriptor or by path below dirfd. */
enum mfs_code mfs_dir_sync(int dirfd, const char *path, struct mfs_err *err);

/* mkdir -p below dirfd; existing folders are fine. */
enum mfs_code mfs_mkdirs(int dirfd, const char *path, mode_t mode, struct mfs_err *err);

/*
 * Remove dirfd/name, whatever it is: a file, a link (not what it leads to), a folder with all
 * that is in it (up to 64 levels, never into another mount). name is one component.
 *
 * returns 0 (also when it was absent), or -1 with errno
 */
int mfs_remove_all(int dirfd, const char *name);

/* openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS; -1 with errno. */
int mfs_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/* Monotonic and boot clocks in milliseconds; wall clock in seconds. */
int64_t mfs_clock_mono_ms(void);
int64_t mfs_clock_boot_ms(void);
int64_t mfs_clock_wall(void);

#endif
