/* SPDX-License-Identifier: Apache-2.0 */
/* knotify.c - sd_notify(3): one datagram to NOTIFY_SOCKET. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "keeper.h"

void
mfs_notify(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mfs_autoclose int s = -1;
	char text[600];
	size_t len;
	va_list ap;
	int n;

	if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(a.sun_path))
		return;
	len = strlen(path);
	memcpy(a.sun_path, path, len);
	if (path[0] == '@')
		a.sun_path[0] = '\0'; /* abstract */
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n <= 0 || s < 0)
		return;
	(void)sendto(s, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT,
		(struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
