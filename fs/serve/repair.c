/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.c - parked READs and the threads that repair what they need.
 *
 * A READ is in exactly one hand: its operation's (NEW), the list's (PARKED), or who took it from there (TAKEN): a
 * worker, the watcher at its deadline, or the interrupt of libfuse. The lock is never held across a reply, a call of
 * libfuse or a repair. libfuse holds the request's own lock while it calls `interrupted`; taking the interrupt back
 * (mfs_req_release) waits for that, so memory is given up only after it.
 */
#include "repair.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "download.h"
#include "io.h"
#include "log.h"
#include "serve.h"

#define IDLE_MS   20000
#define CANCEL_MS 200 /* who waits for a payload looks at its cancel as often */
#define FAILED_N  32u

struct failure { /* what could not be repaired of late */
	struct mfs_sha256 payload;
	uint64_t first, last; /* chunks */
	int64_t until_ms;
};

struct mfs_repairs {
	struct mfs_serve *s;
	_Atomic uint64_t repaired, failed;
	_Atomic int cancel;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	struct mfs_repair_read *parked; /* in order of arrival */
	unsigned n_parked; /* and those that are about to be: neither who works nor who watches ends before them */
	unsigned workers, idle;
	bool watching;
	bool *busy;       /* by model: a worker is at one of its READs */
	struct {
		bool used;
		struct mfs_sha256 hash;
	} payloads[MFS_REPAIR_THREADS + 1]; /* that workers and the scrub are at */
	unsigned *of_model; /* READs parked */
	struct failure failures[FAILED_N];
	unsigned next_failure;
};

enum mfs_code
mfs_repairs_new(struct mfs_serve *s, struct mfs_repairs **out, struct mfs_err *err)
{
	struct mfs_repairs *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;

	*out = NULL;
	if (r == NULL || (r->busy = calloc(s->config->n_models + 1, sizeof(*r->busy))) == NULL ||
		(r->of_model = calloc(s->config->n_models + 1, sizeof(*r->of_model))) == NULL) {
		if (r != NULL)
			free(r->busy);
		free(r);
		return mfs_fail(err, MFS_NO_MEMORY, "repairs");
	}
	r->s = s;
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&r->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	*out = r;
	return MFS_OK;
}

void
mfs_repairs_counts(struct mfs_repairs *r, uint64_t *repaired, uint64_t *failed)
{
	*repaired = r != NULL ? atomic_load(&r->repaired) : 0;
	*failed = r != NULL ? atomic_load(&r->failed) : 0;
}

static void
wait_ms(struct mfs_repairs *r, int64_t ms)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	(void)pthread_cond_timedwait(&r->changed, &r->lock, &t);
}

static uint64_t
chunk_first(const struct mfs_repair_read *w)
{
	return w->off / w->v->m->files[w->file].chunk_size;
}

static uint64_t
chunk_last(const struct mfs_repair_read *w)
{
	return (w->off + w->len - 1) / w->v->m->files[w->file].chunk_size;
}

/* ---- payloads ------------------------------------------------------------------------------------------------ */

/* With the lock: where it stands among those under repair, or after the last place. */
static unsigned
payload_find(const struct mfs_repairs *r, const struct mfs_sha256 *hash)
{
	unsigned i = 0;

	while (i <= MFS_REPAIR_THREADS && (!r->payloads[i].used || !mfs_sha256_equal(&r->payloads[i].hash, hash)))
		i++;
	return i;
}

/* With the lock. There is a place: each thread has one payload. */
static void
payload_take(struct mfs_repairs *r, const struct mfs_sha256 *hash)
{
	for (unsigned i = 0; i <= MFS_REPAIR_THREADS; i++)
		if (!r->payloads[i].used) {
			r->payloads[i].used = true;
			r->payloads[i].hash = *hash;
			return;
		}
}

/* With the lock. */
static void
payload_give(struct mfs_repairs *r, const struct mfs_sha256 *hash)
{
	const unsigned i = payload_find(r, hash);

	if (i <= MFS_REPAIR_THREADS)
		r->payloads[i].used = false;
	(void)pthread_cond_broadcast(&r->changed);
}

/* With the lock. A reader goes before who looks at what nobody reads. */
static bool
payload_wanted(const struct mfs_repairs *r, const struct mfs_sha256 *hash)
{
	for (const struct mfs_repair_read *w = r->parked; w != NULL; w = w->next)
		if (mfs_sha256_equal(&w->v->m->files[w->file].sha256, hash))
			return true;
	return false;
}

