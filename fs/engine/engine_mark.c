/* SPDX-License-Identifier: Apache-2.0 */
/* Judgements on versions: commit, condemn, `mark`, `pin`. */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

#define MARKED_MAX 16 /* variants of one version */

static enum mfs_code
begin(struct mfs_engine *e, size_t i, struct mfs_anchor **a, struct mfs_anchor_model **st, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	enum mfs_code code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), a, err);

	if (code != MFS_OK)
		return code;
	if ((*st = mfs_anchor_find(*a, cfg->id)) == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: nothing is installed", cfg->id);
	if (strcmp((*st)->model_id, cfg->model_id) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "model %s: the state knows it as model_id '%s', the configuration says "
			"'%s': use another name for it", cfg->id, (*st)->model_id, cfg->model_id);
	return MFS_OK;
}

/* ---- commit ------------------------------------------------------------------------------------------------ */

static enum mfs_code
commit_locked(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const char *source, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	struct mfs_err save = MFS_ERR_INIT;
	struct mfs_anchor_model *st;
	enum mfs_code code;

	if ((code = begin(e, i, &a, &st, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&st->active.manifest, id))
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: manifest %s is not the active one", st->id, MFS_HEX(id));
	mfs_anchor_commit(st, e->args.config->retain);
	if ((code = mfs_trusted_commit(e->trusted, a, err)) != MFS_OK)
		return code;
	(void)mfs_steal(&a);
	if (cm != NULL)
		cm->observation = (struct mfs_cycle_observation){ 0 };
	st = mfs_anchor_find(mfs_trusted_anchor(e->trusted), e->args.config->models[i].id);
	mfs_engine_outcome(e, i, source, NULL, st->active.version, MFS_OK, "committed: the floor is raised");
	/* The anchor stands: a lost cycle document is no failure. */
	if (mfs_trusted_cycle_save(e->trusted, &save) != MFS_OK)
		mfs_log_err("state: cycle", &save);
	if (mfs_engine_reload(e, i, NULL, &save) != MFS_OK)
		mfs_log_err(e->args.config->models[i].id, &save);
	mfs_engine_notify(e, i);
	return MFS_OK;
}

enum mfs_code
mfs_engine_commit(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err)
{
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	code = commit_locked(e, i, id, "cycle", err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- condemn -------------------------------------------------------------------------------------------------- */

/* What a verdict condemned is not kept for going back: it would only take the place of one that is good. */
static void
retained_drop(struct mfs_anchor_model *st, const struct mfs_sha256 *id)
{
	size_t kept = 0;

	for (size_t k = 0; k < st->n_retained; k++)
		if (!mfs_sha256_equal(&st->retained[k].manifest, id))
			st->retained[kept++] = st->retained[k];
	st->n_retained = kept;
}

/* The anchor with the judgement in it; *back: the active version was among them and there is another one now. */
static enum mfs_code
judge(struct mfs_engine *e, size_t i, struct mfs_anchor_model *st, const struct mfs_sha256 *ids, size_t n,
	enum mfs_code why, bool by_hand, bool *active, struct mfs_err *err)
{
	const struct mfs_minimum *min = &e->args.config->models[i].minimum;
	struct mfs_err nowhere = MFS_ERR_INIT;
	enum mfs_code code;

	*active = false;
	for (size_t k = 0; k < n; k++) {
		if ((code = mfs_anchor_mark_bad(st, &ids[k], why, err)) != MFS_OK)
			return code;
		*active = *active || mfs_sha256_equal(&st->active.manifest, &ids[k]);
	}
	/* With nothing to go back to the condemned version stays named, and is not shown. */
	if (*active && (code = mfs_anchor_rollback(st, min, &nowhere)) != MFS_OK && code != MFS_NOT_SELECTED) {
		if (err != NULL)
			*err = nowhere;
		return code;
	}
	for (size_t k = 0; k < n && !by_hand; k++)
		retained_drop(st, &ids[k]);
	return MFS_OK;
}

static enum mfs_code
condemn(struct mfs_engine *e, size_t i, const struct mfs_sha256 *ids, size_t n, enum mfs_code why,
	const char *detail, bool by_hand, bool *moved, char *from, char *to, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	const char *source = by_hand ? "control" : "cycle";
	struct mfs_version *v = NULL;
	struct mfs_anchor_model *st;
	struct mfs_err ignored = MFS_ERR_INIT;
	enum mfs_code code;

	/* Also before a first version: what failed its check is remembered. */
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	if ((st = mfs_anchor_find(a, e->args.config->models[i].id)) == NULL && (code = mfs_anchor_add(a,
		e->args.config->models[i].id, e->args.config->models[i].model_id, &st, err)) != MFS_OK)
		return code;
	mfs_engine_version_copy(from, &st->active);
	if ((code = judge(e, i, st, ids, n, why, by_hand, moved, err)) != MFS_OK)
		return code;
	if (*moved && !mfs_sha256_equal(&st->active.manifest, &mfs_engine_record(e, i)->active.manifest)) {
		mfs_engine_version_copy(to, &st->active);
		/* Only for its build time; what is damaged there is repaired, not passed over. */
		(void)mfs_engine_version(e, i, &st->active.manifest, &v, &ignored);
	}
	if ((code = mfs_trusted_commit(e->trusted, a, err)) != MFS_OK) {
		mfs_version_unref(v);
		return code;
	}
	(void)mfs_steal(&a);
	if (*moved) {
		mfs_engine_swapped(e, i, v, MFS_ROLLBACK_TRIGGERED, source, from, to[0] != '\0' ? to : NULL, detail);
	} else {
		if (by_hand) /* a verdict before activation is a refusal: mfs_engine_refuse() says it */
			mfs_engine_outcome(e, i, source, NULL, NULL, MFS_OK, detail);
		if (mfs_trusted_cycle_save(e->trusted, &ignored) != MFS_OK)
			mfs_log_err("state: cycle", &ignored);
		if (mfs_engine_reload(e, i, NULL, &ignored) != MFS_OK)
			mfs_log_err(e->args.config->models[i].id, &ignored);
		mfs_engine_notify(e, i);
	}
	mfs_version_unref(v);
	return MFS_OK;
}

/* A verdict takes trust away: it may use what is kept for that. */
static enum mfs_code
condemn_locked(struct mfs_engine *e, size_t i, const struct mfs_sha256 *ids, size_t n, enum mfs_code why,
	const char *detail, bool by_hand, bool *moved, char *from, char *to, struct mfs_err *err)
{
	struct mfs_reserve *before = mfs_engine_urgent(e);
	enum mfs_code code = condemn(e, i, ids, n, why, detail, by_hand, moved, from, to, err);

	mfs_engine_urgent_over(e, before);
	return code;
}

enum mfs_code
mfs_engine_condemn(struct mfs_engine *e, size_t i, const struct mfs_sha256 *ids, size_t n, enum mfs_code why,
	const char *detail, bool by_hand, bool *moved, char *from, char *to, struct mfs_err *err)
{
	enum mfs_code code;

	*moved = false;
	from[0] = to[0] = '\0';
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	code = condemn_locked(e, i, ids, n, why, detail, by_hand, moved, from, to, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* What is committed is the floor; what was observed when its check began was above it. */
static bool
is_committed(const struct mfs_engine *e, size_t i, const struct mfs_sha256 *id)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);

	return st != NULL && mfs_sha256_equal(&st->floor_manifest, id);
}

enum mfs_code
mfs_engine_condemn_observed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, enum mfs_code why,
	const char *detail, bool *moved, char *from, char *to, struct mfs_err *err)
{
	enum mfs_code code;

	*moved = false;
	from[0] = to[0] = '\0';
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if (is_committed(e, i, id))
		code = mfs_fail(err, MFS_CONDITION_UNMET, "model %s: manifest %s was committed during its check",
			e->args.config->models[i].id, MFS_HEX(id));
	else
		code = condemn_locked(e, i, id, 1, why, detail, false, moved, from, to, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- mark ---------------------------------------------------------------------------------------------------------- */

struct marked {
	struct mfs_sha256 ids[MARKED_MAX];
	size_t n;
};

static void
marked_add(struct marked *m, const struct mfs_sha256 *id, const char *have, const char *want)
{
	if (m->n == MARKED_MAX || mfs_sha256_is_zero(id) || (want != NULL && strcmp(have, want) != 0))
		return;
	for (size_t k = 0; k < m->n; k++)
		if (mfs_sha256_equal(&m->ids[k], id))
			return;
	m->ids[m->n++] = *id;
}

/* Every manifest that this host knows under that version; NULL: what is active. */
static void
marked_find(struct mfs_engine *e, size_t i, const char *version, struct marked *m)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	const struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	m->n = 0;
	if (st != NULL)
		marked_add(m, &st->active.manifest, st->active.version, version);
	if (version == NULL)
		return;
	for (size_t k = 0; st != NULL && k < st->n_retained; k++)
		marked_add(m, &st->retained[k].manifest, st->retained[k].version, version);
	for (size_t k = 0; st != NULL && k < st->n_known; k++)
		marked_add(m, &st->known[k].manifest, st->known[k].version, version);
	if (cm == NULL)
		return;
	marked_add(m, &cm->attempt.v.manifest, cm->attempt.v.version, version);
	marked_add(m, &cm->refusal.v.manifest, cm->refusal.v.version, version);
}

static bool
is_bad(const struct mfs_anchor_model *st, const struct mfs_sha256 *id)
{
	for (size_t k = 0; st != NULL && k < st->n_bad; k++)
		if (mfs_sha256_equal(&st->bad[k].manifest, id))
			return true;
	return false;
}

/* The refusal of what is good again is forgotten, so that it is tried. */
static void
refusal_forget(struct mfs_engine *e, size_t i, const struct marked *m)
{
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	for (size_t k = 0; cm != NULL && k < m->n; k++)
		if (mfs_sha256_equal(&cm->refusal.v.manifest, &m->ids[k])) {
			free(cm->refusal.detail);
			cm->refusal = (struct mfs_cycle_refusal){ 0 };
		}
}

static enum mfs_code
mark_good_locked(struct mfs_engine *e, size_t i, const struct marked *m, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	const struct mfs_anchor_model *now = mfs_engine_record(e, i);
	struct mfs_err save = MFS_ERR_INIT;
	struct mfs_anchor_model *st;
	bool lifted = false, commit = false;
	enum mfs_code code;

	for (size_t k = 0; k < m->n; k++) {
		lifted = lifted || is_bad(now, &m->ids[k]);
		commit = commit || (now != NULL && mfs_anchor_uncommitted(now) &&
			mfs_sha256_equal(&now->active.manifest, &m->ids[k]));
	}
	if (!lifted && !commit)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: it is neither condemned nor under observation",
			e->args.config->models[i].id);
	refusal_forget(e, i, m);
	if (!lifted)
		return commit_locked(e, i, &m->ids[0], "control", err);
	if ((code = begin(e, i, &a, &st, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < m->n; k++)
		mfs_anchor_mark_good(st, &m->ids[k]);
	if (commit)
		mfs_anchor_commit(st, e->args.config->retain);
	if ((code = mfs_trusted_commit(e->trusted, a, err)) != MFS_OK)
		return code;
	(void)mfs_steal(&a);
	mfs_engine_outcome(e, i, "control", NULL, NULL, MFS_OK, "marked good: no longer condemned");
	if (mfs_trusted_cycle_save(e->trusted, &save) != MFS_OK)
		mfs_log_err("state: cycle", &save);
	if (mfs_engine_reload(e, i, NULL, &save) != MFS_OK)
		mfs_log_err(e->args.config->models[i].id, &save);
	mfs_engine_notify(e, i);
	return MFS_OK;
}

enum mfs_code
mfs_engine_mark(struct mfs_engine *e, size_t i, const char *version, bool good, bool *moved, char *from, char *to,
	struct mfs_err *err)
{
	const char *want = strcmp(version, "active") == 0 ? NULL : version;
	struct marked m;
	enum mfs_code code;

	*moved = false;
	from[0] = to[0] = '\0';
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	marked_find(e, i, want, &m);
	if (m.n == 0 && want == NULL)
		code = mfs_fail(err, MFS_NOT_SELECTED, "model %s: no version is active", e->args.config->models[i].id);
	else if (m.n == 0)
		code = mfs_fail(err, MFS_NOT_SELECTED, "model %s: version %s is not known on this host",
			e->args.config->models[i].id, version);
	else if (good)
		code = mark_good_locked(e, i, &m, err);
	else
		code = condemn_locked(e, i, m.ids, m.n, MFS_KNOWN_BAD, "marked bad by hand", true, moved, from, to, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- pin ------------------------------------------------------------------------------------------------------------- */

static enum mfs_code
pin_locked(struct mfs_engine *e, size_t i, const char *version, bool *moved, char *from, char *to, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	const struct mfs_vref *target = NULL;
	struct mfs_anchor_model *st;
	struct mfs_version *v = NULL;
	char old[MFS_VERSION_MAX + 1];
	enum mfs_code code;

	if (cm == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s", cfg->id);
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	st = mfs_anchor_find(a, cfg->id);
	for (size_t k = 0; st != NULL && target == NULL && k < st->n_retained; k++)
		if (strcmp(st->retained[k].version, version) == 0)
			target = &st->retained[k];
	if (st != NULL && strcmp(st->active.version, version) == 0)
		target = NULL;
	if (st != NULL)
		mfs_engine_version_copy(from, &st->active);
	if (target != NULL) { /* checked before anything changes */
		struct mfs_sha256 id = target->manifest;

		if ((code = mfs_anchor_goto(st, &id, &cfg->minimum, err)) != MFS_OK ||
			(code = mfs_engine_candidate(e, i, &id, &v, err)) != MFS_OK)
			return code;
		mfs_engine_version_copy(to, &st->active);
	}
	memcpy(old, cm->pin, sizeof(old));
	(void)snprintf(cm->pin, sizeof(cm->pin), "%s", version);
	/* The pin first: a move that was cut off after the anchor must not be undone by the next update. */
	if ((code = mfs_trusted_cycle_save(e->trusted, err)) == MFS_OK && v != NULL)
		code = mfs_trusted_commit(e->trusted, a, err);
	if (code != MFS_OK) {
		memcpy(cm->pin, old, sizeof(old));
	} else if (v != NULL) {
		(void)mfs_steal(&a);
		*moved = true;
		mfs_engine_swapped(e, i, v, MFS_OK, "control", from, to, "pinned");
	} else {
		mfs_engine_outcome(e, i, "control", NULL, NULL, MFS_OK, "pinned");
		mfs_engine_notify(e, i);
	}
	mfs_version_unref(v);
	return code;
}

enum mfs_code
mfs_engine_pin(struct mfs_engine *e, size_t i, const char *version, bool *moved, char *from, char *to,
	struct mfs_err *err)
{
	enum mfs_code code;

	*moved = false;
	from[0] = to[0] = '\0';
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	code = pin_locked(e, i, version, moved, from, to, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}
