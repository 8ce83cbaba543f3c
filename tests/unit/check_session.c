/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_session.c - serve's receive loop without a kernel: a SOCK_SEQPACKET pair in place of
 * /dev/fuse, this test in the place of the kernel, and shared memory that outlives a session.
 */
#include <criterion/criterion.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "session.h"
#include "session_init.h"

struct wire { /* a request with one argument block, or a reply */
	union {
		struct fuse_in_header in;
		struct fuse_out_header out;
	} h;
	uint8_t body[512];
};

static struct mfs_shm *shm;
static int kernel_end, dev_end;

static void
init_prepare(void)
{
	struct {
		struct fuse_in_header h;
		struct fuse_init_in in;
	} req = { .h = { .len = sizeof(req), .opcode = FUSE_INIT, .unique = 2 },
		.in = { .major = 7, .minor = 38, .max_readahead = 131072,
			.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_INIT_EXT |
				 FUSE_EXPLICIT_INVAL_DATA | FUSE_CACHE_SYMLINKS | FUSE_AUTO_INVAL_DATA | FUSE_WRITEBACK_CACHE |
				 FUSE_HANDLE_KILLPRIV | FUSE_ATOMIC_O_TRUNC | FUSE_NO_OPEN_SUPPORT,
			.flags2 = 1u << 5 | 1u << 7 } };
	struct mfs_init_offer offer;

	memcpy(shm->init_in, &req, sizeof(req));
	shm->init_in_len = sizeof(req);
	cr_assert_eq(mfs_init_answer(shm->init_in, sizeof(req), true, &offer, shm->init_out, &shm->init_out_len, NULL),
		MFS_OK);
	cr_assert(offer.passthrough && offer.resend);
}

static void
setup(void)
{
	int pair[2];

	shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shm, MAP_FAILED);
	shm->magic = MFS_SHM_MAGIC;
	shm->layout = MFS_SHM_LAYOUT;
	shm->total = sizeof(*shm);
	init_prepare();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	kernel_end = pair[0];
	dev_end = pair[1];
}

/* ---- operations ------------------------------------------------------------------------------- */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_cond = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static int reads_inside;
static _Atomic uint64_t unique_seen;
static struct mfs_session *session;

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = { .st_ino = ino, .st_mode = S_IFREG | 0444 };

	(void)fi;
	unique_seen = mfs_session_current_unique();
	fuse_reply_attr(req, &st, 1);
}

static void
read_slow(void *arg)
{
	pthread_mutex_lock(&gate_lock);
	reads_inside++;
	pthread_cond_broadcast(&gate_cond);
	while (!gate_open)
		pthread_cond_wait(&gate_cond, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
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

static void
session_make(unsigned threads)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_session_new(dev_end, shm, &ops, NULL, &session, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_session_start(session, threads, &err), MFS_OK, "%s", err.msg);
}

static struct wire
request(uint32_t opcode, uint64_t unique)
{
	struct wire w = { 0 };
	size_t arg = opcode == FUSE_GETATTR ? sizeof(struct fuse_getattr_in) :
		     opcode == FUSE_READ    ? sizeof(struct fuse_read_in) :
					      sizeof(struct fuse_forget_in);

	w.h.in = (struct fuse_in_header){ .len = (uint32_t)(sizeof(w.h.in) + arg), .opcode = opcode, .unique = unique,
		.nodeid = 1, .pid = 1 };
	return w;
}

static void
kernel_sends(uint32_t opcode, uint64_t unique)
{
	struct wire w = request(opcode, unique);

	cr_assert_eq(send(kernel_end, &w, w.h.in.len, 0), (ssize_t)w.h.in.len);
}

static struct fuse_out_header
kernel_receives(void)
{
	struct { struct fuse_out_header h; uint8_t body[4096]; } r;

	cr_assert(recv(kernel_end, &r, sizeof(r), 0) >= (ssize_t)sizeof(r.h));
	return r.h;
}

static unsigned
slots_full(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MFS_SLOTS; i++)
		n += ((struct fuse_in_header *)(void *)shm->slots[i].buf)->len != 0;
	return n;
}

