/* SPDX-License-Identifier: Apache-2.0 */
/* explain.h - `modelfs explain ID`: everything that decides what a model runs, one fact a line. */
#ifndef MFS_EXPLAIN_H
#define MFS_EXPLAIN_H

#include "status.h"

/* Reads the policy in force from disk: never from a FUSE request. *out is malloc'd text. errors NO_MEMORY, IO */
enum mfs_code mfs_explain(struct mfs_serve *s, size_t i, char **out, size_t *len, struct mfs_err *err);

#endif
