/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh when the state's disk is full: what a repository forbids acts, what it brings waits, nothing is lost. */
#include <sys/mount.h>

#include "refresh_help.h"

static void
full_setup(void)
{
	setup();
	stop();
	if (!device_small_state(&d, "size=2m,nr_inodes=200"))
		cr_skip("mounting a tmpfs needs root: a full disk cannot be made");
	start();
	cr_assert(mfs_engine_reserve_fill(d.engine, true));
}

static void
full_teardown(void)
{
	stop();
	device_small_state_end(&d);
	teardown();
}

TestSuite(refresh_full, .init = full_setup, .fini = full_teardown);

static void
disk_fill(void)
{
	static const char zeros[4096];
	int fd = openat(d.state_fd, "filler", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	cr_assert_eq(errno, ENOSPC);
	(void)close(fd);
}

/* The reserve too, as if it had been used up. */
static void
disk_fill_beyond(void)
{
	cr_assert_eq(mfs_remove_all(d.state_fd, "reserve"), 0);
	disk_fill();
}

static void
room(void)
{
	cr_assert_eq(unlinkat(d.state_fd, "filler", 0), 0);
}

static int memory = -1; /* keeper's */

/* A new process finds what is on the disk, and what keeper has. */
static void
again(void)
{
	stop();
	mfs_held_close(d.held);
	d.held = NULL;
	if (memory >= 0)
		cr_assert_eq(mfs_held_open(memory, &d.held, NULL), MFS_OK);
	start();
	(void)mfs_engine_reserve_fill(d.engine, true);
}

static void
keeper_lives(void)
{
	cr_assert_eq(mfs_held_make(&memory, NULL), MFS_OK);
	again();
}

static void
keeper_ends(void)
{
	stop();
	mfs_held_close(d.held);
	d.held = NULL;
	(void)close(memory);
	memory = -1;
	start();
}

static bool
said(const char *word)
{
	mfs_autofree char *text = NULL;
	size_t len;

	cr_assert_eq(mfs_events_render(d.events, NULL, 1 << 20, &text, &len, NULL), MFS_OK);
	return strstr(text, word) != NULL;
}

/* Releases 1 to n are published, and the last one is active. */
static void
lived(int64_t n)
{
	for (int64_t i = 1; i <= n; i++) {
		(void)publish(i);
		policy_publish();
		mk_repo_commit(repo);
		(void)run();
		install_published();
	}
	told = 0;
}

static int64_t
floor_of(void)
{
	struct mfs_engine_model m;
	int64_t at;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
	at = m.floor_release;
	mfs_engine_model_free(&m);
	return at;
}

/* ---- with the reserve ------------------------------------------------------------------------------------ */

Test(refresh_full, a_revocation_is_written_with_the_reserve)
{
	lived(1);
	disk_fill();
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run();
	active_is("");
	cr_assert_eq(told, 1);
	restart();
	active_is("");
	(void)run();
	active_is("");
}

Test(refresh_full, a_rollback_is_written_with_the_reserve_and_the_floor_stays)
{
	lived(2);
	disk_fill();
	revoked("1.2.0", MFS_ACTION_ROLLBACK);
	(void)run();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
	restart();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
}

Test(refresh_full, many_revocations_in_a_row_do_not_wear_the_reserve_out)
{
	struct mfs_engine_state s;

	lived(2);
	disk_fill();
	for (int k = 0; k < 8; k++) {
		revoked("1.2.0", k % 2 == 0 ? MFS_ACTION_ROLLBACK : MFS_ACTION_STOP);
		(void)run();
	}
	active_is("1.1.0");
	mfs_engine_state_facts(d.engine, &s);
	cr_assert(s.kept);
	cr_assert_gt(s.reserve, 64u << 10, "%llu", (unsigned long long)s.reserve);
	restart();
	active_is("1.1.0");
}

/* ---- beyond it ------------------------------------------------------------------------------------------- */

Test(refresh_full, a_revocation_acts_from_memory_and_is_written_once_there_is_room)
{
	lived(1);
	disk_fill_beyond();
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, "revocations act all the same");
	active_is("");
	cr_assert_eq(told, 1);
	cr_assert(said("from memory alone"));
	(void)run_is(MFS_INSUFFICIENT_STORAGE, "make room on the disk that holds");
	active_is("");
	cr_assert(!mfs_engine_written(d.engine));
	/* After a restart of the host no worse than the disk is: the first check brings it again. */
	again();
	active_is("1.1.0");
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("");
	/* What forbids is written by itself; the policy as it stands with the next check. */
	room();
	cr_assert(mfs_engine_written(d.engine));
	again();
	active_is("");
	(void)run();
	active_is("");
	fresh_is(MFS_OK);
	again();
	active_is("");
}

