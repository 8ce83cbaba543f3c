/* SPDX-License-Identifier: Apache-2.0 */
/* A blob in order, by one thread: chunk tables, and payloads that are small. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "download_io.h"
#include "io.h"

struct stream {
	struct mfs_dl_run *r;
	const struct mfs_sha256 *hash;
	const struct mfs_table *table; /* NULL: nothing is verified before the end */
	struct mfs_opener *opener;
	struct mfs_hash *whole;
	uint8_t *buf; /* a chunk of table */
	size_t fill;
	int fd;
	uint64_t at, size; /* written so far */
	uint64_t kept;
};

enum mfs_code
mfs_dl_verify(struct mfs_dl_run *r, int fd, const struct mfs_sha256 *hash, uint64_t size, const struct mfs_table *table,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *o = NULL;
	MFS_CLEANUP(mfs_cleanup_hash) struct mfs_hash *h = NULL;
	mfs_autofree uint8_t *buf = malloc(MFS_DL_BUF);
	struct mfs_sha256 got;
	struct stat st;
	enum mfs_code code;

	if (buf == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: buffer");
	if (fstat(fd, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "blob %s", MFS_HEX(hash));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return mfs_fail(err, MFS_HASH_MISMATCH, "blob %s: %lld bytes, not %llu", MFS_HEX(hash), (long long)st.st_size,
			(unsigned long long)size);
	if ((code = mfs_hash_new(&h, err)) != MFS_OK || (code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &o, err)) != MFS_OK)
		return code;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = 0; at < size;) {
		size_t n = size - at < MFS_DL_BUF ? (size_t)(size - at) : MFS_DL_BUF;

		if (r != NULL && mfs_dl_stopped(r))
			return mfs_fail(err, MFS_CONDITION_UNMET, "stopped");
		if (mfs_pread_full(fd, buf, n, (off_t)at) != 0)
			return mfs_fail_sys(err, MFS_IO, "blob %s at offset %llu", MFS_HEX(hash), (unsigned long long)at);
		for (size_t k = 0; table != NULL && k < n; k += table->file->chunk_size) {
			uint64_t i = (at + k) / table->file->chunk_size;

			if ((code = mfs_chunk_verify(o, table, i, MFS_SPAN(buf + k, mfs_chunk_length(table->file, i)), err)) != MFS_OK)
				return code;
		}
		if ((code = mfs_hash_update(h, buf, n, err)) != MFS_OK)
			return code;
		at += n;
	}
	if ((code = mfs_hash_final(h, &got, err)) != MFS_OK)
		return code;
	if (mfs_sha256_equal(&got, hash))
		return MFS_OK;
	if (table != NULL && table->chunks > 1)
		return mfs_fail(err, MFS_MALFORMED, "%s: every chunk matches its signed hash, but all of them together hash to "
			"%s and not to the signed %s", MFS_ESC(table->file->name), MFS_HEX(&got), MFS_HEX(hash));
	return mfs_fail(err, MFS_HASH_MISMATCH, "blob %s: the bytes hash to %s", MFS_HEX(hash), MFS_HEX(&got));
}

/* n bytes that are right as far as can be known: hashed and written. */
static enum mfs_code
stream_write(struct stream *s, const uint8_t *p, size_t n, struct mfs_err *err)
{
	enum mfs_code code = mfs_hash_update(s->whole, p, n, err);

	if (code != MFS_OK)
		return code;
	if (mfs_blob_write(s->fd, p, n, s->at, true) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s at offset %llu", MFS_HEX(s->hash),
			(unsigned long long)s->at);
	s->at += n;
	s->kept += n;
	mfs_dl_wrote(s->r, n);
	return MFS_OK;
}

static enum mfs_code
stream_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct stream *s = user;
	const uint8_t *b = p;
	enum mfs_code code = MFS_OK;

	if (n > s->size - s->at - s->fill)
		n = (size_t)(s->size - s->at - s->fill);
	if (s->table == NULL)
		return n > 0 ? stream_write(s, b, n, err) : MFS_OK;
	while (n > 0 && code == MFS_OK) {
		uint64_t i = s->at / s->table->file->chunk_size;
		uint32_t len = mfs_chunk_length(s->table->file, i);
		size_t take = n < len - s->fill ? n : len - s->fill;

		memcpy(s->buf + s->fill, b, take);
		s->fill += take;
		b += take;
		n -= take;
		if (s->fill < len)
			break;
		s->fill = 0;
		if ((code = mfs_chunk_verify(s->opener, s->table, i, MFS_SPAN(s->buf, len), err)) == MFS_OK)
			code = stream_write(s, s->buf, len, err);
	}
	return code;
}

