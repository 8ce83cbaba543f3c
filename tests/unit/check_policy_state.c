/* SPDX-License-Identifier: Apache-2.0 */
/* A policy against trusted state: replays, revocations, what may be gone back to. */
#include "anchor_help.h"

#include "mfs_policy.h"

#define RETAIN 3

/* Releases 1 to n, one after the other, each committed; manifest and major version are the release. */
static struct mfs_anchor_model
lived(int64_t n)
{
	struct mfs_anchor_model st = { .id = "local", .model_id = "det" };
	char version[16];
	struct vers v;

	for (int64_t i = 1; i <= n; i++) {
		snprintf(version, sizeof(version), "%d.0.0", (int)i);
		expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, (uint8_t)i, version, 1, i), RETAIN, true, err));
	}
	return st;
}

static struct mfs_policy *
policy(int64_t sequence)
{
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	p->sequence = sequence;
	p->sha256.b[0] = (uint8_t)sequence;
	return p;
}

static void
enforce(struct mfs_anchor_model *st, struct mfs_policy *p)
{
	enum mfs_policy_news news;

	p->sequence = st->policy_sequence + 1;
	expect(MFS_OK, mfs_policy_accept(st, p, &news, err));
	cr_assert_eq(news, MFS_POLICY_NEW);
	expect(MFS_OK, mfs_anchor_policy_set(st, p, err));
}

static void
revoke_version(struct mfs_anchor_model *st, const char *version, enum mfs_action action, uint8_t to, bool otherwise_withdraw)
{
	struct mfs_revocation r = { .reason = "drifts", .action = action, .otherwise_withdraw = otherwise_withdraw };
	struct mfs_policy *p = policy(1);

	strcpy(r.version, version);
	if (to != 0) {
		r.rollback_to = (struct mfs_policy_entry){ .manifest = { { to } }, .variant = "default", .release = to };
		snprintf(r.rollback_to.version, sizeof(r.rollback_to.version), "%d.0.0", (int)to);
	}
	p->min_release = st->min_release;
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	enforce(st, p);
	mfs_policy_free(p);
}

/* ---- sequence -------------------------------------------------------------------------------------- */

Test(policy_state, a_replayed_policy_is_refused)
{
	struct mfs_anchor_model st = { .id = "local", .model_id = "det" };
	struct mfs_policy *p = policy(7);
	enum mfs_policy_news news;

	expect(MFS_OK, mfs_policy_accept(NULL, p, &news, err));
	expect(MFS_OK, mfs_policy_accept(&st, p, &news, err));
	cr_assert_eq(news, MFS_POLICY_NEW);
	expect(MFS_OK, mfs_anchor_policy_set(&st, p, err));
	expect(MFS_OK, mfs_policy_accept(&st, p, &news, err));
	cr_assert_eq(news, MFS_POLICY_SAME);
	p->sequence = 6;
	expect_says(MFS_ROLLBACK_ATTEMPT, "sequence 6, older than 7", mfs_policy_accept(&st, p, &news, err));
	p->sequence = 7;
	p->sha256.b[31] = 1;
	expect_says(MFS_ROLLBACK_ATTEMPT, "other bytes", mfs_policy_accept(&st, p, &news, err));
	p->sequence = 8;
	expect(MFS_OK, mfs_policy_accept(&st, p, &news, err));
	strcpy(p->model_id, "seg");
	expect(MFS_CONFIG_INVALID, mfs_policy_accept(&st, p, &news, err));
	mfs_policy_free(p);
	done(&st);
}

Test(policy_state, a_policy_that_vanishes_is_refused)
{
	struct mfs_anchor_model st = { .id = "local", .model_id = "det" };
	struct mfs_policy *p = policy(7);
	enum mfs_policy_news news;

	expect_says(MFS_NOT_SELECTED, "none for this model", mfs_policy_accept(NULL, NULL, &news, err));
	expect(MFS_NOT_SELECTED, mfs_policy_accept(&st, NULL, &news, err));
	expect(MFS_OK, mfs_anchor_policy_set(&st, p, err));
	expect_says(MFS_POLICY_REJECTED, "sequence 7 stays in force", mfs_policy_accept(&st, NULL, &news, err));
	mfs_policy_free(p);
	done(&st);
}

