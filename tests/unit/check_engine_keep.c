/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: what is collected, what never repeats, and recover. */
#include "engine_help.h"

TestSuite(engine_keep, .init = setup, .fini = teardown);

/* ---- collection ------------------------------------------------------------------------------------------------ */

static struct mfs_sha256 busy_id;

static bool
busy(void *user, const struct mfs_sha256 *id)
{
	(void)user;
	return mfs_sha256_equal(id, &busy_id);
}

static void
tick(void)
{
	struct timespec a, b;

	/* Newer kernels stamp what was looked at with the fine one: the coarse one must have come that far. */
	(void)clock_gettime(CLOCK_REALTIME, &a);
	do
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &b);
	while (b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec <= a.tv_nsec));
}

Test(engine_keep, gc_keeps_active_retained_and_busy_versions)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	uint64_t freed;
	size_t removed;

	busy_id = install(1);
	for (int64_t r = 2; r <= 5; r++)
		(void)install(r);
	device_open(&d);
	tick();
	/* retain is 2: 5 is active, 4 and 3 are kept, 1 is busy; 2 goes: a payload and a table. */
	cr_assert_eq(mfs_engine_gc(d.engine, busy, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 2);
	cr_assert(freed > 100000);
	cr_assert_eq(scratch_count(d.state_fd, "manifests"), 4);
	cr_assert_eq(scratch_count(d.store_fd, "manifests"), 4);
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 2);
	cr_assert_eq(device_blobs(&d), 6);
	cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(active(&m), "1.5.0");
	cr_assert_eq(m.n, 3);
	mfs_engine_model_free(&m);
}

static void
signed_lose(const struct mfs_sha256 *id)
{
	const int dirs[2] = { d.state_fd, d.store_fd };

	for (int k = 0; k < 2; k++) {
		mfs_autoclose int fd = openat(dirs[k], "manifests", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		cr_assert_eq(mfs_remove_all(fd, MFS_HEX(id)), 0);
		cr_assert_eq(scratch_count(dirs[k], "manifests"), 1);
	}
}

/* What was signed of the version to go back to is lost in both places: nobody promises it; had again, it is as it was. */
Test(engine_keep, what_was_signed_of_a_kept_version_can_be_restored)
{
	struct mfs_sha256 old = install(1), other = { { 7 } };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_version *v = NULL;
	struct mfs_engine_model m;
	struct mfs_signed bytes;
	struct mfs_vref ref;
	bool end, changed;

	(void)install(2);
	device_open(&d);
	cr_assert_eq(mfs_signed_get(d.state_fd, &old, &bytes, &err), MFS_OK, "%s", err.msg);
	/* In memory it still is: a look at what is missing writes it again. */
	signed_lose(&old);
	cr_assert_eq(mfs_engine_lost(d.engine, 0, 1, false, &end, &v, &err), MFS_OK, "%s", err.msg);
	cr_assert(v == NULL && !end);
	cr_assert(scratch_count(d.state_fd, "manifests") == 2 && scratch_count(d.store_fd, "manifests") == 2);
	/* A start finds nothing of it. */
	signed_lose(&old);
	device_close(&d);
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.n, 1);
	cr_assert_str_eq(m.gone.version, "1.1.0");
	cr_assert(m.gone.previous && m.gone.why == MFS_IO && strstr(m.gone.detail, "No such file") != NULL, "%s", m.gone.detail);
	mfs_engine_model_free(&m);
	cr_assert(mfs_kept_lost(mfs_engine_lost(d.engine, 0, 1, false, &end, &v, &err)));
	cr_assert(mfs_engine_kept(d.engine, 0, 1, &ref) && mfs_sha256_equal(&ref.manifest, &old));
	cr_assert_not(mfs_engine_kept(d.engine, 0, 2, &ref));
	cr_assert_eq(mfs_engine_signed_restore(d.engine, 0, &other, &bytes, &err), MFS_CONDITION_UNMET, "nobody keeps it");
	cr_assert_eq(mfs_engine_signed_restore(d.engine, 0, &old, &bytes, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_engine_restored(d.engine, 0, &changed, &err), MFS_OK, "%s", err.msg);
	cr_assert_not(changed);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.n, 2);
	cr_assert_eq(m.gone.version[0], '\0');
	mfs_engine_model_free(&m);
	mfs_signed_free(&bytes);
}