bool
mfs_repairs_begin(struct mfs_repairs *r, const struct mfs_sha256 *payload, const _Atomic int *cancel)
{
	bool ends = false;

	(void)pthread_mutex_lock(&r->lock);
	while (!(ends = atomic_load(&r->cancel) != 0 || atomic_load(cancel) != 0) &&
		(payload_find(r, payload) <= MFS_REPAIR_THREADS || payload_wanted(r, payload)))
		wait_ms(r, CANCEL_MS);
	if (!ends)
		payload_take(r, payload);
	(void)pthread_mutex_unlock(&r->lock);
	return !ends;
}

void
mfs_repairs_end(struct mfs_repairs *r, const struct mfs_sha256 *payload, uint64_t repaired, bool failed)
{
	(void)atomic_fetch_add(&r->repaired, repaired);
	if (failed)
		(void)atomic_fetch_add(&r->failed, 1);
	(void)pthread_mutex_lock(&r->lock);
	payload_give(r, payload);
	(void)pthread_mutex_unlock(&r->lock);
}

/* ---- the list ------------------------------------------------------------------------------------------------ */

/* With the lock: out of the list, into the caller's hand. */
static void
read_take(struct mfs_repairs *r, struct mfs_repair_read *w)
{
	for (struct mfs_repair_read **at = &r->parked; *at != NULL; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			break;
		}
	w->next = NULL;
	w->state = MFS_READ_TAKEN;
	r->n_parked--;
	r->of_model[w->model]--;
}

/* Taken: no interrupt comes any more, and none is at work. */
static void
interrupts_end(struct mfs_repair_read *w)
{
	fuse_req_interrupt_func(w->req, NULL, NULL);
}

static void
reply_fail(void *arg)
{
	struct mfs_repair_read *w = arg;

	(void)fuse_reply_err(w->req, w->error);
}

static void
read_fail(struct mfs_repairs *r, struct mfs_repair_read *w, int error)
{
	w->error = error;
	mfs_session_answer(r->s->session, w->place, reply_fail, w);
	w->fn(w, true);
}

static void
read_again(void *arg)
{
	struct mfs_repair_read *w = arg;

	w->fn(w, false);
}

/* By libfuse, for a request that the kernel does not want any more; the request's own lock is held. */
static void
interrupted(fuse_req_t req, void *arg)
{
	struct mfs_repair_read *w = arg;
	struct mfs_repairs *r = w->of;
	bool mine = false;

	(void)req;
	(void)pthread_mutex_lock(&r->lock);
	if (w->state == MFS_READ_NEW) {
		w->state = MFS_READ_INTERRUPTED; /* who parks it sees that */
	} else if (w->state == MFS_READ_PARKED) {
		read_take(r, w);
		mine = true;
	}
	(void)pthread_mutex_unlock(&r->lock);
	if (mine)
		read_fail(r, w, EINTR);
}

/* ---- threads -------------------------------------------------------------------------------------------------- */

/* With the lock. */
static void
failure_note(struct mfs_repairs *r, const struct mfs_sha256 *payload, uint64_t first, uint64_t last)
{
	r->failures[r->next_failure++ % FAILED_N] = (struct failure){ *payload, first, last,
		mfs_clock_mono_ms() + MFS_REPAIR_PAUSE_MS };
}

/* With the lock: a READ whose model no worker is at, and whose payload nobody. */
static struct mfs_repair_read *
work_find(struct mfs_repairs *r)
{
	for (struct mfs_repair_read *w = r->parked; w != NULL; w = w->next)
		if (!r->busy[w->model] && payload_find(r, &w->v->m->files[w->file].sha256) > MFS_REPAIR_THREADS)
			return w;
	return NULL;
}

static void
event_write(struct mfs_repairs *r, size_t model, const struct mfs_manifest *m, size_t file, uint64_t off, uint64_t n,
	const struct mfs_err *err)
{
	char detail[600];

	if (err->code == MFS_OK)
		(void)snprintf(detail, sizeof(detail), "%s: %llu damaged chunks from offset %llu on were fetched again and written back",
			MFS_ESC(m->files[file].name), (unsigned long long)n, (unsigned long long)off);
	else
		(void)snprintf(detail, sizeof(detail), "%s", err->msg);
	mfs_event(r->s->events, &(struct mfs_event){ .model = r->s->config->models[model].id, .version = m->version,
		.code = err->code, .source = "repair", .detail = detail });
}

