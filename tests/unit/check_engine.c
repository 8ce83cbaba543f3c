/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: activation, rollback, what damage and changed trust take away. */
#include "engine_help.h"

TestSuite(engine, .init = setup, .fini = teardown);

/* ---- activation ------------------------------------------------------------------------------------------ */

struct observed {
	unsigned n;
	uint64_t generation;
	char version[MFS_VERSION_MAX + 1];
};

static void
observe(void *user, size_t i, const struct mfs_engine_model *m)
{
	struct observed *o = user;

	cr_assert_eq(i, 0);
	o->n++;
	o->generation = m->generation;
	(void)snprintf(o->version, sizeof(o->version), "%s", m->n > 0 ? m->versions[0].v->m->version : "");
}

Test(engine, a_new_version_becomes_active_and_the_old_one_previous)
{
	struct observed o = { 0 };
	struct mfs_engine_model m, first;
	struct mfs_sha256 v1;

	device_open(&d);
	active_is("");
	mfs_engine_observe(d.engine, observe, &o);
	v1 = install(1);
	cr_assert_eq(o.n, 1);
	cr_assert_str_eq(active(&first), "1.1.0");
	(void)install(2);
	cr_assert_eq(o.n, 2);
	cr_assert_eq(o.generation, 2);
	cr_assert_str_eq(o.version, "1.2.0");
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.n, 2);
	cr_assert(m.versions[1].previous);
	cr_assert(mfs_sha256_equal(&m.versions[1].v->m->id, &v1));
	cr_assert_eq(m.floor_release, 2);
	cr_assert_eq(m.last_outcome, MFS_OK);
	cr_assert(m.versions[0].activated_ns > m.versions[1].activated_ns);
	cr_assert_eq(m.versions[1].activated_ns, first.versions[0].activated_ns);
	mfs_engine_model_free(&first);
	mfs_engine_model_free(&m);
	device_close(&d);
	/* The same after a restart. */
	device_open(&d);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.generation, 2);
	cr_assert_eq(m.n, 2);
	mfs_engine_model_free(&m);
}

