/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh: what a repository, or who stands in its way, can make a device believe and do. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bundledir.h"
#include "cut.h"
#include "device.h"
#include "io.h"
#include "mfs_policy.h"
#include "mkrepo.h"
#include "refresh.h"

#define NOW 1800000000 /* after the build date */
#define DAY 86400

static struct device d;
static struct mk_repo *repo;
static struct mfs_refresh *refresh;
static size_t release; /* role of det; policy is the next */
static int64_t now;
static unsigned told; /* models that changed */
static struct mfs_policy *policy;
static const char *more_config = "";

static int64_t
clock_of(void *user)
{
	(void)user;
	return now;
}

static void
on_changed(void *user, size_t i)
{
	(void)user;
	cr_assert_eq(i, 0);
	told++;
}

static void
keys_load(void)
{
	struct mfs_key_fds fds;
	struct mfs_err err = MFS_ERR_INIT;

	mfs_keys_free(d.keys);
	cr_assert_eq(mfs_key_fds_open(d.config, d.state_fd, &fds, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_keys_load(d.config, &fds, &d.keys, &err), MFS_OK, "%s", err.msg);
	mfs_key_fds_close(d.config, &fds);
}

static void
start(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_args args = { .config = d.config, .keys = d.keys, .events = d.events, .state_dirfd = d.state_fd,
		.get = mk_repo_get, .get_user = repo, .clock = clock_of, .changed = on_changed };

	device_open(&d);
	args.engine = d.engine;
	cr_assert_eq(mfs_refresh_new(&args, &refresh, &err), MFS_OK, "%s", err.msg);
}

static void
stop(void)
{
	mfs_refresh_free(refresh);
	refresh = NULL;
	device_close(&d);
}

static void
restart(void)
{
	stop();
	start();
}

/* The policy as it stands, with a higher sequence, into the repository. */
static void
policy_publish(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *json;
	size_t len;

	policy->sequence++;
	policy->issued = repo->now;
	cr_assert_eq(mfs_policy_json(policy, &json, &len, &err), MFS_OK, "%s", err.msg);
	mk_repo_target(repo, release + 1, "det/policy.json", json, len);
	free(json);
}

static void
setup_with(const char *more)
{
	struct mfs_span root;
	char text[1024];

	now = NOW;
	told = 0;
	repo = mk_repo_new(NOW);
	release = mk_repo_model(repo, "det");
	cr_assert_eq(mfs_policy_new("det", &policy, NULL), MFS_OK);
	policy_publish();
	repo->roles[MK_ROOT].changed = true;
	mk_repo_commit(repo);
	(void)snprintf(text, sizeof(text), "repositories: {default: {url: \"file:///r\", root: root.json}}\ndevice: {id: dev-1}\n%s", more);
	device_make(&d, text);
	cr_assert(mk_repo_file(repo, "metadata/1.root.json", &root));
	scratch_write(d.root_fd, "root.json", root.p, root.len);
	keys_load();
	start();
}

static void
setup(void)
{
	setup_with(more_config);
}

static void
teardown(void)
{
	stop();
	mfs_policy_free(policy);
	mk_repo_free(repo);
	device_free(&d);
}

TestSuite(refresh, .init = setup, .fini = teardown);

static struct mfs_refresh_result
run_is(enum mfs_code want, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_result res;
	enum mfs_code code = mfs_refresh_run(refresh, 0, NULL, NULL, &res, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
	if (word != NULL)
		cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
	return res;
}

static struct mfs_refresh_result
run(void)
{
	return run_is(MFS_OK, NULL);
}

/* A bundle of det at this release, in the repository: its manifest and signature as targets, and a rollout to all. */
static struct mfs_sha256
publish(int64_t number)
{
	static const char *const parts[] = { "manifest.json", "signature.sig" };
	const struct mk_file file = { "model.bin", 100000, (unsigned)number };
	char version[32], path[64], name[96];
	struct mk_bundle b = { .version = version, .release = number, .files = &file, .n_files = 1 };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;
	struct mfs_policy_entry e = { .release = number };
	struct mfs_sha256 id;

	(void)snprintf(version, sizeof(version), "1.%d.0", (int)number);
	device_bundle(&d, &b, "published", &id);
	for (size_t k = 0; k < 2; k++) {
		mfs_autofree uint8_t *bytes = NULL;
		size_t len;

		(void)snprintf(path, sizeof(path), "published/%s", parts[k]);
		(void)snprintf(name, sizeof(name), "det/%s/default/%s", version, parts[k]);
		cr_assert_eq(mfs_file_read(d.root_fd, path, 1 << 20, &bytes, &len, NULL), MFS_OK);
		mk_repo_target(repo, release, name, bytes, len);
	}
	e.manifest = id;
	(void)snprintf(e.version, sizeof(e.version), "%s", version);
	(void)snprintf(e.variant, sizeof(e.variant), "default");
	cr_assert_eq(mfs_policy_rollout_add(policy, 0, version, version, &r, NULL), MFS_OK);
	cr_assert_eq(mfs_policy_variant_add(r, &e, &v, NULL), MFS_OK);
	cr_assert_eq(mfs_policy_step_add(r, MFS_FRACTION_ALL, 0, false, NULL), MFS_OK);
	return id;
}

/* Brought by hand what a download would bring, and activated. */
static void
install_published(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "published");
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
}

static void
revoked(const char *version, enum mfs_action action)
{
	struct mfs_revocation r = { .reason = "leaks", .action = action };

	(void)snprintf(r.version, sizeof(r.version), "%s", version);
	cr_assert_eq(mfs_policy_revoke(policy, &r, NULL), MFS_OK);
	policy_publish();
	mk_repo_commit(repo);
}

static void
active_is(const char *version)
{
	struct mfs_engine_model m;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
	cr_assert_str_eq(m.n > 0 && m.versions[0].active ? m.versions[0].v->m->version : "", version, "%s", m.absent_detail);
	mfs_engine_model_free(&m);
}

static void
target_is(enum mfs_code want, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_target t;
	enum mfs_code code = mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
	if (word != NULL)
		cr_assert_not_null(strstr(code == MFS_OK ? t.version.version : err.msg, word), "'%s' not in: %s", word, err.msg);
	mfs_refresh_target_clear(&t);
}

/* May a version that is on its way become active? Nothing is fetched for the answer. */
static void
fresh_is(enum mfs_code want)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_refresh_fresh(refresh, 0, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
}

/* ---- ordinary days --------------------------------------------------------------------------------------- */

Test(refresh, a_poll_with_nothing_new_costs_two_tiny_requests)
{
	struct mfs_refresh_result res = run();

	cr_assert(res.news);
	cr_assert_gt(res.requests, 4);
	for (int k = 0; k < 3; k++) {
		res = run();
		cr_assert(!res.news);
		cr_assert_eq(res.requests, 2);
		cr_assert_eq(res.received, 0);
		cr_assert_eq(repo->not_modified, (unsigned)k + 1);
	}
	restart();
	res = run();
	cr_assert(!res.news);
	cr_assert_eq(res.requests, 2, "after a restart too: %u", res.requests);
	cr_assert_eq(res.received, 0);
}

Test(refresh, what_the_policy_offers_is_resolved_and_verified_by_both_signatures)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_target t;
	struct mfs_sha256 id = publish(1);

	target_is(MFS_METADATA_EXPIRED, "never fetched");
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(t.want, MFS_REFRESH_INSTALL);
	cr_assert_str_eq(t.version.version, "1.1.0");
	cr_assert_str_eq(t.rollout, "1.1.0");
	cr_assert_eq(t.fraction, MFS_FRACTION_ALL);
	cr_assert(mfs_sha256_equal(&t.m->id, &id));
	cr_assert_gt(t.bytes.sig_len, 0);
	mfs_refresh_target_clear(&t);
	install_published();
	cr_assert_eq(mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(t.want, MFS_REFRESH_NOTHING);
	mfs_refresh_target_clear(&t);
}

Test(refresh, a_poll_that_reaches_nobody_changes_nothing_and_is_told_once)
{
	struct mfs_refresh_status s;

	(void)run();
	repo->offline = true;
	now += 60;
	(void)run_is(MFS_NET_RESOLVE, "repository default");
	(void)run_is(MFS_NET_RESOLVE, NULL);
	mfs_refresh_status(refresh, 0, &s);
	cr_assert_eq(s.outcome, MFS_NET_RESOLVE);
	cr_assert(!s.expired);
	cr_assert_eq(s.roles[MFS_ROLE_TIMESTAMP].version, 1);
	repo->offline = false;
	(void)run();
	mfs_refresh_status(refresh, 0, &s);
	cr_assert_eq(s.outcome, MFS_OK);
}

/* ---- freeze ---------------------------------------------------------------------------------------------- */

Test(refresh, a_frozen_repository_stops_activations_once_its_timestamp_expires_and_nothing_else)
{
	struct mfs_refresh_status s;

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	(void)publish(2);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.2.0");
	now += 2 * DAY; /* the same files, for ever */
	(void)run_is(MFS_METADATA_EXPIRED, "timestamp");
	target_is(MFS_METADATA_EXPIRED, "expired");
	active_is("1.1.0");
	mfs_refresh_status(refresh, 0, &s);
	cr_assert(s.expired);
	/* The refresh that cures it is not blocked by what is stored. */
	repo->now = now;
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.2.0");
}

/* ---- rollback of metadata ---------------------------------------------------------------------------------- */

static void
rollback_of(size_t role)
{
	char detail[256];

	/* Three versions of everything are seen. */
	for (int k = 0; k < 2; k++) {
		repo->roles[MK_TARGETS].changed = true;
		policy_publish();
		mk_repo_commit(repo);
	}
	(void)run();
	/* Whoever stole the online keys signs an old version of one role again, consistently. */
	repo->roles[role].version = 1;
	mk_repo_sign(repo, role);
	if (role > MK_SNAPSHOT) {
		repo->roles[MK_SNAPSHOT].version++;
		mk_repo_sign(repo, MK_SNAPSHOT);
	}
	if (role != MK_TIMESTAMP) {
		repo->roles[MK_TIMESTAMP].version++;
		mk_repo_sign(repo, MK_TIMESTAMP);
	}
	(void)run_is(MFS_ROLLBACK_ATTEMPT, NULL);
	/* Not even with everything stored gone: the floors are in anchor and cycle. */
	stop();
	cr_assert_eq(mfs_remove_all(d.state_fd, "tuf"), 0);
	start();
	(void)run_is(MFS_ROLLBACK_ATTEMPT, NULL);
	cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_OK, "%s", detail);
}

