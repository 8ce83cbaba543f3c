/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve.h - room for what must be written when the state's disk is full (modelfs-state(5), RESERVE).
 *
 *	state/reserve/space     bytes that nobody else can take
 *	state/reserve/1 ... 16  empty files: so many inodes
 *
 * What takes trust away (a revocation, a verdict, a rollback, and the metadata and policies behind them) may use it;
 * what brings something new may not, and waits until it is whole again. A replacement needs its old and its new
 * file at once, and gives the old one's room back.
 *
 * Threads any.
 */
#ifndef MFS_RESERVE_H
#define MFS_RESERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

#define MFS_RESERVE_FOLDER "reserve"
#define MFS_RESERVE_INODES 16u
#define MFS_RESERVE_LEAST  (UINT64_C(256) << 10) /* bytes */
#define MFS_RESERVE_MOST   (UINT64_C(32) << 20)  /* bytes; an anchor of a thousand models takes a few MiB */

struct mfs_reserve;

struct mfs_reserve_facts {
	bool kept;            /* there is one here, or is meant to be: of a mount */
	bool whole;           /* nothing is missing */
	bool full;            /* something is, or there is no room beside it, or was not when it was used last */
	uint64_t bytes, want; /* of it now, and when it is whole */
};

/* Nothing is created. errors NO_MEMORY, IO */
enum mfs_code mfs_reserve_open(int state_dirfd, struct mfs_reserve **out, struct mfs_err *err);
void mfs_reserve_close(struct mfs_reserve *r);
MFS_DEFINE_CLEANUP(reserve, struct mfs_reserve, mfs_reserve_close)

/*
 * Take what is missing, as far as there is room: twice what trusted state, metadata and policies take now, within
 * the two limits above. A filesystem that cannot set room aside gets random bytes, which nothing compresses.
 *
 * create   make it where there is none (serve); else only one that is there is filled
 * returns  whether there is room: nothing is missing now, and a little is free; true without one
 */
bool mfs_reserve_fill(struct mfs_reserve *r, bool create);

/* Give back room for a file of `need` bytes, and an inode. false: nothing is left. NULL is an empty one. */
bool mfs_reserve_release(struct mfs_reserve *r, size_t need);

/*
 * mfs_file_replace(); where that finds no space, again as often as the reserve has some to give.
 * r  NULL: nothing but what is free
 */
enum mfs_code mfs_reserve_replace(struct mfs_reserve *r, int dirfd, const char *name, const void *buf, size_t len,
	mode_t mode, struct mfs_err *err);

/* From memory: as the last _fill or _release left it. NULL: zero. */
void mfs_reserve_facts(struct mfs_reserve *r, struct mfs_reserve_facts *out);

#endif
