/* SPDX-License-Identifier: Apache-2.0 */
/* check_fetch.c - modelfs-fetch itself, over its socket: what a serve may ask of it that is in order, at the limits. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "kfetch.h"
#include "scratch.h"
#include "wire.h"

#define BYTES (3u << 20) /* more than a pipe and what fetch holds back */

static char folder[256];
static struct mfs_config *config;
static int sock = -1;
static pid_t pid;

static void
setup_from(const char *from, uint64_t bandwidth)
{
	static const char text[] = "trust: {keys: [k.pem]}\nmount: /m\nstate: /s\nstore: /t\nmodels: {det: {}}\n";
	mfs_autofree uint8_t *bytes = calloc(BYTES, 1);
	struct mfs_config_snapshot *s;
	struct mfs_err err = MFS_ERR_INIT;
	int fd = scratch_make(folder, "fetch"), targets;

	cr_assert_not_null(bytes);
	targets = scratch_folder(fd, "targets");
	scratch_write(targets, "big", bytes, BYTES);
	cr_assert(fchmod(fd, 0755) == 0 && fchmod(targets, 0755) == 0 && fchmodat(targets, "big", 0644, 0) == 0);
	(void)close(targets);
	(void)close(fd);
	cr_assert_eq(mfs_config_text("/etc/modelfs/m.yaml", text, sizeof(text) - 1, &s, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_config_parse(s, &config, &err), MFS_OK, "%s", err.msg);
	mfs_config_snapshot_free(s);
	config->sandbox_optional = true; /* of no concern here */
	config->update.bandwidth = bandwidth;
	cr_assert_eq(mfs_fetch_spawn(&(struct mfs_fetch_args){ .config = config, .from = from, .parent = getpid() }, &sock,
		&pid, &err), MFS_OK, "%s", err.msg);
}

static void
setup(void)
{
	setup_from(folder, 0);
}

static void
teardown(void)
{
	(void)close(sock);
	(void)waitpid(pid, NULL, 0);
	mfs_config_free(config);
	scratch_remove(folder);
}

TestSuite(fetch, .init = setup, .fini = teardown, .timeout = 60);

/* The next frame; 0: fetch has ended. */
static uint16_t
answer(union mfs_wire *m)
{
	int fd = -1, got = mfs_wire_recv(sock, true, m, &fd, NULL);

	cr_assert_geq(got, 0);
	return got == 0 ? 0 : m->head.type;
}

/* Ask for the file; the end of the pipe that serve keeps. */
static int
get(uint64_t id)
{
	union mfs_wire m = { 0 };
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	m.get.mirror = -1;
	m.get.kind = MFS_WIRE_TARGET;
	m.get.cap = BYTES;
	(void)snprintf(m.get.path, sizeof(m.get.path), "big");
	cr_assert_eq(mfs_wire_send(sock, &m, MFS_W_GET, id, ends[1]), 0);
	(void)close(ends[1]);
	return ends[0];
}

/* Every place is taken by a request whose bytes nobody reads; one is cancelled, and another asked for at once. */
Test(fetch, a_place_is_free_as_soon_as_its_request_is_cancelled)
{
	int pipes[MFS_WIRE_REQUESTS + 1];
	union mfs_wire m = { 0 };
	bool done = false, pong = false;
	uint64_t id;

	cr_assert_eq(answer(&m), MFS_W_HELLO, "%s", "it could not start");
	for (id = 1; id <= MFS_WIRE_REQUESTS; id++) {
		pipes[id - 1] = get(id);
		cr_assert_eq(answer(&m), MFS_W_HEADERS);
		cr_assert_eq(m.headers.http, 200u);
	}
	(void)kill(pid, SIGSTOP); /* so that it finds both at once */
	cr_assert_eq(mfs_wire_send(sock, &m, MFS_W_CANCEL, 1, -1), 0);
	pipes[MFS_WIRE_REQUESTS] = get(id);
	cr_assert_eq(mfs_wire_send(sock, &m, MFS_W_PING, id + 1, -1), 0);
	(void)kill(pid, SIGCONT);
	for (bool headers = false; !headers || !done || !pong;) {
		switch (answer(&m)) {
		case MFS_W_DONE:
			cr_assert_eq(m.head.id, 1u);
			done = true;
			break;
		case MFS_W_HEADERS:
			cr_assert_eq(m.head.id, id);
			headers = true;
			break;
		case MFS_W_PONG:
			pong = true;
			break;
		default:
			cr_assert(false, "it ended");
		}
	}
	for (size_t i = 0; i <= MFS_WIRE_REQUESTS; i++)
		(void)close(pipes[i]);
}

/* A serve that asks for more than it may is none: fetch ends. */
Test(fetch, one_request_too_many_ends_it)
{
	int pipes[MFS_WIRE_REQUESTS + 1];
	union mfs_wire m = { 0 };
	uint16_t type;

	for (uint64_t id = 1; id <= MFS_WIRE_REQUESTS + 1; id++)
		pipes[id - 1] = get(id);
	while ((type = answer(&m)) == MFS_W_HELLO || type == MFS_W_HEADERS)
		;
	cr_assert_eq(type, 0);
	for (size_t i = 0; i <= MFS_WIRE_REQUESTS; i++)
		(void)close(pipes[i]);
}

/* ---- bandwidth ---------------------------------------------------------------------------------------- */

#define LONG  2000000u
#define SHORT 400000u

/* A request for .../long or .../short is answered with so many bytes. */
static void *
serve_one(void *arg)
{
	const int s = *(int *)arg;
	mfs_autofree uint8_t *bytes = calloc(LONG, 1);
	char text[4096] = "", head[128];
	size_t n = 0, len;
	ssize_t got;

	free(arg);
	while (n + 1 < sizeof(text) && strstr(text, "\r\n\r\n") == NULL && (got = recv(s, text + n, sizeof(text) - 1 - n, 0)) > 0) {
		n += (size_t)got;
		text[n] = '\0';
	}
	len = strstr(text, "/long ") != NULL ? LONG : SHORT;
	(void)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", len);
	if (bytes != NULL && send(s, head, strlen(head), MSG_NOSIGNAL) > 0)
		for (size_t at = 0; at < len && (got = send(s, bytes + at, len - at, MSG_NOSIGNAL)) > 0;)
			at += (size_t)got;
	(void)close(s);
	return NULL;
}

static void *
server(void *arg)
{
	const int listener = *(int *)arg;

	for (int s; (s = accept(listener, NULL, NULL)) >= 0;) {
		int *own = malloc(sizeof(*own));
		pthread_t t;

		*own = s;
		if (pthread_create(&t, NULL, serve_one, own) == 0)
			(void)pthread_detach(t);
	}
	return NULL;
}

static int
get_named(uint64_t id, const char *name)
{
	union mfs_wire m = { 0 };
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	m.get.mirror = -1;
	m.get.kind = MFS_WIRE_TARGET;
	m.get.cap = LONG;
	(void)snprintf(m.get.path, sizeof(m.get.path), "%s", name);
	cr_assert_eq(mfs_wire_send(sock, &m, MFS_W_GET, id, ends[1]), 0);
	(void)close(ends[1]);
	return ends[0];
}

/* What can be read now. True at its end. */
static bool
drain(int fd, size_t *bytes)
{
	static uint8_t buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		*bytes += (size_t)n;
	return n == 0;
}

/* One request after the other is newer than the first: it gets its part of the bandwidth all the same. */
Test(fetch_bandwidth, the_newest_request_does_not_take_all_of_it, .timeout = 60)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), first, second;
	size_t first_bytes = 0, second_bytes = 0;
	socklen_t len = sizeof(at);
	union mfs_wire m = { 0 };
	char url[64];
	pthread_t t;

	cr_assert_eq(bind(listener, (const struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 8), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	cr_assert_eq(pthread_create(&t, NULL, server, &listener), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(at.sin_port));
	setup_from(url, 800000);
	cr_assert_eq(answer(&m), MFS_W_HELLO);
	first = get_named(1, "long");
	cr_assert_eq(answer(&m), MFS_W_HEADERS);
	for (uint64_t id = 2; id <= 4; id++) {
		second = get_named(id, "short");
		for (bool end = false; !end;) {
			struct pollfd p[2] = { { .fd = second, .events = POLLIN }, { .fd = first, .events = POLLIN } };

			(void)poll(p, 2, 100);
			(void)drain(first, &first_bytes);
			end = drain(second, &second_bytes);
		}
		(void)close(second);
	}
	cr_assert_eq(second_bytes, 3 * SHORT);
	cr_assert_gt(first_bytes, SHORT, "%zu bytes beside %zu", first_bytes, second_bytes);
	(void)close(first);
	(void)shutdown(listener, SHUT_RDWR);
	cr_assert_eq(pthread_join(t, NULL), 0);
	(void)close(listener);
	teardown();
}