Test(refresh, an_older_timestamp_is_refused)
{
	rollback_of(MK_TIMESTAMP);
}

Test(refresh, an_older_snapshot_is_refused)
{
	rollback_of(MK_SNAPSHOT);
}

Test(refresh, older_targets_are_refused)
{
	rollback_of(MK_TARGETS);
}

Test(refresh, a_root_that_is_older_than_the_trusted_one_leads_nowhere)
{
	struct mk_repo_copy *first = mk_repo_keep(repo);

	(void)run();
	mk_repo_rotate(repo, MK_TIMESTAMP);
	mk_repo_commit(repo);
	(void)run();
	/* The chain ends before the root that was trusted, and the stored one is lost. */
	mk_repo_put_back(repo, first, "metadata/");
	mk_repo_put(repo, "metadata/2.root.json", NULL, 0);
	(void)run_is(MFS_METADATA_SIGNATURE_INVALID, NULL);
	stop();
	cr_assert_eq(mfs_remove_all(d.state_fd, "tuf"), 0);
	start();
	(void)run_is(MFS_ROLLBACK_ATTEMPT, "root version 2 was trusted before");
	mk_repo_copy_free(first);
}

Test(refresh, a_stored_file_that_the_anchor_does_not_name_is_fetched_again)
{
	static const char *const names[] = { "root.json", "snapshot.json", "targets.json", "timestamp.json" };
	struct mfs_refresh_result res;

	(void)run();
	mk_repo_rotate(repo, MK_SNAPSHOT);
	mk_repo_commit(repo);
	(void)run();
	for (size_t k = 0; k < 4; k++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "tuf/default/%s", names[k]);
		mk_flip(d.state_fd, path, 40);
		restart();
		res = run();
		cr_assert_gt(res.received, 0, "%s", names[k]);
		res = run();
		cr_assert_eq(res.received, 0, "%s: and stored again", names[k]);
	}
}

