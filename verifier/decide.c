/* SPDX-License-Identifier: Apache-2.0 */
/* Which version may become active, which may be gone back to, and what the anchor then says. */
#include "internal.h"

#include "mfs_policy.h"

#define LL(x) ((long long)(x))

int
mfs_release_compare(int64_t epoch_a, int64_t release_a, int64_t epoch_b, int64_t release_b)
{
	if (epoch_a != epoch_b)
		return epoch_a < epoch_b ? -1 : 1;
	return (release_a > release_b) - (release_a < release_b);
}

static int
vref_compare(const struct mfs_vref *a, const struct mfs_vref *b)
{
	return mfs_release_compare(a->key_epoch, a->release, b->key_epoch, b->release);
}

static bool
present(const struct mfs_vref *v)
{
	return !mfs_sha256_is_zero(&v->manifest);
}

const struct mfs_vref *
mfs_vref_find(const struct mfs_vref *list, size_t n, const struct mfs_sha256 *manifest)
{
	for (size_t i = 0; i < n; i++)
		if (mfs_sha256_equal(&list[i].manifest, manifest))
			return &list[i];
	return NULL;
}

struct mfs_vref
mfs_vref_of(const struct mfs_manifest *m)
{
	struct mfs_vref v = { .manifest = m->id, .release = m->release, .key_epoch = m->key_epoch };

	(void)snprintf(v.version, sizeof(v.version), "%s", m->version);
	(void)snprintf(v.variant, sizeof(v.variant), "%s", m->variant);
	return v;
}

/* ---- what forbids a version whatever leads to it ------------------------------------------------------ */

static enum mfs_code
bad_check(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_err *err)
{
	for (size_t i = 0; i < st->n_bad; i++)
		if (mfs_sha256_equal(&st->bad[i].manifest, &v->manifest))
			return mfs_fail(err, MFS_KNOWN_BAD,
				"version %s (manifest %s) was condemned here: %s; 'modelfs mark good' lifts that", v->version,
				MFS_HEX(&v->manifest), mfs_code_name(st->bad[i].why));
	return MFS_OK;
}

enum mfs_code
mfs_condemned_check(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_err *err)
{
	struct mfs_verdict verdict;
	enum mfs_code code;

	if ((code = bad_check(st, v, err)) != MFS_OK)
		return code;
	mfs_revocation_find(st->revoked, st->n_revoked, &v->manifest, v->version, &verdict);
	if (verdict.action != MFS_ACTION_NONE)
		return mfs_fail(err, MFS_REVOKED, "version %s (manifest %s) is revoked by its publisher ('%s'): install a later one",
			v->version, MFS_HEX(&v->manifest), MFS_ESC(verdict.reason));
	return MFS_OK;
}

/*
 * min_release counts within min_key_epoch, since a later epoch starts a new release line;
 * without a min_key_epoch it counts in every epoch.
 */
enum mfs_code
mfs_minimum_check(const char *who, int64_t min_epoch, int64_t min_release, const struct mfs_vref *v, struct mfs_err *err)
{
	if (v->key_epoch < min_epoch)
		return mfs_fail(err, MFS_POLICY_REJECTED, "version %s: key_epoch %lld is below the minimum %lld of the %s",
			v->version, LL(v->key_epoch), LL(min_epoch), who);
	if ((min_epoch == 0 || v->key_epoch == min_epoch) && v->release < min_release)
		return mfs_fail(err, MFS_POLICY_REJECTED, "version %s: release %lld is below the minimum %lld of the %s",
			v->version, LL(v->release), LL(min_release), who);
	return MFS_OK;
}

enum mfs_code
mfs_minima_check(const struct mfs_anchor_model *st, const struct mfs_minimum *min, const struct mfs_vref *v,
	struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	if (st != NULL)
		code = mfs_minimum_check("policy", st->min_key_epoch, st->min_release, v, err);
	if (code == MFS_OK && min != NULL)
		code = mfs_minimum_check("configuration", min->min_key_epoch, min->min_release, v, err);
	return code;
}

/* ---- installation ---------------------------------------------------------------------------------------- */

