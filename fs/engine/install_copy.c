/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying one file of a bundle into the store. A helper thread reads a chunk, compares its hash
 * with the table and opens it (the tag says that the key is right); this thread hashes the whole
 * and writes. Memory: SLOTS chunks and one chunk of plaintext, at most 9 MiB.
 */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bundledir.h"
#include "install_io.h"
#include "io.h"

#define SLOTS 8u

struct pipe_slot {
	uint8_t *buf; /* chunk_size bytes */
	uint32_t len;
};

struct pipeline {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock: chunks made and taken so far; the slot of chunk n is n % SLOTS */
	uint64_t made, taken;
	bool stop;            /* the taker gave up */
	struct mfs_err failed; /* of the maker: code != OK ends it after `made` chunks */

	/* the maker's own */
	struct pipe_slot slots[SLOTS];
	int fd;
	const struct mfs_file *f;
	const struct mfs_table *table;
	struct mfs_opener *opener;
	uint8_t *plain; /* chunk_size bytes; NULL when there is no key: the hash is checked alone */
};

/* Read and verify chunk i into slot s. The file must end exactly where the manifest says. */
static enum mfs_code
chunk_make(struct pipeline *p, uint64_t i, struct pipe_slot *s, struct mfs_err *err)
{
	uint64_t off = i * p->f->chunk_size;
	uint8_t extra;
	ssize_t more;

	s->len = mfs_chunk_length(p->f, i);
	if (mfs_pread_full(p->fd, s->buf, s->len, (off_t)off) != 0) {
		struct stat st;

		if (errno == EIO && fstat(p->fd, &st) == 0 && (uint64_t)st.st_size < p->f->size)
			return mfs_fail(err, MFS_HASH_MISMATCH, "cut off at %lld of %llu bytes while it was copied",
				(long long)st.st_size, (unsigned long long)p->f->size);
		return mfs_fail_sys(err, MFS_IO, "read at offset %llu", (unsigned long long)off);
	}
	if (i + 1 == p->f->chunks) {
		do
			more = pread(p->fd, &extra, 1, (off_t)p->f->size);
		while (more < 0 && errno == EINTR);
		if (more != 0)
			return mfs_fail(err, MFS_HASH_MISMATCH, "grew beyond its %llu bytes while it was copied",
				(unsigned long long)p->f->size);
	}
	if (p->plain != NULL)
		return mfs_chunk_open(p->opener, p->table, i, MFS_SPAN(s->buf, s->len), p->plain, err);
	return mfs_chunk_verify(p->opener, p->table, i, MFS_SPAN(s->buf, s->len), err);
}

static void *
maker(void *arg)
{
	struct pipeline *p = arg;
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = MFS_OK;

	for (uint64_t i = 0; i < p->f->chunks && code == MFS_OK; i++) {
		bool stop;

		(void)pthread_mutex_lock(&p->lock);
		while (!p->stop && p->made - p->taken == SLOTS)
			(void)pthread_cond_wait(&p->changed, &p->lock);
		stop = p->stop;
		(void)pthread_mutex_unlock(&p->lock);
		if (stop)
			break;
		code = chunk_make(p, i, &p->slots[i % SLOTS], &err);
		(void)pthread_mutex_lock(&p->lock);
		if (code == MFS_OK)
			p->made++;
		else
			p->failed = err;
		(void)pthread_cond_signal(&p->changed);
		(void)pthread_mutex_unlock(&p->lock);
	}
	return NULL;
}

/* Wait for chunk i; its bytes stay valid until chunk_done(). */
static enum mfs_code
chunk_wait(struct pipeline *p, uint64_t i, const struct pipe_slot **s, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	(void)pthread_mutex_lock(&p->lock);
	while (p->made <= i && p->failed.code == MFS_OK)
		(void)pthread_cond_wait(&p->changed, &p->lock);
	if (p->made <= i) {
		code = p->failed.code;
		*err = p->failed;
	}
	(void)pthread_mutex_unlock(&p->lock);
	*s = &p->slots[i % SLOTS];
	return code;
}