Test(policy_state, a_newer_policy_replaces_revocations_and_minima_but_not_the_highest_minimum)
{
	struct mfs_revocation r = { .version = "1.0.0", .reason = "r", .action = MFS_ACTION_STOP };
	struct mfs_anchor_model st = { .id = "local", .model_id = "det" };
	struct mfs_policy *p = policy(1);

	p->min_release = 10;
	p->withdraw_below = true;
	p->issued = 1790000000;
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	enforce(&st, p);
	cr_assert_eq(st.n_revoked, 1);
	cr_assert_eq(st.min_release, 10);
	cr_assert_eq(st.policy_issued, 1790000000);
	cr_assert(st.withdraw_below);
	p->min_release = 3;
	p->withdraw_below = false;
	mfs_policy_unrevoke(p, NULL, "1.0.0");
	enforce(&st, p);
	cr_assert_eq(st.n_revoked, 0);
	cr_assert_eq(st.min_release, 3);
	cr_assert_not(st.withdraw_below);
	cr_assert_eq(st.high_epoch, 1);
	cr_assert_eq(st.high_release, 10);
	p->min_key_epoch = 2; /* a new release line */
	enforce(&st, p);
	cr_assert_eq(st.high_epoch, 2);
	cr_assert_eq(st.high_release, 3);
	mfs_policy_free(p);
	done(&st);
}

/* ---- a policy that cannot be written down ------------------------------------------------------------ */

static struct mfs_policy *
revoking(const char *version, enum mfs_action action, bool otherwise_withdraw)
{
	struct mfs_revocation r = { .reason = "leaks", .action = action, .otherwise_withdraw = otherwise_withdraw };
	struct mfs_policy *p = policy(9);

	strcpy(r.version, version);
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	return p;
}

Test(policy_state, tightening_adds_what_a_policy_forbids_and_lifts_nothing)
{
	static const struct { enum mfs_action was, comes, is; } cases[] = {
		{ MFS_ACTION_STOP, MFS_ACTION_WITHDRAW, MFS_ACTION_WITHDRAW }, { MFS_ACTION_WITHDRAW, MFS_ACTION_STOP, MFS_ACTION_WITHDRAW },
		{ MFS_ACTION_ROLLBACK, MFS_ACTION_WITHDRAW, MFS_ACTION_WITHDRAW }, { MFS_ACTION_ROLLBACK, MFS_ACTION_STOP, MFS_ACTION_ROLLBACK },
		{ MFS_ACTION_STOP, MFS_ACTION_ROLLBACK, MFS_ACTION_ROLLBACK },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_anchor_model st = lived(2);
		struct mfs_policy *p = revoking("2.0.0", cases[i].comes, false);
		struct mfs_verdict v;
		enum mfs_policy_news news;

		revoke_version(&st, "2.0.0", cases[i].was, 0, cases[i].was == MFS_ACTION_ROLLBACK);
		expect(MFS_OK, mfs_anchor_policy_tighten(&st, p, err));
		cr_assert_eq(st.n_revoked, 1, "case %zu: an anchor with one version twice", i);
		mfs_revocation_find(st.revoked, st.n_revoked, &st.active.manifest, "2.0.0", &v);
		cr_assert_eq(v.action, cases[i].is, "case %zu", i);
		if (v.action == MFS_ACTION_ROLLBACK && cases[i].was == MFS_ACTION_ROLLBACK)
			cr_assert(v.otherwise_withdraw, "case %zu", i);
		/* What cannot be written is news again. */
		cr_assert_eq(st.policy_sequence, 1);
		expect(MFS_OK, mfs_policy_accept(&st, p, &news, err));
		cr_assert_eq(news, MFS_POLICY_NEW);
		expect(MFS_OK, mfs_anchor_policy_set(&st, p, err));
		mfs_revocation_find(st.revoked, st.n_revoked, &st.active.manifest, "2.0.0", &v);
		cr_assert_eq(v.action, cases[i].comes, "the policy itself takes the place of both");
		mfs_policy_free(p);
		done(&st);
	}
}

