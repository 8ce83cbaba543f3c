/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo.h - a repository of static files as its publisher changes it: read and verified, edited in
 * memory, signed, written so that a web server may serve the folder at any moment.
 *
 * One change is: mfs_repo_open, edits (mfs_repo_edit, mfs_repo_target_put, mfs_repo_delegate),
 * mfs_repo_commit. Nothing that a client reads changes before commit; commit writes targets, then
 * roles, then snapshot, and timestamp.json last of all, each by rename. Only roles that a command
 * touches are read. Layout and rules: modelfs-repository(5).
 *
 * One thread. The folder is locked against other writers (flock) as long as it is open for writing. Copying blobs may
 * take hours, and revoking must not wait for it: blobs and grants, which no metadata names yet, come in under the lock
 * of blobs/ alone, then the repository is opened again.
 */
#ifndef MFS_PUB_REPO_H
#define MFS_PUB_REPO_H

#include "keyring.h"
#include "md.h"

#define MFS_REPO_ROLES_MAX 8200u /* delegated roles: two for each of MFS_MODELS_MAX models */

enum mfs_life { MFS_LIFE_ROOT, MFS_LIFE_TARGETS, MFS_LIFE_RELEASE, MFS_LIFE_POLICY, MFS_LIFE_SNAPSHOT,
	MFS_LIFE_TIMESTAMP, MFS_LIFE_N };

struct mfs_lifetimes {
	int64_t s[MFS_LIFE_N]; /* seconds */
};
extern const struct mfs_lifetimes mfs_lifetimes_default;
/* "ROLE=30d", "ROLE=12h". CONFIG_INVALID */
enum mfs_code mfs_lifetimes_set(struct mfs_lifetimes *l, const char *arg, struct mfs_err *err);
/* Of "timestamp", "release.det". */
enum mfs_life mfs_life_of(const char *role);

/* What a repository was made with, from its targets, over the defaults; mfs_repo_open() does it. MALFORMED */
struct mfs_repo;
enum mfs_code mfs_lifetimes_recall(struct mfs_repo *r, struct mfs_err *err);
/* What was given goes before, for this change (0: not given). */
void mfs_lifetimes_given(struct mfs_repo *r, const struct mfs_lifetimes *given);
/* And from now on, by a change of targets; nothing given, no change. */
enum mfs_code mfs_lifetimes_keep(struct mfs_repo *r, const struct mfs_lifetimes *given, struct mfs_err *err);

struct mfs_repo_role {
	char *name;   /* "root", "targets", "release.det" */
	json_t *doc;  /* envelope, as edited */
	int64_t version;          /* on disk; 0: made by this change */
	struct mfs_sha256 sha256; /* of the bytes on disk */
	size_t len;               /* of the same */
	bool changed;
	bool fixed;   /* stamped and signed elsewhere: goes out as it is */
};

struct mfs_repo_file { /* to be written at commit */
	char *path; /* below the repository: "targets/det/<sha256>.policy.json" */
	uint8_t *bytes;
	size_t len;
};

struct mfs_repo {
	char *path;
	int fd;
	int64_t now; /* seconds since the epoch, fixed for this change */
	struct mfs_lifetimes life; /* of what this change signs */
	struct mfs_repo_role root, targets, snapshot, timestamp;
	json_t *old_root;             /* the root on disk, once this change edits it; NULL before */
	struct mfs_repo_role **roles; /* delegated ones, as far as read or made */
	size_t n_roles;
	struct mfs_repo_file *files;
	size_t n_files;
	json_t *record; /* what was there before, newer than this; NULL unless the change goes on from an older state */
	char **gone; /* target files that this change lets go, below the repository */
	size_t n_gone;
};

/*
 * Open and verify: the chain of roots, timestamp, snapshot and targets, by signatures, versions and
 * hashes, not by expiry (an expired repository is what refresh is for).
 *
 * write   lock it
 * pin     a root.json that the chain must come from, NULL for the oldest root in the folder
 * out     release with mfs_repo_free(), which gives up what was not committed
 * errors  IO, CONDITION_UNMET (another process changes it), those of mfs_tuf_count(), HASH_MISMATCH,
 *         ROLLBACK_ATTEMPT (versions that disagree), METADATA_SIGNATURE_INVALID (also: not of the pin)
 */
enum mfs_code mfs_repo_open(const char *path, bool write, const char *pin, struct mfs_repo **out, struct mfs_err *err);

/* A new repository in an absent or empty folder, locked: root with the keys' roles still empty. */
enum mfs_code mfs_repo_create(const char *path, struct mfs_repo **out, struct mfs_err *err);
void mfs_repo_free(struct mfs_repo *r);
MFS_DEFINE_CLEANUP(repo, struct mfs_repo, mfs_repo_free)
#define mfs_autorepo MFS_CLEANUP(mfs_cleanup_repo)