static unsigned
parked_full(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MFS_PARKED; i++)
		n += ((struct fuse_in_header *)(void *)shm->parked[i].buf)->len != 0;
	return n;
}

static void
slot_fill(unsigned i, uint32_t opcode, uint64_t unique, uint32_t attempts)
{
	struct wire w = request(opcode, unique);

	memcpy(shm->slots[i].buf, &w, w.h.in.len);
	shm->slots[i].attempts = attempts;
}

static void
gate_set(bool open)
{
	pthread_mutex_lock(&gate_lock);
	gate_open = open;
	pthread_cond_broadcast(&gate_cond);
	pthread_mutex_unlock(&gate_lock);
}

static void
reads_wait(int n)
{
	pthread_mutex_lock(&gate_lock);
	while (reads_inside < n)
		pthread_cond_wait(&gate_cond, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
}

/* ---- INIT ------------------------------------------------------------------------------------- */

Test(session, nothing_unwanted_is_agreed, .init = setup)
{
	struct fuse_init_out out;

	memcpy(&out, shm->init_out + sizeof(struct fuse_out_header), sizeof(out));
	cr_assert_eq(out.flags & (FUSE_CACHE_SYMLINKS | FUSE_AUTO_INVAL_DATA | FUSE_WRITEBACK_CACHE | FUSE_HANDLE_KILLPRIV |
		FUSE_ATOMIC_O_TRUNC | FUSE_NO_OPEN_SUPPORT), 0);
	cr_assert(out.max_background == 64 && out.congestion_threshold == 48 && out.max_write == 4096);
}

Test(session, another_answer_is_refused, .init = setup)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct fuse_init_out *out = (void *)(shm->init_out + sizeof(struct fuse_out_header));

	out->flags |= FUSE_CACHE_SYMLINKS;
	cr_assert_eq(mfs_session_new(dev_end, shm, &ops, NULL, &session, &err), MFS_INTERNAL);
	out->flags &= ~(uint32_t)FUSE_CACHE_SYMLINKS;
	out->max_write = 8192;
	cr_assert_eq(mfs_session_new(dev_end, shm, &ops, NULL, &session, &err), MFS_INTERNAL);
	cr_assert_neq(strstr(err.msg, "max_write"), NULL);
}

Test(session, malformed_init_is_refused, .init = setup)
{
	struct mfs_init_offer offer;
	uint8_t out[256];
	uint32_t len;

	for (size_t n = 0; n < sizeof(struct fuse_in_header) + 16; n++)
		cr_expect_eq(mfs_init_answer(shm->init_in, n, true, &offer, out, &len, NULL), MFS_MALFORMED, "%zu bytes", n);
}

Test(session, memory_of_another_layout_is_refused, .init = setup)
{
	shm->layout++;
	cr_assert_eq(mfs_session_new(dev_end, shm, &ops, NULL, &session, NULL), MFS_INTERNAL);
}

/* ---- requests --------------------------------------------------------------------------------- */

Test(session, request_is_answered_and_its_slot_freed, .init = setup, .timeout = 30)
{
	session_make(4);
	for (uint64_t u = 10; u < 1010; u++) {
		kernel_sends(FUSE_GETATTR, u);
		cr_assert_eq(kernel_receives().unique, u);
		cr_assert_eq(unique_seen, u);
	}
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}

Test(session, forget_frees_its_slot_without_a_reply, .init = setup, .timeout = 30)
{
	session_make(4);
	for (uint64_t u = 10; u < 10 + 2 * MFS_SLOTS; u++)
		kernel_sends(FUSE_FORGET, u);
	kernel_sends(FUSE_GETATTR, 9999);
	cr_assert_eq(kernel_receives().unique, 9999);
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}

