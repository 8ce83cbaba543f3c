/* SPDX-License-Identifier: Apache-2.0 */
/* The workers of a large payload: each takes a piece of it, looks it up on the device or fetches it, verifies, writes. */
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "download_large.h"

#define WRITEBACK (8u << 20) /* bytes; the disk begins early, so that a batch's sync is short */
#define REUSE_RUN 16u        /* chunks that a worker looks up at a time */

struct piece { /* a worker's chunks */
	struct mfs_dl_large *l;
	struct mfs_opener *opener;
	uint8_t *buf; /* two chunks: they are hashed together */
	size_t fill;
	uint64_t first, next, end; /* next: not DONE yet */
	uint64_t kept, written;    /* written: where writeback has been started up to */
	bool retry;
};

void
mfs_dl_large_wait(struct mfs_dl_large *l)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 200000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	(void)pthread_cond_timedwait(&l->changed, &l->lock, &t);
}

/* ---- chunks ------------------------------------------------------------------------------------------------ */

/* Verified chunk i: into the file, and then DONE. */
static enum mfs_code
chunk_land(struct piece *p, uint64_t i, const uint8_t *bytes, size_t len, struct mfs_err *err)
{
	struct mfs_dl_large *l = p->l;
	const uint64_t off = i * l->f->chunk_size;

	if (mfs_blob_write(l->data, bytes, len, off, l->fresh) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s at offset %llu", MFS_HEX(&l->f->sha256),
			(unsigned long long)off);
	(void)pthread_mutex_lock(&l->lock);
	l->state[i] = CHUNK_DONE;
	l->left--;
	l->busy--;
	l->landed += len;
	/* Nobody is woken for every chunk: the rest of a piece is told by piece_give(). */
	if (l->left == 0 || l->landed >= l->batch || i - l->wanted == MFS_DL_CHECK_RUN(l->f) - 1)
		(void)pthread_cond_broadcast(&l->changed);
	/* A slow disk: what is not journalled would be lost, and its memory is needed elsewhere. */
	while (l->landed + l->syncing >= 2 * l->batch && !mfs_dl_stopped(l->r))
		mfs_dl_large_wait(l);
	(void)pthread_mutex_unlock(&l->lock);
	mfs_dl_wrote(l->r, len);
	if (off + len - p->written >= WRITEBACK) {
		(void)sync_file_range(l->data, (off_t)p->written, (off_t)(off + len - p->written), SYNC_FILE_RANGE_WRITE);
		p->written = off + len;
	}
	return MFS_OK;
}

/* The next chunks, one or two, as long as they are together. */
static size_t
next_length(const struct piece *p)
{
	size_t n = 0;

	for (uint64_t i = p->next; i < p->end && i < p->next + 2; i++)
		n += mfs_chunk_length(p->l->f, i);
	return n;
}

/* The rest of them: what comes behind is read by itself. */
static void *
piece_room(void *user, size_t *n)
{
	const struct piece *p = user;

	if (p->next == p->end)
		return NULL;
	*n = next_length(p) - p->fill;
	return p->buf + p->fill;
}

/* n bytes are the next chunks, whole ones: each that is right lands, and the first that is not is the next. */
static enum mfs_code
chunks_land(struct piece *p, const uint8_t *bytes, size_t n, struct mfs_err *err)
{
	struct mfs_chunk_io io[2];
	const uint64_t first = p->next;
	size_t count = 0, wrong = 2, at = 0;
	enum mfs_code code;

	for (; at < n; at += io[count++].stored.len)
		io[count] = (struct mfs_chunk_io){ .stored = MFS_SPAN(bytes + at, mfs_chunk_length(p->l->f, first + count)) };
	mfs_chunks_open(p->opener, p->l->table, first, io, count);
	for (size_t k = 0; k < count; k++) {
		if (io[k].code != MFS_OK) {
			wrong = k < wrong ? k : wrong;
			continue;
		}
		if ((code = chunk_land(p, first + k, io[k].stored.p, io[k].stored.len, err)) != MFS_OK)
			return code;
		p->kept += io[k].stored.len;
		if (wrong > k)
			p->next++;
	}
	if (wrong == 2)
		return MFS_OK;
	if (err != NULL)
		*err = io[wrong].err;
	return io[wrong].code;
}

