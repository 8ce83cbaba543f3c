/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_remote_fetch.c - serve's end of fetch against one that lies, dies, hangs: the request ends with an
 * error, that fetch is dropped, and the next request gets another one.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "remotefix.h"

/* ---- lies ----------------------------------------------------------------------------------------- */

enum lie {
	LIE_FOREIGN_ID, LIE_OLD_ID, LIE_TWO_HEADERS, LIE_TWO_ENDS, LIE_MORE_BYTES, LIE_FEWER_BYTES, LIE_COUNT, LIE_NO_HEADERS,
	LIE_UNASKED_304, LIE_UNASKED_206, LIE_PONG, LIE_HELLO, LIE_FACTS, LIE_CANCELLED, LIE_GARBAGE, LIE_SHORT_FRAME,
	LIE_DIRECTION, LIE_DESCRIPTOR, LIE_TRUST, LIE_DIES, LIE_DIES_IN_BODY, LIE_HANGS, LIE_STALLS, LIE_NO_END, LIES,
};

static bool
lies(struct mock *k, const union mfs_wire *m, int fd)
{
	const uint64_t id = m->head.id;
	union mfs_wire w;
	bool go = true;

	if (m->head.type != MFS_W_GET)
		return true;
	memset(&w, 0, sizeof(w));
	switch (*(enum lie *)k->user) {
	case LIE_FOREIGN_ID:
		mock_done(k, id + 1000, MFS_OK, 200, 0);
		break;
	case LIE_OLD_ID:
		mock_headers(k, id, 200, 0, 0, 0);
		mock_done(k, id, MFS_OK, 200, 0);
		mock_done(k, id, MFS_OK, 200, 0);
		break;
	case LIE_TWO_HEADERS:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_headers(k, id, 200, 0, 20, 20);
		break;
	case LIE_TWO_ENDS:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_done(k, id, MFS_OK, 200, 10);
		mock_done(k, id, MFS_OK, 200, 10);
		break;
	case LIE_MORE_BYTES:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_bytes(fd, 11);
		mock_done(k, id, MFS_OK, 200, 11);
		break;
	case LIE_FEWER_BYTES:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_bytes(fd, 9);
		mock_done(k, id, MFS_OK, 200, 9);
		break;
	case LIE_COUNT:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_bytes(fd, 10);
		mock_done(k, id, MFS_OK, 200, 9);
		break;
	case LIE_NO_HEADERS:
		mock_done(k, id, MFS_OK, 200, 0);
		break;
	case LIE_UNASKED_304:
		mock_headers(k, id, 304, 0, 0, MFS_WIRE_UNKNOWN);
		break;
	case LIE_UNASKED_206:
		mock_headers(k, id, 206, 0, 10, 20);
		break;
	case LIE_PONG:
		(void)mfs_wire_send(k->sock, &w, MFS_W_PONG, 99, -1);
		break;
	case LIE_HELLO:
		(void)mfs_wire_send(k->sock, &w, MFS_W_HELLO, 0, -1);
		break;
	case LIE_FACTS:
		(void)mfs_wire_send(k->sock, &w, MFS_W_FACTS, id, -1);
		break;
	case LIE_CANCELLED:
		mock_done(k, id, MFS_CONDITION_UNMET, 0, 0);
		break;
	case LIE_GARBAGE:
		(void)send(k->sock, "garbage", 7, 0);
		break;
	case LIE_SHORT_FRAME:
		w.done.head = (struct mfs_wire_head){ MFS_WIRE_VERSION, MFS_W_DONE, sizeof(w.done), id };
		(void)send(k->sock, &w, sizeof(w.done) - 1, 0);
		break;
	case LIE_DIRECTION:
		(void)mfs_wire_send(k->sock, &w, MFS_W_CANCEL, id, -1);
		break;
	case LIE_DESCRIPTOR:
		w.post.size = 1;
		(void)mfs_wire_send(k->sock, &w, MFS_W_POST, id, fd);
		break;
	case LIE_TRUST: /* an outcome that is not its business */
		mock_done(k, id, MFS_REVOKED, 200, 0);
		break;
	case LIE_DIES:
		go = false;
		break;
	case LIE_DIES_IN_BODY:
		mock_headers(k, id, 200, 0, 100, 100);
		mock_bytes(fd, 50);
		go = false;
		break;
	case LIE_HANGS:
		(void)usleep(1500 * 1000); /* also no PONG */
		go = false;
		break;
	case LIE_STALLS:
		break; /* lives, but nothing comes */
	case LIE_NO_END:
		mock_headers(k, id, 200, 0, 10, 10);
		mock_bytes(fd, 10);
		break;
	default:
		break;
	}
	return go;
}

