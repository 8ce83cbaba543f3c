/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outdir.h - a folder that appears whole or not at all: written beside its final name, synced,
 * renamed.
 */
#ifndef MFS_PUB_OUTDIR_H
#define MFS_PUB_OUTDIR_H

#include <stddef.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

struct mfs_outdir {
	char *path;  /* final name */
	char *tmp;   /* temporary name beside it, 0700 until it is renamed */
	int fd;      /* of tmp */
	mode_t mode; /* of the finished folder */
	size_t files;
};

/* Is path free: absent or an empty folder? errors IO (EEXIST, ENOTDIR), MALFORMED (not a name). */
enum mfs_code mfs_outdir_check(const char *path, struct mfs_err *err);

/* out: release with mfs_outdir_free(), which removes the temporary folder unless it was renamed. */
enum mfs_code mfs_outdir_create(const char *path, struct mfs_outdir **out, struct mfs_err *err);

/* Create part/name (part NULL: name alone) with its folders; *fd is for reading and writing. */
enum mfs_code mfs_outdir_file(struct mfs_outdir *o, const char *part, const char *name, int *fd, struct mfs_err *err);
enum mfs_code mfs_outdir_write(struct mfs_outdir *o, const char *name, const void *buf, size_t len,
	struct mfs_err *err);

/* Sync everything and rename: after MFS_OK the bundle is on disk under its final name. */
enum mfs_code mfs_outdir_commit(struct mfs_outdir *o, struct mfs_err *err);
void mfs_outdir_free(struct mfs_outdir *o);
MFS_DEFINE_CLEANUP(outdir, struct mfs_outdir, mfs_outdir_free)

#endif
