/* SPDX-License-Identifier: Apache-2.0 */
/* trusted_io.h - shared by trusted*.c only: the copies on disk and the open object. */
#ifndef MFS_TRUSTED_IO_H
#define MFS_TRUSTED_IO_H

#include "held.h"
#include "reserve.h"
#include "trusted.h"

#define MFS_STATE_MARK ".state-id"

/* One copy as it was found. */
struct mfs_state_copy {
	bool present;
	enum mfs_code code;        /* MFS_OK: authentic and parsed */
	char why[200];             /* when not OK */
	uint64_t generation;
	struct mfs_anchor *anchor; /* kind anchor; NULL when not OK */
	struct mfs_cycle *cycle;   /* kind cycle */
};

struct mfs_trusted {
	int state_dirfd, store_dirfd;
	struct mfs_key key;
	struct mfs_counter *counter; /* borrowed */
	struct mfs_reserve *reserve; /* borrowed; NULL: what is written now may not use it */
	unsigned flags;
	struct mfs_anchor *anchor;
	struct mfs_cycle *cycle;
	struct mfs_memo *anchor_memo, *cycle_memo; /* texts of models; NULL: made each time */
	uint64_t value;      /* of the counter, as last seen */
	int current;         /* copy that the counter accepts, -1: none */
	bool burn;           /* the next commit first commits a copy of the present anchor */
	bool uncertain;      /* an increment failed: the counter may have moved by one */
	bool ahead;          /* anchor forbids more than what is on the disk: mfs_trusted_hold() */
	struct mfs_anchor *written; /* ahead: what is on the disk */
	struct mfs_held *held; /* borrowed; NULL: what is held ends with this process */
	uint64_t held_sequence; /* of the document there */
	char unkept[160];    /* ahead: why it is not there; empty: it is, or there is no such memory */
	bool cycle_lost;
	uint64_t cycle_generation;
	int cycle_current;
	char protection[160];
	char found[512];
};

/* Write the mark where it is missing or of another state; a failure is logged. */
void mfs_state_mark_write(struct mfs_trusted *t);

extern const char *const mfs_anchor_names[2], *const mfs_cycle_names[2];

/* trusted_held.c: everything in force is on the disk; and the cycle that could not be written, while the anchor is ahead. */
void mfs_trusted_settled(struct mfs_trusted *t);
void mfs_trusted_cycle_hold(struct mfs_trusted *t, struct mfs_span json);

/* Read copy i of a document; never fails as a whole: the outcome is in *c. */
void mfs_state_copy_read(int dirfd, enum mfs_state_kind kind, int i, const struct mfs_key *key,
	struct mfs_state_copy *c);
void mfs_state_copy_clear(struct mfs_state_copy *c);

/* "anchor.0: <why or generation>; anchor.1: ..." */
void mfs_state_copies_describe(const struct mfs_state_copy copies[2], const char *const names[2], char *out,
	size_t cap);

/* Join what two authentic copies know so that nothing is lowered. Either may be NULL. */
enum mfs_code mfs_anchor_join(const struct mfs_anchor *newer, const struct mfs_anchor *older, struct mfs_anchor **out,
	struct mfs_err *err);

#endif
