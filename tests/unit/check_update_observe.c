/* SPDX-License-Identifier: Apache-2.0 */
/* The update cycle: probation, and what is brought by hand. */
#include "update_help.h"

TestSuite(update_observe, .init = setup, .fini = teardown);

/* ---- probation --------------------------------------------------------------------------------------------------------------- */

static void
with_command(void)
{
	static char *command[] = { (char *)"/bin/true", NULL };

	d.config->models[0].health.command = command;
	d.config->models[0].health.interval_ms = 60000;
}

static void
without_command(void)
{
	d.config->models[0].health.command = NULL; /* not the configuration's to free */
}

static void
updated_to_two(void)
{
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

Test(update_observe, a_verdict_in_probation_goes_back_at_once_and_is_remembered)
{
	with_command();
	updated_to_two();
	cr_assert_gt(mfs_cycle_observe(&r, 0, 0, NULL), 0);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 60, NULL), 0);
	f.probation = MFS_HEALTH_CHECK_FAILED;
	cr_assert_eq(mfs_cycle_observe(&r, 0, 60, NULL), MFS_CYCLE_IDLE);
	active_is("1.1.0", 1);
	cr_assert_eq(f.reason, MFS_REASON_ROLLBACK);
	cr_assert_eq(f.rejections, 1);
	crash();
	active_is("1.1.0", 1);
	cr_assert_eq(offer(false), MFS_KNOWN_BAD);
	cr_assert_eq(f.downloads, 1);
	without_command();
}

Test(update_observe, trouble_in_probation_is_no_verdict)
{
	int64_t pause = 0;
	unsigned looks = 0;

	with_command();
	updated_to_two();
	f.probation = MFS_IO;
	for (int64_t t = 0; pause != MFS_CYCLE_IDLE; t += pause, looks++) {
		cr_assert_lt(t, 1300, "it ends");
		pause = mfs_cycle_observe(&r, 0, pause, NULL);
		if (pause != MFS_CYCLE_IDLE)
			active_is("1.2.0", 1);
		crash();
	}
	cr_assert_gt(looks, 10u, "watched for longer");
	active_is("1.2.0", 2);
	cr_assert_eq(f.rejections, 0);
	without_command();
}

Test(update_observe, probation_counts_time_that_was_watched)
{
	updated_to_two();
	cr_assert_gt(mfs_cycle_observe(&r, 0, 300, NULL), 0);
	f.now += 86400 * 365; /* the clock says nothing */
	crash();
	active_is("1.2.0", 1);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 0, NULL), 0);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 299, NULL), 0);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 1, NULL), MFS_CYCLE_IDLE);
	active_is("1.2.0", 2);
}

Test(update_observe, marked_bad_it_goes_back_and_marked_good_it_is_committed)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	updated_to_two();
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", true, &moved, from, to, &err), MFS_OK, "%s", err.msg);
	active_is("1.2.0", 2);
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", true, &moved, from, to, &err), MFS_NOT_SELECTED);
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "9.9.9", false, &moved, from, to, &err), MFS_NOT_SELECTED);
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", false, &moved, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert(moved);
	cr_assert_str_eq(from, "1.2.0");
	cr_assert_str_eq(to, "1.1.0");
	active_is("1.1.0", 2); /* the floor is never lower */
	crash();
	active_is("1.1.0", 2);
	cr_assert_eq(offer(false), MFS_KNOWN_BAD);
	/* With nothing left to go back to nothing is shown. */
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", false, &moved, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(to, "");
	active_is(NULL, 2);
	crash();
	active_is(NULL, 2);
}

static void
marks_good(void)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	f.looking = NULL;
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", true, &moved, from, to, &err), MFS_OK, "%s", err.msg);
}

Test(update_observe, marked_good_during_a_check_it_is_good_whatever_the_check_says)
{
	with_command();
	updated_to_two();
	f.probation = MFS_HEALTH_CHECK_FAILED;
	f.looking = marks_good;
	cr_assert_gt(mfs_cycle_observe(&r, 0, 0, NULL), 0);
	active_is("1.2.0", 2);
	cr_assert_eq(f.rejections, 0);
	cr_assert_eq(f.changes, 1, "the swap, and no other");
	cr_assert_eq(mfs_cycle_observe(&r, 0, 60, NULL), MFS_CYCLE_IDLE, "and nobody looks any more");
	cr_assert_eq(f.healths, 2);
	crash();
	active_is("1.2.0", 2);
	without_command();
}

Test(update_observe, a_fix_does_not_wait_for_the_probation_of_what_it_fixes)
{
	updated_to_two();
	publish(3, "three");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.3.0", 1);
	cr_assert_str_eq(state().observation.v.version, "1.3.0");
	cr_assert_eq(mfs_cycle_observe(&r, 0, 600, NULL), MFS_CYCLE_IDLE);
	active_is("1.3.0", 3);
}

/* ---- by hand ---------------------------------------------------------------------------------------------------------------------- */

static enum mfs_code
by_hand(int64_t release, struct mfs_err *err)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_sha256 id;
	bool same;

	bundle(release, "by-hand", &id);
	cr_assert_eq(device_copy(&d, "by-hand", &id, err), MFS_OK, "%s", err->msg);
	device_unbundle(&d, "by-hand");
	return mfs_cycle_install(&r, 0, &id, NULL, &same, from, to, err);
}

Test(update_observe, an_installation_is_checked_and_observed_like_an_update)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(by_hand(1, &err), MFS_OK, "%s", err.msg);
	active_is("1.1.0", 1); /* no health command: the operator decided */
	cr_assert_eq(f.healths, 1, "the built-in checks are made");
	with_command();
	cr_assert_eq(by_hand(2, &err), MFS_OK, "%s", err.msg);
	active_is("1.2.0", 1);
	cr_assert(state().observation.by_hand);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 600, NULL), MFS_CYCLE_IDLE);
	active_is("1.2.0", 2);
	f.health = MFS_HEALTH_CHECK_FAILED;
	cr_assert_eq(by_hand(3, &err), MFS_HEALTH_CHECK_FAILED);
	active_is("1.2.0", 2);
	f.health = MFS_OK;
	cr_assert_eq(by_hand(3, &err), MFS_KNOWN_BAD);
	f.health = MFS_KEY_UNAVAILABLE;
	cr_assert_eq(by_hand(4, &err), MFS_KEY_UNAVAILABLE);
	f.health = MFS_OK;
	cr_assert_eq(by_hand(4, &err), MFS_OK, "%s", err.msg);
	without_command();
}
