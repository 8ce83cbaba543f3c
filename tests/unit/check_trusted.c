/* SPDX-License-Identifier: Apache-2.0 */
/* Trusted state: power cuts, replays, deletions and damage never lower a floor. */
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

static void
folders_open(void)
{
	state = scratch_folder(rootfd, "state");
	store = scratch_folder(rootfd, "store");
}

static void
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

static void
setup(void)
{
	mfs_log_open("check", MFS_LOG_ERR);
	rootfd = scratch_make(root, "check-trusted");
	folders_open();
}

static void
teardown(void)
{
	folders_clear();
	(void)close(rootfd);
	scratch_remove(root);
}

TestSuite(trusted, .init = setup, .fini = teardown);

/* ---- a device in a few words -------------------------------------------------------------------- */

struct device {
	struct mfs_counter *counter;
	struct mfs_trusted *t;
};

static enum mfs_code
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

static void
device_close(struct device *d)
{
	mfs_trusted_close(d->t);
	mfs_counter_free(d->counter);
}

static enum mfs_code
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

static int64_t
device_floor(const struct device *d)
{
	const struct mfs_anchor_model *m = mfs_anchor_find(mfs_trusted_anchor(d->t), "det");

	return m != NULL ? m->floor_release : 0;
}

/* Open, commit these releases, close: one life of the process. */
static int
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

static void
live(int64_t release)
{
	cr_assert_eq(life(&release, 1), 0, "release %" PRId64, release);
}

/* The floor that a start finds; -1 when the start is refused (code and message in *err). */
static int64_t
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

static void
refused(enum mfs_code code, const char *word)
{
	struct mfs_err err;

	cr_assert_eq(start(&err), -1, "accepted");
	cr_assert_eq(err.code, code, "%s: %s", mfs_code_name(err.code), err.msg);
	cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
	cr_assert_not_null(strstr(err.msg, "modelfs recover"), "%s", err.msg);
}

static void
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

static struct kept
keep(const char *name)
{
	struct kept k;

	k.bytes = scratch_read(state, name, &k.n);
	cr_assert_not_null(k.bytes, "%s", name);
	return k;
}

static void
replay(const char *name, struct kept k)
{
	scratch_write(state, name, k.bytes, k.n);
}

/* ---- ordinary life -------------------------------------------------------------------------------- */

Test(trusted, a_first_start_is_empty_and_commits_last)
{
	accepted(0);
	live(1);
	accepted(1);
	live(2);
	accepted(2);
	cr_assert(scratch_has(store, ".state-id"));
}

Test(trusted, several_commits_of_one_life)
{
	const int64_t releases[] = { 1, 2, 3, 4, 5 };

	cr_assert_eq(life(releases, 5), 0);
	accepted(5);
}

Test(trusted, reading_writes_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;

	cr_assert_eq(device_open(&d, MFS_TRUSTED_READ, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_commit(&d, 1, &err), MFS_INTERNAL);
	cr_assert_eq(mfs_trusted_cycle_save(d.t, &err), MFS_INTERNAL);
	device_close(&d);
	cr_assert_eq(scratch_count(rootfd, "state"), 0);
	cr_assert_eq(scratch_count(rootfd, "store"), 0);
}

Test(trusted, another_state_key_opens_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_counter *c;
	struct mfs_trusted *t;

	live(3);
	cr_assert_eq(mfs_counter_open("file", state, &c, &err), MFS_OK);
	cr_assert_eq(mfs_trusted_open(state, store, &other_key, c, 0, &t, &err), MFS_SIGNATURE_INVALID, "%s", err.msg);
	cr_assert_null(t);
	cr_assert_not_null(strstr(err.msg, "anchor.0"));
	cr_assert_not_null(strstr(err.msg, "anchor.1"));
	mfs_counter_free(c);
}

Test(trusted, an_unknown_counter_is_no_file_counter)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_counter *c;

	cr_assert_eq(mfs_counter_open("tpm:0x01500010", state, &c, &err), MFS_CONFIG_INVALID);
	cr_assert_null(c);
}

/* ---- power cuts ------------------------------------------------------------------------------------- */

static int
life_commits_7(void *arg)
{
	int64_t release = 7;

	(void)arg;
	return life(&release, 1);
}

