/* SPDX-License-Identifier: Apache-2.0 */
/* install_io.h - shared by install.c and install_copy.c only. */
#ifndef MFS_INSTALL_IO_H
#define MFS_INSTALL_IO_H

#include "engine_io.h"

struct mfs_install_run { /* one installation */
	const struct mfs_install_args *args;
	const struct mfs_manifest *m;
	const struct mfs_key *content_key; /* NULL for a plain version */
	uint64_t done, total;              /* bytes of payload */
	bool quiet;                        /* a second pass over bytes that were counted */
};

/*
 * Bring file k of the manifest into the store: its chunk table and its payload. Where a blob stands
 * there already, the bundle's bytes are verified all the same (a damaged bundle is refused whatever
 * the store has), and the store's too: a bad blob is replaced.
 */
enum mfs_code mfs_install_file(struct mfs_install_run *r, size_t k, struct mfs_err *err);

#endif
