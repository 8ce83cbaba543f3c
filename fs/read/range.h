/* SPDX-License-Identifier: Apache-2.0 */
/* range.h - a stretch of one file that several threads open together (inside fs/read: range.c, stream.c). */
#ifndef MFS_RANGE_H
#define MFS_RANGE_H

#include "content_internal.h"

struct mfs_range_job {
	struct mfs_content *c;
	uint8_t *dst; /* room for len bytes that nobody else writes meanwhile */
	size_t len;   /* > 0, within the file */
	uint64_t off;
	/* cache->lock: */
	size_t next;        /* bytes that some thread has taken */
	enum mfs_code code; /* of the first piece that failed */
	struct mfs_err err;
};

/*
 * Verify and open pieces until none is left. Any number of threads at a time on one job; its bytes
 * are there when all of them returned and code is MFS_OK.
 */
void mfs_range_work(struct mfs_range_job *w);

#endif