/* From the beginning again. */
static enum mfs_code
stream_rewind(struct stream *s, struct mfs_err *err)
{
	struct mfs_sha256 ignored;
	enum mfs_code code = mfs_hash_final(s->whole, &ignored, err); /* and restarts it */

	if (code != MFS_OK)
		return code;
	if (ftruncate(s->fd, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(s->hash));
	(void)atomic_fetch_sub(&s->r->done, s->at);
	(void)atomic_fetch_add(&s->r->wasted, s->at);
	(void)atomic_fetch_add(&s->r->to_write, s->at);
	s->at = 0;
	s->fill = 0;
	return MFS_OK;
}

/* All bytes are there. *mismatch: they are not the right ones, and whoever sent them is to blame. */
static enum mfs_code
stream_finish(struct stream *s, unsigned source, bool one_source, bool *mismatch, struct mfs_err *err)
{
	struct mfs_err wrong = MFS_ERR_INIT;
	struct mfs_sha256 got;
	enum mfs_code code;

	*mismatch = false;
	if ((code = mfs_hash_final(s->whole, &got, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&got, s->hash)) {
		if (s->table != NULL && s->table->chunks > 1)
			return mfs_fail(err, MFS_MALFORMED, "%s: every chunk matches its signed hash, but all of them together "
				"hash to %s and not to the signed %s", MFS_ESC(s->table->file->name), MFS_HEX(&got), MFS_HEX(s->hash));
		(void)mfs_fail(&wrong, MFS_HASH_MISMATCH, "blob %s: the bytes hash to %s", MFS_HEX(s->hash), MFS_HEX(&got));
		mfs_dl_wrong(s->r, source, one_source, &wrong);
		*mismatch = true;
		return stream_rewind(s, err);
	}
	if (ftruncate(s->fd, (off_t)s->size) != 0 || fchmod(s->fd, 0640) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(s->hash));
	(void)sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* its fsync at the end will be short */
	return MFS_OK;
}

static enum mfs_code
stream_run(struct stream *s, struct mfs_err *err)
{
	struct mfs_dl_run *r = s->r;
	unsigned mismatches = 0, source = 0, first = 0;
	bool mismatch, one_source = true;
	enum mfs_code code;

	for (;;) {
		const uint64_t unit = s->table != NULL ? s->table->file->chunk_size : 0;
		uint64_t n = atomic_load(&r->range), end = (s->at / MFS_WIRE_PART + 1) * MFS_WIRE_PART;
		struct mfs_dl_request q = { .hash = s->hash, .off = s->at, .unit = unit, .sink = stream_sink, .user = s };
		bool begins = s->at == 0;

		if (s->at == s->size) {
			if ((code = stream_finish(s, source, one_source, &mismatch, err)) != MFS_OK || !mismatch)
				return code;
			if (++mismatches >= MFS_DL_MISMATCHES * r->d->n_sources)
				return mfs_dl_last_fault(r, err);
			one_source = true;
			continue;
		}
		if (end > s->size)
			end = s->size;
		q.length = end - s->at < n ? end - s->at : n;
		s->fill = 0;
		if ((code = mfs_dl_get(r, &q, &s->kept, &mismatch, &source, err)) != MFS_OK)
			return code;
		if (begins)
			first = source;
		else if (source != first)
			one_source = false;
		mismatches = mismatch ? mismatches + 1 : s->table != NULL ? 0 : mismatches;
		if (mismatches >= MFS_DL_MISMATCHES * r->d->n_sources)
			return mfs_dl_last_fault(r, err);
	}
}

enum mfs_code
mfs_dl_stream(struct mfs_dl_run *r, const struct mfs_sha256 *hash, uint64_t size, const struct mfs_table *table,
	struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = NULL;
	struct stream s = { .r = r, .hash = hash, .table = table, .size = size, .fd = -1 };
	char name[80];
	enum mfs_code code = MFS_OK;

	mfs_dl_name(name, hash, "data");
	if ((s.fd = mfs_dl_staged(r->dirfd, name, err)) < 0)
		return err->code;
	/* Left by an earlier attempt, and whole? */
	if (size > 0 && mfs_dl_verify(r, s.fd, hash, size, table, NULL) == MFS_OK) {
		(void)atomic_fetch_add(&r->resumed, size);
		mfs_dl_landed(r, size);
		(void)close(s.fd);
		return MFS_OK;
	}
	if (ftruncate(s.fd, 0) != 0)
		code = mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(hash));
	else if (table != NULL && (s.buf = buf = malloc(table->file->chunk_size)) == NULL)
		code = mfs_fail(err, MFS_NO_MEMORY, "download: a chunk");
	if (code == MFS_OK && (code = mfs_hash_new(&s.whole, err)) == MFS_OK &&
		(code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &s.opener, err)) == MFS_OK)
		code = stream_run(&s, err);
	mfs_hash_free(s.whole);
	mfs_opener_free(s.opener);
	(void)close(s.fd);
	return code;
}
