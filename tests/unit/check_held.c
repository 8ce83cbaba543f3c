/* SPDX-License-Identifier: Apache-2.0 */
/* What could not be written, in keeper's memory: the next process finds it, whatever was done to it, and it only takes away. */
#include "held_help.h"

TestSuite(held, .init = held_setup, .fini = held_teardown);

/* ---- from one process to the next ----------------------------------------------------------------------------------- */

Test(held, the_next_process_finds_what_could_not_be_written)
{
	lived();
	cr_assert(mfs_held_empty(mem));
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	cr_assert(!mfs_held_empty(mem));
	cr_assert_str_eq(mfs_trusted_unkept(d.t), "");
	again();
	cr_assert(is_revoked(2));
	cr_assert(mfs_trusted_ahead(d.t));
	again(); /* as often as it takes */
	cr_assert(is_revoked(2));
	end();
}

Test(held, where_it_went_back_to_is_found_too)
{
	lived();
	hold_gone_back();
	again();
	cr_assert_eq(det()->active.release, 1);
	cr_assert_eq(det()->n_retained, 0);
	cr_assert_eq(det()->floor_release, 2);
	cr_assert(is_revoked(2));
	end();
}

Test(held, what_is_written_is_held_no_longer)
{
	struct mfs_err err = MFS_ERR_INIT;

	lived();
	hold_gone_back();
	again();
	cr_assert_eq(mfs_trusted_flush(d.t, &err), MFS_OK, "%s", err.msg);
	cr_assert(!mfs_trusted_ahead(d.t));
	cr_assert(mfs_held_empty(mem));
	again();
	cr_assert(!mfs_trusted_ahead(d.t));
	cr_assert_eq(det()->active.release, 1);
	cr_assert(is_revoked(2));
	end();
}

Test(held, without_such_memory_it_ends_with_the_process)
{
	struct mfs_err err = MFS_ERR_INIT;
	int plain = memfd_create("plain", MFD_CLOEXEC);

	mfs_held_close(held);
	cr_assert_eq(mfs_held_open(-1, &held, &err), MFS_CONDITION_UNMET);
	cr_assert_eq(mfs_held_open(plain, &held, &err), MFS_CONDITION_UNMET);
	cr_assert_not(mfs_held_usable(plain));
	(void)close(plain);
	memory_open();
	lived();
	end();
	cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	cr_assert(mfs_trusted_ahead(d.t));
	cr_assert(mfs_held_empty(mem));
	end();
	begin();
	cr_assert(!is_revoked(2));
	end();
}

/* Only who could write the memory can change it: not even its size. */
Test(held, its_size_is_sealed)
{
	cr_assert_neq(ftruncate(mem, 0), 0);
	cr_assert_neq(ftruncate(mem, 5 * PLACE), 0);
	cr_assert(mfs_held_usable(mem));
}

Test(held, memory_that_takes_nothing_is_said)
{
	lived();
	cr_assert_eq(fcntl(mem, F_GET_SEALS) & F_SEAL_SEAL, F_SEAL_SEAL);
	mfs_held_close(held);
	(void)close(mem);
	mem = -1;
	{
		struct mfs_err err = MFS_ERR_INIT;
		char path[64];
		int made;

		cr_assert_eq(mfs_held_make(&made, &err), MFS_OK);
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", made);
		mem = open(path, O_RDONLY | O_CLOEXEC); /* the same memory, which cannot be written */
		(void)close(made);
	}
	cr_assert_geq(mem, 0);
	memory_open();
	again();
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	cr_assert(is_revoked(2)); /* it acts all the same */
	cr_assert_str_neq(mfs_trusted_unkept(d.t), "");
	end();
}

/* ---- torn ------------------------------------------------------------------------------------------------------------ */

