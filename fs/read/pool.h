/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a few threads that take half of a large read: hashing and decrypting 1 MiB takes one
 * core a millisecond, and the kernel's read-ahead asks for one at a time.
 */
#ifndef MFS_POOL_H
#define MFS_POOL_H

#include <stdbool.h>

struct mfs_pool;

struct mfs_pool_job { /* the caller's, until mfs_pool_wait returned, or fn of a pushed one was called */
	void (*fn)(void *arg);
	void *arg;
	struct mfs_pool_job *next; /* the pool's, as all below */
	bool pushed;
	enum { MFS_JOB_QUEUED, MFS_JOB_RUNNING, MFS_JOB_DONE } state;
};

/* threads: at most; they start with the first job. NULL without memory or with 0 threads. */
struct mfs_pool *mfs_pool_new(unsigned threads);
void mfs_pool_free(struct mfs_pool *p); /* accepts NULL; no job may be under way */

/* Queue a job if a thread is free for it; false: the caller does the work itself. p may be NULL. Threads any. */
bool mfs_pool_try(struct mfs_pool *p, struct mfs_pool_job *j);

/*
 * Queue a job that nobody waits for, also while every thread is busy. False: no thread could be
 * started. p may be NULL. Threads any.
 */
bool mfs_pool_push(struct mfs_pool *p, struct mfs_pool_job *j);

/* Until a queued job is done; runs it here if no thread has taken it yet. */
void mfs_pool_wait(struct mfs_pool *p, struct mfs_pool_job *j);

#endif
