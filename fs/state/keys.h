/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - trust keys and model keys of one process.
 *
 * Opened as root before the sandbox (keeper opens the files and passes descriptors, or a
 * command opens them itself), parsed after it. Secrets live in OpenSSL's secure heap or locked
 * memory and are wiped.
 */
#ifndef MFS_KEYS_H
#define MFS_KEYS_H

#include "mfs_config.h"

/*
 * One descriptor per configured key file. An absent model key is -1 with its reason kept: that
 * model is KEY_UNAVAILABLE, the others are served. An absent trust key is an error.
 */
struct mfs_key_fds {
	int *trust;  /* config->n_keys */
	int *model;  /* config->n_models; -1 where none is configured or it cannot be opened */
	char **reason; /* config->n_models; why model[i] is -1 though configured; NULL: not known (descriptors from keeper) */
	int *root;   /* config->n_repos: the TUF root that is trusted at first; -1 where it cannot be opened */
	int state;   /* the state key; -1 when not asked for */
};

/*
 * errors  CONFIG_INVALID (a trust key: names file and line), KEY_UNAVAILABLE (no state key), NO_MEMORY.
 *         A root that cannot be opened is logged: the state may hold a newer one
 * state_dirfd  -1: no state key is wanted
 */
enum mfs_code mfs_key_fds_open(const struct mfs_config *c, int state_dirfd, struct mfs_key_fds *out,
	struct mfs_err *err);
void mfs_key_fds_close(const struct mfs_config *c, struct mfs_key_fds *k);

/*
 * What protects secrets in this process, for `doctor` and `status`. The first call makes the secure
 * heap: before the sandbox. Threads any.
 */
enum mfs_secret_memory {
	MFS_SECRET_LOCKED,  /* locked, guarded, not dumped */
	MFS_SECRET_GUARDED, /* guard pages, but not locked (RLIMIT_MEMLOCK): a swap could hold keys */
	MFS_SECRET_PLAIN,   /* ordinary memory, wiped after use */
};
enum mfs_secret_memory mfs_secret_memory(void);
void *mfs_secret_alloc(size_t n); /* zeroed; NULL without memory */
void mfs_secret_free(void *p, size_t n); /* wiped; NULL is fine */

struct mfs_keys; /* immutable after load but for its trust lists; threads any */
enum mfs_code mfs_keys_load(const struct mfs_config *c, const struct mfs_key_fds *fds, struct mfs_keys **out,
	struct mfs_err *err);
void mfs_keys_free(struct mfs_keys *k);
MFS_DEFINE_CLEANUP(keys, struct mfs_keys, mfs_keys_free)

/*
 * The trust list for model i: the configuration's keys and those of its repository's trust.json.
 * A reference, to be given back with mfs_trust_free(). i beyond the models: the configuration's alone.
 */
struct mfs_trust *mfs_keys_trust(const struct mfs_keys *k, size_t i);

/*
 * Bytes of a trust.json that was accepted, for the models of repository `repo`; empty: it has none.
 * Versions that are loaded are not looked at again by this.
 * errors  as mfs_trustlist_parse and mfs_trustlist_apply; nothing changes then
 */
enum mfs_code mfs_keys_trust_set(const struct mfs_keys *k, size_t repo, struct mfs_span json, struct mfs_err *err);

/* The configured root of a repository; empty when it could not be read. */
struct mfs_span mfs_keys_root(const struct mfs_keys *k, size_t repo);
const struct mfs_key *mfs_keys_state(const struct mfs_keys *k); /* NULL when it was not asked for */

/* The model_key_id of configured model i; zero when it has no key here. */
void mfs_keys_model_id(const struct mfs_keys *k, size_t model, struct mfs_sha256 *out);

/*
 * The content key of a manifest for configured model i.
 * errors  KEY_UNAVAILABLE (no model key, or none of the wraps is for it), DECRYPT_FAILED
 */
enum mfs_code mfs_keys_content(const struct mfs_keys *k, size_t model, const struct mfs_manifest *m,
	struct mfs_key *out, struct mfs_err *err);

/* The same by a wrap that came beside the manifest (mfs_content_key_unwrap_grant). errors KEY_UNAVAILABLE */
enum mfs_code mfs_keys_content_grant(const struct mfs_keys *k, size_t model, const struct mfs_manifest *m,
	struct mfs_span wrap, struct mfs_key *out, struct mfs_err *err);

#endif
