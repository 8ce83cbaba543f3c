/* SPDX-License-Identifier: Apache-2.0 */
/* What the device has: chunks of installed versions by content, and tables as they lie in staging or the store. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "download_io.h"
#include "io.h"

struct entry { /* 16 bytes; sorted */
	uint64_t prefix; /* of the chunk's SHA-256: what is found is verified in full */
	uint32_t blob, chunk;
};

struct origin { /* a stored blob */
	struct mfs_sha256 hash;
	uint64_t size;
	uint32_t chunk_size;
};

struct mfs_dl_index {
	struct mfs_store *store;
	struct entry *entries;
	size_t n, cap;
	struct origin *origins;
	size_t n_origins;
};

enum mfs_code
mfs_dl_table(struct mfs_store *s, int dirfd, const struct mfs_file *f, struct mfs_table **out, struct mfs_err *err)
{
	const uint64_t want = mfs_table_length(f->chunks);
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autoclose int fd = -1;
	char name[80];
	size_t len = 0;
	enum mfs_code code;

	*out = NULL;
	if (want == 0)
		return mfs_table_load(f, MFS_SPAN(NULL, 0), out, err);
	if (want > SIZE_MAX / 4)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "chunk table of %llu bytes: too large for this machine",
			(unsigned long long)want);
	mfs_dl_name(name, &f->chunks_sha256, "data");
	if (dirfd >= 0)
		fd = mfs_open_beneath(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		fd = mfs_store_blob_open(s, &f->chunks_sha256, 0);
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "chunk table %s", MFS_HEX(&f->chunks_sha256));
	if ((code = mfs_fd_read(fd, "chunk table", (size_t)want, &bytes, &len, err)) == MFS_LIMIT_EXCEEDED)
		return mfs_fail(err, MFS_HASH_MISMATCH, "chunk table %s: longer than the signed %llu bytes",
			MFS_HEX(&f->chunks_sha256), (unsigned long long)want);
	return code != MFS_OK ? code : mfs_table_load(f, MFS_SPAN(bytes, len), out, err);
}

static uint64_t
prefix_of(const uint8_t *hash)
{
	struct mfs_span s = MFS_SPAN(hash, 8);
	uint64_t v = 0;

	(void)mfs_span_u64le(&s, &v);
	return v;
}

static int
entry_order(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->prefix != y->prefix ? (x->prefix < y->prefix ? -1 : 1) : 0;
}

/* Remember the chunks of one blob, as many as there is room for. */
static enum mfs_code
blob_add(struct mfs_dl_index *x, const struct mfs_table *t, struct mfs_err *err)
{
	const struct mfs_file *f = t->file;
	const size_t n = t->chunks < MFS_DL_INDEX_MAX - x->n ? (size_t)t->chunks : MFS_DL_INDEX_MAX - x->n;
	struct origin *grown;

	if (n == 0)
		return MFS_OK;
	if ((grown = reallocarray(x->origins, x->n_origins + 1, sizeof(*grown))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: index");
	x->origins = grown;
	if (x->n + n > x->cap) {
		size_t cap = x->n + n > 2 * x->cap ? x->n + n : 2 * x->cap;
		struct entry *e = reallocarray(x->entries, cap, sizeof(*e));

		if (e == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "download: index");
		x->entries = e;
		x->cap = cap;
	}
	for (size_t i = 0; i < n; i++)
		x->entries[x->n++] = (struct entry){ prefix_of(t->entries + i * MFS_TABLE_ENTRY), (uint32_t)x->n_origins,
			(uint32_t)i };
	x->origins[x->n_origins++] = (struct origin){ f->sha256, f->size, f->chunk_size };
	return MFS_OK;
}

static struct mfs_dl_index *
index_new(struct mfs_store *s)
{
	struct mfs_dl_index *x = calloc(1, sizeof(*x));

	if (x != NULL)
		x->store = s;
	return x;
}

enum mfs_code
mfs_dl_index_make(struct mfs_store *s, const struct mfs_manifest *const *have, size_t n_have, struct mfs_dl_index **out,
	struct mfs_err *err)
{
	struct mfs_dl_index *x;
	enum mfs_code code = MFS_OK;

	*out = NULL;
	if (n_have == 0)
		return MFS_OK;
	if ((x = index_new(s)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: index");
	for (size_t v = 0; code == MFS_OK && v < n_have; v++)
		for (size_t i = 0; code == MFS_OK && have[v]->cipher == MFS_CIPHER_NONE && i < have[v]->n_files; i++) {
			MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = NULL;

			/* A table that is absent or damaged: less to reuse. */
			if (x->n < MFS_DL_INDEX_MAX && mfs_store_blob_has(s, &have[v]->files[i].sha256, have[v]->files[i].size) &&
				mfs_dl_table(s, -1, &have[v]->files[i], &t, NULL) == MFS_OK)
				code = blob_add(x, t, err);
		}
	if (code != MFS_OK || x->n == 0) {
		mfs_dl_index_free(x);
		return code;
	}
	qsort(x->entries, x->n, sizeof(*x->entries), entry_order);
	*out = x;
	return MFS_OK;
}

enum mfs_code
mfs_dl_index_add(struct mfs_dl_index **x, struct mfs_store *s, const struct mfs_table *table, struct mfs_err *err)
{
	enum mfs_code code;

	if (*x == NULL && (*x = index_new(s)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: index");
	if ((code = blob_add(*x, table, err)) == MFS_OK && (*x)->n > 0)
		qsort((*x)->entries, (*x)->n, sizeof(*(*x)->entries), entry_order);
	return code;
}

void
mfs_dl_index_free(struct mfs_dl_index *x)
{
	if (x == NULL)
		return;
	free(x->entries);
	free(x->origins);
	free(x);
}

bool
mfs_dl_index_find(struct mfs_dl_index *x, struct mfs_opener *o, const struct mfs_table *table, uint64_t i, uint8_t *buf)
{
	const uint64_t prefix = prefix_of(table->entries + i * MFS_TABLE_ENTRY);
	const uint32_t len = mfs_chunk_length(table->file, i);
	size_t lo = 0, hi = x->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (x->entries[mid].prefix < prefix)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* Several may have it; the first that is still as it was signed will do. */
	for (unsigned tries = 0; tries < 4 && lo < x->n && x->entries[lo].prefix == prefix; tries++, lo++) {
		const struct origin *from = &x->origins[x->entries[lo].blob];
		const uint64_t off = (uint64_t)x->entries[lo].chunk * from->chunk_size;
		mfs_autoclose int fd = -1;

		if (off > from->size || from->size - off < len)
			continue;
		if ((fd = mfs_store_blob_open(x->store, &from->hash, 0)) >= 0 && mfs_pread_full(fd, buf, len, (off_t)off) == 0 &&
			mfs_chunk_verify(o, table, i, MFS_SPAN(buf, len), NULL) == MFS_OK)
			return true;
	}
	return false;
}
