/* SPDX-License-Identifier: Apache-2.0 */
/* store_io.h - shared within the folder only. */
#ifndef MFS_STORE_IO_H
#define MFS_STORE_IO_H

#include "store.h"

#define MFS_BLOB_PATH 96 /* bytes of "blobs/sha256/ab/<64 digits>" with its end */

struct mfs_store {
	int dirfd;
	int *seeds; /* owned descriptors */
	size_t n_seeds;
	struct mfs_seeds *bundles; /* in the seeds; NULL without seeds */
};

/* ---- seed.c: bundles directly in seed folders; immutable once opened, threads any ---- */
struct mfs_seeds;
enum mfs_code mfs_seeds_open(const int *seeds, size_t n, struct mfs_seeds **out, struct mfs_err *err);
void mfs_seeds_free(struct mfs_seeds *s);
int mfs_seeds_bundle(const struct mfs_seeds *s, size_t i); /* folder of the i-th bundle, borrowed; -1: no such */
int mfs_seeds_blob_open(const struct mfs_seeds *s, const struct mfs_sha256 *hash, int flags); /* -1 with errno */

/*
 * Make dirfd/path a folder whose parents are folders: what stands in its place as a link or file
 * (the store may have been tampered with) is removed. fsyncs the parent of a new one.
 */
enum mfs_code mfs_store_folder(int dirfd, const char *path, struct mfs_err *err);

#define MFS_STAGE_PREFIX "dl-"
bool mfs_stage_is(const char *name); /* in staging/: the folder of a download */

/* "blobs/sha256/ab/<hash>" */
void mfs_blob_path(char out[MFS_BLOB_PATH], const struct mfs_sha256 *hash);

#endif
