/* SPDX-License-Identifier: Apache-2.0 */
/* held_help.h - a model that lived, what is held of it, and the memory that it is held in. */
#ifndef HELD_HELP_H
#define HELD_HELP_H

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "held.h"
#include "io.h"
#include "mfs_policy.h"
#include "trusted_help.h"

#define PLACE ((off_t)MFS_STATE_BYTES_MAX) /* two for the cycle, then two for the anchor */
#define ANCHOR_AT (2 * PLACE)

static int mem = -1;
static struct mfs_held *held;
static struct device d;

static inline void
memory_open(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_held_open(mem, &held, &err), MFS_OK, "%s", err.msg);
}

static inline void
held_setup(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	setup();
	cr_assert_eq(mfs_held_make(&mem, &err), MFS_OK, "%s", err.msg);
	memory_open();
}

static inline void
held_teardown(void)
{
	mfs_held_close(held);
	(void)close(mem);
	teardown();
}

static inline void
begin_as(const struct mfs_key *k)
{
	struct mfs_err err = MFS_ERR_INIT;

	mfs_held_close(held);
	memory_open();
	cr_assert_eq(mfs_counter_open("file", state, &d.counter, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_trusted_open(state, store, k, d.counter, 0, &d.t, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_trusted_take_over(d.t, held, &err), MFS_OK, "%s", err.msg);
}

/* The next serve. */
static inline void
begin(void)
{
	begin_as(&key);
}

static inline void
end(void)
{
	device_close(&d);
	d = (struct device){ 0 };
}

static inline void
again(void)
{
	end();
	begin();
}

static inline struct mfs_vref
version(int64_t n)
{
	struct mfs_vref v = { .manifest = { { (uint8_t)n, 0xaa } }, .release = n, .key_epoch = 1 };

	(void)snprintf(v.version, sizeof(v.version), "1.%" PRId64 ".0", n);
	(void)snprintf(v.variant, sizeof(v.variant), "default");
	return v;
}

static inline struct mfs_anchor *
copy(void)
{
	struct mfs_anchor *a;

	cr_assert_eq(mfs_anchor_copy(mfs_trusted_anchor(d.t), &a, NULL), MFS_OK);
	return a;
}

static inline struct mfs_anchor_model *
det_of(struct mfs_anchor *a)
{
	struct mfs_anchor_model *m = mfs_anchor_find(a, "det");

	cr_assert_not_null(m);
	return m;
}

static inline const struct mfs_anchor_model *
det(void)
{
	const struct mfs_anchor_model *m = mfs_anchor_find(mfs_trusted_anchor(d.t), "det");

	cr_assert_not_null(m);
	return m;
}

static inline void
commit(struct mfs_anchor *a)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_trusted_commit(d.t, a, &err), MFS_OK, "%s", err.msg);
}

/* Release 2 is active, 1 is kept, the policy has sequence 5. */
static inline void
lived(void)
{
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;

	begin();
	a = copy();
	cr_assert_eq(mfs_anchor_add(a, "det", "det", &m, NULL), MFS_OK);
	m->active = version(2);
	m->previous = version(1);
	m->retained = malloc(sizeof(*m->retained));
	m->retained[0] = version(1);
	m->n_retained = 1;
	m->floor_epoch = 1;
	m->floor_release = 2;
	m->floor_manifest = m->active.manifest;
	m->policy_sequence = 5;
	commit(a);
}

static inline void
tighten(struct mfs_anchor *a, int64_t n, enum mfs_action action)
{
	struct mfs_revocation r = { .action = action };
	const struct mfs_policy p = { .revoked = &r, .n_revoked = 1 };

	(void)snprintf(r.version, sizeof(r.version), "1.%" PRId64 ".0", n);
	(void)snprintf(r.reason, sizeof(r.reason), "leak");
	cr_assert_eq(mfs_anchor_policy_tighten(det_of(a), &p, NULL), MFS_OK);
}

static inline void
hold_revoked(int64_t n, enum mfs_action action)
{
	struct mfs_anchor *a = copy();

	tighten(a, n, action);
	mfs_trusted_hold(d.t, a);
}

/* As the kill switch does: back to release 1. */
static inline void
hold_gone_back(void)
{
	struct mfs_anchor *a = copy();
	struct mfs_anchor_model *m;

	tighten(a, 2, MFS_ACTION_ROLLBACK);
	m = det_of(a);
	m->active = version(1);
	m->previous = (struct mfs_vref){ .release = 0 };
	free(m->retained);
	m->retained = NULL;
	m->n_retained = 0;
	mfs_trusted_hold(d.t, a);
}

static inline bool
is_revoked(int64_t n)
{
	char name[16];
	bool found = false;

	(void)snprintf(name, sizeof(name), "1.%" PRId64 ".0", n);
	for (size_t i = 0; i < det()->n_revoked; i++)
		found |= strcmp(det()->revoked[i].version, name) == 0;
	return found;
}

/* Where the anchor stands now, of its two places. */
static inline off_t
place(void)
{
	uint8_t magic[8];

	cr_assert_eq(mfs_pread_full(mem, magic, sizeof(magic), ANCHOR_AT), 0);
	return memcmp(magic, "MFSTATE1", 8) == 0 ? ANCHOR_AT : ANCHOR_AT + PLACE;
}

static inline struct kept
memory_keep(off_t at, size_t n)
{
	struct kept k = { malloc(n), n };

	cr_assert_not_null(k.bytes);
	cr_assert_eq(mfs_pread_full(mem, k.bytes, n, at), 0);
	return k;
}

static inline void
memory_put(off_t at, struct kept k, size_t n)
{
	cr_assert_eq(mfs_pwrite_full(mem, k.bytes, n, at), 0);
}

#endif
