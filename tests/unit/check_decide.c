/* SPDX-License-Identifier: Apache-2.0 */
/* The install rule and what it does to the floor. */
#include "anchor_help.h"

#define RETAIN 2

static struct mfs_anchor_model
fresh(void)
{
	return (struct mfs_anchor_model){ .id = "local", .model_id = "det" };
}

static enum mfs_code
decide(const struct mfs_anchor_model *st, const struct mfs_manifest *m, struct mfs_err *err)
{
	enum mfs_install how;

	return mfs_decide_install(st, "det", m, NULL, &how, err);
}

static void
activate(struct mfs_anchor_model *st, const struct mfs_manifest *m, bool commit)
{
	expect(MFS_OK, mfs_anchor_activate(st, m, RETAIN, commit, err));
}

Test(decide, first_contact)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;
	const struct mfs_manifest *m = vers(&v, 1, "1.0.0", 1, 5);
	struct mfs_minimum min = { .min_release = 6 };
	enum mfs_install how;

	expect(MFS_OK, decide(NULL, m, err));
	expect(MFS_OK, decide(&st, m, err));
	expect_says(MFS_MALFORMED, "model_id", mfs_decide_install(NULL, "other", m, NULL, &how, err));
	expect_says(MFS_POLICY_REJECTED, "configuration", mfs_decide_install(NULL, "det", m, &min, &how, err));
	min = (struct mfs_minimum){ .min_key_epoch = 2 };
	expect_says(MFS_POLICY_REJECTED, "key_epoch", mfs_decide_install(&st, "det", m, &min, &how, err));
	strcpy(st.model_id, "old");
	expect_says(MFS_CONFIG_INVALID, "old", decide(&st, m, err));
	done(&st);
}

Test(decide, only_forward)
{
	struct mfs_anchor_model st = fresh();
	struct vers v, w;
	enum mfs_install how;

	activate(&st, vers(&v, 5, "1.5.0", 1, 5), true);
	cr_assert_eq(st.floor_release, 5);
	expect(MFS_OK, mfs_decide_install(&st, "det", &v.m, NULL, &how, err));
	cr_assert_eq(how, MFS_INSTALL_SAME);
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&w, 6, "1.6.0", 1, 6), NULL, &how, err));
	cr_assert_eq(how, MFS_INSTALL_NEW);
	/* The active one again is no success when it may not be served. */
	expect_says(MFS_POLICY_REJECTED, "configuration",
		mfs_decide_install(&st, "det", &v.m, &(struct mfs_minimum){ .min_release = 6 }, &how, err));
	expect(MFS_OK, mfs_anchor_mark_bad(&st, &v.m.id, MFS_HEALTH_CHECK_FAILED, err));
	expect_says(MFS_KNOWN_BAD, "mark good", mfs_decide_install(&st, "det", &v.m, NULL, &how, err));
	mfs_anchor_mark_good(&st, &v.m.id);
	expect_says(MFS_ROLLBACK_ATTEMPT, "release 4 (key epoch 1) is older than", decide(&st, vers(&w, 4, "1.4.0", 1, 4), err));
	expect_says(MFS_ROLLBACK_ATTEMPT, "modelfs rollback local", decide(&st, &w.m, err));
	expect_says(MFS_ROLLBACK_ATTEMPT, "another version", decide(&st, vers(&w, 7, "1.7.0", 1, 5), err));
	expect_says(MFS_ROLLBACK_ATTEMPT, "older", decide(&st, vers(&w, 8, "9.9.9", 1, 1), err));
	done(&st);
}

Test(decide, a_new_epoch_starts_a_new_release_line)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;

	/* A thief's release 2^53-1 dies with its key. */
	activate(&st, vers(&v, 1, "6.6.6", 1, MFS_JSON_INT_MAX), true);
	expect(MFS_OK, decide(&st, vers(&v, 2, "2.0.0", 2, 1), err));
	activate(&st, &v.m, true);
	cr_assert_eq(st.floor_epoch, 2);
	cr_assert_eq(st.floor_release, 1);
	expect(MFS_ROLLBACK_ATTEMPT, decide(&st, vers(&v, 3, "6.6.7", 1, MFS_JSON_INT_MAX), err));
	done(&st);
}

Test(decide, variants_share_a_release_and_names_mean_one_manifest)
{
	struct mfs_anchor_model st = fresh();
	struct vers v, w;

	activate(&st, vers(&v, 1, "1.0.0", 1, 3), true);
	vers(&w, 2, "1.0.0", 1, 3);
	expect_says(MFS_POLICY_REJECTED, "0100000000", decide(&st, &w.m, err));
	expect_says(MFS_POLICY_REJECTED, "0200000000", decide(&st, &w.m, err));
	strcpy(w.variant, "gpu");
	expect(MFS_OK, decide(&st, &w.m, err));
	w.m.release = 4;
	expect_says(MFS_POLICY_REJECTED, "share its release", decide(&st, &w.m, err));
	w.m.release = 3;
	activate(&st, &w.m, true);
	cr_assert_eq(st.floor_release, 3);
	expect(MFS_OK, decide(&st, &v.m, err)); /* and back to the other variant */
	/* A higher release does not make a second manifest of a known version acceptable. */
	expect(MFS_POLICY_REJECTED, decide(&st, vers(&w, 9, "1.0.0", 1, 9), err));
	expect(MFS_POLICY_REJECTED, mfs_anchor_activate(&st, &w.m, RETAIN, true, err));
	done(&st);
}

