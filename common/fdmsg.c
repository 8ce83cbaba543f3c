/* SPDX-License-Identifier: Apache-2.0 */
#include "fdmsg.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"

ssize_t
mfs_fdmsg_send(int sock, const void *p, size_t n, int fd, int flags)
{
	struct iovec iov = { (void *)(uintptr_t)p, n };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.space);
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
	}
	do
		sent = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
	while (sent < 0 && errno == EINTR);
	return sent;
}

/* Descriptors of one receive: the kernel has made them ours, whatever we think of them. */
static void
rights_take(struct msghdr *msg, struct mfs_fdmsg *got)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (got->n < MFS_FDMSG_MAX) {
				got->fds[got->n++] = fd;
			} else {
				got->cut = true;
				mfs_cleanup_close(&fd);
			}
		}
	}
}

ssize_t
mfs_fdmsg_recv(int sock, void *p, size_t n, int flags, struct mfs_fdmsg *got)
{
	struct iovec iov = { p, n };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(MFS_FDMSG_MAX * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control.space) };
	ssize_t came;

	*got = (struct mfs_fdmsg){ .n = 0 };
	do
		came = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (came < 0 && errno == EINTR);
	if (came < 0)
		return came;
	rights_take(&msg, got);
	got->cut = got->cut || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
	return came;
}

int
mfs_fdmsg_one(struct mfs_fdmsg *got, size_t *came)
{
	*came = got->n;
	for (size_t i = got->n == 1 ? 1 : 0; i < got->n; i++)
		mfs_cleanup_close(&got->fds[i]);
	got->n = 0;
	return *came == 1 ? got->fds[0] : -1;
}
