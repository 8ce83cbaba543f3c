/* SPDX-License-Identifier: Apache-2.0 */
/* walk.h - everything that a repository holds now: for export, gc and the like. */
#ifndef MFS_PUB_WALK_H
#define MFS_PUB_WALK_H

#include "repo.h"

/* Each role that is in force, read and verified, but root and timestamp. */
typedef enum mfs_code mfs_walk_role_fn(void *arg, struct mfs_repo_role *role, struct mfs_err *err);
enum mfs_code mfs_walk_roles(struct mfs_repo *r, mfs_walk_role_fn *fn, void *arg, struct mfs_err *err);

/* Each target of a role: its path, its file below the repository, its length. */
typedef enum mfs_code mfs_walk_target_fn(void *arg, const struct mfs_repo_role *role, const char *path, const char *file,
	size_t len, struct mfs_err *err);
enum mfs_code mfs_walk_targets(struct mfs_repo *r, mfs_walk_target_fn *fn, void *arg, struct mfs_err *err);

/* Each published manifest, read and parsed. */
typedef enum mfs_code mfs_walk_manifest_fn(void *arg, const struct mfs_repo_role *role, const char *path,
	const struct mfs_manifest *m, struct mfs_err *err);
enum mfs_code mfs_walk_manifests(struct mfs_repo *r, mfs_walk_manifest_fn *fn, void *arg, struct mfs_err *err);

/* Each blob of a manifest. */
typedef enum mfs_code mfs_walk_blob_fn(void *arg, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err);
enum mfs_code mfs_walk_blobs(const struct mfs_manifest *m, mfs_walk_blob_fn *fn, void *arg, struct mfs_err *err);

#endif