Test(engine_keep, gc_removes_what_repairs_staged_for_versions_that_are_gone)
{
	struct mfs_sha256 other = { { 7 } };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	uint64_t freed;
	size_t removed;
	int dir;

	(void)install(1);
	device_open(&d);
	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, &err), MFS_OK);
	cr_assert_eq(mfs_stage_open(d.store, MFS_HEX(&m.versions[0].v->m->files[0].sha256), &dir, &err), MFS_OK);
	(void)close(dir);
	mfs_engine_model_free(&m);
	cr_assert_eq(mfs_stage_open(d.store, MFS_HEX(&other), &dir, &err), MFS_OK);
	(void)close(dir);
	cr_assert_eq(mfs_stage_open(d.store, "det", &dir, &err), MFS_OK);
	(void)close(dir);
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(scratch_count(d.store_fd, "staging"), 2, "a download, and a repair that may go on");
	cr_assert_eq(faccessat(d.store_fd, "staging/dl-det", F_OK, 0), 0);
}

/* What was signed stands before its attempt is written: between the two another model's change may collect. */
Test(engine_keep, gc_keeps_what_an_attempt_is_about_to_bring)
{
	struct mfs_cycle_attempt a = { .step = MFS_STEP_DOWNLOAD };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_version *v;
	struct mfs_signed s;
	uint64_t freed;
	size_t removed;

	(void)install(1);
	a.v = (struct mfs_cycle_version){ .manifest = copied_release(2, "1.2.0"), .version = "1.2.0", .release = 2, .key_epoch = 1 };
	cr_assert_eq(mfs_signed_get(d.store_fd, &a.v.manifest, &s, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_eq(mfs_engine_keep_signed(d.engine, 0, &a.v.manifest, &s, &err), MFS_OK, "%s", err.msg);
	mfs_signed_free(&s);
	tick();
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 0);
	cr_assert_eq(mfs_engine_version(d.engine, 0, &a.v.manifest, &v, &err), MFS_OK, "%s", err.msg);
	mfs_version_unref(v);
	cr_assert_eq(scratch_count(d.state_fd, "manifests"), 2);
	cr_assert_eq(scratch_count(d.store_fd, "manifests"), 2);
	/* Once written the attempt keeps it; over without having become active, it goes. */
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, NULL, &err), MFS_OK, "%s", err.msg);
	a.step = MFS_STEP_IDLE;
	cr_assert_eq(mfs_engine_attempt(d.engine, 0, &a, NULL, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 2);
	cr_assert_eq(scratch_count(d.state_fd, "manifests"), 1);
}

Test(engine_keep, gc_gives_way_to_an_installation)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;
	int lock;

	(void)install(1);
	device_open(&d);
	cr_assert_eq(mfs_store_lock(d.store, &lock, &err), MFS_OK);
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_CONDITION_UNMET, "%s", err.msg);
	(void)close(lock);
}

Test(engine_keep, gc_removes_nothing_when_the_active_manifest_cannot_be_read)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id = install(1);
	uint64_t freed;
	size_t removed;
	char path[200];

	manifest_path(path, sizeof(path), &id, "manifest.json");
	mk_flip(d.state_fd, path, 5);
	mk_flip(d.store_fd, path, 5);
	device_open(&d);
	tick();
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_HASH_MISMATCH, "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "1.1.0"), "%s", err.msg);
	cr_assert_eq(removed, 0);
	cr_assert_eq(device_blobs(&d), 2);
}

static struct mfs_sha256 unread; /* nothing can be opened when this manifest is asked for */

enum mfs_code __real_mfs_signed_get(int dirfd, const struct mfs_sha256 *id, struct mfs_signed *out, struct mfs_err *err);
enum mfs_code __wrap_mfs_signed_get(int dirfd, const struct mfs_sha256 *id, struct mfs_signed *out, struct mfs_err *err);

