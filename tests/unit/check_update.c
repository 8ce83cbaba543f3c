/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The update cycle with the real engine, store and state, and everything beyond them faked: the clock, the
 * network, health checks, conditions. "A crash" closes the engine and opens it from what is on disk.
 */
#include "update_help.h"

TestSuite(update, .init = setup, .fini = teardown);

/* ---- the way through ---------------------------------------------------------------------------------------- */

Test(update, from_offer_to_commit)
{
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	for (enum mfs_step s = MFS_STEP_DOWNLOAD; s <= MFS_STEP_ACTIVATE; s++) {
		struct mfs_engine_update up = state();

		cr_assert_eq(up.step, s, "%s, not %s", mfs_step_name(up.step), mfs_step_name(s));
		cr_assert_gt(up.deadline, f.now);
		active_is("1.1.0", 1);
		cr_assert_eq(step(), s == MFS_STEP_ACTIVATE ? MFS_CYCLE_IDLE : 0);
	}
	/* Active, and the floor stays until the probation is over. */
	active_is("1.2.0", 1);
	cr_assert_eq(f.changes, 1);
	cr_assert_eq(f.reason, MFS_REASON_SWAP);
	cr_assert_eq(state().observation.total, 600);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 0, NULL), 0);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 599, NULL), 0);
	active_is("1.2.0", 1);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 1, NULL), MFS_CYCLE_IDLE);
	active_is("1.2.0", 2);
	cr_assert_eq(f.collections, 1);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 1, NULL), MFS_CYCLE_IDLE);
	/* And nothing more is offered. */
	cr_assert_eq(offer(false), MFS_NOT_SELECTED);
	cr_assert_eq(f.downloads, 1);
}

/* What is staged and waits is not collected: another model's commit, or `gc`, would have it fetched again and again. */
Test(update, what_waits_is_not_collected)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	for (enum mfs_step s = MFS_STEP_DOWNLOAD; s < MFS_STEP_ACTIVATE; s++) {
		(void)step();
		(void)usleep(20000); /* what is as young as the collection itself stays */
		cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
		cr_assert_eq(removed, 0, "after %s", mfs_step_name(s));
	}
	f.facts.hold = true;
	cr_assert_gt(step(), 0);
	crash();
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 0);
	f.facts.hold = false;
	cr_assert_eq(step(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
	cr_assert_eq(f.downloads, 1);
}

/* Of an attempt that is over, everything goes. */
Test(update, what_was_abandoned_is_collected)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	(void)step();
	f.bundle = NULL;
	cr_assert_eq(offer(false), MFS_NOT_SELECTED);
	cr_assert_eq(state().step, MFS_STEP_IDLE, "%s", mfs_step_name(state().step));
	(void)usleep(20000); /* what is as young as the collection itself stays */
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_gt(removed, 0);
}

Test(update, after_a_crash_at_each_step_it_goes_on)
{
	for (enum mfs_step at = MFS_STEP_DOWNLOAD; at <= MFS_STEP_OBSERVE; at++) {
		if (at != MFS_STEP_DOWNLOAD) {
			teardown();
			setup();
		}
		installed(1);
		publish(2, "two");
		cr_assert_eq(offer(false), MFS_OK);
		for (enum mfs_step s = MFS_STEP_DOWNLOAD; s < at; s++)
			(void)step();
		crash();
		if (at < MFS_STEP_OBSERVE) {
			cr_assert_eq(state().step, at, "%s", mfs_step_name(at));
			active_is("1.1.0", 1);
			/* Without its repository. */
			f.target_code = MFS_NET_TIMEOUT;
			cr_assert_eq(run_steps(), MFS_CYCLE_IDLE, "%s: %s", mfs_step_name(at), state().detail);
		}
		active_is("1.2.0", 1);
		crash();
		active_is("1.2.0", 1);
		cr_assert(observed());
		cr_assert_eq(mfs_cycle_observe(&r, 0, 600, NULL), MFS_CYCLE_IDLE);
		crash();
		active_is("1.2.0", 2);
		cr_assert(!observed());
	}
}