Test(refresh, parts_of_two_versions_are_refused)
{
	struct mk_repo_copy *old;

	(void)run();
	old = mk_repo_keep(repo);
	policy_publish();
	mk_repo_commit(repo);
	/* The new timestamp over the old snapshot and roles under the new names. */
	{
		struct mfs_span s;

		mk_repo_put_back(repo, old, "metadata/1.snapshot.json");
		cr_assert(mk_repo_file(repo, "metadata/1.snapshot.json", &s));
		mk_repo_put(repo, "metadata/2.snapshot.json", s.p, s.len);
	}
	(void)run_is(MFS_HASH_MISMATCH, NULL);
	mk_repo_copy_free(old);
}

Test(refresh, a_device_that_was_off_for_long_follows_every_root_rotation)
{
	struct mfs_refresh_status s;

	(void)run();
	stop();
	now += 400 * DAY;
	repo->now = now;
	for (int k = 0; k < 30; k++)
		mk_repo_rotate(repo, k % 2 == 0 ? MK_TIMESTAMP : MK_SNAPSHOT);
	mk_repo_rotate(repo, MK_TARGETS);
	for (size_t k = MK_TARGETS; k < repo->n_roles; k++)
		repo->roles[k].changed = true;
	mk_repo_commit(repo);
	start();
	(void)run();
	mfs_refresh_status(refresh, 0, &s);
	cr_assert_eq(s.roles[MFS_ROLE_ROOT].version, 32);
	cr_assert_eq(run().requests, 2);
}