Test(session, metadata_is_answered_behind_slow_reads, .init = setup, .timeout = 30)
{
	session_make(4);
	for (uint64_t u = 10; u < 60; u++) /* far more than threads */
		kernel_sends(FUSE_READ, u);
	reads_wait(3);
	kernel_sends(FUSE_GETATTR, 9999);
	cr_assert_eq(kernel_receives().unique, 9999);
	cr_assert(slots_full() >= 3, "those that are worked on still have theirs"); /* the GETATTR's is freed after its reply */
	cr_assert_eq(parked_full(), 47, "every other one is kept where a successor finds it");
	cr_assert_eq(reads_inside, 3, "one thread stays free");
	gate_set(true);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(kernel_receives().error, 0);
	mfs_session_stop(session);
	cr_assert_eq(slots_full() + parked_full(), 0);
	mfs_session_free(session);
}

Test(session, metadata_is_answered_behind_more_slow_reads_than_slots, .init = setup, .timeout = 30)
{
	const int n = 4 * (int)MFS_SLOTS;

	session_make(4);
	for (int i = 0; i < n; i++) {
		kernel_sends(FUSE_READ, (uint64_t)i + 10);
		if (i % 64 == 63) { /* a socket has room for few packets, and this one is only answered if all before were taken */
			kernel_sends(FUSE_GETATTR, 100000);
			cr_assert_eq(kernel_receives().unique, 100000);
		}
	}
	cr_assert_eq(reads_inside, 3);
	gate_set(true);
	for (int i = 0; i < n; i++)
		cr_assert_eq(kernel_receives().error, 0);
	mfs_session_stop(session);
	cr_assert_eq(slots_full() + parked_full(), 0);
	mfs_session_free(session);
}

Test(session, successor_answers_what_is_parked, .init = setup, .timeout = 30)
{
	struct wire w = request(FUSE_READ, 100);
	struct fuse_out_header h;

	memcpy(shm->parked[17].buf, &w, w.h.in.len);
	w.h.in.unique = 101;
	memcpy(shm->parked[18].buf, &w, w.h.in.len);
	shm->parked[18].attempts = 3;
	w.h.in.len = MFS_PARKED_BYTES + 1;
	memcpy(shm->parked[MFS_PARKED - 1].buf, &w, sizeof(w.h.in));
	shm->parked_used = UINT32_MAX; /* damaged: no more than there are */
	gate_set(true);
	session_make(4);
	for (int i = 0; i < 2; i++) {
		h = kernel_receives();
		cr_assert(h.unique == 100 ? h.error == 0 : h.unique == 101 && h.error == -EIO);
	}
	kernel_sends(FUSE_GETATTR, 500);
	cr_assert_eq(kernel_receives().unique, 500);
	mfs_session_stop(session);
	cr_assert_eq(slots_full() + parked_full(), 0);
	mfs_session_free(session);
}

/* What waits for a thread was not begun: however often serve dies meanwhile, it is answered. */
Test(session, waiting_is_no_attempt, .init = setup, .timeout = 30)
{
	unsigned begun = 0;

	session_make(4);
	for (uint64_t u = 10; u < 60; u++)
		kernel_sends(FUSE_READ, u);
	reads_wait(3);
	kernel_sends(FUSE_GETATTR, 9999);
	cr_assert_eq(kernel_receives().unique, 9999);
	for (unsigned i = 0; i < MFS_PARKED; i++)
		begun += shm->parked[i].attempts;
	cr_assert_eq(begun, 0);
	for (unsigned i = 0; i < MFS_SLOTS; i++)
		if (((struct fuse_in_header *)(void *)shm->slots[i].buf)->opcode == FUSE_READ &&
			((struct fuse_in_header *)(void *)shm->slots[i].buf)->len != 0)
			begun += shm->slots[i].attempts;
	cr_assert_eq(begun, 3);
	gate_set(true);
	for (int i = 0; i < 50; i++)
		(void)kernel_receives();
	mfs_session_stop(session);
	mfs_session_free(session);
}

