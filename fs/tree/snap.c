/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <time.h>

#include "io.h"
#include "serve.h"
#include "snap.h"

#define FRESH_MS      250
#define OWN_BYTES_MAX (8u << 20) /* snapshots in serve's own memory, all together */

struct doc { /* of one document */
	uint32_t open;
	uint64_t size;
	int64_t at_ms, mtime_ns; /* of that size; at_ms 0: never */
};

struct own { /* a snapshot in serve's own memory, by handle index */
	char *text;
	size_t len;
};

struct mfs_snaps {
	struct mfs_serve *serve;
	struct mfs_shm *shm;
	struct mfs_handles *handles;
	pthread_mutex_t lock;
	size_t n_models;
	struct doc *docs;
	struct own *own; /* MFS_HANDLES */
	size_t own_bytes;
};

static struct doc *
doc_of(struct mfs_snaps *s, enum mfs_status_kind kind, size_t model)
{
	if (kind >= MFS_STATUS_ALL_TEXT)
		return &s->docs[4 * s->n_models + (size_t)(kind - MFS_STATUS_ALL_TEXT)];
	return &s->docs[4 * model + (size_t)kind];
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

enum mfs_code
mfs_snaps_new(struct mfs_serve *serve, struct mfs_shm *shm, struct mfs_handles *h, size_t n_models,
	struct mfs_snaps **out, struct mfs_err *err)
{
	struct mfs_snaps *s = calloc(1, sizeof(*s));
	bool used[MFS_SNAPS] = { false };

	*out = NULL;
	if (s == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "snapshots");
	*s = (struct mfs_snaps){ .serve = serve, .shm = shm, .handles = h, .n_models = n_models };
	(void)pthread_mutex_init(&s->lock, NULL);
	s->docs = calloc(4 * n_models + 5, sizeof(*s->docs));
	s->own = calloc(MFS_HANDLES, sizeof(*s->own));
	if (s->docs == NULL || s->own == NULL) {
		mfs_snaps_free(s);
		return mfs_fail(err, MFS_NO_MEMORY, "snapshots");
	}
	for (uint32_t i = 1; i < MFS_HANDLES; i++) {
		uint32_t snap = shm->handles[i].snap;

		if (atomic_load(&shm->handles[i].fh) != 0 && snap != 0 && snap <= MFS_SNAPS)
			used[snap - 1] = true;
	}
	for (uint32_t i = 0; i < MFS_SNAPS; i++)
		atomic_store(&shm->snaps[i].used, used[i]);
	*out = s;
	return MFS_OK;
}

void
mfs_snaps_free(struct mfs_snaps *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; s->own != NULL && i < MFS_HANDLES; i++)
		free(s->own[i].text);
	free(s->own);
	free(s->docs);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

static int
render(struct mfs_snaps *s, enum mfs_status_kind kind, size_t model, char **text, size_t *len)
{
	struct mfs_err err = MFS_ERR_INIT;

	*text = NULL;
	if (kind == MFS_STATUS_MODEL_GENERATION) { /* the tree's own: it changes when it is announced */
		if ((*text = malloc(512)) == NULL)
			return ENOMEM;
		*len = mfs_tree_generation(s->serve->tree, model, *text, 512);
		return 0;
	}
	if (mfs_status_render(s->serve, kind, model, text, len, &err) != MFS_OK)
		return err.code == MFS_NO_MEMORY ? ENOMEM : EIO;
	if (*len > MFS_SNAP_BYTES)
		*len = MFS_SNAP_BYTES;
	return 0;
}

static void
remember(struct mfs_snaps *s, enum mfs_status_kind kind, size_t model, size_t len)
{
	struct doc *d = doc_of(s, kind, model);

	d->size = len;
	d->at_ms = mfs_clock_boot_ms();
	d->mtime_ns = now_ns();
}

/* A free slot of shm, filled, or 0. Hold lock. */
static uint32_t
snap_take(struct mfs_snaps *s, const char *text, size_t len)
{
	for (uint32_t i = 0; i < MFS_SNAPS; i++)
		if (atomic_load(&s->shm->snaps[i].used) == 0) {
			memcpy(s->shm->snap_bytes[i], text, len);
			s->shm->snaps[i].len = (uint32_t)len;
			atomic_store(&s->shm->snaps[i].used, 1);
			return i + 1;
		}
	return 0;
}

static void
own_drop(struct mfs_snaps *s, uint32_t i)
{
	s->own_bytes -= s->own[i].text != NULL ? s->own[i].len : 0;
	free(s->own[i].text);
	s->own[i] = (struct own){ NULL, 0 };
}

/* Takes ownership of *text on success. Hold lock. */
static bool
own_keep(struct mfs_snaps *s, uint32_t i, char **text, size_t len)
{
	if (s->own_bytes + len > OWN_BYTES_MAX)
		return false;
	own_drop(s, i);
	s->own[i] = (struct own){ mfs_steal(text), len };
	s->own_bytes += len;
	return true;
}

uint64_t
mfs_snap_open(struct mfs_snaps *s, uint64_t unique, uint64_t node, uint32_t uid, enum mfs_status_kind kind,
	size_t model, int *error)
{
	struct mfs_handle h = { .node = node, .uid = uid }, old;
	mfs_autofree char *text = NULL;
	size_t len = 0;
	uint64_t fh;

	*error = 0;
	if ((fh = mfs_handles_repeated(s->handles, unique, node, &old)) != 0)
		return fh;
	if ((*error = render(s, kind, model, &text, &len)) != 0)
		return 0;
	(void)pthread_mutex_lock(&s->lock);
	h.snap = snap_take(s, text, len);
	fh = mfs_handles_take(s->handles, unique, &h);
	if (fh != 0 && h.snap == 0)
		(void)own_keep(s, (uint32_t)fh, &text, len); /* else as one that was lost: rendered when it is read */
	if (fh == 0 && h.snap != 0)
		atomic_store(&s->shm->snaps[h.snap - 1].used, 0);
	if (fh != 0) {
		*error = 0;
		doc_of(s, kind, model)->open++;
		remember(s, kind, model, len);
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (fh == 0)
		*error = ENFILE;
	return fh;
}

static size_t
copy_out(void *buf, size_t len, uint64_t off, const void *text, size_t size)
{
	size_t n = off >= size ? 0 : size - (size_t)off;

	if (n > len)
		n = len;
	if (n > 0)
		memcpy(buf, (const uint8_t *)text + off, n);
	return n;
}

int
mfs_snap_read(struct mfs_snaps *s, uint64_t fh, uint64_t node, enum mfs_status_kind kind, size_t model, void *buf,
	size_t len, uint64_t off, size_t *got)
{
	mfs_autofree char *text = NULL;
	struct mfs_handle h;
	uint32_t i = (uint32_t)fh;
	size_t size = 0;
	bool lost;
	int error;

	*got = 0;
	if (!mfs_handles_get(s->handles, fh, &h) || h.node != node)
		return EBADF;
	(void)pthread_mutex_lock(&s->lock);
	lost = h.snap == 0 && s->own[i].text == NULL;
	(void)pthread_mutex_unlock(&s->lock);
	if (lost && (error = render(s, kind, model, &text, &size)) != 0)
		return error;
	(void)pthread_mutex_lock(&s->lock);
	if (h.snap != 0 && h.snap <= MFS_SNAPS) {
		size = s->shm->snaps[h.snap - 1].len;
		*got = copy_out(buf, len, off, s->shm->snap_bytes[h.snap - 1],
			size < MFS_SNAP_BYTES ? size : MFS_SNAP_BYTES);
	} else if (s->own[i].text != NULL) {
		*got = copy_out(buf, len, off, s->own[i].text, s->own[i].len);
	} else if (text != NULL) {
		*got = copy_out(buf, len, off, text, size);
		(void)own_keep(s, i, &text, size);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return 0;
}

bool
mfs_snap_release(struct mfs_snaps *s, uint64_t fh, bool status, enum mfs_status_kind kind, size_t model,
	struct mfs_handle *out)
{
	bool was_open;

	(void)pthread_mutex_lock(&s->lock); /* across both: a new OPEN may take the same index at once */
	if ((was_open = mfs_handles_release(s->handles, fh, out))) {
		if (out->snap != 0 && out->snap <= MFS_SNAPS)
			atomic_store(&s->shm->snaps[out->snap - 1].used, 0);
		own_drop(s, (uint32_t)fh);
		if (status && doc_of(s, kind, model)->open > 0)
			doc_of(s, kind, model)->open--;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return was_open;
}

uint64_t
mfs_snap_size(struct mfs_snaps *s, enum mfs_status_kind kind, size_t model, int64_t *mtime_ns)
{
	struct doc *d = doc_of(s, kind, model);
	mfs_autofree char *text = NULL;
	size_t len = 0;
	struct doc now;

	(void)pthread_mutex_lock(&s->lock);
	now = *d;
	(void)pthread_mutex_unlock(&s->lock);
	if (now.open == 0 && (now.at_ms == 0 || mfs_clock_boot_ms() - now.at_ms > FRESH_MS)) {
		if (render(s, kind, model, &text, &len) != 0)
			len = 0;
		(void)pthread_mutex_lock(&s->lock);
		if (d->open == 0)
			remember(s, kind, model, len);
		now = *d;
		(void)pthread_mutex_unlock(&s->lock);
	}
	*mtime_ns = now.mtime_ns;
	return now.size;
}
