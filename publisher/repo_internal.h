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
/* The version that a changed role gets. */
int64_t mfs_repo_version_next(const struct mfs_repo *r, const struct mfs_repo_role *role);

#define MFS_REPO_TIMESTAMP "metadata/timestamp.json"

/* Replace a file below the repository, with its folders, durably. */
enum mfs_code mfs_repo_write(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct mfs_err *err);
/*
 * A new root, then the timestamp, for which keys count that only this root lists. Killed between the two, the
 * timestamp stands ready beside its place, and mfs_repo_open() for writing puts it there.
 */
enum mfs_code mfs_repo_write_root_first(struct mfs_repo *r, const char *root, struct mfs_span root_bytes,
	struct mfs_span timestamp, struct mfs_err *err);

/* The file of a target (its entry in a role; NULL does nothing) is not named any more once this change is made. */
enum mfs_code mfs_repo_target_gone(struct mfs_repo *r, const json_t *target, const char *path, struct mfs_err *err);
/* gc counts its grace from now: clients of a moment ago still read this file or folder below the repository. */
void mfs_repo_let_go(const struct mfs_repo *r, const char *path);

/* A delegated role that is not in the snapshot yet, empty; or the one that this change made already. */
enum mfs_code mfs_repo_role_new(struct mfs_repo *r, const char *name, struct mfs_repo_role **out, struct mfs_err *err);

#endif
