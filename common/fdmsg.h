/* SPDX-License-Identifier: Apache-2.0 */
/* fdmsg.h - bytes over a local socket, and a descriptor beside them. */
#ifndef MFS_FDMSG_H
#define MFS_FDMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * As send(2) with MSG_NOSIGNAL and these flags, with a descriptor beside the bytes unless fd is -1; the caller
 * keeps its own. Asks again after EINTR.
 */
ssize_t mfs_fdmsg_send(int sock, const void *p, size_t n, int fd, int flags);

#define MFS_FDMSG_MAX 4u /* descriptors that one receive can take */

struct mfs_fdmsg { /* what came beside the bytes */
	int fds[MFS_FDMSG_MAX];
	size_t n; /* of them; close-on-exec, the caller's */
	bool cut; /* a frame longer than the buffer, or more descriptors: the surplus is closed */
};

/* As recv(2) with these flags; asks again after EINTR. The result 0 with n == 0 is the end of the stream. */
ssize_t mfs_fdmsg_recv(int sock, void *p, size_t n, int flags, struct mfs_fdmsg *got);

/*
 * For who expects one descriptor at most: it, or -1, and how many came. All others are closed; with too many
 * that one as well.
 */
int mfs_fdmsg_one(struct mfs_fdmsg *got, size_t *came);

#endif