/* Cut at every system call of a life that commits 7 over `before`: one of both is there, whole, and goes on. */
static void
cut_everywhere(int64_t before)
{
	unsigned n;

	for (n = 1; n < 2000; n++) {
		enum cut_result r;
		struct mfs_err err;
		int64_t floor;

		folders_clear();
		folders_open();
		if (before > 0)
			live(before);
		r = cut_run(life_commits_7, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		floor = start(&err);
		cr_assert(floor == before || floor == 7, "cut %u: floor %" PRId64 ": %s", n, floor, err.msg);
		if (r == CUT_FINISHED)
			cr_assert_eq(floor, 7, "a reported commit was lost");
		/* What was found stays, and the next life goes on from it. */
		accepted(floor);
		live(8);
		accepted(8);
		if (r == CUT_FINISHED)
			break;
	}
	cr_assert(n > 40, "only %u cuts", n);
	cr_assert(n < 2000);
}

Test(trusted, a_cut_at_any_step_leaves_the_old_or_the_new_anchor)
{
	cut_everywhere(5);
}

Test(trusted, a_cut_at_any_step_of_the_first_start)
{
	cut_everywhere(0);
}

/* Every copy is on disk before it gets its name, the name before the counter moves, the counter before the rest. */
Test(trusted, a_commit_reaches_the_disk_in_order)
{
	/* The present anchor as c + 1 and its second copy, then the change: file, name, counter, second copy. */
	static const char one[] = "wfrf" "pf" "wfrf";
	struct cut_steps s = { { 0 }, 0 };
	char want[64];

	live(5);
	if (cut_trace(life_commits_7, NULL, cut_step, &s) == CUT_UNAVAILABLE)
		cr_skip("ptrace is not permitted: the order of writes cannot be seen");
	(void)snprintf(want, sizeof(want), "%s%s", one, one);
	cr_assert_str_eq(s.text, want);
}

static int
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

Test(trusted, a_cut_at_any_step_of_recover_is_refused_or_recovered)
{
	for (unsigned n = 1; n < 2000; n++) {
		enum cut_result r;
		struct mfs_err err;
		int64_t floor;

		folders_clear();
		folders_open();
		live(5);
		(void)unlinkat(state, "counter", 0);
		r = cut_run(life_recovers, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		floor = start(&err);
		cr_assert(floor == 5 || (floor == -1 && err.code == MFS_STATE_REPLAYED), "cut %u: %" PRId64 " %s", n, floor,
			err.msg);
		cr_assert_eq(life_recovers(NULL), 0);
		accepted(5);
		if (r == CUT_FINISHED)
			return;
	}
	cr_assert_fail("it never finished");
}

/* A torn write of the counter: any prefix of the new slot over the old one. */
Test(trusted, a_torn_counter_is_the_old_or_the_new_value)
{
	struct kept before, after;

	live(5);
	before = keep("counter");
	live(6);
	after = keep("counter");
	for (size_t at = 0; at < after.n; at++) {
		mfs_autofree uint8_t *torn = malloc(after.n);
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_counter *c;
		uint64_t v = 0, v_before = 0, v_after = 0;
		bool absent;

		/* One slot at a time is written. */
		if (memcmp(before.bytes + at, after.bytes + at, 1) == 0)
			continue;
		memcpy(torn, before.bytes, before.n);
		memcpy(torn + (at / 4096) * 4096, after.bytes + (at / 4096) * 4096, at % 4096);
		cr_assert_eq(mfs_counter_open("file", state, &c, &err), MFS_OK);
		replay("counter", before);
		cr_assert_eq(c->read(c, &v_before, &absent, &err), MFS_OK);
		replay("counter", after);
		cr_assert_eq(c->read(c, &v_after, &absent, &err), MFS_OK);
		scratch_write(state, "counter", torn, before.n);
		cr_assert_eq(c->read(c, &v, &absent, &err), MFS_OK, "torn at %zu: %s", at, err.msg);
		cr_assert(v >= v_before - 1 && v <= v_after, "torn at %zu: %" PRIu64, at, v);
		mfs_counter_free(c);
	}
	free(before.bytes);
	free(after.bytes);
}

/* ---- replay ------------------------------------------------------------------------------------------ */

Test(trusted, replayed_copies_of_the_anchor_are_refused)
{
	struct kept a, b;

	live(5);
	a = keep("anchor.0");
	b = keep("anchor.1");
	live(6);
	replay("anchor.0", a);
	replay("anchor.1", b);
	refused(MFS_STATE_REPLAYED, "anchor.0: generation");
	free(a.bytes);
	free(b.bytes);
}

Test(trusted, one_replayed_copy_is_passed_over)
{
	struct kept a;

	live(5);
	a = keep("anchor.0");
	live(6);
	replay("anchor.0", a);
	accepted(6);
	replay("anchor.1", a);
	refused(MFS_STATE_REPLAYED, "anchor.1: generation");
	free(a.bytes);
}

Test(trusted, a_replayed_counter_is_refused)
{
	struct kept c;

	live(5);
	c = keep("counter");
	live(6);
	replay("counter", c);
	refused(MFS_STATE_REPLAYED, "counter stands at");
	free(c.bytes);
}

/* Counter and one copy are replayed together: the other copy, which nobody replaced, gives it away. */
Test(trusted, a_replayed_counter_with_one_copy_is_refused)
{
	static const char *const names[2] = { "anchor.0", "anchor.1" };

	for (int i = 0; i < 2; i++) {
		struct kept c, a;

		folders_clear();
		folders_open();
		live(5);
		c = keep("counter");
		a = keep(names[i]);
		live(6);
		replay("counter", c);
		replay(names[i], a);
		refused(MFS_STATE_REPLAYED, "generation");
		free(c.bytes);
		free(a.bytes);
	}
}

Test(trusted, one_commit_back_within_a_life_is_refused_too)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;
	struct kept a;

	cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	cr_assert_eq(device_commit(&d, 5, &err), MFS_OK);
	a = keep("anchor.0");
	cr_assert_eq(device_commit(&d, 6, &err), MFS_OK);
	device_close(&d);
	replay("anchor.0", a);
	replay("anchor.1", a);
	refused(MFS_STATE_REPLAYED, "generation");
	free(a.bytes);
}

/* A counter whose increment fails before or after it happened. */
struct failing {
	struct mfs_counter base;
	struct mfs_counter *real;
	int fail; /* 1: before, 2: after the real increment; reset by each failure */
};

static enum mfs_code
failing_read(struct mfs_counter *c, uint64_t *value, bool *absent, struct mfs_err *err)
{
	struct mfs_counter *real = ((struct failing *)(void *)c)->real;

	return real->read(real, value, absent, err);
}

static enum mfs_code
failing_create(struct mfs_counter *c, struct mfs_err *err)
{
	struct mfs_counter *real = ((struct failing *)(void *)c)->real;

	return real->create(real, err);
}

static enum mfs_code
failing_increment(struct mfs_counter *c, struct mfs_err *err)
{
	struct failing *f = (struct failing *)(void *)c;
	int how = f->fail;

	f->fail = 0;
	if (how == 1)
		return mfs_fail(err, MFS_COUNTER_UNAVAILABLE, "it failed");
	if (f->real->increment(f->real, err) != MFS_OK)
		return err->code;
	return how == 2 ? mfs_fail(err, MFS_COUNTER_UNAVAILABLE, "it failed late") : MFS_OK;
}

static void
failing_make(struct failing *f, int how)
{
	struct mfs_err err = MFS_ERR_INIT;

	*f = (struct failing){ .fail = how };
	f->base.kind = "file";
	f->base.read = failing_read;
	f->base.create = failing_create;
	f->base.increment = failing_increment;
	cr_assert_eq(mfs_counter_open("file", state, &f->real, &err), MFS_OK);
}

/* Commit 9 over `before` with an increment that fails; with retry, then 10. */
static void
commit_failing(int how, bool retry)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct failing f;
	struct device d = { 0 };

	failing_make(&f, 0);
	cr_assert_eq(mfs_trusted_open(state, store, &key, &f.base, 0, &d.t, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_commit(&d, 6, &err), MFS_OK, "%s", err.msg);
	f.fail = how;
	cr_assert_eq(device_commit(&d, 9, &err), MFS_COUNTER_UNAVAILABLE);
	cr_assert_eq(device_floor(&d), 6, "a commit that failed is not in force");
	if (retry) {
		cr_assert_eq(device_commit(&d, 10, &err), MFS_OK, "%s", err.msg);
		cr_assert_eq(device_floor(&d), 10);
	}
	mfs_trusted_close(d.t);
	mfs_counter_free(f.real);
}

Test(trusted, a_failed_increment_is_survived_before_and_after_a_restart)
{
	for (int how = 1; how <= 2; how++)
		for (int retry = 0; retry <= 1; retry++)
			for (int first = 0; first <= 1; first++) {
				struct mfs_err err;
				int64_t floor;

				folders_clear();
				folders_open();
				if (!first)
					live(5);
				commit_failing(how, retry);
				floor = start(&err);
				cr_assert(retry ? floor == 10 : floor == 6 || floor == 9, "how %d: %" PRId64 " %s", how, floor,
					err.msg);
				live(11);
				accepted(11);
			}
}

Test(trusted, a_state_cut_off_before_the_increment_cannot_come_back_later)
{
	struct kept cut;
	bool second;

	live(5);
	commit_failing(1, false);
	/* One copy holds 9 as generation c + 1, the other 6 as c. The attacker takes it away... */
	{
		struct kept a = keep("anchor.0"), b = keep("anchor.1");

		second = memcmp(a.bytes + 16, b.bytes + 16, 8) < 0;
		cut = second ? b : a;
		free(second ? a.bytes : b.bytes);
	}
	cr_assert_eq(unlinkat(state, second ? "anchor.1" : "anchor.0", 0), 0);
	accepted(6);
	live(7);
	/* ... and brings it back, in either place and in both. */
	replay("anchor.0", cut);
	accepted(7);
	live(8);
	replay("anchor.1", cut);
	accepted(8);
	replay("anchor.0", cut);
	refused(MFS_STATE_REPLAYED, "generation");
	free(cut.bytes);
}

Test(trusted, a_counter_changed_by_somebody_else_stops_writing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;

	live(5);
	cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	cr_assert_eq(d.counter->increment(d.counter, &err), MFS_OK);
	cr_assert_eq(device_commit(&d, 6, &err), MFS_STATE_REPLAYED, "%s", err.msg);
	cr_assert_eq(device_floor(&d), 5);
	device_close(&d);
}

/* ---- deletion ------------------------------------------------------------------------------------------ */

Test(trusted, a_deleted_copy_is_tolerated)
{
	live(5);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	accepted(5);
	live(6);
	cr_assert(scratch_has(state, "anchor.0"));
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	accepted(6);
}

Test(trusted, both_copies_deleted_are_refused)
{
	live(5);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	refused(MFS_STATE_REPLAYED, "anchor.0 and anchor.1 are missing");
}

Test(trusted, a_deleted_counter_is_refused)
{
	live(5);
	cr_assert_eq(unlinkat(state, "counter", 0), 0);
	refused(MFS_STATE_REPLAYED, "state/counter: missing");
}

Test(trusted, an_unreadable_counter_is_refused)
{
	uint8_t zero[8192] = { 0 };

	live(5);
	scratch_write(state, "counter", zero, sizeof(zero));
	refused(MFS_COUNTER_UNAVAILABLE, "state/counter");
	scratch_write(state, "counter", zero, 0);
	refused(MFS_COUNTER_UNAVAILABLE, "state/counter");
}

Test(trusted, a_deleted_state_beside_its_store_is_no_first_start)
{
	live(5);
	(void)close(state);
	{
		char path[300];

		(void)snprintf(path, sizeof(path), "%s/state", root);
		scratch_remove(path);
	}
	state = scratch_folder(rootfd, "state");
	refused(MFS_STATE_REPLAYED, "store/.state-id");
}

Test(trusted, a_deleted_store_is_fine)
{
	struct mfs_err err;

	live(5);
	cr_assert_eq(unlinkat(store, ".state-id", 0), 0);
	cr_assert_eq(start(&err), 5, "%s", err.msg);
	cr_assert(scratch_has(store, ".state-id"), "the mark was not written again");
}

Test(trusted, a_missing_state_key_beside_a_state_is_refused)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct stat st;

	cr_assert_eq(mfs_state_key_create(state, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(fstatat(state, "key", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_size, 32);
	live(5);
	cr_assert_eq(mfs_state_key_create(state, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(unlinkat(state, "key", 0), 0);
	cr_assert_eq(mfs_state_key_create(state, &err), MFS_STATE_REPLAYED);
	cr_assert_not_null(strstr(err.msg, "state/key"));
	cr_assert(!scratch_has(state, "key"));
	cr_assert_eq(mfs_state_key_renew(state, &err), MFS_OK);
	cr_assert(scratch_has(state, "key"));
}

/* ---- damage -------------------------------------------------------------------------------------------- */

Test(trusted, a_flipped_bit_in_one_copy_is_tolerated_in_both_refused)
{
	struct kept a, b;

	live(5);
	a = keep("anchor.0");
	b = keep("anchor.1");
	for (size_t i = 0; i < a.n; i++) {
		uint8_t bit = (uint8_t)(1u << (i % 8));
		struct mfs_err err;

		a.bytes[i] ^= bit;
		replay("anchor.0", a);
		replay("anchor.1", b);
		accepted(5);
		replay("anchor.1", a);
		cr_assert_eq(start(&err), -1, "byte %zu accepted in both copies", i);
		cr_assert(err.code == MFS_MALFORMED || err.code == MFS_SIGNATURE_INVALID || err.code == MFS_LIMIT_EXCEEDED,
			"byte %zu: %s", i, mfs_code_name(err.code));
		cr_assert_not_null(strstr(err.msg, "anchor.0"), "%s", err.msg);
		cr_assert_not_null(strstr(err.msg, "anchor.1"), "%s", err.msg);
		cr_assert_not_null(strstr(err.msg, "modelfs recover"), "%s", err.msg);
		a.bytes[i] ^= bit;
	}
	free(a.bytes);
	free(b.bytes);
}

Test(trusted, a_copy_cut_at_any_length_is_tolerated_in_both_refused)
{
	struct kept a, b;
	size_t whole;

	live(5);
	a = keep("anchor.0");
	b = keep("anchor.1");
	whole = a.n;
	for (a.n = 0; a.n < whole; a.n++) {
		struct mfs_err err;

		replay("anchor.0", a);
		replay("anchor.1", b);
		accepted(5);
		replay("anchor.1", a);
		cr_assert_eq(start(&err), -1, "%zu bytes accepted", a.n);
	}
	free(a.bytes);
	free(b.bytes);
}

Test(trusted, links_and_folders_in_the_place_of_a_copy_are_no_copy)
{
	struct kept a;

	live(5);
	a = keep("anchor.0");
	scratch_write(state, "elsewhere", a.bytes, a.n);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	cr_assert_eq(symlinkat("elsewhere", state, "anchor.0"), 0);
	cr_assert_eq(mkdirat(state, "anchor.1", 0700), 0);
	refused(MFS_MALFORMED, "anchor.1");
	free(a.bytes);
}

/* ---- recover ------------------------------------------------------------------------------------------- */

Test(trusted, recover_keeps_the_highest_floor_of_replayed_copies)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;
	struct kept a;

	live(5);
	a = keep("anchor.0");
	live(6);
	replay("anchor.0", a);
	cr_assert_eq(unlinkat(state, "counter", 0), 0);
	refused(MFS_STATE_REPLAYED, "state/counter: missing");
	cr_assert_eq(device_open(&d, MFS_TRUSTED_RECOVER, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_floor(&d), 6);
	cr_assert_not_null(strstr(mfs_trusted_found(d.t), "counter: missing"));
	device_close(&d);
	refused(MFS_STATE_REPLAYED, "state/counter: missing"); /* opening alone changes nothing */
	cr_assert_eq(life_recovers(NULL), 0);
	accepted(6);
	/* No older copy fits the new counter. */
	replay("anchor.0", a);
	replay("anchor.1", a);
	refused(MFS_STATE_REPLAYED, "generation");
	free(a.bytes);
}

Test(trusted, recover_joins_what_either_copy_forbids)
{
	struct mfs_err err = MFS_ERR_INIT;
	const struct mfs_anchor_model *m;
	struct mfs_sha256 bad = { { 0xbb } };
	struct mfs_anchor_repo *repo;
	struct mfs_anchor_model *w;
	struct mfs_anchor *a;
	struct kept old;
	struct device d;

	cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	cr_assert_eq(mfs_anchor_copy(mfs_trusted_anchor(d.t), &a, &err), MFS_OK);
	cr_assert_eq(mfs_anchor_add(a, "det", "det", &w, &err), MFS_OK);
	w->floor_epoch = 2;
	w->floor_release = 1;
	w->floor_manifest.b[0] = 1;
	w->min_release = 4;
	w->high_epoch = 1;
	w->high_release = 4;
	w->policy_sequence = 9;
	w->policy_sha256.b[0] = 9;
	w->revoked = calloc(1, sizeof(*w->revoked));
	w->revoked[0] = (struct mfs_revocation){ .version = "0.9.0", .reason = "leaks", .action = MFS_ACTION_WITHDRAW };
	w->n_revoked = 1;
	cr_assert_eq(mfs_anchor_repo_add(a, "default", &repo, &err), MFS_OK);
	repo->root.version = 3;
	repo->targets.version = 7;
	cr_assert_eq(mfs_anchor_mark_bad(w, &bad, MFS_HEALTH_CHECK_FAILED, &err), MFS_OK);
	cr_assert_eq(mfs_trusted_commit(d.t, a, &err), MFS_OK, "%s", err.msg);
	device_close(&d);
	old = keep("anchor.0");
	/* A newer copy that knows less (what another device of the fleet might have): */
	cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	cr_assert_eq(mfs_anchor_copy(mfs_trusted_anchor(d.t), &a, &err), MFS_OK);
	w = mfs_anchor_find(a, "det");
	mfs_anchor_mark_good(w, &bad);
	w->floor_epoch = 1;
	w->floor_release = 99;
	w->min_release = 0;
	w->high_epoch = w->high_release = 0;
	w->policy_sequence = 2;
	w->n_revoked = 0;
	repo = mfs_anchor_repo_find(a, "default");
	repo->root.version = 4;
	repo->targets.version = 1;
	cr_assert_eq(mfs_trusted_commit(d.t, a, &err), MFS_OK, "%s", err.msg);
	device_close(&d);
	replay("anchor.0", old);
	cr_assert_eq(unlinkat(state, "counter", 0), 0);
	cr_assert_eq(life_recovers(NULL), 0);
	cr_assert_eq(device_open(&d, 0, &err), MFS_OK, "%s", err.msg);
	m = mfs_anchor_find(mfs_trusted_anchor(d.t), "det");
	cr_assert_not_null(m);
	cr_assert_eq(m->floor_epoch, 2);
	cr_assert_eq(m->floor_release, 1);
	cr_assert_eq(m->min_release, 4);
	cr_assert_eq(m->n_bad, 1);
	cr_assert_eq(m->high_release, 4);
	cr_assert_eq(m->policy_sequence, 9);
	cr_assert_eq(m->policy_sha256.b[0], 9);
	cr_assert_eq(m->n_revoked, 1);
	cr_assert_eq(m->revoked[0].action, MFS_ACTION_WITHDRAW);
	repo = mfs_anchor_repo_find(mfs_trusted_anchor(d.t), "default");
	cr_assert_eq(repo->root.version, 4);
	cr_assert_eq(repo->targets.version, 7);
	device_close(&d);
	free(old.bytes);
}

Test(trusted, recover_with_nothing_readable_starts_above_the_counter)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_counter *c;
	uint64_t before, after;
	bool absent;

	live(5);
	cr_assert_eq(mfs_counter_open("file", state, &c, &err), MFS_OK);
	cr_assert_eq(c->read(c, &before, &absent, &err), MFS_OK);
	scratch_write(state, "anchor.0", "x", 1);
	scratch_write(state, "anchor.1", "x", 1);
	refused(MFS_MALFORMED, "unreadable");
	cr_assert_eq(life_recovers(NULL), 0);
	accepted(0);
	cr_assert_eq(c->read(c, &after, &absent, &err), MFS_OK);
	cr_assert(after > before, "%" PRIu64 " after %" PRIu64, after, before);
	mfs_counter_free(c);
}
