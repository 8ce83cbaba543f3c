/* SPDX-License-Identifier: Apache-2.0 */
/* cycle_io.h - shared by cycle.c and cycle_offer.c only: one model's attempt while it is worked on. */
#ifndef MFS_CYCLE_IO_H
#define MFS_CYCLE_IO_H

#include "cycle.h"

struct mfs_at {
	const struct mfs_cycle_run *r;
	size_t i;
	int64_t now;
	struct mfs_engine_update up;  /* as it was read */
	struct mfs_cycle_attempt a;   /* detail points into up or to text */
	char text[sizeof(((struct mfs_err *)0)->msg)]; /* of the last failure here */
	struct mfs_engine_expect expect; /* as read, or last written here */
};

void mfs_at_read(const struct mfs_cycle_run *r, size_t i, struct mfs_at *at);
/* Make the attempt durable; false: it could not be, or was superseded. */
bool mfs_at_save(struct mfs_at *at);
/* Enter a step anew. 0, or a pause when it could not be written. */
int64_t mfs_at_enter(struct mfs_at *at, enum mfs_step s);
/* The version is refused: remembered, reported once, what is staged goes. MFS_CYCLE_IDLE. */
int64_t mfs_at_refuse(struct mfs_at *at, const struct mfs_err *why, const struct mfs_sha256 *key);
/* The same, and its manifest is condemned: its own bytes are wrong, or the health check said so. */
int64_t mfs_at_condemn(struct mfs_at *at, const struct mfs_err *why);
/* Nothing is wrong, it only cannot go on now; said once. Seconds to wait. */
int64_t mfs_at_wait(struct mfs_at *at, const struct mfs_err *why);
/* Why the attempt stands where it stands, copied. */
void mfs_at_why(struct mfs_at *at, const struct mfs_err *why);
int64_t mfs_at_failed(struct mfs_at *at, const struct mfs_err *why, int64_t retry_after_s);

/* Does this outcome say that the version itself cannot be used here, whatever is tried again? */
bool mfs_is_refusal(enum mfs_code code);

#endif
