/* SPDX-License-Identifier: Apache-2.0 */
/* remote_int.h - between remote.c (requests) and remote_link.c (the connection to fetch). */
#ifndef MFS_REMOTE_INT_H
#define MFS_REMOTE_INT_H

#include <pthread.h>

#include "remote.h"

#define REMOTE_GHOSTS 64u

struct mfs_remote_timing {
	unsigned ping_ms;   /* between pings while something is in flight */
	unsigned silent_ms; /* without an answer to one: it hangs */
	unsigned stall_ms;  /* without a frame or byte for a request, pongs or not */
	unsigned idle_ms;   /* nothing in flight: the connection ends, and fetch with it */
	unsigned pause_ms;  /* before the second start after a failure; doubles up to 60 s */
	/*
	 * A body that brings less than slow_bytes a second while serve waits for it ends after slow_ms of waiting. fetch
	 * gives up a server that is too slow before that: this one is for a fetch that is not what it was. 0: no such end
	 */
	unsigned slow_bytes, slow_ms;
};

struct mfs_pending { /* on the stack of the thread that waits; listed under the lock */
	struct mfs_pending *next;
	uint64_t id;
	bool post, conditions;
	bool headers, done, facts, lost; /* what came; lost: the connection went */
	struct mfs_wire_headers h;
	struct mfs_wire_done d;
	struct mfs_wire_facts f;
};

struct mfs_remote {
	enum mfs_code (*start)(void *user, int *sock, struct mfs_err *err);
	void *user;
	bool adopted;
	struct mfs_remote_timing timing;

	pthread_mutex_t lock; /* below */
	pthread_cond_t cond;  /* anything below changed */
	_Atomic bool ending; /* only ever set; may be read without the lock */
	bool starting;
	int sock;             /* -1: none. Owned by the thread that reads it */
	bool drop;            /* somebody found a lie: the reading thread ends the connection */
	bool hello;
	_Atomic int weakened;           /* of the last HELLO; -1: none yet. May be read without the lock */
	unsigned threads;     /* that read: at most one but for one that is on its way out */
	unsigned waiting;     /* requests that hold a place */
	struct mfs_pending *list;
	uint64_t ghosts[REMOTE_GHOSTS]; /* ids whose caller left before their DONE; 0 free */
	int64_t ghost_since;            /* of the first of them, or when the last one ended */
	uint64_t next_id;
	int64_t pinged, ponged;         /* 0: no ping is out */
	uint64_t ping_id;
	int64_t idle_since;
	unsigned failures;              /* connections dropped since the last success */
	int64_t not_before;             /* the next start */
	uint64_t starts, drops;
	char why[512];                  /* the last was dropped for */
};

/* For tests: shorter times. Before the first request. */
void mfs_remote_timing_set(struct mfs_remote *r, const struct mfs_remote_timing *t);

/*
 * Send a request and list p. Starts a fetch if there is none, waits for a place and for the pause
 * after failures as long as that is short.
 *
 * m, type, fd  the frame and its descriptor; the caller keeps fd
 * errors       NET_PROTOCOL (no fetch to be had), CONDITION_UNMET (cancelled, ending), NO_MEMORY, IO
 */
enum mfs_code mfs_remote_begin(struct mfs_remote *r, struct mfs_pending *p, union mfs_wire *m, enum mfs_wire_type type, int fd,
	const _Atomic int *cancel, struct mfs_err *err);

/* Take p out. One that is not done is cancelled, and its id remembered until its DONE comes. */
void mfs_remote_end(struct mfs_remote *r, struct mfs_pending *p, bool success);

/* The connection that p was asked on is of no use any more. */
void mfs_remote_drop(struct mfs_remote *r, const struct mfs_pending *p, const char *why);

/* Wait at most ms for a change; *now is p's state, copied under the lock. */
void mfs_remote_wait(struct mfs_remote *r, const struct mfs_pending *p, unsigned ms, struct mfs_pending *now);

/* Why there is no connection: NET_PROTOCOL with what is known. Takes the lock. */
enum mfs_code mfs_remote_lost(struct mfs_remote *r, struct mfs_err *err);

#endif
