/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_remote.c - serve's end of fetch against one that lies, dies, hangs: the request ends with an
 * error, that fetch is dropped, and the next request gets another one.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "mockfetch.h"
#include "remote_int.h"

static const struct mfs_remote_timing quick = { .ping_ms = 100, .silent_ms = 600, .stall_ms = 1500, .idle_ms = 60000,
	.pause_ms = 1 };

static struct mfs_remote *
remote_over(struct mock *k, const struct mfs_remote_timing *t)
{
	struct mfs_remote *r;

	cr_assert_eq(mfs_remote_new(mock_start, k, &r, NULL), MFS_OK);
	mfs_remote_timing_set(r, t);
	return r;
}

static void
remote_end(struct mfs_remote *r, struct mock *k)
{
	mfs_remote_free(r);
	mock_join(k);
}

static enum mfs_code
count_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	(void)err;
	for (size_t i = 0; i < n; i++)
		if (((const char *)p)[i] != 'x')
			return mfs_fail(err, MFS_HASH_MISMATCH, "another byte");
	*(uint64_t *)user += n;
	return MFS_OK;
}

/* Ask; what came is added to *n. */
static enum mfs_code
ask(struct mfs_remote *r, struct mfs_remote_request q, uint64_t *n, struct mfs_remote_result *res, struct mfs_err *err)
{
	struct mfs_remote_result own;
	struct mfs_err own_err = MFS_ERR_INIT;
	uint64_t own_n = 0;

	q.mirror = -1;
	if (q.kind == 0) {
		q.kind = MFS_REMOTE_METADATA;
		q.path = "timestamp.json";
	}
	if (q.cap == 0)
		q.cap = 10000;
	q.sink = q.sink != NULL ? q.sink : count_sink;
	q.user = q.user != NULL ? q.user : n != NULL ? n : &own_n;
	return mfs_remote_get(r, &q, res != NULL ? res : &own, err != NULL ? err : &own_err);
}
#define WHOLE ((struct mfs_remote_request){ 0 })
#define RANGE(f, l) ((struct mfs_remote_request){ .from = (f), .length = (l) })

/* ---- a good one --------------------------------------------------------------------------------- */

/* A file of 5000 bytes at a server that knows ranges; answers conditions and takes posts. */
static bool
good(struct mock *k, const union mfs_wire *m, int fd)
{
	const uint64_t id = m->head.id, size = 5000;
	union mfs_wire facts;

	if (m->head.type == MFS_W_GET) {
		uint64_t n = m->get.length == 0 ? size : m->get.from >= size ? 0
			: m->get.length < size - m->get.from ? m->get.length : size - m->get.from;

		mock_headers(k, id, m->get.length == 0 ? 200 : 206, m->get.from, n, size);
		mock_bytes(fd, n);
		mock_done(k, id, MFS_OK, 200, n);
	} else if (m->head.type == MFS_W_POST) {
		mock_done(k, id, MFS_OK, 200, 0);
	} else if (m->head.type == MFS_W_CONDITIONS) {
		memset(&facts, 0, sizeof(facts));
		facts.facts.battery = 40;
		facts.facts.metered = MFS_METERED_YES;
		(void)mfs_wire_send(k->sock, &facts, MFS_W_FACTS, id, -1);
	} else if (m->head.type == MFS_W_CANCEL) {
		mock_done(k, id, MFS_CONDITION_UNMET, 0, 0);
	}
	return true;
}

Test(remote, whole_files_ranges_conditions_posts)
{
	struct mock k = { .on = good };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_result res;
	struct mfs_wire_facts facts;
	uint64_t n = 0, starts, drops;
	uint8_t *p;
	size_t len;

	cr_assert_eq(ask(r, WHOLE, &n, &res, NULL), MFS_OK);
	cr_assert(n == 5000 && res.received == 5000 && res.total == 5000 && res.from == 0 && res.http == 200);
	n = 0;
	cr_assert_eq(ask(r, RANGE(100, 50), &n, &res, NULL), MFS_OK);
	cr_assert(n == 50 && res.from == 100 && res.total == 5000 && res.http == 206);
	n = 0;
	cr_assert_eq(ask(r, RANGE(4990, 50), &n, &res, NULL), MFS_OK, "the file ends within the range");
	cr_assert(n == 10 && res.total == 5000);
	cr_assert_eq(mfs_remote_read(r, &(struct mfs_remote_request){ .mirror = -1, .kind = MFS_REMOTE_TARGET, .path = "a/b",
		.cap = 5000 }, &p, &len, &res, NULL), MFS_OK);
	cr_assert(len == 5000 && p[4999] == 'x' && p[5000] == 0);
	free(p);
	cr_assert_eq(mfs_remote_conditions(r, NULL, &facts, NULL), MFS_OK);
	cr_assert(facts.battery == 40 && facts.metered == MFS_METERED_YES);
	cr_assert_eq(mfs_remote_post(r, "{}", 2, 1000, NULL, &res, NULL), MFS_OK);
	mfs_remote_counts(r, &starts, &drops);
	cr_assert(starts == 1 && drops == 0);
	remote_end(r, &k);
}

