/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What failed at read is fetched again and written back (design 6): one chunk in its place, or, where a table or a
 * whole blob is gone or has another length, all of it that does not verify.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "download_io.h"
#include "io.h"
#include "log.h"

#define PATIENCE_MS 8000 /* a reader waits at most 10 s */

struct one { /* a chunk under way */
	uint8_t *buf;
	uint32_t len;
	uint64_t fill; /* what mfs_dl_get calls kept */
};

static enum mfs_code
one_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct one *o = user;

	(void)err;
	if (n > o->len - o->fill)
		n = (size_t)(o->len - o->fill);
	memcpy(o->buf + o->fill, p, n);
	o->fill += n;
	return MFS_OK;
}

/* Bytes of chunk i, verified, from whichever source has them right. */
static enum mfs_code
chunk_fetch(struct mfs_dl_run *r, const struct mfs_file *f, const struct mfs_table *t, uint64_t i, uint8_t *buf,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *opener = NULL;
	struct one o = { .buf = buf, .len = mfs_chunk_length(f, i) };
	const uint64_t off = i * f->chunk_size;
	unsigned wrong = 0, source = 0, first = 0;
	bool mismatch, one_source = true;
	enum mfs_code code;

	if ((code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &opener, err)) != MFS_OK)
		return code;
	for (;;) {
		struct mfs_dl_request q = { .hash = &f->sha256, .off = off + o.fill, .length = o.len - o.fill,
			.unit = o.len - o.fill, .sink = one_sink,
			.user = &o };
		struct mfs_err why = MFS_ERR_INIT;
		const bool begins = o.fill == 0;

		if ((code = mfs_dl_get(r, &q, &o.fill, &mismatch, &source, err)) != MFS_OK)
			return code;
		if (begins) {
			first = source;
			one_source = true;
		}
		one_source = one_source && source == first;
		if (o.fill < o.len)
			continue;
		if (mfs_chunk_verify(opener, t, i, MFS_SPAN(buf, o.len), &why) == MFS_OK)
			return MFS_OK;
		mfs_dl_wrong(r, source, one_source, &why);
		(void)atomic_fetch_add(&r->wasted, o.len);
		o.fill = 0;
		if (++wrong >= MFS_DL_MISMATCHES * r->d->n_sources)
			return mfs_dl_last_fault(r, err);
	}
}

/* A blob of the store itself, of the right length, to be mended in place; -1: it has to be made anew. */
static int
blob_in_place(struct mfs_store *s, const struct mfs_file *f)
{
	char path[128];
	const char *hex = MFS_HEX(&f->sha256);
	mfs_autoclose int fd = -1;
	struct stat st;

	(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", hex, hex);
	fd = mfs_open_beneath(mfs_store_dirfd(s), path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size || st.st_nlink != 1)
		return -1;
	return mfs_steal_fd(&fd);
}

/* Of these chunks, those that are not as they were signed. */
static enum mfs_code
chunks_repair(struct mfs_dl_run *r, const struct mfs_file *f, const struct mfs_table *t, uint64_t first, uint64_t n, int fd,
	uint64_t *repaired, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *opener = NULL;
	mfs_autofree uint8_t *buf = malloc(f->chunk_size);
	enum mfs_code code;

	if (buf == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "repair: a chunk");
	if ((code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &opener, err)) != MFS_OK)
		return code;
	for (uint64_t i = first; i < f->chunks && i - first < n; i++) {
		const uint64_t off = i * f->chunk_size;
		const uint32_t len = mfs_chunk_length(f, i);

		if (mfs_dl_stopped(r))
			return mfs_fail(err, MFS_CONDITION_UNMET, "the repair was stopped");
		if (mfs_pread_full(fd, buf, len, (off_t)off) == 0 &&
			mfs_chunk_verify(opener, t, i, MFS_SPAN(buf, len), NULL) == MFS_OK) {
			/* Patience is for sources: reading what is right takes none of it. */
			atomic_store(&r->progress_ms, mfs_clock_mono_ms());
			continue;
		}
		if ((code = chunk_fetch(r, f, t, i, buf, err)) != MFS_OK)
			return code;
		/* Readers verify what they read: one that sees it half written asks again. */
		if (mfs_pwrite_full(fd, buf, len, (off_t)off) != 0 || fdatasync(fd) != 0)
			return mfs_fail_sys(err, MFS_IO, "store: blob %s at offset %llu", MFS_HEX(&f->sha256),
				(unsigned long long)off);
		/*
		 * The next read shall come from the disk. One that does not keep what it takes would else be given the same chunk
		 * again and again, for as long as anybody reads it.
		 */
		(void)posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
		if (mfs_pread_full(fd, buf, len, (off_t)off) != 0 ||
			mfs_chunk_verify(opener, t, i, MFS_SPAN(buf, len), NULL) != MFS_OK)
			return mfs_fail(err, MFS_IO, "store: blob %s at offset %llu: does not stay as it is written: a faulty disk?",
				MFS_HEX(&f->sha256), (unsigned long long)off);
		atomic_store(&r->progress_ms, mfs_clock_mono_ms());
		++*repaired;
	}
	return MFS_OK;
}

static enum mfs_code
repair(struct mfs_dl_run *r, const struct mfs_manifest *m, size_t file, uint64_t first, uint64_t n, uint64_t *repaired,
	struct mfs_err *err)
{
	const struct mfs_file *f = &m->files[file];
	struct mfs_store *s = r->d->args.store;
	enum mfs_code code;

	for (int attempt = 0; attempt < 2; attempt++) {
		MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = NULL;
		mfs_autoclose int fd = blob_in_place(s, f);
		const bool in_place = fd >= 0;

		if (n > 0 && in_place && mfs_dl_table(s, -1, f, &t, NULL) == MFS_OK)
			return chunks_repair(r, f, t, first, n, fd, repaired, err);
		/* A payload that is not mended in place is read from its beginning. */
		if ((code = mfs_dl_file_bring(r, m, file, n > 0 && !in_place, err)) != MFS_OK)
			return code;
		++*repaired;
		if (n == 0 || !in_place)
			break;
	}
	return MFS_OK;
}

enum mfs_code
mfs_download_repair(struct mfs_download *d, const struct mfs_manifest *m, size_t file, uint64_t first, uint64_t n,
	const _Atomic int *cancel, uint64_t *repaired, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_dl_run r;
	uint64_t count = 0;
	enum mfs_code code;

	if (file >= m->n_files)
		return mfs_fail(err, MFS_INTERNAL, "repair: no file %zu", file);
	mfs_dl_run_init(&r, d, NULL, cancel);
	if (cancel != NULL)
		r.requests = cancel; /* nobody else hands it on */
	r.patience_ms = d->patience_ms < PATIENCE_MS ? d->patience_ms : PATIENCE_MS;
	code = repair(&r, m, file, first, n, &count, &own);
	mfs_dl_run_end(&r);
	if (repaired != NULL)
		*repaired = count;
	if (code == MFS_OK)
		return code;
	(void)mfs_err_context(&own, "%s %s: %s: repair: ", m->model_id, m->version, MFS_ESC(m->files[file].name));
	if (err != NULL)
		*err = own;
	return code;
}
