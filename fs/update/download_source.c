/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a download's bytes come from: the source that is best now, what it may cost, and whose fault a fault is.
 * A fault rests its source for a while, longer each time; another one is asked meanwhile. Only when every source
 * rests and no byte of use came for the patience of a call does the call end; what it has stays staged.
 */
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "download_io.h"
#include "io.h"

#define DEADLINE_MS  60000u /* of a request, beside the time that its bytes may take */
#define SLOWEST      8192u  /* bytes a second that it may be as slow as ... */
#define DEADLINE_MOST_MS 600000u /* ... but for so long: what is verified by then is kept, and the rest asked for anew */
#define FAST_MS      1500   /* a request that took less than this may be larger next time */
#define DAY_S        86400
#define WAIT_STEP_MS 200    /* a wait looks at `stop` as often */

/* ---- the remote as a source ------------------------------------------------------------------------------ */

static enum mfs_code
remote_get(void *user, const struct mfs_download_get *q, struct mfs_download_got *got, struct mfs_err *err)
{
	const struct mfs_download *d = user;
	struct mfs_remote_result res = { 0 };
	struct mfs_remote_request rq = { .repo = d->args.repo, .kind = MFS_REMOTE_BLOB, .hash = *q->hash, .part = q->part,
		.from = q->from, .length = q->length, .discard = q->discard, .deadline_ms = q->deadline_ms,
		.cancel = q->cancel, .sink = q->sink, .room = q->room, .user = q->user };
	enum mfs_code code;

	rq.mirror = q->source < d->args.n_mirrors ? (int)q->source : -1;
	/* A server that sends all announces all. */
	rq.cap = q->discard > 0 ? MFS_WIRE_PART : q->length;
	code = mfs_remote_get(d->args.remote, &rq, &res, err);
	got->http = res.http;
	got->received = res.received;
	got->retry_after_s = res.retry_after_s;
	if (code == MFS_OK && res.not_found)
		return mfs_fail(err, MFS_NET_HTTP, "part %u of blob %s is not there (%u)", q->part, MFS_HEX(q->hash), res.http);
	return code;
}

static void
source_add(struct mfs_download *d, unsigned number, const char *url)
{
	struct mfs_source *s = &d->sources[d->n_sources++];

	s->number = number;
	if (url != NULL)
		(void)mfs_escape(s->name, sizeof(s->name), url, strlen(url));
	else if (number < d->args.n_mirrors)
		(void)snprintf(s->name, sizeof(s->name), "mirror %u", number + 1);
	else
		(void)snprintf(s->name, sizeof(s->name), "the repository");
}

enum mfs_code
mfs_dl_sources_make(struct mfs_download *d, struct mfs_err *err)
{
	const struct mfs_config_repository *c = d->args.repository;

	if (c != NULL) {
		d->args.n_mirrors = (unsigned)c->n_mirrors;
		d->args.only = 0;
		for (size_t i = 0; i < c->n_mirrors && i < MFS_MIRRORS_MAX; i++)
			d->args.only |= c->mirrors[i].only ? 1u << i : 0u;
	}
	if (d->args.n_mirrors > MFS_MIRRORS_MAX)
		return mfs_fail(err, MFS_INTERNAL, "download: %u mirrors", d->args.n_mirrors);
	if ((d->sources = calloc(d->args.n_mirrors + 1, sizeof(*d->sources))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: %u sources", d->args.n_mirrors + 1);
	for (unsigned i = 0; i < d->args.n_mirrors; i++)
		if (d->args.only == 0 || (d->args.only >> i & 1) != 0)
			source_add(d, i, c != NULL ? c->mirrors[i].url : NULL);
	if (d->args.only == 0)
		source_add(d, d->args.n_mirrors, c != NULL ? c->origin.url : NULL);
	if (d->args.get == NULL) {
		d->args.get = remote_get;
		d->args.get_user = d;
	}
	return MFS_OK;
}

/* ---- choosing ---------------------------------------------------------------------------------------------- */

/* With the lock: the first source that does not rest; else the one that rests shortest, and until when. */
static struct mfs_source *
choose(struct mfs_download *d, int64_t now, int64_t *until)
{
	struct mfs_source *best = &d->sources[0];

	for (unsigned i = 0; i < d->n_sources; i++) {
		struct mfs_source *s = &d->sources[i];

		if (s->until_ms <= now) {
			*until = now;
			return s;
		}
		if (s->until_ms < best->until_ms)
			best = s;
	}
	*until = best->until_ms;
	return best;
}

void
mfs_download_awake(struct mfs_download *d)
{
	(void)pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < d->n_sources; i++)
		d->sources[i].until_ms = d->sources[i].wish_ms;
	(void)pthread_mutex_unlock(&d->lock);
}

bool
mfs_dl_no_range(struct mfs_download *d)
{
	int64_t until;
	bool no;

	(void)pthread_mutex_lock(&d->lock);
	no = choose(d, mfs_clock_mono_ms(), &until)->no_range;
	(void)pthread_mutex_unlock(&d->lock);
	return no;
}

/* Sleep, but not past the end of the call. */
static void
rest(struct mfs_dl_run *r, int64_t ms)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	(void)pthread_mutex_lock(&r->lock);
	if (atomic_load(&r->stop) == 0)
		(void)pthread_cond_timedwait(&r->changed, &r->lock, &t);
	(void)pthread_mutex_unlock(&r->lock);
}

