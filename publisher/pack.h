/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h - files into a signed bundle; and signing one that exists. */
#ifndef MFS_PUB_PACK_H
#define MFS_PUB_PACK_H

#include "inputs.h"
#include "mfs_verify.h"
#include "signer.h"

struct mfs_pack {
	const char *model_id, *version, *variant;
	int64_t release, key_epoch;
	int64_t build_time;      /* seconds since the epoch */
	uint32_t chunk_size;     /* bytes; 0: as in the base, else by the file's size */
	enum mfs_cipher cipher;  /* NONE: as in the base, else AES-256-GCM; only used with model keys */
	struct mfs_signer *const *keys; /* signers, the first makes signature.sig */
	size_t n_keys;
	bool sign;               /* false: keys only fill key_ids (`modelpub sign` comes later) */
	const struct mfs_key *model_keys; /* none: a plain bundle */
	size_t n_model_keys;
	const struct mfs_key *content_key; /* NULL: of the base, else random */
	const char *base;        /* folder of an earlier bundle of this model, or NULL */
	struct mfs_signer *const *base_keys; /* that may have signed it, besides keys */
	size_t n_base_keys;
	const struct mfs_sha256 *delta_bases;
	size_t n_delta_bases;
	const char *meta;        /* path of meta.yaml, or NULL */
	const struct mfs_inputs *inputs;
	const char *out;         /* folder to make */
	bool quiet;
	void (*note)(void *arg, const char *text); /* what deserves a look; may be NULL */
	void *note_arg;
	void (*between)(void *arg, const char *path); /* tests: see seal.h */
	void *arg;
};

/*
 * Pack. The bundle appears under p->out whole, synced and signed, or not at all.
 *
 * out     the manifest, NULL on failure
 * errors  what devices would refuse is refused here, before anything is read: MALFORMED,
 *         LIMIT_EXCEEDED; CONFIG_INVALID (meta.yaml), KEY_UNAVAILABLE (base, signing key),
 *         SIGNATURE_INVALID, KEY_UNTRUSTED (base),
 *         POLICY_REJECTED, ROLLBACK_ATTEMPT (name or release of the base), IO,
 *         INSUFFICIENT_STORAGE, NO_MEMORY
 */
enum mfs_code mfs_pack(const struct mfs_pack *p, struct mfs_manifest **out, struct mfs_err *err);

/* "signature.sig" for key_ids[0], else "signature.<key_id>.sig". MALFORMED if the manifest does not list the key. */
enum mfs_code mfs_signature_name(const struct mfs_manifest *m, const struct mfs_sha256 *key_id, char out[96],
	struct mfs_err *err);

/*
 * Check one signature over a manifest by one public key as a device would.
 * errors SIGNATURE_INVALID, KEY_UNTRUSTED, MALFORMED, LIMIT_EXCEEDED
 */
enum mfs_code mfs_signature_check(struct mfs_span manifest, const struct mfs_signer *key, struct mfs_span sig,
	struct mfs_err *err);

/*
 * The manifest with other signers: key_ids, and key_epoch unless epoch is 0. Its identity changes.
 *
 * bytes   malloc'd canonical bytes; m the parsed result; both the caller's on MFS_OK
 * errors  those of mfs_manifest_parse()
 */
enum mfs_code mfs_manifest_rekey(struct mfs_span manifest, const struct mfs_sha256 *const *key_ids, size_t n,
	int64_t epoch, char **bytes, size_t *len, struct mfs_manifest **m, struct mfs_err *err);

#endif
