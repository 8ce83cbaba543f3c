/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobs.h - payloads and chunk tables by content: blobs/sha256/ab/<hash>/00000 and on, parts of
 * 256 MiB. A blob's folder appears whole, by rename, after every part is on disk and hashed.
 */
#ifndef MFS_PUB_BLOBS_H
#define MFS_PUB_BLOBS_H

#include <sys/types.h>

#include "mfs_verify.h"
#include "progress.h"

#define MFS_BLOB_PART (256ull << 20) /* bytes; below the limits of FAT32, single uploads and CDN caches */
#define MFS_BLOB_PATH 128            /* room for "1-blobs/blobs/sha256/ab/<hash>" and a part's name */

/* Number of parts of a blob; an empty one has none. */
uint64_t mfs_blob_parts(uint64_t size);

/* "blobs/sha256/ab/<hash>"; returns out. */
const char *mfs_blob_path(char out[MFS_BLOB_PATH], const struct mfs_sha256 *hash);

enum mfs_blob_state { MFS_BLOB_ABSENT, MFS_BLOB_DAMAGED /* parts missing, surplus or of a wrong size */, MFS_BLOB_THERE };

/* By names and sizes alone. dirfd: the folder that holds blobs/. */
enum mfs_blob_state mfs_blob_look(int dirfd, const struct mfs_sha256 *hash, uint64_t size);

/* Read every byte. HASH_MISMATCH (also absent or damaged), IO */
enum mfs_code mfs_blob_verify(int dirfd, const struct mfs_sha256 *hash, uint64_t size, struct mfs_progress *progress,
	struct mfs_err *err);

/*
 * Bring a file in as a blob, unless one of its name and size is there; a damaged one is replaced.
 * Uses a reflink where the filesystems can, and hashes what it wrote.
 *
 * dirfd   the folder that holds blobs/
 * src     open for reading, at least size bytes
 * what    for messages
 * link    hard-link the file when it fits one part (the two names share the bytes from then on)
 * added   may be NULL: whether it was not there before
 * errors  HASH_MISMATCH (src is not these bytes; nothing appears), IO, INSUFFICIENT_STORAGE
 */
enum mfs_code mfs_blob_add(int dirfd, int src, const char *what, const struct mfs_sha256 *hash, uint64_t size, bool link,
	struct mfs_progress *progress, bool *added, struct mfs_err *err);

/*
 * The same from another folder that holds blobs/: part by part, hashed. link: parts are hard-linked
 * where the filesystem can. errors HASH_MISMATCH (also absent there), IO, INSUFFICIENT_STORAGE
 */
enum mfs_code mfs_blob_copy(int from, int to, const struct mfs_sha256 *hash, uint64_t size, bool link,
	struct mfs_progress *progress, bool *added, struct mfs_err *err);

#endif