Test(policy_state, tightening_keeps_the_revocations_of_before)
{
	struct mfs_anchor_model st = lived(3);
	struct mfs_policy *p = revoking("3.0.0", MFS_ACTION_ROLLBACK, true), *none = policy(10);
	struct mfs_verdict v;

	revoke_version(&st, "2.0.0", MFS_ACTION_WITHDRAW, 0, false);
	expect(MFS_OK, mfs_anchor_policy_tighten(&st, p, err));
	cr_assert_eq(st.n_revoked, 2);
	expect(MFS_OK, mfs_anchor_policy_tighten(&st, none, err));
	expect(MFS_OK, mfs_anchor_policy_tighten(&st, p, err)); /* each check brings it again */
	cr_assert_eq(st.n_revoked, 2);
	mfs_revocation_find(st.revoked, st.n_revoked, &(struct mfs_sha256){ { 2 } }, "2.0.0", &v);
	cr_assert_eq(v.action, MFS_ACTION_WITHDRAW);
	mfs_revocation_find(st.revoked, st.n_revoked, &(struct mfs_sha256){ { 3 } }, "3.0.0", &v);
	cr_assert_eq(v.action, MFS_ACTION_ROLLBACK);
	mfs_policy_free(p);
	mfs_policy_free(none);
	done(&st);
}

