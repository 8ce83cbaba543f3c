/* SPDX-License-Identifier: Apache-2.0 */
/* inputs.h - which files become part of a bundle, and under which names. */
#ifndef MFS_PUB_INPUTS_H
#define MFS_PUB_INPUTS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct mfs_input {
	char *name;    /* in the bundle, valid by mfs_file_name_ok() */
	char *path;    /* to open */
	uint64_t size; /* bytes when it was found */
};

struct mfs_inputs {
	struct mfs_input *v; /* sorted by name, bytewise; unique, also after ASCII lower-casing */
	size_t n, cap;
	uint64_t total; /* bytes */
};

/*
 * Gather files and folders. A file gets its base name; a folder's contents get names relative to
 * the folder. Links to files are followed. In folders, names that begin with ".git" and ".cache"
 * are left out and reported through note; so are empty folders, which a bundle cannot hold.
 *
 * out     zeroed on failure; release with mfs_inputs_free()
 * note    may be NULL; text is ready to print
 * errors  MALFORMED (bad name, collision, link to a folder, special file: names the path),
 *         LIMIT_EXCEEDED (files, depth), IO, NO_MEMORY
 */
enum mfs_code mfs_inputs_gather(char *const *args, size_t n, void (*note)(void *arg, const char *text), void *arg,
	struct mfs_inputs *out, struct mfs_err *err);
void mfs_inputs_free(struct mfs_inputs *in);

#define mfs_autoinputs MFS_CLEANUP(mfs_inputs_free)

#endif
