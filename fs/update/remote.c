/* SPDX-License-Identifier: Apache-2.0 */
/* remote.c - requests to fetch: every number that it tells is compared with what came, or was asked for. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "remote_int.h"

#define TICK_MS    200
#define PIPE_BYTES (1u << 20)
#define READ_BYTES (64u << 10) /* what may come behind a wrong byte, and is lost with it */
#define READ_MOST  (1u << 20)  /* into the caller's memory */
#define GRACE_MS   2000 /* fetch keeps the deadline itself; so much later serve does */
#define DONE_MS    5000 /* from the end of the pipe to DONE */

struct get { /* one request under way */
	struct mfs_remote *r;
	const struct mfs_remote_request *q;
	struct mfs_remote_result *res;
	struct mfs_pending pending;
	int pipe;
	int64_t deadline; /* 0 none */
	int64_t progress; /* when the last frame or byte came */
	uint64_t skip;    /* to be read over before the range */
	uint64_t left;    /* for sink; UINT64_MAX until the end */
	bool enough;      /* the range is complete, the rest is not wanted */
	int64_t waited;   /* for bytes, since so many of them were there: */
	uint64_t had;
};

/* ---- what is waited for ----------------------------------------------------------------------- */

static enum mfs_code
lie(struct get *g, struct mfs_err *err, const char *what)
{
	mfs_remote_drop(g->r, &g->pending, what);
	return mfs_fail(err, MFS_NET_PROTOCOL, "the fetch process was dropped: %s", what);
}

/* What ends a request from this side. */
static bool
cancelled(const struct get *g)
{
	return g->q->cancel != NULL && *g->q->cancel != 0;
}

static enum mfs_code
limits_check(struct get *g, const struct mfs_pending *now, struct mfs_err *err)
{
	const int64_t ms = mfs_clock_mono_ms();

	if (cancelled(g))
		return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
	if (g->r->ending) /* only ever set */
		return mfs_fail(err, MFS_CONDITION_UNMET, "modelfs ends");
	if (now->lost)
		return mfs_remote_lost(g->r, err);
	if (g->deadline != 0 && ms >= g->deadline)
		return mfs_fail(err, MFS_NET_TIMEOUT, "not done within %u ms", g->q->deadline_ms);
	if (ms - g->progress >= (int64_t)g->r->timing.stall_ms)
		return lie(g, err, "nothing came of a request");
	return MFS_OK;
}

/* Until headers, the end, or a reason to stop. */
static enum mfs_code
headers_wait(struct get *g, struct mfs_err *err)
{
	struct mfs_pending now = { 0 };

	mfs_remote_wait(g->r, &g->pending, 0, &now);
	while (!now.headers && !now.done) {
		enum mfs_code code = limits_check(g, &now, err);

		if (code != MFS_OK)
			return code;
		mfs_remote_wait(g->r, &g->pending, TICK_MS, &now);
	}
	g->progress = mfs_clock_mono_ms();
	return MFS_OK;
}

/* ---- headers ---------------------------------------------------------------------------------- */

static enum mfs_code
range_judge(struct get *g, const struct mfs_wire_headers *h, struct mfs_err *err)
{
	const struct mfs_remote_request *q = g->q;

	if (h->http == 206) {
		if (h->from != q->from || h->length > q->length ||
			(h->length < q->length && h->from + h->length != h->total))
			return lie(g, err, "another range than asked for");
		g->res->from = h->from;
		return MFS_OK;
	}
	if (h->http != 200)
		return lie(g, err, "a range that is not modified");
	/* The server sends all of it: fine where it costs little, and always where the range is all. */
	if (q->from + q->length > q->discard && !(q->from == 0 && h->length <= q->length))
		return mfs_fail(err, MFS_NET_PROTOCOL, "the server sends no ranges");
	if (h->total != MFS_WIRE_UNKNOWN && h->total <= q->from)
		return mfs_fail(err, MFS_NET_PROTOCOL, "the server has %llu bytes, asked for what begins at %llu",
			(unsigned long long)h->total, (unsigned long long)q->from);
	g->skip = q->from;
	g->res->from = q->from;
	return MFS_OK;
}

