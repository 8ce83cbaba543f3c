/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkrepo.h - a TUF repository in memory, for the tests of refresh: every role's version, expiry and
 * key can be set to what an attacker, or a publisher with trouble, would send. Aborts when it
 * cannot be made.
 */
#ifndef MKREPO_H
#define MKREPO_H

#include "remote.h"

#define MK_ROOT      0
#define MK_TIMESTAMP 1
#define MK_SNAPSHOT  2
#define MK_TARGETS   3
#define MK_DELEGATED 4 /* release.<id>, policy.<id>, in the order of mk_repo_model() */

struct mk_role {
	char name[160];
	int64_t version, expires;
	struct mk_tuf_key *key;   /* signs it; the one that its delegator names unless a test changes it */
	struct mk_target { char *path; uint8_t *bytes; size_t len; } *targets; size_t n_targets;
	char *json;               /* as last signed */
	bool changed;             /* mk_repo_commit() makes a new version */
};

struct mk_repo {
	struct mk_role *roles; size_t n_roles;
	struct mk_file_entry { char *path; uint8_t *bytes; size_t len; } *files; size_t n_files; /* "metadata/1.root.json" */
	int64_t lifetime;          /* seconds after `now` that a new timestamp or snapshot expires [1 day]; the others 365 times that */
	int64_t now;
	bool offline;              /* every request ends with NET_RESOLVE */
	const char *refuse;        /* a request whose path contains this ends with NET_TIMEOUT */
	bool no_etags;
	unsigned requests, not_modified;
};

struct mk_repo *mk_repo_new(int64_t now);
void mk_repo_free(struct mk_repo *r);

/* Delegations release.<id> and policy.<id>; index of the first (policy is the next). */
size_t mk_repo_model(struct mk_repo *r, const char *id);

/* Set a target of a role; NULL bytes: remove it. Also its file. */
void mk_repo_target(struct mk_repo *r, size_t role, const char *path, const void *bytes, size_t len);

/* A new version of what changed, snapshot and timestamp after it; the files of old versions stay. */
void mk_repo_commit(struct mk_repo *r);
/* Sign and write one role as it stands (version, expires, key). Others do not follow. */
void mk_repo_sign(struct mk_repo *r, size_t role);

/* A new root that gives `role` a new key. */
void mk_repo_rotate(struct mk_repo *r, size_t role);

/* Bytes of a file; false when there is none. Borrowed until the next change. */
bool mk_repo_file(const struct mk_repo *r, const char *path, struct mfs_span *out);
void mk_repo_put(struct mk_repo *r, const char *path, const void *bytes, size_t len); /* NULL: remove it */

/* Copy of all files, and back: what an attacker kept. */
struct mk_repo_copy;
struct mk_repo_copy *mk_repo_keep(const struct mk_repo *r);
void mk_repo_put_back(struct mk_repo *r, struct mk_repo_copy *copy, const char *below); /* files whose path starts so */
void mk_repo_copy_free(struct mk_repo_copy *copy);

/* struct mfs_refresh_args.get; user: struct mk_repo. */
enum mfs_code mk_repo_get(void *user, const struct mfs_remote_request *q, uint8_t **out, size_t *len,
	struct mfs_remote_result *res, struct mfs_err *err);

#endif
