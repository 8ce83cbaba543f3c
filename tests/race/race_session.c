/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race_session.c - the receive loop under load: many requests, replies from other threads than
 * those that read them, stops in the middle, successors that take over what was left.
 * A plain main, for ThreadSanitizer.
 */
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session.h"
#include "session_init.h"

#define REQUESTS 6000u
#define ROUNDS   6u
#define WINDOW   64u /* unanswered at a time: as max_background bounds the kernel's */

static struct mfs_shm *shm;
static struct mfs_session *session;
static int kernel_end;
static _Atomic unsigned sent, answered, errors;
static _Atomic uint8_t seen[REQUESTS + 1];

static void
check(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "race_session: %s\n", what);
		_exit(1);
	}
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = { .st_ino = ino, .st_mode = S_IFREG | 0444 };

	(void)fi;
	fuse_reply_attr(req, &st, 1);
}

static void
read_slow(void *arg)
{
	usleep(50);
	fuse_reply_buf(arg, "data", 4);
}

static void
op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino, (void)size, (void)off, (void)fi;
	if (!mfs_session_slow_begin(session, read_slow, req))
		return;
	read_slow(req);
	mfs_session_slow_end(session);
}

static const struct fuse_lowlevel_ops ops = { .getattr = op_getattr, .read = op_read };

static void *
kernel_sends(void *arg)
{
	(void)arg;
	for (unsigned u = 1; u <= REQUESTS; u++) {
		struct {
			struct fuse_in_header h;
			uint8_t body[sizeof(struct fuse_read_in)];
		} r = { .h = { .opcode = u % 3 == 0 ? FUSE_GETATTR : FUSE_READ, .unique = 2ull * u, .nodeid = 1, .pid = 1 } };

		r.h.len = sizeof(r.h) + (u % 3 == 0 ? (uint32_t)sizeof(struct fuse_getattr_in) : (uint32_t)sizeof(r.body));
		while (sent - answered >= WINDOW)
			usleep(20);
		check(send(kernel_end, &r, r.h.len, 0) == (ssize_t)r.h.len, "send");
		sent++;
	}
	return NULL;
}

/* A reply may come twice: a session that stopped between writing it and freeing the slot. */
static void *
kernel_receives(void *arg)
{
	(void)arg;
	while (answered < REQUESTS) {
		struct {
			struct fuse_out_header h;
			uint8_t body[4096];
		} r;

		check(recv(kernel_end, &r, sizeof(r), 0) >= (ssize_t)sizeof(r.h), "receive");
		check(r.h.unique % 2 == 0 && r.h.unique / 2 >= 1 && r.h.unique / 2 <= REQUESTS, "a reply to no request");
		if (r.h.error != 0)
			errors++;
		if (atomic_exchange(&seen[r.h.unique / 2], 1) == 0)
			answered++;
	}
	return NULL;
}

static void
init_prepare(void)
{
	struct {
		struct fuse_in_header h;
		struct fuse_init_in in;
	} req = { .h = { .len = sizeof(req), .opcode = FUSE_INIT, .unique = 2 },
		.in = { .major = 7, .minor = 38, .max_readahead = 131072, .flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES } };
	struct mfs_init_offer offer;

	shm->magic = MFS_SHM_MAGIC;
	shm->layout = MFS_SHM_LAYOUT;
	shm->total = sizeof(*shm);
	memcpy(shm->init_in, &req, sizeof(req));
	shm->init_in_len = sizeof(req);
	check(mfs_init_answer(shm->init_in, sizeof(req), false, &offer, shm->init_out, &shm->init_out_len, NULL) == MFS_OK,
		"INIT");
}

int
main(void)
{
	pthread_t sender, receiver;
	int pair[2];

	shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(shm != MAP_FAILED && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "setup");
	init_prepare();
	kernel_end = pair[0];
	check(pthread_create(&sender, NULL, kernel_sends, NULL) == 0, "thread");
	check(pthread_create(&receiver, NULL, kernel_receives, NULL) == 0, "thread");
	for (unsigned round = 1; round <= ROUNDS; round++) {
		struct mfs_err err = MFS_ERR_INIT;

		check(mfs_session_new(pair[1], shm, &ops, NULL, &session, &err) == MFS_OK, err.msg);
		check(mfs_session_start(session, 4, &err) == MFS_OK, err.msg);
		while (answered < REQUESTS * round / ROUNDS)
			usleep(200);
		mfs_session_free(session);
	}
	pthread_join(sender, NULL);
	pthread_join(receiver, NULL);
	check(errors == 0, "a request got an error");
	for (unsigned i = 0; i < MFS_SLOTS; i++)
		check(((struct fuse_in_header *)(void *)shm->slots[i].buf)->len == 0, "a slot is still full");
	printf("race_session: %u requests, %u sessions, no error\n", REQUESTS, ROUNDS);
	return 0;
}
