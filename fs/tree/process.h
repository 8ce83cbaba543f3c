/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - who asks: the identity of the process behind a FUSE header's pid (a thread id in
 * serve's pid namespace). tgid and pidfs inode from pidfd_open(tid, PIDFD_THREAD) and
 * PIDFD_GET_INFO (Linux 6.13), else tgid and start time from /proc. Never reused while it matters.
 * Threads any.
 */
#ifndef MFS_PROCESS_H
#define MFS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mfs_process {
	uint64_t id;     /* pidfs inode or start time; in cgroup mode the cgroup's id */
	pid_t tgid;      /* 0 in cgroup mode */
	bool by_proc;    /* id is a start time */
};

/* False when the process is gone, hidden, or pid is 0. cgroup: identify its cgroup instead. */
bool mfs_process_of(pid_t tid, bool cgroup, struct mfs_process *out);

/* Is that very process still running? Of a cgroup: always true. */
bool mfs_process_alive(const struct mfs_process *p);

static inline bool
mfs_process_equal(const struct mfs_process *a, const struct mfs_process *b)
{
	return a->id == b->id && a->tgid == b->tgid && a->by_proc == b->by_proc;
}

#endif