Test(policy_state, tightening_takes_the_minimum_that_acts)
{
	static const struct { int64_t was; bool was_withdraws; int64_t comes; bool withdraws; int64_t is; bool is_withdraws; } cases[] = {
		{ 0, false, 2, false, 2, false }, { 2, false, 1, false, 2, false }, { 1, true, 5, false, 1, true },
		{ 5, false, 2, true, 2, true }, { 2, true, 1, true, 2, true }, { 1, true, 2, true, 2, true }, { 2, true, 0, false, 2, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_anchor_model st = lived(3);
		struct mfs_policy *p = policy(1), *q = policy(2);

		p->min_release = cases[i].was;
		p->withdraw_below = cases[i].was_withdraws;
		enforce(&st, p);
		q->min_release = cases[i].comes;
		q->withdraw_below = cases[i].withdraws;
		expect(MFS_OK, mfs_anchor_policy_tighten(&st, q, err));
		cr_assert(st.min_release == cases[i].is && st.withdraw_below == cases[i].is_withdraws, "case %zu: %d %d", i,
			(int)st.min_release, st.withdraw_below);
		cr_assert_geq(st.high_release, cases[i].was > cases[i].comes ? cases[i].was : cases[i].comes, "case %zu", i);
		mfs_policy_free(p);
		mfs_policy_free(q);
		done(&st);
	}
}

Test(policy_state, tightening_holds_no_more_than_an_anchor_does)
{
	struct mfs_anchor_model st = lived(1);
	struct mfs_policy *p = policy(1), *q = policy(2);
	struct mfs_revocation r = { .reason = "x", .action = MFS_ACTION_STOP };

	p->revoked = calloc(MFS_REVOKED_MAX, sizeof(*p->revoked));
	for (p->n_revoked = 0; p->n_revoked < MFS_REVOKED_MAX; p->n_revoked++) {
		p->revoked[p->n_revoked] = r;
		memcpy(p->revoked[p->n_revoked].manifest.b, &p->n_revoked, sizeof(p->n_revoked));
		p->revoked[p->n_revoked].manifest.b[31] = 1;
	}
	enforce(&st, p);
	strcpy(r.version, "1.0.0");
	r.action = MFS_ACTION_WITHDRAW;
	expect(MFS_OK, mfs_policy_revoke(q, &r, err));
	expect(MFS_OK, mfs_anchor_policy_tighten(&st, q, err));
	cr_assert_eq(st.n_revoked, 1, "the newest word");
	cr_assert_eq(st.revoked[0].action, MFS_ACTION_WITHDRAW);
	mfs_policy_free(p);
	mfs_policy_free(q);
	done(&st);
}

/* ---- the anchor ---------------------------------------------------------------------------------------- */

Test(policy_state, survives_the_anchor)
{
	struct mfs_anchor_model st = lived(3), *m;
	struct mfs_anchor a = { .models = &st, .n_models = 1 }, *b;
	struct mfs_enforcement e;

	st.min_release = 2;
	revoke_version(&st, "3.0.0", MFS_ACTION_ROLLBACK, 2, true);
	expect(MFS_OK, mfs_anchor_copy(&a, &b, err));
	m = mfs_anchor_find(b, "local");
	cr_assert_eq(m->policy_sequence, st.policy_sequence);
	cr_assert(mfs_sha256_equal(&m->policy_sha256, &st.policy_sha256));
	cr_assert_eq(m->high_release, 2);
	mfs_decide_enforce(m, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_SWITCH);
	cr_assert_eq(e.to->release, 2);
	cr_assert_str_eq(e.verdict.reason, "drifts");
	mfs_anchor_free(b);
	done(&st);
}

Test(policy_state, the_anchor_of_an_earlier_modelfs_keeps_its_revocations)
{
	static const char old[] =
		"{\"format\":\"modelfs-anchor/1.0\",\"models\":{\"det\":{\"bad\":[],\"known\":[],\"min_key_epoch\":0,"
		"\"min_release\":4,\"model_id\":\"det\",\"retained\":[],\"revoked\":["
		"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}}}";
	struct mfs_anchor *a;

	expect(MFS_OK, mfs_anchor_parse(TEXT(old), &a, err));
	cr_assert_eq(a->models[0].n_revoked, 1);
	cr_assert_eq(a->models[0].revoked[0].action, MFS_ACTION_STOP);
	cr_assert_eq(a->models[0].high_release, 4);
	cr_assert_eq(a->models[0].policy_sequence, 0);
	mfs_anchor_free(a);
}

static void
offer(struct mfs_policy *p, const char *id, uint8_t manifest, const char *version, int64_t fraction)
{
	struct mfs_policy_entry e = { .manifest = { { manifest } }, .variant = "default", .release = manifest };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;

	strcpy(e.version, version);
	expect(MFS_OK, mfs_policy_rollout_add(p, p->n_rollouts, id, "s1", &r, err));
	expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
	expect(MFS_OK, mfs_policy_step_add(r, fraction, 0, false, err));
}

Test(policy_state, a_lowered_fraction_moves_no_device_back)
{
	struct mfs_anchor_model st = lived(2);
	struct mfs_policy_device d = { .id = "dev-1" }; /* bucket 4030 with salt s1 */
	struct mfs_policy *p = policy(1);
	struct mfs_policy_choice c;
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	offer(p, "new", 2, "2.0.0", 5000);
	offer(p, "old", 1, "1.0.0", 10000);
	enforce(&st, p);
	expect(MFS_OK, mfs_policy_select(p, &d, 1, &c, NULL, err));
	cr_assert_str_eq(c.variant->entry.version, "2.0.0");
	p->rollouts[0].steps[0].fraction = 4030;
	enforce(&st, p);
	expect(MFS_OK, mfs_policy_select(p, &d, 1, &c, NULL, err));
	cr_assert_str_eq(c.variant->entry.version, "1.0.0"); /* for a new device; this one does not go back */
	cr_assert(mfs_policy_behind(&st, vers(&v, 1, "1.0.0", 1, 1), NULL));
	cr_assert_not(mfs_policy_behind(&st, vers(&v, 2, "2.0.0", 1, 2), NULL));
	cr_assert_not(mfs_policy_behind(&st, vers(&v, 1, "1.0.0", 2, 1), NULL)); /* a new epoch's line */
	cr_assert_not(mfs_policy_behind(NULL, &v.m, NULL));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_install(&st, "det", vers(&v, 1, "1.0.0", 1, 1), NULL, &how, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	mfs_policy_free(p);
	revoke_version(&st, "2.0.0", MFS_ACTION_WITHDRAW, 0, false);
	cr_assert_not(mfs_policy_behind(&st, vers(&v, 1, "1.0.0", 1, 1), NULL));
	done(&st);
}

/* ---- verdicts ----------------------------------------------------------------------------------------- */

Test(policy_state, the_severest_revocation_counts)
{
	const struct mfs_sha256 id = { { 1 } }, other = { { 2 } };
	const struct mfs_revocation list[] = {
		{ .version = "1.0.0", .reason = "a", .action = MFS_ACTION_STOP },
		{ .version = "2.0.0", .reason = "b", .action = MFS_ACTION_WITHDRAW },
		{ .manifest = { { 1 } }, .reason = "c", .action = MFS_ACTION_STOP },
		{ .manifest = { { 1 } }, .reason = "d", .action = MFS_ACTION_ROLLBACK, .otherwise_withdraw = true },
	};
	struct mfs_verdict v;

	mfs_revocation_find(list, 1, &other, "1.0.0", &v);
	cr_assert_str_eq(v.reason, "a");
	mfs_revocation_find(list, 3, &id, "1.0.0", &v);
	cr_assert_str_eq(v.reason, "c"); /* of equals the one that names the manifest */
	mfs_revocation_find(list, 4, &id, "1.0.0", &v);
	cr_assert_str_eq(v.reason, "d");
	cr_assert(v.otherwise_withdraw);
	cr_assert_null(v.rollback_to);
	mfs_revocation_find(list, 4, &id, "2.0.0", &v);
	cr_assert_eq(v.action, MFS_ACTION_WITHDRAW);
	cr_assert_eq(v.why, MFS_REVOKED);
	mfs_revocation_find(list, 4, &other, "3.0.0", &v);
	cr_assert_eq(v.action, MFS_ACTION_NONE);
	cr_assert_eq(v.why, MFS_OK);
}

Test(policy_state, stop_leaves_the_active_version_and_lets_nothing_become_active)
{
	struct mfs_anchor_model st = lived(3);
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	revoke_version(&st, "3.0.0", MFS_ACTION_STOP, 0, false);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	cr_assert_eq(e.verdict.action, MFS_ACTION_STOP);
	expect(MFS_OK, mfs_decide_retained(&st, &st.active, NULL, err)); /* a mount goes on */
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&v, 3, "3.0.0", 1, 3), NULL, &how, err));
	cr_assert_eq(how, MFS_INSTALL_SAME); /* and repairs it */
	revoke_version(&st, "4.0.0", MFS_ACTION_STOP, 0, false);
	expect_says(MFS_REVOKED, "drifts", mfs_decide_install(&st, "det", vers(&v, 4, "4.0.0", 1, 4), NULL, &how, err));
	revoke_version(&st, "2.0.0", MFS_ACTION_STOP, 0, false);
	expect(MFS_REVOKED, mfs_decide_retained(&st, &st.previous, NULL, err));
	expect(MFS_OK, mfs_anchor_rollback(&st, NULL, err));
	cr_assert_eq(st.active.release, 1); /* past the stopped one */
	expect(MFS_REVOKED, mfs_decide_install(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	done(&st);
}

Test(policy_state, withdraw_leaves_no_active_version)
{
	struct mfs_anchor_model st = lived(2);
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	revoke_version(&st, "2.0.0", MFS_ACTION_WITHDRAW, 0, false);
	expect(MFS_REVOKED, mfs_decide_retained(&st, &st.active, NULL, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_WITHDRAW);
	expect(MFS_OK, mfs_anchor_enforce(&st, &e, NULL, err));
	cr_assert(mfs_sha256_is_zero(&st.active.manifest));
	cr_assert_eq(st.previous.release, 1);
	cr_assert_eq(st.floor_release, 2);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	/* Listed and good, and the floor's version may not be served: it may come back. Nothing else below. */
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&v, 1, "1.0.0", 1, 1), NULL, &how, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_install(&st, "det", vers(&v, 9, "1.5.0", 1, 1), NULL, &how, err));
	expect(MFS_REVOKED, mfs_decide_install(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&v, 3, "3.0.0", 1, 3), NULL, &how, err));
	/* Lifted: the withdrawn one waits among the retained, and the older one must not pass it any more. */
	{
		struct mfs_policy *p = policy(1);

		enforce(&st, p);
		mfs_policy_free(p);
	}
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_install(&st, "det", vers(&v, 1, "1.0.0", 1, 1), NULL, &how, err));
	done(&st);
}