/* serve died between the anchor and the cycle document: the version is active already. */
Test(update, what_is_active_already_is_observed)
{
	struct mfs_err err = MFS_ERR_INIT;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_cycle_attempt a;
	bool same;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	while (state().step != MFS_STEP_ACTIVATE)
		cr_assert_eq(step(), 0);
	cr_assert_eq(mfs_engine_activate_observed(d.engine, 0, &f.offered, false, 600, &same, from, to, &err), MFS_OK);
	/* The observation as it was before the swap: none. */
	cr_assert_eq(mfs_engine_observation(d.engine, 0, &(struct mfs_cycle_observation){ 0 }, &err), MFS_OK);
	crash();
	cr_assert_eq(state().step, MFS_STEP_ACTIVATE);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
	cr_assert_eq(state().observation.total, 600, "it starts anew");
	cr_assert_eq(state().observation.seconds, 0);
	a = (struct mfs_cycle_attempt){ 0 };
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, NULL, &err), MFS_OK);
}

Test(update, without_probation_it_is_committed_at_once)
{
	teardown();
	setup_with("repositories: {default: {url: \"file:///nowhere\", root: root.json}}\n");
	d.config->update.probation_ms = 0;
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 2);
	cr_assert_eq(f.collections, 1);
}

Test(update, a_first_version_comes_the_same_way)
{
	publish(1, "one");
	cr_assert_eq(offer(false), MFS_OK);
	active_is(NULL, 0);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 0);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 600, NULL), MFS_CYCLE_IDLE);
	active_is("1.1.0", 1);
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

Test(update, a_failed_download_backs_off_and_the_pause_survives_a_restart)
{
	int64_t pause, most = 0;

	installed(1);
	publish(2, "two");
	f.download = MFS_NET_TIMEOUT;
	f.random = UINT32_MAX;
	cr_assert_eq(offer(false), MFS_OK);
	for (unsigned k = 1; k <= 20; k++) {
		pause = step();
		cr_assert_gt(pause, 0);
		cr_assert_eq(f.downloads, k);
		cr_assert_eq(state().failures, k);
		cr_assert_leq(pause, d.config->update.max_interval_ms / 1000);
		most = pause > most ? pause : most;
		crash();
		cr_assert_eq(step(), pause, "the pause is not forgotten");
		cr_assert_eq(f.downloads, k);
		f.now += pause;
		active_is("1.1.0", 1);
		if (state().deadline <= f.now)
			break;
	}
	cr_assert_gt(most, 3600, "it grows: %lld", (long long)most);
	/* A clock that was ahead is no pause for ever. */
	f.now = START - 86400 * 365;
	cr_assert_leq(step(), d.config->update.max_interval_ms / 1000);
}

Test(update, retry_after_is_kept_and_capped)
{
	publish(1, "one");
	f.download = MFS_NET_HTTP;
	f.retry_after = 1234;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(step(), 1234);
	f.now += 1234;
	f.retry_after = INT64_C(1) << 40;
	cr_assert_eq(step(), d.config->update.max_interval_ms / 1000);
}

Test(update, every_step_is_given_up_in_the_end)
{
	enum mfs_code *const of[] = { &f.download, &f.health };
	static const enum mfs_step steps[] = { MFS_STEP_DOWNLOAD, MFS_STEP_HEALTH };

	for (size_t k = 0; k < 2; k++) {
		int64_t end, tries = 0;

		if (k > 0) {
			teardown();
			setup();
		}
		installed(1);
		publish(2, "two");
		*of[k] = k == 0 ? MFS_NET_TIMEOUT : MFS_CONDITION_UNMET;
		cr_assert_eq(offer(false), MFS_OK);
		while (state().step != steps[k])
			cr_assert_eq(step(), 0);
		end = state().deadline;
		for (int64_t pause = 0; pause != MFS_CYCLE_IDLE; f.now += pause > 0 ? pause : 0, tries++) {
			cr_assert_lt(tries, 2000000);
			f.random += 7777777;
			pause = step();
			cr_assert_leq(f.now, end + d.config->update.max_interval_ms / 1000);
		}
		cr_assert_eq(state().step, MFS_STEP_IDLE);
		cr_assert_neq(state().why, MFS_OK);
		active_is("1.1.0", 1);
		/* Not at once again by itself; by hand it is. */
		cr_assert_neq(offer(false), MFS_OK);
		cr_assert_eq(offer(true), MFS_OK);
		*of[k] = MFS_OK;
		cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
		active_is("1.2.0", 1);
	}
}

