/* SPDX-License-Identifier: Apache-2.0 */
/* trustfile.h - trust.json of a repository: the keys that may sign models. Source: modelfs-policy(5), TRUST LIST. */
#ifndef MFS_PUB_TRUSTFILE_H
#define MFS_PUB_TRUSTFILE_H

#include "mfs_policy.h"
#include "repo.h"

#define MFS_TRUSTFILE_PATH "trust.json"

/* The repository's list; an empty one when it has none. out: release with mfs_trustlist_free() */
enum mfs_code mfs_trustfile_load(struct mfs_repo *r, struct mfs_trustlist **out, struct mfs_err *err);
/* As a target of `targets`. */
enum mfs_code mfs_trustfile_store(struct mfs_repo *r, const struct mfs_trustlist *list, struct mfs_err *err);

/* A public key file. models: NULL-terminated, NULL for all. CONFIG_INVALID, IO */
enum mfs_code mfs_trustfile_add(struct mfs_trustlist *list, const char *path, int64_t epoch, const char *const *models,
	struct mfs_err *err);

/* Every NAME.pub.pem of a folder (NULL: none) but those named after root, targets, policy, snapshot, timestamp. */
enum mfs_code mfs_trustfile_folder(struct mfs_trustlist *list, const char *dir, struct mfs_err *err);

#endif