Test(policy_state, a_minimum_withdraws_only_if_the_policy_says_so)
{
	struct mfs_anchor_model st = lived(2);
	struct mfs_policy *p = policy(1);
	struct mfs_enforcement e;

	p->min_release = 3;
	enforce(&st, p);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	cr_assert_eq(e.verdict.why, MFS_POLICY_REJECTED);
	expect(MFS_OK, mfs_decide_retained(&st, &st.active, NULL, err));
	expect(MFS_POLICY_REJECTED, mfs_decide_retained(&st, &st.previous, NULL, err));
	p->withdraw_below = true;
	enforce(&st, p);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_WITHDRAW);
	expect_says(MFS_POLICY_REJECTED, "minimum 3 of the policy", mfs_decide_retained(&st, &st.active, NULL, err));
	p->min_release = 0;
	p->min_key_epoch = 2;
	enforce(&st, p);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_WITHDRAW);
	mfs_policy_free(p);
	done(&st);
}

Test(policy_state, an_enforced_minimum_is_severer_than_a_stop_or_a_rollback)
{
	struct mfs_revocation r = { .version = "2.0.0", .reason = "r", .action = MFS_ACTION_ROLLBACK };
	struct mfs_anchor_model st = lived(2);
	struct mfs_policy *p = policy(1);
	struct mfs_verdict v;

	p->min_release = 9;
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	enforce(&st, p);
	mfs_policy_verdict(&st, &st.active, &v);
	cr_assert_eq(v.action, MFS_ACTION_ROLLBACK);
	p->withdraw_below = true;
	enforce(&st, p);
	mfs_policy_verdict(&st, &st.active, &v);
	cr_assert_eq(v.action, MFS_ACTION_WITHDRAW);
	mfs_policy_free(p);
	done(&st);
}