Test(update, a_step_in_which_serve_dies_is_given_up)
{
	struct mfs_cycle_attempt a = { .step = MFS_STEP_HEALTH };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_update up;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	while (state().step != MFS_STEP_HEALTH)
		cr_assert_eq(step(), 0);
	/* As five serves left it: started, never ended. */
	up = state();
	a.v = up.v;
	a.deadline = up.deadline;
	a.starts = MFS_STARTS_MAX;
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, NULL, &err), MFS_OK);
	crash();
	cr_assert_eq(step(), MFS_CYCLE_IDLE);
	cr_assert_eq(f.healths, 0);
	cr_assert_eq(state().why, MFS_INTERNAL);
	active_is("1.1.0", 1);
}

Test(update, a_full_disk_waits_for_space_not_for_time)
{
	publish(1, "one");
	f.download = MFS_INSUFFICIENT_STORAGE;
	f.free_bytes = 1000;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_gt(step(), 0);
	cr_assert_eq(f.downloads, 1);
	for (int k = 0; k < 100; k++) {
		f.now += 3600;
		cr_assert_gt(step(), 0);
	}
	cr_assert_eq(f.downloads, 1, "not tried again");
	cr_assert_eq(state().why, MFS_INSUFFICIENT_STORAGE);
	f.free_bytes = 1001;
	f.download = MFS_OK;
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 0);
}

Test(update, a_damaged_blob_is_fetched_again)
{
	char path[300], full[600];
	FILE *file;

	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(step(), 0);
	cr_assert_eq(state().step, MFS_STEP_VERIFY);
	for (unsigned k = 0; k < device_blobs(&d); k++) {
		device_blob_path(&d, k, path, sizeof(path));
		(void)snprintf(full, sizeof(full), "%s/store/%s", d.root, path);
		cr_assert_not_null(file = fopen(full, "r+"));
		cr_assert_eq(fputc('x' ^ fgetc(file), file) != EOF, 1);
		(void)fclose(file);
	}
	cr_assert_gt(step(), 0);
	cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
	cr_assert_eq(f.rejections, 0, "it is the disk's fault");
	active_is("1.1.0", 1);
}