static enum mfs_code
headers_judge(struct get *g, const struct mfs_wire_headers *h, struct mfs_err *err)
{
	const struct mfs_remote_request *q = g->q;

	g->res->http = h->http;
	g->res->total = h->total;
	memcpy(g->res->etag, h->etag, sizeof(g->res->etag));
	g->res->not_modified = h->http == 304;
	g->left = q->length != 0 ? q->length : UINT64_MAX;
	if (q->length != 0) {
		if (range_judge(g, h, err) != MFS_OK)
			return MFS_NET_PROTOCOL;
		if (q->etag != NULL && h->etag[0] != '\0' && strcmp(q->etag, h->etag) != 0)
			return mfs_fail(err, MFS_NET_PROTOCOL, "the file has changed on the server (another ETag)");
		return MFS_OK;
	}
	if (h->http == 206 || (h->http == 304 && q->etag == NULL))
		return lie(g, err, "an answer to another question");
	if (h->http == 200 && h->length != MFS_WIRE_UNKNOWN && h->length > q->cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%llu bytes announced, %llu at most",
			(unsigned long long)h->length, (unsigned long long)q->cap);
	return MFS_OK;
}

/* ---- body ------------------------------------------------------------------------------------- */

static enum mfs_code
bytes_take(struct get *g, const uint8_t *p, size_t n, struct mfs_err *err)
{
	const struct mfs_wire_headers *h = &g->pending.h;

	g->res->received += n;
	if (h->http == 304 || (h->length != MFS_WIRE_UNKNOWN && g->res->received > h->length))
		return lie(g, err, "more bytes than announced");
	if (g->q->length == 0 && g->res->received > g->q->cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "more than %llu bytes", (unsigned long long)g->q->cap);
	if (g->skip > 0) {
		size_t over = n < g->skip ? n : (size_t)g->skip;

		g->skip -= over;
		p += over;
		n -= over;
	}
	if (n > g->left)
		n = (size_t)g->left;
	if (n > 0) {
		enum mfs_code code = g->q->sink(g->q->user, p, n, err);

		if (code != MFS_OK)
			return code;
		if (g->left != UINT64_MAX)
			g->left -= n;
	}
	g->enough = g->left == 0 && h->http == 200;
	return MFS_OK;
}

/* Time that this side waited, of slow_ms: what came in it is too little. What a slow disk takes here does not count. */
static enum mfs_code
speed_check(struct get *g, struct mfs_err *err)
{
	const struct mfs_remote_timing *t = &g->r->timing;
	const uint64_t came = g->res->received - g->had;

	if (t->slow_ms == 0 || g->waited < (int64_t)t->slow_ms)
		return MFS_OK;
	if (came < (uint64_t)t->slow_bytes * t->slow_ms / 1000)
		return mfs_fail(err, MFS_NET_TIMEOUT, "too slow: %llu bytes in %u s", (unsigned long long)came, t->slow_ms / 1000);
	g->waited = 0;
	g->had = g->res->received;
	return MFS_OK;
}

/* Until there may be more, or a reason to stop. */
static enum mfs_code
body_wait(struct get *g, struct mfs_err *err)
{
	struct pollfd p = { .fd = g->pipe, .events = POLLIN };
	const int64_t since = mfs_clock_mono_ms();
	const bool ready = poll(&p, 1, TICK_MS) > 0;
	struct mfs_pending now = { 0 };

	g->waited += mfs_clock_mono_ms() - since;
	if (speed_check(g, err) != MFS_OK)
		return MFS_NET_TIMEOUT;
	if (ready && !cancelled(g))
		return MFS_OK;
	mfs_remote_wait(g->r, &g->pending, 0, &now);
	return limits_check(g, &now, err);
}