Test(session, more_reads_than_slots_all_get_answers, .init = setup, .timeout = 30)
{
	const int n = MFS_SLOTS + 40;
	int size = 1 << 20;

	(void)setsockopt(kernel_end, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	session_make(4);
	gate_set(true);
	for (int i = 0; i < n; i++) {
		kernel_sends(FUSE_READ, (uint64_t)i + 10);
		if (i % 8 == 7) /* a socket has room for few packets: take some replies in between */
			for (int k = 0; k < 4; k++)
				(void)kernel_receives();
	}
	for (int i = 0; i < n - n / 8 * 4; i++)
		(void)kernel_receives();
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}

Test(session, the_kernels_end_is_told, .init = setup, .timeout = 30)
{
	session_make(4);
	close(kernel_end); /* as ENODEV: read returns 0 */
	mfs_session_stop(session);
	mfs_session_free(session);
}

/* ---- taking over ------------------------------------------------------------------------------ */

Test(session, successor_answers_what_stands_in_the_slots, .init = setup, .timeout = 30)
{
	bool seen[8] = { false };

	for (unsigned i = 0; i < 8; i++)
		slot_fill(i * 31, FUSE_GETATTR, 100 + i, 0);
	slot_fill(5, FUSE_FORGET, 77, 0);
	session_make(4);
	for (int i = 0; i < 8; i++) {
		struct fuse_out_header h = kernel_receives();

		cr_assert(h.unique >= 100 && h.unique < 108 && h.error == 0 && !seen[h.unique - 100]);
		seen[h.unique - 100] = true;
	}
	kernel_sends(FUSE_GETATTR, 500);
	cr_assert_eq(kernel_receives().unique, 500);
	cr_assert_eq(shm->taken_over, 8);
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}

Test(session, resend_is_asked_for_after_the_slots, .init = setup, .timeout = 30)
{
	struct fuse_out_header h;

	shm->kernel_resend = 1;
	slot_fill(3, FUSE_GETATTR, 100, 0);
	session_make(4);
	cr_assert_eq(kernel_receives().unique, 100);
	h = kernel_receives();
	cr_assert(h.unique == 0 && h.error == 7 && h.len == sizeof(h));
	/* The kernel marks what it sends again; the operation sees the same unique as before. */
	kernel_sends(FUSE_GETATTR, 200 | 1ull << 63);
	cr_assert_eq(kernel_receives().unique, 200 | 1ull << 63);
	cr_assert_eq(unique_seen, 200);
	mfs_session_stop(session);
	mfs_session_free(session);
}

Test(session, request_that_three_died_on_gets_eio, .init = setup, .timeout = 30)
{
	struct fuse_out_header h;

	slot_fill(0, FUSE_GETATTR, 100, 3);
	session_make(4);
	h = kernel_receives();
	cr_assert(h.unique == 100 && h.error == -EIO);
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}

Test(session, request_that_two_died_on_is_tried_again, .init = setup, .timeout = 30)
{
	slot_fill(0, FUSE_GETATTR, 100, 2);
	session_make(4);
	cr_assert_eq(kernel_receives().error, 0);
	mfs_session_stop(session);
	mfs_session_free(session);
}

Test(session, malformed_slot_is_dropped, .init = setup, .timeout = 30)
{
	((struct fuse_in_header *)(void *)shm->slots[4].buf)->len = 3;
	((struct fuse_in_header *)(void *)shm->slots[9].buf)->len = MFS_SLOT_BYTES + 1;
	session_make(4);
	kernel_sends(FUSE_GETATTR, 500);
	cr_assert_eq(kernel_receives().unique, 500);
	mfs_session_stop(session);
	cr_assert_eq(slots_full(), 0);
	mfs_session_free(session);
}