/* Every source rests from what an earlier call met: what the one that is asked next did, and when that is. */
static void
all_rest(struct mfs_download *d, int64_t now, int64_t until, struct mfs_err *err)
{
	struct mfs_err fault;
	int64_t ignored;

	(void)pthread_mutex_lock(&d->lock);
	fault = choose(d, now, &ignored)->fault;
	(void)pthread_mutex_unlock(&d->lock);
	(void)mfs_fail(err, fault.code != MFS_OK ? fault.code : MFS_NET_TIMEOUT, "every source is at rest after earlier faults; the "
		"next is asked in %lld s; %s", (long long)(until - now + 999) / 1000, fault.msg);
}

/* The source to ask now; waits until one may be asked. NULL: *err says why the call is over. */
static struct mfs_source *
source_wait(struct mfs_dl_run *r, uint64_t *discard, struct mfs_err *err)
{
	struct mfs_download *d = r->d;

	for (;;) {
		int64_t now = mfs_clock_mono_ms(), until;
		struct mfs_source *s;

		if (mfs_dl_stopped(r)) {
			(void)mfs_fail(err, MFS_CONDITION_UNMET, "the download was stopped; what it has is kept");
			return NULL;
		}
		(void)pthread_mutex_lock(&d->lock);
		s = choose(d, now, &until);
		*discard = s->no_range ? MFS_WIRE_PART : 0;
		(void)pthread_mutex_unlock(&d->lock);
		if (until <= now)
			return s;
		if (until - atomic_load(&r->progress_ms) > r->patience_ms) {
			(void)pthread_mutex_lock(&r->lock);
			if (r->last_fault.code != MFS_OK)
				*err = r->last_fault;
			else /* an earlier call was turned away */
				all_rest(d, now, until, err);
			if (r->retry_after_s < (until - now) / 1000)
				r->retry_after_s = (until - now) / 1000;
			(void)pthread_mutex_unlock(&r->lock);
			return NULL;
		}
		rest(r, until - now < WAIT_STEP_MS ? until - now : WAIT_STEP_MS);
	}
}

/* ---- blame --------------------------------------------------------------------------------------------------- */

/* 0.5 to 1.5 times: devices that failed together do not come back together. */
static int64_t
jitter(int64_t ms)
{
	uint16_t x = 0;

	(void)RAND_bytes((unsigned char *)&x, sizeof(x));
	return ms / 2 + ms * x / UINT16_MAX;
}

static int64_t
backoff(const struct mfs_download *d, unsigned faults)
{
	int64_t ms = d->backoff_ms;

	for (unsigned i = 1; i < faults && ms < MFS_DL_BACKOFF_MAX_MS; i++)
		ms *= 2;
	return jitter(ms < MFS_DL_BACKOFF_MAX_MS ? ms : MFS_DL_BACKOFF_MAX_MS);
}

