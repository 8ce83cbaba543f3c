/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.h - the folders of a manifest's file names. Folder numbers follow from the names alone
 * (depth first, bytewise), so every serve counts the same; folder 0 is the version's own.
 */
#ifndef MFS_SHAPE_H
#define MFS_SHAPE_H

#include "nodeid.h"

struct mfs_shape_entry {
	const char *name; /* one component, not terminated; borrowed from the manifest */
	uint32_t index;   /* file, or folder with MFS_FOLDER */
	uint32_t len;
};

struct mfs_shape_dir {
	uint32_t parent; /* folder number; its own for folder 0 */
	uint32_t first, n; /* in entries, sorted by name */
	uint32_t subdirs;
};

struct mfs_shape {
	struct mfs_shape_dir *dirs; size_t n_dirs;
	struct mfs_shape_entry *entries; size_t n_entries;
};

/* m must outlive the shape. errors NO_MEMORY */
enum mfs_code mfs_shape_new(const struct mfs_manifest *m, struct mfs_shape **out, struct mfs_err *err);
void mfs_shape_free(struct mfs_shape *s);
MFS_DEFINE_CLEANUP(shape, struct mfs_shape, mfs_shape_free)

/* Position in entries of a name in folder `dir`, or -1. */
ssize_t mfs_shape_find(const struct mfs_shape *s, uint32_t dir, const char *name);

#endif
