/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.h - reads that do not ask the disk, or fill the page cache, for what is a hole. */
#ifndef MFS_PUB_SPARSE_H
#define MFS_PUB_SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * May holes of this file be believed? Only when it has some, and after its data is on disk:
 * filesystems have shown data that was still in memory as a hole.
 */
bool mfs_sparse_begin(int fd);

/*
 * Read exactly n bytes at off; with sparse (from mfs_sparse_begin) holes become zeros unread.
 * 0, or -1 with errno (EIO at an early end). Any thread, also several on one descriptor.
 */
int mfs_sparse_pread(int fd, bool sparse, void *buf, size_t n, uint64_t off);

#endif
