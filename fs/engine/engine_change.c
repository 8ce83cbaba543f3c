/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of what is active: decide, activate, rollback, unpin. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine_io.h"
#include "io.h"

static enum mfs_code
held_fail(const struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	const char *id = e->args.config->models[i].id;

	return mfs_fail(err, MFS_HELD, "model %s: held since a rollback or pin: 'modelfs unpin %s' releases it", id, id);
}

void
mfs_engine_version_copy(char *out, const struct mfs_vref *v)
{
	if (out != NULL)
		(void)snprintf(out, MFS_VERSION_MAX + 1, "%s", v->version);
}

enum mfs_code
mfs_engine_decide_locked(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	const struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	enum mfs_code code = mfs_decide_install(mfs_engine_record(e, i), cfg->model_id, m, &cfg->minimum, how, err);

	if (code == MFS_OK && *how == MFS_INSTALL_NEW && cm != NULL && cm->pin[0] != '\0' && strcmp(cm->pin, m->version) != 0)
		return mfs_fail(err, MFS_PINNED, "model %s: pinned to version %s: 'modelfs unpin %s' releases it", cfg->id, cm->pin,
			cfg->id);
	if (code == MFS_OK && *how == MFS_INSTALL_NEW && cm != NULL && cm->held)
		return held_fail(e, i, err);
	if (code == MFS_OK && *how == MFS_INSTALL_NEW)
		code = mfs_decide_depends(m, mfs_trusted_anchor(e->trusted), err);
	return code;
}

