/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "lanes.h"
#include "sparse.h"

#define BATCH_CHUNKS_MAX (MFS_LANE_BATCH / MFS_CHUNK_MIN)

struct mfs_sealer {
	uint8_t *plain[MFS_LANES_MAX];  /* MFS_LANE_BATCH each, made when first used */
	uint8_t *stored[MFS_LANES_MAX];
	struct mfs_opener *opener[MFS_LANES_MAX];
	struct mfs_hash *plain_hash, *stored_hash, *table_hash;
};

/* One pass over one file. The hashes belong to whoever has the turn of their stage. */
struct pass {
	struct mfs_sealer *s;
	const struct mfs_seal_job *job;
	struct mfs_file *f;
	int in, payload, table; /* table -1 for a file of one chunk */
	bool sparse;            /* the input has holes, which need not be read */
	const uint8_t *zero_entry; /* table entry of a plain chunk of zeros, NULL when encrypted */
};

enum mfs_code
mfs_sealer_new(struct mfs_sealer **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_sealer) struct mfs_sealer *s = calloc(1, sizeof(*s));
	enum mfs_code code;

	*out = NULL;
	if (s == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "buffers");
	if ((code = mfs_hash_new(&s->plain_hash, err)) != MFS_OK ||
		(code = mfs_hash_new(&s->stored_hash, err)) != MFS_OK ||
		(code = mfs_hash_new(&s->table_hash, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&s);
	return MFS_OK;
}

void
mfs_sealer_free(struct mfs_sealer *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < MFS_LANES_MAX; i++) {
		if (s->plain[i] != NULL)
			OPENSSL_cleanse(s->plain[i], MFS_LANE_BATCH);
		free(s->plain[i]);
		free(s->stored[i]);
		mfs_opener_free(s->opener[i]);
	}
	mfs_hash_free(s->plain_hash);
	mfs_hash_free(s->stored_hash);
	mfs_hash_free(s->table_hash);
	free(s);
}

