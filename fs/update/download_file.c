/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large payload by all threads. Workers copy what the device has and fetch what it lacks; the checker follows them
 * through the file from its beginning, reads again what an earlier attempt claimed, and hashes the whole; the
 * journaller puts a batch on disk and then says so.
 *
 * A chunk is MISSING -> BUSY (a worker's) -> DONE, or CLAIMED (by the journal) -> DONE or MISSING by the checker. One
 * that came wrong is RETRY: it is asked for alone, last, so that a source that is wrong in one place costs one chunk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "download_io.h"
#include "io.h"
#include "log.h"

enum chunk_state { CHUNK_MISSING, CHUNK_BUSY, CHUNK_CLAIMED, CHUNK_DONE, CHUNK_RETRY };

#define WRITEBACK (8u << 20) /* bytes; the disk begins early, so that a batch's sync is short */
#define REUSE_RUN 16u        /* chunks that a worker looks up at a time */
#define CHECK_RUN(f) (MFS_DL_BUF / (f)->chunk_size) /* chunks that the checker reads at a time */

struct large {
	struct mfs_dl_run *r;
	const struct mfs_file *f;
	const struct mfs_table *table;
	int data, journal;
	bool fresh; /* nothing was in the data file: its zeros need no writing */
	uint64_t batch;
	uint8_t *bits; /* the journaller's */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed; /* a chunk changed its state, or `over` */
	uint8_t *state; /* enum chunk_state, one per chunk */
	uint64_t left;    /* chunks that are not DONE */
	uint64_t busy;    /* chunks that are BUSY */
	uint64_t lacking; /* bytes of MISSING and RETRY ones */
	uint64_t cursor;  /* no MISSING chunk lies before it */
	uint64_t reuse;   /* next chunk to look up on the device */
	uint64_t landed;  /* bytes since the last journal write began */
	uint64_t syncing; /* bytes of the journal write under way */
	uint64_t checked; /* bytes that the checker has passed */
	uint64_t wanted;  /* the checker sleeps until this chunk is DONE; UINT64_MAX: it does not */
	unsigned retries; /* of RETRY chunks that came wrong again, in a row */
	bool over;        /* the checker has seen all of it */
};

struct piece { /* a worker's chunks */
	struct large *l;
	struct mfs_opener *opener;
	uint8_t *buf; /* two chunks: they are hashed together */
	size_t fill;
	uint64_t first, next, end; /* next: not DONE yet */
	uint64_t kept, written;    /* written: where writeback has been started up to */
	bool retry;
};

static void
wait_a_little(struct large *l)
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
	struct large *l = p->l;
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
	if (l->left == 0 || l->landed >= l->batch || i - l->wanted == CHECK_RUN(l->f) - 1)
		(void)pthread_cond_broadcast(&l->changed);
	/* A slow disk: what is not journalled would be lost, and its memory is needed elsewhere. */
	while (l->landed + l->syncing >= 2 * l->batch && !mfs_dl_stopped(l->r))
		wait_a_little(l);
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
	struct large *l = p->l;
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
	struct large *l = p->l;
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
lacking_find(struct large *l, uint64_t *i)
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
	struct large *l = p->l;
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
			wait_a_little(l);
		}
	}
	(void)pthread_mutex_unlock(&l->lock);
	return found;
}