/* (model_id, version, variant) names one manifest for ever; all variants of a version share its release. */
enum mfs_code
mfs_names_check(const struct mfs_anchor_model *st, const struct mfs_vref *list, size_t n, const struct mfs_vref *v,
	struct mfs_err *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct mfs_vref *k = &list[i];

		if (!present(k) || mfs_sha256_equal(&k->manifest, &v->manifest) || strcmp(k->version, v->version) != 0)
			continue;
		if (strcmp(k->variant, v->variant) == 0)
			return mfs_fail(err, MFS_POLICY_REJECTED,
				"%s %s (%s): manifest %s is a second one for this version, known here is %s: publish a new version",
				st->model_id, v->version, v->variant, MFS_HEX(&v->manifest), MFS_HEX(&k->manifest));
		if (k->key_epoch == v->key_epoch && k->release != v->release)
			return mfs_fail(err, MFS_POLICY_REJECTED,
				"%s %s: variant %s has release %lld, known here is variant %s with release %lld: all variants of a "
				"version share its release",
				st->model_id, v->version, v->variant, LL(v->release), k->variant, LL(k->release));
	}
	return MFS_OK;
}

/* A release number names one version, also above the floor (after a rollback). */
enum mfs_code
mfs_release_check(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_err *err)
{
	for (size_t i = 0; i < st->n_known; i++) {
		const struct mfs_vref *k = &st->known[i];

		if (vref_compare(k, v) == 0 && strcmp(k->version, v->version) != 0)
			return mfs_fail(err, MFS_POLICY_REJECTED,
				"%s %s: manifest %s claims release %lld, known here as version %s (manifest %s): publish it under a "
				"new release",
				st->model_id, v->version, MFS_HEX(&v->manifest), LL(v->release), k->version, MFS_HEX(&k->manifest));
	}
	return MFS_OK;
}

static enum mfs_code
rollback_fail(const struct mfs_anchor_model *st, const struct mfs_vref *v, const char *what, int64_t epoch, int64_t release,
	const char *version, struct mfs_err *err)
{
	const bool older = mfs_release_compare(v->key_epoch, v->release, epoch, release) < 0;

	(void)mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "%s %s: release %lld (key epoch %lld) is %s %s %lld (key epoch %lld)%s%s%s",
		st->model_id, v->version, LL(v->release), LL(v->key_epoch), older ? "older than" : "the same as", what,
		LL(release), LL(epoch), version != NULL ? " of version " : "", version != NULL ? version : "",
		older ? "" : ", which is another version");
	if (mfs_vref_find(st->retained, st->n_retained, &v->manifest) != NULL)
		return mfs_err_hint(err, "; it is kept on this host: 'modelfs rollback %s' goes back", st->id);
	return mfs_err_hint(err, "; installing never goes back ('modelfs rollback %s' goes to a version kept on this host)",
		st->id);
}

/* Whether the active version may stay: what is only stopped, or below a minimum that does not withdraw, may. */
static enum mfs_code
active_check(const struct mfs_anchor_model *st, const struct mfs_minimum *min, struct mfs_err *err)
{
	struct mfs_enforcement e;
	enum mfs_code code;

	if ((code = bad_check(st, &st->active, err)) != MFS_OK || (code = mfs_minima_check(NULL, min, &st->active, err)) != MFS_OK)
		return code;
	mfs_decide_enforce(st, min, &e);
	if (e.now == MFS_ENFORCE_KEEP)
		return MFS_OK;
	if (e.verdict.why == MFS_REVOKED)
		return mfs_condemned_check(st, &st->active, err);
	return mfs_minima_check(st, NULL, &st->active, err);
}

/* The floor's version as far as it is known, or NULL. */
static const struct mfs_vref *
floor_vref(const struct mfs_anchor_model *st)
{
	const struct mfs_vref *v = mfs_vref_find(st->known, st->n_known, &st->floor_manifest);

	if (v == NULL)
		v = mfs_vref_find(st->retained, st->n_retained, &st->floor_manifest);
	if (v == NULL)
		v = mfs_vref_find(&st->active, 1, &st->floor_manifest);
	return v;
}

static bool
not_behind(const struct mfs_vref *v, const struct mfs_vref *of)
{
	const int c = vref_compare(v, of);

	return c > 0 || (c == 0 && strcmp(v->version, of->version) == 0);
}

/*
 * A version that is kept here and neither condemned nor below a minimum may come back, but only
 * forward while the active version may be served; and without one, or with one that may not, only
 * if the floor's version may not be served either: a stick with an older version, which is no more
 * than a replay, must not go back behind a good one.
 */
static bool
listed_allows(const struct mfs_anchor_model *st, const struct mfs_minimum *min, const struct mfs_vref *v)
{
	const bool good = present(&st->active) && active_check(st, min, NULL) == MFS_OK;
	const struct mfs_vref *f = floor_vref(st);

	if (mfs_sha256_equal(&st->floor_manifest, &v->manifest))
		return !good || not_behind(v, &st->active);
	if (mfs_vref_find(st->retained, st->n_retained, &v->manifest) == NULL)
		return false;
	if (good)
		return not_behind(v, &st->active);
	return f != NULL &&
		(mfs_condemned_check(st, f, NULL) != MFS_OK || mfs_minima_check(st, min, f, NULL) != MFS_OK);
}

