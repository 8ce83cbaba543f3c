/* SPDX-License-Identifier: Apache-2.0 */
/* remotefix.h - serve's end of fetch over a mock, with times of its own; a fetch that does as it should. */
#ifndef REMOTEFIX_H
#define REMOTEFIX_H

#include <criterion/criterion.h>
#include <string.h>

#include "mockfetch.h"
#include "remote_int.h"

static const struct mfs_remote_timing quick = { .ping_ms = 100, .silent_ms = 600, .stall_ms = 1500, .idle_ms = 60000,
	.pause_ms = 1 };

static inline struct mfs_remote *
remote_over(struct mock *k, const struct mfs_remote_timing *t)
{
	struct mfs_remote *r;

	cr_assert_eq(mfs_remote_new(mock_start, k, &r, NULL), MFS_OK);
	mfs_remote_timing_set(r, t);
	return r;
}

static inline void
remote_end(struct mfs_remote *r, struct mock *k)
{
	mfs_remote_free(r);
	mock_join(k);
}

static inline enum mfs_code
count_sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	(void)err;
	for (size_t i = 0; i < n; i++)
		if (((const char *)p)[i] != 'x')
			return mfs_fail(err, MFS_HASH_MISMATCH, "another byte");
	*(uint64_t *)user += n;
	return MFS_OK;
}

/* Ask; what came is added to *n. */
static inline enum mfs_code
ask(struct mfs_remote *r, struct mfs_remote_request q, uint64_t *n, struct mfs_remote_result *res, struct mfs_err *err)
{
	struct mfs_remote_result own;
	struct mfs_err own_err = MFS_ERR_INIT;
	uint64_t own_n = 0;

	q.mirror = -1;
	if (q.kind == 0) {
		q.kind = MFS_REMOTE_METADATA;
		q.path = "timestamp.json";
	}
	if (q.cap == 0)
		q.cap = 10000;
	q.sink = q.sink != NULL ? q.sink : count_sink;
	q.user = q.user != NULL ? q.user : n != NULL ? n : &own_n;
	return mfs_remote_get(r, &q, res != NULL ? res : &own, err != NULL ? err : &own_err);
}
#define WHOLE ((struct mfs_remote_request){ 0 })
#define RANGE(f, l) ((struct mfs_remote_request){ .from = (f), .length = (l) })

/* A file of 5000 bytes at a server that knows ranges; answers conditions and takes posts. */
static inline bool
good(struct mock *k, const union mfs_wire *m, int fd)
{
	const uint64_t id = m->head.id, size = 5000;
	union mfs_wire facts;

	if (m->head.type == MFS_W_GET) {
		uint64_t n = m->get.length == 0 ? size : m->get.from >= size ? 0
			: m->get.length < size - m->get.from ? m->get.length : size - m->get.from;

		mock_headers(k, id, m->get.length == 0 ? 200 : 206, m->get.from, n, size);
		mock_bytes(fd, n);
		mock_done(k, id, MFS_OK, 200, n);
	} else if (m->head.type == MFS_W_POST) {
		mock_done(k, id, MFS_OK, 200, 0);
	} else if (m->head.type == MFS_W_CONDITIONS) {
		memset(&facts, 0, sizeof(facts));
		facts.facts.battery = 40;
		facts.facts.metered = MFS_METERED_YES;
		(void)mfs_wire_send(k->sock, &facts, MFS_W_FACTS, id, -1);
	} else if (m->head.type == MFS_W_CANCEL) {
		mock_done(k, id, MFS_CONDITION_UNMET, 0, 0);
	}
	return true;
}

#endif