Test(refresh, a_fast_forward_attack_is_undone_by_a_new_timestamp_key)
{
	struct mfs_refresh_status s;

	(void)run();
	repo->roles[MK_TIMESTAMP].version = 1000000;
	mk_repo_sign(repo, MK_TIMESTAMP);
	(void)run();
	repo->roles[MK_TIMESTAMP].version = 3;
	mk_repo_sign(repo, MK_TIMESTAMP);
	(void)run_is(MFS_ROLLBACK_ATTEMPT, "timestamp");
	mk_repo_rotate(repo, MK_TIMESTAMP);
	mk_repo_commit(repo);
	(void)run();
	mfs_refresh_status(refresh, 0, &s);
	cr_assert_lt(s.roles[MFS_ROLE_TIMESTAMP].version, 1000);
	restart();
	(void)run();
}

Test(refresh, metadata_by_a_foreign_key_is_refused_and_a_new_root_before_it_stays)
{
	struct mk_tuf_key *right = repo->roles[MK_SNAPSHOT].key;
	struct mfs_refresh_status s;

	(void)run();
	mk_repo_rotate(repo, MK_TIMESTAMP);
	mk_repo_commit(repo);
	repo->roles[MK_SNAPSHOT].key = repo->roles[MK_DELEGATED].key;
	repo->roles[MK_SNAPSHOT].version++;
	mk_repo_sign(repo, MK_SNAPSHOT);
	repo->roles[MK_TIMESTAMP].version++;
	mk_repo_sign(repo, MK_TIMESTAMP);
	repo->roles[MK_SNAPSHOT].key = right;
	(void)run_is(MFS_METADATA_SIGNATURE_INVALID, "snapshot");
	mfs_refresh_status(refresh, 0, &s);
	cr_assert_eq(s.roles[MFS_ROLE_ROOT].version, 2);
	restart();
	mk_repo_commit(repo);
	(void)run();
}

/* ---- policies ------------------------------------------------------------------------------------------------ */

Test(refresh, a_revocation_acts_at_the_refresh_that_brings_it)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	active_is("1.1.0");
	told = 0;
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run();
	active_is("");
	cr_assert_eq(told, 1);
	restart();
	active_is("");
	target_is(MFS_NOT_SELECTED, NULL);
}

Test(refresh, an_old_policy_is_refused_and_the_one_in_force_goes_on)
{
	struct mk_target old;
	char detail[256];

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	old = repo->roles[release + 1].targets[0];
	old.bytes = memcpy(malloc(old.len), old.bytes, old.len);
	(void)run();
	install_published();
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run();
	active_is("");
	/* The policy key is stolen: an old policy under new metadata. */
	mk_repo_target(repo, release + 1, "det/policy.json", old.bytes, old.len);
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_ROLLBACK_ATTEMPT, "%s", detail);
	active_is("");
	target_is(MFS_ROLLBACK_ATTEMPT, "sequence");
	free(old.bytes);
}

Test(refresh, a_policy_that_vanishes_or_does_not_parse_stays_in_force_and_lets_nothing_new_in)
{
	char detail[256];

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	(void)publish(2);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.2.0");
	mk_repo_target(repo, release + 1, "det/policy.json", NULL, 0);
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_POLICY_REJECTED, "%s", detail);
	target_is(MFS_POLICY_REJECTED, "gone");
	active_is("1.1.0");
	mk_repo_target(repo, release + 1, "det/policy.json", "{}", 2);
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_MALFORMED, "%s", detail);
	target_is(MFS_MALFORMED, NULL);
	fresh_is(MFS_MALFORMED);
	restart();
	fresh_is(MFS_MALFORMED); /* a power cut is no way to bring 1.2.0 in: the next policy may revoke it */
	target_is(MFS_MALFORMED, NULL);
	active_is("1.1.0");
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.2.0");
	fresh_is(MFS_OK);
	restart();
	fresh_is(MFS_OK);
}

Test(refresh, the_policy_role_may_not_ship_what_no_release_role_offers)
{
	struct mfs_sha256 id = publish(1);

	(void)id;
	mk_repo_target(repo, release, "det/1.1.0/default/manifest.json", NULL, 0);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_NET_HTTP, "no release role offers it");
}