static enum mfs_code
forward_check(const struct mfs_anchor_model *st, const struct mfs_minimum *min, const struct mfs_vref *v,
	struct mfs_err *err)
{
	const struct mfs_vref *f = floor_vref(st);
	const char *at_floor = f != NULL ? f->version : NULL;
	int c;

	if (listed_allows(st, min, v))
		return MFS_OK;
	if (present(&st->active)) {
		c = vref_compare(v, &st->active);
		if (c < 0 || (c == 0 && strcmp(v->version, st->active.version) != 0))
			return rollback_fail(st, v, "the active release", st->active.key_epoch, st->active.release,
				st->active.version, err);
	}
	c = mfs_release_compare(v->key_epoch, v->release, st->floor_epoch, st->floor_release);
	if (c < 0 || (c == 0 && (at_floor == NULL || strcmp(at_floor, v->version) != 0)))
		return rollback_fail(st, v, "the committed release", st->floor_epoch, st->floor_release, at_floor, err);
	return MFS_OK;
}

enum mfs_code
mfs_model_check(const struct mfs_anchor_model *st, const char *model_id, const struct mfs_manifest *m, struct mfs_err *err)
{
	if (strcmp(m->model_id, model_id) != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: model_id: '%s', but '%s' is wanted here", m->model_id,
			MFS_ESC(model_id));
	if (st != NULL && strcmp(st->model_id, m->model_id) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"model %s: the trusted state holds model_id '%s', the configuration now says '%s': give the new one a "
			"name of its own",
			st->id, st->model_id, m->model_id);
	return MFS_OK;
}

enum mfs_code
mfs_decide_install(const struct mfs_anchor_model *st, const char *model_id, const struct mfs_manifest *m,
	const struct mfs_minimum *min, enum mfs_install *how, struct mfs_err *err)
{
	const struct mfs_vref v = mfs_vref_of(m);
	enum mfs_code code;

	*how = MFS_INSTALL_NEW;
	if ((code = mfs_model_check(st, model_id, m, err)) != MFS_OK)
		return code;
	if (st == NULL)
		return mfs_minima_check(NULL, min, &v, err);
	/* The active version again: what may not be served is not repaired either. */
	if (mfs_sha256_equal(&st->active.manifest, &v.manifest)) {
		*how = MFS_INSTALL_SAME;
		return mfs_decide_retained(st, &st->active, min, err);
	}
	if ((code = mfs_condemned_check(st, &v, err)) != MFS_OK || (code = mfs_minima_check(st, min, &v, err)) != MFS_OK)
		return code;
	if ((code = mfs_names_check(st, st->known, st->n_known, &v, err)) != MFS_OK ||
		(code = mfs_names_check(st, &st->active, 1, &v, err)) != MFS_OK ||
		(code = mfs_names_check(st, st->retained, st->n_retained, &v, err)) != MFS_OK ||
		(code = forward_check(st, min, &v, err)) != MFS_OK)
		return code;
	return mfs_release_check(st, &v, err);
}

enum mfs_code
mfs_decide_retained(const struct mfs_anchor_model *st, const struct mfs_vref *v, const struct mfs_minimum *min,
	struct mfs_err *err)
{
	enum mfs_code code;

	if (!present(v) || (!mfs_sha256_equal(&st->active.manifest, &v->manifest) &&
				   !mfs_sha256_equal(&st->previous.manifest, &v->manifest) &&
				   mfs_vref_find(st->retained, st->n_retained, &v->manifest) == NULL))
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "model %s: version %s (manifest %s) is not kept on this host", st->id,
			present(v) ? v->version : "none", MFS_HEX(&v->manifest));
	if (mfs_sha256_equal(&st->active.manifest, &v->manifest))
		return active_check(st, min, err);
	if ((code = mfs_condemned_check(st, v, err)) != MFS_OK)
		return code;
	return mfs_minima_check(st, min, v, err);
}

/* ---- what the anchor says afterwards ------------------------------------------------------------------------ */

/* Room for one more; the list itself is only changed by the caller. */
static enum mfs_code
vrefs_reserve(struct mfs_vref **list, size_t n, struct mfs_err *err)
{
	struct mfs_vref *p = realloc(*list, (n + 1) * sizeof(*p));

	if (p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "anchor");
	*list = p;
	return MFS_OK;
}