/* A fault of a source in a request that began at `asked`; keep: it gave something of use before. */
static void
blame(struct mfs_dl_run *r, struct mfs_source *s, int64_t asked, const struct mfs_download_got *got, bool keep,
	bool mismatch, const struct mfs_err *fault)
{
	struct mfs_download *d = r->d;
	int64_t now = mfs_clock_mono_ms();
	int64_t most = d->args.retry_most_s > 0 && d->args.retry_most_s < DAY_S ? d->args.retry_most_s : DAY_S;
	int64_t wish = got->retry_after_s > most ? most : got->retry_after_s;
	struct mfs_err said = *fault;

	if (said.code == MFS_LIMIT_EXCEEDED) /* its source sent too much: nothing that the version is to blame for */
		said.code = MFS_NET_PROTOCOL;
	(void)pthread_mutex_lock(&d->lock);
	/* Requests that were under way together are one fault. */
	if (asked >= s->blamed_ms) {
		s->faults = keep && !mismatch ? 1 : s->faults + 1;
		s->blamed_ms = now;
		s->fault = said;
		/* Something useful came: straight on, but not in a tight loop. Wrong bytes: longer if others are there. */
		s->until_ms = now + (keep && !mismatch ? jitter(d->backoff_ms / 10) :
			backoff(d, s->faults + (mismatch && d->n_sources > 1 ? 3 : 0)));
	}
	if (wish > 0)
		s->wish_ms = now + wish * 1000;
	if (s->until_ms < s->wish_ms)
		s->until_ms = s->wish_ms;
	(void)pthread_mutex_unlock(&d->lock);
	(void)pthread_mutex_lock(&r->lock);
	r->last_fault = said;
	if (r->retry_after_s < wish)
		r->retry_after_s = wish;
	(void)pthread_mutex_unlock(&r->lock);
}

void
mfs_dl_wrong(struct mfs_dl_run *r, unsigned source, bool one_source, const struct mfs_err *fault)
{
	const struct mfs_download_got got = { 0 };
	struct mfs_err named = *fault;
	struct mfs_source *s = &r->d->sources[source];

	(void)mfs_err_context(&named, "%s: ", one_source ? s->name : "several sources");
	/* Of several nobody knows which; the last one rests, and all comes from one that does not. */
	blame(r, s, INT64_MAX, &got, false, true, &named);
}

/* It answered 200 where a range was asked for. Twice in a row: it knows none, and is read over. */
static void
range_ignored(struct mfs_download *d, struct mfs_source *s)
{
	(void)pthread_mutex_lock(&d->lock);
	if (++s->ignored_range >= 2)
		s->no_range = true;
	(void)pthread_mutex_unlock(&d->lock);
}

static void
praise(struct mfs_download *d, struct mfs_source *s, unsigned http)
{
	(void)pthread_mutex_lock(&d->lock);
	s->faults = 0;
	if (http == 206) {
		s->ignored_range = 0;
		s->no_range = false;
	}
	(void)pthread_mutex_unlock(&d->lock);
}

/* ---- one request ------------------------------------------------------------------------------------------------ */

/* Of `want` bytes, how many the budget allows: a multiple of unit. */
static enum mfs_code
budget_take(struct mfs_dl_run *r, uint64_t unit, uint64_t *want, struct mfs_err *err)
{
	const struct mfs_download_args *a = &r->d->args;
	uint64_t got, use;

	if (a->budget_take == NULL)
		return MFS_OK;
	got = a->budget_take(a->user, *want);
	use = got >= *want ? *want : unit > 0 ? got / unit * unit : got;
	if (got > use && a->budget_give != NULL)
		a->budget_give(a->user, got - use);
	if (use == 0)
		return mfs_fail(err, MFS_RATE_LIMITED, "the byte budget of this day is used up; the download goes on when the "
			"next one begins");
	*want = use;
	return MFS_OK;
}

/* What was received in truth, against what was taken from the budget for it. */
static void
budget_settle(struct mfs_dl_run *r, uint64_t taken, uint64_t received)
{
	const struct mfs_download_args *a = &r->d->args;

	(void)atomic_fetch_add(&r->fetched, received);
	if (received < taken && a->budget_give != NULL)
		a->budget_give(a->user, taken - received);
	else if (received > taken && a->budget_take != NULL)
		(void)a->budget_take(a->user, received - taken);
}

/* Is this outcome of a request the source's? Else it is ours, and the call is over. */
static bool
fault_of_source(enum mfs_code code)
{
	return mfs_code_class(code) == MFS_CLASS_NETWORK || code == MFS_HASH_MISMATCH || code == MFS_LIMIT_EXCEEDED ||
		code == MFS_CONFIG_INVALID;
}