/* serve dies at any byte of the second document: the first one counts, or the second, never none and never a mix. */
Test(held, a_torn_write_leaves_the_one_before)
{
	struct kept second;
	off_t first_at, second_at;
	size_t len;

	lived();
	hold_revoked(1, MFS_ACTION_STOP);
	first_at = place();
	second = memory_keep(first_at, 4096);
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	second_at = place();
	cr_assert_neq(first_at, second_at);
	/* As it was when the second was complete and the first not yet given up. */
	memory_put(first_at, second, second.n);
	free(second.bytes);
	again();
	cr_assert(is_revoked(1) && is_revoked(2));
	end();
	second = memory_keep(second_at, 4096);
	for (len = 4096; len > 1 && second.bytes[len - 1] == 0; len--)
		;
	for (size_t cut = 0; cut < len; cut += cut < 120 || cut + 60 > len ? 1 : 97) {
		struct kept none = { calloc(1, 4096), 4096 };

		memory_put(second_at, none, none.n);
		memory_put(second_at, second, cut);
		free(none.bytes);
		begin();
		cr_assert(is_revoked(1), "cut at %zu", cut);
		cr_assert(!is_revoked(2), "cut at %zu", cut);
		cr_assert(mfs_trusted_ahead(d.t));
		end();
	}
	free(second.bytes);
}

Test(held, what_lies_there_from_before_does_not_complete_it)
{
	struct kept one;
	off_t at;

	lived();
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	at = place();
	end();
	one = memory_keep(at, 4096);
	for (size_t i = 0; i < one.n; i += 7) { /* a bit of it anywhere */
		uint8_t was = one.bytes[i];
		bool used;

		if (i > 32 && was == 0)
			break;
		one.bytes[i] ^= 1;
		memory_put(at, one, one.n);
		begin();
		used = mfs_trusted_ahead(d.t);
		cr_assert_eq(det()->active.release, 2);
		end();
		cr_assert(!used, "byte %zu", i);
		one.bytes[i] = was;
	}
	memory_put(at, one, one.n);
	free(one.bytes);
	begin();
	cr_assert(is_revoked(2));
	end();
}

/* ---- what is not this host's, or not of its size ------------------------------------------------------------------------ */

Test(held, a_document_under_another_key_counts_nothing)
{
	struct kept foreign;
	off_t at;

	/* Another host with the same history. */
	begin_as(&other_key);
	{
		struct mfs_anchor_model *m;
		struct mfs_anchor *a = copy();

		cr_assert_eq(mfs_anchor_add(a, "det", "det", &m, NULL), MFS_OK);
		m->active = version(2);
		commit(a);
	}
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	at = place();
	foreign = memory_keep(at, 4096);
	end();
	folders_clear();
	folders_open();
	mfs_held_drop(held, MFS_STATE_HELD);
	lived();
	end();
	memory_put(at, foreign, foreign.n);
	free(foreign.bytes);
	begin();
	cr_assert(!mfs_trusted_ahead(d.t));
	cr_assert(!is_revoked(2));
	/* and stands in nobody's way */
	hold_revoked(1, MFS_ACTION_STOP);
	again();
	cr_assert(is_revoked(1));
	end();
}

Test(held, an_anchor_or_cycle_of_the_disk_is_no_held_document)
{
	struct kept k;

	lived();
	end();
	for (int i = 0; i < 2; i++) {
		k = keep(i == 0 ? "anchor.0" : "anchor.1");
		memory_put(ANCHOR_AT, k, k.n);
		free(k.bytes);
		begin();
		cr_assert(!mfs_trusted_ahead(d.t));
		cr_assert_eq(det()->active.release, 2);
		end();
	}
}

Test(held, a_length_beyond_the_limit_is_not_read)
{
	static const uint64_t lengths[] = { MFS_STATE_BYTES_MAX - 79, MFS_STATE_BYTES_MAX, UINT64_C(1) << 40, UINT64_MAX };

	lived();
	end();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint8_t header[32] = "MFSTATE1";

		header[8] = MFS_STATE_HELD;
		header[16] = 1;
		mfs_put_u64le(header + 24, lengths[i]);
		cr_assert_eq(mfs_pwrite_full(mem, header, sizeof(header), ANCHOR_AT), 0);
		cr_assert_eq(mfs_pwrite_full(mem, header, sizeof(header), ANCHOR_AT + PLACE), 0);
		begin();
		cr_assert(!mfs_trusted_ahead(d.t), "%" PRIu64, lengths[i]);
		end();
	}
	begin();
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	again();
	cr_assert(is_revoked(2));
	end();
}

