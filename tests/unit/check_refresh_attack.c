/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh against who holds the network, the mirror or the clock: freeze, rollback, foreign keys, time. */
#include "refresh_help.h"

TestSuite(refresh_attack, .init = setup, .fini = teardown);

/* ---- freeze ---------------------------------------------------------------------------------------------- */

Test(refresh_attack, a_frozen_repository_stops_activations_once_its_timestamp_expires_and_nothing_else)
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
	(void)run_is(MFS_ROLLBACK_ATTEMPT, NULL); /* its ETag is not that of what is stored */
	/* Not even with everything stored gone: the floors are in anchor and cycle. */
	stop();
	cr_assert_eq(mfs_remove_all(d.state_fd, "tuf"), 0);
	start();
	(void)run_is(MFS_ROLLBACK_ATTEMPT, NULL);
	cr_assert_eq(mfs_refresh_policy_state(refresh, 0, detail), MFS_OK, "%s", detail);
}

Test(refresh_attack, an_older_timestamp_is_refused)
{
	rollback_of(MK_TIMESTAMP);
}

Test(refresh_attack, an_older_snapshot_is_refused)
{
	rollback_of(MK_SNAPSHOT);
}

Test(refresh_attack, older_targets_are_refused)
{
	rollback_of(MK_TARGETS);
}

Test(refresh_attack, a_root_that_is_older_than_the_trusted_one_leads_nowhere)
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

Test(refresh_attack, a_stored_file_that_the_anchor_does_not_name_is_fetched_again)
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

/* Whoever can sign roles could have any number of them stored: in the state's folder, and in memory at the next run. */
Test(refresh_attack, stored_roles_are_bounded)
{
	char name[64];
	struct stat st;
	uint64_t bytes = 0;

	(void)run();
	for (int i = 0; i < 20; i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "state/tuf/default/r%d.json", i);
		scratch_write(d.root_fd, name, "", 0);
		fd = openat(d.root_fd, name, O_RDWR | O_CLOEXEC);
		cr_assert(fd >= 0 && ftruncate(fd, i == 7 ? 100 << 20 : 4 << 20) == 0);
		(void)close(fd);
	}
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "state/tuf/default/r%d.json", i);
		bytes += fstatat(d.root_fd, name, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
	}
	cr_assert_leq(bytes, 64u << 20);
	cr_assert_gt(bytes, 0);
}

Test(refresh_attack, parts_of_two_versions_are_refused)
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

Test(refresh_attack, a_device_that_was_off_for_long_follows_every_root_rotation)
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

Test(refresh_attack, a_fast_forward_attack_is_undone_by_a_new_timestamp_key)
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

Test(refresh_attack, metadata_by_a_foreign_key_is_refused_and_a_new_root_before_it_stays)
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

/* ---- time --------------------------------------------------------------------------------------------------------- */

Test(refresh_attack, a_clock_set_back_does_not_make_old_metadata_fresh)
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

Test(refresh_attack, a_clock_set_forward_stops_activations_until_it_is_right_again)
{
	(void)publish(1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	install_published();
	now = NOW + 3000 * DAY;
	(void)run_is(MFS_METADATA_EXPIRED, NULL);
	now = NOW + 2 * DAY; /* the timestamp alone */
	policy_publish();
	mk_repo_commit(repo);
	(void)run_is(MFS_METADATA_EXPIRED, NULL);
	target_is(MFS_OK, "1.1.0");
	active_is("1.1.0");
	now = NOW + 60;
	cr_assert(run().news, "what came meanwhile is not passed over");
	cr_assert_lt(mfs_refresh_now(refresh), NOW + DAY, "nothing remembers the wrong clock");
}

Test(refresh_attack, a_policy_cannot_push_the_time_beyond_the_life_of_its_timestamp)
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
	(void)run();
	cr_assert_lt(mfs_refresh_now(refresh), NOW + DAY);
	now = repo->now = NOW + 2 * DAY;
	for (size_t k = MK_TARGETS; k < repo->n_roles; k++)
		repo->roles[k].changed = true;
	mk_repo_commit(repo);
	(void)run();
}

/* Who had the keys of timestamp and a policy could push the time beyond everything that is ever signed. */
Test(refresh_attack, a_new_timestamp_key_takes_a_stolen_time_back)
{
	char *json;
	size_t len;

	for (int k = 0; k < 2; k++) {
		policy->sequence++;
		policy->issued = NOW + 4999LL * DAY;
		cr_assert_eq(mfs_policy_json(policy, &json, &len, NULL), MFS_OK);
		mk_repo_target(repo, release + 1, "det/policy.json", json, len);
		free(json);
		repo->lifetime = 5000LL * DAY;
		mk_repo_commit(repo);
		repo->lifetime = DAY;
		(void)run_is(MFS_CLOCK_UNSET, NULL);
		cr_assert_geq(mfs_refresh_now(refresh), NOW + 4999LL * DAY);
		policy_publish();
		mk_repo_rotate(repo, MK_TIMESTAMP);
		for (size_t i = MK_TARGETS; i < repo->n_roles; i++)
			repo->roles[i].changed = true;
		mk_repo_commit(repo);
		if (k > 0) { /* the run that brings the root gets no further */
			repo->refuse = "snapshot.json";
			(void)run_is(MFS_NET_TIMEOUT, NULL);
			repo->refuse = NULL;
			restart();
		}
		(void)run();
		cr_assert_lt(mfs_refresh_now(refresh), NOW + DAY);
		restart();
		cr_assert_lt(mfs_refresh_now(refresh), NOW + DAY);
		(void)run();
	}
}

Test(refresh_attack, before_the_first_refresh_the_time_is_at_least_that_of_the_build)
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
