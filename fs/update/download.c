/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version's download: what is lacking, in which order it is brought, and the renames at the end. Nothing of it is in
 * blobs/ before every blob of the version is complete and verified.
 */
#include "download.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "download_io.h"
#include "io.h"
#include "log.h"

#define LOCK_WAIT_MS  60000
#define SYNC_ALL_FROM 32u /* staged files: from here on one syncfs is cheaper than an fsync each */

enum part_state { PART_STANDS, PART_LACKING, PART_STAGED };

struct item { /* one payload with its table; a payload that two files share is one item */
	const struct mfs_file *f;
	uint8_t payload, table; /* enum part_state */
	bool known; /* an installed version names the same payload and table */
};

struct plan {
	struct item *items; /* sorted by payload hash */
	size_t n;
	_Atomic size_t next; /* of a phase */
};

enum mfs_code
mfs_download_new(const struct mfs_download_args *args, struct mfs_download **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_download) struct mfs_download *d = calloc(1, sizeof(*d));
	enum mfs_code code;

	*out = NULL;
	if (d == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download");
	d->args = *args;
	(void)pthread_mutex_init(&d->lock, NULL);
	if (d->args.threads == 0)
		d->args.threads = MFS_DL_THREADS;
	if (d->args.threads > MFS_DL_THREADS_MAX)
		d->args.threads = MFS_DL_THREADS_MAX;
	if (d->args.batch == 0)
		d->args.batch = MFS_DL_BATCH;
	d->backoff_ms = MFS_DL_BACKOFF_MS;
	d->patience_ms = MFS_DL_PATIENCE_MS;
	if ((code = mfs_dl_sources_make(d, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&d);
	return MFS_OK;
}

void
mfs_download_free(struct mfs_download *d)
{
	if (d == NULL)
		return;
	(void)pthread_mutex_destroy(&d->lock);
	free(d->sources);
	free(d);
}

/* ---- the plan ---------------------------------------------------------------------------------------------- */

static int
file_order(const void *a, const void *b)
{
	const struct mfs_file *const *x = a, *const *y = b;

	return memcmp((*x)->sha256.b, (*y)->sha256.b, MFS_SHA256_LEN);
}

/* By payload, and those that are one item side by side. */
static int
item_order(const void *a, const void *b)
{
	const struct mfs_file *x = ((const struct item *)a)->f, *y = ((const struct item *)b)->f;
	int order = memcmp(x->sha256.b, y->sha256.b, MFS_SHA256_LEN);

	if (order == 0 && x->chunk_size != y->chunk_size)
		order = x->chunk_size < y->chunk_size ? -1 : 1;
	return order != 0 ? order : memcmp(x->chunks_sha256.b, y->chunks_sha256.b, MFS_SHA256_LEN);
}

static bool
same_pair(const struct mfs_file *a, const struct mfs_file *b)
{
	return mfs_sha256_equal(&a->sha256, &b->sha256) && a->size == b->size && a->chunk_size == b->chunk_size &&
		(a->chunks <= 1 || mfs_sha256_equal(&a->chunks_sha256, &b->chunks_sha256));
}

/* Which payloads and tables installed versions name together. */
static enum mfs_code
known_mark(struct plan *p, const struct mfs_download_version *v, struct mfs_err *err)
{
	mfs_autofree const struct mfs_file **all = NULL;
	size_t n = 0, k = 0;

	for (size_t i = 0; i < v->n_have; i++)
		n += v->have[i]->n_files;
	if (n == 0)
		return MFS_OK;
	if ((all = calloc(n, sizeof(*all))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: %zu files", n);
	for (size_t i = 0; i < v->n_have; i++)
		for (size_t j = 0; j < v->have[i]->n_files; j++)
			all[k++] = &v->have[i]->files[j];
	qsort(all, n, sizeof(*all), file_order);
	k = 0;
	for (size_t i = 0; i < p->n; i++) {
		while (k < n && memcmp(all[k]->sha256.b, p->items[i].f->sha256.b, MFS_SHA256_LEN) < 0)
			k++;
		for (size_t j = k; j < n && mfs_sha256_equal(&all[j]->sha256, &p->items[i].f->sha256); j++)
			p->items[i].known = p->items[i].known || same_pair(all[j], p->items[i].f);
	}
	return MFS_OK;
}

static enum mfs_code
plan_make(struct plan *p, const struct mfs_manifest *m, struct mfs_err *err)
{
	if ((p->items = calloc(m->n_files + 1, sizeof(*p->items))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: %zu files", m->n_files);
	for (size_t i = 0; i < m->n_files; i++)
		p->items[p->n++].f = &m->files[i];
	qsort(p->items, p->n, sizeof(*p->items), item_order);
	/* Twice the same payload is one; the same payload cut up differently is two tables and is left as it is. */
	size_t n = 0;
	for (size_t i = 0; i < p->n; i++)
		if (n == 0 || !same_pair(p->items[n - 1].f, p->items[i].f))
			p->items[n++] = p->items[i];
	p->n = n;
	return MFS_OK;
}

/* What the store lacks by name and size, and how much of that was staged. */
static uint64_t
lacking_mark(struct plan *p, struct mfs_store *s, int dirfd, uint64_t *staged)
{
	uint64_t need = 0;

	*staged = 0;
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->items[i];
		const uint64_t table = mfs_table_length(it->f->chunks);
		char name[80];
		struct stat st;

		it->table = table == 0 || mfs_store_blob_has(s, &it->f->chunks_sha256, table) ? PART_STANDS : PART_LACKING;
		it->payload = mfs_store_blob_has(s, &it->f->sha256, it->f->size) ? PART_STANDS : PART_LACKING;
		need += it->table == PART_LACKING ? table : 0;
		if (it->payload != PART_LACKING)
			continue;
		need += it->f->size;
		mfs_dl_name(name, &it->f->sha256, "data");
		if (dirfd >= 0 && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
			uint64_t bytes = (uint64_t)st.st_blocks * 512;

			*staged += bytes < it->f->size ? bytes : it->f->size;
		}
	}
	return need;
}

static void
plan_free(struct plan *p)
{
	free(p->items);
}

/* ---- phases -------------------------------------------------------------------------------------------------- */

static bool
is_large(const struct mfs_file *f)
{
	return f->chunks > 1 && f->size > MFS_DL_LARGE;
}

/* Found damaged, or never seen whole: it has to be fetched after all. */
static void
lacking_more(struct mfs_dl_run *r, uint64_t bytes)
{
	(void)atomic_fetch_add(&r->total, bytes);
	(void)atomic_fetch_add(&r->to_write, bytes);
}

static enum mfs_code
table_bring(struct mfs_dl_run *r, struct item *it, struct mfs_err *err)
{
	const uint64_t len = mfs_table_length(it->f->chunks);
	enum mfs_code code;

	if (len == 0 || (it->table == PART_STANDS && it->known))
		return MFS_OK;
	if (it->table == PART_STANDS) {
		MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = NULL;

		if ((code = mfs_dl_table(r->d->args.store, -1, it->f, &t, err)) != MFS_HASH_MISMATCH && code != MFS_IO)
			return code;
		lacking_more(r, len);
	}
	it->table = PART_STAGED;
	return mfs_dl_stream(r, &it->f->chunks_sha256, len, NULL, err);
}

/* Is the payload that stands in the store the one that is signed? Otherwise what is right in it is reused. */
static enum mfs_code
payload_stands(struct mfs_dl_run *r, struct item *it, const struct mfs_table *t, bool *stands, struct mfs_err *err)
{
	mfs_autoclose int fd = mfs_store_blob_open(r->d->args.store, &it->f->sha256, 0);
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	*stands = false;
	if (fd >= 0) {
		atomic_store(&r->checking, true);
		code = mfs_dl_verify(r, fd, &it->f->sha256, it->f->size, t, &why);
		atomic_store(&r->checking, false);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		*stands = code == MFS_OK;
		if (code != MFS_OK && code != MFS_HASH_MISMATCH && code != MFS_IO) {
			*err = why;
			return code;
		}
		if (!*stands)
			mfs_log(MFS_LOG_WARN, "store: blob %s (%s): %s: fetched again", MFS_HEX(&it->f->sha256), MFS_ESC(it->f->name),
				why.msg);
	}
	return MFS_OK;
}

static enum mfs_code
payload_bring(struct mfs_dl_run *r, struct item *it, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = NULL;
	bool stands;
	enum mfs_code code;

	if (it->payload == PART_STANDS && it->known)
		return MFS_OK;
	if ((code = mfs_dl_table(r->d->args.store, it->table == PART_STAGED ? r->dirfd : -1, it->f, &t, err)) != MFS_OK)
		return code;
	if (it->payload == PART_STANDS) {
		if ((code = payload_stands(r, it, t, &stands, err)) != MFS_OK || stands)
			return code;
		lacking_more(r, it->f->size);
		if (is_large(it->f) && (code = mfs_dl_index_add(&r->index, r->d->args.store, t, err)) != MFS_OK)
			return code;
	}
	it->payload = PART_STAGED;
	if (!is_large(it->f))
		return mfs_dl_stream(r, &it->f->sha256, it->f->size, t, err);
	return mfs_dl_file(r, it->f, t, err);
}

struct phase {
	struct plan *p;
	enum mfs_code (*bring)(struct mfs_dl_run *r, struct item *it, struct mfs_err *err);
	bool small;
};

static void
phase_worker(struct mfs_dl_run *r, void *arg)
{
	const struct phase *ph = arg;

	while (!mfs_dl_stopped(r)) {
		size_t i = atomic_fetch_add(&ph->p->next, 1);
		struct mfs_err err = MFS_ERR_INIT;

		if (i >= ph->p->n)
			return;
		if (ph->small && is_large(ph->p->items[i].f))
			continue;
		if (ph->bring(r, &ph->p->items[i], &err) != MFS_OK) {
			(void)mfs_err_context(&err, "%s: ", MFS_ESC(ph->p->items[i].f->name));
			(void)mfs_dl_failed(r, &err);
		}
	}
}

static enum mfs_code
bring_all(struct mfs_dl_run *r, struct plan *p, struct mfs_err *err)
{
	struct phase tables = { .p = p, .bring = table_bring }, small = { .p = p, .bring = payload_bring, .small = true };
	const struct mfs_dl_worker w = { phase_worker, r->d->args.threads };
	enum mfs_code code;

	atomic_store(&p->next, 0);
	if ((code = mfs_dl_parallel(r, &w, 1, &tables, err)) != MFS_OK)
		return code;
	atomic_store(&p->next, 0);
	if ((code = mfs_dl_parallel(r, &w, 1, &small, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < p->n; i++)
		if (is_large(p->items[i].f) && (code = payload_bring(r, &p->items[i], err)) != MFS_OK)
			return mfs_err_context(err, "%s: ", MFS_ESC(p->items[i].f->name));
	return MFS_OK;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static enum mfs_code
lock_wait(struct mfs_dl_run *r, int *fd, struct mfs_err *err)
{
	const int64_t until = mfs_clock_mono_ms() + LOCK_WAIT_MS;
	enum mfs_code code;

	while ((code = mfs_store_lock(r->d->args.store, fd, err)) == MFS_CONDITION_UNMET && mfs_clock_mono_ms() < until) {
		const struct timespec t = { 0, 200000000 };

		if (r->cancel != NULL && atomic_load(r->cancel) != 0)
			break;
		(void)nanosleep(&t, NULL);
	}
	return code;
}

static enum mfs_code
staged_sync(struct mfs_dl_run *r, const struct mfs_sha256 *hash, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	char name[80];

	mfs_dl_name(name, hash, "data");
	if ((fd = mfs_open_beneath(r->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)) < 0 || fsync(fd) != 0)
		return mfs_fail_sys(err, MFS_IO, "store/staging: blob %s", MFS_HEX(hash));
	return MFS_OK;
}

/* fn for every staged blob, tables first. */
static enum mfs_code
each_staged(struct mfs_dl_run *r, const struct plan *p,
	enum mfs_code (*fn)(struct mfs_dl_run *r, const struct mfs_sha256 *hash, struct mfs_err *err), struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	for (int payload = 0; payload < 2; payload++)
		for (size_t i = 0; code == MFS_OK && i < p->n; i++) {
			const struct item *it = &p->items[i];

			if ((payload ? it->payload : it->table) == PART_STAGED)
				code = fn(r, payload ? &it->f->sha256 : &it->f->chunks_sha256, err);
		}
	return code;
}

/* Two items may share a blob: a payload that is cut up in two ways, or that is another one's table. */
static bool
placed_already(struct mfs_dl_run *r, const char *name, const struct mfs_sha256 *hash)
{
	mfs_autoclose int fd = -1;

	if (faccessat(r->dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return false;
	return (fd = mfs_store_blob_open(r->d->args.store, hash, 0)) >= 0;
}

static enum mfs_code
staged_place(struct mfs_dl_run *r, const struct mfs_sha256 *hash, struct mfs_err *err)
{
	char name[80];

	mfs_dl_name(name, hash, "data");
	if (placed_already(r, name, hash))
		return MFS_OK;
	return mfs_stage_place(r->d->args.store, r->dirfd, name, hash, !r->sync_all, err);
}

/* Everything staged onto the disk, into blobs/, and the manifest last: one in the store means that its blobs arrived. */
static enum mfs_code
commit(struct mfs_dl_run *r, const struct plan *p, struct mfs_err *err)
{
	struct mfs_store *s = r->d->args.store;
	mfs_autoclose int lock = -1;
	size_t n = 0;
	enum mfs_code code;

	for (size_t i = 0; i < p->n; i++)
		n += (p->items[i].payload == PART_STAGED ? 1u : 0u) + (p->items[i].table == PART_STAGED ? 1u : 0u);
	r->sync_all = n >= SYNC_ALL_FROM;
	if (r->sync_all && syncfs(r->dirfd) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: sync");
	if (!r->sync_all && (code = each_staged(r, p, staged_sync, err)) != MFS_OK)
		return code;
	if ((code = lock_wait(r, &lock, err)) != MFS_OK || (code = each_staged(r, p, staged_place, err)) != MFS_OK)
		return code;
	if (r->sync_all && syncfs(r->dirfd) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: sync");
	if (r->v == NULL || r->v->signed_bytes == NULL)
		return MFS_OK;
	return mfs_signed_put(mfs_store_dirfd(s), &r->v->m->id, r->v->signed_bytes, err);
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

void
mfs_dl_run_init(struct mfs_dl_run *r, struct mfs_download *d, const struct mfs_download_version *v,
	const _Atomic int *cancel)
{
	*r = (struct mfs_dl_run){ .d = d, .v = v, .cancel = cancel, .dirfd = -1, .range = MFS_DL_RANGE_MIN * 4,
		.patience_ms = d->patience_ms };
	r->requests = &r->stop;
	atomic_store(&r->progress_ms, mfs_clock_mono_ms());
	r->rate_ms = mfs_clock_mono_ms();
	(void)pthread_mutex_init(&r->lock, NULL);
	mfs_dl_cond_init(&r->changed);
}

void
mfs_dl_run_end(struct mfs_dl_run *r)
{
	mfs_dl_index_free(r->index);
	if (r->dirfd >= 0)
		(void)close(r->dirfd);
	(void)pthread_cond_destroy(&r->changed);
	(void)pthread_mutex_destroy(&r->lock);
}

/* Nothing but what this version needs stays staged: what an older attempt left is room on the disk. */
static enum mfs_code
stage_trim(struct mfs_dl_run *r, const struct plan *p, struct mfs_err *err)
{
	mfs_autofree struct mfs_sha256 *keep = calloc(2 * p->n + 1, sizeof(*keep));
	size_t n = 0;

	if (keep == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "download: %zu files", p->n);
	for (size_t i = 0; i < p->n; i++) {
		keep[n++] = p->items[i].f->sha256;
		if (p->items[i].f->chunks > 1)
			keep[n++] = p->items[i].f->chunks_sha256;
	}
	mfs_stage_trim(r->dirfd, keep, n);
	return MFS_OK;
}

static enum mfs_code
version_bring(struct mfs_dl_run *r, struct mfs_err *err)
{
	MFS_CLEANUP(plan_free) struct plan p = { 0 };
	const struct mfs_download_version *v = r->v;
	struct mfs_store *s = r->d->args.store;
	uint64_t staged, need;
	enum mfs_code code;

	if ((code = plan_make(&p, v->m, err)) != MFS_OK || (code = known_mark(&p, v, err)) != MFS_OK ||
		(code = mfs_stage_open(s, v->id, &r->dirfd, err)) != MFS_OK || (code = stage_trim(r, &p, err)) != MFS_OK)
		return code;
	need = lacking_mark(&p, s, r->dirfd, &staged);
	atomic_store(&r->total, need);
	atomic_store(&r->to_write, need > staged ? need - staged : 0);
	if (need > 0) {
		if ((code = mfs_dl_room(r, err)) != MFS_OK)
			return code;
		/* Ciphertext of another file never is the same: an encrypted version reuses whole blobs alone. */
		if (v->m->cipher == MFS_CIPHER_NONE && (code = mfs_dl_index_make(s, v->have, v->n_have, &r->index, err)) != MFS_OK)
			return code;
	}
	if ((code = bring_all(r, &p, err)) != MFS_OK || (code = commit(r, &p, err)) != MFS_OK)
		return code;
	mfs_stage_drop(s, v->id);
	return MFS_OK;
}

static enum mfs_code
file_bring(struct mfs_dl_run *r, struct item *it, bool suspect, struct mfs_err *err)
{
	const struct plan p = { .items = it, .n = 1 };
	struct mfs_store *s = r->d->args.store;
	struct plan own = p;
	uint64_t staged;
	enum mfs_code code;

	/* A folder of its own, by payload: a download of the same model may be under way. */
	mfs_cleanup_close(&r->dirfd); /* of a file before this one */
	if ((code = mfs_stage_open(s, MFS_HEX(&it->f->sha256), &r->dirfd, err)) != MFS_OK)
		return code;
	atomic_store(&r->total, lacking_mark(&own, s, r->dirfd, &staged));
	atomic_store(&r->to_write, r->total > staged ? r->total - staged : 0);
	if ((code = mfs_dl_room(r, err)) != MFS_OK || (code = table_bring(r, it, err)) != MFS_OK)
		return code;
	/* A blob of the right length is read chunk by chunk anyway: what is wrong in it will be known by its number. */
	if ((suspect || it->payload == PART_LACKING) && (code = payload_bring(r, it, err)) != MFS_OK)
		return code;
	return commit(r, &p, err);
}

enum mfs_code
mfs_dl_file_bring(struct mfs_dl_run *r, const struct mfs_manifest *m, size_t file, bool suspect, struct mfs_err *err)
{
	struct item it = { .f = &m->files[file] };
	struct mfs_store *s = r->d->args.store;
	const enum mfs_code code = file_bring(r, &it, suspect, err);

	/* Of a failure nothing stays that the next try would begin anew; of a large payload that is lacking, what is there. */
	if (code == MFS_OK || !is_large(it.f) || it.payload == PART_STANDS)
		mfs_stage_drop(s, MFS_HEX(&it.f->sha256));
	return code;
}

enum mfs_code
mfs_download_version(struct mfs_download *d, const struct mfs_download_version *v, struct mfs_download_result *res,
	struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_dl_run r;
	enum mfs_code code;

	mfs_dl_run_init(&r, d, v, v->cancel);
	code = version_bring(&r, &own);
	*res = (struct mfs_download_result){ .fetched = r.fetched, .wasted = r.wasted, .reused = r.reused,
		.resumed = r.resumed, .needed = r.needed, .retry_after_s = r.retry_after_s };
	mfs_dl_run_end(&r);
	if (code != MFS_OK && err != NULL)
		*err = own;
	return code;
}

uint64_t
mfs_download_missing(struct mfs_store *s, const char *id, const struct mfs_manifest *m)
{
	MFS_CLEANUP(plan_free) struct plan p = { 0 };
	mfs_autoclose int dirfd = mfs_stage_find(s, id);
	uint64_t staged, need;

	if (plan_make(&p, m, NULL) != MFS_OK)
		return m->total_size;
	need = lacking_mark(&p, s, dirfd, &staged);
	return need > staged ? need - staged : 0;
}

void
mfs_download_drop(struct mfs_store *s, const char *id)
{
	mfs_stage_drop(s, id);
}

void
mfs_download_collect(struct mfs_store *s, const char *const *ids, size_t n)
{
	mfs_stage_collect(s, ids, n);
}
