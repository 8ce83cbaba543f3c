/* SPDX-License-Identifier: Apache-2.0 */
/* store_io.h - shared by store.c, put.c and gc.c only. */
#ifndef MFS_STORE_IO_H
#define MFS_STORE_IO_H

#include "store.h"

#define MFS_BLOB_PATH 96 /* bytes of "blobs/sha256/ab/<64 digits>" with its end */

struct mfs_store {
	int dirfd;
	int *seeds; /* owned descriptors */
	size_t n_seeds;
};

/* "blobs/sha256/ab/<hash>" */
void mfs_blob_path(char out[MFS_BLOB_PATH], const struct mfs_sha256 *hash);

#endif