/* Where the next bytes go: where the caller would have them, unless they are to be read over. */
static uint8_t *
body_room(struct get *g, uint8_t *buf, size_t *n)
{
	size_t wish = 0;
	uint8_t *room = g->q->room != NULL && g->skip == 0 && g->left > 0 ? g->q->room(g->q->user, &wish) : NULL;

	*n = room == NULL ? READ_BYTES : wish < READ_MOST ? wish : READ_MOST;
	return room == NULL ? buf : room;
}

/* To the end of the pipe, or until there is enough. */
static enum mfs_code
body_read(struct get *g, struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = malloc(READ_BYTES);

	if (buf == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "fetch: buffer");
	while (!g->enough) {
		size_t most;
		uint8_t *to = body_room(g, buf, &most);
		enum mfs_code code = MFS_OK;
		ssize_t n = cancelled(g) ? -1 : read(g->pipe, to, most);

		if (n == 0)
			break;
		if (n < 0 && !cancelled(g) && errno != EINTR && errno != EAGAIN)
			return mfs_fail_sys(err, MFS_IO, "fetch: pipe");
		if (n < 0) {
			if ((code = body_wait(g, err)) != MFS_OK)
				return code;
			continue;
		}
		g->progress = mfs_clock_mono_ms();
		if ((code = bytes_take(g, to, (size_t)n, err)) != MFS_OK)
			return code;
		if (g->deadline != 0 && g->progress >= g->deadline)
			return mfs_fail(err, MFS_NET_TIMEOUT, "not done within %u ms", g->q->deadline_ms);
	}
	return MFS_OK;
}

/* ---- end -------------------------------------------------------------------------------------- */

/* After the end of the pipe: does what fetch says fit to what came? */
static enum mfs_code
done_judge(struct get *g, struct mfs_err *err)
{
	const int64_t until = mfs_clock_mono_ms() + DONE_MS;
	struct mfs_pending now = { 0 };
	const struct mfs_wire_done *d = &now.d;

	mfs_remote_wait(g->r, &g->pending, 0, &now);
	while (!now.done) {
		if (now.lost)
			return mfs_remote_lost(g->r, err);
		if (mfs_clock_mono_ms() >= until)
			return lie(g, err, "a pipe closed without an end");
		mfs_remote_wait(g->r, &g->pending, TICK_MS, &now);
	}
	if (g->res->http == 0)
		g->res->http = d->http;
	g->res->retry_after_s = d->retry_after_s;
	if (d->sent != g->res->received)
		return lie(g, err, "other bytes than it says");
	if (d->code == MFS_CONDITION_UNMET)
		return lie(g, err, "it says that we cancelled");
	if (d->code == MFS_NET_HTTP && (d->http == 404 || d->http == 410 ||
			(d->http == 403 && g->q->kind == MFS_REMOTE_METADATA))) {
		g->res->not_found = true;
		return MFS_OK;
	}
	if (d->code != MFS_OK) {
		if (d->total != MFS_WIRE_UNKNOWN && d->http == 416)
			g->res->total = d->total;
		return mfs_fail(err, (enum mfs_code)d->code, "%s", d->text);
	}
	if (now.h.length != MFS_WIRE_UNKNOWN && now.h.length != g->res->received)
		return lie(g, err, "fewer bytes than announced");
	if (g->skip > 0)
		return mfs_fail(err, MFS_NET_PROTOCOL, "the answer ends before the range begins");
	if (now.h.http == 200 && now.h.total == MFS_WIRE_UNKNOWN)
		g->res->total = g->res->received;
	return MFS_OK;
}