Test(remote, requests_that_cannot_be_never_leave)
{
	struct mock k = { .on = good };
	struct mfs_remote *r = remote_over(&k, &quick);

	cr_assert_neq(ask(r, (struct mfs_remote_request){ .kind = MFS_REMOTE_METADATA, .path = "../x" }, NULL, NULL, NULL), MFS_OK);
	cr_assert_neq(ask(r, (struct mfs_remote_request){ .kind = MFS_REMOTE_METADATA, .path = "" }, NULL, NULL, NULL), MFS_OK);
	cr_assert_neq(ask(r, (struct mfs_remote_request){ .kind = MFS_REMOTE_METADATA }, NULL, NULL, NULL), MFS_OK);
	cr_assert_neq(ask(r, (struct mfs_remote_request){ .from = 5 }, NULL, NULL, NULL), MFS_OK);
	cr_assert_neq(ask(r, (struct mfs_remote_request){ .length = 10001 }, NULL, NULL, NULL), MFS_OK);
	cr_assert_eq(k.starts, 0);
	remote_end(r, &k);
}

/* ---- what servers do ------------------------------------------------------------------------------ */

static bool
ignores_ranges(struct mock *k, const union mfs_wire *m, int fd)
{
	if (m->head.type == MFS_W_GET) {
		mock_headers(k, m->head.id, 200, 0, 5000, 5000);
		mock_bytes(fd, 5000);
		mock_done(k, m->head.id, MFS_OK, 200, 5000);
	}
	return true;
}

Test(remote, a_server_without_ranges_is_read_over_if_that_is_allowed)
{
	struct mock k = { .on = ignores_ranges };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_request q = RANGE(100, 50);
	struct mfs_remote_result res;
	uint64_t n = 0, starts, drops;

	cr_assert_eq(ask(r, q, &n, NULL, NULL), MFS_NET_PROTOCOL);
	cr_assert_eq(n, 0);
	q.discard = 149;
	cr_assert_eq(ask(r, q, &n, NULL, NULL), MFS_NET_PROTOCOL);
	cr_assert_eq(n, 0);
	q.discard = 150;
	cr_assert_eq(ask(r, q, &n, &res, NULL), MFS_OK);
	cr_assert(n == 50 && res.from == 100 && res.http == 200 && res.received >= 150 && res.total == 5000);
	q = RANGE(6000, 50);
	q.discard = 10000;
	cr_assert_eq(ask(r, q, &n, NULL, NULL), MFS_NET_PROTOCOL, "the file ends before the range");
	n = 0;
	q = RANGE(0, 5000);
	cr_assert_eq(ask(r, q, &n, NULL, NULL), MFS_OK, "the range is all of it");
	cr_assert_eq(n, 5000);
	mfs_remote_counts(r, &starts, &drops);
	cr_assert(starts == 1 && drops == 0, "that is no fault of fetch");
	remote_end(r, &k);
}

#define ROOM 700

struct rooms {
	char memory[ROOM + 1]; /* the last byte is not the request's */
	size_t fill;
	uint64_t n;
};

static void *
rooms_next(void *user, size_t *n)
{
	struct rooms *o = user;

	*n = ROOM - o->fill;
	return o->memory + o->fill;
}

static enum mfs_code
rooms_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct rooms *o = user;

	if ((const char *)p == o->memory + o->fill) {
		if (n > ROOM - o->fill)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%zu bytes where %zu fit", n, ROOM - o->fill);
		o->fill = (o->fill + n) % ROOM;
	} else if (o->n > 0) {
		return mfs_fail(err, MFS_INTERNAL, "bytes that lie elsewhere");
	}
	return count_sink(&o->n, p, n, err);
}

