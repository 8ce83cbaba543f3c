/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <sched.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "blobio.h"
#include "keys.h"

/* ---- memory ------------------------------------------------------------------------------------- */

/* Lock what RLIMIT_MEMLOCK allows: all, else the largest power-of-two part. Returns bytes locked. */
static size_t
lock_some(void *p, size_t n)
{
	for (size_t part = n; part >= MFS_CACHE_UNIT; part /= 2)
		if (mlock(p, part) == 0)
			return part;
	return 0;
}

static enum mfs_code
map_region(struct mfs_cache *c, int scratch_fd, struct mfs_err *err)
{
	int flags = scratch_fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;

	/* Blocks first: a store into a hole of a full tmpfs would be a SIGBUS. */
	if (scratch_fd >= 0 && fallocate(scratch_fd, 0, 0, (off_t)c->bytes) != 0)
		return mfs_fail_sys(err, MFS_NO_MEMORY, "cache: %zu bytes on the scratch file", c->bytes);
	c->mem = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, flags, scratch_fd, 0);
	if (c->mem == MAP_FAILED) {
		c->mem = NULL;
		return mfs_fail_sys(err, MFS_NO_MEMORY, "cache: %zu bytes", c->bytes);
	}
	(void)madvise(c->mem, c->bytes, MADV_DONTDUMP);
	c->locked = scratch_fd >= 0 ? c->bytes : lock_some(c->mem, c->bytes);
	return MFS_OK;
}

/* The caller is one core's work itself. */
static unsigned
pool_threads(void)
{
	cpu_set_t set;
	unsigned cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;

	return cores - 1 < MFS_CACHE_POOL ? cores - 1 : MFS_CACHE_POOL;
}

enum mfs_code
mfs_cache_new(size_t bytes, int scratch_fd, struct mfs_cache **out, struct mfs_err *err)
{
	struct mfs_cache *c = calloc(1, sizeof(*c));
	enum mfs_code code;

	*out = NULL;
	if (c == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cache: no memory");
	if (bytes < MFS_CHUNK_MAX)
		bytes = MFS_CHUNK_MAX;
	c->units = bytes / MFS_CACHE_UNIT;
	c->bytes = c->units * MFS_CACHE_UNIT;
	c->next_serial = 1;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->changed, NULL);
	if ((c->pool = mfs_pool_new(pool_threads())) != NULL)
		c->ahead = mfs_ahead_new();
	if ((c->used = calloc(c->units, sizeof(*c->used))) == NULL)
		code = mfs_fail(err, MFS_NO_MEMORY, "cache: no memory");
	else
		code = map_region(c, scratch_fd, err);
	if (code != MFS_OK) {
		mfs_cache_free(c);
		return code;
	}
	*out = c;
	return MFS_OK;
}

void
mfs_reader_drop(struct mfs_reader *r)
{
	mfs_opener_free(r->opener);
	if (r->bounce != NULL)
		(void)munmap(r->bounce, r->bounce_cap);
	free(r);
}