static enum mfs_code
get_run(struct get *g, struct mfs_err *err)
{
	enum mfs_code code = headers_wait(g, err);
	struct mfs_pending now = { 0 };

	if (code != MFS_OK)
		return code;
	mfs_remote_wait(g->r, &g->pending, 0, &now);
	if (now.headers && (code = headers_judge(g, &now.h, err)) != MFS_OK)
		return code;
	if (now.headers && (code = body_read(g, err)) != MFS_OK)
		return code;
	return g->enough ? MFS_OK : done_judge(g, err);
}

static enum mfs_code
request_check(const struct mfs_remote_request *q, struct mfs_err *err)
{
	const bool blob = q->kind == MFS_REMOTE_BLOB;

	if (q->cap == 0 || q->length > q->cap || (q->length == 0 && q->from != 0) || q->from > MFS_WIRE_PART * 100000 ||
		q->mirror < -1 || q->mirror > INT32_MAX || q->repo >= MFS_WIRE_TELEMETRY)
		return mfs_fail(err, MFS_INTERNAL, "fetch: a request that cannot be");
	if (!blob && (q->path == NULL || !mfs_wire_path_ok(q->path)))
		return mfs_fail(err, MFS_MALFORMED, "%s: not a path for a URL", MFS_ESC(q->path != NULL ? q->path : ""));
	return MFS_OK;
}

static void
frame_fill(const struct mfs_remote_request *q, struct mfs_wire_get *w)
{
	w->repo = (uint32_t)q->repo;
	w->mirror = q->mirror;
	w->kind = (uint32_t)q->kind;
	w->from = q->from;
	w->length = q->length;
	/* Where all may be sent instead of a range, so much of it is read. */
	w->cap = q->length != 0 && q->from + q->length <= q->discard && q->discard > q->cap ? q->discard : q->cap;
	w->deadline_ms = q->deadline_ms;
	if (q->etag != NULL)
		(void)snprintf(w->etag, sizeof(w->etag), "%s", q->etag);
	if (q->kind == MFS_REMOTE_BLOB) {
		w->part = q->part;
		memcpy(w->hash, q->hash.b, sizeof(w->hash));
	} else {
		(void)snprintf(w->path, sizeof(w->path), "%s", q->path);
	}
}

enum mfs_code
mfs_remote_get(struct mfs_remote *r, const struct mfs_remote_request *q, struct mfs_remote_result *res, struct mfs_err *err)
{
	struct get g = { .r = r, .q = q, .res = res };
	mfs_autoclose int in = -1, out = -1;
	union mfs_wire m = { 0 };
	struct mfs_err local = MFS_ERR_INIT;
	enum mfs_code code;
	int pipe[2];

	if (err == NULL)
		err = &local;
	*res = (struct mfs_remote_result){ .total = UINT64_MAX };
	if (request_check(q, err) != MFS_OK)
		return err->code;
	if (pipe2(pipe, O_CLOEXEC) != 0)
		return mfs_fail_sys(err, MFS_IO, "fetch: pipe");
	in = pipe[0];
	out = pipe[1];
	(void)fcntl(in, F_SETPIPE_SZ, PIPE_BYTES); /* a host's limit may leave the default */
	(void)fcntl(in, F_SETFL, O_NONBLOCK);
	frame_fill(q, &m.get);
	code = mfs_remote_begin(r, &g.pending, &m, MFS_W_GET, out, q->cancel, err);
	if (code != MFS_OK)
		return code;
	mfs_cleanup_close(&out);
	g.pipe = in;
	g.progress = mfs_clock_mono_ms();
	g.deadline = q->deadline_ms != 0 ? g.progress + q->deadline_ms + GRACE_MS : 0;
	code = get_run(&g, err);
	mfs_remote_end(r, &g.pending, code == MFS_OK);
	return code;
}

/* ---- small files, telemetry, conditions ------------------------------------------------------- */

struct memory {
	uint8_t *p;
	size_t n, room;
};