Test(decide, condemned_and_revoked)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;
	struct mfs_sha256 id = { { 2 } };

	activate(&st, vers(&v, 1, "1.0.0", 1, 1), true);
	expect(MFS_OK, mfs_anchor_mark_bad(&st, &id, MFS_HEALTH_CHECK_FAILED, err));
	expect_says(MFS_KNOWN_BAD, "health_check_failed", decide(&st, vers(&v, 2, "2.0.0", 1, 2), err));
	mfs_anchor_mark_good(&st, &id);
	expect(MFS_OK, decide(&st, &v.m, err));
	st.revoked = calloc(1, sizeof(*st.revoked));
	st.revoked[0] = (struct mfs_revocation){ .manifest = id, .action = MFS_ACTION_STOP, .reason = "bad" };
	st.n_revoked = 1;
	expect(MFS_REVOKED, decide(&st, &v.m, err));
	st.n_revoked = 0;
	st.min_release = 3;
	expect_says(MFS_POLICY_REJECTED, "policy", decide(&st, &v.m, err));
	/* The minimum counts within its own epoch; a later one starts anew. */
	st.min_key_epoch = 1;
	expect(MFS_POLICY_REJECTED, decide(&st, &v.m, err));
	expect(MFS_OK, decide(&st, vers(&v, 3, "3.0.0", 2, 1), err));
	done(&st);
}

Test(decide, bad_list_is_bounded)
{
	struct mfs_anchor_model st = fresh();
	struct mfs_sha256 id = { { 0 } };

	for (unsigned i = 0; i < MFS_BAD_MAX + 5; i++) {
		id.b[0] = (uint8_t)i;
		id.b[1] = (uint8_t)(i >> 8);
		expect(MFS_OK, mfs_anchor_mark_bad(&st, &id, MFS_KNOWN_BAD, err));
		expect(MFS_OK, mfs_anchor_mark_bad(&st, &id, MFS_KNOWN_BAD, err));
	}
	cr_assert_eq(st.n_bad, MFS_BAD_MAX);
	cr_assert_eq(st.bad[0].manifest.b[0], 5);
	cr_assert(mfs_sha256_equal(&st.bad[MFS_BAD_MAX - 1].manifest, &id));
	done(&st);
}

Test(decide, floor_rises_at_commit_and_never_falls)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;

	activate(&st, vers(&v, 1, "1.0.0", 1, 10), true);
	activate(&st, vers(&v, 2, "2.0.0", 1, 20), false);
	cr_assert_eq(st.floor_release, 10);
	expect(MFS_ROLLBACK_ATTEMPT, decide(&st, vers(&v, 3, "1.5.0", 1, 15), err)); /* below the active one */
	activate(&st, vers(&v, 2, "2.0.0", 1, 20), true); /* the same one, now committed */
	cr_assert_eq(st.floor_release, 20);
	cr_assert_eq(st.floor_manifest.b[0], 2);
	cr_assert_eq(st.previous.manifest.b[0], 1);
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.manifest.b[0], 1);
	cr_assert_eq(st.floor_release, 20);
	activate(&st, vers(&v, 1, "1.0.0", 1, 10), true);
	cr_assert_eq(st.floor_release, 20);
	done(&st);
}

Test(decide, rollback_and_forward_again)
{
	struct mfs_anchor_model st = fresh();
	struct vers v[5];

	for (uint8_t i = 1; i <= 3; i++) {
		char version[] = "0.0.0";

		version[0] = (char)('0' + i);
		activate(&st, vers(&v[i], i, version, 1, i), true);
	}
	cr_assert_eq(st.n_retained, 2);
	cr_assert_eq(st.previous.release, 2);
	/* A stick with an older version must not go back, even to one that is kept here. */
	expect_says(MFS_ROLLBACK_ATTEMPT, "kept on this host: 'modelfs rollback local'", decide(&st, &v[2].m, err));
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.release, 2);
	cr_assert_eq(st.previous.release, 1);
	cr_assert_eq(st.retained[0].release, 3);
	/* Forward again to what is listed; not to anything else at or below the floor. */
	expect(MFS_OK, decide(&st, &v[3].m, err));
	expect(MFS_ROLLBACK_ATTEMPT, decide(&st, vers(&v[4], 4, "2.5.0", 1, 3), err));
	expect(MFS_OK, decide(&st, vers(&v[4], 4, "4.0.0", 1, 4), err));
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.release, 1);
	expect_says(MFS_NOT_SELECTED, "nothing to go back to", mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.release, 1);
	cr_assert_eq(st.floor_release, 3);
	activate(&st, &v[3].m, true);
	cr_assert_eq(st.active.release, 3);
	cr_assert_eq(st.previous.release, 1);
	done(&st);
}

