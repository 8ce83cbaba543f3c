/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The update cycle with the real engine, store and state, and everything beyond them faked: the clock, the
 * network, health checks, conditions. "A crash" closes the engine and opens it from what is on disk.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "update.h"

static struct device d;

/* ---- the parts -------------------------------------------------------------------------------------------- */

static struct fake {
	int64_t now;
	uint32_t random;
	/* target */
	enum mfs_code target_code;
	bool none, rollback;
	const char *bundle;         /* name below the device's folder; NULL: nothing is offered */
	struct mfs_sha256 offered;
	char version[MFS_VERSION_MAX + 1];
	int64_t release;
	/* what the others answer, and how often they were asked */
	enum mfs_code fresh, download, health, probation;
	int64_t retry_after;
	unsigned downloads, drops, healths, changes, rejections, collections, targets, refreshes;
	enum mfs_code rejected;
	enum mfs_job_reason reason;
	struct mfs_cycle_facts facts;
	uint64_t free_bytes;
	_Atomic int *set_cancel; /* set during the download: superseded under way */
	void (*meanwhile)(void);  /* called during the download */
	enum mfs_code refresh;
	int64_t boot_ms;
} f;

static struct mfs_signed
signed_of(const char *bundle)
{
	static const char *const names[] = { "manifest.json", "signature.sig" };
	struct mfs_signed s = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", d.root, bundle, names[0]);
	cr_assert_eq(mfs_file_read(AT_FDCWD, path, 1u << 20, &s.manifest, &s.manifest_len, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", d.root, bundle, names[1]);
	cr_assert_eq(mfs_file_read(AT_FDCWD, path, 1u << 20, &s.sig, &s.sig_len, &err), MFS_OK, "%s", err.msg);
	return s;
}

static int64_t fake_now(void *user) { (void)user; return f.now; }
static uint32_t fake_random(void *user) { (void)user; return f.random; }

static enum mfs_code
fake_target(void *user, size_t i, struct mfs_remote *via, const _Atomic int *cancel, struct mfs_cycle_offer *out,
	struct mfs_err *err)
{
	(void)user, (void)via, (void)cancel;
	f.targets++;
	if (i != 0 || (f.target_code == MFS_OK && !f.none && f.bundle == NULL))
		return mfs_fail(err, MFS_NOT_SELECTED, "no rollout includes this device");
	out->v.manifest = f.offered;
	memcpy(out->v.version, f.version, sizeof(f.version));
	(void)snprintf(out->v.variant, sizeof(out->v.variant), "default");
	out->v.release = f.release;
	out->v.key_epoch = 1;
	out->rollback = f.rollback;
	out->none = f.none;
	if (f.target_code != MFS_OK)
		return mfs_fail(err, f.target_code, "the fake says %s", mfs_code_name(f.target_code));
	if (f.none)
		return MFS_OK;
	out->bytes = signed_of(f.bundle);
	return mfs_manifest_parse(MFS_SPAN(out->bytes.manifest, out->bytes.manifest_len), &out->m, err);
}

static enum mfs_code
fake_fresh(void *user, size_t i, struct mfs_err *err)
{
	(void)user, (void)i;
	return f.fresh == MFS_OK ? MFS_OK : mfs_fail(err, f.fresh, "metadata is not fresh");
}

static enum mfs_code
fake_download(void *user, size_t i, struct mfs_version *v, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	struct mfs_sha256 id;

	(void)user, (void)i, (void)via, (void)cancel;
	f.downloads++;
	if (f.set_cancel != NULL)
		atomic_store(f.set_cancel, 1);
	if (f.meanwhile != NULL)
		f.meanwhile();
	*retry_after_s = f.retry_after;
	if (f.download != MFS_OK)
		return mfs_fail(err, f.download, "the fake download says %s", mfs_code_name(f.download));
	cr_assert(mfs_sha256_equal(&v->m->id, &f.offered));
	return device_copy(&d, f.bundle, &id, err);
}

static void fake_drop(void *user, size_t i) { (void)user, (void)i; f.drops++; }

static enum mfs_code
fake_health(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel, struct mfs_err *err)
{
	enum mfs_code code = probation ? f.probation : f.health;

	(void)user, (void)i, (void)v, (void)cancel;
	f.healths++;
	return code == MFS_OK ? MFS_OK : mfs_fail(err, code, "the fake check says %s", mfs_code_name(code));
}

static void fake_facts(void *user, struct mfs_cycle_facts *out) { (void)user; *out = f.facts; }
static uint64_t fake_free(void *user) { (void)user; return f.free_bytes; }

static void
fake_changed(void *user, size_t i, enum mfs_job_reason reason, enum mfs_code outcome)
{
	(void)user, (void)i, (void)outcome;
	f.changes++;
	f.reason = reason;
}

static void
fake_rejected(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why)
{
	(void)user, (void)i, (void)v;
	f.rejections++;
	f.rejected = why;
}

static void fake_collect(void *user, size_t i) { (void)user, (void)i; f.collections++; }

static const struct mfs_cycle_parts parts = { .now = fake_now, .random = fake_random, .target = fake_target,
	.fresh = fake_fresh, .download = fake_download, .drop = fake_drop, .health = fake_health,
	.facts = fake_facts, .free_bytes = fake_free, .changed = fake_changed,
	.rejected = fake_rejected, .collect = fake_collect };
static struct mfs_cycle_run r;

/* ---- the fixture ------------------------------------------------------------------------------------------ */

#define START INT64_C(1800000000)

static void
setup_with(const char *more)
{
	device_make(&d, more);
	f = (struct fake){ .now = START, .facts = { .budget_left = UINT64_MAX }, .boot_ms = 1000000 };
	device_open(&d);
	r = (struct mfs_cycle_run){ .config = d.config, .engine = d.engine, .parts = &parts };
}

static void
setup(void)
{
	setup_with("repositories: {default: {url: \"file:///nowhere\", root: root.json}}\n");
}

static void
teardown(void)
{
	device_free(&d);
}

TestSuite(update, .init = setup, .fini = teardown);

/* serve dies; the next one reads what is on disk. */
static void
crash(void)
{
	device_close(&d);
	device_open(&d);
	r.engine = d.engine;
}

static void
bundle(int64_t release, const char *name, struct mfs_sha256 *id)
{
	char version[32];
	struct mk_file file = { "model.bin", 100000, (unsigned)release };
	struct mk_bundle b = { .version = version, .release = release, .files = &file, .n_files = 1,
		.model_key = &d.model_key };

	(void)snprintf(version, sizeof(version), "1.%d.0", (int)release);
	device_bundle(&d, &b, name, id);
}

static void
installed(int64_t release)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	bundle(release, "by-hand", &id);
	cr_assert_eq(device_copy(&d, "by-hand", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "by-hand");
}

/* The repository offers release n from now on. */
static void
publish(int64_t release, const char *name)
{
	bundle(release, name, &f.offered);
	f.bundle = name;
	f.release = release;
	(void)snprintf(f.version, sizeof(f.version), "1.%d.0", (int)release);
}

static enum mfs_code
offer(bool by_hand)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool superseded;

	return mfs_cycle_offer(&r, 0, NULL, by_hand, NULL, &superseded, &err);
}

static struct mfs_engine_update
state(void)
{
	struct mfs_engine_update up;

	mfs_engine_update_get(d.engine, 0, &up);
	return up;
}

static bool
observed(void)
{
	struct mfs_engine_update up = state();

	return !mfs_sha256_is_zero(&up.observation.v.manifest);
}

static int64_t step(void) { return mfs_cycle_step(&r, 0, NULL, NULL); }

/* Steps until it waits or is idle; what the last one returned. */
static int64_t
run_steps(void)
{
	int64_t pause = 0;

	for (int k = 0; k < 20 && pause == 0; k++)
		pause = step();
	cr_assert_neq(pause, 0, "it never comes to rest");
	return pause;
}

static void
active_is(const char *version, int64_t floor)
{
	struct mfs_engine_model m;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, &err), MFS_OK);
	if (version == NULL)
		cr_assert(m.n == 0 || !m.versions[0].active);
	else
		cr_assert(m.n > 0 && m.versions[0].active && strcmp(m.versions[0].v->m->version, version) == 0,
			"wanted %s, active is %s", version, m.n > 0 ? m.versions[0].v->m->version : "none");
	cr_assert_eq(m.floor_release, floor, "floor %lld, not %lld", (long long)m.floor_release, (long long)floor);
	mfs_engine_model_free(&m);
}

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

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