/*
 * Only one at a time brings blobs or grants in, or collects them: lock blobs/, and make it if need be. *fd: the lock,
 * closed by the caller. CONDITION_UNMET when another holds it.
 */
enum mfs_code mfs_repo_lock_blobs(struct mfs_repo *r, int *fd, struct mfs_err *err);

/* Let others change the repository. What r has read may be of the past from now on: nothing is committed from it. */
void mfs_repo_unlock(struct mfs_repo *r);

/* The four top-level roles, or a delegated one, read and verified at first use. KEY_UNTRUSTED when nobody delegates to it. */
enum mfs_code mfs_repo_role(struct mfs_repo *r, const char *name, struct mfs_repo_role **out, struct mfs_err *err);
/* Is there a delegation to it? */
bool mfs_repo_delegates(const struct mfs_repo *r, const char *name);
/* Is there a version of it? A delegated role may wait for its holders' first signatures; snapshot is always there. */
bool mfs_repo_role_made(const struct mfs_repo *r, const char *name);

/* The `signed` object of a role, for changing. */
enum mfs_code mfs_repo_edit(struct mfs_repo *r, const char *name, json_t **body, struct mfs_err *err);

/* What a role says of a target: {length, hashes}, borrowed; NULL when it does not name it. */
const json_t *mfs_repo_target(const struct mfs_repo_role *role, const char *path);

/* The file of a target that `role` names, by length and hash. out malloc'd, NUL after *len. NOT_SELECTED when it names none. */
enum mfs_code mfs_repo_target_read(struct mfs_repo *r, const char *role, const char *path, size_t cap, uint8_t **out,
	size_t *len, struct mfs_err *err);

/* Where a target lies below the repository, by its hash: "targets/det/<sha256>.policy.json"; malloc'd. */
char *mfs_repo_target_path(const char *path, const struct mfs_sha256 *sha256);

/* Make `role` name a target, and write its file at commit. bytes are copied. */
enum mfs_code mfs_repo_target_put(struct mfs_repo *r, const char *role, const char *path, struct mfs_span bytes,
	struct mfs_err *err);

/* Write a file at commit that no role names; path below the repository. */
enum mfs_code mfs_repo_file_put(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct mfs_err *err);

/*
 * Delegate release.ID and policy.ID (terminating, thresholds 1), with the newest key at hand for each.
 * The roles are made, empty. KEY_UNAVAILABLE (no such key at hand)
 */
enum mfs_code mfs_repo_delegate(struct mfs_repo *r, struct mfs_keyring *ring, const char *model_id, struct mfs_err *err);

/* Key ids (array) and threshold of a role, as its delegator has them now; borrowed, NULL if none has. */
const json_t *mfs_repo_keyids(const struct mfs_repo *r, const char *name, unsigned *threshold);

/* The object {keyids, threshold} of a role, to be changed, and the object of keys beside it; NULL if nobody has it. */
json_t *mfs_repo_slot(const struct mfs_repo *r, const char *name, json_t **keys);

/*
 * Add or remove (by key id, hex) a key of a role; the caller has the delegator ("root", "targets")
 * edited. KEY_UNTRUSTED (no such role), CONFIG_INVALID (no such key)
 */
enum mfs_code mfs_repo_key_add(struct mfs_repo *r, const char *name, const struct mfs_signer *key, struct mfs_err *err);
enum mfs_code mfs_repo_key_remove(struct mfs_repo *r, const char *name, const char *id, struct mfs_err *err);

/* KEY_UNAVAILABLE, with what to do, unless enough of the role's keys are at hand. */
enum mfs_code mfs_repo_keys_check(struct mfs_repo *r, struct mfs_keyring *ring, const char *name, struct mfs_err *err);

/* Let a role count as changed though nothing in it did: it is signed again, with a new expiry. */
enum mfs_code mfs_repo_touch(struct mfs_repo *r, const char *name, struct mfs_err *err);

/*
 * Sign and write the change. snapshot and timestamp follow whatever changed; with nothing changed a
 * new timestamp alone is written.
 *
 * out     NULL: the repository itself. Else a folder for uploads, which mfs_outdir has made: steps
 *         1-blobs to 4-timestamp, the repository stays as it is
 * errors  KEY_UNAVAILABLE, CONDITION_UNMET (timestamp.json changed under us), IO, LIMIT_EXCEEDED
 */
struct mfs_outdir;
enum mfs_code mfs_repo_commit(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_outdir *out,
	struct mfs_err *err);

/* Steps of an upload, in their order. */
enum mfs_step { MFS_STEP_BLOBS, MFS_STEP_TARGETS, MFS_STEP_METADATA, MFS_STEP_TIMESTAMP, MFS_STEP_N };
extern const char *const mfs_step_names[MFS_STEP_N];

#endif