Test(refresh, a_manifest_with_another_hash_than_the_policy_names_is_refused)
{
	(void)publish(1);
	mk_repo_target(repo, release, "det/1.1.0/default/manifest.json", "{}", 2);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_HASH_MISMATCH, "the policy names");
}

Test(refresh, a_bundle_signature_is_demanded_besides_the_repositorys)
{
	uint8_t wrong[64] = { 1 };

	(void)publish(1);
	mk_repo_target(repo, release, "det/1.1.0/default/signature.sig", wrong, sizeof(wrong));
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	{
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_refresh_target t;

		cr_assert_eq(mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err), MFS_SIGNATURE_INVALID);
		cr_assert(t.judged && !mfs_sha256_is_zero(&t.version.manifest), "these bytes are the version's");
		mfs_refresh_target_clear(&t);
	}
}

/* Whoever sits on the way must not be able to have a good version condemned. */
Test(refresh, garbage_on_the_way_concerns_no_version)
{
	static const char *const files[] = { "metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/2.release.det.json" };
	static const char *const garbage[] = { "{", "{\"signed\":1}", "" };
	struct mk_repo_copy *good;

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	good = mk_repo_keep(repo);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		for (size_t k = 0; k < sizeof(garbage) / sizeof(garbage[0]); k++) {
			struct mfs_err err = MFS_ERR_INIT;
			struct mfs_refresh_target t;

			mk_repo_put(repo, files[i], garbage[k], strlen(garbage[k]));
			if (mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err) != MFS_OK) {
				cr_assert_not(t.judged);
				cr_assert(mfs_sha256_is_zero(&t.version.manifest), "%s: %s", files[i], err.msg);
			}
			mfs_refresh_target_clear(&t);
			mk_repo_put_back(repo, good, "");
		}
	mk_repo_put(repo, "metadata/timestamp.json", "{", 1);
	{
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_refresh_target t;

		cr_assert_neq(mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err), MFS_OK, "the garbage was never looked at");
		mfs_refresh_target_clear(&t);
	}
	mk_repo_put_back(repo, good, "");
	mk_repo_copy_free(good);
	target_is(MFS_OK, "1.1.0");
}

/* Nor hide a revocation for longer than the garbage comes: the metadata that names it was seen, the policy was not. */
Test(refresh, garbage_in_a_policys_place_hides_its_revocation_no_longer_than_it_comes)
{
	for (int k = 0; k < 2; k++) {
		struct mfs_sha256 hash;
		char file[160], detail[256];
		const struct mk_role *role;
		struct mk_repo_copy *good;

		if (k > 0) {
			teardown();
			setup();
		}
		(void)publish(1);
		policy_publish();
		mk_repo_commit(repo);
		(void)run();
		install_published();
		revoked("1.1.0", MFS_ACTION_WITHDRAW);
		role = &repo->roles[release + 1];
		cr_assert_eq(mfs_sha256(MFS_SPAN(role->targets[0].bytes, role->targets[0].len), &hash, NULL), MFS_OK);
		if (k == 0)
			(void)snprintf(file, sizeof(file), "targets/det/%s.policy.json", MFS_HEX(&hash));
		else
			(void)snprintf(file, sizeof(file), "metadata/%d.policy.det.json", (int)role->version);
		good = mk_repo_keep(repo);
		cr_assert(mk_repo_file(repo, file, &(struct mfs_span){ 0 }), "%s", file);
		mk_repo_put(repo, file, "{", 1);
		(void)run();
		cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_HASH_MISMATCH, "%s: %s", file, detail);
		target_is(MFS_HASH_MISMATCH, NULL);
		active_is("1.1.0");
		mk_repo_put_back(repo, good, "");
		mk_repo_copy_free(good);
		(void)run();
		active_is("");
	}
}

Test(refresh, one_models_missing_policy_file_does_not_keep_back_the_trust_list_of_all)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	repo->refuse = "targets/det/";
	(void)run_is(MFS_NET_TIMEOUT, NULL);
	active_is("1.1.0");
	repo->refuse = NULL;
	(void)run();
	active_is("");
}

/* ---- trust.json ------------------------------------------------------------------------------------------------- */

static void
trust_publish(const struct mk_signer *s, const char *name)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	mfs_autofree char *json = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	cr_assert_eq(mfs_trustlist_new(&list, NULL), MFS_OK);
	if (s != NULL)
		cr_assert_eq(mfs_trustlist_add_pem(list, name, MFS_SPAN(mk_signer_pem(s), strlen(mk_signer_pem(s))), 1, NULL, &err),
			MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_trustlist_json(list, &json, &len, NULL), MFS_OK);
	mk_repo_target(repo, MK_TARGETS, "trust.json", json, len);
}

