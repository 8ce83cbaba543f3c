/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodeid.h - node ids: pure functions of what they name, so that every serve has the same and none
 * is ever reused (design 6). First 8 bytes (little-endian) of a SHA-256; 0, 1 and ~0 are skipped by
 * hashing again. Threads any. errors INTERNAL (OpenSSL)
 */
#ifndef MFS_NODEID_H
#define MFS_NODEID_H

#include "mfs_verify.h"

#define MFS_FOLDER 0x80000000u /* set in the index of a folder */

/* No node may have these: 0 and ~0 mean none, 1 is the root. */
static inline bool
mfs_nodeid_reserved(uint64_t id)
{
	return id == 0 || id == 1 || id == UINT64_MAX;
}

/*
 * A file or folder of an exposed version: manifest SHA-256, exposure as u64le, index as u32le, then
 * the local id, because two local names may follow one model and count their exposures apart.
 */
enum mfs_code mfs_nodeid_payload(const struct mfs_sha256 *manifest, uint64_t exposure, uint32_t index,
	const char *local_id, uint64_t *out, struct mfs_err *err);

/* Any other node: a fixed label, the local id ("" without) and a manifest (NULL without). */
enum mfs_code mfs_nodeid_named(const char *label, const char *local_id, const struct mfs_sha256 *manifest,
	uint64_t *out, struct mfs_err *err);

/* SHA-256(bytes || attempt as u8, from the second attempt on) until the id is not reserved. */
enum mfs_code mfs_nodeid_hash(struct mfs_span bytes, bool (*reserved)(uint64_t id), uint64_t *out,
	struct mfs_err *err);

#endif