enum mfs_code
mfs_engine_decide(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	char now[MFS_VERSION_MAX + 1], struct mfs_err *err)
{
	const struct mfs_anchor_model *st;
	enum mfs_code code;

	now[0] = '\0';
	*how = MFS_INSTALL_NEW;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if ((st = mfs_engine_record(e, i)) != NULL)
		mfs_engine_version_copy(now, &st->active);
	code = mfs_engine_decide_locked(e, i, m, how, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- the cycle's side of a swap --------------------------------------------------------------------- */

static bool
in_anchor(const struct mfs_anchor_model *st, const struct mfs_sha256 *id)
{
	if (mfs_sha256_equal(&st->active.manifest, id))
		return true;
	for (size_t k = 0; k < st->n_retained; k++)
		if (mfs_sha256_equal(&st->retained[k].manifest, id))
			return true;
	return false;
}

/*
 * Later than every earlier activation of this model, and later than its build time, also when the
 * clock stands still or went back: servers compare these times.
 */
static int64_t
activation_time(const struct mfs_cycle_model *cm, int64_t build_time)
{
	struct timespec ts = { 0 };
	int64_t ns;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	if (ns <= cm->last_activation_ns)
		ns = cm->last_activation_ns + 1;
	if (ns <= build_time * INT64_C(1000000000))
		ns = build_time * INT64_C(1000000000) + 1;
	return ns;
}

void
mfs_cycle_activated(struct mfs_cycle_model *cm, const struct mfs_anchor_model *st, int64_t build_time)
{
	struct mfs_cycle_activation *list;
	size_t kept = 0;

	cm->generation++;
	cm->active_since = mfs_clock_wall();
	cm->last_activation_ns = activation_time(cm, build_time);
	for (size_t k = 0; k < cm->n_activations; k++)
		if (in_anchor(st, &cm->activations[k].manifest) &&
			!mfs_sha256_equal(&cm->activations[k].manifest, &st->active.manifest))
			cm->activations[kept++] = cm->activations[k];
	cm->n_activations = kept;
	if ((list = reallocarray(cm->activations, kept + 1, sizeof(*list))) == NULL)
		return;
	cm->activations = list;
	list[cm->n_activations++] = (struct mfs_cycle_activation){ st->active.manifest, cm->last_activation_ns };
}

/* The anchor stands: from here nothing may fail the operation. */
void
mfs_engine_swapped(struct mfs_engine *e, size_t i, struct mfs_version *v, enum mfs_code code, const char *source,
	const char *from, const char *to, const char *detail)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	struct mfs_err err = MFS_ERR_INIT;

	if (cm != NULL && st != NULL)
		mfs_cycle_activated(cm, st, v != NULL ? v->m->build_time : 0);
	mfs_engine_outcome(e, i, source, from, to, code, detail);
	if (mfs_trusted_cycle_save(e->trusted, &err) != MFS_OK)
		mfs_log_err("state: cycle", &err);
	if (v != NULL && e->candidates[i] != NULL && mfs_sha256_equal(&e->candidates[i]->m->id, &v->m->id)) {
		mfs_version_unref(e->candidates[i]); /* it is more now */
		e->candidates[i] = NULL;
	}
	/* The tree holds on to what it shows, though nobody could open it so far. */
	for (size_t k = 0; v != NULL && k < e->view[i].n; k++)
		if (mfs_sha256_equal(&e->view[i].versions[k].v->m->id, &v->m->id))
			(void)mfs_version_open_again(e->args.store, e->args.cache, e->args.keys, i, e->view[i].versions[k].v, NULL);
	if (mfs_engine_reload(e, i, v, &err) != MFS_OK)
		mfs_log_err(e->args.config->models[i].id, &err);
	mfs_engine_notify(e, i);
}

/* A refusal is an event and the model's last outcome; the caller gets the message itself. */
enum mfs_code
mfs_engine_was_refused(struct mfs_engine *e, size_t i, const char *source, const char *to, const struct mfs_err *err)
{
	struct mfs_err save = MFS_ERR_INIT;

	mfs_engine_outcome(e, i, source, NULL, to, err->code, err->msg);
	if ((e->args.flags & MFS_TRUSTED_READ) == 0 && mfs_trusted_cycle_save(e->trusted, &save) != MFS_OK)
		mfs_log_err("state: cycle", &save);
	return err->code;
}

void
mfs_engine_refused(struct mfs_engine *e, size_t i, const char *version, enum mfs_code code, const char *detail)
{
	struct mfs_err err = { .code = code };

	if (i >= e->args.config->n_models)
		return;
	(void)snprintf(err.msg, sizeof(err.msg), "%s", detail);
	(void)pthread_mutex_lock(&e->lock);
	(void)mfs_engine_was_refused(e, i, "install", version, &err);
	(void)pthread_mutex_unlock(&e->lock);
}

/* ---- activation ----------------------------------------------------------------------------------------- */

static bool
shown(const struct mfs_engine *e, size_t i, const struct mfs_sha256 *id)
{
	const struct mfs_engine_model *view = &e->view[i];

	return view->n > 0 && view->versions[0].active && mfs_sha256_equal(&view->versions[0].v->m->id, id);
}

static enum mfs_code
anchor_activate(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, bool commit, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_anchor_model *st;
	enum mfs_code code;

	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	st = mfs_anchor_find(a, cfg->id);
	if (st == NULL && (code = mfs_anchor_add(a, cfg->id, cfg->model_id, &st, err)) != MFS_OK)
		return code;
	if ((code = mfs_anchor_activate(st, m, e->args.config->retain, commit, err)) != MFS_OK ||
		(code = mfs_trusted_commit(e->trusted, a, err)) != MFS_OK)
		return code;
	(void)mfs_steal(&a); /* the trusted state owns it now */
	return MFS_OK;
}

/* Which observation follows: it is on disk with the swap, and what is committed is not observed. */
static void
observation_start(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, bool by_hand, int64_t observe_s)
{
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	if (cm == NULL)
		return;
	cm->observation = (struct mfs_cycle_observation){ .total = observe_s, .by_hand = by_hand };
	if (observe_s == 0)
		return;
	cm->observation.v = (struct mfs_cycle_version){ .manifest = m->id, .release = m->release,
		.key_epoch = m->key_epoch };
	(void)snprintf(cm->observation.v.version, sizeof(cm->observation.v.version), "%s", m->version);
	(void)snprintf(cm->observation.v.variant, sizeof(cm->observation.v.variant), "%s", m->variant);
}

static enum mfs_code
activate_locked(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool by_hand, int64_t observe_s, bool *same,
	char *to, struct mfs_err *err)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	const struct mfs_engine_model *view = &e->view[i];
	/* Shown, and nobody could read it: a wrap of its key that came since is news. */
	const bool locked = shown(e, i, id) && view->versions[0].v->key_code != MFS_OK;
	struct mfs_version *v;
	enum mfs_install how;
	char from[MFS_VERSION_MAX + 1] = "";
	enum mfs_code code;

	if (st != NULL)
		mfs_engine_version_copy(from, &st->active);
	if ((code = mfs_engine_candidate(e, i, id, &v, err)) != MFS_OK)
		return code;
	(void)snprintf(to, MFS_VERSION_MAX + 1, "%s", v->m->version);
	code = mfs_engine_decide_locked(e, i, v->m, &how, err);
	if (code == MFS_OK && how == MFS_INSTALL_NEW)
		code = mfs_engine_room_locked(e, i, err);
	/* Both copies of what was signed stand before the anchor names it. */
	if (code == MFS_OK)
		code = mfs_engine_signed_put(e, id, &v->signed_bytes, err);
	if (code == MFS_OK && how == MFS_INSTALL_SAME && shown(e, i, id) && !locked) {
		*same = true;
		mfs_version_unref(v);
		return MFS_OK;
	}
	if (code == MFS_OK && how == MFS_INSTALL_NEW &&
		(code = anchor_activate(e, i, v->m, observe_s == 0, err)) == MFS_OK)
		observation_start(e, i, v->m, by_hand, observe_s);
	if (code == MFS_OK)
		mfs_engine_swapped(e, i, v, MFS_OK, by_hand ? "install" : "cycle", from[0] != '\0' ? from : NULL, to,
			how == MFS_INSTALL_SAME ? "shown again" : observe_s > 0 ? "activated, under observation" : "activated");
	/* The anchor may name it and still it is not served: never a success unless it happened. */
	if (code == MFS_OK && !shown(e, i, id))
		code = mfs_fail(err, view->absent != MFS_OK ? view->absent : MFS_INTERNAL, "%s %s is installed but cannot be "
			"shown: %s", e->args.config->models[i].id, to, view->absent_detail);
	mfs_version_unref(v);
	return code;
}

