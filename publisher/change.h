/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change.h - changes that wait outside a repository.
 *
 * An upload folder (--out) holds four steps and change.json: the command that made it and the
 * timestamp.json that it was made upon, so that a stale one is noticed and made again.
 * A staged change (--stage) holds role metadata that is not signed by enough holders yet, the target
 * files that go with it, and stage.json. Source: modelfs-repository(5), CHANGES.
 */
#ifndef MFS_PUB_CHANGE_H
#define MFS_PUB_CHANGE_H

#include "outdir.h"
#include "repo.h"

#define MFS_CHANGE_FORMAT "modelpub-change/1"

/* change.json of an upload folder. argv as the command got it; keys and pass phrases are left out. */
enum mfs_code mfs_change_note(const struct mfs_repo *r, struct mfs_outdir *out, int argc, char **argv,
	struct mfs_err *err);

/*
 * Write what changed in r, but for snapshot and timestamp, with the signatures that keys at hand can
 * give, and finish the folder.
 */
enum mfs_code mfs_change_stage(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_outdir *out,
	struct mfs_err *err);

/* ---- a staged change that comes back ------------------------------------------------------------ */

struct mfs_staged_role {
	char *name;
	json_t *doc;
	int64_t parent_version;          /* 0: the role is new */
	struct mfs_sha256 parent_sha256; /* zero then */
};

struct mfs_staged {
	char *path;
	int fd;
	struct mfs_staged_role *roles;
	size_t n_roles;
	json_t *root, *targets; /* as they were in the repository; NULL when it is a new one */
};

/* out: release with mfs_staged_free(). errors IO, MALFORMED */
enum mfs_code mfs_staged_load(const char *path, struct mfs_staged **out, struct mfs_err *err);
void mfs_staged_free(struct mfs_staged *s);
MFS_DEFINE_CLEANUP(staged, struct mfs_staged, mfs_staged_free)

/*
 * Signatures of the i-th role: valid of threshold by its present delegator, and for a root also by the
 * root before it (0 of 0 without one).
 */
struct mfs_staged_count {
	unsigned valid, threshold, old_valid, old_threshold;
};
enum mfs_code mfs_staged_count(const struct mfs_staged *s, size_t i, struct mfs_staged_count *out, struct mfs_err *err);

/* Sign what keys at hand may sign, and write it back. signed_n: signatures made. */
enum mfs_code mfs_staged_sign(struct mfs_staged *s, struct mfs_keyring *ring, size_t *signed_n, struct mfs_err *err);

/* Was it staged upon the roles that the repository holds now? CONDITION_UNMET when not. */
enum mfs_code mfs_staged_fresh(const struct mfs_staged *s, struct mfs_repo *r, struct mfs_err *err);

/*
 * Make it the change of a repository (then mfs_repo_commit); blobs that came with it are copied at
 * once. CONDITION_UNMET when a role has changed since it was staged.
 */
enum mfs_code mfs_staged_apply(const struct mfs_staged *s, struct mfs_repo *r, struct mfs_err *err);

/*
 * Bring the blobs and grants of either kind of folder (open as fd, named path) into the repository. They are named
 * by what they are, and it is checked: nothing that is there is changed, and nothing refers to them yet.
 */
enum mfs_code mfs_change_blobs(int fd, const char *path, struct mfs_repo *r, struct mfs_err *err);

/*
 * The targets that a role's document names and old (NULL: none) does not: each comes with the change, in the folder
 * `from` (-1: none does), as it is signed, or is in the repository. what: the change, for messages.
 * HASH_MISMATCH, MALFORMED, NO_MEMORY
 */
enum mfs_code mfs_change_targets(int from, const char *what, const json_t *doc, const json_t *old, const struct mfs_repo *r,
	struct mfs_err *err);

/* ---- an upload folder that comes back ------------------------------------------------------------- */

struct mfs_upload {
	char *path;
	int fd;
	char *command;    /* "publish" */
	json_t *arguments; /* strings */
	char *repository, *folder; /* as given to the command, and where it ran */
	struct mfs_sha256 parent;  /* of the timestamp.json that it was made upon */
	int64_t root_version;      /* when it is committed; 0: it does not say */
};

/* Is this an upload folder (and not a staged change)? */
bool mfs_upload_is(const char *path);
/* out: release with mfs_upload_free(). errors IO, MALFORMED */
enum mfs_code mfs_upload_load(const char *path, struct mfs_upload **out, struct mfs_err *err);
void mfs_upload_free(struct mfs_upload *u);
MFS_DEFINE_CLEANUP(upload, struct mfs_upload, mfs_upload_free)

/* Was it made upon what the repository holds now? CONDITION_UNMET when not. */
enum mfs_code mfs_upload_fresh(const struct mfs_upload *u, const struct mfs_repo *r, struct mfs_err *err);

/*
 * What the repository will be with it, verified as a device will: roots, timestamp, snapshot, the roles that change and
 * their targets. timestamp: the bytes that step 4 has.
 * errors  METADATA_SIGNATURE_INVALID, HASH_MISMATCH, MALFORMED, IO, NO_MEMORY
 */
enum mfs_code mfs_upload_check(const struct mfs_upload *u, struct mfs_repo *r, struct mfs_span timestamp,
	struct mfs_err *err);

/* Bring its four steps into the repository's folder, in their order. CONDITION_UNMET when it is stale; those of _check. */
enum mfs_code mfs_upload_apply(const struct mfs_upload *u, struct mfs_repo *r, struct mfs_err *err);

#endif