Test(refresh, a_key_of_trust_json_signs_until_it_is_gone_from_there)
{
	struct mk_signer *own = d.signer, *second = mk_signer_new();

	d.signer = second;
	(void)publish(1);
	d.signer = own;
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_KEY_UNTRUSTED, NULL);
	trust_publish(second, "second");
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.1.0");
	install_published();
	active_is("1.1.0");
	stop();
	keys_load(); /* a new process has the configuration's keys only */
	start();
	active_is("1.1.0");
	/* trust.json without it: the key is revoked, and what it signed goes at this refresh. */
	told = 0;
	trust_publish(NULL, NULL);
	mk_repo_commit(repo);
	(void)run();
	active_is("");
	cr_assert_eq(told, 1);
	stop();
	keys_load();
	start();
	active_is("");
	/* It is gone altogether: the last one stays in force. */
	mk_repo_target(repo, MK_TARGETS, "trust.json", NULL, 0);
	mk_repo_commit(repo);
	fresh_is(MFS_OK);
	(void)run_is(MFS_POLICY_REJECTED, "trust.json is gone");
	fresh_is(MFS_POLICY_REJECTED);
	stop();
	keys_load();
	start();
	fresh_is(MFS_POLICY_REJECTED);
	trust_publish(second, "second");
	mk_repo_commit(repo);
	(void)run();
	active_is("1.1.0");
	fresh_is(MFS_OK);
	mk_signer_free(second);
}

/* ---- time --------------------------------------------------------------------------------------------------------- */

Test(refresh, a_clock_set_back_does_not_make_old_metadata_fresh)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mk_repo_copy *old;

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	old = mk_repo_keep(repo);
	now = repo->now = NOW + 10 * DAY;
	policy_publish();
	repo->roles[MK_TARGETS].changed = repo->roles[release].changed = true;
	mk_repo_commit(repo);
	(void)run();
	target_is(MFS_OK, "1.1.0");
	now = NOW; /* the battery of the clock is empty */
	cr_assert_geq(mfs_refresh_now(refresh), NOW + 10 * DAY, "never behind what was signed");
	(void)run_is(MFS_CLOCK_UNSET, "2027");
	cr_assert_eq(mfs_refresh_clock(refresh, &err), MFS_CLOCK_UNSET);
	target_is(MFS_CLOCK_UNSET, NULL);
	restart();
	cr_assert_geq(mfs_refresh_now(refresh), NOW + 10 * DAY, "after a restart neither");
	now = 5;
	(void)run_is(MFS_CLOCK_UNSET, NULL);
	/* A revocation takes effect all the same. */
	install_published();
	active_is("1.1.0");
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run_is(MFS_CLOCK_UNSET, NULL);
	active_is("");
	mk_repo_copy_free(old);
}

Test(refresh, a_clock_set_forward_stops_activations_until_it_is_right_again)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	now = NOW + 3000 * DAY;
	(void)run_is(MFS_METADATA_EXPIRED, NULL);
	target_is(MFS_OK, "1.1.0");
	active_is("1.1.0");
	now = NOW + 60;
	(void)run();
	cr_assert_lt(mfs_refresh_now(refresh), NOW + DAY, "nothing remembers the wrong clock");
}

Test(refresh, a_policy_cannot_push_the_time_beyond_the_life_of_its_timestamp)
{
	char *json;
	size_t len;

	policy->sequence++;
	policy->issued = NOW + 5000LL * DAY;
	cr_assert_eq(mfs_policy_json(policy, &json, &len, NULL), MFS_OK);
	mk_repo_target(repo, release + 1, "det/policy.json", json, len);
	free(json);
	mk_repo_commit(repo);
	(void)run_is(MFS_CLOCK_UNSET, NULL);
	cr_assert_leq(mfs_refresh_now(refresh), NOW + DAY + 5);
	/* A new timestamp key takes even that back. */
	policy->issued = NOW;
	policy_publish();
	mk_repo_rotate(repo, MK_TIMESTAMP);
	mk_repo_commit(repo);
	(void)run_is(MFS_METADATA_EXPIRED, NULL); /* this run still goes by the pushed time */
	now = repo->now = NOW + 2 * DAY;
	for (size_t k = MK_TARGETS; k < repo->n_roles; k++)
		repo->roles[k].changed = true;
	mk_repo_commit(repo);
	(void)run();
}

Test(refresh, before_the_first_refresh_the_time_is_at_least_that_of_the_build)
{
	now = 100;
	cr_assert_gt(mfs_refresh_now(refresh), 1700000000);
	cr_assert_eq(mfs_refresh_clock(refresh, NULL), MFS_CLOCK_UNSET);
}

