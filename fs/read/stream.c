/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - readers in sequence: the stretch after the one just read is opened before it is asked for.
 *
 * A slot is free, or belongs to a job of the pool (pending), to a READ that found it (taken), or to
 * both at once: then both open pieces of it. What nobody asked for stays until the slot is needed.
 */
#include "range.h"

#include <string.h>

#define AHEAD_MIN (512u << 10) /* bytes: smaller reads are no stream of the kernel's read-ahead */
#define NEAR      (2u << 20)

struct mfs_ahead {
	struct mfs_pool_job job;
	struct mfs_cache *cache;
	struct mfs_hold hold;     /* of the job */
	struct mfs_range_job w;   /* w.c is void once the job ended, but for who holds it */
	uint8_t *mem;             /* MFS_CONTENT_RUN bytes of the cache's region; NULL: not used yet */
	/* cache->lock: */
	uint64_t serial; /* of the content; 0: nothing in it */
	unsigned working; /* threads that open pieces of it */
	bool pending, taken, used; /* used: its bytes were given to a reader */
	uint64_t stamp;
};

struct mfs_ahead *
mfs_ahead_new(void)
{
	return calloc(MFS_CACHE_AHEAD, sizeof(struct mfs_ahead));
}

static bool
is_free(const struct mfs_ahead *a)
{
	return !a->pending && !a->taken && a->working == 0;
}

void
mfs_ahead_forget(struct mfs_cache *c, uint64_t serial)
{
	(void)pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; c->ahead != NULL && i < MFS_CACHE_AHEAD; i++) {
		struct mfs_ahead *a = &c->ahead[i];

		if (a->serial != serial || !is_free(a))
			continue;
		a->serial = 0;
		a->taken = true; /* by us, while it is wiped */
		(void)pthread_mutex_unlock(&c->lock);
		explicit_bzero(a->mem, MFS_CONTENT_RUN);
		(void)pthread_mutex_lock(&c->lock);
		a->taken = false;
	}
	(void)pthread_mutex_unlock(&c->lock);
}

/* Open pieces of a slot. The lock is held on entry, not on return. */
static void
work_unlock(struct mfs_ahead *a, struct mfs_cache *k)
{
	a->working++;
	(void)pthread_mutex_unlock(&k->lock);
	mfs_range_work(&a->w);
	(void)pthread_mutex_lock(&k->lock);
	a->working--;
	(void)pthread_cond_broadcast(&k->changed);
	(void)pthread_mutex_unlock(&k->lock);
}

static void
job_run(void *arg)
{
	struct mfs_ahead *a = arg;
	struct mfs_cache *k = a->cache;
	struct mfs_hold hold;

	(void)pthread_mutex_lock(&k->lock);
	work_unlock(a, k);
	(void)pthread_mutex_lock(&k->lock);
	hold = a->hold;
	a->pending = false; /* from here on the slot may be another's */
	(void)pthread_mutex_unlock(&k->lock);
	hold.put(hold.object);
}

/* A slot that holds [off, off + len) or will: taken, and complete. NULL: read it yourself. */
static struct mfs_ahead *
take(struct mfs_content *c, uint64_t off, size_t len)
{
	struct mfs_cache *k = c->cache;
	struct mfs_ahead *a = NULL;
	bool whole;

	if (k->ahead == NULL)
		return NULL;
	(void)pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < MFS_CACHE_AHEAD && a == NULL; i++) {
		struct mfs_ahead *s = &k->ahead[i];

		if (s->serial == c->serial && s->w.off == off && s->w.len >= len && s->w.code == MFS_OK && !s->taken &&
			!s->used)
			a = s;
	}
	if (a == NULL) {
		(void)pthread_mutex_unlock(&k->lock);
		return NULL;
	}
	a->taken = true;
	work_unlock(a, k);
	(void)pthread_mutex_lock(&k->lock);
	while (a->working > 0)
		(void)pthread_cond_wait(&k->changed, &k->lock);
	a->used = true;
	if ((whole = a->w.code == MFS_OK))
		k->stats.ahead++;
	else
		a->taken = false; /* whoever reads it again says what is wrong */
	(void)pthread_mutex_unlock(&k->lock);
	return whole ? a : NULL;
}

/*
 * A read of [off, end) begins: which stream is it of? Two may be under way at once, and arrive in
 * either order. NULL: of none yet. The lock is held.
 */
static struct mfs_stream *
follow(struct mfs_cache *k, uint64_t serial, uint64_t off, uint64_t end)
{
	struct mfs_stream *s = &k->streams[k->next_stream];

	for (unsigned i = 0; i < MFS_CACHE_STREAMS; i++) {
		struct mfs_stream *t = &k->streams[i];

		if (t->serial == serial && off + NEAR >= t->end && off <= t->end + NEAR) {
			t->end = end > t->end ? end : t->end;
			t->reads++;
			return t;
		}
	}
	k->next_stream = (k->next_stream + 1) % MFS_CACHE_STREAMS;
	if (s->reads == 0)
		*s = (struct mfs_stream){ .serial = serial, .end = end };
	return NULL;
}

