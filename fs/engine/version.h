/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - one verified version, loaded: shared by engine, tree and residency. */
#ifndef MFS_VERSION_H
#define MFS_VERSION_H

#include "content.h"
#include "keys.h"

enum mfs_tier { MFS_TIER_PAGED, MFS_TIER_RESIDENT };

/*
 * Within a resident exposure: files below 64 KiB stay paged (a slot and a backing id each would cost
 * more than they save). The same for every serve, so that a node id keeps its tier.
 */
#define MFS_RESIDENT_MIN (64u << 10)
static inline bool
mfs_file_resident(const struct mfs_file *f)
{
	return f->size >= MFS_RESIDENT_MIN;
}

struct mfs_version { /* immutable but for what mfs_version_open_again() sets; refcounted */
	_Atomic unsigned refs;
	struct mfs_manifest *m;
	struct mfs_signed signed_bytes; /* what was signed, for /models/<id>/manifests */
	struct mfs_sha256 key_id;       /* the key that verified */
	_Atomic enum mfs_code key_code; /* MFS_OK, or why its content cannot be opened (KEY_UNAVAILABLE, ...) */
	char *key_why;                  /* the same in words, as it was loaded; NULL: it could be opened */
	struct mfs_content **_Atomic files; /* m->n_files; NULL when key_code is not OK */
};

/*
 * Load from state or store (either copy), verify signature and key trust anew, unwrap the key.
 * A missing key is not an error here: key_code says so and files is NULL.
 *
 * model   index in the configuration
 * errors  as mfs_bundle_verify; IO when neither copy can be read; MALFORMED when the manifest is
 *         not the one asked for
 */
enum mfs_code mfs_version_load(int state_dirfd, struct mfs_store *s, struct mfs_cache *cache, const struct mfs_config *c,
	const struct mfs_keys *keys, size_t model, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err);
/*
 * A version whose content key was not to be had: is it now? Then it is open for all who share it. One thread at a
 * time for one version. errors KEY_UNAVAILABLE, NO_MEMORY
 */
enum mfs_code mfs_version_open_again(struct mfs_store *s, struct mfs_cache *cache, const struct mfs_keys *keys,
	size_t model, struct mfs_version *v, struct mfs_err *err);

/*
 * The content key of a manifest for model i: by a wrap of the manifest, else by one that came beside it and lies in
 * the store or a seed.
 * errors  KEY_UNAVAILABLE (no model key, no wrap for it, or none beside it that opens), DECRYPT_FAILED (the manifest's
 *         own wrap does not open)
 */
enum mfs_code mfs_version_key(struct mfs_store *s, const struct mfs_keys *keys, size_t model,
	const struct mfs_manifest *m, struct mfs_key *out, struct mfs_err *err);

/* Signatures of what was signed, by a trust list; errors as mfs_bundle_verify. */
enum mfs_code mfs_signed_verify(const struct mfs_signed *s, const struct mfs_trust *trust, unsigned threshold,
	struct mfs_manifest **m, struct mfs_sha256 *key_id, struct mfs_err *err);
struct mfs_version *mfs_version_ref(struct mfs_version *v);
void mfs_version_unref(struct mfs_version *v);

#endif
