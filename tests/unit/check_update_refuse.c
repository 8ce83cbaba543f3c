/* SPDX-License-Identifier: Apache-2.0 */
/* The update cycle: what it refuses, what supersedes what, what holds it up. */
#include "update_help.h"

TestSuite(update_refuse, .init = setup, .fini = teardown);

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

Test(update_refuse, what_fails_its_health_check_is_condemned_and_not_tried_again)
{
	installed(1);
	publish(2, "two");
	f.health = MFS_HEALTH_CHECK_FAILED;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 1);
	cr_assert_eq(f.rejections, 1);
	cr_assert_eq(f.rejected, MFS_HEALTH_CHECK_FAILED);
	cr_assert_eq(f.changes, 0);
	cr_assert_eq(f.drops, 1);
	crash();
	f.health = MFS_OK;
	for (int k = 0; k < 3; k++) {
		cr_assert_eq(offer(k == 2), MFS_KNOWN_BAD);
		cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	}
	cr_assert_eq(f.downloads, 1);
	cr_assert_leq(f.rejections, 2, "on_reject does not run at every check: %u", f.rejections);
	active_is("1.1.0", 1);
	/* The next version is another one. */
	publish(3, "three");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.3.0", 1);
}

Test(update_refuse, marked_good_again_it_is_tried_again)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	installed(1);
	publish(2, "two");
	f.health = MFS_HEALTH_CHECK_FAILED;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	cr_assert_eq(mfs_engine_mark(d.engine, 0, "1.2.0", true, &moved, from, to, &err), MFS_OK, "%s", err.msg);
	f.health = MFS_OK;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

Test(update_refuse, a_check_without_a_verdict_blames_nobody)
{
	installed(1);
	publish(2, "two");
	f.health = MFS_CONDITION_UNMET;
	cr_assert_eq(offer(false), MFS_OK);
	while (state().step != MFS_STEP_HEALTH)
		cr_assert_eq(step(), 0);
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().step, MFS_STEP_HEALTH);
	cr_assert_eq(f.rejections, 0);
	f.now += 3600;
	f.health = MFS_OK;
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

Test(update_refuse, a_signed_table_that_is_wrong_condemns_a_received_byte_does_not)
{
	installed(1);
	publish(2, "two");
	f.download = MFS_HASH_MISMATCH;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
	cr_assert_eq(f.rejections, 0);
	f.now += 86400;
	f.download = MFS_MALFORMED;
	cr_assert_eq(step(), MFS_CYCLE_IDLE);
	cr_assert_eq(f.rejections, 1);
	f.download = MFS_OK;
	cr_assert_eq(offer(false), MFS_KNOWN_BAD);
	active_is("1.1.0", 1);
}

Test(update_refuse, a_release_below_a_minimum_is_refused_once)
{
	installed(1);
	d.config->models[0].minimum.min_release = 3;
	publish(2, "two");
	for (int k = 0; k < 3; k++)
		cr_assert_eq(offer(false), MFS_POLICY_REJECTED);
	cr_assert_eq(f.rejections, 1);
	cr_assert_eq(f.downloads, 0);
	crash();
	cr_assert_eq(offer(false), MFS_POLICY_REJECTED);
	cr_assert_eq(f.rejections, 1, "nor after a restart");
}

/* A lowered fraction offers what is older: no attack, and no way back. */
Test(update_refuse, an_older_release_is_left_alone)
{
	installed(3);
	publish(2, "two");
	for (int k = 0; k < 2; k++)
		cr_assert_eq(offer(k == 1), MFS_NOT_SELECTED);
	cr_assert_eq(f.rejections, 0);
	cr_assert_eq(f.downloads, 0);
	active_is("1.3.0", 3);
}

