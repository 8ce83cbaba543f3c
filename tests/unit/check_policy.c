/* SPDX-License-Identifier: Apache-2.0 */
/* policy.json: what is read, who is included, what is said about it, what is written. */
#include "verify_help.h"

#include "mfs_policy.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C64 "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define NOW 1800000000

static const char full[] =
	"{\"critical\":[\"revoked\"],\"enforce\":\"withdraw\",\"format\":\"modelfs-policy/1\",\"issued\":1790000000,"
	"\"later\":{\"x\":1},\"min_key_epoch\":0,\"min_release\":2,\"model_id\":\"det\",\"revoked\":["
	"{\"action\":\"stop\",\"manifest_sha256\":\"" C64 "\",\"reason\":\"drifts at night\"},"
	"{\"action\":\"rollback\",\"otherwise\":\"keep\",\"reason\":\"leaks\",\"rollback_to\":{\"manifest_sha256\":\"" A64 "\","
	"\"release\":2,\"variant\":\"default\",\"version\":\"1.1.0\"},\"version\":\"1.0.1\"}],\"rollouts\":["
	"{\"confirmed\":1,\"id\":\"r2\",\"match\":{\"class\":[\"jetson\",\"pi\"],\"site\":[\"x\"]},\"salt\":\"s1\",\"steps\":["
	"{\"after\":1790000000,\"confirm\":true,\"fraction\":1000},{\"after\":1790086400,\"confirm\":true,\"fraction\":5000},"
	"{\"after\":1890000000,\"confirm\":false,\"fraction\":10000}],\"variants\":["
	"{\"manifest_sha256\":\"" B64 "\",\"match\":{\"accel\":[\"gpu\"]},\"release\":3,\"variant\":\"gpu\",\"version\":\"1.2.0\"},"
	"{\"manifest_sha256\":\"" A64 "\",\"match\":{},\"release\":3,\"variant\":\"default\",\"version\":\"1.2.0\"}]}],"
	"\"sequence\":7}";

static struct mfs_policy *
parsed(const char *text)
{
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_parse(TEXT(text), "det", &p, err));
	return p;
}

Test(policy, every_field_survives_a_round_trip)
{
	struct mfs_policy *p = parsed(full);
	char *out;
	size_t len;

	cr_assert_eq(p->sequence, 7);
	cr_assert_eq(p->issued, 1790000000);
	cr_assert_eq(p->min_release, 2);
	cr_assert(p->withdraw_below);
	cr_assert_eq(p->n_revoked, 2);
	cr_assert_eq(p->revoked[0].action, MFS_ACTION_STOP);
	cr_assert_str_eq(p->revoked[1].version, "1.0.1");
	cr_assert_str_eq(p->revoked[1].rollback_to.version, "1.1.0");
	cr_assert_not(p->revoked[1].otherwise_withdraw);
	cr_assert_eq(p->n_rollouts, 1);
	cr_assert_eq(p->rollouts[0].n_steps, 3);
	cr_assert_not(p->rollouts[0].steps[2].confirm);
	cr_assert_eq(p->rollouts[0].confirmed, 1);
	cr_assert_str_eq(p->rollouts[0].variants[0].match.keys[0].values[0], "gpu");
	expect(MFS_OK, mfs_policy_json(p, &out, &len, err));
	cr_assert_str_eq(out, full);
	cr_assert_eq(len, strlen(full));
	free(out);
	mfs_policy_free(p);
}

Test(policy, truncated_anywhere)
{
	for (size_t n = 0; n < strlen(full); n++) {
		struct mfs_policy *p;

		expect(MFS_MALFORMED, mfs_policy_parse(MFS_SPAN(full, n), "det", &p, err));
		cr_assert_null(p);
	}
}

Test(policy, is_for_one_model)
{
	struct mfs_policy *p;

	expect_says(MFS_MALFORMED, "model_id: 'det', but 'seg'", mfs_policy_parse(TEXT(full), "seg", &p, err));
	expect(MFS_OK, mfs_policy_parse(TEXT(full), NULL, &p, err));
	mfs_policy_free(p);
}