/* Buffers and contexts of the first n workers. */
static enum mfs_code
sealer_prepare(struct mfs_sealer *s, unsigned n, enum mfs_cipher cipher, const struct mfs_key *file_key,
	struct mfs_err *err)
{
	for (unsigned i = 0; i < n; i++) {
		enum mfs_code code;

		if (s->plain[i] == NULL && (s->plain[i] = malloc(MFS_LANE_BATCH)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "buffers");
		if (s->stored[i] == NULL && (s->stored[i] = malloc(MFS_LANE_BATCH)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "buffers");
		code = s->opener[i] == NULL ? mfs_opener_new(cipher, file_key, &s->opener[i], err) :
					      mfs_opener_rekey(s->opener[i], cipher, file_key, err);
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
input_read(const struct pass *p, uint8_t *buf, size_t n, uint64_t off, struct mfs_err *err)
{
	if (mfs_sparse_pread(p->in, p->sparse, buf, n, off) != 0) {
		struct stat st;

		if (errno == EIO && fstat(p->in, &st) == 0 && (uint64_t)st.st_size < off + n)
			return mfs_fail(err, MFS_IO, "%s: became shorter while it was packed; nothing was written, pack again "
				"when nobody writes to it", MFS_ESC(p->job->path));
		return mfs_fail_sys(err, MFS_IO, "%s: read at offset %llu", MFS_ESC(p->job->path),
			(unsigned long long)off);
	}
	return MFS_OK;
}

static size_t
batch_length(const struct mfs_file *f, uint64_t batch)
{
	uint64_t left = f->size - batch * MFS_LANE_BATCH;

	return left < MFS_LANE_BATCH ? (size_t)left : MFS_LANE_BATCH;
}

/* First pass: the plaintext's SHA-256. */
static enum mfs_code
batch_hash(void *arg, struct mfs_lanes *l, unsigned worker, uint64_t batch, struct mfs_err *err)
{
	const struct pass *p = arg;
	uint8_t *buf = p->s->plain[worker];
	size_t n = batch_length(p->f, batch);
	enum mfs_code code;

	if ((code = input_read(p, buf, n, batch * MFS_LANE_BATCH, err)) != MFS_OK)
		return code;
	if (!mfs_lane_turn(l, MFS_STAGE_PLAIN, batch))
		return MFS_OK;
	if ((code = mfs_hash_update(p->s->plain_hash, buf, n, err)) != MFS_OK)
		return code;
	mfs_lane_pass(l, MFS_STAGE_PLAIN);
	mfs_progress_add(p->job->progress, n);
	return MFS_OK;
}

static bool
is_zero(const uint8_t *p, size_t n)
{
	return n > 0 && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Seal the chunks of a batch into stored[] and entries, and write what is not a plain hole. */
static enum mfs_code
batch_chunks(const struct pass *p, unsigned worker, uint64_t batch, size_t n, uint8_t *entries, size_t *count,
	struct mfs_err *err)
{
	const uint32_t chunk = p->f->chunk_size;
	const uint64_t first = batch * (MFS_LANE_BATCH / chunk);
	const uint8_t *plain = p->s->plain[worker];
	uint8_t *stored = p->s->stored[worker];

	*count = 0;
	for (size_t at = 0; at < n; at += chunk, ++*count) {
		size_t len = n - at < chunk ? n - at : chunk;
		uint8_t *entry = entries + *count * MFS_TABLE_ENTRY;
		enum mfs_code code;

		if (p->zero_entry != NULL && len == chunk && is_zero(plain + at, len)) {
			memcpy(entry, p->zero_entry, MFS_TABLE_ENTRY);
			memset(stored + at, 0, len);
			continue; /* the payload has its full length already: a hole */
		}
		code = mfs_chunk_seal(p->s->opener[worker], first + *count, MFS_SPAN(plain + at, len), stored + at,
			entry, err);
		if (code != MFS_OK)
			return code;
		if (mfs_pwrite_full(p->payload, stored + at, len, (off_t)(batch * MFS_LANE_BATCH + at)) != 0)
			return mfs_fail_sys(err, MFS_IO, "payload/%s: write at offset %llu", MFS_ESC(p->job->name),
				(unsigned long long)(batch * MFS_LANE_BATCH + at));
	}
	return MFS_OK;
}

/* Second pass (the only one for plain files). */
static enum mfs_code
batch_seal(void *arg, struct mfs_lanes *l, unsigned worker, uint64_t batch, struct mfs_err *err)
{
	struct pass *p = arg;
	uint8_t entries[BATCH_CHUNKS_MAX * MFS_TABLE_ENTRY];
	size_t n = batch_length(p->f, batch), count = 0;
	enum mfs_code code;

	if ((code = input_read(p, p->s->plain[worker], n, batch * MFS_LANE_BATCH, err)) != MFS_OK)
		return code;
	if (p->job->content_key != NULL) {
		if (!mfs_lane_turn(l, MFS_STAGE_PLAIN, batch))
			return MFS_OK;
		if ((code = mfs_hash_update(p->s->plain_hash, p->s->plain[worker], n, err)) != MFS_OK)
			return code;
		mfs_lane_pass(l, MFS_STAGE_PLAIN);
	}
	if ((code = batch_chunks(p, worker, batch, n, entries, &count, err)) != MFS_OK)
		return code;
	if (!mfs_lane_turn(l, MFS_STAGE_STORED, batch))
		return MFS_OK;
	if ((code = mfs_hash_update(p->s->stored_hash, p->s->stored[worker], n, err)) != MFS_OK)
		return code;
	if (p->table >= 0) {
		uint64_t at = MFS_TABLE_HEADER + batch * (MFS_LANE_BATCH / p->f->chunk_size) * MFS_TABLE_ENTRY;

		if ((code = mfs_hash_update(p->s->table_hash, entries, count * MFS_TABLE_ENTRY, err)) != MFS_OK)
			return code;
		if (mfs_pwrite_full(p->table, entries, count * MFS_TABLE_ENTRY, (off_t)at) != 0)
			return mfs_fail_sys(err, MFS_IO, "chunks/%s: write", MFS_ESC(p->job->name));
	} else {
		memcpy(p->f->tag, entries + MFS_SHA256_LEN, MFS_TAG_LEN);
	}
	mfs_lane_pass(l, MFS_STAGE_STORED);
	mfs_progress_add(p->job->progress, n);
	return MFS_OK;
}

static enum mfs_code
input_open(const struct mfs_seal_job *job, int *fd, struct stat *st, struct mfs_err *err)
{
	*fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (*fd < 0 || fstat(*fd, st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(job->path));
	if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size != job->size)
		return mfs_fail(err, MFS_IO, "%s: changed since packing began; nothing was written, pack again when "
			"nobody writes to it", MFS_ESC(job->path));
	(void)posix_fadvise(*fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return MFS_OK;
}

static enum mfs_code
input_unchanged(const struct mfs_seal_job *job, int fd, const struct stat *before, struct mfs_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(job->path));
	if (st.st_size != before->st_size || st.st_mtim.tv_sec != before->st_mtim.tv_sec ||
		st.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
		return mfs_fail(err, MFS_IO, "%s: changed while it was packed; nothing was written, pack again when nobody "
			"writes to it", MFS_ESC(job->path));
	return MFS_OK;
}

static enum mfs_code
run(struct pass *p, mfs_lane_fn fn, struct mfs_err *err)
{
	uint64_t batches = (p->f->size + MFS_LANE_BATCH - 1) / MFS_LANE_BATCH;

	return mfs_lanes_run(mfs_lanes_workers(batches), batches, fn, p, err);
}

/* Second pass with its output files; checks that the plaintext is that of the first. */
static enum mfs_code
seal_pass(struct pass *p, const struct mfs_sha256 *plain, struct mfs_err *err)
{
	mfs_autoclose int payload = -1, table = -1;
	uint8_t header[MFS_TABLE_HEADER];
	struct mfs_file *f = p->f;
	struct mfs_sha256 again;
	enum mfs_code code;

	if ((code = mfs_outdir_file(p->job->out, "payload", p->job->name, &payload, err)) != MFS_OK)
		return code;
	if (ftruncate(payload, (off_t)f->size) != 0)
		return mfs_fail_sys(err, MFS_IO, "payload/%s: %llu bytes", MFS_ESC(p->job->name),
			(unsigned long long)f->size);
	if (f->chunks > 1) {
		if ((code = mfs_outdir_file(p->job->out, "chunks", p->job->name, &table, err)) != MFS_OK)
			return code;
		mfs_table_header(header, f->chunk_size, f->size, f->chunks);
		if ((code = mfs_hash_update(p->s->table_hash, header, sizeof(header), err)) != MFS_OK)
			return code;
		if (mfs_pwrite_full(table, header, sizeof(header), 0) != 0)
			return mfs_fail_sys(err, MFS_IO, "chunks/%s: write", MFS_ESC(p->job->name));
	}
	p->payload = payload;
	p->table = table;
	if ((code = run(p, batch_seal, err)) != MFS_OK)
		return code;
	if (plain != NULL) {
		if ((code = mfs_hash_final(p->s->plain_hash, &again, err)) != MFS_OK)
			return code;
		if (!mfs_sha256_equal(plain, &again))
			return mfs_fail(err, MFS_IO, "%s: changed while it was packed (its two readings differ); nothing was "
				"written, pack again when nobody writes to it", MFS_ESC(p->job->path));
	}
	if ((code = mfs_hash_final(p->s->stored_hash, &f->sha256, err)) != MFS_OK)
		return code;
	return f->chunks > 1 ? mfs_hash_final(p->s->table_hash, &f->chunks_sha256, err) : MFS_OK;
}

/* Hashes begin afresh: an earlier file may have failed in the middle. */
static enum mfs_code
hashes_restart(struct mfs_sealer *s, struct mfs_err *err)
{
	struct mfs_sha256 unused;
	enum mfs_code code;

	if ((code = mfs_hash_final(s->plain_hash, &unused, err)) == MFS_OK &&
		(code = mfs_hash_final(s->stored_hash, &unused, err)) == MFS_OK)
		code = mfs_hash_final(s->table_hash, &unused, err);
	return code;
}

static enum mfs_code
seal_encrypted(struct pass *p, unsigned workers, struct mfs_err *err)
{
	const struct mfs_seal_job *job = p->job;
	struct mfs_key file_key = { { 0 } };
	struct mfs_sha256 plain;
	enum mfs_code code;

	if ((code = run(p, batch_hash, err)) != MFS_OK)
		return code;
	if ((code = mfs_hash_final(p->s->plain_hash, &plain, err)) != MFS_OK)
		return code;
	if (job->between != NULL)
		job->between(job->arg, job->path);
	code = mfs_file_salt(job->content_key, job->cipher, job->model_id, job->name, job->chunk_size, &plain,
		&p->f->salt, err);
	if (code == MFS_OK)
		code = mfs_file_key(job->content_key, &p->f->salt, job->cipher, job->model_id, job->name,
			job->chunk_size, &file_key, err);
	if (code == MFS_OK)
		code = sealer_prepare(p->s, workers, job->cipher, &file_key, err);
	if (code == MFS_OK)
		code = seal_pass(p, &plain, err);
	mfs_key_wipe(&file_key);
	return code;
}

static enum mfs_code
seal_plain(struct pass *p, struct mfs_err *err)
{
	mfs_autofree uint8_t *zeros = calloc(1, p->job->chunk_size);
	uint8_t entry[MFS_TABLE_ENTRY];
	enum mfs_code code;

	if (zeros == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "buffers");
	/* In place: a plain chunk is stored as it is. */
	code = mfs_chunk_seal(p->s->opener[0], 0, MFS_SPAN(zeros, p->job->chunk_size), zeros, entry, err);
	if (code != MFS_OK)
		return code;
	p->zero_entry = entry;
	code = seal_pass(p, NULL, err);
	p->zero_entry = NULL;
	return code;
}

enum mfs_code
mfs_seal_file(struct mfs_sealer *s, const struct mfs_seal_job *job, struct mfs_file *out, struct mfs_err *err)
{
	struct mfs_file f = { .size = job->size, .chunk_size = job->chunk_size };
	struct pass p = { .s = s, .job = job, .f = &f, .in = -1, .payload = -1, .table = -1 };
	mfs_autoclose int in = -1;
	struct stat before;
	unsigned workers;
	enum mfs_code code;

	f.chunks = (f.size + f.chunk_size - 1) / f.chunk_size;
	if ((code = input_open(job, &in, &before, err)) != MFS_OK || (code = hashes_restart(s, err)) != MFS_OK)
		return code;
	p.in = in;
	p.sparse = mfs_sparse_begin(in);
	workers = mfs_lanes_workers((f.size + MFS_LANE_BATCH - 1) / MFS_LANE_BATCH);
	if ((code = sealer_prepare(s, workers, MFS_CIPHER_NONE, NULL, err)) != MFS_OK)
		return code;
	code = job->content_key != NULL ? seal_encrypted(&p, workers, err) : seal_plain(&p, err);
	if (code == MFS_OK)
		code = input_unchanged(job, in, &before, err);
	if (code != MFS_OK)
		return code;
	*out = f;
	return MFS_OK;
}