/* Half of the region at most is for stretches. */
static unsigned
slots(const struct mfs_cache *k)
{
	size_t n = k->bytes / 2 / MFS_CONTENT_RUN;

	return n < MFS_CACHE_AHEAD ? (unsigned)n : MFS_CACHE_AHEAD;
}

/* The lock is held. */
static struct mfs_ahead *
free_slot(struct mfs_cache *k, uint64_t serial, uint64_t off)
{
	struct mfs_ahead *best = NULL;

	for (unsigned i = 0; i < slots(k); i++) {
		struct mfs_ahead *a = &k->ahead[i];

		if (a->serial == serial && a->w.off == off && !a->used && a->w.code == MFS_OK)
			return NULL; /* there already */
		if (is_free(a) && (best == NULL || (a->used && !best->used) || (a->used == best->used && a->stamp < best->stamp)))
			best = a;
	}
	return best;
}

/* Open [off, off + len) before it is asked for. */
static void
go_ahead(struct mfs_content *c, const struct mfs_hold *hold, uint64_t off, size_t len)
{
	struct mfs_cache *k = c->cache;
	struct mfs_ahead *a;

	(void)pthread_mutex_lock(&k->lock);
	if ((a = free_slot(k, c->serial, off)) != NULL) {
		a->pending = true;
		a->serial = 0; /* what it held is not found any more: its memory is about to be another's */
	}
	(void)pthread_mutex_unlock(&k->lock);
	if (a == NULL)
		return;
	if (a->mem == NULL && (a->mem = mfs_cache_region(k, MFS_CONTENT_RUN)) == NULL) {
		(void)pthread_mutex_lock(&k->lock);
		a->pending = false;
		(void)pthread_mutex_unlock(&k->lock);
		return;
	}
	hold->get(hold->object);
	(void)pthread_mutex_lock(&k->lock);
	a->cache = k;
	a->hold = *hold;
	a->w = (struct mfs_range_job){ .c = c, .dst = a->mem, .off = off, .err = MFS_ERR_INIT,
		.len = len < c->file->size - off ? len : (size_t)(c->file->size - off) };
	a->serial = c->serial;
	a->used = false;
	a->stamp = ++k->ahead_stamp;
	(void)pthread_mutex_unlock(&k->lock);
	a->job = (struct mfs_pool_job){ .fn = job_run, .arg = a };
	if (mfs_pool_push(k->pool, &a->job))
		return;
	(void)pthread_mutex_lock(&k->lock);
	a->serial = 0;
	a->pending = false;
	(void)pthread_mutex_unlock(&k->lock);
	hold->put(hold->object);
}

/* A read of a stream ended, and one other at most is under way: where it goes on, or 0. */
static uint64_t
read_ended(struct mfs_cache *k, struct mfs_stream *s)
{
	uint64_t next = 0;

	(void)pthread_mutex_lock(&k->lock);
	if (--s->reads <= 1)
		next = s->end;
	(void)pthread_mutex_unlock(&k->lock);
	return next;
}

enum mfs_code
mfs_content_stream(struct mfs_content *c, const struct mfs_hold *hold, void *buf, size_t len, uint64_t off,
	struct mfs_stretch *out, struct mfs_err *err)
{
	struct mfs_cache *k = c->cache;
	struct mfs_stream *s = NULL;
	enum mfs_code code = MFS_OK;
	uint64_t next;

	*out = (struct mfs_stretch){ .data = buf };
	if (off < c->file->size && len > c->file->size - off)
		len = (size_t)(c->file->size - off);
	if (k->ahead != NULL && hold->get != NULL && off < c->file->size && len >= AHEAD_MIN && len <= MFS_CONTENT_RUN) {
		(void)pthread_mutex_lock(&k->lock);
		s = follow(k, c->serial, off, off + len);
		(void)pthread_mutex_unlock(&k->lock);
		if ((out->held = take(c, off, len)) != NULL) {
			out->data = out->held->mem;
			out->len = len;
		}
	}
	if (out->held == NULL)
		code = mfs_content_read(c, buf, len, off, &out->len, err);
	if (s != NULL && (next = read_ended(k, s)) > 0 && next < c->file->size && code == MFS_OK)
		go_ahead(c, hold, next, len);
	return code;
}

void
mfs_stretch_done(struct mfs_content *c, struct mfs_stretch *s)
{
	if (s->held == NULL)
		return;
	(void)pthread_mutex_lock(&c->cache->lock);
	s->held->taken = false;
	(void)pthread_mutex_unlock(&c->cache->lock);
	s->held = NULL;
}
