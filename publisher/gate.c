/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "lanes.h"
#include "progress.h"
#include "sparse.h"

static const struct mfs_bundle_caps caps = { MFS_MANIFEST_BYTES_MAX, MFS_SIGNATURE_BYTES_MAX, MFS_KEY_IDS_MAX + 1 };

struct check {
	const struct mfs_file *f;
	const struct mfs_table *table;
	int fd;
	bool sparse;
	uint8_t *buf[MFS_LANES_MAX]; /* MFS_LANE_BATCH each, made when first used */
	struct mfs_opener *opener[MFS_LANES_MAX];
	struct mfs_hash *hash; /* whoever has the turn */
	struct mfs_progress *progress;
};

static void
check_clear(struct check *c)
{
	for (unsigned i = 0; i < MFS_LANES_MAX; i++) {
		free(c->buf[i]);
		mfs_opener_free(c->opener[i]);
	}
	mfs_hash_free(c->hash);
	mfs_progress_end(c->progress);
}

static enum mfs_code
check_prepare(struct check *c, unsigned workers, struct mfs_err *err)
{
	for (unsigned i = 0; i < workers; i++) {
		enum mfs_code code;

		if (c->buf[i] == NULL && (c->buf[i] = malloc(MFS_LANE_BATCH)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "buffers");
		if (c->opener[i] == NULL &&
			(code = mfs_opener_new(MFS_CIPHER_NONE, NULL, &c->opener[i], err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
batch_check(void *arg, struct mfs_lanes *l, unsigned worker, uint64_t batch, struct mfs_err *err)
{
	struct check *c = arg;
	const uint64_t start = batch * MFS_LANE_BATCH;
	const uint64_t first = batch * (MFS_LANE_BATCH / c->f->chunk_size);
	struct mfs_chunk_io io[MFS_LANE_BATCH / MFS_CHUNK_MIN];
	size_t count = 0;
	const size_t n = c->f->size - start < MFS_LANE_BATCH ? (size_t)(c->f->size - start) : MFS_LANE_BATCH;
	enum mfs_code code;

	if (mfs_sparse_pread(c->fd, c->sparse, c->buf[worker], n, start) != 0) {
		struct stat st;

		if (errno == EIO && fstat(c->fd, &st) == 0 && (uint64_t)st.st_size < c->f->size)
			return mfs_fail(err, MFS_HASH_MISMATCH, "payload/%s: cut off at %lld of %llu bytes while it was read",
				MFS_ESC(c->f->name), (long long)st.st_size, (unsigned long long)c->f->size);
		return mfs_fail_sys(err, MFS_IO, "payload/%s: read at offset %llu", MFS_ESC(c->f->name),
			(unsigned long long)start);
	}
	for (size_t at = 0; at < n; at += io[count++].stored.len)
		io[count] = (struct mfs_chunk_io){ .stored = MFS_SPAN(c->buf[worker] + at, mfs_chunk_length(c->f, first + count)) };
	mfs_chunks_open(c->opener[worker], c->table, first, io, count);
	for (size_t i = 0; i < count; i++)
		if (io[i].code != MFS_OK) {
			*err = io[i].err;
			(void)mfs_err_context(err, "payload/%s: offset %llu: ", MFS_ESC(c->f->name),
				(unsigned long long)(start + i * c->f->chunk_size));
			return mfs_err_hint(err, "; copy the bundle again from its source");
		}
	if (!mfs_lane_turn(l, MFS_STAGE_STORED, batch))
		return MFS_OK;
	if ((code = mfs_hash_update(c->hash, c->buf[worker], n, err)) != MFS_OK)
		return code;
	mfs_lane_pass(l, MFS_STAGE_STORED);
	mfs_progress_add(c->progress, n);
	return MFS_OK;
}

/* The chunk table of a file, against the manifest. */
static enum mfs_code
table_load(int dirfd, const struct mfs_file *f, struct mfs_table **out, struct mfs_err *err)
{
	const uint64_t len = mfs_table_length(f->chunks);
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autoclose int fd = -1;
	enum mfs_code code;

	if (len == 0)
		return mfs_table_load(f, MFS_SPAN(NULL, 0), out, err);
	if ((code = mfs_bundledir_file(dirfd, "chunks", f->name, len, &fd, err)) != MFS_OK)
		return code;
	if (len > SIZE_MAX || (bytes = malloc((size_t)len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "chunks/%s: %llu bytes", MFS_ESC(f->name), (unsigned long long)len);
	if (mfs_pread_full(fd, bytes, (size_t)len, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "chunks/%s: read", MFS_ESC(f->name));
	if ((code = mfs_table_load(f, MFS_SPAN(bytes, (size_t)len), out, err)) != MFS_OK)
		(void)mfs_err_context(err, "chunks/%s: ", MFS_ESC(f->name));
	return code;
}

static enum mfs_code
file_check(int dirfd, const struct mfs_file *f, struct check *c, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *table = NULL;
	const uint64_t batches = f->size / MFS_LANE_BATCH + (f->size % MFS_LANE_BATCH != 0);
	const unsigned workers = mfs_lanes_workers(batches);
	mfs_autoclose int fd = -1;
	struct mfs_sha256 whole;
	enum mfs_code code;

	if ((code = mfs_bundledir_file(dirfd, "payload", f->name, f->size, &fd, err)) != MFS_OK ||
		(code = table_load(dirfd, f, &table, err)) != MFS_OK ||
		(code = check_prepare(c, workers, err)) != MFS_OK)
		return code;
	c->f = f;
	c->table = table;
	c->fd = fd;
	c->sparse = mfs_sparse_begin(fd);
	if ((code = mfs_lanes_run(workers, batches, batch_check, c, err)) != MFS_OK ||
		(code = mfs_hash_final(c->hash, &whole, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&whole, &f->sha256))
		return mfs_fail(err, MFS_HASH_MISMATCH, "payload/%s: SHA-256 of the whole file differs from the signed one, "
			"although its chunk table fits; do not release it, pack again", MFS_ESC(f->name));
	return MFS_OK;
}

/* Surplus files in the three folders that the manifest speaks for. */
static enum mfs_code
surplus_check(int dirfd, const struct mfs_manifest *m, struct mfs_err *err)
{
	mfs_autofree const char **names = calloc(m->n_files, sizeof(*names));
	mfs_autofree const char **tables = calloc(m->n_files, sizeof(*tables));
	size_t n_tables = 0;
	enum mfs_code code;

	if (names == NULL || tables == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu names", m->n_files);
	for (size_t i = 0; i < m->n_files; i++) {
		names[i] = m->files[i].name;
		if (m->files[i].chunks > 1)
			tables[n_tables++] = m->files[i].name;
	}
	if ((code = mfs_bundledir_surplus(dirfd, "payload", names, m->n_files, err)) != MFS_OK ||
		(code = mfs_bundledir_surplus(dirfd, "chunks", tables, n_tables, err)) != MFS_OK)
		return code;
	return mfs_bundledir_surplus(dirfd, "index", names, m->n_files, err);
}

enum mfs_code
mfs_gate_signatures(const struct mfs_bundle_docs *d, const struct mfs_trust *trust, unsigned threshold,
	struct mfs_manifest **out, struct mfs_sha256 *key_id, struct mfs_err *err)
{
	struct mfs_signature sigs[MFS_KEY_IDS_MAX + 1] = { 0 };

	for (size_t i = 0; i < d->n_sigs; i++) {
		sigs[i].bytes = MFS_SPAN(d->sigs[i].bytes, d->sigs[i].len);
		if (d->sigs[i].key_id[0] != '\0' &&
			!mfs_hex_decode(sigs[i].key_id.b, MFS_SHA256_LEN, d->sigs[i].key_id, MFS_BUNDLE_KEY_HEX))
			return mfs_fail(err, MFS_INTERNAL, "signature's key id");
	}
	return mfs_bundle_verify(MFS_SPAN(d->manifest, d->manifest_len), sigs, d->n_sigs, trust, threshold, out, key_id,
		err);
}

/* Without a trust list: a signature there must be, whoever made it. */
static enum mfs_code
documents_check(const struct mfs_bundle_docs *docs, const struct mfs_trust *trust, unsigned threshold,
	struct mfs_manifest **out, struct mfs_sha256 *key_id, struct mfs_err *err)
{
	if (trust != NULL)
		return mfs_gate_signatures(docs, trust, threshold, out, key_id, err);
	*key_id = (struct mfs_sha256){ { 0 } };
	if (docs->n_sigs == 0)
		return mfs_fail(err, MFS_SIGNATURE_INVALID, "manifest.json: no signature");
	return mfs_manifest_parse(MFS_SPAN(docs->manifest, docs->manifest_len), out, err);
}

enum mfs_code
mfs_gate_verify(const char *path, const struct mfs_trust *trust, unsigned threshold, bool quiet,
	void (*note)(void *arg, const char *name), void *arg, struct mfs_manifest **out, struct mfs_sha256 *key_id,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	MFS_CLEANUP(check_clear) struct check c = { 0 };
	mfs_autoclose int dirfd = -1;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_bundledir_open(path, &dirfd, err)) != MFS_OK ||
		(code = mfs_bundledir_docs(dirfd, &caps, &docs, err)) != MFS_OK ||
		(code = documents_check(&docs, trust, threshold, &m, key_id, err)) != MFS_OK)
		return code;
	if (m == NULL)
		return mfs_fail(err, MFS_INTERNAL, "manifest.json: verified and not there");
	if ((code = surplus_check(dirfd, m, err)) != MFS_OK)
		return code;
	if (note != NULL && (code = mfs_bundledir_others(dirfd, note, arg, err)) != MFS_OK)
		return code;
	if ((code = mfs_hash_new(&c.hash, err)) != MFS_OK)
		return code;
	c.progress = mfs_progress_new("verifying", m->total_size, quiet);
	for (size_t i = 0; i < m->n_files; i++)
		if ((code = file_check(dirfd, &m->files[i], &c, err)) != MFS_OK)
			return code;
	*out = mfs_steal(&m);
	return MFS_OK;
}

enum mfs_code
mfs_gate_read(const char *path, struct mfs_bundle_docs *docs, struct mfs_manifest **out, struct mfs_err *err)
{
	mfs_autoclose int dirfd = -1;
	enum mfs_code code;

	*docs = (struct mfs_bundle_docs){ 0 };
	*out = NULL;
	if ((code = mfs_bundledir_open(path, &dirfd, err)) != MFS_OK ||
		(code = mfs_bundledir_docs(dirfd, &caps, docs, err)) != MFS_OK)
		return code;
	code = mfs_manifest_parse(MFS_SPAN(docs->manifest, docs->manifest_len), out, err);
	if (code != MFS_OK)
		mfs_bundle_docs_free(docs);
	return code;
}
