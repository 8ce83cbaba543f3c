/* SPDX-License-Identifier: Apache-2.0 */
/* What the policy in force demands of the versions a host has: modelfs-policy(5), REVOCATION. */
#include "internal.h"

#include "mfs_policy.h"

static bool
present(const struct mfs_vref *v)
{
	return !mfs_sha256_is_zero(&v->manifest);
}

static int
compare(const struct mfs_vref *a, const struct mfs_vref *b)
{
	return mfs_release_compare(a->key_epoch, a->release, b->key_epoch, b->release);
}

void
mfs_policy_verdict(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_verdict *out)
{
	mfs_revocation_find(st->revoked, st->n_revoked, &v->manifest, v->version, out);
	if (out->action == MFS_ACTION_WITHDRAW ||
		mfs_minimum_check("policy", st->min_key_epoch, st->min_release, v, NULL) == MFS_OK)
		return;
	/* Both against it: the severer one counts. */
	if (st->withdraw_below)
		*out = (struct mfs_verdict){ .action = MFS_ACTION_WITHDRAW, .why = MFS_POLICY_REJECTED };
	else if (out->action == MFS_ACTION_NONE)
		*out = (struct mfs_verdict){ .action = MFS_ACTION_STOP, .why = MFS_POLICY_REJECTED };
}

/* ---- rollback_to ------------------------------------------------------------------------------------ */

static bool
names(const struct mfs_revocation *r, const struct mfs_vref *v)
{
	return present(v) && (mfs_sha256_is_zero(&r->manifest) ? strcmp(r->version, v->version) == 0
								: mfs_sha256_equal(&r->manifest, &v->manifest));
}

/* The newest version that this revocation names and that was active here, or NULL. */
static const struct mfs_vref *
revoked_here(const struct mfs_anchor_model *st, const struct mfs_revocation *r)
{
	const struct mfs_vref *found = names(r, &st->active) ? &st->active : NULL;

	for (size_t i = 0; i < st->n_known; i++)
		if (names(r, &st->known[i]) && (found == NULL || compare(&st->known[i], found) > 0))
			found = &st->known[i];
	for (size_t i = 0; i < st->n_retained; i++)
		if (names(r, &st->retained[i]) && (found == NULL || compare(&st->retained[i], found) > 0))
			found = &st->retained[i];
	return found;
}

/*
 * Does this host still have to go to r's rollback_to? Only where the revoked version ran, and where
 * neither the floor nor the active version has got beyond it since: else a revocation of long ago
 * would be a way back for whoever holds an old bundle.
 */
static const struct mfs_vref *
rollback_due(const struct mfs_anchor_model *st, const struct mfs_revocation *r)
{
	const struct mfs_vref *was;

	if (r->action != MFS_ACTION_ROLLBACK || mfs_sha256_is_zero(&r->rollback_to.manifest) ||
		mfs_sha256_equal(&r->rollback_to.manifest, &st->active.manifest) || (was = revoked_here(st, r)) == NULL)
		return NULL;
	if (mfs_release_compare(st->floor_epoch, st->floor_release, was->key_epoch, was->release) > 0 ||
		(present(&st->active) && compare(&st->active, was) > 0))
		return NULL;
	return was;
}

/* As far as it can be said without the manifest: the key epoch is unknown before it. */
static bool
entry_allowed(const struct mfs_anchor_model *st, const struct mfs_policy_entry *e)
{
	struct mfs_verdict verdict;

	for (size_t i = 0; i < st->n_bad; i++)
		if (mfs_sha256_equal(&st->bad[i].manifest, &e->manifest))
			return false;
	mfs_revocation_find(st->revoked, st->n_revoked, &e->manifest, e->version, &verdict);
	return verdict.action == MFS_ACTION_NONE && (st->min_key_epoch != 0 || e->release >= st->min_release);
}

/* The rollback_to that is due for the newest revoked version, or NULL. */
static const struct mfs_policy_entry *
rollback_wanted(const struct mfs_anchor_model *st)
{
	const struct mfs_policy_entry *found = NULL;
	const struct mfs_vref *newest = NULL;

	for (size_t i = 0; i < st->n_revoked; i++) {
		const struct mfs_vref *was = rollback_due(st, &st->revoked[i]);

		if (was == NULL || !entry_allowed(st, &st->revoked[i].rollback_to) ||
			(newest != NULL && compare(was, newest) <= 0))
			continue;
		newest = was;
		found = &st->revoked[i].rollback_to;
	}
	return found;
}

/* ---- the active version --------------------------------------------------------------------------------- */