/* ---- it only takes away --------------------------------------------------------------------------------------------------- */

/* serve died after the commit and before the memory was cleared; then the disk went on. */
Test(held, an_older_document_lowers_nothing)
{
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;
	struct kept old;
	off_t at;

	lived();
	hold_gone_back();
	at = place();
	old = memory_keep(at, 8192);
	a = copy();
	m = det_of(a);
	m->active = version(4);
	m->retained = malloc(sizeof(*m->retained));
	m->retained[0] = version(1);
	m->n_retained = 1;
	m->floor_release = 4;
	m->floor_manifest = m->active.manifest;
	m->min_release = 3;
	m->high_epoch = 1;
	m->high_release = 3;
	commit(a);
	end();
	memory_put(at, old, old.n);
	free(old.bytes);
	begin();
	cr_assert_eq(det()->active.release, 4);
	cr_assert_eq(det()->floor_release, 4);
	cr_assert_eq(det()->min_release, 3);
	cr_assert_eq(det()->high_release, 3);
	cr_assert(is_revoked(2));
	cr_assert(!mfs_trusted_ahead(d.t)); /* the disk knows it all */
	cr_assert(mfs_held_empty(mem));
	end();
}

Test(held, an_older_document_still_forbids_what_nobody_lifted)
{
	struct kept old;
	struct mfs_anchor *a;
	off_t at;

	lived();
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	at = place();
	old = memory_keep(at, 8192);
	end();
	/* Somebody who did not know of it wrote the disk. */
	{
		struct mfs_err err = MFS_ERR_INIT;

		cr_assert_eq(device_open(&d, 0, &err), MFS_OK);
	}
	a = copy();
	det_of(a)->floor_release = 3;
	commit(a);
	end();
	memory_put(at, old, old.n);
	free(old.bytes);
	begin();
	cr_assert(is_revoked(2));
	cr_assert_eq(det()->floor_release, 3);
	cr_assert(mfs_trusted_ahead(d.t));
	end();
}

Test(held, a_later_policy_on_the_disk_has_the_last_word)
{
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;
	struct kept old;
	off_t at;

	lived();
	hold_revoked(2, MFS_ACTION_WITHDRAW);
	at = place();
	old = memory_keep(at, 8192);
	a = copy();
	m = det_of(a);
	m->n_revoked = 0; /* lifted */
	m->policy_sequence = 7;
	commit(a);
	end();
	memory_put(at, old, old.n);
	free(old.bytes);
	begin();
	cr_assert(!is_revoked(2));
	cr_assert(!mfs_trusted_ahead(d.t));
	end();
}

/* A serve that was taken over cannot have made what the disk never listed the active version. */
Test(held, a_version_that_the_disk_does_not_list_is_not_shown)
{
	struct mfs_anchor *a;

	lived();
	a = copy();
	tighten(a, 1, MFS_ACTION_STOP); /* what it forbids counts */
	det_of(a)->active = version(9);
	det_of(a)->floor_release = 1;
	mfs_trusted_hold(d.t, a);
	again();
	cr_assert(is_revoked(1));
	cr_assert_eq(det()->active.release, 2);
	cr_assert_eq(det()->floor_release, 2);
	a = copy();
	tighten(a, 2, MFS_ACTION_ROLLBACK);
	det_of(a)->active = version(1);
	det_of(a)->previous = det_of(a)->retained[0] = version(9);
	mfs_trusted_hold(d.t, a);
	again();
	cr_assert(is_revoked(2));
	cr_assert_eq(det()->active.release, 2);
	cr_assert_eq(det()->retained[0].release, 1);
	end();
}