Test(remote, bytes_lie_where_the_caller_would_have_them)
{
	struct mock k = { .on = good }, whole = { .on = ignores_ranges };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_request q = RANGE(100, 4000);
	struct rooms o = { .memory = { [ROOM] = 'b' } };
	struct mfs_err err = MFS_ERR_INIT;

	q.sink = rooms_sink;
	q.room = rooms_next;
	q.user = &o;
	cr_assert_eq(ask(r, q, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	cr_assert(o.n == 4000 && o.fill == 4000 % ROOM && o.memory[ROOM] == 'b');
	remote_end(r, &k);

	/* What is read over is not the caller's. */
	o = (struct rooms){ .memory = { [ROOM] = 'b' } };
	r = remote_over(&whole, &quick);
	q.discard = 5000;
	cr_assert_eq(ask(r, q, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	cr_assert(o.n == 4000 && o.memory[ROOM] == 'b');
	remote_end(r, &whole);
}

static bool
status_only(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)fd;
	if (m->head.type == MFS_W_GET)
		mock_done(k, m->head.id, MFS_NET_HTTP, *(uint32_t *)k->user, 0);
	return true;
}

Test(remote, status_of_servers)
{
	uint32_t http = 404;
	struct mock k = { .on = status_only, .user = &http };
	struct mfs_remote *r = remote_over(&k, &quick);
	const struct mfs_remote_request target = { .kind = MFS_REMOTE_TARGET, .path = "a" };
	struct mfs_remote_result res;

	cr_assert_eq(ask(r, WHOLE, NULL, &res, NULL), MFS_OK);
	cr_assert(res.not_found && res.http == 404);
	cr_assert_eq(ask(r, target, NULL, &res, NULL), MFS_OK);
	cr_assert(res.not_found);
	http = 410;
	cr_assert_eq(ask(r, target, NULL, &res, NULL), MFS_OK);
	cr_assert(res.not_found);
	http = 403;
	cr_assert_eq(ask(r, WHOLE, NULL, &res, NULL), MFS_OK, "an object store without a listing");
	cr_assert(res.not_found);
	cr_assert_eq(ask(r, target, NULL, &res, NULL), MFS_NET_HTTP);
	http = 500;
	cr_assert_eq(ask(r, WHOLE, NULL, &res, NULL), MFS_NET_HTTP);
	cr_assert(!res.not_found && res.http == 500);
	remote_end(r, &k);
}

/* ---- a body without an end ------------------------------------------------------------------------ */

static bool
endless(struct mock *k, const union mfs_wire *m, int fd)
{
	if (m->head.type == MFS_W_GET) {
		mock_headers(k, m->head.id, 200, 0, MFS_WIRE_UNKNOWN, MFS_WIRE_UNKNOWN);
		mock_bytes(fd, (size_t)1 << 40);
		mock_done(k, m->head.id, MFS_CONDITION_UNMET, 200, 0);
	}
	return true;
}

static bool
too_long(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)fd;
	if (m->head.type == MFS_W_GET)
		mock_headers(k, m->head.id, 200, 0, 10001, 10001);
	else
		mock_done(k, m->head.id, MFS_CONDITION_UNMET, 200, 0);
	return true;
}

Test(remote, a_body_beyond_its_cap_is_cut_off)
{
	struct mock k = { .on = endless };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_result res;
	uint64_t n = 0;

	cr_assert_eq(ask(r, WHOLE, &n, &res, NULL), MFS_LIMIT_EXCEEDED);
	cr_assert(n <= 10000 && res.received < 1000000);
	cr_assert_eq(ask(r, WHOLE, &n, &res, NULL), MFS_LIMIT_EXCEEDED, "the same connection goes on");
	cr_assert_eq(k.starts, 1);
	remote_end(r, &k);
	k = (struct mock){ .on = too_long };
	r = remote_over(&k, &quick);
	n = 0;
	cr_assert_eq(ask(r, WHOLE, &n, &res, NULL), MFS_LIMIT_EXCEEDED, "announced");
	cr_assert_eq(n, 0);
	remote_end(r, &k);
}

static enum mfs_code
refusing_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	(void)user;
	(void)p;
	(void)n;
	return mfs_fail(err, MFS_HASH_MISMATCH, "not these");
}

Test(remote, what_sink_says_ends_the_request)
{
	struct mock k = { .on = endless };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_request q = WHOLE;
	struct mfs_err err = MFS_ERR_INIT;

	q.sink = refusing_sink;
	q.cap = 1 << 30;
	cr_assert_eq(ask(r, q, NULL, NULL, &err), MFS_HASH_MISMATCH);
	cr_assert_str_eq(err.msg, "not these");
	remote_end(r, &k);
}

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

/* ---- time ----------------------------------------------------------------------------------------- */

static bool
waits(struct mock *k, const union mfs_wire *m, int fd)
{
	if (m->head.type == MFS_W_GET) {
		mock_headers(k, m->head.id, 200, 0, 1000, 1000);
		mock_bytes(fd, 10);
		*(int *)k->user = dup(fd); /* the pipe stays open */
	} else if (m->head.type == MFS_W_CANCEL) {
		(void)close(*(int *)k->user);
		mock_done(k, m->head.id, MFS_CONDITION_UNMET, 200, 10);
	}
	return true;
}

static enum mfs_code
cancelling_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	(void)p;
	(void)n;
	(void)err;
	*(_Atomic int *)user = 1;
	return MFS_OK;
}