Test(update_refuse, a_bad_signature_of_what_metadata_names_condemns)
{
	installed(1);
	publish(2, "two");
	f.target_code = MFS_SIGNATURE_INVALID;
	cr_assert_eq(offer(false), MFS_SIGNATURE_INVALID);
	cr_assert_eq(f.rejections, 1);
	f.target_code = MFS_OK;
	cr_assert_eq(offer(false), MFS_KNOWN_BAD);
}

Test(update_refuse, network_trouble_of_a_check_leaves_the_attempt_alone)
{
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	f.target_code = MFS_NET_TIMEOUT;
	cr_assert_eq(offer(false), MFS_NET_TIMEOUT);
	f.target_code = MFS_METADATA_EXPIRED;
	cr_assert_eq(offer(false), MFS_METADATA_EXPIRED);
	cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
	/* It is brought, and not activated while metadata is stale. */
	f.fresh = MFS_METADATA_EXPIRED;
	cr_assert_gt(run_steps(), 0);
	cr_assert_eq(state().step, MFS_STEP_ACTIVATE);
	cr_assert_eq(state().why, MFS_METADATA_EXPIRED);
	active_is("1.1.0", 1);
	f.fresh = MFS_OK;
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

/* ---- superseded -------------------------------------------------------------------------------------------------------- */

Test(update_refuse, newer_metadata_supersedes_a_stuck_attempt)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_news news;

	installed(1);
	publish(2, "two");
	f.download = MFS_NET_TIMEOUT;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_gt(step(), 0);
	publish(3, "three");
	f.download = MFS_OK;
	cr_assert_eq(mfs_cycle_offer(&r, 0, NULL, false, NULL, &news, &err), MFS_OK, "%s", err.msg);
	cr_assert(news.superseded);
	cr_assert_str_eq(state().v.version, "1.3.0");
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.3.0", 1);
}

/* The old step ends after its successor was written: it may not write over it. */
Test(update_refuse, a_superseded_step_writes_nothing)
{
	_Atomic int cancel = 0;
	struct mfs_cycle_attempt a = { .step = MFS_STEP_DOWNLOAD };
	struct mfs_engine_expect expect = { .step = MFS_STEP_DOWNLOAD };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_update up;

	installed(1);
	publish(2, "two");
	f.download = MFS_CONDITION_UNMET;
	f.set_cancel = &cancel;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(mfs_cycle_step(&r, 0, NULL, &cancel), 0);
	cr_assert_eq(state().starts, 0, "an end from outside counts for nothing");
	cr_assert_eq(state().failures, 0);
	up = state();
	a.v = up.v;
	expect.manifest = up.v.manifest;
	expect.manifest.b[0] ^= 1;
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, &expect, &err), MFS_CONDITION_UNMET);
	expect = (struct mfs_engine_expect){ .manifest = up.v.manifest, .step = MFS_STEP_VERIFY };
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, &expect, &err), MFS_CONDITION_UNMET);
	cr_assert_str_eq(state().v.version, "1.2.0");
}

static void
minimum_raised(void)
{
	d.config->models[0].minimum.min_release = 3;
	cr_assert_eq(offer(false), MFS_POLICY_REJECTED);
}

static void
minimum_raised_and_gone(void)
{
	d.config->models[0].minimum.min_release = 3;
	f.bundle = NULL;
	cr_assert_eq(offer(false), MFS_NOT_SELECTED);
	f.bundle = "two"; /* for the download, which ends well */
}

/* The refresher ends an attempt while the worker is in one of its steps: the end of the step does not bring it back. */
Test(update_refuse, what_is_refused_under_way_stays_refused)
{
	void (*const ways[])(void) = { minimum_raised, minimum_raised_and_gone };

	for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
		if (k > 0) {
			teardown();
			setup();
		}
		installed(1);
		publish(2, "two");
		f.meanwhile = ways[k];
		cr_assert_eq(offer(false), MFS_OK);
		(void)step();
		cr_assert_eq(state().step, MFS_STEP_IDLE, "%s", mfs_step_name(state().step));
		cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
		cr_assert_eq(f.rejections, 1);
		cr_assert_eq(f.rejected, MFS_POLICY_REJECTED);
		cr_assert_eq(state().refusal.why, MFS_POLICY_REJECTED);
		cr_assert_eq(f.healths, 0);
		active_is("1.1.0", 1);
	}
}