Test(refresh_full, a_rollback_goes_back_from_memory)
{
	lived(2);
	disk_fill_beyond();
	revoked("1.2.0", MFS_ACTION_ROLLBACK);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
	room();
	(void)run();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
	again();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
}

Test(refresh_full, a_stop_keeps_a_version_away_from_memory)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	lived(1);
	(void)publish(2);
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	disk_fill_beyond();
	revoked("1.2.0", MFS_ACTION_STOP);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_REVOKED, "%s", err.msg);
	active_is("1.1.0");
	/* Written together with whatever is written first. */
	room();
	cr_assert_eq(device_activate(&d, &id, &err), MFS_REVOKED, "%s", err.msg);
	cr_assert(mfs_engine_written(d.engine));
	again();
	cr_assert_eq(device_activate(&d, &id, &err), MFS_REVOKED, "%s", err.msg);
}

Test(refresh_full, a_lifted_revocation_waits_for_the_disk)
{
	lived(1);
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run();
	active_is("");
	disk_fill_beyond();
	cr_assert_eq(mfs_policy_unrevoke(policy, NULL, "1.1.0"), 1);
	policy_publish();
	mk_repo_commit(repo);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("");
	room();
	cr_assert(mfs_engine_written(d.engine));
	active_is("");
	(void)run();
	active_is("1.1.0");
	again();
	active_is("1.1.0");
}

Test(refresh_full, nothing_new_is_activated_before_everything_is_written)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	lived(1);
	disk_fill_beyond();
	(void)publish(2);
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	policy_publish();
	mk_repo_commit(repo);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	target_is(MFS_INSUFFICIENT_STORAGE, "nothing new is activated");
	cr_assert_eq(mfs_engine_room(d.engine, 0, &err), MFS_INSUFFICIENT_STORAGE);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 1);
	room();
	(void)run();
	target_is(MFS_OK, "1.2.0");
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	active_is("1.2.0");
	cr_assert_eq(floor_of(), 2);
}

Test(refresh_full, while_the_reserve_is_used_nothing_new_is_activated)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	lived(1);
	(void)publish(2);
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	disk_fill();
	policy_publish();
	mk_repo_commit(repo);
	(void)run();
	cr_assert_eq(device_activate(&d, &id, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	active_is("1.1.0");
	room();
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	active_is("1.2.0");
}

/* ---- and serve crashes ------------------------------------------------------------------------------------------- */

static struct mfs_engine_model
model(void)
{
	struct mfs_engine_model m;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
	mfs_engine_model_free(&m); /* of it only plain fields are looked at */
	return m;
}

static bool
unwritten(const char *word)
{
	struct mfs_engine_state s;

	mfs_engine_state_facts(d.engine, &s);
	return strstr(s.unwritten, word) != NULL;
}

Test(refresh_full, a_crash_brings_nothing_back_that_was_withdrawn_from_memory)
{
	keeper_lives();
	lived(1);
	cr_assert(!mfs_engine_took_over(d.engine));
	disk_fill_beyond();
	revoked("1.1.0", MFS_ACTION_WITHDRAW);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	for (int k = 0; k < 3; k++) {
		again();
		active_is("");
		cr_assert(mfs_engine_took_over(d.engine));
		cr_assert(unwritten("from memory alone"));
		cr_assert(!mfs_engine_written(d.engine));
		cr_assert(unwritten("No space left"));
		cr_assert(said("since the serve before this one"));
	}
	/* Room came while nothing ran: it is written before anybody asks a repository. */
	room();
	again();
	active_is("");
	cr_assert(mfs_engine_written(d.engine));
	cr_assert(unwritten(""));
	cr_assert(mfs_held_empty(memory));
	keeper_ends();
	active_is("");
	cr_assert(!mfs_engine_took_over(d.engine));
	(void)run();
	active_is("");
	fresh_is(MFS_OK);
}

Test(refresh_full, a_crash_goes_on_where_it_went_back_to)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model before, after;
	char from[MFS_VERSION_MAX + 1];
	bool moved;

	keeper_lives();
	lived(2);
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.2.0", &moved, from, from, &err), MFS_OK, "%s", err.msg);
	disk_fill_beyond();
	revoked("1.2.0", MFS_ACTION_ROLLBACK);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("1.1.0");
	before = model();
	cr_assert_str_eq(before.update.pin, "");
	again();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
	/* `generation` never goes back, nor does the wish to stay come back. */
	after = model();
	cr_assert_eq(after.generation, before.generation);
	cr_assert_eq(after.active_since, before.active_since);
	cr_assert_str_eq(after.update.pin, "");
	/* Written by the check itself. */
	room();
	(void)run();
	cr_assert(mfs_held_empty(memory));
	keeper_ends();
	active_is("1.1.0");
	cr_assert_eq(floor_of(), 2);
}