/* ---- rollback -------------------------------------------------------------------------------------------- */

Test(policy_state, rollback_goes_to_what_it_names_else_to_the_newest_good_one_else_otherwise)
{
	struct mfs_anchor_model st = lived(4); /* 4 active; 3, 2, 1 kept */
	const struct mfs_sha256 three = { { 3 } };
	struct mfs_minimum min = { .min_release = 3 };
	struct mfs_enforcement e;

	revoke_version(&st, "4.0.0", MFS_ACTION_ROLLBACK, 2, false);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_SWITCH);
	cr_assert_eq(e.to->release, 2);
	cr_assert_null(e.fetch); /* it is here */
	revoke_version(&st, "4.0.0", MFS_ACTION_ROLLBACK, 0, false);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.to->release, 3);
	expect(MFS_OK, mfs_anchor_mark_bad(&st, &three, MFS_HEALTH_CHECK_FAILED, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.to->release, 2);
	mfs_decide_enforce(&st, &min, &e); /* the configuration's minimum leaves nothing */
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	revoke_version(&st, "4.0.0", MFS_ACTION_ROLLBACK, 0, true);
	mfs_decide_enforce(&st, &min, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_WITHDRAW);
	mfs_decide_enforce(&st, NULL, &e);
	expect(MFS_OK, mfs_anchor_enforce(&st, &e, NULL, err));
	cr_assert_eq(st.active.release, 2);
	cr_assert_eq(st.previous.release, 1); /* never the revoked one */
	cr_assert_eq(st.floor_release, 4);
	done(&st);
}

