/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - files of a repository as a client gets them: from a folder, or over http and https. */
#ifndef MFS_PUB_SOURCE_H
#define MFS_PUB_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"

struct mfs_source; /* one thread at a time */

/* A folder, file://..., http://... or https://...; errors IO, CONFIG_INVALID, NO_MEMORY */
enum mfs_code mfs_source_open(const char *where, struct mfs_source **out, struct mfs_err *err);
void mfs_source_free(struct mfs_source *s);
MFS_DEFINE_CLEANUP(source, struct mfs_source, mfs_source_free)
/* The folder's descriptor; -1 for a URL. */
int mfs_source_dir(const struct mfs_source *s);

/*
 * A whole file. path is relative and percent-encoded already where it has to be.
 *
 * out     malloc'd, NUL after *len; NULL when *found is false
 * found   false: there is none (no such file, 404, 403); the code is MFS_OK then
 * errors  LIMIT_EXCEEDED (more than cap bytes), IO, NET_RESOLVE, NET_TLS, NET_HTTP, NET_TIMEOUT
 */
enum mfs_code mfs_source_get(struct mfs_source *s, const char *path, size_t cap, uint8_t **out, size_t *len, bool *found,
	struct mfs_err *err);

/* Length of a file by stat or a HEAD request; -1 when there is none, or the server does not say. */
enum mfs_code mfs_source_length(struct mfs_source *s, const char *path, int64_t *length, struct mfs_err *err);

#endif