/* No more comes: a whole chunk that waits for its second is right by itself. */
static enum mfs_code
piece_flush(void *user, struct mfs_err *err)
{
	struct piece *p = user;
	uint32_t len = mfs_chunk_length(p->l->f, p->next);
	bool whole = p->next < p->end && p->fill >= len;

	p->fill = 0;
	return whole ? chunks_land(p, p->buf, len, err) : MFS_OK;
}

static enum mfs_code
piece_sink(void *user, const void *bytes, size_t n, struct mfs_err *err)
{
	struct piece *p = user;
	const uint8_t *b = bytes;

	while (n > 0 && p->next < p->end) {
		size_t len = next_length(p), take = n < len - p->fill ? n : len - p->fill;
		const uint8_t *chunks = b;
		enum mfs_code code;

		if (take < len) { /* not all of it at once */
			if (b != p->buf + p->fill)
				memcpy(p->buf + p->fill, b, take);
			chunks = p->buf;
		}
		p->fill += take;
		b += take;
		n -= take;
		if (p->fill < len)
			break;
		p->fill = 0;
		if ((code = chunks_land(p, chunks, len, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- workers ----------------------------------------------------------------------------------------------- */

/* With the lock: chunks from i on become BUSY, at most `bytes` of them, inside one part of the blob. */
static void
piece_take(struct piece *p, uint64_t i, uint64_t bytes)
{
	struct mfs_dl_large *l = p->l;
	const uint64_t per_part = MFS_WIRE_PART / l->f->chunk_size, part_end = (i / per_part + 1) * per_part;
	uint64_t taken = 0;

	p->first = p->next = i;
	p->retry = l->state[i] == CHUNK_RETRY;
	while (i < l->f->chunks && i < part_end && l->state[i] == (p->retry ? CHUNK_RETRY : CHUNK_MISSING) &&
		(taken == 0 || (!p->retry && taken + mfs_chunk_length(l->f, i) <= bytes))) {
		taken += mfs_chunk_length(l->f, i);
		l->state[i++] = CHUNK_BUSY;
	}
	l->lacking -= taken;
	l->busy += i - p->first;
	p->end = i;
	p->fill = 0;
	p->written = p->first * l->f->chunk_size;
}

/* What was not brought is lacking again. wrong: the first of them came, and did not match. Returns l->retries. */
static unsigned
piece_give(struct piece *p, bool wrong)
{
	struct mfs_dl_large *l = p->l;
	unsigned retries;

	(void)pthread_mutex_lock(&l->lock);
	if (p->retry)
		l->retries = wrong ? l->retries + 1 : p->next == p->end ? 0 : l->retries;
	for (uint64_t i = p->next; i < p->end; i++) {
		if (l->state[i] != CHUNK_BUSY) /* landed beside one that is wrong */
			continue;
		l->state[i] = (wrong && i == p->next) || p->retry ? CHUNK_RETRY : CHUNK_MISSING;
		l->lacking += mfs_chunk_length(l->f, i);
		l->busy--;
	}
	if (p->next < p->end && p->next < l->cursor)
		l->cursor = p->next;
	retries = l->retries;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
	return retries;
}

/* With the lock: the first lacking chunk: a MISSING one, else a RETRY one. */
static bool
lacking_find(struct mfs_dl_large *l, uint64_t *i)
{
	if (l->lacking == 0)
		return false;
	while (l->cursor < l->f->chunks && l->state[l->cursor] != CHUNK_MISSING)
		l->cursor++;
	*i = l->cursor;
	if (*i < l->f->chunks)
		return true;
	/* It may end the call: not before all others have brought what they have in hand. */
	for (*i = l->busy == 0 ? 0 : l->f->chunks; *i < l->f->chunks; (*i)++)
		if (l->state[*i] == CHUNK_RETRY)
			return true;
	return false;
}

/* What a worker does next. False: there is nothing more to do. *copy: look it up on the device. */
static bool
work_take(struct piece *p, bool *copy)
{
	struct mfs_dl_large *l = p->l;
	struct mfs_dl_run *r = l->r;
	uint64_t i, bytes, share;
	bool found = false;

	(void)pthread_mutex_lock(&l->lock);
	while (!found && l->left > 0 && !mfs_dl_stopped(r)) {
		while (r->index != NULL && l->reuse < l->f->chunks && l->state[l->reuse] != CHUNK_MISSING)
			l->reuse++;
		if (r->index != NULL && l->reuse < l->f->chunks) {
			piece_take(p, l->reuse, (uint64_t)REUSE_RUN * l->f->chunk_size);
			l->reuse = p->end;
			*copy = found = true;
		} else if (lacking_find(l, &i)) {
			bytes = atomic_load(&r->range);
			share = l->lacking / r->d->args.threads;
			/* Towards the end everyone takes a part of the rest; a server without ranges is read once. */
			if (bytes > share)
				bytes = share > MFS_DL_RANGE_MIN ? share : MFS_DL_RANGE_MIN;
			piece_take(p, i, mfs_dl_no_range(r->d) ? MFS_WIRE_PART : bytes);
			*copy = false;
			found = true;
		} else {
			mfs_dl_large_wait(l);
		}
	}
	(void)pthread_mutex_unlock(&l->lock);
	return found;
}

/* Copy from the device what it has; the rest is lacking as before. */
static enum mfs_code
piece_copy(struct piece *p, struct mfs_err *err)
{
	struct mfs_dl_large *l = p->l;
	const uint64_t end = p->end;

	for (uint64_t i = p->first; i < end; i++) {
		uint32_t len = mfs_chunk_length(l->f, i);
		enum mfs_code code;

		p->first = p->next = i;
		p->end = i + 1;
		if (!mfs_dl_stopped(l->r) && mfs_dl_index_find(l->r->index, p->opener, l->table, i, p->buf)) {
			if ((code = chunk_land(p, i, p->buf, len, err)) != MFS_OK) {
				p->end = end;
				(void)piece_give(p, false);
				return code;
			}
			p->next++;
			(void)atomic_fetch_add(&l->r->reused, len);
		}
		(void)piece_give(p, false);
	}
	return MFS_OK;
}

static enum mfs_code
piece_fetch(struct piece *p, struct mfs_err *err)
{
	struct mfs_dl_large *l = p->l;
	const struct mfs_file *f = l->f;
	const uint64_t from = p->first * f->chunk_size, last = p->end * f->chunk_size;
	struct mfs_dl_request q = { .hash = &f->sha256, .off = from, .unit = f->chunk_size, .sink = piece_sink, .room = piece_room,
		.flush = piece_flush, .user = p };
	unsigned source, retries;
	bool wrong;
	enum mfs_code code;

	q.length = (last < f->size ? last : f->size) - from;
	p->kept = 0;
	code = mfs_dl_get(l->r, &q, &p->kept, &wrong, &source, err);
	retries = piece_give(p, wrong);
	if (code == MFS_OK && retries >= MFS_DL_MISMATCHES * l->r->d->n_sources)
		code = mfs_dl_last_fault(l->r, err);
	return code;
}

void
mfs_dl_large_worker(struct mfs_dl_run *r, void *arg)
{
	struct mfs_dl_large *l = arg;
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *opener = NULL;
	mfs_autofree uint8_t *buf = malloc((size_t)2 * l->f->chunk_size);
	struct mfs_err err = MFS_ERR_INIT;
	struct piece p = { .l = l, .buf = buf };
	enum mfs_code code = MFS_OK;
	bool copy;

	if (buf == NULL)
		code = mfs_fail(&err, MFS_NO_MEMORY, "download: two chunks");
	else
		code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &opener, &err);
	p.opener = opener;
	while (code == MFS_OK && work_take(&p, &copy))
		code = copy ? piece_copy(&p, &err) : piece_fetch(&p, &err);
	if (code != MFS_OK)
		(void)mfs_dl_failed(r, &err);
}
