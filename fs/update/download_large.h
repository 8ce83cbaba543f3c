/* SPDX-License-Identifier: Apache-2.0 */
/* download_large.h - a large payload by all threads: between download_file.c and the workers of download_piece.c. */
#ifndef MFS_DOWNLOAD_LARGE_H
#define MFS_DOWNLOAD_LARGE_H

#include "download_io.h"

enum chunk_state { CHUNK_MISSING, CHUNK_BUSY, CHUNK_CLAIMED, CHUNK_DONE, CHUNK_RETRY };

#define MFS_DL_CHECK_RUN(f) (MFS_DL_BUF / (f)->chunk_size) /* chunks that the checker reads at a time */

struct mfs_dl_large {
	struct mfs_dl_run *r;
	const struct mfs_file *f;
	const struct mfs_table *table;
	int data, journal;
	bool fresh; /* nothing was in the data file: its zeros need no writing */
	uint64_t batch;
	uint8_t *bits; /* the journaller's */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed; /* a chunk changed its state, or `over` */
	uint8_t *state; /* enum chunk_state, one per chunk */
	uint64_t left;    /* chunks that are not DONE */
	uint64_t busy;    /* chunks that are BUSY */
	uint64_t lacking; /* bytes of MISSING and RETRY ones */
	uint64_t cursor;  /* no MISSING chunk lies before it */
	uint64_t reuse;   /* next chunk to look up on the device */
	uint64_t landed;  /* bytes since the last journal write began */
	uint64_t syncing; /* bytes of the journal write under way */
	uint64_t checked; /* bytes that the checker has passed */
	uint64_t wanted;  /* the checker sleeps until this chunk is DONE; UINT64_MAX: it does not */
	unsigned retries; /* of RETRY chunks that came wrong again, in a row */
	bool over;        /* the checker has seen all of it */
};

/* Until `changed`, 0.2 s at most. Hold lock. */
void mfs_dl_large_wait(struct mfs_dl_large *l);

/* One worker, of struct mfs_dl_large *arg: copies and fetches until nothing is lacking. What ends it is told to r. */
void mfs_dl_large_worker(struct mfs_dl_run *r, void *arg);

#endif