Test(policy, caps)
{
	char *big = malloc(MFS_POLICY_BYTES_MAX + 1);
	struct mfs_policy *p;

	memset(big, ' ', MFS_POLICY_BYTES_MAX + 1);
	expect(MFS_LIMIT_EXCEEDED, mfs_policy_parse(MFS_SPAN(big, MFS_POLICY_BYTES_MAX + 1), "det", &p, err));
	free(big);
	expect(MFS_OK, mfs_policy_new("det", &p, err));
	p->sequence = 1;
	for (unsigned i = 0; i < MFS_ROLLOUTS_MAX; i++) {
		struct mfs_policy_entry e = { .manifest = { { 1 } }, .version = "1.0.0", .variant = "default", .release = 1 };
		struct mfs_policy_rollout *r;
		struct mfs_policy_variant *v;
		char id[16];

		snprintf(id, sizeof(id), "r%u", i);
		expect(MFS_OK, mfs_policy_rollout_add(p, i, id, "s", &r, err));
		expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
		expect(MFS_OK, mfs_policy_step_add(r, 1, 0, false, err));
		expect_says(MFS_CONFIG_INVALID, "exists already", mfs_policy_rollout_add(p, 0, id, "s", &r, err));
	}
	{
		struct mfs_policy_rollout *r;
		char *out;
		size_t len;

		expect(MFS_LIMIT_EXCEEDED, mfs_policy_rollout_add(p, 0, "more", "s", &r, err));
		expect(MFS_OK, mfs_policy_json(p, &out, &len, err));
		free(out);
	}
	mfs_policy_free(p);
}

/* ---- buckets ------------------------------------------------------------------------------------- */

Test(policy, bucket_known_answers)
{
	/* printf 's1\0dev-1' | sha256sum: first 16 digits, times 10000 / 2^64 by bc. */
	static const struct {
		const char *salt, *id;
		unsigned bucket;
	} known[] = {
		{ "s1", "dev-1", 4030 },           /* 672d3cee82ec45a9 */
		{ "s1", "dev-2", 7077 },           /* b5318cd59adcdc29 */
		{ "canary", "jetson-0001", 1162 }, /* 1dc5714b06bbba32 */
		{ "x", "y", 8055 },                /* ce3890a816f5237a */
		{ "2026-11", "dev-1", 1881 },      /* 30290ef39b5fdac5 */
	};
	char *id = malloc(5000);
	unsigned b;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		expect(MFS_OK, mfs_policy_bucket(known[i].salt, known[i].id, &b, err));
		cr_assert_eq(b, known[i].bucket, "%s %s: %u", known[i].salt, known[i].id, b);
	}
	memset(id, 'a', 4999);
	id[4999] = '\0'; /* python3: hashlib.sha256(b's\0' + b'a' * 4999) */
	expect(MFS_OK, mfs_policy_bucket("s", id, &b, err));
	cr_assert_eq(b, 1394, "%u", b);
	free(id);
}

/* A rollout of det for everybody: one step of `fraction`. */
static struct mfs_policy *
simple(const char *salt, int64_t fraction)
{
	struct mfs_policy_entry e = { .manifest = { { 1 } }, .version = "1.0.0", .variant = "default", .release = 5 };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	p->sequence = 1;
	expect(MFS_OK, mfs_policy_rollout_add(p, 0, "r", salt, &r, err));
	expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
	expect(MFS_OK, mfs_policy_step_add(r, fraction, 0, false, err));
	return p;
}

static bool
included(const struct mfs_policy *p, const char *id)
{
	struct mfs_policy_device d = { .id = id };
	struct mfs_policy_choice c;

	return mfs_policy_select(p, &d, NOW, &c, NULL, NULL) == MFS_OK;
}

#define FLEET 20000

