/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh: what a repository says becomes trusted state; policies, trust.json, power cuts. */
#include "refresh_help.h"

TestSuite(refresh, .init = setup, .fini = teardown);

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

/* A thousand models that follow a repository ask for its timestamp once, not a thousand times. */
Test(refresh, the_models_of_a_pass_share_one_run)
{
	unsigned before;

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	mfs_refresh_pass(refresh, 0, true);
	(void)run();
	before = repo->not_modified;
	for (int k = 0; k < 3; k++)
		target_is(MFS_OK, "1.1.0");
	cr_assert_eq(repo->not_modified, before, "asked again %u times", repo->not_modified - before);
	mfs_refresh_pass(refresh, 0, false);
	target_is(MFS_OK, "1.1.0");
	cr_assert_eq(repo->not_modified, before + 1, "a run of its own");
	/* Roles that came in the pass are stored: a restart fetches them no more. */
	restart();
	cr_assert_eq(run().requests, 2);
}

Test(refresh, a_shared_run_ends_with_trouble_or_another_run)
{
	unsigned before;

	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	mfs_refresh_pass(refresh, 0, true);
	(void)run();
	repo->offline = true;
	target_is(MFS_NET_RESOLVE, NULL); /* its release role */
	repo->offline = false;
	before = repo->not_modified;
	target_is(MFS_OK, "1.1.0");
	cr_assert_eq(repo->not_modified, before + 1, "after trouble it begins anew");
	/* Another run in the pass: what it brings counts, not what the one before knew. */
	revoked("1.1.0", MFS_ACTION_STOP);
	(void)run();
	target_is(MFS_NOT_SELECTED, "revoked");
	mfs_refresh_pass(refresh, 0, false);
}

/* Metadata that expires while the models are asked one after the other activates nothing more. */
Test(refresh, a_shared_run_does_not_outlive_its_metadata)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	mfs_refresh_pass(refresh, 0, true);
	(void)run();
	target_is(MFS_OK, "1.1.0");
	now += INT64_C(400) * 86400;
	target_is(MFS_METADATA_EXPIRED, NULL);
	mfs_refresh_pass(refresh, 0, false);
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

/* det's revocation came whole; the server then says nothing of seg's policy. */
Test(refresh, one_models_policy_that_does_not_come_keeps_no_other_from_its_revocation)
{
	struct mfs_policy *other;
	size_t seg = mk_repo_model(repo, "seg"), len;
	char *json;

	cr_assert_eq(mfs_policy_new("seg", &other, NULL), MFS_OK);
	other->sequence = 1;
	other->issued = repo->now;
	cr_assert_eq(mfs_policy_json(other, &json, &len, NULL), MFS_OK);
	mk_repo_target(repo, seg + 1, "seg/policy.json", json, len);
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	repo->roles[seg + 1].changed = true;
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	repo->refuse = "policy.seg";
	(void)run_is(MFS_NET_TIMEOUT, NULL);
	active_is("");
	repo->refuse = NULL;
	(void)run();
	active_is("");
	free(json);
	mfs_policy_free(other);
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
