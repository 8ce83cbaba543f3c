/* SPDX-License-Identifier: Apache-2.0 */
/*
 * held.h - memory of keeper for trusted state that is in force and could not be written: it outlives serve, so that
 * nobody who fills the state's disk and then crashes serve brings back what was revoked (modelfs-state(5), RESERVE).
 *
 * A memfd of fixed, sealed size, with two places per kind of document. A document goes to the place that holds none;
 * only when all of it stands there is the other one given up. So serve may die anywhere: a document is there whole,
 * with the checksum and the MAC of its frame, or it does not count. keeper makes the memory and looks into none of it.
 *
 * One thread at a time (the engine's lock).
 */
#ifndef MFS_HELD_H
#define MFS_HELD_H

#include "mfs_verify.h"

/*
 * keeper: such memory, empty. _usable: is this descriptor (out of a service manager's store) one? _empty: nothing is
 * held there; true for -1. errors IO
 */
enum mfs_code mfs_held_make(int *fd, struct mfs_err *err);
bool mfs_held_usable(int fd);
bool mfs_held_empty(int fd);

struct mfs_held;

/* serve: fd stays the caller's and must stay open. errors CONDITION_UNMET (not such memory), NO_MEMORY */
enum mfs_code mfs_held_open(int fd, struct mfs_held **out, struct mfs_err *err);
void mfs_held_close(struct mfs_held *h);
MFS_DEFINE_CLEANUP(held, struct mfs_held, mfs_held_close)

/*
 * Seal a document and keep it in place of the one of its kind. Failing, that one stays.
 *
 * kind        CYCLE or HELD
 * generation  above that of the one that stands there
 * errors      LIMIT_EXCEEDED, NO_MEMORY, INSUFFICIENT_STORAGE, IO
 */
enum mfs_code mfs_held_put(struct mfs_held *h, enum mfs_state_kind kind, uint64_t generation, struct mfs_span doc,
	const struct mfs_key *key, struct mfs_err *err);

/*
 * The newest document of a kind that is whole and authentic; *out NULL: there is none. What was torn, or is another
 * host's, or too long, is a line in the log and nothing else. doc lies in *out, malloc'd.
 * errors NO_MEMORY
 */
enum mfs_code mfs_held_get(struct mfs_held *h, enum mfs_state_kind kind, const struct mfs_key *key, uint8_t **out,
	struct mfs_span *doc, uint64_t *generation, struct mfs_err *err);

/* It is on the disk now; the memory is given back. h may be NULL. */
void mfs_held_drop(struct mfs_held *h, enum mfs_state_kind kind);

#endif