/* One life each: the first lies, those after it do not. */
static enum mfs_code
lying_start(void *user, int *sock, struct mfs_err *err)
{
	struct mock *k = user;

	k->on = k->starts == 0 ? lies : good;
	return mock_start(k, sock, err);
}

Test(remote, every_lie_ends_that_fetch_and_the_next_request_gets_another, .timeout = 120)
{
	for (enum lie lie = 0; lie < LIES; lie++) {
		struct mock k = { .user = &lie };
		struct mfs_remote *r;
		struct mfs_err err = MFS_ERR_INIT;
		uint64_t starts, drops, n = 0;
		enum mfs_code code;

		cr_assert_eq(mfs_remote_new(lying_start, &k, &r, NULL), MFS_OK);
		mfs_remote_timing_set(r, &quick);
		code = ask(r, WHOLE, &n, NULL, &err);
		if (lie != LIE_OLD_ID) /* that request was fine */
			cr_assert_eq(code, MFS_NET_PROTOCOL, "lie %u: %s: %s", lie, mfs_code_name(code), err.msg);
		cr_assert_leq(n, 100);
		for (n = 0, code = MFS_NET_PROTOCOL; code != MFS_OK; n = 0) /* that one may still meet the liar's end */
			code = ask(r, WHOLE, &n, NULL, &err);
		mfs_remote_counts(r, &starts, &drops);
		cr_assert(starts == 2 && drops == 1, "lie %u: %llu starts, %llu drops", lie, (unsigned long long)starts,
			(unsigned long long)drops);
		remote_end(r, &k);
	}
}

/* ---- what a dead one left ---------------------------------------------------------------------------- */

struct heir { /* one fetch dies in the midst of a body with more bytes than it announced; the next one is at work */
	_Atomic bool reads, works, over;
	struct mfs_remote *r;
	enum mfs_code code;
};

static void
await(_Atomic bool *what)
{
	while (!atomic_load(what))
		(void)usleep(500);
}

static bool
leaves_bytes(struct mock *k, const union mfs_wire *m, int fd)
{
	struct heir *h = k->user;

	if (m->head.type != MFS_W_GET)
		return true;
	mock_headers(k, m->head.id, 200, 0, 100, 100);
	mock_bytes(fd, 50);
	await(&h->reads);
	mock_bytes(fd, 51);
	return false;
}

static bool
works(struct mock *k, const union mfs_wire *m, int fd)
{
	struct heir *h = k->user;

	if (m->head.type != MFS_W_GET)
		return true;
	atomic_store(&h->works, true);
	await(&h->over);
	mock_headers(k, m->head.id, 200, 0, 10, 10);
	mock_bytes(fd, 10);
	mock_done(k, m->head.id, MFS_OK, 200, 10);
	return true;
}

static enum mfs_code
heir_start(void *user, int *sock, struct mfs_err *err)
{
	struct mock *k = user;

	k->on = k->starts == 0 ? leaves_bytes : works;
	return mock_start(k, sock, err);
}

static enum mfs_code
slow_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct heir *h = user;

	(void)p, (void)n, (void)err;
	atomic_store(&h->reads, true);
	await(&h->works);
	return MFS_OK;
}

static void *
ask_first(void *arg)
{
	struct heir *h = arg;
	struct mfs_remote_request q = WHOLE;

	q.sink = slow_sink;
	q.user = h;
	h->code = ask(h->r, q, NULL, NULL, NULL);
	atomic_store(&h->over, true);
	return NULL;
}

Test(remote, a_lie_of_a_dead_fetch_does_not_end_the_next_one, .timeout = 120)
{
	struct mfs_remote_timing patient = { .ping_ms = 60000, .silent_ms = 60000, .stall_ms = 60000, .idle_ms = 60000,
		.pause_ms = 1 };
	struct heir h = { .code = MFS_OK };
	struct mock k = { .user = &h };
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t starts, drops = 0;
	enum mfs_code code;
	pthread_t t;

	cr_assert_eq(mfs_remote_new(heir_start, &k, &h.r, NULL), MFS_OK);
	mfs_remote_timing_set(h.r, &patient);
	cr_assert_eq(pthread_create(&t, NULL, ask_first, &h), 0);
	while (drops == 0) { /* its end is noticed */
		(void)usleep(500);
		mfs_remote_counts(h.r, &starts, &drops);
	}
	code = ask(h.r, WHOLE, NULL, NULL, &err);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert_eq(h.code, MFS_NET_PROTOCOL, "%s", mfs_code_name(h.code));
	cr_assert_eq(code, MFS_OK, "the request of the second one: %s", err.msg);
	mfs_remote_counts(h.r, &starts, &drops);
	cr_assert(starts == 2 && drops == 1);
	remote_end(h.r, &k);
}

