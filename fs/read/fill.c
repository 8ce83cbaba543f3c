/* SPDX-License-Identifier: Apache-2.0 */
/* fill.c - a whole file at once: into the resident tier, or to check what is stored. */
#include "content_internal.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "io.h"

#define WORKERS_MAX 16u /* a run and a chunk of locked memory each */

struct job {
	struct mfs_content *c;
	struct mfs_open *o;
	int fd;        /* -1: check only */
	bool hash_only; /* no key at hand */
	uint64_t run;  /* chunks that one worker takes at a time */
	const _Atomic int *cancel;
	_Atomic uint64_t *done;
	_Atomic uint64_t next; /* run to take */
	_Atomic bool stop;
	pthread_mutex_t lock; /* code, err */
	enum mfs_code code;
	struct mfs_err err;
};

static unsigned
cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static void
fail_job(struct job *j, const struct mfs_err *err)
{
	(void)pthread_mutex_lock(&j->lock);
	if (j->code == MFS_OK) {
		j->code = err->code;
		j->err = *err;
	}
	(void)pthread_mutex_unlock(&j->lock);
	atomic_store(&j->stop, true);
}

/* Where a worker opens its run. Before it lies room for one chunk, through which one is read again. */
static uint8_t *
run_of(const struct job *j, const struct mfs_reader *r)
{
	return r->bounce + j->c->file->chunk_size;
}

/* Verify and open `count` chunks from `first` on, in the worker's run. */
static enum mfs_code
open_chunks(struct job *j, struct mfs_reader *r, uint64_t first, uint64_t count, size_t bytes, struct mfs_err *err)
{
	const struct mfs_file *f = j->c->file;
	struct mfs_chunk_io io[2];
	struct mfs_err ignored = MFS_ERR_INIT;
	enum mfs_code code = MFS_OK;
	uint8_t *run = run_of(j, r);
	bool all = mfs_blob_read(mfs_content_blob(j->c, j->o), run, bytes, first * f->chunk_size, run, &ignored) == MFS_OK;

	for (size_t i = 0, n; i < count && code == MFS_OK; i += n) {
		n = count - i < 2 ? 1 : 2;
		for (size_t k = 0; k < n; k++) {
			uint8_t *at = run + (i + k) * f->chunk_size;

			io[k] = (struct mfs_chunk_io){ .stored = MFS_SPAN(at, mfs_chunk_length(f, first + i + k)),
				.plaintext = j->hash_only ? NULL : at, .code = MFS_IO, .err = MFS_ERR_INIT };
		}
		if (all)
			mfs_chunks_open(r->opener, j->o->table, first + i, io, n);
		for (size_t k = 0; k < n && code == MFS_OK; k++) {
			uint8_t *at = run + (i + k) * f->chunk_size;

			code = io[k].code;
			*err = io[k].err;
			if (code == MFS_IO || code == MFS_HASH_MISMATCH)
				code = mfs_content_chunk(j->c, j->o, r, first + i + k, at, j->hash_only ? NULL : at, err);
		}
	}
	return code;
}

static enum mfs_code
do_run(struct job *j, struct mfs_reader *r, uint64_t first, struct mfs_err *err)
{
	const struct mfs_file *f = j->c->file;
	uint64_t count = f->chunks - first < j->run ? f->chunks - first : j->run;
	uint64_t off = first * f->chunk_size;
	size_t bytes = (size_t)(f->size - off < count * f->chunk_size ? f->size - off : count * f->chunk_size);
	enum mfs_code code = open_chunks(j, r, first, count, bytes, err);

	/* write(2), not a mapping: a full tmpfs is an error here and would be a SIGBUS there. */
	if (code == MFS_OK && j->fd >= 0 && mfs_pwrite_full(j->fd, run_of(j, r), bytes, (off_t)off) != 0)
		code = errno == ENOSPC || errno == EDQUOT ?
			mfs_fail(err, MFS_NO_MEMORY, "resident copy: the memory set aside for it is full at offset %llu; raise memory_budget",
				(unsigned long long)off) :
			mfs_fail_sys(err, MFS_IO, "resident copy: write at offset %llu", (unsigned long long)off);
	if (code == MFS_OK && j->done != NULL)
		atomic_fetch_add(j->done, bytes);
	return code;
}

