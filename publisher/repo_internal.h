/* SPDX-License-Identifier: Apache-2.0 */
/* repo_internal.h - shared by repo*.c alone. */
#ifndef MFS_PUB_REPO_INTERNAL_H
#define MFS_PUB_REPO_INTERNAL_H

#include "repo.h"

/* An empty one with path, time and lifetimes; fd -1. */
enum mfs_code mfs_repo_alloc(const char *path, struct mfs_repo **out, struct mfs_err *err);
/* CONDITION_UNMET when another process holds it. */
enum mfs_code mfs_repo_lock(struct mfs_repo *r, struct mfs_err *err);
void mfs_repo_role_clear(struct mfs_repo_role *role);
/* METADATA_SIGNATURE_INVALID unless a threshold of the role's keys, as delegator has them, has signed. */
enum mfs_code mfs_repo_signed_check(const json_t *delegator, const char *role, struct mfs_span metadata,
	struct mfs_err *err);
/* KEY_UNAVAILABLE: have of threshold keys of a role are at hand, found in all. */
enum mfs_code mfs_repo_keys_missing(const struct mfs_keyring *ring, const char *name, unsigned have, unsigned threshold,
	size_t found, struct mfs_err *err);

/* Add signatures by keys at hand; now_out: how many of them the role lists. found: keys at hand in all. */
enum mfs_code mfs_repo_role_sign(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_repo_role *role,
	unsigned *now_out, size_t *found, struct mfs_err *err);
/* Replace a file below the repository, with its folders, durably. */
enum mfs_code mfs_repo_write(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct mfs_err *err);

/* A delegated role that is not in the snapshot yet, empty; or the one that this change made already. */
enum mfs_code mfs_repo_role_new(struct mfs_repo *r, const char *name, struct mfs_repo_role **out, struct mfs_err *err);

#endif