static void
chunk_done(struct pipeline *p, bool stop)
{
	(void)pthread_mutex_lock(&p->lock);
	p->taken++;
	p->stop = p->stop || stop;
	(void)pthread_cond_signal(&p->changed);
	(void)pthread_mutex_unlock(&p->lock);
}

/* The taker: hash the whole, and write it when `put` is not NULL. */
static enum mfs_code
take_all(struct mfs_install_run *r, struct pipeline *p, struct mfs_put *put, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_hash) struct mfs_hash *whole = NULL;
	const uint64_t before = r->done;
	struct mfs_sha256 got;
	enum mfs_code code = put == NULL ? mfs_hash_new(&whole, err) : MFS_OK;

	for (uint64_t i = 0; i < p->f->chunks && code == MFS_OK; i++) {
		const struct pipe_slot *s;

		if ((code = chunk_wait(p, i, &s, err)) != MFS_OK)
			break;
		code = put != NULL ? mfs_put_write(put, s->buf, s->len, err) : mfs_hash_update(whole, s->buf, s->len, err);
		r->done += r->quiet ? 0 : s->len;
		chunk_done(p, code != MFS_OK);
		if (code == MFS_OK && !r->quiet && r->args->progress != NULL)
			r->args->progress(r->args->user, r->done, r->total);
	}
	if (code != MFS_OK)
		chunk_done(p, true);
	else if (put != NULL)
		code = mfs_put_commit(put, err);
	else if ((code = mfs_hash_final(whole, &got, err)) == MFS_OK && !mfs_sha256_equal(&got, &p->f->sha256))
		code = mfs_fail(err, MFS_HASH_MISMATCH, "the bytes hash to %s", MFS_HEX(&got));
	if (code != MFS_OK)
		r->done = before;
	return code;
}

static enum mfs_code
opener_make(const struct mfs_install_run *r, const struct mfs_file *f, struct mfs_opener **out, struct mfs_err *err)
{
	struct mfs_key key = { { 0 } };
	enum mfs_code code;

	if (r->content_key == NULL)
		return mfs_opener_new(MFS_CIPHER_NONE, NULL, out, err);
	if ((code = mfs_file_key(r->content_key, &f->salt, r->m->cipher, r->m->model_id, f->name, f->chunk_size, &key,
		     err)) == MFS_OK)
		code = mfs_opener_new(r->m->cipher, &key, out, err);
	mfs_key_wipe(&key);
	return code;
}

/* Run fd's bytes through the pipeline: into `put`, or with NULL only to verify them. */
static enum mfs_code
run(struct mfs_install_run *r, const struct mfs_file *f, const struct mfs_table *table, int fd, struct mfs_put *put,
	struct mfs_err *err)
{
	struct pipeline p = { .fd = fd, .f = f, .table = table };
	const size_t n = r->content_key != NULL ? SLOTS + 1 : SLOTS;
	mfs_autofree uint8_t *memory = NULL;
	pthread_t thread;
	enum mfs_code code;

