/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - serve's end of /dev/fuse: INIT replay, request slots in shared memory, own receive
 * loop in which one thread is always free for metadata.
 */
#ifndef MFS_SESSION_H
#define MFS_SESSION_H

#include <fuse_lowlevel.h>

#include "shm.h"

struct mfs_session;

/*
 * Make a libfuse session on the connection, replay the saved INIT and compare its (swallowed)
 * reply with keeper's. One session per process: libfuse gives its hooks only `user`.
 *
 * dev   stays the caller's
 * ops   copied; its init is not used: what is asked of the kernel is keeper's answer, nothing else
 * errors INTERNAL (the replies differ, or the memory is of another layout), NO_MEMORY
 */
enum mfs_code mfs_session_new(int dev, struct mfs_shm *shm, const struct fuse_lowlevel_ops *ops, void *user,
	struct mfs_session **out, struct mfs_err *err);

/*
 * Called once, from a thread of the session, when the kernel has ended the connection (unmounted
 * or aborted): nothing will be received any more. Set before mfs_session_start.
 */
void mfs_session_on_end(struct mfs_session *s, void (*fn)(void *user), void *user);

/*
 * Run `threads` threads: they answer the full slots a dead predecessor left, ask for the rest
 * (RESEND, where it exists), then receive. At least 2. errors IO, NO_MEMORY
 */
enum mfs_code mfs_session_start(struct mfs_session *s, unsigned threads, struct mfs_err *err);

/* Stop receiving, finish what is in flight, join. The connection stays with keeper. */
void mfs_session_stop(struct mfs_session *s);
void mfs_session_free(struct mfs_session *s);

/*
 * Called by the read operation: may this thread do slow work (disk, crypto) now? True: do it and
 * call mfs_session_slow_end(). False: it was the last thread free for metadata; fn(arg) will be
 * run by another thread that may (the operation returns without replying), between a begin and an
 * end of the session's own: fn calls neither.
 */
bool mfs_session_slow_begin(struct mfs_session *s, void (*fn)(void *arg), void *arg);
void mfs_session_slow_end(struct mfs_session *s);

/*
 * A request that is answered much later than its operation returns. _park: of the thread's present
 * request; its slot is free for others then, and its place is returned. Later, in any thread, _answer
 * calls fn(arg), which replies to it.
 */
int mfs_session_park(struct mfs_session *s);
void mfs_session_answer(struct mfs_session *s, int place, void (*fn)(void *arg), void *arg);

/*
 * The `unique` of the request that this thread is processing (thread-local, set before
 * fuse_session_process_buf); 0 outside a request. libfuse has no accessor for it, and the handle
 * table needs it to know a repeated OPEN.
 */
uint64_t mfs_session_current_unique(void);

/*
 * Tell the kernel that every cached name may be out of date (NOTIFY_INC_EPOCH, Linux 6.16): takes
 * no inode or folio lock. A kernel that does not know it (EINVAL) is not asked again. s may be
 * NULL (not started yet). Never waits. Threads any.
 */
void mfs_session_epoch(struct mfs_session *s);

#endif