enum mfs_code
__wrap_mfs_signed_get(int dirfd, const struct mfs_sha256 *id, struct mfs_signed *out, struct mfs_err *err)
{
	if (!mfs_sha256_equal(id, &unread))
		return __real_mfs_signed_get(dirfd, id, out, err);
	*out = (struct mfs_signed){ 0 };
	errno = EMFILE;
	return mfs_fail_sys(err, MFS_IO, "manifests/%s", MFS_HEX(id));
}

Test(engine_keep, gc_removes_nothing_of_a_kept_version_whose_manifest_cannot_be_read_just_now)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 kept;
	uint64_t freed;
	size_t removed;

	kept = install(1);
	(void)install(2);
	device_open(&d);
	tick();
	unread = kept;
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_IO, "%s", err.msg);
	cr_assert_eq(removed, 0);
	unread = (struct mfs_sha256){ { 0 } };
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 0);
	cr_assert_eq(device_blobs(&d), 4);
}

Test(engine_keep, gc_keeps_models_that_are_no_longer_configured)
{
	struct mfs_err err = MFS_ERR_INIT;
	size_t removed, n = d.config->n_models;
	uint64_t freed;

	(void)install(1);
	d.config->n_models = 0;
	device_open(&d);
	tick();
	cr_assert_eq(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 0);
	device_close(&d);
	d.config->n_models = n;
	device_open(&d);
	active_is("1.1.0");
}

/* ---- exposures -------------------------------------------------------------------------------------------------- */

static uint64_t
exposures(unsigned n)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t first;

	cr_assert_eq(mfs_engine_exposures(d.engine, 0, n, &first, &err), MFS_OK, "%s", err.msg);
	return first;
}

Test(engine_keep, exposures_never_repeat)
{
	uint64_t next = 0;

	(void)install(1);
	for (int life = 0; life < 3; life++) {
		device_open(&d);
		for (unsigned n = 1; n < 200; n += 7) {
			uint64_t first = exposures(n);

			cr_assert(first >= next, "%" PRIu64 " after %" PRIu64, first, next);
			next = first + n;
		}
		device_close(&d);
	}
	/* The cycle lost: higher than anything that was. */
	scratch_write(d.state_fd, "cycle.0", "x", 1);
	scratch_write(d.state_fd, "cycle.1", "x", 1);
	device_open(&d);
	active_is("1.1.0");
	cr_assert(exposures(1) > next + (1u << 20));
}

Test(engine_keep, a_lost_cycle_takes_no_model_and_no_floor_away)
{
	struct mfs_engine_model m;

	(void)install(1);
	(void)install(2);
	cr_assert_eq(unlinkat(d.state_fd, "cycle.0", 0), 0);
	cr_assert_eq(unlinkat(d.state_fd, "cycle.1", 0), 0);
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.n, 2);
	cr_assert_eq(m.floor_release, 2);
	cr_assert(m.generation > 2, "a reader of generation sees a change");
	mfs_engine_model_free(&m);
}

Test(engine_keep, reading_the_state_of_an_unmounted_system_writes_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct stat before, after;
	uint64_t first;
	bool held;

	(void)install(1);
	cr_assert_eq(fstatat(d.state_fd, ".", &before, AT_SYMLINK_NOFOLLOW), 0);
	cr_assert_eq(device_try_open(&d, MFS_TRUSTED_READ, &err), MFS_OK, "%s", err.msg);
	active_is("1.1.0");
	cr_assert_neq(mfs_engine_exposures(d.engine, 0, 1, &first, &err), MFS_OK);
	cr_assert_eq(mfs_engine_unpin(d.engine, 0, &held, &err), MFS_OK);
	device_close(&d);
	cr_assert_eq(fstatat(d.state_fd, ".", &after, AT_SYMLINK_NOFOLLOW), 0);
	cr_assert_eq(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)), 0);
}

/* ---- recover ---------------------------------------------------------------------------------------------------- */

