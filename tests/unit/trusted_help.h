/* SPDX-License-Identifier: Apache-2.0 */
/* trusted_help.h - trusted state in a private folder, for its tests. */
#ifndef TRUSTED_HELP_H
#define TRUSTED_HELP_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cut.h"
#include "log.h"
#include "scratch.h"
#include "trusted.h"

static char root[256];
static int rootfd = -1, state = -1, store = -1;
static const struct mfs_key key = { { 1, 2, 3, 4, 5 } }, other_key = { { 9 } };

static inline void
folders_open(void)
{
	state = scratch_folder(rootfd, "state");
	store = scratch_folder(rootfd, "store");
}

static inline void
folders_clear(void)
{
	char path[300];

	(void)close(state);
	(void)close(store);
	(void)snprintf(path, sizeof(path), "%s/state", root);
	scratch_remove(path);
	(void)snprintf(path, sizeof(path), "%s/store", root);
	scratch_remove(path);
}

static inline void
setup(void)
{
	mfs_log_open("check", MFS_LOG_ERR);
	rootfd = scratch_make(root, "check-trusted");
	folders_open();
}

static inline void
teardown(void)
{
	folders_clear();
	(void)close(rootfd);
	scratch_remove(root);
}

/* ---- a device in a few words -------------------------------------------------------------------- */

struct device {
	struct mfs_counter *counter;
	struct mfs_trusted *t;
};

static inline enum mfs_code
device_open(struct device *d, unsigned flags, struct mfs_err *err)
{
	enum mfs_code code;

	*d = (struct device){ 0 };
	if ((code = mfs_counter_open("file", state, &d->counter, err)) != MFS_OK)
		return code;
	code = mfs_trusted_open(state, store, &key, d->counter, flags, &d->t, err);
	if (code != MFS_OK)
		mfs_counter_free(d->counter);
	return code;
}

static inline void
device_close(struct device *d)
{
	mfs_trusted_close(d->t);
	mfs_counter_free(d->counter);
}

static inline enum mfs_code
device_commit(struct device *d, int64_t release, struct mfs_err *err)
{
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;
	enum mfs_code code = mfs_anchor_copy(mfs_trusted_anchor(d->t), &a, err);

	if (code != MFS_OK)
		return code;
	if ((m = mfs_anchor_find(a, "det")) == NULL && (code = mfs_anchor_add(a, "det", "det", &m, err)) != MFS_OK)
		return code;
	m->floor_epoch = 1;
	m->floor_release = release;
	m->floor_manifest.b[0] = (uint8_t)release;
	if ((code = mfs_trusted_commit(d->t, a, err)) != MFS_OK)
		mfs_anchor_free(a);
	return code;
}

static inline int64_t
device_floor(const struct device *d)
{
	const struct mfs_anchor_model *m = mfs_anchor_find(mfs_trusted_anchor(d->t), "det");

	return m != NULL ? m->floor_release : 0;
}

/* Open, commit these releases, close: one life of the process. */
static inline int
life(const int64_t *releases, size_t n)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;

	if (device_open(&d, 0, &err) != MFS_OK)
		return 1;
	for (size_t i = 0; i < n; i++)
		if (device_commit(&d, releases[i], &err) != MFS_OK)
			return 2;
	device_close(&d);
	return 0;
}

static inline void
live(int64_t release)
{
	cr_assert_eq(life(&release, 1), 0, "release %" PRId64, release);
}

/* The floor that a start finds; -1 when the start is refused (code and message in *err). */
static inline int64_t
start(struct mfs_err *err)
{
	struct device d;
	int64_t floor;

	*err = (struct mfs_err)MFS_ERR_INIT;
	if (device_open(&d, 0, err) != MFS_OK)
		return -1;
	floor = device_floor(&d);
	device_close(&d);
	return floor;
}

static inline void
refused(enum mfs_code code, const char *word)
{
	struct mfs_err err;

	cr_assert_eq(start(&err), -1, "accepted");
	cr_assert_eq(err.code, code, "%s: %s", mfs_code_name(err.code), err.msg);
	cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
	cr_assert_not_null(strstr(err.msg, "modelfs recover"), "%s", err.msg);
}

static inline void
accepted(int64_t floor)
{
	struct mfs_err err;
	int64_t got = start(&err);

	cr_assert_eq(got, floor, "floor %" PRId64 ", expected %" PRId64 ": %s", got, floor, err.msg);
}

struct kept { /* a file as it was once */
	uint8_t *bytes;
	size_t n;
};

static inline struct kept
keep(const char *name)
{
	struct kept k;

	k.bytes = scratch_read(state, name, &k.n);
	cr_assert_not_null(k.bytes, "%s", name);
	return k;
}

static inline void
replay(const char *name, struct kept k)
{
	scratch_write(state, name, k.bytes, k.n);
}

static inline int
life_recovers(void *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_anchor *a;
	struct device d;

	(void)arg;
	if (device_open(&d, MFS_TRUSTED_RECOVER, &err) != MFS_OK)
		return 1;
	if (mfs_anchor_copy(mfs_trusted_anchor(d.t), &a, &err) != MFS_OK || mfs_trusted_commit(d.t, a, &err) != MFS_OK)
		return 2;
	device_close(&d);
	return 0;
}

#endif
