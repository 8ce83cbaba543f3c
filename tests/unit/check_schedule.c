/* SPDX-License-Identifier: Apache-2.0 */
/* Backoff, windows and conditions: pure functions of clock, chance and configuration. */
#include <criterion/criterion.h>
#include <string.h>

#include "mfs_config.h"
#include "schedule.h"

#define DAY INT64_C(86400)

Test(schedule, backoff_grows_is_random_and_capped)
{
	cr_assert_eq(mfs_backoff(1, DAY, 0, 0), 1);
	cr_assert_eq(mfs_backoff(1, DAY, 0, MFS_BACKOFF_BASE_S - 1), MFS_BACKOFF_BASE_S);
	cr_assert_eq(mfs_backoff(0, DAY, 0, UINT32_MAX) <= MFS_BACKOFF_BASE_S, 1);
	for (unsigned n = 1; n < 100; n++)
		for (uint32_t x = 0; x < 1000; x++) {
			int64_t pause = mfs_backoff(n, DAY, 0, x * 4294967u);

			cr_assert(pause >= 1 && pause <= DAY, "%u %u: %lld", n, x, (long long)pause);
		}
	cr_assert_eq(mfs_backoff(UINT32_MAX, DAY, 0, (uint32_t)DAY - 1), DAY);
	cr_assert_eq(mfs_backoff(1, DAY, 500, 0), 500, "Retry-After is the least");
	cr_assert_eq(mfs_backoff(1, DAY, 10 * DAY, 0), DAY, "and is capped");
	cr_assert_eq(mfs_backoff(5, 1, 0, 12345), 1);
}

Test(schedule, checks_are_spread)
{
	cr_assert_eq(mfs_next_check(900, 0), 810);
	for (uint32_t x = 0; x < 1000; x++) {
		int64_t next = mfs_next_check(900, x);

		cr_assert(next >= 810 && next <= 990);
	}
	cr_assert_eq(mfs_next_check(1, 7), 1);
}

Test(schedule, a_stored_time_is_never_far_ahead)
{
	cr_assert_eq(mfs_time_clamp(0, 100, 50), 0);
	cr_assert_eq(mfs_time_clamp(120, 100, 50), 120);
	cr_assert_eq(mfs_time_clamp(INT64_MAX, 100, 50), 150);
}

Test(schedule, a_window_may_pass_midnight)
{
	struct mfs_config c = { 0 };

	cr_assert(mfs_window_open(&c, 5));
	c.update.has_window = true;
	c.update.window_from = 60;
	c.update.window_to = 300;
	cr_assert_not(mfs_window_open(&c, 59));
	cr_assert(mfs_window_open(&c, 60));
	cr_assert(mfs_window_open(&c, 299));
	cr_assert_not(mfs_window_open(&c, 300));
	c.update.window_from = 1380;
	c.update.window_to = 60;
	cr_assert(mfs_window_open(&c, 1439));
	cr_assert(mfs_window_open(&c, 0));
	cr_assert_not(mfs_window_open(&c, 60));
	cr_assert_not(mfs_window_open(&c, 1379));
}

static enum mfs_code
met(const struct mfs_config *c, const struct mfs_cycle_facts *f, enum mfs_step step, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_conditions_check(c, f, step, &err);

	cr_assert((code == MFS_OK) == (word == NULL), "%s", err.msg);
	if (word != NULL)
		cr_assert_not_null(strstr(err.msg, word), "%s", err.msg);
	return code;
}

Test(schedule, conditions_are_named_and_what_is_not_known_is_not_met)
{
	static char *nets[] = { (char *)"eth0", (char *)"wl*", NULL };
	struct mfs_cycle_facts f = { .known = true, .budget_left = UINT64_MAX, .wire = { .on_ac = 1, .battery = -1,
		.metered = MFS_METERED_NO, .n_nets = 1, .nets = { "lo2" } } };
	struct mfs_config c = { 0 };

	cr_assert_eq(met(&c, &(struct mfs_cycle_facts){ .budget_left = UINT64_MAX }, MFS_STEP_DOWNLOAD, NULL), MFS_OK);
	c.update.conditions.power_ac = true;
	met(&c, &f, MFS_STEP_DOWNLOAD, NULL);
	f.wire.on_ac = 0;
	cr_assert_eq(met(&c, &f, MFS_STEP_ACTIVATE, "power"), MFS_CONDITION_UNMET);
	f.wire.on_ac = -1;
	met(&c, &f, MFS_STEP_DOWNLOAD, "not able to tell");
	f.known = false;
	met(&c, &f, MFS_STEP_DOWNLOAD, "cannot be asked");
	f.known = true;
	c.update.conditions.power_ac = false;
	c.update.conditions.battery_min = 40;
	met(&c, &f, MFS_STEP_DOWNLOAD, NULL); /* no battery */
	f.wire.battery = 39;
	met(&c, &f, MFS_STEP_DOWNLOAD, "battery_min: 40 % is wanted, the battery has 39 %");
	f.wire.battery = 40;
	met(&c, &f, MFS_STEP_DOWNLOAD, NULL);
	c.update.conditions.unmetered = true;
	f.wire.metered = MFS_METERED_YES;
	met(&c, &f, MFS_STEP_DOWNLOAD, "metered");
	met(&c, &f, MFS_STEP_ACTIVATE, NULL); /* what is here needs no network */
	f.wire.metered = MFS_METERED_UNKNOWN;
	met(&c, &f, MFS_STEP_DOWNLOAD, "metered");
	f.wire.metered = MFS_METERED_NO;
	c.update.conditions.interfaces = nets;
	met(&c, &f, MFS_STEP_DOWNLOAD, "interfaces");
	strcpy(f.wire.nets[0], "wlan0");
	met(&c, &f, MFS_STEP_DOWNLOAD, NULL);
	f.wire.n_nets = UINT32_MAX; /* a lie of fetch reads nothing beyond */
	strcpy(f.wire.nets[0], "x");
	met(&c, &f, MFS_STEP_DOWNLOAD, "interfaces");
}