Test(engine, the_active_version_again_changes_nothing)
{
	struct observed o = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 v1 = install(1);
	bool same = false;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];

	device_open(&d);
	mfs_engine_observe(d.engine, observe, &o);
	cr_assert_eq(mfs_engine_activate(d.engine, 0, &v1, &same, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert(same);
	cr_assert_str_eq(from, "1.1.0");
	cr_assert_str_eq(to, "1.1.0");
	cr_assert_eq(o.n, 0);
}

Test(engine, release_n_minus_1_after_n_is_refused)
{
	struct mfs_engine_model m;
	struct mfs_sha256 old = copied_release(1, "1.1.0");

	(void)install(2);
	device_open(&d);
	refused(&old, MFS_ROLLBACK_ATTEMPT, "older than");
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert_eq(m.last_outcome, MFS_ROLLBACK_ATTEMPT);
	cr_assert_eq(m.generation, 1);
	mfs_engine_model_free(&m);
}

Test(engine, a_second_manifest_for_a_known_version_is_refused)
{
	static const struct mk_file other = { "model.bin", 100000, 77 };
	struct mk_bundle b = { .version = "1.1.0", .release = 2, .files = &other, .n_files = 1 };
	struct mfs_sha256 id;

	(void)install(1);
	id = copied(&b);
	device_open(&d);
	refused(&id, MFS_POLICY_REJECTED, "second one");
	active_is("1.1.0");
}

Test(engine, a_missing_blob_is_named_and_nothing_activated)
{
	struct mfs_sha256 id = copied_release(1, "1.1.0");
	char path[200];

	device_blob_path(&d, 0, path, sizeof(path));
	cr_assert_eq(unlinkat(d.store_fd, path, 0), 0);
	device_open(&d);
	refused(&id, MFS_IO, strrchr(path, '/') + 1);
	active_is("");
}

Test(engine, an_unknown_manifest_is_not_activated)
{
	struct mfs_sha256 none = { { 1, 2, 3 } };

	device_open(&d);
	refused(&none, MFS_IO, "manifests/");
}

Test(engine, without_its_key_a_version_is_not_activated)
{
	struct mk_file file;
	struct mk_bundle b = bundle_of(1, "1.1.0", &file);
	struct mfs_key_fds fds;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id = copied(&b);
	uint8_t foreign[32] = { 9 };

	/* The configured model key is replaced by another one. */
	mfs_keys_free(d.keys);
	scratch_write(d.root_fd, "mk.bin", foreign, sizeof(foreign));
	cr_assert_eq(mfs_key_fds_open(d.config, d.state_fd, &fds, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_keys_load(d.config, &fds, &d.keys, &err), MFS_OK, "%s", err.msg);
	mfs_key_fds_close(d.config, &fds);
	device_open(&d);
	refused(&id, MFS_KEY_UNAVAILABLE, "");
	active_is("");
}

static int
activate_second(void *arg)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (device_try_open(&d, 0, &err) != MFS_OK || device_activate(&d, arg, &err) != MFS_OK)
		return 1;
	device_close(&d);
	return 0;
}

Test(engine, a_cut_at_any_step_of_an_activation_leaves_the_old_or_the_new_version)
{
	bool seen[2] = { false, false };

	/* Every third of some hundred steps; those of the anchor itself are all cut in check_trusted. */
	for (unsigned n = 1; n < 4000; n += 3) {
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_engine_model m;
		struct mfs_sha256 id;
		enum cut_result r;
		const char *version;

		device_free(&d);
		device_make(&d, "");
		(void)install(1);
		id = copied_release(2, "1.2.0");
		r = cut_run(activate_second, &id, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		cr_assert_eq(device_try_open(&d, 0, &err), MFS_OK, "cut %u: %s", n, err.msg);
		version = active(&m);
		cr_assert(strcmp(version, "1.1.0") == 0 || strcmp(version, "1.2.0") == 0, "cut %u: '%s' %s", n, version,
			m.absent_detail);
		seen[strcmp(version, "1.2.0") == 0] = true;
		cr_assert_eq(m.floor_release, strcmp(version, "1.1.0") == 0 ? 1 : 2);
		mfs_engine_model_free(&m);
		if (r == CUT_FINISHED) {
			cr_assert(seen[0] && seen[1]);
			return;
		}
		cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "cut %u: %s", n, err.msg);
		active_is("1.2.0");
	}
	cr_assert_fail("it never finished");
}

/* ---- rollback --------------------------------------------------------------------------------------------- */

Test(engine, rollback_goes_back_and_holds_until_unpin)
{
	struct mfs_err err = MFS_ERR_INIT;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_engine_model m;
	struct mfs_sha256 third;
	bool held;

	(void)install(1);
	(void)install(2);
	third = copied_release(3, "1.3.0");
	device_open(&d);
	cr_assert_eq(mfs_engine_rollback(d.engine, 0, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(from, "1.2.0");
	cr_assert_str_eq(to, "1.1.0");
	cr_assert_str_eq(active(&m), "1.1.0");
	cr_assert(m.held);
	cr_assert_eq(m.floor_release, 2, "a rollback never lowers the floor");
	cr_assert(m.versions[0].activated_ns > m.versions[1].activated_ns, "servers see a rollback by its time too");
	mfs_engine_model_free(&m);
	refused(&third, MFS_HELD, "modelfs unpin det");
	device_close(&d);
	device_open(&d);
	refused(&third, MFS_HELD, "modelfs unpin det");
	cr_assert_eq(mfs_engine_unpin(d.engine, 0, &held, &err), MFS_OK, "%s", err.msg);
	cr_assert(held);
	cr_assert_eq(mfs_engine_unpin(d.engine, 0, &held, &err), MFS_OK);
	cr_assert(!held);
	cr_assert_eq(device_activate(&d, &third, &err), MFS_OK, "%s", err.msg);
	active_is("1.3.0");
}

Test(engine, rollback_without_a_previous_version_is_refused)
{
	struct mfs_err err = MFS_ERR_INIT;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];

	device_open(&d);
	cr_assert_eq(mfs_engine_rollback(d.engine, 0, from, to, &err), MFS_NOT_SELECTED, "%s", err.msg);
	(void)install(1);
	cr_assert_eq(mfs_engine_rollback(d.engine, 0, from, to, &err), MFS_NOT_SELECTED, "%s", err.msg);
	active_is("1.1.0");
}

Test(engine, rollback_never_leads_to_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1], path[200];
	struct mfs_engine_model m;

	(void)install(1);
	device_blob_path(&d, 0, path, sizeof(path));
	(void)install(2);
	cr_assert_eq(unlinkat(d.store_fd, path, 0), 0);
	device_open(&d);
	cr_assert_eq(mfs_engine_rollback(d.engine, 0, from, to, &err), MFS_IO, "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "1.1.0"), "%s", err.msg);
	cr_assert_str_eq(active(&m), "1.2.0");
	cr_assert(!m.held);
	mfs_engine_model_free(&m);
}

/* ---- damage and changed trust ------------------------------------------------------------------------------- */

static void
absent_is(enum mfs_code code)
{
	struct mfs_engine_model m;

	cr_assert_str_eq(active(&m), "", "an older or unverified version is shown");
	cr_assert_eq(m.absent, code, "%s: %s", mfs_code_name(m.absent), m.absent_detail);
	cr_assert(m.absent_detail[0] != '\0');
	mfs_engine_model_free(&m);
}

Test(engine, a_bad_copy_of_what_was_signed_is_repaired_from_the_other)
{
	struct mfs_sha256 id = install(1);
	const int dirs[2] = { d.state_fd, d.store_fd };
	static const char *const files[] = { "manifest.json", "signature.sig" };

	for (int i = 0; i < 2; i++)
		for (int f = 0; f < 2; f++) {
			char path[200];
			uint8_t *good, *back;
			size_t n, len;

			manifest_path(path, sizeof(path), &id, files[f]);
			good = scratch_read(dirs[i], path, &n);
			if (f == 0)
				mk_flip(dirs[i], path, 10);
			else
				cr_assert_eq(unlinkat(dirs[i], path, 0), 0);
			device_open(&d);
			active_is("1.1.0");
			device_close(&d);
			back = scratch_read(dirs[i], path, &len);
			cr_assert_not_null(back);
			cr_assert(len == n && memcmp(good, back, n) == 0, "%d %s", i, files[f]);
			free(good);
			free(back);
		}
}

Test(engine, a_version_that_does_not_verify_is_absent_and_no_older_one_takes_its_place)
{
	struct mfs_engine_model m;
	struct mfs_sha256 id;
	struct mk_file file;
	char path[200];
	struct mk_bundle b;

	(void)install(1);
	id = install(2);
	manifest_path(path, sizeof(path), &id, "signature.sig");
	mk_flip(d.state_fd, path, 5);
	mk_flip(d.store_fd, path, 5);
	device_open(&d);
	absent_is(MFS_SIGNATURE_INVALID);
	cr_assert_str_eq(active(&m), "");
	cr_assert_eq(m.floor_release, 2);
	mfs_engine_model_free(&m);
	/* Installing the same bundle again shows it again. */
	b = bundle_of(2, "1.2.0", &file);
	device_install(&d, &b, NULL);
	active_is("1.2.0");
}

Test(engine, a_key_that_is_no_longer_trusted_takes_the_model_away)
{
	struct mk_signer *next = mk_signer_new();
	struct mfs_key_fds fds;
	struct mfs_err err = MFS_ERR_INIT;

	(void)install(1);
	mfs_keys_free(d.keys);
	scratch_write(d.root_fd, "release.pub.pem", mk_signer_pem(next), strlen(mk_signer_pem(next)));
	cr_assert_eq(mfs_key_fds_open(d.config, d.state_fd, &fds, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_keys_load(d.config, &fds, &d.keys, &err), MFS_OK, "%s", err.msg);
	mfs_key_fds_close(d.config, &fds);
	device_open(&d);
	absent_is(MFS_KEY_UNTRUSTED);
	mk_signer_free(next);
}

Test(engine, a_minimum_of_the_configuration_is_asked_at_every_start)
{
	struct mfs_sha256 second;

	(void)install(1);
	second = copied_release(2, "1.2.0");
	d.config->models[0].minimum.min_release = 3;
	device_open(&d);
	absent_is(MFS_POLICY_REJECTED);
	refused(&second, MFS_POLICY_REJECTED, "minimum");
}

Test(engine, compatibility_is_asked_at_every_start)
{
	struct mk_file file;
	struct mk_bundle b = bundle_of(1, "1.1.0", &file);

	b.compat = "{\"input_schema_sha256\":\"1111111111111111111111111111111111111111111111111111111111111111\"}";
	device_install(&d, &b, NULL);
	device_open(&d);
	active_is("1.1.0");
	device_close(&d);
	d.config->models[0].input_schema.b[0] = 2;
	device_open(&d);
	absent_is(MFS_INCOMPATIBLE_SCHEMA);
}

Test(engine, a_deleted_store_leaves_the_floor)
{
	struct mfs_engine_model m;
	struct mfs_sha256 old;
	char path[300];
	struct mfs_err err = MFS_ERR_INIT;

	(void)install(2);
	mfs_store_close(d.store);
	(void)close(d.store_fd);
	(void)snprintf(path, sizeof(path), "%s/store", d.root);
	scratch_remove(path);
	d.store_fd = scratch_folder(d.root_fd, "store");
	cr_assert_eq(mfs_store_open(d.store_fd, NULL, 0, &d.store, &err), MFS_OK);
	device_open(&d);
	absent_is(MFS_IO);
	old = copied_release(1, "1.1.0");
	refused(&old, MFS_ROLLBACK_ATTEMPT, "");
	cr_assert_str_eq(active(&m), "");
	cr_assert_eq(m.floor_release, 2);
	mfs_engine_model_free(&m);
	(void)install(2);
	active_is("1.2.0");
}