/* ---- stale: stop --------------------------------------------------------------------------------------------------- */

static void
setup_stop(void)
{
	setup_with("");
	d.config->update.stale = MFS_STALE_STOP; /* `update` is in the fixture's configuration already */
	restart();
}

Test(refresh_stop, expired_metadata_hides_the_model_until_fresh_metadata_comes, .init = setup_stop, .fini = teardown)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	active_is("");
	(void)run();
	install_published();
	active_is("1.1.0");
	now += 2 * DAY;
	(void)mfs_refresh_tick(refresh);
	active_is("");
	restart();
	active_is("");
	repo->now = now;
	for (size_t k = MK_TARGETS; k < repo->n_roles; k++)
		repo->roles[k].changed = true;
	mk_repo_commit(repo);
	(void)run();
	active_is("1.1.0");
}

/* ---- an offline host may extend what a timestamp says ---------------------------------------------------------------- */

static void
setup_grace(void)
{
	setup_with("");
	d.config->update.expired_grace_ms = 30LL * DAY * 1000;
	restart();
}

Test(refresh_grace, an_expired_timestamp_is_accepted_and_expired_targets_are_not, .init = setup_grace, .fini = teardown)
{
	now += 25 * DAY;
	(void)run();
	now += 340 * DAY;
	repo->now = now - DAY;
	mk_repo_commit(repo); /* the timestamp is within its grace, what it leads to is not */
	(void)run_is(MFS_METADATA_EXPIRED, "root");
}

/* ---- many models ------------------------------------------------------------------------------------------------------ */

#define MANY 1000
/* Of memory; a sanitizer keeps what was freed and pads what was not. */
#if defined(__SANITIZE_ADDRESS__)
#define MANY_KIB (400 * 1024)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MANY_KIB (400 * 1024)
#endif
#endif
#ifndef MANY_KIB
#define MANY_KIB (100 * 1024)
#endif

static long
status_kib(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long v = -1;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			v = strtol(line + strlen(field), NULL, 10);
	(void)fclose(f);
	return v;
}

static void
setup_many(void)
{
	struct mfs_span root;

	now = NOW;
	repo = mk_repo_new(NOW);
	for (unsigned i = 0; i < MANY; i++) {
		char id[16], path[32], *json;
		struct mfs_policy *p;
		size_t len, at;

		(void)snprintf(id, sizeof(id), "m%04u", i);
		at = mk_repo_model(repo, id);
		cr_assert_eq(mfs_policy_new(id, &p, NULL), MFS_OK);
		p->sequence = 1;
		p->issued = NOW;
		cr_assert_eq(mfs_policy_json(p, &json, &len, NULL), MFS_OK);
		(void)snprintf(path, sizeof(path), "%s/policy.json", id);
		mk_repo_target(repo, at + 1, path, json, len);
		free(json);
		mfs_policy_free(p);
	}
	repo->roles[MK_ROOT].changed = true;
	mk_repo_commit(repo);
	device_make(&d, "repositories: {default: {url: \"file:///r\", root: root.json}}\ndevice: {id: dev-1}\n");
	/* The fixture's two models, and a thousand more. */
	d.config->models = reallocarray(d.config->models, d.config->n_models + MANY, sizeof(*d.config->models));
	cr_assert_not_null(d.config->models);
	for (unsigned i = 0; i < MANY; i++) {
		struct mfs_config_model *m = &d.config->models[d.config->n_models++];

		*m = (struct mfs_config_model){ .repo = 0, .file_mode = 0444, .dir_mode = 0555 };
		cr_assert(asprintf(&m->id, "m%04u", i) > 0);
		m->model_id = strdup(m->id);
	}
	d.config->models[0].repo = d.config->models[1].repo = -1;
	cr_assert(mk_repo_file(repo, "metadata/1.root.json", &root));
	scratch_write(d.root_fd, "root.json", root.p, root.len);
	keys_load();
	start();
}

static void
teardown_many(void)
{
	stop();
	mk_repo_free(repo);
	device_free(&d);
}