Test(decide, without_an_active_version_the_floor_holds_for_retained_ones_too)
{
	struct mfs_anchor_model st = fresh();
	struct vers v[4];

	activate(&st, vers(&v[1], 1, "1.0.0", 1, 1), true);
	activate(&st, vers(&v[2], 2, "2.0.0", 1, 2), true);
	st.active = (struct mfs_vref){ 0 }; /* withdrawn */
	expect(MFS_ROLLBACK_ATTEMPT, decide(&st, &v[1].m, err));
	expect(MFS_OK, decide(&st, &v[2].m, err));
	expect(MFS_OK, decide(&st, vers(&v[3], 3, "3.0.0", 1, 3), err));
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err)); /* the operator may */
	cr_assert_eq(st.active.release, 1);
	done(&st);
}

Test(decide, rollback_passes_over_what_is_condemned_or_too_old)
{
	struct mfs_anchor_model st = fresh();
	struct mfs_minimum min = { .min_release = 2 };
	struct mfs_sha256 two = { { 2 } };
	struct vers v;

	activate(&st, vers(&v, 1, "1.0.0", 1, 1), true);
	activate(&st, vers(&v, 2, "2.0.0", 1, 2), true);
	activate(&st, vers(&v, 3, "3.0.0", 1, 3), true);
	expect(MFS_OK, mfs_anchor_mark_bad(&st, &two, MFS_KNOWN_BAD, err));
	expect(MFS_KNOWN_BAD, mfs_decide_retained(&st, &st.previous, NULL, err));
	expect_says(MFS_NOT_SELECTED, "minimum", mfs_anchor_rollback(&st, &min, err));
	cr_assert_eq(st.active.release, 3);
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.release, 1);
	done(&st);
}

Test(decide, retained_is_what_the_anchor_lists)
{
	struct mfs_anchor_model st = fresh();
	struct mfs_vref stranger = { .manifest = { { 9 } }, .version = "1.0.0", .release = 9, .key_epoch = 1 };
	struct vers v;

	activate(&st, vers(&v, 1, "1.0.0", 1, 1), true);
	expect(MFS_OK, mfs_decide_retained(&st, &st.active, NULL, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_retained(&st, &stranger, NULL, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_retained(&st, &st.previous, NULL, err));
	done(&st);
}

Test(decide, retain_bounds_the_list_and_keeps_previous)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;

	for (int64_t i = 1; i <= 9; i++) {
		char version[16];

		snprintf(version, sizeof(version), "%d.0.0", (int)i);
		expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, (uint8_t)i, version, 1, i), 3, true, err));
	}
	cr_assert_eq(st.n_retained, 3);
	cr_assert_eq(st.retained[0].release, 8);
	cr_assert_eq(st.retained[2].release, 6);
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, 10, "10.0.0", 1, 10), 1, true, err));
	cr_assert_eq(st.n_retained, 1);
	cr_assert_eq(st.previous.release, 8);
	cr_assert_eq(st.retained[0].release, 8);
	expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, 11, "11.0.0", 1, 11), 0, true, err));
	cr_assert_eq(st.n_retained, 0);
	cr_assert(mfs_sha256_is_zero(&st.previous.manifest));
	done(&st);
}

Test(decide, known_is_bounded)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;

	for (int64_t i = 1; i <= MFS_KNOWN_MAX + 10; i++) {
		char version[16];

		snprintf(version, sizeof(version), "%d.0.0", (int)i);
		vers(&v, (uint8_t)i, version, 1, i);
		v.m.id.b[1] = (uint8_t)(i >> 8);
		activate(&st, &v.m, true);
	}
	cr_assert_eq(st.n_known, MFS_KNOWN_MAX);
	cr_assert_eq(st.known[0].release, MFS_KNOWN_MAX + 10);
	done(&st);
}

Test(decide, a_release_number_names_one_version_also_above_the_active_one)
{
	struct mfs_anchor_model st = fresh();
	struct vers v;

	activate(&st, vers(&v, 1, "1.0.0", 1, 1), true);
	activate(&st, vers(&v, 2, "2.0.0", 1, 2), false); /* never committed */
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	expect_says(MFS_POLICY_REJECTED, "claims release 2", decide(&st, vers(&v, 3, "2.0.1", 1, 2), err));
	expect(MFS_OK, decide(&st, vers(&v, 3, "2.0.1", 1, 3), err));
	done(&st);
}

Test(decide, depends)
{
	static char tok[] = "tok";
	struct mfs_depend d = { tok, 2, 3 };
	struct mfs_manifest m = { .compat = { .depends = &d, .n_depends = 1 } };
	struct mfs_anchor_model other = { .id = "t", .model_id = "tok" };
	struct mfs_anchor a = { .models = &other, .n_models = 1 };

	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_decide_depends(&m, &a, err));
	other.active = (struct mfs_vref){ .manifest = { { 1 } }, .release = 2, .key_epoch = 1 };
	expect(MFS_OK, mfs_decide_depends(&m, &a, err));
	other.active.release = 4;
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.depends", mfs_decide_depends(&m, &a, err));
	d.max_release = -1;
	expect(MFS_OK, mfs_decide_depends(&m, &a, err));
}