enum mfs_code
mfs_engine_activate(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool *same, char *from, char *to,
	struct mfs_err *err)
{
	return mfs_engine_activate_observed(e, i, id, true, 0, same, from, to, err);
}

enum mfs_code
mfs_engine_activate_observed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool by_hand,
	int64_t observe_s, bool *same, char *from, char *to, struct mfs_err *err)
{
	const struct mfs_anchor_model *st;
	char target[MFS_VERSION_MAX + 1] = "";
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code;

	*same = false;
	if (from != NULL)
		from[0] = '\0';
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if ((st = mfs_engine_record(e, i)) != NULL)
		mfs_engine_version_copy(from, &st->active);
	if ((code = activate_locked(e, i, id, by_hand, observe_s, same, target, &own)) != MFS_OK) {
		if (by_hand) /* the cycle says itself what becomes of it */
			code = mfs_engine_was_refused(e, i, "install", target[0] != '\0' ? target : NULL, &own);
		if (err != NULL)
			*err = own;
	}
	if (to != NULL)
		memcpy(to, target, sizeof(target));
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- rollback ---------------------------------------------------------------------------------------------- */

static enum mfs_code
rollback_locked(struct mfs_engine *e, size_t i, const char *from, char *to, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	struct mfs_anchor_model *st;
	struct mfs_version *v;
	enum mfs_code code;
	bool held;

	if (cm == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s", cfg->id);
	held = cm->held;
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	if ((st = mfs_anchor_find(a, cfg->id)) == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: nothing is installed: nothing to go back to", cfg->id);
	if (strcmp(st->model_id, cfg->model_id) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "model %s: the state knows it as model_id '%s', the configuration says "
			"'%s': use another name for it", cfg->id, st->model_id, cfg->model_id);
	if ((code = mfs_anchor_rollback(st, &cfg->minimum, err)) != MFS_OK)
		return code;
	mfs_engine_version_copy(to, &st->active);
	/* Checked before the anchor changes: a rollback never leads to nothing. */
	if ((code = mfs_engine_candidate(e, i, &st->active.manifest, &v, err)) != MFS_OK)
		return mfs_err_context(err, "rollback to %s: ", to);
	/* The hold first: a rollback that was cut off after the anchor must not be undone by the next update. */
	cm->held = true;
	if ((code = mfs_trusted_cycle_save(e->trusted, err)) == MFS_OK)
		code = mfs_trusted_commit(e->trusted, a, err);
	if (code != MFS_OK) {
		cm->held = held;
	} else {
		(void)mfs_steal(&a);
		mfs_engine_swapped(e, i, v, MFS_OK, "control", from, to, "rolled back, held until 'modelfs unpin'");
	}
	mfs_version_unref(v);
	return code;
}

enum mfs_code
mfs_engine_rollback(struct mfs_engine *e, size_t i, char *from, char *to, struct mfs_err *err)
{
	char old[MFS_VERSION_MAX + 1] = "", target[MFS_VERSION_MAX + 1] = "";
	const struct mfs_anchor_model *st;
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_reserve *before;
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	before = mfs_engine_urgent(e);
	if ((st = mfs_engine_record(e, i)) != NULL)
		mfs_engine_version_copy(old, &st->active);
	if ((code = rollback_locked(e, i, old, target, &own)) != MFS_OK) {
		code = mfs_engine_was_refused(e, i, "control", target[0] != '\0' ? target : NULL, &own);
		if (err != NULL)
			*err = own;
	}
	mfs_engine_urgent_over(e, before);
	(void)pthread_mutex_unlock(&e->lock);
	if (from != NULL)
		memcpy(from, old, sizeof(old));
	if (to != NULL)
		memcpy(to, target, sizeof(target));
	return code;
}

enum mfs_code
mfs_engine_unpin(struct mfs_engine *e, size_t i, bool *was_held, struct mfs_err *err)
{
	struct mfs_cycle_model *cm;
	enum mfs_code code = MFS_OK;

	*was_held = false;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if ((cm = mfs_engine_cycle(e, i)) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "model %zu", i);
	} else if (cm->held || cm->pin[0] != '\0') {
		const bool held = cm->held;
		char pin[sizeof(cm->pin)];

		memcpy(pin, cm->pin, sizeof(pin));
		cm->held = false;
		cm->pin[0] = '\0';
		if ((code = mfs_trusted_cycle_save(e->trusted, err)) != MFS_OK) {
			cm->held = held;
			memcpy(cm->pin, pin, sizeof(pin));
		} else {
			*was_held = true;
			mfs_engine_outcome(e, i, "control", NULL, NULL, MFS_OK, "released by unpin");
			mfs_engine_notify(e, i);
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- the candidate ----------------------------------------------------------------------------------------- */

/* Hold lock. The view follows, or everything stays as it was. */
static enum mfs_code
candidate_put(struct mfs_engine *e, size_t i, struct mfs_version *v, struct mfs_err *err)
{
	struct mfs_version *old = e->candidates[i];
	enum mfs_code code;

	e->candidates[i] = v;
	if ((code = mfs_engine_reload(e, i, v, err)) != MFS_OK) {
		e->candidates[i] = old;
		return code;
	}
	mfs_version_unref(old);
	mfs_engine_notify(e, i);
	return MFS_OK;
}

enum mfs_code
mfs_engine_candidate_set(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err)
{
	struct mfs_version *v = NULL;
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if (e->candidates[i] != NULL && mfs_sha256_equal(&e->candidates[i]->m->id, id)) {
		code = MFS_OK;
	} else if ((code = mfs_engine_candidate(e, i, id, &v, err)) == MFS_OK &&
		(code = candidate_put(e, i, v, err)) != MFS_OK) {
		mfs_version_unref(v);
	}
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

enum mfs_code
mfs_engine_candidate_clear(struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if (e->candidates[i] != NULL)
		code = candidate_put(e, i, NULL, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}