void
mfs_cache_free(struct mfs_cache *c)
{
	if (c == NULL)
		return;
	mfs_pool_free(c->pool);
	for (size_t i = 0; i < MFS_CACHE_BUCKETS; i++) {
		while (c->bucket[i] != NULL) {
			struct mfs_entry *e = c->bucket[i];

			c->bucket[i] = e->next;
			free(e->err);
			free(e);
		}
	}
	while (c->idle != NULL) {
		struct mfs_reader *r = c->idle;

		c->idle = r->next;
		mfs_reader_drop(r);
	}
	if (c->mem != NULL) {
		explicit_bzero(c->mem, c->bytes);
		(void)munmap(c->mem, c->bytes);
	}
	free(c->ahead);
	free(c->used);
	(void)pthread_cond_destroy(&c->changed);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

void
mfs_cache_stats(struct mfs_cache *c, struct mfs_cache_stats *out)
{
	(void)pthread_mutex_lock(&c->lock);
	*out = c->stats;
	out->bytes = c->bytes;
	out->locked = c->locked;
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_cache_on_failure(struct mfs_cache *c, mfs_content_failed_fn *fn, void *user)
{
	(void)pthread_mutex_lock(&c->lock);
	c->failed = fn;
	c->failed_user = user;
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_failures_begin(struct mfs_cache *c, struct mfs_failures *w)
{
	w->n = 0;
	(void)pthread_mutex_lock(&c->lock);
	w->next = c->watches;
	c->watches = w;
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_failures_end(struct mfs_cache *c, struct mfs_failures *w)
{
	struct mfs_failures **p;

	(void)pthread_mutex_lock(&c->lock);
	for (p = &c->watches; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	(void)pthread_mutex_unlock(&c->lock);
}

/* ---- readers -------------------------------------------------------------------------------------- */

static enum mfs_code
grow_bounce(struct mfs_reader *r, size_t need, struct mfs_err *err)
{
	size_t cap = (need + MFS_BLOB_ALIGN - 1) & ~(size_t)(MFS_BLOB_ALIGN - 1);
	void *p;

	if (r->bounce_cap >= cap)
		return MFS_OK;
	if ((p = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
		return mfs_fail_sys(err, MFS_NO_MEMORY, "read: %zu bytes", cap);
	(void)madvise(p, cap, MADV_DONTDUMP);
	(void)mlock(p, cap);
	if (r->bounce != NULL)
		(void)munmap(r->bounce, r->bounce_cap);
	r->bounce = p;
	r->bounce_cap = cap;
	return MFS_OK;
}

enum mfs_code
mfs_reader_take(struct mfs_cache *c, size_t need, struct mfs_reader **out, struct mfs_err *err)
{
	struct mfs_reader *r;
	enum mfs_code code;

	*out = NULL;
	(void)pthread_mutex_lock(&c->lock);
	if ((r = c->idle) != NULL) {
		c->idle = r->next;
		c->n_idle--;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (r == NULL) {
		if ((r = calloc(1, sizeof(*r))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "read: no memory");
		if ((code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &r->opener, err)) != MFS_OK) {
			mfs_reader_drop(r);
			return code;
		}
	}
	if ((code = grow_bounce(r, need, err)) != MFS_OK) {
		mfs_reader_give(c, r);
		return code;
	}
	*out = r;
	return MFS_OK;
}

void
mfs_reader_give(struct mfs_cache *c, struct mfs_reader *r)
{
	bool keep;

	(void)pthread_mutex_lock(&c->lock);
	keep = c->n_idle < MFS_CACHE_IDLE;
	if (keep) {
		r->next = c->idle;
		c->idle = r;
		c->n_idle++;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (!keep)
		mfs_reader_drop(r);
}

/* ---- content keys --------------------------------------------------------------------------------- */

struct mfs_secret_key *
mfs_cache_key_get(struct mfs_cache *c, const struct mfs_key *k)
{
	struct mfs_secret_key *s;

	(void)pthread_mutex_lock(&c->lock);
	for (s = c->keys; s != NULL; s = s->next)
		if (memcmp(s->key.b, k->b, sizeof(k->b)) == 0)
			break;
	if (s != NULL) {
		s->refs++;
	} else if ((s = mfs_secret_alloc(sizeof(*s))) != NULL) {
		s->key = *k;
		s->refs = 1;
		s->next = c->keys;
		c->keys = s;
	}
	(void)pthread_mutex_unlock(&c->lock);
	return s;
}

void
mfs_cache_key_put(struct mfs_cache *c, struct mfs_secret_key *k)
{
	if (k == NULL)
		return;
	(void)pthread_mutex_lock(&c->lock);
	if (--k->refs == 0) {
		struct mfs_secret_key **p = &c->keys;

		while (*p != k)
			p = &(*p)->next;
		*p = k->next;
		mfs_secret_free(k, sizeof(*k));
	}
	(void)pthread_mutex_unlock(&c->lock);
}

/* ---- entries; the lock is held by the caller unless said otherwise --------------------------------- */

static struct mfs_entry **
find_slot(struct mfs_cache *c, const struct mfs_content *content, uint64_t chunk)
{
	uint64_t h = ((uint64_t)(uintptr_t)content ^ chunk * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	struct mfs_entry **p = &c->bucket[(h >> 40) % MFS_CACHE_BUCKETS];

	while (*p != NULL && ((*p)->content != content || (*p)->chunk != chunk))
		p = &(*p)->next;
	return p;
}

static void
unlink_lru(struct mfs_cache *c, struct mfs_entry *e)
{
	*(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
	e->newer = e->older = NULL;
}

static void
link_newest(struct mfs_cache *c, struct mfs_entry *e)
{
	e->older = c->newest;
	e->newer = NULL;
	*(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

static size_t
units_of(size_t len)
{
	size_t n = 1;

	while (n * MFS_CACHE_UNIT < len)
		n *= 2;
	return n;
}

static void
set_units(struct mfs_cache *c, const uint8_t *mem, size_t n, bool used)
{
	size_t first = (size_t)(mem - c->mem) / MFS_CACHE_UNIT;

	for (size_t i = 0; i < n; i++)
		c->used[first + i] = used;
}

/* An aligned run of free units, so that runs of any size come free again by eviction. */
static uint8_t *
take_units(struct mfs_cache *c, size_t n)
{
	for (size_t at = 0; at + n <= c->units; at += n) {
		size_t i = 0;

		while (i < n && !c->used[at + i])
			i++;
		if (i == n) {
			uint8_t *mem = c->mem + at * MFS_CACHE_UNIT;

			set_units(c, mem, n, true);
			return mem;
		}
	}
	return NULL;
}

/* Wipe and release an entry's memory. Drops the lock while it wipes; e is reachable by nobody. */
static void
free_entry(struct mfs_cache *c, struct mfs_entry *e)
{
	if (e->mem != NULL) {
		(void)pthread_mutex_unlock(&c->lock);
		explicit_bzero(e->mem, e->len);
		(void)pthread_mutex_lock(&c->lock);
		set_units(c, e->mem, units_of(e->len), false);
	}
	free(e->err);
	free(e);
}

static void
unlink_entry(struct mfs_cache *c, struct mfs_entry *e)
{
	struct mfs_entry **p = find_slot(c, e->content, e->chunk);

	if (*p == e)
		*p = e->next;
	if (e->state == MFS_ENTRY_READY && e->mem != NULL)
		unlink_lru(c, e);
	e->state = MFS_ENTRY_GONE;
}

/* Memory for len bytes, evicting the least recently used. NULL when all of it is in use. Drops the lock. */
static uint8_t *
take_memory(struct mfs_cache *c, size_t len)
{
	size_t n = units_of(len);

	for (;;) {
		struct mfs_entry *victim = c->oldest;
		uint8_t *mem = take_units(c, n);

		if (mem != NULL)
			return mem;
		while (victim != NULL && victim->pins > 0)
			victim = victim->newer;
		if (victim == NULL)
			return NULL;
		unlink_entry(c, victim);
		c->stats.evicted++;
		free_entry(c, victim);
	}
}

uint8_t *
mfs_cache_region(struct mfs_cache *c, size_t len)
{
	uint8_t *mem;

	(void)pthread_mutex_lock(&c->lock);
	mem = take_memory(c, len);
	(void)pthread_mutex_unlock(&c->lock);
	return mem;
}

static void
release(struct mfs_cache *c, struct mfs_entry *e)
{
	if (--e->pins > 0)
		return;
	if (e->state == MFS_ENTRY_GONE || e->state == MFS_ENTRY_FAILED || e->mem == NULL) {
		if (e->state != MFS_ENTRY_GONE)
			unlink_entry(c, e);
		free_entry(c, e);
	}
}

/* ---- claims ------------------------------------------------------------------------------------------ */

static void
report(const struct mfs_entry *e, struct mfs_err *err)
{
	if (err == NULL)
		return;
	if (e->err != NULL)
		*err = *e->err;
	else
		(void)mfs_fail(err, MFS_NO_MEMORY, "read: no memory");
}

/* Another thread opens e: wait for its end. True: e is READY or FAILED and pinned; false: look again. */
static bool
await(struct mfs_cache *c, struct mfs_entry *e)
{
	e->pins++;
	e->waiters++;
	c->stats.waits++;
	while (e->state == MFS_ENTRY_FILLING)
		(void)pthread_cond_wait(&c->changed, &c->lock);
	e->waiters--;
	if (e->state != MFS_ENTRY_GONE)
		return true;
	release(c, e);
	return false;
}

enum mfs_claim
mfs_cache_claim(struct mfs_cache *c, const struct mfs_content *content, uint64_t chunk, size_t len, bool keep,
	bool wait, struct mfs_entry **out, struct mfs_err *err)
{
	enum mfs_claim claim = MFS_CLAIM_NONE;
	struct mfs_entry *e, **slot;

	*out = NULL;
	(void)pthread_mutex_lock(&c->lock);
	while ((e = *(slot = find_slot(c, content, chunk))) != NULL) {
		if (e->state == MFS_ENTRY_FILLING) {
			if (!wait) {
				(void)pthread_mutex_unlock(&c->lock);
				return MFS_CLAIM_BUSY;
			}
			if (!await(c, e))
				continue;
		} else {
			e->pins++;
		}
		if (e->state == MFS_ENTRY_FAILED) {
			report(e, err);
			release(c, e);
			claim = MFS_CLAIM_FAILED;
		} else {
			unlink_lru(c, e);
			link_newest(c, e);
			c->stats.hits++;
			*out = e;
			claim = MFS_CLAIM_READY;
		}
		(void)pthread_mutex_unlock(&c->lock);
		return claim;
	}
	if ((e = calloc(1, sizeof(*e))) != NULL) {
		*e = (struct mfs_entry){ .content = content, .chunk = chunk, .len = len, .pins = 1,
			.state = MFS_ENTRY_FILLING };
		*slot = e;
		/* In the table first: take_memory() drops the lock, and nobody may claim it twice. */
		if (keep)
			e->mem = take_memory(c, len);
		*out = e;
		claim = MFS_CLAIM_FILL;
	} else {
		(void)mfs_fail(err, MFS_NO_MEMORY, "read: no memory");
	}
	(void)pthread_mutex_unlock(&c->lock);
	return claim;
}

/* Others wait for what was opened into a reader's own buffer: a copy for them. Drops the lock. */
static void
share(struct mfs_cache *c, struct mfs_entry *e, const uint8_t *plaintext)
{
	uint8_t *mem = take_memory(c, e->len);

	if (mem == NULL)
		return;
	(void)pthread_mutex_unlock(&c->lock);
	memcpy(mem, plaintext, e->len);
	(void)pthread_mutex_lock(&c->lock);
	e->mem = mem;
}

void
mfs_cache_finish(struct mfs_cache *c, struct mfs_entry *e, const uint8_t *plaintext, const struct mfs_err *err)
{
	(void)pthread_mutex_lock(&c->lock);
	if (err == NULL) {
		c->stats.opened++;
		if (e->mem == NULL && e->waiters > 0)
			share(c, e, plaintext);
		if (e->mem != NULL) {
			e->state = MFS_ENTRY_READY;
			link_newest(c, e);
		} else {
			unlink_entry(c, e); /* waiters find nothing and look again */
		}
	} else {
		c->stats.failed++;
		if ((e->err = malloc(sizeof(*e->err))) != NULL)
			*e->err = *err;
		/* Out of the table at once: whoever comes later tries again. */
		unlink_entry(c, e);
		e->state = MFS_ENTRY_FAILED;
	}
	(void)pthread_cond_broadcast(&c->changed);
	release(c, e);
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_cache_release(struct mfs_cache *c, struct mfs_entry *e)
{
	(void)pthread_mutex_lock(&c->lock);
	release(c, e);
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_cache_forget(struct mfs_cache *c, const struct mfs_content *content)
{
	struct mfs_entry *e;

	(void)pthread_mutex_lock(&c->lock);
	do {
		for (e = c->oldest; e != NULL && e->content != content; e = e->newer)
			;
		if (e != NULL) {
			unlink_entry(c, e);
			free_entry(c, e);
		}
	} while (e != NULL);
	(void)pthread_mutex_unlock(&c->lock);
}
