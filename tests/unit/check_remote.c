/* SPDX-License-Identifier: Apache-2.0 */
/* check_remote.c - requests by way of fetch: what servers answer, bodies without an end, time, cancelling. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "remotefix.h"

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