static void
vrefs_remove(struct mfs_vref *list, size_t *n, const struct mfs_sha256 *manifest)
{
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++)
		if (!mfs_sha256_equal(&list[i].manifest, manifest))
			list[kept++] = list[i];
	*n = kept;
}

static void
vrefs_insert(struct mfs_vref *list, size_t *n, size_t at, const struct mfs_vref *v)
{
	memmove(&list[at + 1], &list[at], (*n - at) * sizeof(*list));
	list[at] = *v;
	(*n)++;
}

/* Newest release first, the latest arrival first among equals; the list has room. */
static void
retained_insert(struct mfs_anchor_model *st, const struct mfs_vref *v)
{
	size_t at = 0;

	vrefs_remove(st->retained, &st->n_retained, &v->manifest);
	while (at < st->n_retained && vref_compare(&st->retained[at], v) > 0)
		at++;
	vrefs_insert(st->retained, &st->n_retained, at, v);
}

/* At most `retain` versions, the oldest go first, `previous` last of all. */
static void
retained_trim(struct mfs_anchor_model *st, size_t retain)
{
	if (retain > MFS_RETAINED_MAX)
		retain = MFS_RETAINED_MAX;
	while (st->n_retained > retain) {
		size_t drop = st->n_retained - 1;

		if (retain > 0 && mfs_sha256_equal(&st->retained[drop].manifest, &st->previous.manifest))
			drop--;
		memmove(&st->retained[drop], &st->retained[drop + 1], (st->n_retained - drop - 1) * sizeof(*st->retained));
		st->n_retained--;
	}
	if (mfs_vref_find(st->retained, st->n_retained, &st->previous.manifest) == NULL)
		st->previous = (struct mfs_vref){ 0 };
}

static void
floor_raise(struct mfs_anchor_model *st, const struct mfs_vref *v)
{
	if (mfs_release_compare(v->key_epoch, v->release, st->floor_epoch, st->floor_release) <= 0)
		return;
	st->floor_epoch = v->key_epoch;
	st->floor_release = v->release;
	st->floor_manifest = v->manifest;
}

enum mfs_code
mfs_anchor_activate(struct mfs_anchor_model *st, const struct mfs_manifest *m, unsigned retain, bool commit,
	struct mfs_err *err)
{
	const struct mfs_vref v = mfs_vref_of(m);
	enum mfs_code code;

	if (strcmp(st->model_id, m->model_id) != 0)
		return mfs_fail(err, MFS_INTERNAL, "model %s: activation of a manifest of '%s'", st->id, m->model_id);
	if ((code = mfs_names_check(st, st->known, st->n_known, &v, err)) != MFS_OK ||
		(code = vrefs_reserve(&st->retained, st->n_retained, err)) != MFS_OK ||
		(code = vrefs_reserve(&st->known, st->n_known, err)) != MFS_OK)
		return code;
	if (commit)
		floor_raise(st, &v);
	vrefs_remove(st->known, &st->n_known, &v.manifest);
	vrefs_insert(st->known, &st->n_known, 0, &v);
	if (st->n_known > MFS_KNOWN_MAX)
		st->n_known = MFS_KNOWN_MAX;
	if (!mfs_sha256_equal(&st->active.manifest, &v.manifest)) {
		st->previous = st->active;
		st->active = v;
		if (present(&st->previous))
			retained_insert(st, &st->previous);
		vrefs_remove(st->retained, &st->n_retained, &v.manifest);
	}
	retained_trim(st, retain);
	return MFS_OK;
}

/* The newest retained version older than `than` (any, when there is none) that may be served. */
static const struct mfs_vref *
older_allowed(const struct mfs_anchor_model *st, const struct mfs_vref *than, const struct mfs_minimum *min,
	struct mfs_err *why)
{
	for (size_t i = 0; i < st->n_retained; i++) {
		const struct mfs_vref *v = &st->retained[i];

		if (present(than) && vref_compare(v, than) >= 0)
			continue;
		if (mfs_decide_retained(st, v, min, why) == MFS_OK)
			return v;
	}
	return NULL;
}

enum mfs_code
mfs_anchor_go(struct mfs_anchor_model *st, const struct mfs_vref *to, const struct mfs_minimum *min, struct mfs_err *err)
{
	const struct mfs_vref old = st->active, target = *to; /* to may lie in a list that moves */
	struct mfs_err why = MFS_ERR_INIT;
	const struct mfs_vref *found;
	enum mfs_code code;

	if ((code = vrefs_reserve(&st->retained, st->n_retained, err)) != MFS_OK)
		return code;
	if (present(&old))
		retained_insert(st, &old);
	vrefs_remove(st->retained, &st->n_retained, &target.manifest);
	st->active = target;
	found = older_allowed(st, &target, min, &why);
	st->previous = found != NULL ? *found : (struct mfs_vref){ 0 };
	return MFS_OK;
}