Test(policy, cohorts_have_the_size_of_the_fraction_and_only_grow)
{
	static const int64_t fractions[] = { 0, 1, 100, 1000, 2500, 5000, 9999, 10000 };
	static bool was[FLEET];
	struct mfs_policy *p = simple("cohort", 0);

	for (size_t f = 0; f < sizeof(fractions) / sizeof(fractions[0]); f++) {
		const double share = (double)fractions[f] / 10000, mean = FLEET * share, variance = mean * (1 - share);
		int n = 0;

		p->rollouts[0].steps[0].fraction = fractions[f];
		for (int i = 0; i < FLEET; i++) {
			char id[32];
			bool in;

			snprintf(id, sizeof(id), "device-%d", i);
			in = included(p, id);
			cr_assert(in || !was[i], "%s fell out at %d", id, (int)fractions[f]);
			was[i] = in;
			n += in;
		}
		cr_assert((n - mean) * (n - mean) <= 25 * variance, "%d of %d at %d", n, FLEET, (int)fractions[f]);
	}
	mfs_policy_free(p);
}

Test(policy, another_salt_makes_other_devices_the_first_ones)
{
	struct mfs_policy *p = simple("one", 1000), *q = simple("two", 1000);
	int both = 0, first = 0;

	for (int i = 0; i < FLEET; i++) {
		char id[32];
		bool in;

		snprintf(id, sizeof(id), "device-%d", i);
		in = included(p, id);
		first += in;
		both += in && included(q, id);
	}
	/* 10 % of the first 10 %; 5 sigma of a binomial. */
	cr_assert((both - first * 0.1) * (both - first * 0.1) <= 25 * first * 0.09, "%d of %d in both", both, first);
	mfs_policy_free(p);
	mfs_policy_free(q);
}

/* ---- match ------------------------------------------------------------------------------------------ */

static bool
holds(const char *key, const char *value, const struct mfs_policy_device *d)
{
	struct mfs_match m = { 0 };
	bool r;

	expect(MFS_OK, mfs_match_add(&m, key, "never", err));
	expect(MFS_OK, mfs_match_add(&m, key, value, err));
	r = mfs_match_holds(&m, d);
	mfs_match_clear(&m);
	return r;
}

Test(policy, match_over_facts_labels_and_apps)
{
	static char site[] = "site", berlin[] = "berlin", vision[] = "vision", v320[] = "3.2.0", odd[] = "odd", r7[] = "r7",
		    class_[] = "class", fake[] = "fake";
	const struct mfs_range labels[] = { { site, berlin, NULL }, { class_, fake, NULL } };
	const struct mfs_range apps[] = { { vision, v320, NULL }, { odd, r7, NULL } };
	const struct mfs_policy_device d = { .id = "dev-1", .class = "jetson", .channel = "beta", .labels = labels, .n_labels = 2,
		.apps = apps, .n_apps = 2 };
	const struct mfs_match none = { 0 };

	cr_assert(mfs_match_holds(&none, &d));
	cr_assert(holds("id", "dev-1", &d));
	cr_assert(holds("device_id", "dev-1", &d));
	cr_assert(holds("class", "jetson", &d));
	cr_assert(holds("device_class", "jetson", &d));
	cr_assert(holds("channel", "beta", &d));
	cr_assert(holds("site", "berlin", &d));
	cr_assert_not(holds("class", "fake", &d), "a label overrode a fact");
	cr_assert_not(holds("class", "JETSON", &d));
	cr_assert_not(holds("region", "eu", &d), "the device does not say");
	cr_assert_not(holds("unheard-of", "x", &d));
	cr_assert(holds("app.vision", "3.2.0", &d));
	cr_assert(holds("app.vision", ">=3.2.0", &d));
	cr_assert(holds("app.vision", ">=3.0.0 <4.0.0", &d));
	cr_assert(holds("app.vision", "<3.2.1 >3.1.9 =3.2.0 <=3.2.0", &d));
	cr_assert_not(holds("app.vision", ">3.2.0", &d));
	cr_assert_not(holds("app.vision", ">=3.0.0 <3.1.0", &d));
	cr_assert_not(holds("app.vision", "3.2", &d));
	cr_assert_not(holds("app.vision", ">=3", &d));
	cr_assert_not(holds("app.vision", "<>3.0.0", &d));
	cr_assert_not(holds("app.vision", "=<9.0.0", &d));
	cr_assert_not(holds("app.vision", ">=3.0.0  <4.0.0", &d));
	cr_assert_not(holds("app.vision", " ", &d));
	cr_assert_not(holds("app.vision", ">=", &d));
	cr_assert(holds("app.odd", "r7", &d));
	cr_assert_not(holds("app.odd", ">=1.0.0", &d));
	cr_assert_not(holds("app.none", "1.0.0", &d));
}

