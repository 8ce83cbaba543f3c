/* SPDX-License-Identifier: Apache-2.0 */
/* range.c - reading a stretch of one file: chunk by chunk, by as many threads as have time for it. */
#include "range.h"

#include <stdatomic.h>
#include <string.h>

#define RUN_CHUNKS (MFS_CONTENT_RUN / MFS_CHUNK_MIN)
#define STEP_MIN   (256u << 10) /* bytes: below it waking a thread costs more than it gains */

static void
tell_failure(struct mfs_content *c, uint64_t chunk, const struct mfs_err *err)
{
	mfs_content_failed_fn *fn;
	void *user;

	(void)pthread_mutex_lock(&c->cache->lock);
	if (chunk == UINT64_MAX) /* those of a chunk are counted with the chunk */
		c->cache->stats.failed++;
	for (struct mfs_failures *w = c->cache->watches; w != NULL; w = w->next)
		w->n += mfs_sha256_equal(&w->manifest, &c->m->id) ? 1 : 0;
	fn = c->cache->failed;
	user = c->cache->failed_user;
	(void)pthread_mutex_unlock(&c->cache->lock);
	if (fn != NULL)
		fn(user, c, chunk, err);
}

/* Name the file in an error that a reader gets. */
static enum mfs_code
in_file(const struct mfs_content *c, struct mfs_err *err)
{
	return mfs_err_context(err, "%s %s: %s: ", c->m->model_id, c->m->version, MFS_ESC(c->file->name));
}

/* ---- reads ------------------------------------------------------------------------------------------ */

struct read {
	struct mfs_content *c;
	struct mfs_open *o;
	struct mfs_reader *r;
	struct mfs_err *err; /* never NULL */
};

/* Part of a chunk: opened into the cache, copied from there. */
static enum mfs_code
read_part(struct read *rd, uint64_t chunk, uint32_t from, size_t n, uint8_t *dst)
{
	struct mfs_content *c = rd->c;
	uint32_t len = mfs_chunk_length(c->file, chunk);
	struct mfs_entry *e;
	enum mfs_code code;
	uint8_t *plain;

	switch (mfs_cache_claim(c->cache, c, chunk, len, true, true, &e, rd->err)) {
	case MFS_CLAIM_READY:
		memcpy(dst, e->mem + from, n);
		mfs_cache_release(c->cache, e);
		return MFS_OK;
	case MFS_CLAIM_FILL:
		break;
	case MFS_CLAIM_FAILED:
	case MFS_CLAIM_BUSY:
	case MFS_CLAIM_NONE:
		return rd->err->code;
	}
	plain = e->mem != NULL ? e->mem : rd->r->bounce;
	code = mfs_content_chunk(c, rd->o, rd->r, chunk, rd->r->bounce, plain, rd->err);
	if (code == MFS_OK)
		memcpy(dst, plain + from, n);
	else
		(void)in_file(c, rd->err);
	mfs_cache_finish(c->cache, e, plain, code == MFS_OK ? NULL : rd->err);
	if (plain == rd->r->bounce)
		explicit_bzero(plain, len);
	if (code != MFS_OK)
		tell_failure(c, chunk, rd->err);
	return code;
}

/* The next one or two chunks of a run, in place. !all: it could not be read as one. */
static void
open_two(struct read *rd, uint64_t i, size_t n, bool all, uint8_t *at, struct mfs_chunk_io io[2])
{
	const struct mfs_file *f = rd->c->file;

	for (size_t k = 0; k < n; k++) {
		uint8_t *chunk = at + k * f->chunk_size;

		io[k] = (struct mfs_chunk_io){ .stored = MFS_SPAN(chunk, mfs_chunk_length(f, i + k)), .plaintext = chunk,
			.code = MFS_IO, .err = MFS_ERR_INIT };
	}
	if (all)
		mfs_chunks_open(rd->r->opener, rd->o->table, i, io, n);
}