/* With the lock, on return too: repair what `w` needs; READs of the same range are read again, or fail. */
static void
work_do(struct mfs_repairs *r, const struct mfs_repair_read *w)
{
	const size_t model = w->model, file = w->file;
	/* A READ may be answered meanwhile, and its version go: the repair keeps it. */
	struct mfs_version *v = mfs_version_ref(w->v);
	const struct mfs_sha256 payload = v->m->files[file].sha256;
	const uint64_t off = w->off, first = chunk_first(w), n = chunk_last(w) - first + 1;
	struct mfs_download *d = mfs_updates_download(r->s->updates, (size_t)r->s->config->models[model].repo);
	struct mfs_repair_read *taken = NULL, *next;
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t repaired = 0;

	r->busy[model] = true;
	payload_take(r, &payload);
	(void)pthread_mutex_unlock(&r->lock);
	(void)mfs_download_repair(d, v->m, file, first, n, &r->cancel, &repaired, &err);
	(void)atomic_fetch_add(&r->repaired, repaired);
	if (err.code != MFS_OK)
		(void)atomic_fetch_add(&r->failed, 1);
	if ((repaired > 0 || err.code != MFS_OK) && atomic_load(&r->cancel) == 0)
		event_write(r, model, v->m, file, off, repaired, &err);
	(void)pthread_mutex_lock(&r->lock);
	r->busy[model] = false;
	payload_give(r, &payload);
	/* Wrong bytes are of one chunk: of several, the kernel asks again for the page that it needs. */
	if (err.code != MFS_OK && (err.code != MFS_HASH_MISMATCH || n == 1))
		failure_note(r, &payload, first, first + n - 1);
	for (struct mfs_repair_read *at = r->parked; at != NULL; at = next) {
		next = at->next;
		if (at->model == model && mfs_sha256_equal(&at->v->m->files[at->file].sha256, &payload) &&
			chunk_first(at) < first + n && chunk_last(at) >= first) {
			read_take(r, at);
			at->next = taken;
			taken = at;
		}
	}
	(void)pthread_mutex_unlock(&r->lock);
	mfs_version_unref(v);
	for (; taken != NULL && atomic_load(&r->cancel) == 0; taken = next) {
		next = taken->next;
		interrupts_end(taken);
		if (err.code == MFS_OK)
			mfs_session_answer(r->s->session, taken->place, read_again, taken);
		else
			read_fail(r, taken, EIO);
	}
	(void)pthread_mutex_lock(&r->lock);
}

