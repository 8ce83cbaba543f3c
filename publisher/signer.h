/* SPDX-License-Identifier: Apache-2.0 */
/* signer.h - release signing keys: made here, or named by an OpenSSL store URI. */
#ifndef MFS_PUB_SIGNER_H
#define MFS_PUB_SIGNER_H

#include "mfs_verify.h"

#define MFS_SIGNATURE_ROOM 256 /* bytes; Ed25519 64, ECDSA P-256 at most 72 */

enum mfs_signer_type { MFS_SIGNER_ED25519, MFS_SIGNER_P256 };

/* "ed25519" or "ecdsa-p256"; false for any other name. */
bool mfs_signer_type_from_name(const char *name, enum mfs_signer_type *out);

struct mfs_signer; /* a private or public key and its id; immutable, one thread at a time */

/* A new private key; name is for messages. errors INTERNAL, NO_MEMORY */
enum mfs_code mfs_signer_generate(enum mfs_signer_type type, const char *name, struct mfs_signer **out, struct mfs_err *err);

/*
 * Load a private key: a PEM or DER file, or any URI that OpenSSL's stores know ("pkcs11:...",
 * "handle:0x81000001").
 *
 * passin  NULL, "file:PATH" (first line) or "env:NAME". Without it the pass phrase is asked for
 *         on the terminal, and an encrypted key without a terminal is an error
 * errors  CONFIG_INVALID (not a private key, wrong type, passin), KEY_UNAVAILABLE (cannot be opened)
 */
enum mfs_code mfs_signer_load(const char *uri, const char *passin, struct mfs_signer **out, struct mfs_err *err);

/* Load a public key (PEM file): an id and a type, no signing. CONFIG_INVALID, IO */
enum mfs_code mfs_signer_load_public(const char *path, struct mfs_signer **out, struct mfs_err *err);
void mfs_signer_free(struct mfs_signer *s);
MFS_DEFINE_CLEANUP(signer, struct mfs_signer, mfs_signer_free)

/*
 * Load private keys (n_uris of them, by mfs_signer_load), then public ones, into list, in that order.
 *
 * list    room for n_uris + n_pubs; filled in order
 * n       how many stand in it, also on failure: the caller frees them
 */
enum mfs_code mfs_signers_load(const char *const *uris, size_t n_uris, const char *passin, const char *const *pubs,
	size_t n_pubs, struct mfs_signer **list, size_t *n, struct mfs_err *err);

const struct mfs_sha256 *mfs_signer_key_id(const struct mfs_signer *s);
enum mfs_signer_type mfs_signer_type(const struct mfs_signer *s);
const char *mfs_signer_name(const struct mfs_signer *s); /* what it was loaded from */
struct mfs_span mfs_signer_public_pem(const struct mfs_signer *s); /* borrowed */
/* The 32 bytes of an Ed25519 public key. INTERNAL for another type. */
enum mfs_code mfs_signer_public_raw(const struct mfs_signer *s, uint8_t out[32], struct mfs_err *err);

/*
 * Sign bytes: raw Ed25519, or ECDSA over their SHA-256 (DER). sig holds MFS_SIGNATURE_ROOM bytes.
 * errors KEY_UNAVAILABLE (a token refused, or only the public key is here)
 */
enum mfs_code mfs_signer_sign(const struct mfs_signer *s, struct mfs_span bytes, uint8_t *sig, size_t *len,
	struct mfs_err *err);

/*
 * The private key as PEM (PKCS #8), encrypted when pass is not NULL (AES-256-CBC, PBKDF2).
 * out is malloc'd secret memory: wipe and free it with mfs_secret_free().
 */
enum mfs_code mfs_signer_private_pem(const struct mfs_signer *s, const char *pass, char **out, size_t *len,
	struct mfs_err *err);
void mfs_secret_free(char *p, size_t len);

/* The pass phrase that "file:PATH" or "env:NAME" means; out holds cap bytes. CONFIG_INVALID */
enum mfs_code mfs_passin_read(const char *passin, char *out, size_t cap, struct mfs_err *err);

/*
 * ECDSA as tokens and some KMS give it (64 bytes r, s) to DER; der holds MFS_SIGNATURE_ROOM bytes.
 * errors SIGNATURE_INVALID, NO_MEMORY
 */
enum mfs_code mfs_ecdsa_raw_to_der(const uint8_t raw[64], uint8_t *der, size_t *len, struct mfs_err *err);

/* Create path with exactly this content, never overwriting. errors IO (EEXIST says so) */
enum mfs_code mfs_file_create(const char *path, const void *buf, size_t len, mode_t mode, struct mfs_err *err);

#endif