/* Open the claimed chunks of a run in place. The first failure is the result; all are finished. */
static enum mfs_code
open_run(struct read *rd, uint64_t first, struct mfs_entry *const *claims, size_t n, size_t bytes, uint8_t *dst)
{
	struct mfs_content *c = rd->c;
	uint64_t off = first * c->file->chunk_size;
	struct mfs_chunk_io io[2];
	struct mfs_err ignored = MFS_ERR_INIT;
	enum mfs_code result = MFS_OK;
	bool all;

	/* One read for the run; if it fails, chunk by chunk, so that waiters of good ones get theirs. */
	all = mfs_blob_read(mfs_content_blob(c, rd->o), dst, bytes, off, rd->r->bounce_cap >= bytes ? rd->r->bounce : NULL,
		&ignored) == MFS_OK;
	for (size_t i = 0; i < n; i++) {
		struct mfs_chunk_io *two = io + i % 2;
		uint8_t *at = dst + i * c->file->chunk_size;

		if (i % 2 == 0)
			open_two(rd, first + i, n - i < 2 ? 1 : 2, all, at, io);
		if (two->code == MFS_IO || two->code == MFS_HASH_MISMATCH)
			two->code = mfs_content_chunk(c, rd->o, rd->r, first + i, at, at, &two->err);
		if (two->code != MFS_OK)
			(void)in_file(c, &two->err);
		mfs_cache_finish(c->cache, claims[i], at, two->code == MFS_OK ? NULL : &two->err);
		if (two->code != MFS_OK) {
			tell_failure(c, first + i, &two->err);
			if (result == MFS_OK) {
				result = two->code;
				*rd->err = two->err;
			}
		}
	}
	return result;
}

/*
 * Whole chunks from `chunk` on, at most n bytes of them: as many in one run as nobody else is
 * opening. Waits for another reader only before the first claim of its own. *done: bytes.
 */
static enum mfs_code
read_whole(struct read *rd, uint64_t chunk, size_t n, uint8_t *dst, size_t *done)
{
	struct mfs_content *c = rd->c;
	struct mfs_entry *claims[RUN_CHUNKS];
	size_t count = 0, bytes = 0;

	*done = 0;
	while (count < RUN_CHUNKS && chunk + count < c->file->chunks) {
		uint32_t len = mfs_chunk_length(c->file, chunk + count);
		struct mfs_entry *e;
		enum mfs_claim claim;

		if (bytes + len > n || bytes + len > MFS_CONTENT_RUN)
			break;
		claim = mfs_cache_claim(c->cache, c, chunk + count, len, false, count == 0, &e, rd->err);
		if (claim == MFS_CLAIM_FILL) {
			claims[count++] = e;
			bytes += len;
			continue;
		}
		if (claim == MFS_CLAIM_READY) {
			if (count == 0) {
				memcpy(dst, e->mem, len);
				*done = len;
			}
			mfs_cache_release(c->cache, e);
		}
		if (count > 0)
			break;
		return claim == MFS_CLAIM_READY ? MFS_OK : rd->err->code;
	}
	*done = bytes;
	return open_run(rd, chunk, claims, count, bytes, dst);
}

static enum mfs_code
read_all(struct read *rd, uint8_t *dst, size_t len, uint64_t off)
{
	const struct mfs_file *f = rd->c->file;
	enum mfs_code code = mfs_content_rekey(rd->c, rd->r, rd->err);

	while (code == MFS_OK && len > 0) {
		uint64_t chunk = off / f->chunk_size;
		uint32_t from = (uint32_t)(off % f->chunk_size), there = mfs_chunk_length(f, chunk);
		size_t n;

		if (from == 0 && len >= there) {
			code = read_whole(rd, chunk, len, dst, &n);
		} else {
			n = there - from < len ? there - from : len;
			code = read_part(rd, chunk, from, n, dst);
		}
		dst += n;
		off += n;
		len -= n;
	}
	return code;
}

