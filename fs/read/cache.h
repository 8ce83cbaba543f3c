/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - decrypted chunks, chunks in flight, and what a reading thread needs (inside fs/:
 * content.c, fill.c).
 *
 * One mutex guards all of it, and no I/O, hashing, decryption or wiping happens under it. Lifecycle
 * of an entry: FILLING (one thread opens it, others wait) -> READY (plaintext in `mem`, in the LRU
 * list) or FAILED (waiters take the error). Memory: one region in units of 64 KiB, a chunk takes an
 * aligned run of 1 to 16 of them.
 */
#ifndef MFS_CACHE_H
#define MFS_CACHE_H

#include <pthread.h>

#include "content.h"
#include "pool.h"

#define MFS_CACHE_UNIT    MFS_CHUNK_MIN
#define MFS_CACHE_BUCKETS 1024u
#define MFS_CACHE_OPEN    256u /* contents with an open descriptor and a loaded table */
#define MFS_CACHE_POOL    3u   /* threads at most that take half of a large read */
#define MFS_CACHE_IDLE    8u   /* reader contexts kept for the next read */
#define MFS_CACHE_AHEAD   4u   /* stretches opened before they are asked for */
#define MFS_CACHE_STREAMS 16u  /* readers in sequence that are remembered */

enum mfs_entry_state { MFS_ENTRY_FILLING, MFS_ENTRY_READY, MFS_ENTRY_FAILED, MFS_ENTRY_GONE };

struct mfs_entry {
	struct mfs_entry *next;       /* bucket */
	struct mfs_entry *newer, *older; /* LRU: READY ones */
	const struct mfs_content *content;
	uint64_t chunk;
	enum mfs_entry_state state;
	unsigned pins;    /* threads that use it: not evicted, not freed */
	unsigned waiters; /* of the pins: waiting for the end of FILLING */
	uint8_t *mem;     /* NULL: the filler opens into its caller's buffer */
	size_t len;
	struct mfs_err *err; /* FAILED: what waiters report */
};

struct mfs_secret_key { /* a content key, shared by the files of a version; secret memory */
	struct mfs_secret_key *next;
	unsigned refs;
	struct mfs_key key;
};

struct mfs_reader { /* contexts of one reading thread, borrowed from the cache for a call */
	struct mfs_reader *next;
	struct mfs_opener *opener;
	uint64_t keyed_for; /* serial of the content whose file key the opener holds; 0: none */
	uint8_t *bounce;    /* ciphertext; plaintext only until wiped; locked as far as possible */
	size_t bounce_cap;
};

struct mfs_stream { /* where a reader may go on */
	uint64_t serial, end;
	unsigned reads; /* under way */
};

struct mfs_ahead; /* stream.c */

struct mfs_cache {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* an entry left FILLING, or a content finished opening */
	uint8_t *mem;
	size_t bytes, units, locked;
	bool *used; /* units */
	struct mfs_entry *bucket[MFS_CACHE_BUCKETS];
	struct mfs_entry *newest, *oldest;
	struct mfs_reader *idle;
	unsigned n_idle;
	struct mfs_secret_key *keys;
	struct mfs_content *open_newest, *open_oldest;
	unsigned n_open;
	uint64_t next_serial;
	struct mfs_stream streams[MFS_CACHE_STREAMS];
	unsigned next_stream;
	struct mfs_ahead *ahead; /* MFS_CACHE_AHEAD; NULL: one core */
	uint64_t ahead_stamp;
	struct mfs_failures *watches;
	mfs_content_failed_fn *failed;
	void *failed_user;
	struct mfs_cache_stats stats;
	struct mfs_pool *pool; /* has a lock of its own; NULL: one core */
};

/* errors NO_MEMORY, INTERNAL. bounce has room for `need` bytes. */
enum mfs_code mfs_reader_take(struct mfs_cache *c, size_t need, struct mfs_reader **out, struct mfs_err *err);
void mfs_reader_give(struct mfs_cache *c, struct mfs_reader *r);
void mfs_reader_drop(struct mfs_reader *r); /* instead: frees it */

/* What mfs_cache_claim found; every one but NONE is pinned until mfs_cache_release. */
enum mfs_claim {
	MFS_CLAIM_FILL,  /* the caller opens it and calls mfs_cache_finish */
	MFS_CLAIM_READY, /* plaintext in e->mem */
	MFS_CLAIM_FAILED, /* *err filled */
	MFS_CLAIM_BUSY,  /* somebody opens it (only without `wait`; not pinned) */
	MFS_CLAIM_NONE,  /* no memory for the entry */
};

/*
 * len   bytes of the chunk
 * keep  the plaintext shall stay in the cache: e->mem is its memory, NULL if there is none free
 * wait  wait for another thread that opens it; never while the caller has claims of its own
 */
enum mfs_claim mfs_cache_claim(struct mfs_cache *c, const struct mfs_content *content, uint64_t chunk, size_t len,
	bool keep, bool wait, struct mfs_entry **out, struct mfs_err *err);

/* The end of a MFS_CLAIM_FILL. plaintext: where it was opened; err NULL: verified. Releases the entry. */
void mfs_cache_finish(struct mfs_cache *c, struct mfs_entry *e, const uint8_t *plaintext, const struct mfs_err *err);
void mfs_cache_release(struct mfs_cache *c, struct mfs_entry *e);

/* Drop every chunk of a content; no reader uses it any more. */
void mfs_cache_forget(struct mfs_cache *c, const struct mfs_content *content);

/* A run of the region for good, of at most MFS_CHUNK_MAX bytes; NULL when all of it is in use. */
uint8_t *mfs_cache_region(struct mfs_cache *c, size_t len);

/* stream.c: of a cache that is made, and of one whose threads are gone; of a content that goes. */
struct mfs_ahead *mfs_ahead_new(void);
void mfs_ahead_forget(struct mfs_cache *c, uint64_t serial);

/* One copy per distinct key. NULL without memory. */
struct mfs_secret_key *mfs_cache_key_get(struct mfs_cache *c, const struct mfs_key *k);
void mfs_cache_key_put(struct mfs_cache *c, struct mfs_secret_key *k);

#endif
