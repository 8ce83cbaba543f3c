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

#include "download_large.h"
#include "io.h"
#include "log.h"

/* ---- checker -------------------------------------------------------------------------------------------------- */

/* A run of chunks from i on that can be read: all DONE, or all CLAIMED. False: the call is over. */
static bool
readable_wait(struct mfs_dl_large *l, uint64_t i, uint64_t *n, bool *claimed)
{
	const uint64_t most = MFS_DL_CHECK_RUN(l->f);
	uint8_t state;

	(void)pthread_mutex_lock(&l->lock);
	l->wanted = i;
	while ((state = l->state[i]) != CHUNK_DONE && state != CHUNK_CLAIMED && !mfs_dl_stopped(l->r))
		mfs_dl_large_wait(l);
	l->wanted = UINT64_MAX;
	for (*n = 0; *n < most && i + *n < l->f->chunks && l->state[i + *n] == state; (*n)++)
		;
	*claimed = state == CHUNK_CLAIMED;
	(void)pthread_mutex_unlock(&l->lock);
	return !mfs_dl_stopped(l->r);
}

/* The claim about chunk i was read: true, or it is fetched. */
static void
claim_settle(struct mfs_dl_large *l, uint64_t i, bool good)
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
check_run(struct mfs_dl_large *l, struct mfs_hash *h, struct mfs_opener *o, uint8_t *buf, uint64_t i, uint64_t n, bool claimed,
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
check_all(struct mfs_dl_large *l, uint8_t *buf, struct mfs_hash *h, struct mfs_opener *o, struct mfs_err *err)
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
	struct mfs_dl_large *l = arg;
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
journal_write(struct mfs_dl_large *l, struct mfs_err *err)
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
	struct mfs_dl_large *l = arg;
	struct mfs_err err = MFS_ERR_INIT;
	int64_t last = mfs_clock_mono_ms();
	uint64_t dropped = 0, checked;
	enum mfs_code code = MFS_OK;
	bool end = false;

	while (!end && code == MFS_OK) {
		bool due;

		(void)pthread_mutex_lock(&l->lock);
		if (l->landed < l->batch && !l->over)
			mfs_dl_large_wait(l);
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
claims_read(struct mfs_dl_large *l, struct mfs_err *err)
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
journal_begin(struct mfs_dl_large *l, struct mfs_err *err)
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
large_run(struct mfs_dl_large *l, struct mfs_err *err)
{
	const uint64_t chunks = l->f->chunks;
	struct mfs_err late = MFS_ERR_INIT;
	const struct mfs_dl_worker workers[] = { { mfs_dl_large_worker, l->r->d->args.threads }, { checker, 1 }, { journaller, 1 } };
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
	code = mfs_dl_parallel(l->r, workers, sizeof(workers) / sizeof(workers[0]), l, err);
	/* When it was stopped, a worker may have landed its last chunk after the journaller had gone. */
	if (l->landed > 0 && journal_write(l, &late) != MFS_OK && code == MFS_OK) {
		code = late.code;
		if (err != NULL)
			*err = late;
	}
	return code;
}

enum mfs_code
mfs_dl_file(struct mfs_dl_run *r, const struct mfs_file *f, const struct mfs_table *table, struct mfs_err *err)
{
	struct mfs_dl_large l = { .r = r, .f = f, .table = table, .data = -1, .journal = -1 };
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