Test(held, a_model_that_the_disk_does_not_know_gets_nothing)
{
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;

	lived();
	a = copy();
	cr_assert_eq(mfs_anchor_add(a, "seg", "seg", &m, NULL), MFS_OK);
	m->active = version(1);
	mfs_trusted_hold(d.t, a);
	again();
	cr_assert_null(mfs_anchor_find(mfs_trusted_anchor(d.t), "seg"));
	end();
}

/* ---- the cycle ------------------------------------------------------------------------------------------------------------- */

static void
state_lock(bool locked)
{
	if (locked) {
		/* Nothing can be written where a folder lies in the way. */
		cr_assert_eq(mkdirat(state, ".cycle.0.new", 0700), 0);
		cr_assert_eq(mkdirat(state, ".cycle.1.new", 0700), 0);
		cr_assert_eq(mkdirat(state, ".cycle.0.new/x", 0700), 0);
		cr_assert_eq(mkdirat(state, ".cycle.1.new/x", 0700), 0);
		return;
	}
	(void)unlinkat(state, ".cycle.0.new/x", AT_REMOVEDIR);
	(void)unlinkat(state, ".cycle.1.new/x", AT_REMOVEDIR);
	(void)unlinkat(state, ".cycle.0.new", AT_REMOVEDIR);
	(void)unlinkat(state, ".cycle.1.new", AT_REMOVEDIR);
}

static struct mfs_cycle_model *
cycle_det(void)
{
	struct mfs_cycle_model *m = mfs_cycle_find(mfs_trusted_cycle(d.t), "det");

	if (m == NULL)
		cr_assert_eq(mfs_cycle_add(mfs_trusted_cycle(d.t), "det", &m, NULL), MFS_OK);
	return m;
}

Test(held, the_cycle_goes_with_the_anchor)
{
	struct mfs_err err = MFS_ERR_INIT;

	lived();
	cycle_det()->generation = 4;
	cycle_det()->held = true;
	cr_assert_eq(mfs_trusted_cycle_save(d.t, &err), MFS_OK, "%s", err.msg);
	state_lock(true);
	/* Of a cycle alone that cannot be written nothing is held: it takes nothing away. */
	cycle_det()->generation = 5;
	cr_assert_neq(mfs_trusted_cycle_save(d.t, &err), MFS_OK);
	cr_assert(mfs_held_empty(mem));
	hold_gone_back();
	cycle_det()->held = false;
	cr_assert_neq(mfs_trusted_cycle_save(d.t, &err), MFS_OK);
	cycle_det()->generation = 6;
	cr_assert_neq(mfs_trusted_cycle_save(d.t, &err), MFS_OK);
	again();
	cr_assert_eq(cycle_det()->generation, 6);
	cr_assert(!cycle_det()->held);
	/* Written, it is held no longer, and what is written later counts. */
	state_lock(false);
	cr_assert_eq(mfs_trusted_flush(d.t, &err), MFS_OK, "%s", err.msg);
	cycle_det()->generation = 7;
	cr_assert_eq(mfs_trusted_cycle_save(d.t, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_held_empty(mem));
	again();
	cr_assert_eq(cycle_det()->generation, 7);
	end();
}

/* ---- what is lost ----------------------------------------------------------------------------------------------------------- */

static char lost[1024];

static void
lost_add(void *user, const char *what, const char *lacks)
{
	size_t n = strlen(lost);

	(void)user;
	(void)snprintf(lost + n, sizeof(lost) - n, "%s: %s\n", what, lacks);
}

Test(held, what_the_disk_lacks_is_named)
{
	lived();
	lost[0] = '\0';
	mfs_trusted_lacks(d.t, lost_add, NULL);
	cr_assert_str_eq(lost, "");
	hold_gone_back();
	again();
	mfs_trusted_lacks(d.t, lost_add, NULL);
	cr_assert_not_null(strstr(lost, "det: the revocation of version 1.2.0 (rollback)\n"), "%s", lost);
	cr_assert_not_null(strstr(lost, "det: that it went back from 1.2.0 to 1.1.0\n"), "%s", lost);
	end();
}