Test(policy_state, rollback_to_may_be_fetched_below_the_floor)
{
	struct mfs_anchor_model st = lived(6); /* 6 active; 5, 4, 3 kept; 2 is gone */
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	expect_says(MFS_ROLLBACK_ATTEMPT, "no revocation",
		mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	revoke_version(&st, "6.0.0", MFS_ACTION_ROLLBACK, 2, true);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_SWITCH); /* at once, to a stand-in */
	cr_assert_eq(e.to->release, 5);
	cr_assert_not_null(e.fetch);
	cr_assert_str_eq(e.fetch->version, "2.0.0");
	expect(MFS_OK, mfs_anchor_enforce(&st, &e, NULL, err));
	cr_assert_eq(st.active.release, 5);
	mfs_decide_enforce(&st, NULL, &e); /* still wanted, also after a restart */
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	cr_assert_str_eq(e.fetch->version, "2.0.0");
	expect(MFS_OK, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	/* What an ordinary installation may not; nor may another manifest of that name or release. */
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_install(&st, "det", &v.m, NULL, &how, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(&st, "det", vers(&v, 22, "2.0.0", 1, 2), NULL, &how, err));
	expect_says(MFS_MALFORMED, "version", mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.1", 1, 2), NULL, &how, err));
	expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, 2, "2.0.0", 1, 2), RETAIN, true, err));
	cr_assert_eq(st.floor_release, 6);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_null(e.fetch);
	/* A good later version goes past it for good. */
	expect(MFS_OK, mfs_anchor_activate(&st, vers(&v, 7, "7.0.0", 1, 7), RETAIN, true, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_null(e.fetch);
	done(&st);
}

Test(policy_state, rollback_to_never_below_the_highest_minimum_seen)
{
	struct mfs_anchor_model st = lived(6);
	struct mfs_policy *p = policy(1);
	enum mfs_install how;
	struct vers v;

	p->min_release = 3;
	enforce(&st, p);
	p->min_release = 0; /* whoever holds the policy key now lowers it again */
	enforce(&st, p);
	mfs_policy_free(p);
	revoke_version(&st, "6.0.0", MFS_ACTION_ROLLBACK, 2, true);
	expect_says(MFS_POLICY_REJECTED, "minimum 3 of the policies seen so far",
		mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	done(&st);
}

Test(policy_state, rollback_to_is_for_hosts_that_had_the_revoked_version)
{
	struct mfs_anchor_model st = lived(6);
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	/* Never ran here. */
	revoke_version(&st, "9.0.0", MFS_ACTION_ROLLBACK, 2, true);
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	/* Ran here, but this host has committed a later one since. */
	revoke_version(&st, "5.0.0", MFS_ACTION_ROLLBACK, 2, true);
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_null(e.fetch);
	/* Also without an active version: the floor remembers. */
	st.active = (struct mfs_vref){ 0 };
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_rollback_to(NULL, "det", &v.m, NULL, &how, err));
	done(&st);
}

Test(policy_state, rollback_to_that_is_condemned_or_revoked_itself_is_not_taken)
{
	struct mfs_anchor_model st = lived(6);
	const struct mfs_sha256 two = { { 2 } };
	struct mfs_enforcement e;
	enum mfs_install how;
	struct vers v;

	revoke_version(&st, "6.0.0", MFS_ACTION_ROLLBACK, 2, true);
	expect(MFS_OK, mfs_anchor_mark_bad(&st, &two, MFS_HEALTH_CHECK_FAILED, err));
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_null(e.fetch);
	expect(MFS_KNOWN_BAD, mfs_decide_rollback_to(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	mfs_anchor_mark_good(&st, &two);
	{
		struct mfs_minimum min = { .min_release = 3 };

		expect(MFS_POLICY_REJECTED, mfs_decide_rollback_to(&st, "det", &v.m, &min, &how, err));
	}
	done(&st);
}

Test(policy_state, enforcement_finds_nothing_on_a_host_without_the_model)
{
	struct mfs_anchor_model st = { .id = "local", .model_id = "det" };
	struct mfs_enforcement e;

	revoke_version(&st, "1.0.0", MFS_ACTION_ROLLBACK, 2, true);
	mfs_decide_enforce(&st, NULL, &e);
	cr_assert_eq(e.now, MFS_ENFORCE_KEEP);
	cr_assert_null(e.fetch);
	done(&st);
}

Test(policy_state, while_a_good_version_is_active_a_kept_older_one_stays_back)
{
	struct mfs_anchor_model st = lived(4);
	enum mfs_install how;
	struct vers v;

	/* The floor's version is revoked, the active one is good: an older bundle is still a replay. */
	revoke_version(&st, "4.0.0", MFS_ACTION_ROLLBACK, 0, true);
	{
		struct mfs_enforcement e;

		mfs_decide_enforce(&st, NULL, &e);
		expect(MFS_OK, mfs_anchor_enforce(&st, &e, NULL, err));
	}
	cr_assert_eq(st.active.release, 3);
	expect(MFS_ROLLBACK_ATTEMPT, mfs_decide_install(&st, "det", vers(&v, 2, "2.0.0", 1, 2), NULL, &how, err));
	expect(MFS_OK, mfs_decide_install(&st, "det", vers(&v, 5, "5.0.0", 1, 5), NULL, &how, err));
	done(&st);
}
