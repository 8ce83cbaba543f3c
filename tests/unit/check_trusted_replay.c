/* SPDX-License-Identifier: Apache-2.0 */
/* Trusted state: what somebody put back, counters that fail, and recover. */
#include "trusted_help.h"

TestSuite(trusted_replay, .init = setup, .fini = teardown);

/* ---- replay ------------------------------------------------------------------------------------------ */

Test(trusted_replay, replayed_copies_of_the_anchor_are_refused)
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

Test(trusted_replay, one_replayed_copy_is_passed_over)
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

Test(trusted_replay, a_replayed_counter_is_refused)
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
Test(trusted_replay, a_replayed_counter_with_one_copy_is_refused)
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

Test(trusted_replay, one_commit_back_within_a_life_is_refused_too)
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

Test(trusted_replay, a_failed_increment_is_survived_before_and_after_a_restart)
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

Test(trusted_replay, a_state_cut_off_before_the_increment_cannot_come_back_later)
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

Test(trusted_replay, a_counter_changed_by_somebody_else_stops_writing)
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

/* ---- recover ------------------------------------------------------------------------------------------- */

Test(trusted_replay, recover_keeps_the_highest_floor_of_replayed_copies)
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

Test(trusted_replay, recover_joins_what_either_copy_forbids)
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

Test(trusted_replay, recover_with_nothing_readable_starts_above_the_counter)
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
