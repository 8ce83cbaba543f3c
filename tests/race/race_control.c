/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers on one control socket at once: status, events, changes, checks, hang-ups in the middle, and
 * a stop while they go on. A plain main, since a ThreadSanitizer build does not start under
 * Criterion. Ends with 0 when every answer was whole.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client.h"
#include "device.h"
#include "log.h"
#include "serve.h"

#define ROUNDS 30
#define PEERS  6

#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "race_control: %s\n", #condition);                          \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

static struct device d;
static struct mfs_serve serve;
static _Atomic unsigned answered;

static void
ask(enum mfs_ctl_command command)
{
	struct mfs_ctl_request r = { .command = command, .timeout_ms = 50, .model = "det", .json = true };
	struct mfs_ctl_reply reply;

	if (mfs_client_ask(d.config, &r, 20000, NULL, NULL, &reply, NULL) == MFS_OK)
		atomic_fetch_add(&answered, 1);
	json_decref(reply.body);
}

/* Say half of something, or all of it, and go away. */
static void
hang_up(const char *what)
{
	int fd;

	if (mfs_client_connect(d.config, &fd, NULL) != MFS_OK)
		return;
	(void)send(fd, what, strlen(what), MSG_NOSIGNAL);
	(void)close(fd);
}

static void *
peer(void *arg)
{
	size_t me = *(size_t *)arg;

	for (int i = 0; i < ROUNDS; i++) {
		ask(me % 2 == 0 ? MFS_CTL_STATUS : MFS_CTL_EVENTS);
		ask(me % 3 == 0 ? MFS_CTL_UNPIN : MFS_CTL_WAIT);
		if (me == 0)
			ask(MFS_CTL_VERIFY);
		hang_up("{\"format\":\"modelfs-con");
		hang_up("{\"format\":\"modelfs-control/1\",\"command\":\"verify\",\"model\":\"det\"}\n");
		hang_up("{\"format\":\"modelfs-control/1\",\"command\":\"events\",\"follow\":true}\n");
		mfs_event(d.events, &(struct mfs_event){ .model = "det", .code = MFS_OK, .source = "race", .detail = "again" });
	}
	return NULL;
}

static int
listen_on(const char *run)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	REQUIRE(mkdir(run, 0755) == 0);
	REQUIRE(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control", run) < (int)sizeof(addr.sun_path));
	REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 128) == 0);
	return fd;
}

int
main(void)
{
	struct mk_bundle b = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;
	pthread_t threads[PEERS];
	size_t names[PEERS];
	char run[300];
	int listener;

	mfs_log_open("race", (enum mfs_level)0);
	device_make(&d, "");
	device_open(&d);
	b.model_key = &d.model_key;
	device_install(&d, &b, &id);
	(void)snprintf(run, sizeof(run), "%s/run", d.root);
	free(d.config->run);
	REQUIRE((d.config->run = strdup(run)) != NULL);
	listener = listen_on(run);
	serve = (struct mfs_serve){ .config = d.config, .keys = d.keys, .store = d.store, .cache = d.cache, .events = d.events,
		.engine = d.engine, .state_dirfd = d.state_fd };
	serve.shm = mmap(NULL, sizeof(*serve.shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(serve.shm != MAP_FAILED);
	serve.shm->rootless = geteuid() != 0;
	REQUIRE(mfs_control_start(&serve, listener, &serve.control, &err) == MFS_OK);
	for (size_t i = 0; i < PEERS; i++) {
		names[i] = i;
		REQUIRE(pthread_create(&threads[i], NULL, peer, &names[i]) == 0);
	}
	for (size_t i = 0; i + 1 < PEERS; i++)
		REQUIRE(pthread_join(threads[i], NULL) == 0);
	(void)shutdown(listener, SHUT_RDWR); /* nobody new; who is connected is answered by the stop */
	mfs_control_stop(serve.control);
	(void)close(listener);
	REQUIRE(pthread_join(threads[PEERS - 1], NULL) == 0);
	REQUIRE(atomic_load(&answered) > PEERS * ROUNDS);
	(void)munmap(serve.shm, sizeof(*serve.shm));
	device_close(&d);
	device_free(&d);
	printf("race_control: %u answers\n", atomic_load(&answered));
	return 0;
}
