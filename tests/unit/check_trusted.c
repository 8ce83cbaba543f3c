/* SPDX-License-Identifier: Apache-2.0 */
/* Trusted state: ordinary life, power cuts, what was deleted or damaged. */
#include "trusted_help.h"

TestSuite(trusted, .init = setup, .fini = teardown);

/* ---- ordinary life -------------------------------------------------------------------------------- */

Test(trusted, a_first_start_is_empty_and_commits_last)
{
	accepted(0);
	live(1);
	accepted(1);
	live(2);
	accepted(2);
	cr_assert(scratch_has(store, ".state-id"));
}

Test(trusted, several_commits_of_one_life)
{
	const int64_t releases[] = { 1, 2, 3, 4, 5 };

	cr_assert_eq(life(releases, 5), 0);
	accepted(5);
}

Test(trusted, reading_writes_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct device d;

	cr_assert_eq(device_open(&d, MFS_TRUSTED_READ, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_commit(&d, 1, &err), MFS_INTERNAL);
	cr_assert_eq(mfs_trusted_cycle_save(d.t, &err), MFS_INTERNAL);
	device_close(&d);
	cr_assert_eq(scratch_count(rootfd, "state"), 0);
	cr_assert_eq(scratch_count(rootfd, "store"), 0);
}

Test(trusted, another_state_key_opens_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_counter *c;
	struct mfs_trusted *t;

	live(3);
	cr_assert_eq(mfs_counter_open("file", state, &c, &err), MFS_OK);
	cr_assert_eq(mfs_trusted_open(state, store, &other_key, c, 0, &t, &err), MFS_SIGNATURE_INVALID, "%s", err.msg);
	cr_assert_null(t);
	cr_assert_not_null(strstr(err.msg, "anchor.0"));
	cr_assert_not_null(strstr(err.msg, "anchor.1"));
	mfs_counter_free(c);
}

Test(trusted, an_unknown_counter_is_no_file_counter)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_counter *c;

	cr_assert_eq(mfs_counter_open("tpm:0x01500010", state, &c, &err), MFS_CONFIG_INVALID);
	cr_assert_null(c);
}

/* ---- power cuts ------------------------------------------------------------------------------------- */

static int
life_commits_7(void *arg)
{
	int64_t release = 7;

	(void)arg;
	return life(&release, 1);
}