/* What it went back to is lost too: then there is nothing, and not the revoked version again. */
Test(refresh_full, a_crash_with_a_damaged_store_shows_no_revoked_version)
{
	struct mfs_sha256 second, first;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	char path[200];

	keeper_lives();
	lived(2);
	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
	cr_assert_eq(m.n, 2);
	second = m.versions[0].v->m->id;
	first = m.versions[1].v->m->id;
	mfs_engine_model_free(&m);
	cr_assert(!mfs_sha256_equal(&first, &second));
	disk_fill_beyond();
	revoked("1.2.0", MFS_ACTION_ROLLBACK);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("1.1.0");
	(void)snprintf(path, sizeof(path), "manifests/%s", MFS_HEX(&first));
	cr_assert_eq(mfs_remove_all(d.state_fd, path), 0);
	cr_assert_eq(mfs_remove_all(d.store_fd, path), 0);
	disk_fill(); /* what that gave back */
	again();
	active_is("");
	cr_assert_eq(mfs_engine_room(d.engine, 0, &err), MFS_INSUFFICIENT_STORAGE);
}

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static void
trust_publish(const struct mk_signer *s)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	mfs_autofree char *json = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	cr_assert_eq(mfs_trustlist_new(&list, NULL), MFS_OK);
	if (s != NULL)
		cr_assert_eq(mfs_trustlist_add_pem(list, "key", MFS_SPAN(mk_signer_pem(s), strlen(mk_signer_pem(s))), 1, NULL, &err),
			MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_trustlist_json(list, &json, &len, NULL), MFS_OK);
	mk_repo_target(repo, MK_TARGETS, "trust.json", json, len);
	mk_repo_commit(repo);
}

Test(refresh_full, a_key_that_is_taken_away_goes_and_one_that_comes_waits)
{
	struct mk_signer *own = d.signer, *second = mk_signer_new(), *third = mk_signer_new();
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	d.signer = second;
	trust_publish(second);
	lived(1);
	d.signer = third;
	(void)publish(2);
	d.signer = own;
	disk_fill_beyond();
	trust_publish(third);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("");
	cr_assert_eq(told, 1);
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	/* Also when there is room, but nothing written yet. */
	room();
	cr_assert_eq(device_activate(&d, &id, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	(void)run();
	active_is("");
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	restart();
	active_is("1.2.0");
	mk_signer_free(second);
	mk_signer_free(third);
}

Test(refresh_full, a_crash_brings_no_key_back_that_was_taken_away)
{
	struct mk_signer *own = d.signer, *second = mk_signer_new(), *third = mk_signer_new();
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	keeper_lives();
	d.signer = second;
	trust_publish(second);
	lived(1);
	d.signer = third;
	(void)publish(2);
	d.signer = own;
	disk_fill_beyond();
	trust_publish(third);
	(void)run_is(MFS_INSUFFICIENT_STORAGE, NULL);
	active_is("");
	again();
	active_is("");
	/* One that comes waits for the check that writes it. */
	room();
	cr_assert(mfs_engine_written(d.engine));
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_KEY_UNTRUSTED, "%s", err.msg);
	again();
	active_is("");
	(void)run();
	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	keeper_ends();
	active_is("");
	mk_signer_free(second);
	mk_signer_free(third);
}

/* ---- every point of the write fails ---------------------------------------------------------------------- */

static void
room_of(unsigned blocks)
{
	int fd = openat(d.state_fd, "filler", O_WRONLY | O_CLOEXEC);
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(ftruncate(fd, st.st_size - (off_t)blocks * 4096), 0);
	(void)close(fd);
}

/* However much is left: it acts, it is on the disk or said not to be, and with room it is. */
Test(refresh_points, wherever_the_room_ends_it_acts)
{
	unsigned written = 0, unwritten = 0;

	for (unsigned blocks = 0; blocks < 12; blocks++) {
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_refresh_result res;
		enum mfs_code code;

		full_setup();
		keeper_lives();
		lived(2);
		disk_fill_beyond();
		revoked("1.2.0", MFS_ACTION_ROLLBACK);
		room_of(blocks);
		code = mfs_refresh_run(refresh, 0, NULL, NULL, &res, &err);
		cr_assert(code == MFS_OK || code == MFS_INSUFFICIENT_STORAGE, "%u: %s: %s", blocks, mfs_code_name(code), err.msg);
		written += code == MFS_OK;
		unwritten += code != MFS_OK;
		active_is("1.1.0");
		cr_assert_eq(floor_of(), 2);
		again();
		active_is("1.1.0");
		room();
		(void)run();
		active_is("1.1.0");
		again();
		active_is("1.1.0");
		cr_assert_eq(floor_of(), 2);
		(void)run();
		fresh_is(MFS_OK);
		cr_assert(mfs_held_empty(memory));
		keeper_ends();
		full_teardown();
	}
	cr_assert(written > 0 && unwritten > 0, "%u written, %u not: this looked at one side only", written, unwritten);
}