/* Where to go from a version that is to be rolled back: rollback_to, else the newest that is kept and good. */
static const struct mfs_vref *
stand_in(const struct mfs_anchor_model *st, const struct mfs_policy_entry *wanted, const struct mfs_minimum *min)
{
	const struct mfs_vref *found = NULL;

	for (size_t i = 0; i < st->n_retained; i++) {
		const struct mfs_vref *v = &st->retained[i];

		if (mfs_condemned_check(st, v, NULL) != MFS_OK || mfs_minima_check(st, min, v, NULL) != MFS_OK)
			continue;
		if (wanted != NULL && mfs_sha256_equal(&wanted->manifest, &v->manifest) &&
			mfs_minimum_check("", st->high_epoch, st->high_release, v, NULL) == MFS_OK)
			return v;
		if (found == NULL || compare(v, found) > 0)
			found = v;
	}
	return found;
}

void
mfs_decide_enforce(const struct mfs_anchor_model *st, const struct mfs_minimum *min, struct mfs_enforcement *out)
{
	const struct mfs_policy_entry *wanted = rollback_wanted(st);

	*out = (struct mfs_enforcement){ .now = MFS_ENFORCE_KEEP, .fetch = wanted };
	if (!present(&st->active))
		return;
	mfs_policy_verdict(st, &st->active, &out->verdict);
	if (out->verdict.action == MFS_ACTION_WITHDRAW) {
		out->now = MFS_ENFORCE_WITHDRAW;
		return;
	}
	if (out->verdict.action != MFS_ACTION_ROLLBACK)
		return;
	if ((out->to = stand_in(st, wanted, min)) != NULL)
		out->now = MFS_ENFORCE_SWITCH;
	else if (out->verdict.otherwise_withdraw)
		out->now = MFS_ENFORCE_WITHDRAW;
	if (out->to != NULL && wanted != NULL && mfs_sha256_equal(&out->to->manifest, &wanted->manifest))
		out->fetch = NULL;
}

enum mfs_code
mfs_anchor_enforce(struct mfs_anchor_model *st, const struct mfs_enforcement *e, const struct mfs_minimum *min,
	struct mfs_err *err)
{
	static const struct mfs_vref none;

	if (e->now == MFS_ENFORCE_KEEP)
		return MFS_OK;
	return mfs_anchor_go(st, e->now == MFS_ENFORCE_SWITCH ? e->to : &none, min, err);
}

bool
mfs_policy_behind(const struct mfs_anchor_model *st, const struct mfs_manifest *m, const struct mfs_minimum *min)
{
	return st != NULL && present(&st->active) &&
		mfs_release_compare(m->key_epoch, m->release, st->active.key_epoch, st->active.release) < 0 &&
		mfs_decide_retained(st, &st->active, min, NULL) == MFS_OK;
}

/* ---- installing what a revocation asks for ---------------------------------------------------------------- */

enum mfs_code
mfs_decide_rollback_to(const struct mfs_anchor_model *st, const char *model_id, const struct mfs_manifest *m,
	const struct mfs_minimum *min, enum mfs_install *how, struct mfs_err *err)
{
	const struct mfs_vref v = mfs_vref_of(m);
	const struct mfs_policy_entry *e = NULL;
	enum mfs_code code;

	*how = MFS_INSTALL_NEW;
	if ((code = mfs_model_check(st, model_id, m, err)) != MFS_OK)
		return code;
	for (size_t i = 0; st != NULL && i < st->n_revoked && e == NULL; i++)
		if (mfs_sha256_equal(&st->revoked[i].rollback_to.manifest, &v.manifest) &&
			rollback_due(st, &st->revoked[i]) != NULL)
			e = &st->revoked[i].rollback_to;
	if (e == NULL)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
			"%s %s: manifest %s: no revocation in force asks this host to go back to it", m->model_id, v.version,
			MFS_HEX(&v.manifest));
	if ((code = mfs_policy_entry_check(e, st->model_id, m, err)) != MFS_OK ||
		(code = mfs_condemned_check(st, &v, err)) != MFS_OK || (code = mfs_minima_check(st, min, &v, err)) != MFS_OK ||
		(code = mfs_minimum_check("policies seen so far", st->high_epoch, st->high_release, &v, err)) != MFS_OK ||
		(code = mfs_names_check(st, st->known, st->n_known, &v, err)) != MFS_OK ||
		(code = mfs_names_check(st, &st->active, 1, &v, err)) != MFS_OK ||
		(code = mfs_names_check(st, st->retained, st->n_retained, &v, err)) != MFS_OK)
		return code;
	return mfs_release_check(st, &v, err);
}