/* Copy from the device what it has; the rest is lacking as before. */
static enum mfs_code
piece_copy(struct piece *p, struct mfs_err *err)
{
	struct large *l = p->l;
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
	struct large *l = p->l;
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

static void
worker(struct mfs_dl_run *r, void *arg)
{
	struct large *l = arg;
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

/* ---- checker -------------------------------------------------------------------------------------------------- */

/* A run of chunks from i on that can be read: all DONE, or all CLAIMED. False: the call is over. */
static bool
readable_wait(struct large *l, uint64_t i, uint64_t *n, bool *claimed)
{
	const uint64_t most = CHECK_RUN(l->f);
	uint8_t state;

	(void)pthread_mutex_lock(&l->lock);
	l->wanted = i;
	while ((state = l->state[i]) != CHUNK_DONE && state != CHUNK_CLAIMED && !mfs_dl_stopped(l->r))
		wait_a_little(l);
	l->wanted = UINT64_MAX;
	for (*n = 0; *n < most && i + *n < l->f->chunks && l->state[i + *n] == state; (*n)++)
		;
	*claimed = state == CHUNK_CLAIMED;
	(void)pthread_mutex_unlock(&l->lock);
	return !mfs_dl_stopped(l->r);
}

/* The claim about chunk i was read: true, or it is fetched. */
static void
claim_settle(struct large *l, uint64_t i, bool good)
{
	const uint32_t len = mfs_chunk_length(l->f, i);

	(void)pthread_mutex_lock(&l->lock);
	l->state[i] = good ? CHUNK_DONE : CHUNK_MISSING;
	if (good) {
		l->left--;
	} else {
		l->lacking += len;
		if (i < l->cursor)
			l->cursor = i;
		if (i < l->reuse)
			l->reuse = i;
	}
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
	if (good) {
		(void)atomic_fetch_add(&l->r->resumed, len);
		mfs_dl_landed(l->r, len);
	}
}

/* Read n chunks from i on and hash them; of claimed ones, as many as are true. *done: chunks passed. */
static enum mfs_code
check_run(struct large *l, struct mfs_hash *h, struct mfs_opener *o, uint8_t *buf, uint64_t i, uint64_t n, bool claimed,
	uint64_t *done, struct mfs_err *err)
{
	const uint64_t off = i * l->f->chunk_size, last = (i + n) * l->f->chunk_size;
	size_t bytes = (size_t)((last < l->f->size ? last : l->f->size) - off);
	bool got = mfs_pread_full(l->data, buf, bytes, (off_t)off) == 0;
	enum mfs_code code;

	*done = n;
	if (!got && !claimed)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s at offset %llu", MFS_HEX(&l->f->sha256),
			(unsigned long long)off);
	if (!claimed)
		return mfs_hash_update(h, buf, bytes, err);
	for (uint64_t k = 0; k < n; k++) {
		uint8_t *at = buf + k * l->f->chunk_size;
		uint32_t len = mfs_chunk_length(l->f, i + k);
		bool good = (got || mfs_pread_full(l->data, at, len, (off_t)(off + k * l->f->chunk_size)) == 0) &&
			mfs_chunk_verify(o, l->table, i + k, MFS_SPAN(at, len), NULL) == MFS_OK;

		claim_settle(l, i + k, good);
		if (!good) {
			*done = k;
			return MFS_OK;
		}
		if ((code = mfs_hash_update(h, at, len, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
check_all(struct large *l, uint8_t *buf, struct mfs_hash *h, struct mfs_opener *o, struct mfs_err *err)
{
	struct mfs_sha256 got;
	uint64_t i = 0, n, done;
	bool claimed;
	enum mfs_code code;

	while (i < l->f->chunks) {
		if (!readable_wait(l, i, &n, &claimed))
			return MFS_OK;
		atomic_store(&l->r->checking, claimed);
		if ((code = check_run(l, h, o, buf, i, n, claimed, &done, err)) != MFS_OK)
			return code;
		i += done;
		(void)pthread_mutex_lock(&l->lock);
		l->checked = i * l->f->chunk_size;
		(void)pthread_mutex_unlock(&l->lock);
	}
	atomic_store(&l->r->checking, false);
	if ((code = mfs_hash_final(h, &got, err)) != MFS_OK || mfs_sha256_equal(&got, &l->f->sha256))
		return code;
	/* Whose fault is it: what lies on disk changed after it was verified, or what was signed does not fit together. */
	code = mfs_dl_verify(l->r, l->data, &l->f->sha256, l->f->size, l->table, err);
	if (code == MFS_OK || code == MFS_HASH_MISMATCH)
		return mfs_fail(err, MFS_IO, "store/staging: blob %s changed on disk while it was downloaded: a faulty disk? What "
			"changed is fetched again at the next attempt", MFS_HEX(&l->f->sha256));
	return code;
}

static void
checker(struct mfs_dl_run *r, void *arg)
{
	struct large *l = arg;
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *o = NULL;
	MFS_CLEANUP(mfs_cleanup_hash) struct mfs_hash *h = NULL;
	mfs_autofree uint8_t *buf = malloc(MFS_DL_BUF);
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;

	if (buf == NULL)
		code = mfs_fail(&err, MFS_NO_MEMORY, "download: buffer");
	else if ((code = mfs_hash_new(&h, &err)) == MFS_OK && (code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &o, &err)) == MFS_OK)
		code = check_all(l, buf, h, o, &err);
	if (code != MFS_OK)
		(void)mfs_dl_failed(r, &err);
	(void)pthread_mutex_lock(&l->lock);
	l->over = true;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
}

/* ---- journal --------------------------------------------------------------------------------------------------- */

/* What has landed goes to the disk, and only then the journal says so. */
static enum mfs_code
journal_write(struct large *l, struct mfs_err *err)
{
	const size_t n = (size_t)((l->f->chunks + 7) / 8);

	(void)pthread_mutex_lock(&l->lock);
	memset(l->bits, 0, n);
	/* A claim that was not read yet stays one: its bytes are on disk since before. */
	for (uint64_t i = 0; i < l->f->chunks; i++)
		if (l->state[i] == CHUNK_DONE || l->state[i] == CHUNK_CLAIMED)
			l->bits[i / 8] = (uint8_t)(l->bits[i / 8] | 1u << (i % 8));
	l->syncing = l->landed;
	l->landed = 0;
	(void)pthread_mutex_unlock(&l->lock);
	if (fdatasync(l->data) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(&l->f->sha256));
	if (mfs_pwrite_full(l->journal, l->bits, n, MFS_JOURNAL_HEADER) != 0 || fdatasync(l->journal) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: journal of blob %s", MFS_HEX(&l->f->sha256));
	(void)pthread_mutex_lock(&l->lock);
	l->syncing = 0;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
	return MFS_OK;
}

static void
journaller(struct mfs_dl_run *r, void *arg)
{
	struct large *l = arg;
	struct mfs_err err = MFS_ERR_INIT;
	int64_t last = mfs_clock_mono_ms();
	uint64_t dropped = 0, checked;
	enum mfs_code code = MFS_OK;
	bool end = false;

	while (!end && code == MFS_OK) {
		bool due;

		(void)pthread_mutex_lock(&l->lock);
		if (l->landed < l->batch && !l->over)
			wait_a_little(l);
		end = l->over || mfs_dl_stopped(r);
		due = l->landed >= l->batch || (l->landed > 0 && (end || mfs_clock_mono_ms() - last >= MFS_DL_BATCH_S * 1000));
		checked = l->checked;
		(void)pthread_mutex_unlock(&l->lock);
		if (!due)
			continue;
		code = journal_write(l, &err);
		last = mfs_clock_mono_ms();
		if (code == MFS_OK && !end)
			code = mfs_dl_room(r, &err);
		/* What was downloaded is not what is read next: leave the page cache to the models in use. */
		(void)posix_fadvise(l->data, (off_t)dropped, (off_t)(checked - dropped), POSIX_FADV_DONTNEED);
		dropped = checked;
	}
	if (code != MFS_OK)
		(void)mfs_dl_failed(r, &err);
}

/* ---- one payload ------------------------------------------------------------------------------------------------ */

/* What an earlier attempt left, if its journal is this payload's: claims. */
static enum mfs_code
claims_read(struct large *l, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err why = MFS_ERR_INIT;
	struct stat st;
	size_t len = 0;

	if (fstat(l->data, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(&l->f->sha256));
	if (mfs_fd_read(l->journal, "journal", (size_t)mfs_journal_length(l->f), &bytes, &len, &why) != MFS_OK ||
		mfs_journal_parse(MFS_SPAN(bytes, len), l->f, l->bits, &why) != MFS_OK) {
		if (st.st_size > 0)
			mfs_log(MFS_LOG_NOTICE, "store/staging: blob %s: %s: it is fetched from its beginning", MFS_HEX(&l->f->sha256),
				why.msg);
		memset(l->bits, 0, (size_t)((l->f->chunks + 7) / 8));
		l->fresh = true;
	}
	return MFS_OK;
}

static enum mfs_code
journal_begin(struct large *l, struct mfs_err *err)
{
	const size_t n = (size_t)mfs_journal_length(l->f);
	mfs_autofree uint8_t *bytes = calloc(1, n);

	if (bytes == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: journal");
	mfs_journal_header(bytes, l->f);
	/* The data file first: a journal never claims what an older file held. */
	if (ftruncate(l->data, 0) != 0 || ftruncate(l->data, (off_t)l->f->size) != 0 || fsync(l->data) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(&l->f->sha256));
	if (ftruncate(l->journal, 0) != 0 || mfs_pwrite_full(l->journal, bytes, n, 0) != 0 || fsync(l->journal) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: journal of blob %s", MFS_HEX(&l->f->sha256));
	return mfs_dir_sync(l->r->dirfd, NULL, err);
}

static enum mfs_code
large_run(struct large *l, struct mfs_err *err)
{
	const uint64_t chunks = l->f->chunks;
	const struct mfs_dl_worker workers[] = { { worker, l->r->d->args.threads }, { checker, 1 }, { journaller, 1 } };
	enum mfs_code code;

	if ((code = claims_read(l, err)) != MFS_OK)
		return code;
	l->left = chunks;
	l->wanted = UINT64_MAX;
	l->lacking = l->f->size;
	for (uint64_t i = 0; i < chunks; i++)
		if ((l->bits[i / 8] >> (i % 8) & 1) != 0) {
			l->state[i] = CHUNK_CLAIMED;
			l->lacking -= mfs_chunk_length(l->f, i);
		}
	if (l->fresh && (code = journal_begin(l, err)) != MFS_OK)
		return code;
	/* An attacker or a crash may have changed its length; no claim depends on it. */
	if (ftruncate(l->data, (off_t)l->f->size) != 0 || fchmod(l->data, 0640) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(&l->f->sha256));
	return mfs_dl_parallel(l->r, workers, sizeof(workers) / sizeof(workers[0]), l, err);
}

enum mfs_code
mfs_dl_file(struct mfs_dl_run *r, const struct mfs_file *f, const struct mfs_table *table, struct mfs_err *err)
{
	struct large l = { .r = r, .f = f, .table = table, .data = -1, .journal = -1 };
	char name[80];
	enum mfs_code code = MFS_OK;

	l.batch = r->d->args.batch;
	mfs_dl_name(name, &f->sha256, "data");
	if ((l.data = mfs_dl_staged(r->dirfd, name, err)) < 0)
		return err->code;
	if (mfs_dl_is_kept(r->d, &f->sha256, f->size, l.data)) {
		(void)atomic_fetch_add(&r->resumed, f->size);
		mfs_dl_landed(r, f->size);
		(void)close(l.data);
		return MFS_OK;
	}
	mfs_dl_name(name, &f->sha256, "journal");
	if ((l.journal = mfs_dl_staged(r->dirfd, name, err)) < 0) {
		(void)close(l.data);
		return err->code;
	}
	l.state = calloc((size_t)f->chunks, 1);
	l.bits = calloc((size_t)((f->chunks + 7) / 8), 1);
	(void)pthread_mutex_init(&l.lock, NULL);
	mfs_dl_cond_init(&l.changed);
	if (l.state == NULL || l.bits == NULL)
		code = mfs_fail(err, MFS_NO_MEMORY, "download: %llu chunks", (unsigned long long)f->chunks);
	else
		code = large_run(&l, err);
	if (code == MFS_OK && fsync(l.data) != 0)
		code = mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(&f->sha256));
	if (code == MFS_OK)
		mfs_dl_keep(r->d, &f->sha256, f->size, l.data);
	(void)pthread_cond_destroy(&l.changed);
	(void)pthread_mutex_destroy(&l.lock);
	free(l.state);
	free(l.bits);
	(void)close(l.journal);
	(void)close(l.data);
	return code;
}