Test(refresh_many, a_thousand_models_are_refreshed_in_little_memory_and_few_writes, .init = setup_many, .fini = teardown_many)
{
	struct mfs_refresh_result res;
	char detail[256];
	long before, threads = status_kib("Threads:");
	FILE *f;

	f = fopen("/proc/self/clear_refs", "w"); /* the high-water mark starts anew */
	cr_assert(f != NULL && fputs("5", f) >= 0 && fclose(f) == 0);
	before = status_kib("VmRSS:");
	res = run();
	cr_assert_gt(res.requests, 2 * MANY);
	for (size_t i = 2; i < d.config->n_models; i++)
		cr_assert_eq(mfs_refresh_policy_state(refresh, i, detail), MFS_OK, "%s", detail);
	cr_assert_lt(status_kib("VmHWM:") - before, MANY_KIB);
	res = run();
	cr_assert_eq(res.requests, 2);
	/* A new process looks at all of them again, from what is stored. */
	restart();
	res = run();
	cr_assert_eq(res.requests, 2);
	cr_assert_eq(res.received, 0);
	cr_assert_lt(status_kib("VmHWM:") - before, MANY_KIB, "%ld KiB", status_kib("VmHWM:") - before);
	cr_assert_eq(status_kib("Threads:"), threads, "no thread for a model");
}

/* ---- power cuts ----------------------------------------------------------------------------------------------------------- */

/*
 * A crash after the anchor was written, before the files got their own names: what is under the new name may be the
 * only copy, and the next run writes under that name. What no anchor ever named goes.
 */
Test(refresh, what_a_crash_left_under_new_names_is_kept_or_goes)
{
	static const char *const names[] = { "policy/det.json", "tuf/default/root.json", "tuf/default/snapshot.json",
		"tuf/default/targets.json" };
	char path[64];

	(void)run();
	stop();
	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		(void)snprintf(path, sizeof(path), "%s.new", names[k]);
		cr_assert_eq(renameat(d.state_fd, names[k], d.state_fd, path), 0);
		scratch_write(d.state_fd, names[k], "older", 5);
	}
	start();
	(void)run();
	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		struct stat st;

		(void)snprintf(path, sizeof(path), "%s.new", names[k]);
		cr_assert_neq(faccessat(d.state_fd, path, F_OK, 0), 0, "%s is left", path);
		cr_assert(fstatat(d.state_fd, names[k], &st, 0) == 0 && st.st_size > 5, "%s is the older one", names[k]);
		scratch_write(d.state_fd, path, "of a run that was cut off", 25);
	}
	restart();
	cr_assert_eq(run().requests, 2);
	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		(void)snprintf(path, sizeof(path), "%s.new", names[k]);
		cr_assert_neq(faccessat(d.state_fd, path, F_OK, 0), 0, "%s is left", path);
	}
}

static int
refresh_in_child(void *arg)
{
	(void)arg;
	start();
	if (mfs_refresh_run(refresh, 0, NULL, NULL, NULL, NULL) != MFS_OK)
		return 1;
	stop();
	return 0;
}

/*
 * A run that brings a new root, new keys of timestamp and snapshot, and a revocation is cut at every third of its steps:
 * afterwards the old version is active or the new state of things is, the floors never fell, and the next run
 * succeeds.
 */
Test(refresh, a_cut_at_any_step_leaves_a_set_that_fits)
{
	bool seen[2] = { false, false };

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	for (unsigned n = 1; n < 6000; n += 3) {
		struct mfs_refresh_status s;
		struct mk_repo_copy *kept;
		int64_t before;
		enum cut_result r;

		if (n > 1) { /* a fresh device, and the publisher's first two versions */
			stop();
			mfs_policy_free(policy);
			mk_repo_free(repo);
			device_free(&d);
			setup_with("");
			(void)publish(1);
			policy_publish();
			mk_repo_commit(repo);
		}
		(void)run();
		install_published();
		mfs_refresh_status(refresh, 0, &s);
		before = s.roles[MFS_ROLE_SNAPSHOT].version;
		stop();
		mk_repo_rotate(repo, MK_SNAPSHOT);
		mk_repo_commit(repo);
		revoked("1.1.0", MFS_ACTION_WITHDRAW);
		kept = mk_repo_keep(repo);
		r = cut_run(refresh_in_child, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		start();
		mfs_refresh_status(refresh, 0, &s);
		/* 0: its key was taken away, and versions start anew */
		cr_assert(s.roles[MFS_ROLE_SNAPSHOT].version == 0 || s.roles[MFS_ROLE_SNAPSHOT].version >= before, "cut %u", n);
		{
			struct mfs_engine_model m;

			cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
			cr_assert(m.n > 0 ? m.versions[0].active : m.absent == MFS_REVOKED, "cut %u: %s", n, m.absent_detail);
			seen[m.n > 0 && m.versions[0].active] = true;
			mfs_engine_model_free(&m);
		}
		(void)run();
		active_is("");
		cr_assert_eq(run().requests, 2);
		mk_repo_copy_free(kept);
		if (r == CUT_FINISHED) {
			cr_assert(seen[0] && seen[1]);
			return;
		}
	}
	cr_assert_fail("it never finished");
}
