/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.h - stored chunks that fail at read, fetched again (design 6). No thread of the session waits for that: the
 * READ is parked, and read again when its range was repaired. At most MFS_REPAIR_READS in all and MFS_REPAIR_MODEL of
 * one model are parked; a further one gets EIO at once, and the kernel asks again for the page it needs. A parked one
 * ends on INTERRUPT with EINTR, at 10 s with EIO.
 */
#ifndef MFS_REPAIR_H
#define MFS_REPAIR_H

#include <fuse_lowlevel.h>

#include "version.h"

#define MFS_REPAIR_READS    16u
#define MFS_REPAIR_MODEL    4u
#define MFS_REPAIR_THREADS  4u    /* one model each; they end when there is nothing to do */
#define MFS_REPAIR_WAIT_MS  10000
#define MFS_REPAIR_TRIES    8u    /* of one READ */
#define MFS_REPAIR_PAUSE_MS 10000 /* a range that could not be repaired is not tried again before */

struct mfs_serve;
struct mfs_repairs;

/* A READ whose bytes did not verify; the caller's memory until `fn` is called. Zero but for the first part. */
struct mfs_repair_read {
	fuse_req_t req;
	size_t model;
	struct mfs_version *v; /* outlives the READ, as its content does */
	size_t file;
	uint64_t off;
	size_t len;
	/*
	 * Called once per parking. replied false: read again, by a thread that may be slow; it replies, or parks again.
	 * replied true: an error was replied; the memory is the caller's again. Any thread.
	 */
	void (*fn)(struct mfs_repair_read *w, bool replied);

	/* of repair.c */
	struct mfs_repair_read *next;
	struct mfs_repairs *of;
	int place, error;
	int64_t until_ms; /* 0: was never parked */
	unsigned tries;
	enum { MFS_READ_NEW, MFS_READ_INTERRUPTED, MFS_READ_PARKED, MFS_READ_TAKEN } state;
};

/* After updates, before requests. */
enum mfs_code mfs_repairs_new(struct mfs_serve *s, struct mfs_repairs **out, struct mfs_err *err);

/* Threads end; what is parked stays in its place for the next serve. NULL is fine. Nothing is freed. */
void mfs_repairs_stop(struct mfs_repairs *r);

/*
 * Park a READ that failed with `why`, from the thread that works on its request. False: nothing can be done about it,
 * or too many wait; the caller replies.
 */
bool mfs_repair_park(struct mfs_repairs *r, struct mfs_repair_read *w, const struct mfs_err *why);

/*
 * For who repairs without a READ (scrub.h), one at a time: a payload is repaired by one thread at a time, whatever models
 * name it. _begin waits; false: it was cancelled, or this process ends. _end counts what was repaired.
 */
bool mfs_repairs_begin(struct mfs_repairs *r, const struct mfs_sha256 *payload, const _Atomic int *cancel);
void mfs_repairs_end(struct mfs_repairs *r, const struct mfs_sha256 *payload, uint64_t repaired, bool failed);

/* For metrics and status. Takes no lock. */
void mfs_repairs_counts(struct mfs_repairs *r, uint64_t *repaired, uint64_t *failed);

#endif
