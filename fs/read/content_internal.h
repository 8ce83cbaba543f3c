/* SPDX-License-Identifier: Apache-2.0 */
/* content_internal.h - one file of one version, as content.c and fill.c share it. */
#ifndef MFS_CONTENT_INTERNAL_H
#define MFS_CONTENT_INTERNAL_H

#include "blobio.h"
#include "cache.h"

#define MFS_CONTENT_RUN (1u << 20) /* bytes read from disk at once */

struct mfs_open { /* what the first read opens; shared by readers, closed when idle for long */
	unsigned refs;         /* cache->lock */
	struct mfs_table *table;
	struct mfs_blob *blob; /* cache->lock: replaced when a repair renamed a new file into place */
	struct mfs_blob *stale[4]; /* replaced ones: a reader may still use them */
	unsigned n_stale;
};

struct mfs_content {
	struct mfs_store *store;
	struct mfs_cache *cache;
	const struct mfs_manifest *m;
	const struct mfs_file *file;
	struct mfs_secret_key *key; /* NULL: plain, or no key */
	uint64_t serial;            /* never reused: names the file key that a reader holds */
	/* cache->lock: */
	struct mfs_open *open;
	bool opening;
	struct mfs_content *newer, *older; /* in the list of open ones */
};

/* errors IO, HASH_MISMATCH, MALFORMED, NO_MEMORY. Not for an empty file. */
enum mfs_code mfs_content_open(struct mfs_content *c, struct mfs_open **out, struct mfs_err *err);
void mfs_content_close(struct mfs_content *c, struct mfs_open *o);

/* Give the reader this file's key. errors KEY_UNAVAILABLE */
enum mfs_code mfs_content_rekey(struct mfs_content *c, struct mfs_reader *r, struct mfs_err *err);

/*
 * Read one chunk, verify and open it; a blob that was replaced meanwhile is tried once more.
 * stored   room for the chunk, private; of MFS_BLOB_ALIGN where it is aligned to that
 * plain    may be stored; NULL: verify the hash alone
 */
enum mfs_code mfs_content_chunk(struct mfs_content *c, struct mfs_open *o, struct mfs_reader *r, uint64_t chunk,
	uint8_t *stored, uint8_t *plain, struct mfs_err *err);

/* The blob to read from now. */
struct mfs_blob *mfs_content_blob(struct mfs_content *c, struct mfs_open *o);

#endif
