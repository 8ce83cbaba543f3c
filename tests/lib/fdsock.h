/* SPDX-License-Identifier: Apache-2.0 */
/* fdsock.h - what a peer may send over a local socket, and whether a descriptor stayed open. */
#ifndef FDSOCK_H
#define FDSOCK_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static inline unsigned
descriptors_open(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Send n bytes with the given descriptors (at most 8) beside them. */
static inline void
raw_send(int sock, const void *buf, size_t n, const int *fds, size_t n_fds)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	cr_assert_eq(sendmsg(sock, &msg, 0), (ssize_t)n);
}

#endif
