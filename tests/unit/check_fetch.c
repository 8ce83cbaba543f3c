/* SPDX-License-Identifier: Apache-2.0 */
/* check_fetch.c - modelfs-fetch itself, over its socket: what a serve may ask of it that is in order, at the limits. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
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
setup(void)
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
	cr_assert_eq(mfs_fetch_spawn(&(struct mfs_fetch_args){ .config = config, .from = folder, .parent = getpid() }, &sock,
		&pid, &err), MFS_OK, "%s", err.msg);
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