static void
lose_state(void)
{
	static const char *const names[] = { "anchor.0", "anchor.1", "counter", "cycle.0", "cycle.1" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlinkat(d.state_fd, names[i], 0);
}

Test(engine_keep, recover_takes_floors_from_what_can_be_verified)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	struct mfs_sha256 old;
	char *events;
	size_t len;

	(void)install(2);
	(void)install(3);
	old = copied_release(1, "1.1.0");
	lose_state();
	cr_assert_eq(device_try_open(&d, 0, &err), MFS_STATE_REPLAYED, "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "modelfs recover"));
	cr_assert_eq(device_recover(&d, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.3.0");
	cr_assert_eq(m.floor_release, 3);
	mfs_engine_model_free(&m);
	refused(&old, MFS_ROLLBACK_ATTEMPT, "");
	cr_assert_eq(mfs_events_render(d.events, "det", 1 << 16, &events, &len, &err), MFS_OK);
	cr_assert_not_null(strstr(events, "\"source\":\"recover\""), "%s", events);
	free(events);
	(void)install(4);
	active_is("1.4.0");
}

Test(engine_keep, recover_repeats_no_exposure_and_no_time)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model before, after;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	uint64_t last;

	(void)install(1);
	(void)install(2);
	device_open(&d);
	cr_assert_eq(mfs_engine_rollback(d.engine, 0, from, to, &err), MFS_OK, "%s", err.msg);
	last = exposures(1);
	cr_assert_str_eq(active(&before), "1.1.0");
	device_close(&d);
	cr_assert_eq(unlinkat(d.state_fd, "counter", 0), 0);
	for (int lost = 0; lost < 2; lost++) {
		if (lost)
			lose_state();
		cr_assert_eq(device_recover(&d, &err), MFS_OK, "%s", err.msg);
		device_open(&d);
		cr_assert_str_eq(active(&after), "1.2.0");
		cr_assert(after.versions[0].activated_ns > before.versions[0].activated_ns);
		cr_assert(after.generation > before.generation);
		cr_assert(exposures(1) > last);
		last = exposures(1);
		mfs_engine_model_free(&before);
		before = after;
		device_close(&d);
	}
	mfs_engine_model_free(&before);
}

Test(engine_keep, recover_shows_nothing_rather_than_an_older_version)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	struct mfs_manifest *manifest;
	struct mfs_sha256 id;
	char path[200];
	uint8_t *text;
	size_t n;

	(void)install(2);
	id = install(3);
	/* The payload of 3 is gone, the blobs of 2 are all there. */
	manifest_path(path, sizeof(path), &id, "manifest.json");
	text = scratch_read(d.state_fd, path, &n);
	cr_assert_eq(mfs_manifest_parse(MFS_SPAN(text, n), &manifest, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", MFS_HEX(&manifest->files[0].sha256),
		MFS_HEX(&manifest->files[0].sha256));
	cr_assert_eq(unlinkat(d.store_fd, path, 0), 0);
	mfs_manifest_free(manifest);
	free(text);
	lose_state();
	cr_assert_eq(device_recover(&d, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_str_eq(active(&m), "");
	cr_assert_eq(m.floor_release, 3);
	mfs_engine_model_free(&m);
	(void)install(3);
	active_is("1.3.0");
}

Test(engine_keep, recover_ignores_what_is_not_signed_by_a_trusted_key)
{
	struct mk_signer *thief = mk_signer_new();
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_signed s = { 0 };
	struct mfs_engine_model m;
	struct mfs_sha256 id;
	struct mk_file file;
	struct mk_bundle b;

	(void)install(2);
	b = bundle_of(99, "9.9.0", &file);
	mk_bundle(thief, &b, d.root_fd, "stolen", &id);
	s.manifest = scratch_read(d.root_fd, "stolen/manifest.json", &s.manifest_len);
	s.sig = scratch_read(d.root_fd, "stolen/signature.sig", &s.sig_len);
	cr_assert_eq(mfs_signed_put(d.store_fd, &id, &s, &err), MFS_OK, "%s", err.msg);
	mfs_signed_free(&s);
	lose_state();
	cr_assert_eq(device_recover(&d, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.floor_release, 2);
	mfs_engine_model_free(&m);
	mk_signer_free(thief);
}

Test(engine_keep, recover_of_a_sound_state_changes_no_floor)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;

	(void)install(1);
	(void)install(2);
	cr_assert_eq(device_recover(&d, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.floor_release, 2);
	cr_assert_eq(m.n, 2);
	mfs_engine_model_free(&m);
}
