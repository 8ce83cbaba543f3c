/* SPDX-License-Identifier: Apache-2.0 */
/* session_int.h - the session, as session.c and session_slots.c share it. */
#ifndef MFS_SESSION_INT_H
#define MFS_SESSION_INT_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>

#include "session.h"

#define PLACES (MFS_SLOTS + MFS_PARKED) /* of a request: a slot, or from MFS_SLOTS on a parked one */

#define SLOT_RUNNING 1u /* an operation may still look at the bytes */
#define SLOT_WAITING 2u /* no reply yet */

struct deferred {
	struct deferred *next;
	void (*fn)(void *arg);
	void *arg;
	int place; /* of its request */
};

struct mfs_session {
	struct fuse_session *fuse;
	struct mfs_shm *shm;
	int dev;
	void (*on_end)(void *user);
	void *end_user;

	/* The INIT reply of libfuse, taken instead of written; before any thread exists. */
	bool capturing;
	uint8_t captured[256];
	size_t captured_len;

	_Atomic uint64_t unique[PLACES]; /* of the waiting request in each place, 0: none */
	_Atomic uint8_t flags[PLACES];

	pthread_t *threads;
	unsigned n_threads;
	_Atomic bool stopping;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t cond;  /* a slot was freed, work was queued, a thread ended, the replay is over, stopping */
	unsigned free_slots[MFS_SLOTS], n_free;
	unsigned free_parked[MFS_PARKED], n_parked; /* free ones */
	unsigned parked_before; /* places that a predecessor may have left something in */
	unsigned alive, slow;
	struct deferred *first, **last;
	unsigned replay_next, replay_running; /* slots still to look at; operations of the replay not returned */
	bool replay_over, ended;
};

/* ---- session_slots.c: place i is a slot, or from MFS_SLOTS on a parked request ---- */

struct fuse_in_header *mfs_slot_header(struct mfs_session *s, unsigned i);
_Atomic uint32_t *mfs_slot_attempts(struct mfs_session *s, unsigned i);

/* Back to the free ones. Takes the lock, as _answered may. */
void mfs_slot_free(struct mfs_session *s, unsigned i);
/* No request stands in it any more. */
void mfs_slot_empty(struct mfs_session *s, unsigned i);
/* Clear one flag; true for who cleared the last. */
bool mfs_slot_flag_clear(struct mfs_session *s, unsigned i, uint8_t flag);
/*
 * The reply to `unique` was written. A parked one is answered by the thread that works on it:
 * place is that of its request, or -1.
 */
void mfs_slot_answered(struct mfs_session *s, uint64_t unique, int place);

/*
 * Copy the request of slot i to a parked place, which is returned; i itself when there is none, or
 * it is parked already. With the lock. A crash in between leaves it in both: the second answer is
 * refused by the kernel.
 */
unsigned mfs_slot_park(struct mfs_session *s, unsigned i);

#endif
