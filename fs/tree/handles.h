/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.h - the handle table in memory shared with keeper: what the kernel holds open, across
 * restarts of serve. fh = low 32 bits of the OPEN's unique << 32 | index, written before the reply,
 * so a repeated OPEN finds its slot and a repeated RELEASE does nothing. Index 0 is not used: fh 0
 * means no handle. Threads any.
 */
#ifndef MFS_HANDLES_H
#define MFS_HANDLES_H

#include "shm.h"

struct mfs_handles;

struct mfs_handle { /* what a slot says */
	uint64_t node;
	uint32_t exposure; /* index + 1, or 0 */
	uint32_t snap;     /* index + 1, or 0 */
	uint64_t owner;    /* pins: the load that it belongs to, 0 none */
	uint32_t uid;      /* who opened it */
};

/* Reads the table as a predecessor left it; shm must outlive it. errors NO_MEMORY */
enum mfs_code mfs_handles_new(struct mfs_shm *shm, struct mfs_handles **out, struct mfs_err *err);
void mfs_handles_free(struct mfs_handles *h);

/*
 * The handle that this OPEN got before its answer was lost: its fh and *out, or 0. Only in the
 * first two minutes of a serve, when requests of its predecessor come again.
 */
uint64_t mfs_handles_repeated(struct mfs_handles *h, uint64_t unique, uint64_t node, struct mfs_handle *out);

/*
 * Take a slot; 0 when the table is full (ENFILE), also for a user other than root who holds as many
 * as are left: one that opens files without end leaves room for everybody else.
 */
uint64_t mfs_handles_take(struct mfs_handles *h, uint64_t unique, const struct mfs_handle *what);

/* Who opened it, once known (after the slot was taken). */
void mfs_handles_own(struct mfs_handles *h, uint64_t fh, uint64_t owner);

/* What fh says; false when it is not an open handle. */
bool mfs_handles_get(struct mfs_handles *h, uint64_t fh, struct mfs_handle *out);

/* Free the slot; false when it was free already. *out as it was: its snapshot is the caller's to free. */
bool mfs_handles_release(struct mfs_handles *h, uint64_t fh, struct mfs_handle *out);

/* Open handles of one exposure, or of every one (counts has MFS_EXPOSURES elements). */
unsigned mfs_handles_count(struct mfs_handles *h, uint32_t exposure_index);
void mfs_handles_counts(struct mfs_handles *h, uint32_t *counts);

#endif