enum mfs_code
mfs_anchor_rollback(struct mfs_anchor_model *st, const struct mfs_minimum *min, struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;
	const struct mfs_vref *found = NULL;

	if (present(&st->previous) && mfs_decide_retained(st, &st->previous, min, &why) == MFS_OK)
		found = &st->previous;
	else
		found = older_allowed(st, &st->active, min, &why);
	if (found == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: nothing to go back to%s%s", st->id,
			why.code != MFS_OK ? ": " : ": no earlier version is kept on this host", why.msg);
	return mfs_anchor_go(st, found, min, err);
}

enum mfs_code
mfs_anchor_goto(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest, const struct mfs_minimum *min,
	struct mfs_err *err)
{
	const struct mfs_vref *v = mfs_vref_find(st->retained, st->n_retained, manifest);
	enum mfs_code code;

	if (mfs_sha256_equal(&st->active.manifest, manifest))
		return MFS_OK;
	if (v == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: manifest %s is not kept on this host", st->id,
			MFS_HEX(manifest));
	if ((code = mfs_decide_retained(st, v, min, err)) != MFS_OK)
		return code;
	return mfs_anchor_go(st, v, min, err);
}

bool
mfs_anchor_uncommitted(const struct mfs_anchor_model *st)
{
	return present(&st->active) && mfs_release_compare(st->active.key_epoch, st->active.release, st->floor_epoch,
		st->floor_release) > 0;
}

void
mfs_anchor_commit(struct mfs_anchor_model *st, unsigned retain)
{
	if (present(&st->active))
		floor_raise(st, &st->active);
	retained_trim(st, retain);
}

enum mfs_code
mfs_anchor_mark_bad(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest, enum mfs_code why, struct mfs_err *err)
{
	struct mfs_bad *p;

	mfs_anchor_mark_good(st, manifest);
	if (st->n_bad == MFS_BAD_MAX) {
		memmove(&st->bad[0], &st->bad[1], (MFS_BAD_MAX - 1) * sizeof(*st->bad));
		st->n_bad--;
	}
	if ((p = realloc(st->bad, (st->n_bad + 1) * sizeof(*p))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "anchor");
	st->bad = p;
	st->bad[st->n_bad++] = (struct mfs_bad){ *manifest, why };
	return MFS_OK;
}

void
mfs_anchor_mark_good(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest)
{
	size_t kept = 0;

	for (size_t i = 0; i < st->n_bad; i++)
		if (!mfs_sha256_equal(&st->bad[i].manifest, manifest))
			st->bad[kept++] = st->bad[i];
	st->n_bad = kept;
}

static enum mfs_code
depend_fail(const struct mfs_depend *d, const struct mfs_anchor_model *other, struct mfs_err *err)
{
	char wanted[80] = "any release", found[32] = "no active version of it";

	if (d->min_release > 0 && d->max_release >= 0)
		(void)snprintf(wanted, sizeof(wanted), "release %lld to %lld", LL(d->min_release), LL(d->max_release));
	else if (d->min_release > 0)
		(void)snprintf(wanted, sizeof(wanted), "release %lld or later", LL(d->min_release));
	else if (d->max_release >= 0)
		(void)snprintf(wanted, sizeof(wanted), "release %lld or earlier", LL(d->max_release));
	if (other != NULL)
		(void)snprintf(found, sizeof(found), "release %lld", LL(other->active.release));
	return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME, "compat.depends: model '%s': %s is wanted, this host has %s",
		d->model_id, wanted, found);
}

enum mfs_code
mfs_decide_depends(const struct mfs_manifest *m, const struct mfs_anchor *a, struct mfs_err *err)
{
	for (size_t i = 0; i < m->compat.n_depends; i++) {
		const struct mfs_depend *d = &m->compat.depends[i];
		const struct mfs_anchor_model *other = NULL;
		bool ok = false;

		for (size_t k = 0; k < a->n_models && !ok; k++) {
			if (strcmp(a->models[k].model_id, d->model_id) != 0 || !present(&a->models[k].active))
				continue;
			other = &a->models[k];
			ok = other->active.release >= d->min_release &&
				(d->max_release < 0 || other->active.release <= d->max_release);
		}
		if (!ok)
			return depend_fail(d, other, err);
	}
	return MFS_OK;
}