Test(policy, all_keys_must_hold_and_an_unknown_one_only_excludes)
{
	struct mfs_policy_device d = { .id = "dev-1", .class = "jetson" };
	struct mfs_policy *p = simple("s", 10000);
	struct mfs_policy_choice c;
	struct mfs_match *m = &p->rollouts[0].match;

	expect(MFS_OK, mfs_match_add(m, "class", "jetson", err));
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	expect(MFS_OK, mfs_match_add(m, "moon-phase", "full", err));
	expect_says(MFS_NOT_SELECTED, "match does not hold", mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert_null(c.rollout);
	mfs_policy_free(p);
}

/* ---- steps -------------------------------------------------------------------------------------------- */

static unsigned
fraction_at(const struct mfs_policy *p, int64_t now, size_t *step)
{
	unsigned f;

	*step = mfs_policy_step_now(&p->rollouts[0], now, &f);
	return f;
}

Test(policy, a_step_waits_for_its_time_and_its_confirmation)
{
	struct mfs_policy *p = parsed(full);
	size_t step;

	cr_assert_eq(fraction_at(p, 1789999999, &step), 0);
	cr_assert_eq(step, 0);
	cr_assert_eq(fraction_at(p, 1790000000, &step), 1000);
	cr_assert_eq(step, 1);
	cr_assert_eq(mfs_policy_next_change(p, 1700000000), 1790000000);
	/* Time alone climbs no further, ever: step 2 is not confirmed, and step 3 comes after it. */
	cr_assert_eq(fraction_at(p, 4000000000, &step), 1000);
	cr_assert_eq(mfs_policy_next_change(p, 1790000000), INT64_MAX);
	p->rollouts[0].confirmed = 2;
	cr_assert_eq(fraction_at(p, 1790086399, &step), 1000);
	cr_assert_eq(mfs_policy_next_change(p, 1790000000), 1790086400);
	cr_assert_eq(fraction_at(p, 1790086400, &step), 5000);
	cr_assert_eq(step, 2);
	cr_assert_eq(mfs_policy_next_change(p, 1790086400), 1890000000);
	cr_assert_eq(fraction_at(p, 1890000000, &step), 10000); /* needs no confirmation */
	cr_assert_eq(mfs_policy_next_change(p, 1890000000), INT64_MAX);
	p->rollouts[0].confirmed = 0;
	cr_assert_eq(fraction_at(p, 4000000000, &step), 0);
	mfs_policy_free(p);
}

Test(policy, a_step_without_confirm_wants_confirmation)
{
	char text[sizeof(full)];
	const char *at = strstr(full, "\"confirm\":false,");
	struct mfs_policy *p;

	snprintf(text, sizeof(text), "%.*s%s", (int)(at - full), full, at + strlen("\"confirm\":false,"));
	p = parsed(text);
	cr_assert(p->rollouts[0].steps[2].confirm);
	mfs_policy_free(p);
}

/* ---- selection ------------------------------------------------------------------------------------------ */

static void
rollout(struct mfs_policy *p, const char *id, uint8_t manifest, const char *version, int64_t release, int64_t fraction)
{
	struct mfs_policy_entry e = { .manifest = { { manifest } }, .variant = "default", .release = release };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;

	strcpy(e.version, version);
	expect(MFS_OK, mfs_policy_rollout_add(p, p->n_rollouts, id, id, &r, err));
	expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
	expect(MFS_OK, mfs_policy_step_add(r, fraction, 0, false, err));
}

static const char *
version_for(const struct mfs_policy *p, const struct mfs_policy_device *d)
{
	struct mfs_policy_choice c;

	return mfs_policy_select(p, d, NOW, &c, NULL, NULL) == MFS_OK ? c.variant->entry.version : "none";
}

Test(policy, the_first_rollout_that_includes_the_device_wins)
{
	struct mfs_policy_device d = { .id = "dev-1", .class = "pi" }; /* bucket 4030 with salt s1 */
	struct mfs_policy_choice c;
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	rollout(p, "s1", 3, "3.0.0", 3, 4030);
	rollout(p, "old", 2, "2.0.0", 2, 10000);
	cr_assert_str_eq(version_for(p, &d), "2.0.0"); /* 4030 is not below 4030 */
	p->rollouts[0].steps[0].fraction = 4031;
	cr_assert_str_eq(version_for(p, &d), "3.0.0");
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert_null(c.passed);
	p->rollouts[0].steps[0].fraction = 0;
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert(c.passed == &p->rollouts[0] && c.passed_why == MFS_WHY_BUCKET);
	expect(MFS_OK, mfs_match_add(&p->rollouts[0].match, "class", "jetson", err));
	cr_assert_str_eq(version_for(p, &d), "2.0.0");
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert(c.passed == &p->rollouts[0] && c.passed_why == MFS_WHY_MATCH);
	mfs_policy_rollout_remove(p, mfs_policy_rollout_find(p, "old"));
	cr_assert_str_eq(version_for(p, &d), "none");
	mfs_policy_free(p);
}

Test(policy, revoked_and_too_old_versions_are_passed_over)
{
	struct mfs_revocation by_version = { .version = "3.0.0", .reason = "r", .action = MFS_ACTION_STOP };
	struct mfs_revocation by_manifest = { .manifest = { { 2 } }, .reason = "r", .action = MFS_ACTION_WITHDRAW };
	struct mfs_policy_device d = { .id = "dev-1" };
	struct mfs_policy_choice c;
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	rollout(p, "a", 3, "3.0.0", 3, 10000);
	rollout(p, "b", 2, "2.0.0", 2, 10000);
	rollout(p, "c", 1, "1.0.0", 1, 10000);
	expect(MFS_OK, mfs_policy_revoke(p, &by_version, err));
	cr_assert_str_eq(version_for(p, &d), "2.0.0");
	expect(MFS_OK, mfs_policy_revoke(p, &by_manifest, err));
	cr_assert_str_eq(version_for(p, &d), "1.0.0");
	p->min_release = 2;
	expect_says(MFS_NOT_SELECTED, "below min_release: 1.0.0", mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert_eq(mfs_policy_unrevoke(p, &by_manifest.manifest, NULL), 1);
	cr_assert_str_eq(version_for(p, &d), "2.0.0");
	cr_assert_eq(mfs_policy_unrevoke(p, NULL, "3.0.0"), 1);
	cr_assert_eq(mfs_policy_unrevoke(p, NULL, "3.0.0"), 0);
	cr_assert_str_eq(version_for(p, &d), "3.0.0");
	mfs_policy_free(p);
}

Test(policy, variants_in_order_and_a_rollout_without_one_is_passed_over)
{
	struct mfs_policy *p = parsed(full);
	static char accel[] = "accel", gpu[] = "gpu", site[] = "site", x[] = "x";
	const struct mfs_range labels[] = { { site, x, NULL }, { accel, gpu, NULL } };
	struct mfs_policy_device d = { .id = "dev-3", .class = "pi", .labels = labels, .n_labels = 2 };
	struct mfs_policy_choice c;

	p->rollouts[0].steps[0].fraction = 10000;
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert_str_eq(c.variant->entry.variant, "gpu");
	d.n_labels = 1;
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	cr_assert_str_eq(c.variant->entry.variant, "default");
	expect(MFS_OK, mfs_match_add(&p->rollouts[0].variants[1].match, "region", "eu", err));
	expect_says(MFS_NOT_SELECTED, "rollout 'r2': no variant matches", mfs_policy_select(p, &d, NOW, &c, NULL, err));
	d.region = "eu";
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	mfs_policy_free(p);
}

static bool
says(const struct mfs_policy_reason *r, const char *text)
{
	for (size_t i = 0; r->lines[i] != NULL; i++)
		if (strstr(r->lines[i], text) != NULL)
			return true;
	return false;
}

Test(policy, an_explanation_names_every_rollout_label_bucket_and_step)
{
	struct mfs_revocation revoked = { .version = "2.0.0", .reason = "drifts\x1b[31m", .action = MFS_ACTION_STOP };
	struct mfs_policy_device d = { .id = "dev-1", .class = "pi" };
	struct mfs_policy_explanation x;
	struct mfs_policy_choice c;
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	rollout(p, "s1", 3, "3.0.0", 3, 1000);
	expect(MFS_OK, mfs_policy_step_add(&p->rollouts[0], 5000, NOW + 86400, true, err));
	rollout(p, "jet", 3, "3.0.0", 3, 10000);
	expect(MFS_OK, mfs_match_add(&p->rollouts[1].match, "class", "jetson", err));
	expect(MFS_OK, mfs_match_add(&p->rollouts[1].match, "site", "y", err));
	rollout(p, "bad", 2, "2.0.0", 2, 10000);
	expect(MFS_OK, mfs_policy_revoke(p, &revoked, err));
	rollout(p, "all", 1, "1.0.0", 1, 10000);
	rollout(p, "later", 1, "1.0.0", 1, 10000);
	expect(MFS_OK, mfs_policy_select(p, &d, NOW, &c, &x, err));
	cr_assert_str_eq(c.rollout->id, "all");
	cr_assert_eq(x.n_reasons, 5);
	cr_assert_eq(x.reasons[0].why, MFS_WHY_BUCKET);
	cr_assert_eq(x.reasons[0].bucket, 4030);
	cr_assert(says(&x.reasons[0], "step 1 of 2 in effect: 10.00 %"));
	cr_assert(says(&x.reasons[0], "step 2: 50.00 % after 2027-01-16 08:00:00 UTC, once its publisher confirms it"));
	cr_assert(says(&x.reasons[0], "bucket 4030: not below 1000"));
	cr_assert_eq(x.reasons[1].why, MFS_WHY_MATCH);
	cr_assert(says(&x.reasons[1], "match class: 'jetson' wanted, this device has 'pi': no"));
	cr_assert(says(&x.reasons[1], "match site: 'y' wanted, this device does not say: no"));
	cr_assert_eq(x.reasons[2].why, MFS_WHY_REVOKED);
	cr_assert(says(&x.reasons[2], "variant default of 2.0.0: revoked: drifts\\x1b[31m"));
	cr_assert_eq(x.reasons[3].why, MFS_WHY_SELECTED);
	cr_assert(says(&x.reasons[3], "variant default of 1.0.0, release 1: yes"));
	cr_assert_eq(x.reasons[4].why, MFS_WHY_LATER);
	mfs_policy_explanation_clear(&x);
	/* Also when nothing is selected. */
	p->min_release = 9;
	expect(MFS_NOT_SELECTED, mfs_policy_select(p, &d, NOW, &c, &x, err));
	cr_assert_eq(x.n_reasons, 5);
	cr_assert_eq(x.reasons[4].why, MFS_WHY_MINIMUM);
	mfs_policy_explanation_clear(&x);
	mfs_policy_free(p);
}

Test(policy, without_rollouts_and_without_an_id_nothing_is_selected)
{
	struct mfs_policy_device d = { .id = "dev-1" };
	struct mfs_policy_choice c;
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	expect_says(MFS_NOT_SELECTED, "no rollouts", mfs_policy_select(p, &d, NOW, &c, NULL, err));
	rollout(p, "all", 1, "1.0.0", 1, 10000);
	d.id = "";
	expect(MFS_INTERNAL, mfs_policy_select(p, &d, NOW, &c, NULL, err));
	mfs_policy_free(p);
}

/* ---- the manifest ------------------------------------------------------------------------------------------ */

Test(policy, the_manifest_must_carry_the_names_of_the_entry)
{
	static char det[] = "det", seg[] = "seg", v1[] = "1.0.0", v2[] = "2.0.0", def[] = "default", gpu[] = "gpu";
	struct mfs_policy_entry e = { .manifest = { { 1 } }, .version = "1.0.0", .variant = "default", .release = 5 };
	struct mfs_manifest m = { .id = { { 1 } }, .model_id = det, .version = v1, .variant = def, .release = 5 };

	expect(MFS_OK, mfs_policy_entry_check(&e, "det", &m, err));
	m.release = 6;
	expect_says(MFS_MALFORMED, "release: 6, but the policy says 5", mfs_policy_entry_check(&e, "det", &m, err));
	m.variant = gpu;
	expect_says(MFS_MALFORMED, "variant", mfs_policy_entry_check(&e, "det", &m, err));
	m.version = v2;
	expect_says(MFS_MALFORMED, "version", mfs_policy_entry_check(&e, "det", &m, err));
	m.model_id = seg;
	expect_says(MFS_MALFORMED, "model_id", mfs_policy_entry_check(&e, "det", &m, err));
	m.id.b[0] = 2;
	expect(MFS_HASH_MISMATCH, mfs_policy_entry_check(&e, "det", &m, err));
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

Test(policy, what_could_not_be_read_is_not_written)
{
	struct mfs_policy *p = simple("s", 5000);
	struct mfs_policy_rollout *r = &p->rollouts[0];
	char *out;
	size_t len;

	p->sequence = 0;
	expect_says(MFS_MALFORMED, "sequence", mfs_policy_json(p, &out, &len, err));
	cr_assert_null(out);
	p->sequence = 1;
	expect(MFS_OK, mfs_policy_step_add(r, 4000, 0, true, err));
	expect_says(MFS_MALFORMED, "steps[1].fraction: below", mfs_policy_json(p, &out, &len, err));
	mfs_policy_steps_clear(r);
	expect_says(MFS_MALFORMED, "steps: 0 entries", mfs_policy_json(p, &out, &len, err));
	expect(MFS_OK, mfs_policy_step_add(r, 10001, 0, true, err));
	expect_says(MFS_MALFORMED, "fraction", mfs_policy_json(p, &out, &len, err));
	r->steps[0].fraction = 10000;
	r->confirmed = 2;
	expect_says(MFS_MALFORMED, "confirmed", mfs_policy_json(p, &out, &len, err));
	r->confirmed = 1;
	expect(MFS_OK, mfs_policy_json(p, &out, &len, err));
	free(out);
	strcpy(r->salt, "a\nb");
	expect_says(MFS_MALFORMED, "control character", mfs_policy_json(p, &out, &len, err));
	mfs_policy_free(p);
}

Test(policy, rollouts_are_inserted_where_they_are_wanted)
{
	struct mfs_policy_rollout *r;
	struct mfs_policy *p;

	expect(MFS_CONFIG_INVALID, mfs_policy_new("../det", &p, err));
	expect(MFS_OK, mfs_policy_new("det", &p, err));
	expect(MFS_OK, mfs_policy_rollout_add(p, 0, "b", "s", &r, err));
	expect(MFS_OK, mfs_policy_rollout_add(p, 0, "a", "s", &r, err));
	cr_assert_str_eq(r->id, "a");
	expect(MFS_OK, mfs_policy_rollout_add(p, 99, "c", "s", &r, err));
	cr_assert_str_eq(p->rollouts[0].id, "a");
	cr_assert_str_eq(p->rollouts[1].id, "b");
	cr_assert_str_eq(p->rollouts[2].id, "c");
	expect(MFS_CONFIG_INVALID, mfs_policy_rollout_add(p, 0, "no/slash", "s", &r, err));
	expect(MFS_CONFIG_INVALID, mfs_policy_rollout_add(p, 0, "d", "", &r, err));
	mfs_policy_rollout_remove(p, &p->rollouts[1]);
	cr_assert_null(mfs_policy_rollout_find(p, "b"));
	cr_assert_str_eq(p->rollouts[1].id, "c");
	mfs_policy_free(p);
}

Test(policy, a_second_revocation_of_the_same_replaces_the_first)
{
	struct mfs_revocation r = { .version = "1.0.0", .reason = "r", .action = MFS_ACTION_STOP };
	struct mfs_policy *p;

	expect(MFS_OK, mfs_policy_new("det", &p, err));
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	r.action = MFS_ACTION_WITHDRAW;
	expect(MFS_OK, mfs_policy_revoke(p, &r, err));
	cr_assert_eq(p->n_revoked, 1);
	cr_assert_eq(p->revoked[0].action, MFS_ACTION_WITHDRAW);
	r.manifest.b[0] = 1;
	expect(MFS_INTERNAL, mfs_policy_revoke(p, &r, err));
	mfs_policy_free(p);
}