static void *
work(void *arg)
{
	struct job *j = arg;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_reader *r = NULL;
	enum mfs_code code = mfs_reader_take(j->c->cache, j->c->file->chunk_size + MFS_CONTENT_RUN, &r, &err);

	if (code == MFS_OK && !j->hash_only)
		code = mfs_content_rekey(j->c, r, &err);
	while (code == MFS_OK && !atomic_load(&j->stop)) {
		uint64_t first = atomic_fetch_add(&j->next, 1) * j->run;

		if (first >= j->c->file->chunks)
			break;
		if (j->cancel != NULL && atomic_load(j->cancel) != 0)
			code = mfs_fail(&err, MFS_CONDITION_UNMET, "canceled");
		else
			code = do_run(j, r, first, &err);
	}
	if (code != MFS_OK)
		fail_job(j, &err);
	if (r != NULL) {
		explicit_bzero(r->bounce, r->bounce_cap); /* once: each run overwrites the one before */
		mfs_reader_drop(r);
	}
	return NULL;
}

static enum mfs_code
run_job(struct mfs_content *c, int fd, bool hash_only, unsigned threads, const _Atomic int *cancel,
	_Atomic uint64_t *done, struct mfs_err *err)
{
	struct job j = { .c = c, .fd = fd, .hash_only = hash_only, .run = MFS_CONTENT_RUN / c->file->chunk_size,
		.cancel = cancel, .done = done };
	pthread_t tid[WORKERS_MAX];
	unsigned started = 0;
	struct mfs_err local = MFS_ERR_INIT;
	enum mfs_code code;

	if (err == NULL)
		err = &local;
	if (c->file->size == 0)
		return MFS_OK;
	if ((code = mfs_content_open(c, &j.o, err)) != MFS_OK)
		return mfs_err_context(err, "%s %s: %s: ", c->m->model_id, c->m->version, MFS_ESC(c->file->name));
	(void)pthread_mutex_init(&j.lock, NULL);
	if (threads == 0)
		threads = cores();
	if (threads > WORKERS_MAX)
		threads = WORKERS_MAX;
	/* The caller's thread is one of them; fewer than asked for is slower, not wrong. */
	for (unsigned i = 1; i < threads && i * j.run < c->file->chunks; i++)
		if (pthread_create(&tid[started], NULL, work, &j) == 0)
			started++;
	(void)work(&j);
	for (unsigned i = 0; i < started; i++)
		(void)pthread_join(tid[i], NULL);
	(void)pthread_mutex_destroy(&j.lock);
	mfs_content_close(c, j.o);
	if (j.code == MFS_OK)
		return MFS_OK;
	*err = j.err;
	return mfs_err_context(err, "%s %s: %s: ", c->m->model_id, c->m->version, MFS_ESC(c->file->name));
}

enum mfs_code
mfs_content_fill(struct mfs_content *c, int fd, unsigned threads, const _Atomic int *cancel, _Atomic uint64_t *done,
	struct mfs_err *err)
{
	if (c->m->cipher != MFS_CIPHER_NONE && c->key == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: encrypted, and there is no key for it",
			MFS_ESC(c->file->name));
	return run_job(c, fd, false, threads, cancel, done, err);
}

enum mfs_code
mfs_content_check(struct mfs_content *c, unsigned threads, const _Atomic int *cancel, _Atomic uint64_t *done,
	struct mfs_err *err)
{
	bool hash_only = c->m->cipher != MFS_CIPHER_NONE && c->key == NULL;

	return run_job(c, -1, hash_only, threads, cancel, done, err);
}
