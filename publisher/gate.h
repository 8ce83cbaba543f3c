/* SPDX-License-Identifier: Apache-2.0 */
/* gate.h - the whole check of a bundle with public keys alone: what a release gate asks. */
#ifndef MFS_PUB_GATE_H
#define MFS_PUB_GATE_H

#include "bundledir.h"
#include "mfs_verify.h"

/*
 * Signatures, manifest, every byte of payloads and chunk tables, sizes, surplus files.
 *
 * path    the bundle's folder
 * trust   NULL: signatures are only looked for, not checked, and key_id is zero; everything else is
 * note    may be NULL; called with the name (untrusted) of each entry that is no part of a bundle
 * out     the manifest, NULL on failure
 * key_id  the first key that verified
 * errors  those of mfs_bundle_verify() and bundledir.h; HASH_MISMATCH names file, chunk and offset
 */
enum mfs_code mfs_gate_verify(const char *path, const struct mfs_trust *trust, unsigned threshold, bool quiet,
	void (*note)(void *arg, const char *name), void *arg, struct mfs_manifest **out, struct mfs_sha256 *key_id,
	struct mfs_err *err);

/* The manifest and signatures of a bundle, parsed and not verified. docs and out are the caller's to free. */
enum mfs_code mfs_gate_read(const char *path, struct mfs_bundle_docs *docs, struct mfs_manifest **out,
	struct mfs_err *err);

/* Signatures and manifest alone, by mfs_bundle_verify() and with its errors. key_id may be NULL. */
enum mfs_code mfs_gate_signatures(const struct mfs_bundle_docs *d, const struct mfs_trust *trust, unsigned threshold,
	struct mfs_manifest **out, struct mfs_sha256 *key_id, struct mfs_err *err);

#endif
