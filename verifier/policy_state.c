/* SPDX-License-Identifier: Apache-2.0 */
/* A policy against trusted state: may it come into force, and what is then in the anchor. */
#include "internal.h"

#include "mfs_policy.h"

#define LL(x) ((long long)(x))

enum mfs_code
mfs_policy_accept(const struct mfs_anchor_model *st, const struct mfs_policy *p, enum mfs_policy_news *news,
	struct mfs_err *err)
{
	*news = MFS_POLICY_NEW;
	if (p == NULL) {
		if (st == NULL || st->policy_sequence == 0)
			return mfs_fail(err, MFS_NOT_SELECTED, "policy.json: the repository has none for this model: nothing says "
				"what to run");
		return mfs_fail(err, MFS_POLICY_REJECTED,
			"model %s: policy.json is gone from the repository: sequence %lld stays in force, and nothing new is "
			"activated until one is back",
			st->id, LL(st->policy_sequence));
	}
	if (st == NULL)
		return MFS_OK;
	if (strcmp(st->model_id, p->model_id) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "model %s: the trusted state holds model_id '%s', this policy is for '%s'",
			st->id, st->model_id, MFS_ESC(p->model_id));
	if (st->policy_sequence == 0 || p->sequence > st->policy_sequence)
		return MFS_OK;
	if (p->sequence < st->policy_sequence)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
			"model %s: policy.json has sequence %lld, older than %lld, which is in force and stays", st->id,
			LL(p->sequence), LL(st->policy_sequence));
	if (!mfs_sha256_equal(&p->sha256, &st->policy_sha256))
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
			"model %s: policy.json has sequence %lld like the one in force, but other bytes (SHA-256 %s, not %s): the "
			"publisher gives each change a new sequence",
			st->id, LL(p->sequence), MFS_HEX(&p->sha256), MFS_HEX(&st->policy_sha256));
	*news = MFS_POLICY_SAME;
	return MFS_OK;
}

enum mfs_code
mfs_anchor_policy_set(struct mfs_anchor_model *st, const struct mfs_policy *p, struct mfs_err *err)
{
	struct mfs_revocation *list = NULL;

	if (p->n_revoked > 0) {
		if ((list = calloc(p->n_revoked, sizeof(*list))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "model %s: %zu revocations", st->id, p->n_revoked);
		memcpy(list, p->revoked, p->n_revoked * sizeof(*list));
	}
	free(st->revoked);
	st->revoked = list;
	st->n_revoked = p->n_revoked;
	st->policy_sequence = p->sequence;
	st->policy_sha256 = p->sha256;
	st->policy_issued = p->issued;
	st->withdraw_below = p->withdraw_below;
	st->min_release = p->min_release;
	st->min_key_epoch = p->min_key_epoch;
	mfs_anchor_high_raise(st, p->min_key_epoch, p->min_release);
	return MFS_OK;
}

/* ---- what cannot be written down ---------------------------------------------------------------------------- */

static struct mfs_revocation *
revocation_same(struct mfs_revocation *list, size_t n, const struct mfs_revocation *r)
{
	for (size_t i = 0; i < n; i++)
		if (mfs_sha256_equal(&list[i].manifest, &r->manifest) && strcmp(list[i].version, r->version) == 0)
			return &list[i];
	return NULL;
}

/* One more revocation; of two that name the same the severer one stays. */
static void
revocation_join(struct mfs_revocation *list, size_t *n, const struct mfs_revocation *r)
{
	struct mfs_revocation *have = revocation_same(list, *n, r);
	bool otherwise;

	if (have == NULL) {
		list[(*n)++] = *r;
		return;
	}
	if (have->action > r->action)
		return;
	otherwise = have->action == MFS_ACTION_ROLLBACK && have->otherwise_withdraw;
	*have = *r;
	have->otherwise_withdraw = have->action == MFS_ACTION_ROLLBACK && (have->otherwise_withdraw || otherwise);
}

/* Which of two minima counts meanwhile: one that withdraws before one that does not, then the higher one. */
static bool
minimum_tighter(const struct mfs_anchor_model *st, const struct mfs_policy *p)
{
	if (p->withdraw_below != st->withdraw_below)
		return p->withdraw_below;
	return mfs_release_compare(p->min_key_epoch, p->min_release, st->min_key_epoch, st->min_release) > 0;
}

enum mfs_code
mfs_anchor_policy_tighten(struct mfs_anchor_model *st, const struct mfs_policy *p, struct mfs_err *err)
{
	struct mfs_revocation *list = NULL;
	size_t n = st->n_revoked;

	if (p->n_revoked > 0) {
		if ((list = calloc(n + p->n_revoked, sizeof(*list))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "model %s: %zu revocations", st->id, n + p->n_revoked);
		if (n > 0)
			memcpy(list, st->revoked, n * sizeof(*list));
		for (size_t i = 0; i < p->n_revoked; i++)
			revocation_join(list, &n, &p->revoked[i]);
		if (n > MFS_REVOKED_MAX) { /* more than an anchor holds: the publisher's newest word alone */
			memcpy(list, p->revoked, p->n_revoked * sizeof(*list));
			n = p->n_revoked;
		}
		free(st->revoked);
		st->revoked = list;
		st->n_revoked = n;
	}
	if (minimum_tighter(st, p)) {
		st->withdraw_below = p->withdraw_below;
		st->min_release = p->min_release;
		st->min_key_epoch = p->min_key_epoch;
	}
	mfs_anchor_high_raise(st, p->min_key_epoch, p->min_release);
	return MFS_OK;
}

void
mfs_revocation_find(const struct mfs_revocation *list, size_t n, const struct mfs_sha256 *manifest, const char *version,
	struct mfs_verdict *out)
{
	const struct mfs_revocation *found = NULL;

	*out = (struct mfs_verdict){ 0 };
	for (size_t i = 0; i < n; i++) {
		const struct mfs_revocation *r = &list[i];
		const bool by_manifest = !mfs_sha256_is_zero(&r->manifest);

		if (by_manifest ? !mfs_sha256_equal(&r->manifest, manifest) : strcmp(r->version, version) != 0)
			continue;
		if (found == NULL || r->action > found->action ||
			(r->action == found->action && by_manifest && mfs_sha256_is_zero(&found->manifest)))
			found = r;
	}
	if (found == NULL)
		return;
	*out = (struct mfs_verdict){ .action = found->action, .why = MFS_REVOKED, .reason = found->reason };
	if (found->action != MFS_ACTION_ROLLBACK)
		return;
	out->otherwise_withdraw = found->otherwise_withdraw;
	if (!mfs_sha256_is_zero(&found->rollback_to.manifest))
		out->rollback_to = &found->rollback_to;
}