/* Cut at every system call of a life that commits 7 over `before`: one of both is there, whole, and goes on. */
static void
cut_everywhere(int64_t before)
{
	unsigned n;

	for (n = 1; n < 2000; n++) {
		enum cut_result r;
		struct mfs_err err;
		int64_t floor;

		folders_clear();
		folders_open();
		if (before > 0)
			live(before);
		r = cut_run(life_commits_7, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		floor = start(&err);
		cr_assert(floor == before || floor == 7, "cut %u: floor %" PRId64 ": %s", n, floor, err.msg);
		if (r == CUT_FINISHED)
			cr_assert_eq(floor, 7, "a reported commit was lost");
		/* What was found stays, and the next life goes on from it. */
		accepted(floor);
		live(8);
		accepted(8);
		if (r == CUT_FINISHED)
			break;
	}
	cr_assert(n > 40, "only %u cuts", n);
	cr_assert(n < 2000);
}

Test(trusted, a_cut_at_any_step_leaves_the_old_or_the_new_anchor)
{
	cut_everywhere(5);
}

Test(trusted, a_cut_at_any_step_of_the_first_start)
{
	cut_everywhere(0);
}

/* Every copy is on disk before it gets its name, the name before the counter moves, the counter before the rest. */
Test(trusted, a_commit_reaches_the_disk_in_order)
{
	/* The present anchor as c + 1 and its second copy, then the change: file, name, counter, second copy. */
	static const char one[] = "wfrf" "pf" "wfrf";
	struct cut_steps s = { { 0 }, 0 };
	char want[64];

	live(5);
	if (cut_trace(life_commits_7, NULL, cut_step, &s) == CUT_UNAVAILABLE)
		cr_skip("ptrace is not permitted: the order of writes cannot be seen");
	(void)snprintf(want, sizeof(want), "%s%s", one, one);
	cr_assert_str_eq(s.text, want);
}

Test(trusted, a_cut_at_any_step_of_recover_is_refused_or_recovered)
{
	for (unsigned n = 1; n < 2000; n++) {
		enum cut_result r;
		struct mfs_err err;
		int64_t floor;

		folders_clear();
		folders_open();
		live(5);
		(void)unlinkat(state, "counter", 0);
		r = cut_run(life_recovers, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		floor = start(&err);
		cr_assert(floor == 5 || (floor == -1 && err.code == MFS_STATE_REPLAYED), "cut %u: %" PRId64 " %s", n, floor,
			err.msg);
		cr_assert_eq(life_recovers(NULL), 0);
		accepted(5);
		if (r == CUT_FINISHED)
			return;
	}
	cr_assert_fail("it never finished");
}

/* A torn write of the counter: any prefix of the new slot over the old one. */
Test(trusted, a_torn_counter_is_the_old_or_the_new_value)
{
	struct kept before, after;

	live(5);
	before = keep("counter");
	live(6);
	after = keep("counter");
	for (size_t at = 0; at < after.n; at++) {
		mfs_autofree uint8_t *torn = malloc(after.n);
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_counter *c;
		uint64_t v = 0, v_before = 0, v_after = 0;
		bool absent;

		/* One slot at a time is written. */
		if (memcmp(before.bytes + at, after.bytes + at, 1) == 0)
			continue;
		memcpy(torn, before.bytes, before.n);
		memcpy(torn + (at / 4096) * 4096, after.bytes + (at / 4096) * 4096, at % 4096);
		cr_assert_eq(mfs_counter_open("file", state, &c, &err), MFS_OK);
		replay("counter", before);
		cr_assert_eq(c->read(c, &v_before, &absent, &err), MFS_OK);
		replay("counter", after);
		cr_assert_eq(c->read(c, &v_after, &absent, &err), MFS_OK);
		scratch_write(state, "counter", torn, before.n);
		cr_assert_eq(c->read(c, &v, &absent, &err), MFS_OK, "torn at %zu: %s", at, err.msg);
		cr_assert(v >= v_before - 1 && v <= v_after, "torn at %zu: %" PRIu64, at, v);
		mfs_counter_free(c);
	}
	free(before.bytes);
	free(after.bytes);
}

/* ---- deletion ------------------------------------------------------------------------------------------ */

Test(trusted, a_deleted_copy_is_tolerated)
{
	live(5);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	accepted(5);
	live(6);
	cr_assert(scratch_has(state, "anchor.0"));
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	accepted(6);
}

Test(trusted, both_copies_deleted_are_refused)
{
	live(5);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	refused(MFS_STATE_REPLAYED, "anchor.0 and anchor.1 are missing");
}

Test(trusted, a_deleted_counter_is_refused)
{
	live(5);
	cr_assert_eq(unlinkat(state, "counter", 0), 0);
	refused(MFS_STATE_REPLAYED, "state/counter: missing");
}

Test(trusted, an_unreadable_counter_is_refused)
{
	uint8_t zero[8192] = { 0 };

	live(5);
	scratch_write(state, "counter", zero, sizeof(zero));
	refused(MFS_COUNTER_UNAVAILABLE, "state/counter");
	scratch_write(state, "counter", zero, 0);
	refused(MFS_COUNTER_UNAVAILABLE, "state/counter");
}

Test(trusted, a_deleted_state_beside_its_store_is_no_first_start)
{
	live(5);
	(void)close(state);
	{
		char path[300];

		(void)snprintf(path, sizeof(path), "%s/state", root);
		scratch_remove(path);
	}
	state = scratch_folder(rootfd, "state");
	refused(MFS_STATE_REPLAYED, "store/.state-id");
}

Test(trusted, a_deleted_store_is_fine)
{
	struct mfs_err err;

	live(5);
	cr_assert_eq(unlinkat(store, ".state-id", 0), 0);
	cr_assert_eq(start(&err), 5, "%s", err.msg);
	cr_assert(scratch_has(store, ".state-id"), "the mark was not written again");
}

Test(trusted, a_missing_state_key_beside_a_state_is_refused)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct stat st;

	cr_assert_eq(mfs_state_key_create(state, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(fstatat(state, "key", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_size, 32);
	live(5);
	cr_assert_eq(mfs_state_key_create(state, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(unlinkat(state, "key", 0), 0);
	cr_assert_eq(mfs_state_key_create(state, &err), MFS_STATE_REPLAYED);
	cr_assert_not_null(strstr(err.msg, "state/key"));
	cr_assert(!scratch_has(state, "key"));
	cr_assert_eq(mfs_state_key_renew(state, &err), MFS_OK);
	cr_assert(scratch_has(state, "key"));
}

/* ---- damage -------------------------------------------------------------------------------------------- */

Test(trusted, a_flipped_bit_in_one_copy_is_tolerated_in_both_refused)
{
	struct kept a, b;

	live(5);
	a = keep("anchor.0");
	b = keep("anchor.1");
	for (size_t i = 0; i < a.n; i++) {
		uint8_t bit = (uint8_t)(1u << (i % 8));
		struct mfs_err err;

		a.bytes[i] ^= bit;
		replay("anchor.0", a);
		replay("anchor.1", b);
		accepted(5);
		replay("anchor.1", a);
		cr_assert_eq(start(&err), -1, "byte %zu accepted in both copies", i);
		cr_assert(err.code == MFS_MALFORMED || err.code == MFS_SIGNATURE_INVALID || err.code == MFS_LIMIT_EXCEEDED,
			"byte %zu: %s", i, mfs_code_name(err.code));
		cr_assert_not_null(strstr(err.msg, "anchor.0"), "%s", err.msg);
		cr_assert_not_null(strstr(err.msg, "anchor.1"), "%s", err.msg);
		cr_assert_not_null(strstr(err.msg, "modelfs recover"), "%s", err.msg);
		a.bytes[i] ^= bit;
	}
	free(a.bytes);
	free(b.bytes);
}

Test(trusted, a_copy_cut_at_any_length_is_tolerated_in_both_refused)
{
	struct kept a, b;
	size_t whole;

	live(5);
	a = keep("anchor.0");
	b = keep("anchor.1");
	whole = a.n;
	for (a.n = 0; a.n < whole; a.n++) {
		struct mfs_err err;

		replay("anchor.0", a);
		replay("anchor.1", b);
		accepted(5);
		replay("anchor.1", a);
		cr_assert_eq(start(&err), -1, "%zu bytes accepted", a.n);
	}
	free(a.bytes);
	free(b.bytes);
}

Test(trusted, links_and_folders_in_the_place_of_a_copy_are_no_copy)
{
	struct kept a;

	live(5);
	a = keep("anchor.0");
	scratch_write(state, "elsewhere", a.bytes, a.n);
	cr_assert_eq(unlinkat(state, "anchor.0", 0), 0);
	cr_assert_eq(unlinkat(state, "anchor.1", 0), 0);
	cr_assert_eq(symlinkat("elsewhere", state, "anchor.0"), 0);
	cr_assert_eq(mkdirat(state, "anchor.1", 0700), 0);
	refused(MFS_MALFORMED, "anchor.1");
	free(a.bytes);
}