	if ((memory = malloc(n * f->chunk_size)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu buffers", n);
	for (size_t i = 0; i < SLOTS; i++)
		p.slots[i].buf = memory + i * f->chunk_size;
	if (r->content_key != NULL)
		p.plain = memory + (size_t)SLOTS * f->chunk_size;
	if ((code = opener_make(r, f, &p.opener, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_init(&p.lock, NULL);
	(void)pthread_cond_init(&p.changed, NULL);
	if ((errno = pthread_create(&thread, NULL, maker, &p)) != 0) {
		code = mfs_fail_sys(err, MFS_NO_MEMORY, "thread");
	} else {
		code = take_all(r, &p, put, err);
		(void)pthread_join(thread, NULL);
	}
	if (p.plain != NULL)
		OPENSSL_cleanse(p.plain, f->chunk_size);
	(void)pthread_cond_destroy(&p.changed);
	(void)pthread_mutex_destroy(&p.lock);
	mfs_opener_free(p.opener);
	return code;
}

/* What is wrong with a file of the bundle, once with its name, and what to do. */
static enum mfs_code
file_bad(const char *part, const struct mfs_file *f, struct mfs_err *err)
{
	const size_t n = strlen(part);

	if (strncmp(err->msg, part, n) != 0 || err->msg[n] != '/')
		(void)mfs_err_context(err, "%s/%s: ", part, MFS_ESC(f->name));
	if (err->code == MFS_HASH_MISMATCH)
		(void)mfs_err_hint(err, "; copy the bundle again from its source");
	if (err->code == MFS_DECRYPT_FAILED)
		(void)mfs_err_hint(err, "; it was signed like this: its publisher has to make a new version");
	return err->code;
}

/* The table of a file of several chunks: from the bundle, verified, and into the store. */
static enum mfs_code
table_install(struct mfs_install_run *r, const struct mfs_file *f, struct mfs_table **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_put) struct mfs_put *put = NULL;
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *table = NULL;
	mfs_autofree uint8_t *bytes = NULL, *have = NULL;
	mfs_autoclose int fd = -1, store_fd = -1;
	size_t len = 0, have_len = 0;
	enum mfs_code code;

	if (f->chunks <= 1)
		return mfs_table_load(f, MFS_SPAN(NULL, 0), out, err);
	if ((code = mfs_bundledir_file(r->args->bundle_fd, "chunks", f->name, mfs_table_length(f->chunks), &fd, err)) !=
		MFS_OK)
		return code;
	if ((code = mfs_fd_read(fd, f->name, (size_t)mfs_table_length(f->chunks), &bytes, &len, err)) != MFS_OK ||
		(code = mfs_table_load(f, MFS_SPAN(bytes, len), &table, err)) != MFS_OK)
		return file_bad("chunks", f, err);
	/* Compared byte by byte with what stands in the store; a damaged one is replaced. */
	store_fd = mfs_store_blob_open(r->args->store, &f->chunks_sha256, 0);
	if (store_fd < 0 || mfs_fd_read(store_fd, f->name, len, &have, &have_len, NULL) != MFS_OK || have_len != len ||
		memcmp(have, bytes, len) != 0) {
		if ((code = mfs_put_begin(r->args->store, &f->chunks_sha256, len, &put, err)) != MFS_OK ||
			(code = mfs_put_write(put, bytes, len, err)) != MFS_OK ||
			(code = mfs_put_commit(put, err)) != MFS_OK)
			return code;
	}
	*out = mfs_steal(&table);
	return MFS_OK;
}

/* Is a good copy of the payload in the store? A damaged one is reported and replaced. */
static bool
payload_stands(struct mfs_install_run *r, const struct mfs_file *f, const struct mfs_table *table)
{
	struct mfs_err bad = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;

	if ((fd = mfs_store_blob_open(r->args->store, &f->sha256, 0)) < 0)
		return false;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	if (run(r, f, table, fd, NULL, &bad) == MFS_OK)
		return true;
	mfs_log(MFS_LOG_WARN, "store: blob %s (%s): %s: copied again", MFS_HEX(&f->sha256), MFS_ESC(f->name), bad.msg);
	return false;
}

enum mfs_code
mfs_install_file(struct mfs_install_run *r, size_t k, struct mfs_err *err)
{
	const struct mfs_file *f = &r->m->files[k];
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *table = NULL;
	MFS_CLEANUP(mfs_cleanup_put) struct mfs_put *put = NULL;
	mfs_autoclose int fd = -1;
	enum mfs_code code;

	if ((code = mfs_bundledir_file(r->args->bundle_fd, "payload", f->name, f->size, &fd, err)) != MFS_OK ||
		(code = table_install(r, f, &table, err)) != MFS_OK)
		return code;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	r->quiet = false;
	if (mfs_store_blob_has(r->args->store, &f->sha256, f->size)) {
		/* The bundle itself must be whole, also where the store has the bytes already. */
		if ((code = run(r, f, table, fd, NULL, err)) != MFS_OK)
			return file_bad("payload", f, err);
		r->quiet = true;
		if (payload_stands(r, f, table))
			return MFS_OK;
	}
	if ((code = mfs_put_begin(r->args->store, &f->sha256, f->size, &put, err)) != MFS_OK)
		return code;
	if ((code = run(r, f, table, fd, put, err)) != MFS_OK)
		return file_bad("payload", f, err);
	return MFS_OK;
}