static void
range_adapt(struct mfs_dl_run *r, bool good, int64_t took_ms)
{
	uint64_t n = atomic_load(&r->range);

	if (good && took_ms < FAST_MS && n < MFS_DL_RANGE_MAX)
		n *= 2;
	else if (!good && n > MFS_DL_RANGE_MIN)
		n /= 2;
	atomic_store(&r->range, n);
}

/* What arrives counts as it arrives: at a slow link a request takes minutes, and who waits wants to see a rate. */
struct counted {
	const struct mfs_dl_request *q;
	struct mfs_dl_run *r;
};

static enum mfs_code
counted_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	const struct counted *c = user;

	(void)atomic_fetch_add(&c->r->arrived, n);
	return c->q->sink(c->q->user, p, n, err);
}

static void *
counted_room(void *user, size_t *n)
{
	const struct counted *c = user;

	return c->q->room(c->q->user, n);
}

/* What the caller still holds of the bytes that came, also when it was stopped. Its own failure goes before the source's. */
static enum mfs_code
flush(const struct mfs_dl_request *q, enum mfs_code code, struct mfs_err *fault)
{
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code flushed;

	if (q->flush == NULL || (flushed = q->flush(q->user, &own)) == MFS_OK || (code != MFS_OK && !fault_of_source(code)))
		return code;
	*fault = own;
	return flushed;
}

enum mfs_code
mfs_dl_get(struct mfs_dl_run *r, const struct mfs_dl_request *q, const uint64_t *kept, bool *mismatch, unsigned *source,
	struct mfs_err *err)
{
	struct counted counted = { q, r };
	struct mfs_download_get g = { .hash = q->hash, .part = (uint32_t)(q->off / MFS_WIRE_PART),
		.from = q->off % MFS_WIRE_PART, .length = q->length, .cancel = r->requests, .sink = counted_sink,
		.room = q->room != NULL ? counted_room : NULL, .user = &counted };
	struct mfs_download_got got = { 0 };
	struct mfs_err fault = MFS_ERR_INIT;
	const uint64_t before = *kept;
	struct mfs_source *s;
	int64_t asked;
	enum mfs_code code;

	*mismatch = false;
	if ((s = source_wait(r, &g.discard, err)) == NULL)
		return err->code;
	if ((code = budget_take(r, q->unit, &g.length, err)) != MFS_OK)
		return code;
	/* From a part's beginning, all of it will do as well. */
	if (g.from == 0 && g.discard < g.length)
		g.discard = g.length;
	g.source = s->number;
	*source = (unsigned)(s - r->d->sources);
	g.deadline_ms = DEADLINE_MS + (unsigned)(g.length / SLOWEST * 1000);
	if (g.deadline_ms > DEADLINE_MOST_MS)
		g.deadline_ms = DEADLINE_MOST_MS;
	if (r->v == NULL && g.deadline_ms > r->patience_ms) /* a repair: a reader waits */
		g.deadline_ms = (unsigned)r->patience_ms;
	asked = mfs_clock_mono_ms();
	code = flush(q, r->d->args.get(r->d->args.get_user, &g, &got, &fault), &fault);
	budget_settle(r, g.length, got.received);
	(void)atomic_fetch_add(&r->wasted, got.received > *kept - before ? got.received - (*kept - before) : 0);
	if (code == MFS_OK && *kept - before >= g.length) {
		praise(r->d, s, got.http);
		range_adapt(r, true, mfs_clock_mono_ms() - asked);
		return MFS_OK;
	}
	if (code == MFS_OK)
		code = mfs_fail(&fault, MFS_NET_PROTOCOL, "part %u of blob %s ends after %llu of %llu bytes", g.part,
			MFS_HEX(q->hash), (unsigned long long)(*kept - before), (unsigned long long)g.length);
	if (mfs_dl_stopped(r))
		return mfs_fail(err, MFS_CONDITION_UNMET, "the download was stopped; what it has is kept");
	if (!fault_of_source(code)) {
		*err = fault;
		return code;
	}
	(void)mfs_err_context(&fault, "%s: ", s->name);
	if (got.http == 200 && code == MFS_NET_PROTOCOL && g.from > 0)
		range_ignored(r->d, s);
	*mismatch = code == MFS_HASH_MISMATCH;
	range_adapt(r, false, 0);
	blame(r, s, asked, &got, *kept > before, *mismatch, &fault);
	return MFS_OK;
}