static enum mfs_code
memory_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct memory *m = user;

	if (n >= m->room - m->n) {
		size_t room = (m->n + n + 1) * 2;
		uint8_t *grown = room > m->n + n ? realloc(m->p, room) : NULL;

		if (grown == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "fetch: %zu bytes", m->n + n);
		m->p = grown;
		m->room = room;
	}
	memcpy(m->p + m->n, p, n);
	m->n += n;
	return MFS_OK;
}

enum mfs_code
mfs_remote_read(struct mfs_remote *r, const struct mfs_remote_request *q, uint8_t **out, size_t *len,
	struct mfs_remote_result *res, struct mfs_err *err)
{
	struct memory m = { .p = malloc(4096), .room = 4096 };
	struct mfs_remote_request own = *q;
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if (m.p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "fetch: buffer");
	own.sink = memory_sink;
	own.user = &m;
	code = mfs_remote_get(r, &own, res, err);
	if (code != MFS_OK) {
		free(m.p);
		return code;
	}
	m.p[m.n] = 0;
	*out = m.p;
	*len = m.n;
	return MFS_OK;
}

enum mfs_code
mfs_remote_post(struct mfs_remote *r, const void *body, size_t len, unsigned deadline_ms, const _Atomic int *cancel,
	struct mfs_remote_result *res, struct mfs_err *err)
{
	const struct mfs_remote_request q = { .deadline_ms = deadline_ms, .cancel = cancel };
	struct get g = { .r = r, .q = &q, .res = res, .pending = { .post = true } };
	mfs_autoclose int fd = memfd_create("telemetry", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	union mfs_wire m = { 0 };
	struct mfs_err local = MFS_ERR_INIT;
	enum mfs_code code;

	if (err == NULL)
		err = &local;
	*res = (struct mfs_remote_result){ .total = UINT64_MAX };
	if (len == 0)
		return mfs_fail(err, MFS_INTERNAL, "fetch: nothing to send");
	if (fd < 0 || mfs_write_full(fd, body, len) != 0)
		return mfs_fail_sys(err, MFS_IO, "fetch: body to send");
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	m.post.size = len;
	m.post.deadline_ms = deadline_ms;
	code = mfs_remote_begin(r, &g.pending, &m, MFS_W_POST, fd, cancel, err);
	if (code != MFS_OK)
		return code;
	g.progress = mfs_clock_mono_ms();
	g.deadline = deadline_ms != 0 ? g.progress + deadline_ms + GRACE_MS : 0;
	code = headers_wait(&g, err);
	if (code == MFS_OK)
		code = done_judge(&g, err);
	mfs_remote_end(r, &g.pending, code == MFS_OK);
	return code;
}

enum mfs_code
mfs_remote_conditions(struct mfs_remote *r, const _Atomic int *cancel, struct mfs_wire_facts *out, struct mfs_err *err)
{
	const struct mfs_remote_request q = { .deadline_ms = 10000, .cancel = cancel };
	struct mfs_remote_result res;
	struct get g = { .r = r, .q = &q, .res = &res, .pending = { .conditions = true } };
	struct mfs_pending now = { 0 };
	union mfs_wire m = { 0 };
	struct mfs_err local = MFS_ERR_INIT;
	enum mfs_code code;

	if (err == NULL)
		err = &local;
	*out = (struct mfs_wire_facts){ 0 };
	code = mfs_remote_begin(r, &g.pending, &m, MFS_W_CONDITIONS, -1, cancel, err);
	if (code != MFS_OK)
		return code;
	g.progress = mfs_clock_mono_ms();
	g.deadline = g.progress + q.deadline_ms;
	mfs_remote_wait(r, &g.pending, 0, &now);
	while (code == MFS_OK && !now.facts) {
		mfs_remote_wait(r, &g.pending, TICK_MS, &now);
		if (!now.facts)
			code = limits_check(&g, &now, err);
	}
	mfs_remote_end(r, &g.pending, code == MFS_OK);
	if (code == MFS_OK)
		*out = now.f;
	return code;
}
