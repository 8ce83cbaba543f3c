/* SPDX-License-Identifier: Apache-2.0 */
/* knotify.c - sd_notify(3): one datagram to NOTIFY_SOCKET. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fdmsg.h"
#include "keeper.h"

static void
datagram_send(const char *text, size_t len, int fd)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mfs_autoclose int s = -1;
	size_t n;

	if (path == NULL || (path[0] != '/' && path[0] != '@') || (n = strlen(path)) >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, n);
	if (path[0] == '@')
		a.sun_path[0] = '\0'; /* abstract */
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s >= 0 && connect(s, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 0)
		(void)mfs_fdmsg_send(s, text, len, fd, MSG_DONTWAIT);
}

void
mfs_notify(const char *fmt, ...)
{
	char text[600];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		datagram_send(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, -1);
}

void
mfs_notify_fd(int fd, const char *name)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

	datagram_send(text, (size_t)n, fd);
}
