/* SPDX-License-Identifier: Apache-2.0 */
/* explain.h - `modelfs explain ID`: everything that decides what a model runs, one fact a line. */
#ifndef MFS_EXPLAIN_H
#define MFS_EXPLAIN_H

#include "schedule.h"
#include "status.h"
#include "update.h"

struct mfs_refresh;

/* What is known: all of it in a serve; without a mount the trusted state, the configuration and the clock. */
struct mfs_explained {
	const struct mfs_config *config;
	struct mfs_engine *engine;   /* NULL: nothing was ever installed here */
	struct mfs_refresh *refresh; /* NULL: none */
	const struct mfs_cycle_facts *host; /* conditions are compared with it */
	const struct mfs_update_facts *updates; /* of the model; NULL without a mount: nothing is checked then */
};

/* Reads the policy in force from disk: never from a FUSE request. *out is malloc'd text. errors NO_MEMORY, IO */
enum mfs_code mfs_explain_render(const struct mfs_explained *x, size_t i, char **out, size_t *len, struct mfs_err *err);

/* The same for a running serve. */
enum mfs_code mfs_explain(struct mfs_serve *s, size_t i, const _Atomic int *cancel, char **out, size_t *len, struct mfs_err *err);

#endif
