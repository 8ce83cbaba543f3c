/* SPDX-License-Identifier: Apache-2.0 */
/* What the phases of a download share: threads, progress, room, staged files. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "download_io.h"
#include "io.h"
#include "log.h"

#define TELL_MS 100
#define STACK   (512u << 10)

void
mfs_dl_name(char out[80], const struct mfs_sha256 *hash, const char *suffix)
{
	(void)snprintf(out, 80, "%s.%s", MFS_HEX(hash), suffix);
}

void
mfs_dl_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(c, &attr);
	(void)pthread_condattr_destroy(&attr);
}

bool
mfs_dl_stopped(struct mfs_dl_run *r)
{
	return atomic_load(&r->stop) != 0 || atomic_load(r->requests) != 0 || (r->cancel != NULL && atomic_load(r->cancel) != 0);
}

void
mfs_dl_landed(struct mfs_dl_run *r, uint64_t bytes)
{
	(void)atomic_fetch_add(&r->done, bytes);
	atomic_store(&r->progress_ms, mfs_clock_mono_ms());
}

void
mfs_dl_wrote(struct mfs_dl_run *r, uint64_t bytes)
{
	uint64_t left = atomic_load(&r->to_write);

	mfs_dl_landed(r, bytes);
	while (!atomic_compare_exchange_weak(&r->to_write, &left, left > bytes ? left - bytes : 0))
		;
}

enum mfs_code
mfs_dl_failed(struct mfs_dl_run *r, const struct mfs_err *err)
{
	(void)pthread_mutex_lock(&r->lock);
	if (r->failed.code == MFS_OK)
		r->failed = *err;
	atomic_store(&r->stop, 1);
	(void)pthread_cond_broadcast(&r->changed);
	(void)pthread_mutex_unlock(&r->lock);
	return err->code;
}

enum mfs_code
mfs_dl_last_fault(struct mfs_dl_run *r, struct mfs_err *err)
{
	(void)pthread_mutex_lock(&r->lock);
	*err = r->last_fault;
	(void)pthread_mutex_unlock(&r->lock);
	return err->code != MFS_OK ? err->code : mfs_fail(err, MFS_HASH_MISMATCH, "no source sends what is signed");
}

/* ---- progress ------------------------------------------------------------------------------------------------ */