Test(remote, a_request_can_be_cancelled_and_has_a_deadline)
{
	static _Atomic int cancel;
	int held = -1;
	struct mock k = { .on = waits, .user = &held };
	struct mfs_remote *r = remote_over(&k, &quick);
	struct mfs_remote_request q = { .cancel = &cancel, .sink = cancelling_sink, .user = (void *)(uintptr_t)&cancel };
	uint64_t starts, drops;

	cr_assert_eq(ask(r, q, NULL, NULL, NULL), MFS_CONDITION_UNMET);
	cr_assert_eq(ask(r, (struct mfs_remote_request){ .deadline_ms = 1 }, NULL, NULL, NULL), MFS_NET_PROTOCOL,
		"stalled before the deadline's grace was over");
	do /* by another thread, soon */
		mfs_remote_counts(r, &starts, &drops);
	while (drops == 0);
	cr_assert_eq(drops, 1);
	remote_end(r, &k);
}

/* 5000 bytes, one after the other with a pause between them, for as long as somebody takes them. */
static bool
drips(struct mock *k, const union mfs_wire *m, int fd)
{
	const struct timespec pause = { 0, 20000000 };

	if (m->head.type == MFS_W_CANCEL)
		mock_done(k, m->head.id, MFS_CONDITION_UNMET, 0, 0);
	if (m->head.type != MFS_W_GET)
		return true;
	mock_headers(k, m->head.id, 200, 0, 5000, 5000);
	for (int i = 0; i < 5000 && write(fd, "x", 1) == 1; i++)
		(void)nanosleep(&pause, NULL);
	return true;
}

/* fetch ends what is too slow; one that was taken over does not, and keeps serve waiting. */
Test(remote, a_fetch_that_drips_is_not_waited_for)
{
	struct mock k = { .on = drips };
	struct mfs_remote_timing t = quick;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_remote *r;

	t.silent_ms = t.stall_ms = 600000;
	t.slow_bytes = 5000;
	t.slow_ms = 200;
	r = remote_over(&k, &t);
	cr_assert_eq(ask(r, WHOLE, NULL, NULL, &err), MFS_NET_TIMEOUT, "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "too slow"), "%s", err.msg);
	remote_end(r, &k);
}

Test(remote, a_body_may_be_as_slow_as_its_part_of_a_small_bandwidth)
{
	struct mock k = { .on = good };
	struct mfs_remote *r = remote_over(&k, &(struct mfs_remote_timing){ .slow_bytes = 500, .slow_ms = 1 });

	mfs_remote_bandwidth(r, 0);
	cr_assert_eq(r->timing.slow_bytes, 500u);
	mfs_remote_bandwidth(r, 10000000);
	cr_assert_eq(r->timing.slow_bytes, 500u);
	mfs_remote_bandwidth(r, 3200);
	cr_assert_eq(r->timing.slow_bytes, 100u);
	remote_end(r, &k);
}

/* A fetch that answers pings, and who asks it for conditions not at all; that one is told to end. */
static bool
hangs_over_conditions(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)fd;
	if (m->head.type == MFS_W_CONDITIONS)
		atomic_store((_Atomic int *)k->user, 1);
	return true;
}

Test(remote, a_question_for_conditions_can_be_cancelled)
{
	static _Atomic int cancel;
	struct mock k = { .on = hangs_over_conditions, .user = &cancel };
	struct mfs_remote_timing patient = quick;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_wire_facts facts;
	struct mfs_remote *r;

	patient.stall_ms = patient.silent_ms = 600000;
	r = remote_over(&k, &patient);
	cr_assert_eq(mfs_remote_conditions(r, &cancel, &facts, &err), MFS_CONDITION_UNMET, "%s", err.msg);
	remote_end(r, &k);
}

static bool
counts(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)fd;
	if (m->head.type == MFS_W_GET) {
		++*(_Atomic unsigned *)k->user;
		mock_done(k, m->head.id, MFS_NET_HTTP, 404, 0);
	}
	return true;
}

/* All places are taken when the caller gives up: nothing is asked for, one more than may be asked would end fetch. */
Test(remote, what_was_cancelled_before_it_had_a_place_is_never_asked_for)
{
	static _Atomic int cancel = 1;
	_Atomic unsigned gets = 0;
	struct mock k = { .on = counts, .user = &gets };
	struct mfs_remote *r = remote_over(&k, &quick);

	cr_assert_eq(ask(r, (struct mfs_remote_request){ 0 }, NULL, NULL, NULL), MFS_OK);
	r->waiting = MFS_WIRE_REQUESTS;
	cr_assert_eq(ask(r, (struct mfs_remote_request){ .cancel = &cancel }, NULL, NULL, NULL), MFS_CONDITION_UNMET);
	cr_assert_eq(r->waiting, MFS_WIRE_REQUESTS);
	r->waiting = 0;
	cr_assert_eq(ask(r, (struct mfs_remote_request){ 0 }, NULL, NULL, NULL), MFS_OK);
	cr_assert_eq(gets, 2u);
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