Test(update, what_fails_its_health_check_is_condemned_and_not_tried_again)
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

Test(update, marked_good_again_it_is_tried_again)
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

Test(update, a_check_without_a_verdict_blames_nobody)
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

Test(update, a_signed_table_that_is_wrong_condemns_a_received_byte_does_not)
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

Test(update, a_release_below_a_minimum_is_refused_once)
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
Test(update, an_older_release_is_left_alone)
{
	installed(3);
	publish(2, "two");
	for (int k = 0; k < 2; k++)
		cr_assert_eq(offer(k == 1), MFS_NOT_SELECTED);
	cr_assert_eq(f.rejections, 0);
	cr_assert_eq(f.downloads, 0);
	active_is("1.3.0", 3);
}

Test(update, a_bad_signature_of_what_metadata_names_condemns)
{
	installed(1);
	publish(2, "two");
	f.target_code = MFS_SIGNATURE_INVALID;
	cr_assert_eq(offer(false), MFS_SIGNATURE_INVALID);
	cr_assert_eq(f.rejections, 1);
	f.target_code = MFS_OK;
	cr_assert_eq(offer(false), MFS_KNOWN_BAD);
}

Test(update, network_trouble_of_a_check_leaves_the_attempt_alone)
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

Test(update, newer_metadata_supersedes_a_stuck_attempt)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool superseded;

	installed(1);
	publish(2, "two");
	f.download = MFS_NET_TIMEOUT;
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_gt(step(), 0);
	publish(3, "three");
	f.download = MFS_OK;
	cr_assert_eq(mfs_cycle_offer(&r, 0, NULL, false, NULL, &superseded, &err), MFS_OK, "%s", err.msg);
	cr_assert(superseded);
	cr_assert_str_eq(state().v.version, "1.3.0");
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.3.0", 1);
}

/* The old step ends after its successor was written: it may not write over it. */
Test(update, a_superseded_step_writes_nothing)
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
Test(update, what_is_refused_under_way_stays_refused)
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

Test(update, what_is_not_offered_any_more_stops)
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

Test(update, conditions_gate_the_cycle_and_are_named)
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
	f.facts.minute = 60;
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

Test(update, a_pin_and_a_hold_are_no_refusals)
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
Test(update, a_pin_stops_what_is_under_way)
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

Test(update, a_verdict_in_probation_goes_back_at_once_and_is_remembered)
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

Test(update, trouble_in_probation_is_no_verdict)
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

Test(update, probation_counts_time_that_was_watched)
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

Test(update, marked_bad_it_goes_back_and_marked_good_it_is_committed)
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

Test(update, a_fix_does_not_wait_for_the_probation_of_what_it_fixes)
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

Test(update, an_installation_is_checked_and_observed_like_an_update)
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

/* ---- the byte budget ----------------------------------------------------------------------------------------------------------------- */

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
}