/* O_DIRECT needs aligned memory: room for a run beside a buffer that is not. */
static size_t
bounce_need(const struct read *rd, const struct mfs_range_job *w)
{
	const struct mfs_file *f = rd->c->file;
	size_t chunk = f->size < f->chunk_size ? (size_t)f->size : f->chunk_size;
	bool skewed = ((uintptr_t)w->dst - w->off) % MFS_BLOB_ALIGN != 0 || w->off + w->len == f->size;

	if (atomic_load(&mfs_content_blob(rd->c, rd->o)->mode) == MFS_BLOB_DIRECT && skewed && w->len > chunk)
		return w->len < MFS_CONTENT_RUN ? w->len : MFS_CONTENT_RUN;
	return chunk;
}

/* The next piece of w, up to a boundary that chunks and other threads' pieces share. cache->lock is held. */
static size_t
next_piece(struct mfs_range_job *w)
{
	uint64_t step = w->c->file->chunk_size > STEP_MIN ? w->c->file->chunk_size : STEP_MIN, off = w->off + w->next;
	size_t n = (size_t)(step - off % step);

	return n < w->len - w->next ? n : w->len - w->next;
}

static enum mfs_code
open_pieces(struct read *rd, struct mfs_range_job *w)
{
	struct mfs_cache *k = w->c->cache;
	enum mfs_code code = mfs_reader_take(k, bounce_need(rd, w), &rd->r, rd->err);

	if (code != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&k->lock);
	while (code == MFS_OK && w->next < w->len) {
		size_t at = w->next, n = next_piece(w);

		w->next += n;
		(void)pthread_mutex_unlock(&k->lock);
		code = read_all(rd, w->dst + at, n, w->off + at);
		(void)pthread_mutex_lock(&k->lock);
	}
	(void)pthread_mutex_unlock(&k->lock);
	mfs_reader_give(k, rd->r);
	return code;
}

void
mfs_range_work(struct mfs_range_job *w)
{
	struct mfs_cache *k = w->c->cache;
	struct mfs_err err = MFS_ERR_INIT;
	struct read rd = { .c = w->c, .err = &err };
	enum mfs_code code;
	bool left;

	(void)pthread_mutex_lock(&k->lock);
	left = w->next < w->len;
	(void)pthread_mutex_unlock(&k->lock);
	if (!left)
		return;
	if ((code = mfs_content_open(w->c, &rd.o, &err)) == MFS_OK) {
		code = open_pieces(&rd, w);
		mfs_content_close(w->c, rd.o);
	} else {
		(void)in_file(w->c, &err);
		tell_failure(w->c, UINT64_MAX, &err);
	}
	if (code == MFS_OK)
		return;
	(void)pthread_mutex_lock(&k->lock);
	if (w->code == MFS_OK) {
		w->code = code;
		w->err = err;
	}
	w->next = w->len; /* no more of it */
	(void)pthread_mutex_unlock(&k->lock);
}

static void
work_job(void *arg)
{
	mfs_range_work(arg);
}

enum mfs_code
mfs_content_read(struct mfs_content *c, void *buf, size_t len, uint64_t off, size_t *got, struct mfs_err *err)
{
	struct mfs_range_job w = { .c = c, .dst = buf, .off = off, .err = MFS_ERR_INIT };
	struct mfs_pool_job job = { .fn = work_job, .arg = &w };
	bool helped;

	*got = 0;
	if (off >= c->file->size || len == 0)
		return MFS_OK;
	w.len = len < c->file->size - off ? len : (size_t)(c->file->size - off);
	if (c->m->cipher != MFS_CIPHER_NONE && c->key == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: encrypted, and there is no key for it",
			MFS_ESC(c->file->name));
	/*
	 * A large read goes to two threads if one is free. Waiting for the other is safe: this one
	 * holds no claim then, and the other never waits for this one.
	 */
	helped = w.len > next_piece(&w) && mfs_pool_try(c->cache->pool, &job);
	mfs_range_work(&w);
	if (helped)
		mfs_pool_wait(c->cache->pool, &job);
	if (w.code == MFS_OK)
		*got = w.len;
	else if (err != NULL)
		*err = w.err;
	return w.code;
}