Test(remote, what_the_sandbox_of_fetch_lacks_is_kept)
{
	struct mock k = { .on = good, .weakened = MFS_WIRE_NO_UID | MFS_WIRE_NO_SECCOMP };
	struct mfs_remote *r = remote_over(&k, &quick);
	unsigned bits = 77;

	cr_assert(!mfs_remote_weakened(r, &bits));
	cr_assert_eq(bits, 0);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_OK);
	cr_assert(mfs_remote_weakened(r, &bits));
	cr_assert_eq(bits, MFS_WIRE_NO_UID | MFS_WIRE_NO_SECCOMP);
	remote_end(r, &k);
}

Test(remote, a_fetch_that_says_nothing_at_all_is_dropped)
{
	struct mock k = { .on = good, .no_hello = true };
	struct mfs_remote *r = remote_over(&k, &quick);

	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_NET_PROTOCOL);
	remote_end(r, &k);
}

static bool
dies(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)k;
	(void)m;
	(void)fd;
	return false;
}

Test(remote, one_that_always_dies_is_started_less_and_less)
{
	struct mfs_remote_timing slow = quick;
	struct mock k = { .on = dies };
	struct mfs_remote *r;
	struct mfs_err err = MFS_ERR_INIT;

	slow.pause_ms = 1000;
	r = remote_over(&k, &slow);
	for (int i = 0; i < 200; i++)
		cr_assert_eq(ask(r, WHOLE, NULL, NULL, &err), MFS_NET_PROTOCOL);
	cr_assert_leq(k.starts, 5);
	cr_assert_not_null(strstr(err.msg, "next start in"), "%s", err.msg);
	remote_end(r, &k);
}

static enum mfs_code
start_fails(void *user, int *sock, struct mfs_err *err)
{
	(void)user;
	(void)sock;
	return mfs_fail(err, MFS_IO, "no keeper");
}

Test(remote, a_start_that_fails_is_an_error_not_a_hang)
{
	struct mfs_remote *r;

	cr_assert_eq(mfs_remote_new(start_fails, NULL, &r, NULL), MFS_OK);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_IO);
	mfs_remote_free(r);
}

static enum mfs_code
start_is_refused(void *user, int *sock, struct mfs_err *err)
{
	struct mock *k = user;

	if ((*(unsigned *)k->user)++ < 2)
		return mfs_fail(err, MFS_CONDITION_UNMET, "a fetch was started a moment ago");
	return mock_start(k, sock, err);
}

Test(remote, keeper_that_says_not_so_fast_is_asked_again)
{
	unsigned asked = 0;
	struct mock k = { .on = good, .user = &asked };
	struct mfs_remote *r;

	cr_assert_eq(mfs_remote_new(start_is_refused, &k, &r, NULL), MFS_OK);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_OK);
	cr_assert_eq(asked, 3);
	remote_end(r, &k);
}

Test(remote, fetch_ends_when_there_is_nothing_to_do)
{
	struct mfs_remote_timing brief = quick;
	struct mock k = { .on = good };
	struct mfs_remote *r;
	uint64_t starts, drops;

	brief.idle_ms = 1;
	r = remote_over(&k, &brief);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_OK);
	mock_join(&k); /* its socket was closed */
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_OK);
	mfs_remote_counts(r, &starts, &drops);
	cr_assert(starts == 2 && drops == 0);
	pthread_join(k.threads[1], NULL);
	mfs_remote_free(r);
}

Test(remote, an_adopted_one_is_not_started_again)
{
	struct mock k = { .on = dies };
	struct mfs_remote *r;
	int sock;

	cr_assert_eq(mock_start(&k, &sock, NULL), MFS_OK);
	cr_assert_eq(mfs_remote_adopt(sock, &r, NULL), MFS_OK);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_NET_PROTOCOL);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, NULL), MFS_NET_PROTOCOL);
	cr_assert_eq(k.starts, 1);
	remote_end(r, &k);
}
