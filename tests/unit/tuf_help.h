/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tuf_help.h - a repository in memory, its publisher and a device, for the tests of the TUF client.
 * Metadata is made here with jansson and signed with OpenSSL; a test changes what it wants to attack
 * and publishes it.
 */
#ifndef TUF_HELP_H
#define TUF_HELP_H

#include <jansson.h>

#include "mfs_tuf.h"
#include "verify_help.h"

#define NOW     1800000000LL /* 2027-01-15T08:00:00Z */
#define LATER   "2030-01-01T00:00:00Z"
#define EARLIER "2027-01-15T07:59:00Z" /* a minute before NOW */

struct tkey {
	struct evp_pkey_st *pkey;
	json_t *json;
	char id[65];
	bool rsa;
};

struct trole {
	char name[128];
	json_t *body;
	struct tkey *signer[16];
	size_t n_signers;
	bool published;
};

struct tfile {
	char name[300];
	uint8_t *p;
	size_t len;
};

struct trepo {
	struct trole roles[64];
	size_t n_roles;
	struct tfile files[800]; /* metadata/ */
	size_t n_files;
	struct tfile stored[64]; /* what the device keeps */
	size_t n_stored;
	struct tkey *keys[64];
	size_t n_keys;
	bool hashes; /* put length and hash into timestamp and snapshot */
	struct mfs_tuf_options opt; /* of the next run */
	char log[4096]; /* what the last run asked for: "2.root.json timestamp.json …" */
};

/* A repository with one Ed25519 key per role, version 1 of everything, and a device that has its root. */
struct trepo *repo_new(void);
void repo_free(struct trepo *r);

struct tkey *key_new(struct trepo *r, const char *type); /* "ed25519", "ecdsa", "ecdsa-sha2-nistp256", "rsa" */
struct trole *role_of(struct trepo *r, const char *name);
/* Let key sign for a role, and say so in the delegator ("root" or a targets role). */
void key_add(struct trepo *r, const char *delegator, const char *role, struct tkey *key);
/* All keys of a top-level role away, one new one instead. */
void key_rotate(struct trepo *r, const char *role);
void threshold_set(struct trepo *r, const char *role, int threshold);

/* The delegation is appended; the role is made with one new key. `more` is JSON merged into the entry, or NULL. */
struct trole *delegate(struct trepo *r, const char *delegator, const char *name, const char *paths, bool terminating,
	const char *more);
void target_add(struct trepo *r, const char *role, const char *path, const char *content);

/* Next version (the first: as it is), signed by all signers, into metadata/ and the role above. */
void publish(struct trepo *r, const char *role);
/* The same for several: "targets snapshot timestamp". */
void publish_all(struct trepo *r, const char *names);
/* metadata/NAME as it would be, without changing anything: for tests that spoil bytes. */
struct tfile *file_of(struct trepo *r, const char *name);
void file_put(struct tfile *list, size_t *n, size_t max, const char *name, const void *p, size_t len);
struct tfile *stored_of(struct trepo *r, const char *name);
int64_t stored_version(struct trepo *r, const char *name); /* 0: not there */

/* One run of the device: refresh, then look for `path` unless NULL; what is verified is stored. */
enum mfs_code run(struct trepo *r, const char *path, struct mfs_err *err);
enum mfs_code refresh(struct trepo *r, struct mfs_err *err);
/* As run(), and *found says whether the path was. */
enum mfs_code search(struct trepo *r, const char *path, bool *found, struct mfs_err *err);
/* The loop alone, on a client that the test holds. */
enum mfs_code drive(struct trepo *r, struct mfs_tuf *t, struct mfs_err *err);
struct mfs_tuf *client(struct trepo *r); /* with all that is stored */
void keep(struct trepo *r, const struct mfs_tuf *t);

#endif
