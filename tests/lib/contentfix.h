/* SPDX-License-Identifier: Apache-2.0 */
/* contentfix.h - one file in a store of its own, for the tests and measures of the read path. */
#ifndef CONTENTFIX_H
#define CONTENTFIX_H

#include "content.h"

struct fix {
	char dir[64]; /* a fresh folder below TMPDIR */
	int dirfd;
	struct mfs_store *store;
	struct mfs_cache *cache;
	struct mfs_manifest m;
	struct mfs_file file;
	struct mfs_key key; /* content key */
	struct mfs_content *c;
	uint8_t *plain;
};

/* Abort on any failure: a fixture that cannot be made is no test. */
void fix_make(struct fix *f, uint64_t size, uint32_t chunk, enum mfs_cipher cipher, size_t cache_bytes);
void fix_free(struct fix *f);
struct mfs_content *fix_content(struct fix *f, const struct mfs_key *key); /* another one of the same file */

void fix_path(const struct fix *f, const struct mfs_sha256 *hash, char out[256]); /* of a blob */
void fix_flip(const struct fix *f, const struct mfs_sha256 *hash, uint64_t off);  /* one bit, in place */
uint8_t *fix_load(const char *path, size_t *len);
void fix_store(const char *path, const void *buf, size_t len); /* through a rename, as a repair does */
#endif
