/* SPDX-License-Identifier: Apache-2.0 */
/* session_slots.c - the places of requests in memory that outlives serve: slots, and parked READs. */
#include "session_int.h"

#include <string.h>

struct fuse_in_header *
mfs_slot_header(struct mfs_session *s, unsigned i)
{
	if (i >= MFS_SLOTS)
		return (struct fuse_in_header *)(void *)s->shm->parked[i - MFS_SLOTS].buf;
	return (struct fuse_in_header *)(void *)s->shm->slots[i].buf;
}

_Atomic uint32_t *
mfs_slot_attempts(struct mfs_session *s, unsigned i)
{
	return i >= MFS_SLOTS ? &s->shm->parked[i - MFS_SLOTS].attempts : &s->shm->slots[i].attempts;
}

void
mfs_slot_free(struct mfs_session *s, unsigned i)
{
	pthread_mutex_lock(&s->lock);
	if (i >= MFS_SLOTS)
		s->free_parked[s->n_parked++] = i;
	else
		s->free_slots[s->n_free++] = i;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

bool
mfs_slot_flag_clear(struct mfs_session *s, unsigned i, uint8_t flag)
{
	return atomic_fetch_and(&s->flags[i], (uint8_t)~flag) == flag;
}

void
mfs_slot_empty(struct mfs_session *s, unsigned i)
{
	__atomic_store_n(&mfs_slot_header(s, i)->len, 0, __ATOMIC_SEQ_CST);
}

/* Is it the one in place i? Then it is answered. */
static bool
slot_answer(struct mfs_session *s, unsigned i, uint64_t unique)
{
	uint64_t expected = unique;

	if (atomic_load_explicit(&s->unique[i], memory_order_relaxed) != unique ||
		!atomic_compare_exchange_strong(&s->unique[i], &expected, 0))
		return false;
	mfs_slot_empty(s, i);
	if (mfs_slot_flag_clear(s, i, SLOT_WAITING))
		mfs_slot_free(s, i);
	return true;
}

void
mfs_slot_answered(struct mfs_session *s, uint64_t unique, int place)
{
	if (unique == 0 || (place >= 0 && slot_answer(s, (unsigned)place, unique)))
		return;
	for (unsigned i = 0; i < MFS_SLOTS; i++)
		if (slot_answer(s, i, unique))
			return;
}

unsigned
mfs_slot_park(struct mfs_session *s, unsigned i)
{
	struct fuse_in_header *from = mfs_slot_header(s, i), *to;
	uint64_t unique = atomic_load(&s->unique[i]);
	uint32_t len = from->len;
	unsigned p;

	if (i >= MFS_SLOTS || s->n_parked == 0 || unique == 0 || len > MFS_PARKED_BYTES || len < sizeof(*from))
		return i;
	p = s->free_parked[--s->n_parked];
	if (p - MFS_SLOTS >= atomic_load(&s->shm->parked_used))
		atomic_store(&s->shm->parked_used, p - MFS_SLOTS + 1);
	to = mfs_slot_header(s, p);
	memcpy((uint8_t *)to + sizeof(to->len), (uint8_t *)from + sizeof(from->len), len - sizeof(from->len));
	atomic_store(mfs_slot_attempts(s, p), atomic_load(mfs_slot_attempts(s, i)));
	atomic_store(&s->flags[p], SLOT_WAITING);
	atomic_store(&s->unique[p], unique);
	__atomic_store_n(&to->len, len, __ATOMIC_SEQ_CST);
	atomic_store(&s->unique[i], 0);
	mfs_slot_empty(s, i);
	/* The operation still runs in it: it is free when that returns. */
	(void)mfs_slot_flag_clear(s, i, SLOT_WAITING);
	return p;
}
