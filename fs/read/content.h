/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h - verified plaintext of one file of one version, and the paged read path.
 *
 * Every byte returned was verified after its last read from disk. A chunk is decrypted once
 * for concurrent readers (in-flight table). No lock is held across disk I/O or a wait.
 */
#ifndef MFS_CONTENT_H
#define MFS_CONTENT_H

#include "store.h"

struct mfs_cache; /* plaintext chunks in memory that is never swapped and not dumped; shared by all contents */

/*
 * bytes       budget (8 to 32 MiB)
 * scratch_fd  a file on keeper's noswap tmpfs to map as buffer memory, or -1: anonymous, mlock'ed
 *             as far as RLIMIT_MEMLOCK allows
 */
enum mfs_code mfs_cache_new(size_t bytes, int scratch_fd, struct mfs_cache **out, struct mfs_err *err);
void mfs_cache_free(struct mfs_cache *c); /* after the last content */

struct mfs_cache_stats {
	uint64_t opened;  /* chunks verified and decrypted */
	uint64_t hits;    /* chunks served from the cache */
	uint64_t waits;   /* readers that waited for another reader's chunk */
	uint64_t ahead;   /* reads that found their bytes opened ahead, or half so */
	uint64_t evicted;
	uint64_t failed;  /* chunks that did not verify or could not be read; files of which table or blob cannot be had */
	size_t bytes, locked; /* budget, and how much of it is locked in memory or on noswap tmpfs */
};
void mfs_cache_stats(struct mfs_cache *c, struct mfs_cache_stats *out);

struct mfs_content; /* one file; refcounted; immutable but for lazily loaded table and descriptors */

/*
 * Nothing is read from the store here: descriptor and chunk table are opened and verified at the
 * first read (nothing is rehashed at mount).
 *
 * m            must outlive the content (the version holds both)
 * content_key  NULL for a plain version
 */
enum mfs_code mfs_content_new(struct mfs_store *s, struct mfs_cache *cache, const struct mfs_manifest *m, size_t file,
	const struct mfs_key *content_key, struct mfs_content **out, struct mfs_err *err);
void mfs_content_free(struct mfs_content *c);

/*
 * Read plaintext. Clamped to the file's size; *got 0 at its end.
 *
 * buf     memory that nobody else writes meanwhile: whole chunks are read into it, verified and
 *         decrypted in place; 4096-aligned is fastest
 * errors  HASH_MISMATCH, DECRYPT_FAILED, IO, KEY_UNAVAILABLE, NO_MEMORY. Nothing of buf may be
 *         used then.
 * threads any number at a time on one content
 */
enum mfs_code mfs_content_read(struct mfs_content *c, void *buf, size_t len, uint64_t off, size_t *got,
	struct mfs_err *err);

/*
 * A read of the mount. A reader who goes on where the last read ended finds the next stretch opened
 * already, or half done: the kernel's read-ahead has one request under way, and between two of
 * them a core would be idle.
 */
struct mfs_stretch {
	const uint8_t *data; /* buf, or memory of the cache until mfs_stretch_done */
	size_t len;
	struct mfs_ahead *held; /* the cache's */
};

struct mfs_hold { /* keeps the content alive while it is read ahead; get may be NULL: no reading ahead */
	void *object;
	void (*get)(void *object);
	void (*put)(void *object);
};

/*
 * As mfs_content_read, into buf or, without a copy, from memory that was filled ahead.
 *
 * hold    put is called from another thread, soon
 * out     filled in on success; mfs_stretch_done() when its data was used
 */
enum mfs_code mfs_content_stream(struct mfs_content *c, const struct mfs_hold *hold, void *buf, size_t len, uint64_t off,
	struct mfs_stretch *out, struct mfs_err *err);
void mfs_stretch_done(struct mfs_content *c, struct mfs_stretch *s);

/*
 * Verify and decrypt the whole file into fd (a file on keeper's tmpfs, already of full size), in parallel.
 * threads  number of workers, 0: one per core
 * cancel   may be NULL; polled between chunks: nonzero ends with CONDITION_UNMET
 * done     may be NULL; bytes finished so far
 */
enum mfs_code mfs_content_fill(struct mfs_content *c, int fd, unsigned threads, const _Atomic int *cancel,
	_Atomic uint64_t *done, struct mfs_err *err);

/* Check every stored byte against the signed hashes, with the key the tags too; plaintext is discarded. */
enum mfs_code mfs_content_check(struct mfs_content *c, unsigned threads, const _Atomic int *cancel,
	_Atomic uint64_t *done, struct mfs_err *err);

/*
 * Called once per failed chunk read (from a reader's thread, no lock held). chunk UINT64_MAX: the
 * file could not be opened at all (blob or chunk table absent or wrong).
 */
typedef void mfs_content_failed_fn(void *user, const struct mfs_content *c, uint64_t chunk, const struct mfs_err *err);
void mfs_cache_on_failure(struct mfs_cache *c, mfs_content_failed_fn *fn, void *user);

/* Counts the same failures of one version, while it is linked: of whoever judges what read it meanwhile. Threads any. */
struct mfs_failures {
	struct mfs_sha256 manifest;
	uint64_t n;                /* once unlinked */
	struct mfs_failures *next; /* of the cache */
};
void mfs_failures_begin(struct mfs_cache *c, struct mfs_failures *w);
void mfs_failures_end(struct mfs_cache *c, struct mfs_failures *w);

const struct mfs_manifest *mfs_content_manifest(const struct mfs_content *c);
size_t mfs_content_file(const struct mfs_content *c);

#endif