/* Of the coordinator: the caller's cancel becomes the workers' stop, and the caller hears how far it is. */
static void
coordinate(struct mfs_dl_run *r)
{
	const int64_t now = mfs_clock_mono_ms();
	struct mfs_download_progress p;

	if (r->cancel != NULL && atomic_load(r->cancel) != 0) {
		struct mfs_err err = MFS_ERR_INIT;

		(void)mfs_fail(&err, MFS_CONDITION_UNMET, "the download was stopped; what it has is kept");
		(void)mfs_dl_failed(r, &err);
	}
	if (r->v == NULL || r->v->progress == NULL || now - r->told_ms < TELL_MS)
		return;
	p = (struct mfs_download_progress){ .done = atomic_load(&r->done), .total = r->total,
		.fetched = atomic_load(&r->fetched), .checking = atomic_load(&r->checking) };
	if (now - r->rate_ms >= 1000) {
		const uint64_t arrived = atomic_load(&r->arrived);
		const uint64_t rate = (arrived - r->rate_bytes) * 1000 / (uint64_t)(now - r->rate_ms);

		r->rate = r->rate > 0 ? (r->rate * 3 + rate) / 4 : rate;
		r->rate_bytes = arrived;
		r->rate_ms = now;
	}
	p.rate = r->rate;
	r->told_ms = now;
	r->v->progress(r->v->user, &p);
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

struct start {
	struct mfs_dl_run *r;
	void (*fn)(struct mfs_dl_run *r, void *arg);
	void *arg;
};

static void *
thread_run(void *arg)
{
	const struct start *s = arg;

	s->fn(s->r, s->arg);
	(void)pthread_mutex_lock(&s->r->lock);
	s->r->running--;
	(void)pthread_cond_broadcast(&s->r->changed);
	(void)pthread_mutex_unlock(&s->r->lock);
	return NULL;
}

/* Fewer threads of a kind than asked for are slower, not wrong; none of a kind is a failure. */
static unsigned
threads_start(struct mfs_dl_run *r, const struct mfs_dl_worker *w, size_t n_w, struct start *starts, void *arg,
	pthread_t *ids)
{
	pthread_attr_t attr;
	unsigned n = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	for (size_t k = 0; k < n_w; k++) {
		starts[k] = (struct start){ r, w[k].fn, arg };
		for (unsigned i = 0; i < w[k].n; i++) {
			int e;

			(void)pthread_mutex_lock(&r->lock);
			r->running++;
			(void)pthread_mutex_unlock(&r->lock);
			if ((e = pthread_create(&ids[n], &attr, thread_run, &starts[k])) == 0) {
				n++;
				continue;
			}
			(void)pthread_mutex_lock(&r->lock);
			r->running--;
			(void)pthread_mutex_unlock(&r->lock);
			if (i == 0) {
				struct mfs_err err = MFS_ERR_INIT;

				errno = e;
				(void)mfs_fail_sys(&err, MFS_NO_MEMORY, "download: thread");
				(void)mfs_dl_failed(r, &err);
			}
			break;
		}
	}
	(void)pthread_attr_destroy(&attr);
	return n;
}

enum mfs_code
mfs_dl_parallel(struct mfs_dl_run *r, const struct mfs_dl_worker *w, size_t n_w, void *arg, struct mfs_err *err)
{
	const _Atomic int *const own = r->requests;
	struct start starts[4];
	pthread_t ids[MFS_DL_THREADS_MAX + 4];
	unsigned n;

	if (n_w > sizeof(starts) / sizeof(starts[0]))
		return mfs_fail(err, MFS_INTERNAL, "download: %zu kinds of threads", n_w);
	r->requests = &r->stop; /* a failure of one ends those of the others; the caller's cancel is handed on */
	n = threads_start(r, w, n_w, starts, arg, ids);
	(void)pthread_mutex_lock(&r->lock);
	while (r->running > 0) {
		struct timespec t;

		(void)pthread_mutex_unlock(&r->lock);
		coordinate(r);
		(void)pthread_mutex_lock(&r->lock);
		(void)clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_nsec += TELL_MS * 1000000L;
		t.tv_sec += t.tv_nsec / 1000000000;
		t.tv_nsec %= 1000000000;
		if (r->running > 0)
			(void)pthread_cond_timedwait(&r->changed, &r->lock, &t);
	}
	(void)pthread_mutex_unlock(&r->lock);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(ids[i], NULL);
	r->requests = own;
	r->told_ms = 0; /* a phase ends with a report */
	coordinate(r);
	(void)pthread_mutex_lock(&r->lock);
	if (r->failed.code != MFS_OK && err != NULL)
		*err = r->failed;
	(void)pthread_mutex_unlock(&r->lock);
	return r->failed.code;
}

/* ---- room ------------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_dl_room(struct mfs_dl_run *r, struct mfs_err *err)
{
	const struct mfs_download_args *a = &r->d->args;
	const uint64_t need = atomic_load(&r->to_write);
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code = mfs_store_room(a->store, need, a->min_free, &why);

	if (code == MFS_INSUFFICIENT_STORAGE && a->make_room != NULL) {
		a->make_room(a->user, need);
		code = mfs_store_room(a->store, need, a->min_free, &why);
	}
	if (code == MFS_OK)
		return code;
	(void)pthread_mutex_lock(&r->lock);
	r->needed = need + need / 20;
	(void)pthread_mutex_unlock(&r->lock);
	*err = why;
	return code;
}

/* ---- staged files ----------------------------------------------------------------------------------------------- */

int
mfs_dl_staged(int dirfd, const char *name, struct mfs_err *err)
{
	const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	mfs_autoclose int fd = mfs_open_beneath(dirfd, name, flags, 0640);
	struct stat st;

	/* Whatever else stands there (the store may have been tampered with) goes; a second name would share its bytes. */
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
		if (fd >= 0)
			(void)close(mfs_steal_fd(&fd));
		if (mfs_remove_all(dirfd, name) != 0 || (fd = mfs_open_beneath(dirfd, name, flags | O_EXCL, 0640)) < 0) {
			(void)mfs_fail_sys(err, MFS_IO, "store/staging: %s", name);
			return -1;
		}
	}
	return mfs_steal_fd(&fd);
}

static bool
kept_same(const struct mfs_dl_kept *k, const struct mfs_sha256 *hash, uint64_t size, const struct stat *st)
{
	return mfs_sha256_equal(&k->hash, hash) && k->size == size && (uint64_t)st->st_size == size &&
		k->dev == st->st_dev && k->ino == st->st_ino && k->ctime.tv_sec == st->st_ctim.tv_sec &&
		k->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

bool
mfs_dl_is_kept(struct mfs_download *d, const struct mfs_sha256 *hash, uint64_t size, int fd)
{
	struct stat st;
	bool kept = false;

	if (fstat(fd, &st) != 0)
		return false;
	(void)pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->n_kept && i < MFS_DL_KEPT && !kept; i++)
		kept = kept_same(&d->kept[i], hash, size, &st);
	(void)pthread_mutex_unlock(&d->lock);
	return kept;
}

void
mfs_dl_keep(struct mfs_download *d, const struct mfs_sha256 *hash, uint64_t size, int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return;
	(void)pthread_mutex_lock(&d->lock);
	/* Only a saving: when there are many, the oldest are forgotten. */
	d->kept[d->n_kept++ % MFS_DL_KEPT] = (struct mfs_dl_kept){ *hash, st.st_dev, st.st_ino, st.st_ctim, size };
	(void)pthread_mutex_unlock(&d->lock);
}