Test(update_refuse, what_is_not_offered_any_more_stops)
{
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(step(), 0);
	f.bundle = NULL;
	cr_assert_eq(offer(false), MFS_NOT_SELECTED);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	cr_assert_eq(f.drops, 1);
	active_is("1.1.0", 1);
}

/* ---- conditions ------------------------------------------------------------------------------------------------------------ */

Test(update_refuse, conditions_gate_the_cycle_and_are_named)
{
	installed(1);
	publish(2, "two");
	d.config->update.conditions.hold_file = strdup("/run/hold");
	f.facts.hold = true;
	cr_assert_eq(offer(false), MFS_OK, "a check asks no condition");
	cr_assert_gt(step(), 0);
	cr_assert_eq(f.downloads, 0);
	cr_assert_eq(state().why, MFS_HELD);
	f.facts.hold = false;
	d.config->update.has_window = true;
	d.config->update.window_from = 60;
	d.config->update.window_to = 300;
	f.facts.minute = 720;
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().why, MFS_CONDITION_UNMET);
	cr_assert_not_null(strstr(state().detail, "window: 01:00-05:00"), "%s", state().detail);
	/* Nothing is written for the time of day; another condition is another reason, if of the same outcome. */
	f.facts.minute = 721;
	cr_assert_gt(step(), 0);
	cr_assert_not_null(strstr(state().detail, "it is 12:00 here"), "%s", state().detail);
	f.facts.minute = 60;
	d.config->update.conditions.power_ac = true;
	f.facts.known = true;
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().why, MFS_CONDITION_UNMET);
	cr_assert_not_null(strstr(state().detail, "power: "), "%s", state().detail);
	d.config->update.conditions.power_ac = false;
	f.facts.budget_left = 0;
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().why, MFS_RATE_LIMITED);
	/* However long it waits, its time has not passed. */
	f.now += INT64_C(30) * 86400;
	cr_assert_gt(step(), 0);
	f.facts.budget_left = 1;
	f.now += INT64_C(30) * 86400;
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

Test(update_refuse, a_pin_and_a_hold_are_no_refusals)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved, was;

	installed(1);
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.1.0", &moved, from, to, &err), MFS_OK);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_PINNED);
	crash();
	cr_assert_eq(offer(true), MFS_PINNED);
	cr_assert_eq(f.rejections, 0);
	cr_assert_eq(state().why, MFS_PINNED);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	cr_assert_eq(f.downloads, 0);
	cr_assert_eq(mfs_engine_unpin(d.engine, 0, &was, &err), MFS_OK);
	cr_assert(was);
	/* A pin to what is to come lets just that through. */
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.2.0", &moved, from, to, &err), MFS_OK);
	cr_assert_not(moved);
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
	publish(3, "three");
	cr_assert_eq(offer(false), MFS_PINNED);
	/* Back to a version that is kept, at once. */
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.1.0", &moved, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert(moved);
	cr_assert_str_eq(to, "1.1.0");
	active_is("1.1.0", 1);
}

/* A pin that comes while it is brought stops it where it is. */
Test(update_refuse, a_pin_stops_what_is_under_way)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved, was;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	while (state().step != MFS_STEP_ACTIVATE)
		cr_assert_eq(step(), 0);
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.1.0", &moved, from, to, &err), MFS_OK);
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().why, MFS_PINNED);
	cr_assert_eq(offer(false), MFS_PINNED);
	cr_assert_eq(state().step, MFS_STEP_ACTIVATE);
	active_is("1.1.0", 1);
	cr_assert_eq(mfs_engine_unpin(d.engine, 0, &was, &err), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}
