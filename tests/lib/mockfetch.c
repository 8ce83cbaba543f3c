/* SPDX-License-Identifier: Apache-2.0 */
#include "mockfetch.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


static void *
mock_run(void *arg)
{
	struct mock own = *(struct mock *)arg; /* this life's socket, the test's `user` */
	union mfs_wire m;
	bool go = true;
	int fd;

	free(arg);
	memset(&m, 0, sizeof(m));
	m.hello.weakened = own.weakened;
	if (!own.no_hello)
		(void)mfs_wire_send(own.sock, &m, MFS_W_HELLO, 0, -1);
	while (go && mfs_wire_recv(own.sock, false, &m, &fd, NULL) > 0) {
		if (m.head.type == MFS_W_PING) {
			union mfs_wire pong = { 0 };

			if (!own.no_pong)
				(void)mfs_wire_send(own.sock, &pong, MFS_W_PONG, m.head.id, -1);
			continue;
		}
		go = own.on(&own, &m, fd);
		if (fd >= 0)
			(void)close(fd);
	}
	(void)close(own.sock);
	return NULL;
}

enum mfs_code
mock_start(void *mock, int *sock, struct mfs_err *err)
{
	struct mock *k = mock;
	struct mock *l = malloc(sizeof(*l));
	int pair[2];

	(void)signal(SIGPIPE, SIG_IGN);
	if (l == NULL || k->starts == sizeof(k->threads) / sizeof(k->threads[0]) ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		free(l);
		return mfs_fail(err, MFS_IO, "mock");
	}
	*l = *k;
	l->sock = pair[1];
	if (pthread_create(&k->threads[k->starts++], NULL, mock_run, l) != 0)
		abort();
	*sock = pair[0];
	return MFS_OK;
}

void
mock_join(struct mock *k)
{
	for (unsigned i = 0; i < k->starts; i++)
		(void)pthread_join(k->threads[i], NULL);
}

void
mock_headers(struct mock *k, uint64_t id, uint32_t http, uint64_t from, uint64_t length, uint64_t total)
{
	union mfs_wire m;

	memset(&m, 0, sizeof(m));
	m.headers.http = http;
	m.headers.from = from;
	m.headers.length = length;
	m.headers.total = total;
	(void)mfs_wire_send(k->sock, &m, MFS_W_HEADERS, id, -1);
}

void
mock_done(struct mock *k, uint64_t id, enum mfs_code code, uint32_t http, uint64_t sent)
{
	union mfs_wire m;

	memset(&m, 0, sizeof(m));
	m.done.code = (uint32_t)code;
	m.done.http = http;
	m.done.sent = sent;
	m.done.total = MFS_WIRE_UNKNOWN;
	if (code != MFS_OK)
		(void)snprintf(m.done.text, sizeof(m.done.text), "the mock says so");
	(void)mfs_wire_send(k->sock, &m, MFS_W_DONE, id, -1);
}

void
mock_bytes(int fd, size_t n)
{
	char buf[4096];

	memset(buf, 'x', sizeof(buf));
	while (n > 0) {
		ssize_t w = write(fd, buf, n < sizeof(buf) ? n : sizeof(buf));

		if (w <= 0)
			return;
		n -= (size_t)w;
	}
}