static void *
worker(void *arg)
{
	struct mfs_repairs *r = arg;
	int64_t idle_since = mfs_clock_mono_ms();

	(void)pthread_mutex_lock(&r->lock);
	while (atomic_load(&r->cancel) == 0) {
		const struct mfs_repair_read *w = work_find(r);

		if (w != NULL) {
			work_do(r, w);
			idle_since = mfs_clock_mono_ms();
			continue;
		}
		if (r->n_parked == 0 && mfs_clock_mono_ms() - idle_since >= IDLE_MS)
			break;
		r->idle++;
		wait_ms(r, IDLE_MS);
		r->idle--;
	}
	r->workers--;
	(void)pthread_cond_broadcast(&r->changed);
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* READs at their deadline: EIO. As long as any are parked. */
static void *
watcher(void *arg)
{
	struct mfs_repairs *r = arg;
	struct mfs_repair_read *first;

	(void)pthread_mutex_lock(&r->lock);
	while (r->n_parked > 0 && atomic_load(&r->cancel) == 0) {
		int64_t now = mfs_clock_mono_ms();

		if ((first = r->parked) == NULL) { /* one is about to be */
			wait_ms(r, MFS_REPAIR_WAIT_MS);
			continue;
		}
		for (struct mfs_repair_read *w = first; w != NULL; w = w->next)
			if (w->until_ms < first->until_ms)
				first = w;
		if (first->until_ms > now) {
			wait_ms(r, first->until_ms - now);
			continue;
		}
		read_take(r, first);
		/* The kernel asks again for a page of it: that one would wait as long. */
		failure_note(r, &first->v->m->files[first->file].sha256, chunk_first(first), chunk_last(first));
		(void)pthread_mutex_unlock(&r->lock);
		interrupts_end(first);
		read_fail(r, first, EIO);
		(void)pthread_mutex_lock(&r->lock);
	}
	r->watching = false;
	(void)pthread_cond_broadcast(&r->changed);
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* With the lock. */
static bool
thread_begin(struct mfs_repairs *r, void *(*fn)(void *arg))
{
	pthread_attr_t attr;
	pthread_t t;
	bool ok;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attr, 512u << 10);
	ok = pthread_create(&t, &attr, fn, r) == 0;
	(void)pthread_attr_destroy(&attr);
	return ok;
}

/* With the lock: someone who works, and someone who watches. */
static bool
threads_begin(struct mfs_repairs *r)
{
	if (r->idle == 0 && r->workers < MFS_REPAIR_THREADS && thread_begin(r, worker))
		r->workers++;
	if (!r->watching)
		r->watching = thread_begin(r, watcher);
	return r->workers > 0 && r->watching;
}

/* ---- parking --------------------------------------------------------------------------------------------------- */

static bool
failed_of_late(const struct mfs_repairs *r, const struct mfs_repair_read *w)
{
	const struct mfs_file *f = &w->v->m->files[w->file];
	const int64_t now = mfs_clock_mono_ms();

	for (unsigned i = 0; i < FAILED_N; i++)
		if (r->failures[i].until_ms > now && r->failures[i].first <= chunk_last(w) &&
			r->failures[i].last >= chunk_first(w) &&
			mfs_sha256_equal(&r->failures[i].payload, &f->sha256))
			return true;
	return false;
}

/* Can fetching again help, and is there a place to fetch from? */
static bool
repairable(const struct mfs_repairs *r, const struct mfs_repair_read *w, const struct mfs_err *why)
{
	return (why->code == MFS_HASH_MISMATCH || why->code == MFS_IO) && w->len > 0 && w->v->m->files[w->file].size > w->off &&
		r->s->config->models[w->model].repo >= 0 && r->s->updates != NULL && atomic_load(&r->cancel) == 0;
}

bool
mfs_repair_park(struct mfs_repairs *r, struct mfs_repair_read *w, const struct mfs_err *why)
{
	const uint64_t size = w->v->m->files[w->file].size;
	bool gone;

	if (r == NULL || !repairable(r, w, why) || ++w->tries > MFS_REPAIR_TRIES)
		return false;
	if (w->len > size - w->off)
		w->len = (size_t)(size - w->off);
	w->of = r;
	w->state = MFS_READ_NEW;
	(void)pthread_mutex_lock(&r->lock);
	if (r->n_parked >= MFS_REPAIR_READS || r->of_model[w->model] >= MFS_REPAIR_MODEL || failed_of_late(r, w) ||
		!threads_begin(r)) {
		(void)pthread_mutex_unlock(&r->lock);
		return false;
	}
	/* Its place among the parked is taken now, and keeps the threads; the list gets it when interrupts can come. */
	r->n_parked++;
	r->of_model[w->model]++;
	(void)pthread_mutex_unlock(&r->lock);
	if (w->until_ms == 0)
		w->until_ms = mfs_clock_mono_ms() + MFS_REPAIR_WAIT_MS;
	w->place = mfs_session_park(r->s->session);
	fuse_req_interrupt_func(w->req, interrupted, w);
	(void)pthread_mutex_lock(&r->lock);
	gone = w->state == MFS_READ_INTERRUPTED;
	if (gone) {
		r->n_parked--;
		r->of_model[w->model]--;
		w->state = MFS_READ_TAKEN;
		(void)pthread_cond_broadcast(&r->changed);
	} else {
		struct mfs_repair_read **last = &r->parked;

		while (*last != NULL)
			last = &(*last)->next;
		w->next = NULL;
		w->state = MFS_READ_PARKED;
		*last = w;
		(void)threads_begin(r); /* one more, if all are at work */
		(void)pthread_cond_broadcast(&r->changed);
	}
	(void)pthread_mutex_unlock(&r->lock);
	if (gone) {
		interrupts_end(w);
		read_fail(r, w, EINTR);
	}
	return true;
}

void
mfs_repairs_stop(struct mfs_repairs *r)
{
	if (r == NULL)
		return;
	(void)pthread_mutex_lock(&r->lock);
	atomic_store(&r->cancel, 1);
	(void)pthread_cond_broadcast(&r->changed);
	while (r->workers > 0 || r->watching)
		(void)pthread_cond_wait(&r->changed, &r->lock);
	(void)pthread_mutex_unlock(&r->lock);
}
