/* SPDX-License-Identifier: Apache-2.0 */
/*
 * update_offline.h - `check` and `update` of a modelfs that is not mounted: the same cycle, in the confined
 * child of a command. What needs a mount is left for it: the health command runs when the version is mounted next,
 * in its probation (the built-in checks are made here), and hooks are not run.
 */
#ifndef MFS_UPDATE_OFFLINE_H
#define MFS_UPDATE_OFFLINE_H

#include "cmd_common.h"

struct mfs_update_offline {
	size_t model; /* n_models: all */
	bool update;
	bool via;     /* sock is a fetch of another origin than the configured ones */
	bool hold;    /* the hold file exists */
	int sock;     /* of a fetch */
};

/* Prints progress and the result; returns the exit code. An mfs_confined_fn. */
int mfs_update_offline(struct mfs_cmd_env *env, int link, void *arg);

#endif
