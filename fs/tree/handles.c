/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "handles.h"
#include "io.h"

#define REPEATS_MS 120000 /* a successor repeats what its predecessor left at once; later a number came round */
#define NONE    0u    /* end of a chain: index 0 is never used */
#define BY_USER 4096u /* users are told apart modulo this */

struct mfs_handles {
	struct mfs_shm *shm;
	pthread_mutex_t lock;
	int64_t started_ms;
	uint32_t hint, used;
	uint32_t head[MFS_HANDLES]; /* by low bits of the unique: how a repeated OPEN is found */
	uint32_t next[MFS_HANDLES];
	uint32_t users[BY_USER]; /* handles of each */
};

static uint32_t
bucket(uint64_t fh)
{
	return (uint32_t)(fh >> 32) / 2 % MFS_HANDLES; /* uniques are even */
}

static uint64_t
load(const struct mfs_handles *h, uint32_t i)
{
	return atomic_load_explicit(&h->shm->handles[i].fh, memory_order_acquire);
}

static void
link_slot(struct mfs_handles *h, uint32_t i, uint64_t fh)
{
	uint32_t b = bucket(fh);

	h->next[i] = h->head[b];
	h->head[b] = i;
	h->used++;
	h->users[h->shm->handles[i].uid % BY_USER]++;
}

static void
unlink_slot(struct mfs_handles *h, uint32_t i, uint64_t fh)
{
	uint32_t *p = &h->head[bucket(fh)];

	while (*p != NONE && *p != i)
		p = &h->next[*p];
	if (*p == i)
		*p = h->next[i];
	h->used--;
	h->users[h->shm->handles[i].uid % BY_USER]--;
}

static void
fill(const struct mfs_handles *h, uint32_t i, struct mfs_handle *out)
{
	const struct mfs_shm_handle *s = &h->shm->handles[i];

	*out = (struct mfs_handle){ s->node, s->exposure, s->snap, s->owner, s->uid };
}

enum mfs_code
mfs_handles_new(struct mfs_shm *shm, struct mfs_handles **out, struct mfs_err *err)
{
	struct mfs_handles *h = calloc(1, sizeof(*h));

	*out = NULL;
	if (h == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "handle table");
	h->shm = shm;
	h->started_ms = mfs_clock_boot_ms();
	(void)pthread_mutex_init(&h->lock, NULL);
	for (uint32_t i = 1; i < MFS_HANDLES; i++) {
		uint64_t fh = load(h, i);

		if (fh == 0)
			continue;
		if ((uint32_t)fh != i) { /* never written by us */
			atomic_store(&shm->handles[i].fh, 0);
			continue;
		}
		link_slot(h, i, fh);
	}
	*out = h;
	return MFS_OK;
}

void
mfs_handles_free(struct mfs_handles *h)
{
	if (h == NULL)
		return;
	(void)pthread_mutex_destroy(&h->lock);
	free(h);
}

uint64_t
mfs_handles_repeated(struct mfs_handles *h, uint64_t unique, uint64_t node, struct mfs_handle *out)
{
	uint64_t low = unique & UINT32_MAX, found = 0;

	/* The low bits come round after 2^31 requests: a handle must not be mistaken for a long-lived one. */
	if (mfs_clock_boot_ms() - h->started_ms > REPEATS_MS)
		return 0;
	(void)pthread_mutex_lock(&h->lock);
	for (uint32_t i = h->head[bucket(low << 32)]; i != NONE; i = h->next[i])
		if (load(h, i) == (low << 32 | i) && h->shm->handles[i].node == node) {
			found = low << 32 | i;
			fill(h, i, out);
			break;
		}
	(void)pthread_mutex_unlock(&h->lock);
	return found;
}

/* Hold lock. */
static bool
may_take(const struct mfs_handles *h, uint32_t uid)
{
	uint32_t left = MFS_HANDLES - 1 - h->used;

	return uid == 0 ? left > 0 : h->users[uid % BY_USER] < left;
}

uint64_t
mfs_handles_take(struct mfs_handles *h, uint64_t unique, const struct mfs_handle *what)
{
	uint64_t fh = 0;

	(void)pthread_mutex_lock(&h->lock);
	for (uint32_t n = 0; may_take(h, what->uid) && n < MFS_HANDLES; n++) {
		uint32_t i = h->hint = (h->hint + 1) % MFS_HANDLES;
		struct mfs_shm_handle *s = &h->shm->handles[i];

		if (i == 0 || load(h, i) != 0)
			continue;
		s->node = what->node;
		s->exposure = what->exposure;
		s->snap = what->snap;
		s->owner = what->owner;
		s->uid = what->uid;
		fh = (unique & UINT32_MAX) << 32 | i;
		link_slot(h, i, fh);
		atomic_store_explicit(&s->fh, fh, memory_order_release); /* last: a crash before it took nothing */
		break;
	}
	(void)pthread_mutex_unlock(&h->lock);
	return fh;
}

static bool
is_open(const struct mfs_handles *h, uint64_t fh)
{
	uint32_t i = (uint32_t)fh;

	return i != 0 && i < MFS_HANDLES && load(h, i) == fh;
}

void
mfs_handles_own(struct mfs_handles *h, uint64_t fh, uint64_t owner)
{
	(void)pthread_mutex_lock(&h->lock);
	if (is_open(h, fh))
		h->shm->handles[(uint32_t)fh].owner = owner;
	(void)pthread_mutex_unlock(&h->lock);
}

bool
mfs_handles_get(struct mfs_handles *h, uint64_t fh, struct mfs_handle *out)
{
	bool open;

	(void)pthread_mutex_lock(&h->lock);
	if ((open = is_open(h, fh)))
		fill(h, (uint32_t)fh, out);
	(void)pthread_mutex_unlock(&h->lock);
	return open;
}

bool
mfs_handles_release(struct mfs_handles *h, uint64_t fh, struct mfs_handle *out)
{
	bool open;

	(void)pthread_mutex_lock(&h->lock);
	if ((open = is_open(h, fh))) {
		uint32_t i = (uint32_t)fh;

		fill(h, i, out);
		unlink_slot(h, i, fh);
		atomic_store_explicit(&h->shm->handles[i].fh, 0, memory_order_release);
	}
	(void)pthread_mutex_unlock(&h->lock);
	return open;
}

unsigned
mfs_handles_count(struct mfs_handles *h, uint32_t exposure_index)
{
	unsigned n = 0;

	(void)pthread_mutex_lock(&h->lock);
	for (uint32_t i = 1; i < MFS_HANDLES; i++)
		n += load(h, i) != 0 && h->shm->handles[i].exposure == exposure_index + 1;
	(void)pthread_mutex_unlock(&h->lock);
	return n;
}

void
mfs_handles_counts(struct mfs_handles *h, uint32_t *counts)
{
	memset(counts, 0, MFS_EXPOSURES * sizeof(*counts));
	(void)pthread_mutex_lock(&h->lock);
	for (uint32_t i = 1; i < MFS_HANDLES; i++) {
		uint32_t e = load(h, i) != 0 ? h->shm->handles[i].exposure : 0;

		if (e != 0 && e <= MFS_EXPOSURES)
			counts[e - 1]++;
	}
	(void)pthread_mutex_unlock(&h->lock);
}
