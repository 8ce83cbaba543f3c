/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkbundle.h - small signed bundles for the tests of installation and state, written by the
 * verifier's own functions. Abort on any failure: a fixture that cannot be made is no test.
 */
#ifndef MKBUNDLE_H
#define MKBUNDLE_H

#include "mfs_verify.h"

struct mk_signer;
struct mk_signer *mk_signer_new(void); /* Ed25519 */
void mk_signer_free(struct mk_signer *s);
const char *mk_signer_pem(const struct mk_signer *s); /* the public key */
const struct mfs_sha256 *mk_signer_id(const struct mk_signer *s);

struct mk_file {
	const char *name;
	uint64_t size; /* bytes, filled from seed */
	unsigned seed;
};

struct mk_bundle { /* zero or NULL: the default in brackets */
	const char *model_id;  /* [det] */
	const char *version;   /* [1.0.0] */
	const char *variant;   /* [default] */
	int64_t release;       /* [1] */
	int64_t epoch;         /* [1] */
	uint32_t chunk_size;   /* bytes [MFS_CHUNK_MIN] */
	const struct mk_file *files; size_t n_files; /* [model.bin of 200,000 bytes, seed 1] */
	const struct mfs_key *model_key;   /* [plain] */
	const struct mfs_key *content_key; /* [derived from the version] */
	const char *compat;    /* JSON [none] */
};

/* Write the bundle as folder `name` below dirfd; *id (may be NULL) receives the manifest's hash. */
void mk_bundle(const struct mk_signer *s, const struct mk_bundle *b, int dirfd, const char *name, struct mfs_sha256 *id);

/* The bytes of a file: a deterministic stream with runs of zeros. */
void mk_fill(uint8_t *out, uint64_t n, unsigned seed);

/* Flip a bit of the file at offset off, from the end when negative. */
void mk_flip(int dirfd, const char *path, int64_t off);

#endif