/* A disk that never keeps what it is given costs a download each time: less and less often. */
Test(update, a_version_that_is_damaged_again_and_again_is_fetched_ever_more_seldom)
{
	int64_t pause = 0;

	installed(1);
	publish(2, "two");
	f.health = MFS_HASH_MISMATCH;
	cr_assert_eq(offer(false), MFS_OK);
	for (unsigned k = 1; k <= 6; k++) {
		int64_t now;

		f.random = ((uint32_t)MFS_BACKOFF_BASE_S << (k - 1)) - 1; /* the longest pause that may be */
		now = run_steps();
		cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
		cr_assert_eq(state().failures, k, "%u failures, not %u", state().failures, k);
		cr_assert_gt(now, pause);
		cr_assert_eq(f.downloads, k);
		pause = now;
		f.now += now;
		crash();
	}
	cr_assert_eq(f.rejections, 0);
	f.health = MFS_OK;
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

/* ---- the byte budget ----------------------------------------------------------------------------------------------------------------- */

/* ---- what this host lost of what is active ---------------------------------------------------------------------- */

static void
manifests_lose(const struct mfs_sha256 *id)
{
	cr_assert_eq(mfs_signed_remove(d.state_fd, id, NULL), MFS_OK);
	cr_assert_eq(mfs_signed_remove(d.store_fd, id, NULL), MFS_OK);
}

Test(update, what_was_signed_and_is_lost_in_both_places_is_had_again)
{
	struct mfs_cycle_parts mended = parts;

	publish(1, "one");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	cr_assert_eq(mfs_cycle_observe(&r, 0, 600, NULL), MFS_CYCLE_IDLE);
	active_is("1.1.0", 1);
	manifests_lose(&f.offered);
	crash();
	active_is(NULL, 1);
	mended.mended = true; /* nobody else can know what belongs to it */
	r.parts = &mended;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(offer(false), MFS_OK, "and goes on");
	f.health = MFS_HEALTH_CHECK_FAILED; /* it is not asked: nothing is wrong with the version */
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 1);
	cr_assert_eq(f.healths, 1);
	cr_assert_not(observed(), "it was committed");
	cr_assert_eq(offer(false), MFS_NOT_SELECTED);
	crash();
	active_is("1.1.0", 1);
}

Test(update, what_is_lost_during_its_probation_is_watched_on)
{
	publish(1, "one");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	cr_assert_gt(mfs_cycle_observe(&r, 0, 100, NULL), 0);
	manifests_lose(&f.offered);
	crash();
	active_is(NULL, 0);
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 0);
	cr_assert_eq(state().observation.seconds, 100);
}

Test(update, lost_blobs_of_the_active_version_are_fetched_by_who_has_no_scrub)
{
	struct mfs_cycle_parts mended = parts;
	char path[300];

	publish(1, "one");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	device_blob_path(&d, 0, path, sizeof(path));
	cr_assert_eq(unlinkat(d.store_fd, path, 0), 0, "%s", path);
	crash();
	active_is(NULL, 0);
	mended.mended = true;
	r.parts = &mended;
	cr_assert_eq(offer(false), MFS_NOT_SELECTED, "a mount's scrub is at it");
	r.parts = &parts;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.1.0", 0);
	cr_assert_eq(f.downloads, 2);
}

Test(update, the_byte_budget_survives_restarts_and_renews_with_the_day)
{
	uint64_t day = 20000, taken = 0, got;

	d.config->update.daily_bytes = UINT64_C(1) << 30;
	for (int k = 0; k < 10; k++) {
		got = mfs_engine_budget_take(d.engine, (int64_t)day, UINT64_C(200) << 20);
		taken += got;
		if (k % 2 == 1)
			crash();
	}
	cr_assert_leq(taken, UINT64_C(1) << 30);
	cr_assert_gt(taken, (UINT64_C(1) << 30) - (UINT64_C(512) << 20));
	cr_assert_eq(mfs_engine_budget_left(d.engine, (int64_t)day), 0);
	cr_assert_eq(mfs_engine_budget_take(d.engine, (int64_t)day - 1, 1), 0, "a clock set back gives nothing");
	got = mfs_engine_budget_take(d.engine, (int64_t)day + 1, 100);
	cr_assert_eq(got, 100);
	mfs_engine_budget_give(d.engine, 60);
	cr_assert_eq(mfs_engine_budget_left(d.engine, (int64_t)day + 1), (UINT64_C(1) << 30) - 40);
	/* A clock that was years ahead takes no budget away but that of the day on which it is right again. */
	cr_assert_eq(mfs_engine_budget_take(d.engine, (int64_t)day + 3000, UINT64_C(1) << 30), UINT64_C(1) << 30);
	crash();
	cr_assert_eq(mfs_engine_budget_take(d.engine, (int64_t)day + 1, 1), 0, "going to and fro gives nothing");
	crash();
	cr_assert_eq(mfs_engine_budget_take(d.engine, (int64_t)day + 2, 100), 100);
}
