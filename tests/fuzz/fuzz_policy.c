/* SPDX-License-Identifier: Apache-2.0 */
/* A policy: what is accepted can be evaluated, written, read again, and put into the anchor. */
#include "mfs_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
evaluate(const struct mfs_policy *p)
{
	static char site[] = "site", x[] = "x", vision[] = "vision", version[] = "3.2.0";
	const struct mfs_range label = { site, x, NULL }, app = { vision, version, NULL };
	const struct mfs_policy_device d = { .id = "dev-1", .class = "jetson", .region = "eu", .labels = &label, .n_labels = 1,
		.apps = &app, .n_apps = 1 };
	const int64_t now = 1800000000, later = mfs_policy_next_change(p, now);
	struct mfs_policy_explanation e;
	struct mfs_policy_choice a, b;
	enum mfs_code code = mfs_policy_select(p, &d, now, &a, &e, NULL);

	must(code == MFS_OK || code == MFS_NOT_SELECTED || code == MFS_NO_MEMORY);
	must(mfs_policy_select(p, &d, now, &b, NULL, NULL) == code && a.rollout == b.rollout && a.variant == b.variant);
	must((code == MFS_OK) == (a.rollout != NULL));
	must(code == MFS_NO_MEMORY || e.n_reasons == p->n_rollouts);
	must(later > now);
	for (size_t i = 0; i < p->n_rollouts; i++) {
		unsigned f, g;
		size_t n = mfs_policy_step_now(&p->rollouts[i], now, &f);

		must(mfs_policy_step_now(&p->rollouts[i], later, &g) >= n && g >= f && g <= MFS_FRACTION_ALL);
	}
	if (code == MFS_OK) {
		struct mfs_verdict v;

		must(a.bucket < a.fraction);
		mfs_revocation_find(p->revoked, p->n_revoked, &a.variant->entry.manifest, a.variant->entry.version, &v);
		must(v.action == MFS_ACTION_NONE);
	}
	mfs_policy_explanation_clear(&e);
}

static void
remember(const struct mfs_policy *p)
{
	static const char empty[] = "{\"format\":\"modelfs-anchor/1.0\",\"models\":{}}";
	struct mfs_anchor_model *m;
	struct mfs_anchor *a, *b = NULL;
	enum mfs_policy_news news;
	struct mfs_enforcement e;
	char *one = NULL, *two = NULL;
	size_t n;

	must(mfs_anchor_parse(MFS_SPAN(empty, sizeof(empty) - 1), &a, NULL) == MFS_OK);
	must(mfs_anchor_add(a, "det", p->model_id, &m, NULL) == MFS_OK);
	must(mfs_policy_accept(m, p, &news, NULL) == MFS_OK && news == MFS_POLICY_NEW);
	must(mfs_anchor_policy_set(m, p, NULL) == MFS_OK);
	must(mfs_policy_accept(m, p, &news, NULL) == MFS_OK && news == MFS_POLICY_SAME);
	mfs_decide_enforce(m, NULL, &e);
	must(e.now == MFS_ENFORCE_KEEP);
	must(mfs_anchor_json(a, &one, &n, NULL) == MFS_OK && mfs_anchor_parse(MFS_SPAN(one, n), &b, NULL) == MFS_OK);
	must(mfs_anchor_json(b, &two, &n, NULL) == MFS_OK && strcmp(one, two) == 0);
	free(one);
	free(two);
	mfs_anchor_free(a);
	mfs_anchor_free(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_policy *p, *q;
	char *one, *two;
	size_t n;

	if (mfs_policy_parse(MFS_SPAN(data, size), NULL, &p, NULL) != MFS_OK)
		return 0;
	evaluate(p);
	remember(p);
	if (mfs_policy_json(p, &one, &n, NULL) == MFS_OK) { /* a default that is spelt out may pass the cap */
		must(mfs_policy_parse(MFS_SPAN(one, n), p->model_id, &q, NULL) == MFS_OK);
		must(mfs_policy_json(q, &two, &n, NULL) == MFS_OK && strcmp(one, two) == 0);
		free(one);
		free(two);
		mfs_policy_free(q);
	}
	mfs_policy_free(p);
	return 0;
}
