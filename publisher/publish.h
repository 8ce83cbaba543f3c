/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h - a verified bundle into a repository: names, blobs, targets. What devices should do
 * with it is offer.h's.
 */
#ifndef MFS_PUB_PUBLISH_H
#define MFS_PUB_PUBLISH_H

#include "bundledir.h"
#include "mfs_policy.h"
#include "outdir.h"
#include "repo.h"

#define MFS_RELEASE_JUMP_MAX 1000000 /* of one release over the one before: a slip of the finger would end the line */

/* What the release role already has of a bundle's name. */
enum mfs_published { MFS_PUBLISHED_NOT, MFS_PUBLISHED_SAME };

/*
 * May this manifest join what is published? The model's delegations exist or can be made.
 *
 * errors  POLICY_REJECTED (a second manifest for a known name, also of one that was collected, a jump of the release,
 *         another id by case, below min_release), MALFORMED (what the role remembers), ROLLBACK_ATTEMPT (release or epoch not above the highest), REVOKED
 */
enum mfs_code mfs_publish_check(struct mfs_repo *r, const struct mfs_manifest *m, const struct mfs_policy *p,
	enum mfs_published *state, struct mfs_err *err);

/*
 * A version leaves a release role's `signed` object; its name stays taken for ever, since devices know what it named.
 * The role remembers it, signed: modelfs-repository(5), METADATA. NO_MEMORY
 */
enum mfs_code mfs_publish_retire(json_t *body, const char *version, int64_t release, struct mfs_err *err);

/* Was there a version of this name that gc dropped? by: the release role of the model. */
bool mfs_publish_retired(const struct mfs_repo_role *by, const char *version);

/*
 * Copy what the repository does not hold: payloads and chunk tables.
 *
 * out     NULL, or where the upload's blobs go
 * reuse   NULL, or a folder with blobs/ of an earlier upload: hard-linked instead of copied
 * link    see mfs_blob_add()
 * bytes   bytes that were added
 */
enum mfs_code mfs_publish_blobs(struct mfs_repo *r, struct mfs_outdir *out, const char *reuse, int bundle,
	const struct mfs_manifest *m, bool link, bool quiet, uint64_t *bytes, struct mfs_err *err);

/* manifest.json and its signatures as targets of the release role. */
enum mfs_code mfs_publish_docs(struct mfs_repo *r, const struct mfs_manifest *m, const struct mfs_bundle_docs *docs,
	struct mfs_err *err);

/* "release.ID", "policy.ID" */
#define MFS_ROLE_ROOM (MFS_ID_MAX + 16)
const char *mfs_role_release(char out[MFS_ROLE_ROOM], const char *model_id);
const char *mfs_role_policy(char out[MFS_ROLE_ROOM], const char *model_id);

#endif
