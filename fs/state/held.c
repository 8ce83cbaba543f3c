/* SPDX-License-Identifier: Apache-2.0 */
/* Trusted state in keeper's memory: two places per kind of document, and which of them counts. */
#include "held.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"

#define KINDS      2
#define PLACE_LEN  ((uint64_t)MFS_STATE_BYTES_MAX)
#define TOTAL_LEN  (2 * KINDS * PLACE_LEN)
#define HEADER_LEN 32u /* of a frame; the length of its document lies at LENGTH_AT */
#define LENGTH_AT  24u
#define FRAME_LEN  80u /* of an empty document */
#define SEALS      (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct mfs_held {
	int fd;            /* borrowed */
	int current[KINDS]; /* the place that holds the document, -1: none */
};

/* ---- the memory ------------------------------------------------------------------------------------------------ */

enum mfs_code
mfs_held_make(int *fd, struct mfs_err *err)
{
	mfs_autoclose int made = memfd_create("modelfs-held", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	*fd = -1;
	/* No page of it exists before something is held. serve writes it: it must not change its size. */
	if (made < 0 || ftruncate(made, (off_t)TOTAL_LEN) != 0 || fcntl(made, F_ADD_SEALS, SEALS) != 0)
		return mfs_fail_sys(err, MFS_IO, "memory for state that cannot be written");
	*fd = made;
	made = -1;
	return MFS_OK;
}

bool
mfs_held_usable(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)TOTAL_LEN &&
		fcntl(fd, F_GET_SEALS) == SEALS;
}

bool
mfs_held_empty(int fd)
{
	struct stat st;

	return fd < 0 || (fstat(fd, &st) == 0 && st.st_blocks == 0);
}

enum mfs_code
mfs_held_open(int fd, struct mfs_held **out, struct mfs_err *err)
{
	*out = NULL;
	if (!mfs_held_usable(fd))
		return mfs_fail(err, MFS_CONDITION_UNMET, "no memory for state that cannot be written");
	if ((*out = malloc(sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "state");
	**out = (struct mfs_held){ .fd = fd, .current = { -1, -1 } };
	return MFS_OK;
}

void
mfs_held_close(struct mfs_held *h)
{
	free(h);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

static int
kind_index(enum mfs_state_kind kind)
{
	return kind == MFS_STATE_HELD ? 1 : 0;
}

static off_t
place_at(enum mfs_state_kind kind, int place)
{
	return (off_t)((uint64_t)(2 * kind_index(kind) + place) * PLACE_LEN);
}

/* Nothing stands there any more: also where the pages cannot be given back, the magic goes. */
static void
place_clear(const struct mfs_held *h, enum mfs_state_kind kind, int place)
{
	static const uint8_t zeros[HEADER_LEN];
	const off_t at = place_at(kind, place);

	if (fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)PLACE_LEN) != 0 &&
		mfs_pwrite_full(h->fd, zeros, sizeof(zeros), at) != 0)
		mfs_log(MFS_LOG_WARN, "state: memory of what was held cannot be cleared: %s", strerror(errno));
}

/* The frame in a place; *out NULL with MFS_OK: none was ever begun there. */
static enum mfs_code
place_read(const struct mfs_held *h, enum mfs_state_kind kind, int place, uint8_t **out, size_t *len, struct mfs_err *err)
{
	static const uint8_t zeros[HEADER_LEN];
	const off_t at = place_at(kind, place);
	uint8_t header[HEADER_LEN];
	mfs_autofree uint8_t *frame = NULL;
	struct mfs_span length = MFS_SPAN(header + LENGTH_AT, 8);
	uint64_t n = 0;

	*out = NULL;
	if (mfs_pread_full(h->fd, header, sizeof(header), at) != 0)
		return mfs_fail_sys(err, MFS_IO, "read");
	if (memcmp(header, zeros, sizeof(header)) == 0)
		return MFS_OK;
	if (!mfs_span_u64le(&length, &n) || n > PLACE_LEN - FRAME_LEN)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%llu bytes, limit %llu", (unsigned long long)n,
			(unsigned long long)(PLACE_LEN - FRAME_LEN));
	*len = (size_t)n + FRAME_LEN;
	if ((frame = malloc(*len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu bytes", *len);
	if (mfs_pread_full(h->fd, frame, *len, at) != 0)
		return mfs_fail_sys(err, MFS_IO, "read");
	*out = mfs_steal(&frame);
	return MFS_OK;
}

enum mfs_code
mfs_held_put(struct mfs_held *h, enum mfs_state_kind kind, uint64_t generation, struct mfs_span doc,
	const struct mfs_key *key, struct mfs_err *err)
{
	int *current = &h->current[kind_index(kind)];
	const int target = *current == 0 ? 1 : 0;
	mfs_autofree uint8_t *frame = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_state_seal(kind, generation, doc, key, &frame, &len, err)) != MFS_OK)
		return code;
	if (mfs_pwrite_full(h->fd, frame, len, place_at(kind, target)) != 0) {
		code = mfs_fail_sys(err, errno == ENOSPC ? MFS_INSUFFICIENT_STORAGE : errno == ENOMEM ? MFS_NO_MEMORY : MFS_IO,
			"memory of keeper: write");
		place_clear(h, kind, target);
		return code;
	}
	if (*current >= 0)
		place_clear(h, kind, *current);
	*current = target;
	return MFS_OK;
}

enum mfs_code
mfs_held_get(struct mfs_held *h, enum mfs_state_kind kind, const struct mfs_key *key, uint8_t **out, struct mfs_span *doc,
	uint64_t *generation, struct mfs_err *err)
{
	int best = -1;

	*out = NULL;
	for (int place = 0; place < 2; place++) {
		mfs_autofree uint8_t *frame = NULL;
		struct mfs_err why = MFS_ERR_INIT;
		struct mfs_span body;
		uint64_t gen = 0;
		size_t len = 0;
		enum mfs_code code = place_read(h, kind, place, &frame, &len, &why);

		if (code == MFS_OK && frame != NULL)
			code = mfs_state_open(kind, MFS_SPAN(frame, len), key, &gen, &body, &why);
		if (code == MFS_NO_MEMORY)
			return mfs_fail(err, code, "state held in memory: %s", why.msg);
		if (code != MFS_OK)
			mfs_log(MFS_LOG_WARN, "state held in memory: place %d: %s: not used", place, why.msg);
		if (code != MFS_OK || frame == NULL || (best >= 0 && gen <= *generation))
			continue;
		free(*out);
		*out = mfs_steal(&frame);
		*doc = body;
		*generation = gen;
		best = place;
	}
	h->current[kind_index(kind)] = best;
	return MFS_OK;
}

void
mfs_held_drop(struct mfs_held *h, enum mfs_state_kind kind)
{
	if (h == NULL || (h->current[kind_index(kind)] < 0 && mfs_held_empty(h->fd)))
		return;
	for (int place = 0; place < 2; place++)
		place_clear(h, kind, place);
	h->current[kind_index(kind)] = -1;
}
