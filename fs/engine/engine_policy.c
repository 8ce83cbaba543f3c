/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What signed policy and key trust do to what is shown: the kill switch, minima, keys that are no
 * longer trusted, metadata that has expired. Pins and holds do not stand in its way.
 */
#include "mfs_policy.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine_io.h"
#include "io.h"

/* ---- trusted state for who refreshes it ------------------------------------------------------------------ */

enum mfs_code
mfs_engine_anchor_update(struct mfs_engine *e,
	enum mfs_code (*fn)(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err), void *user,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_reserve *before;
	bool write = false;
	enum mfs_code code;

	(void)pthread_mutex_lock(&e->lock);
	before = mfs_engine_urgent(e);
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) == MFS_OK &&
		(code = fn(user, a, &write, err)) == MFS_OK && write &&
		(code = mfs_trusted_commit(e->trusted, a, err)) == MFS_OK)
		(void)mfs_steal(&a);
	mfs_engine_urgent_over(e, before);
	mfs_engine_unwritten_settle(e);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

void
mfs_engine_anchor_read(struct mfs_engine *e, void (*fn)(void *user, const struct mfs_anchor *a), void *user)
{
	(void)pthread_mutex_lock(&e->lock);
	fn(user, mfs_trusted_anchor(e->trusted));
	(void)pthread_mutex_unlock(&e->lock);
}

enum mfs_code
mfs_engine_cycle_update(struct mfs_engine *e, bool (*fn)(void *user, struct mfs_cycle *c), void *user,
	struct mfs_err *err)
{
	struct mfs_reserve *before;
	enum mfs_code code = MFS_OK;

	(void)pthread_mutex_lock(&e->lock);
	before = mfs_engine_urgent(e);
	if (fn(user, mfs_trusted_cycle(e->trusted)) && (e->args.flags & MFS_TRUSTED_READ) == 0)
		code = mfs_trusted_cycle_save(e->trusted, err);
	mfs_engine_urgent_over(e, before);
	mfs_engine_repos_load(e);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- may the active version be shown? ----------------------------------------------------------------------- */

enum mfs_code
mfs_engine_active_check(struct mfs_engine *e, size_t i, const struct mfs_anchor_model *st, struct mfs_err *err)
{
	const struct mfs_minimum *min = &e->args.config->models[i].minimum;
	struct mfs_anchor_model bare = *st;
	struct mfs_enforcement x;
	enum mfs_code code;

	if (e->stops[i].code != MFS_OK)
		return mfs_fail(err, e->stops[i].code, "%s", e->stops[i].detail);
	/* Condemned here, or below the configuration's own minimum: nothing that a policy says allows it. */
	bare.n_revoked = 0;
	bare.min_release = bare.min_key_epoch = 0;
	if ((code = mfs_decide_retained(&bare, &st->active, min, err)) != MFS_OK)
		return code;
	mfs_decide_enforce(st, min, &x);
	if (x.now == MFS_ENFORCE_KEEP || (x.now == MFS_ENFORCE_SWITCH && e->due[i].stays))
		return MFS_OK;
	if (x.verdict.why == MFS_REVOKED)
		return mfs_fail(err, MFS_REVOKED, "version %s is withdrawn: revoked by its publisher%s%s%s", st->active.version,
			x.verdict.reason != NULL ? " ('" : "", x.verdict.reason != NULL ? MFS_ESC(x.verdict.reason) : "",
			x.verdict.reason != NULL ? "')" : "");
	return mfs_fail(err, MFS_POLICY_REJECTED, "version %s is withdrawn: below the minimum of the policy (release %lld, key "
		"epoch %lld)", st->active.version, (long long)st->min_release, (long long)st->min_key_epoch);
}

/* ---- changes of what is shown ---------------------------------------------------------------------------------- */

/* The manifest that is shown as active; zero: none. Hold lock. */
static struct mfs_sha256
shown_now(const struct mfs_engine *e, size_t i)
{
	const struct mfs_engine_model *view = &e->view[i];

	return view->n > 0 && view->versions[0].active ? view->versions[0].v->m->id : (struct mfs_sha256){ { 0 } };
}

static void
verdict_text(const struct mfs_verdict *v, const char *what, bool freed, char *out, size_t cap)
{
	char reason[300] = "";

	if (v->reason != NULL)
		(void)snprintf(reason, sizeof(reason), " ('%.280s')", MFS_ESC(v->reason));
	(void)snprintf(out, cap, "%s%s: %s%s", v->why == MFS_REVOKED ? "revoked" : "below the minimum of the policy", reason,
		what, freed ? "; pin and hold are lifted" : "");
}

/* A wish to stay on a version ends with the version; the caller saves the cycle. */
static bool
free_pin(struct mfs_engine *e, size_t i)
{
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	bool was = cm != NULL && (cm->held || cm->pin[0] != '\0');

	if (was) {
		cm->held = false;
		cm->pin[0] = '\0';
	}
	return was;
}

/* Go to a version that is kept here; NOT_SELECTED: it is not fit to be shown, which is seen before the anchor changes. */
static enum mfs_code
go_to(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const struct mfs_verdict *verdict, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1], detail[512];
	struct mfs_version *v = NULL;
	struct mfs_anchor_model *st;
	enum mfs_code code;

	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	st = mfs_anchor_find(a, cfg->id);
	mfs_engine_version_copy(from, &st->active);
	if ((code = mfs_engine_candidate(e, i, id, &v, err)) != MFS_OK ||
		(code = mfs_anchor_goto(st, id, &cfg->minimum, err)) != MFS_OK) {
		mfs_version_unref(v);
		return code == MFS_NO_MEMORY ? code : MFS_NOT_SELECTED;
	}
	mfs_engine_version_copy(to, &st->active);
	/* A full disk does not keep what is revoked. */
	if ((code = mfs_engine_commit_or_hold(e, mfs_steal(&a))) == MFS_OK) {
		verdict_text(verdict, "gone back to a version that is kept here", free_pin(e, i), detail, sizeof(detail));
		mfs_engine_swapped(e, i, v, verdict->why, "policy", from, to, detail);
	}
	mfs_version_unref(v);
	return code;
}

/* The target of the decision, else the newest older one that is fit to be shown. NOT_SELECTED: none; else not written. */
static enum mfs_code
go_back(struct mfs_engine *e, size_t i, const struct mfs_enforcement *x, struct mfs_err *err)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	const struct mfs_minimum *min = &e->args.config->models[i].minimum;
	const struct mfs_vref active = st->active;
	mfs_autofree struct mfs_sha256 *ids = calloc(st->n_retained + 1, sizeof(*ids));
	size_t n = 0;

	if (ids == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s", st->id);
	ids[n++] = x->to->manifest;
	for (size_t k = 0; k < st->n_retained; k++) {
		const struct mfs_vref *v = &st->retained[k];
		bool older = v->key_epoch < active.key_epoch ||
			(v->key_epoch == active.key_epoch && v->release < active.release);

		if (older && !mfs_sha256_equal(&v->manifest, &ids[0]) && mfs_decide_retained(st, v, min, NULL) == MFS_OK)
			ids[n++] = v->manifest;
	}
	for (size_t k = 0; k < n; k++) {
		struct mfs_err why = MFS_ERR_INIT;
		enum mfs_code code = go_to(e, i, &ids[k], &x->verdict, &why);

		if (code == MFS_OK)
			return MFS_OK;
		mfs_log_err(e->args.config->models[i].id, &why);
		if (code != MFS_NOT_SELECTED || k + 1 == n) /* what stands in the way of the last one is what the caller hears */
			return mfs_fail(err, code, "%s", why.msg);
	}
	return MFS_NOT_SELECTED;
}

/*
 * The view again, by what policy, keys and freshness say now; an event and a new generation when another
 * version is shown than before, or none.
 */
static enum mfs_code
show_again(struct mfs_engine *e, size_t i, const struct mfs_verdict *verdict, const char *source, struct mfs_err *err)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	struct mfs_sha256 before = shown_now(e, i), after;
	char detail[512];
	enum mfs_code code;

	if ((code = mfs_engine_reload(e, i, NULL, err)) != MFS_OK)
		return code;
	after = shown_now(e, i);
	if (mfs_sha256_equal(&before, &after) || st == NULL || (e->args.flags & MFS_TRUSTED_READ) != 0)
		return MFS_OK; /* who only looks writes nothing: no event, no generation */
	if (mfs_sha256_is_zero(&after)) {
		if (verdict != NULL && verdict->why != MFS_OK)
			verdict_text(verdict, "withdrawn", free_pin(e, i), detail, sizeof(detail));
		else
			(void)snprintf(detail, sizeof(detail), "withdrawn: %.400s", e->view[i].absent_detail);
		mfs_engine_swapped(e, i, NULL, e->view[i].absent, source, st->active.version, NULL, detail);
	} else {
		mfs_engine_swapped(e, i, e->view[i].versions[0].v, MFS_OK, source, NULL, st->active.version, "shown again");
	}
	return MFS_OK;
}

static enum mfs_code
enforce(struct mfs_engine *e, size_t i, const char *source, struct mfs_policy_entry *fetch, struct mfs_err *err)
{
	struct mfs_engine_due *due = &e->due[i];
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	char reason[MFS_POLICY_TEXT_MAX + 1];
	struct mfs_enforcement x;
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	*due = (struct mfs_engine_due){ .stays = false };
	if (st == NULL || strcmp(st->model_id, cfg->model_id) != 0)
		return MFS_OK;
	mfs_decide_enforce(st, &cfg->minimum, &x);
	/* The words belong to the anchor, which a change replaces. */
	if (x.verdict.reason != NULL) {
		(void)snprintf(reason, sizeof(reason), "%s", x.verdict.reason);
		x.verdict.reason = reason;
	}
	if (fetch != NULL && x.fetch != NULL)
		*fetch = *x.fetch;
	if (x.now == MFS_ENFORCE_SWITCH) {
		if ((code = go_back(e, i, &x, &why)) == MFS_OK)
			return MFS_OK;
		/* Nothing here is fit: what the revocation says for that case, and never a revoked one by accident. */
		due->stays = !x.verdict.otherwise_withdraw;
		due->again = code != MFS_NOT_SELECTED;
		if (show_again(e, i, &x.verdict, source, NULL) != MFS_OK)
			due->again = true;
		if (code == MFS_NOT_SELECTED && due->stays)
			return MFS_OK;
		return mfs_fail(err, code == MFS_NOT_SELECTED ? MFS_REVOKED : code, "%s", why.msg);
	}
	code = show_again(e, i, &x.verdict, source, err);
	due->again = code != MFS_OK;
	return code;
}

enum mfs_code
mfs_engine_enforce_locked(struct mfs_engine *e, size_t i, const char *source, struct mfs_policy_entry *fetch,
	struct mfs_err *err)
{
	struct mfs_reserve *before = mfs_engine_urgent(e);
	enum mfs_code code = enforce(e, i, source, fetch, err);

	mfs_engine_urgent_over(e, before);
	return code;
}

enum mfs_code
mfs_engine_enforce(struct mfs_engine *e, size_t i, bool *changed, struct mfs_policy_entry *fetch, struct mfs_err *err)
{
	struct mfs_sha256 before, after;
	enum mfs_code code;

	*changed = false;
	if (fetch != NULL)
		*fetch = (struct mfs_policy_entry){ 0 };
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	before = shown_now(e, i);
	code = mfs_engine_enforce_locked(e, i, "policy", fetch, err);
	after = shown_now(e, i);
	*changed = !mfs_sha256_equal(&before, &after);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

enum mfs_code
mfs_engine_enforce_again(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err)
{
	bool again;

	*changed = false;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	again = e->due[i].again;
	(void)pthread_mutex_unlock(&e->lock);
	return again ? mfs_engine_enforce(e, i, changed, NULL, err) : MFS_OK;
}

enum mfs_code
mfs_engine_stop(struct mfs_engine *e, size_t i, enum mfs_code code, const char *detail, bool *changed, struct mfs_err *err)
{
	struct mfs_sha256 before, after;
	enum mfs_code result = MFS_OK;

	*changed = false;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if (e->stops[i].code != code) {
		before = shown_now(e, i);
		e->stops[i].code = code;
		(void)snprintf(e->stops[i].detail, sizeof(e->stops[i].detail), "%s", detail != NULL ? detail : "");
		result = show_again(e, i, NULL, "refresh", err);
		after = shown_now(e, i);
		*changed = !mfs_sha256_equal(&before, &after);
	}
	(void)pthread_mutex_unlock(&e->lock);
	return result;
}

/* ---- key trust ----------------------------------------------------------------------------------------------------- */

static void
trust_take(const struct mfs_config *c, const struct mfs_keys *keys, const struct mfs_anchor *anchor)
{
	for (size_t r = 0; r < c->n_repos; r++) {
		const struct mfs_anchor_repo *a = mfs_anchor_repo_find(anchor, c->repos[r].name);
		struct mfs_err err = MFS_ERR_INIT;

		if (a == NULL || a->trust_json == NULL)
			continue;
		if (mfs_keys_trust_set(keys, r, MFS_SPAN(a->trust_json, strlen(a->trust_json)), &err) != MFS_OK)
			mfs_log_err(c->repos[r].name, &err);
	}
}

void
mfs_engine_trust_load(struct mfs_engine *e)
{
	trust_take(e->args.config, e->args.keys, mfs_trusted_anchor(e->trusted));
}

#define PEEKS 10 /* tries: serve may be writing */

enum mfs_code
mfs_engine_trust_peek(const struct mfs_engine_args *args, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_counter) struct mfs_counter *counter = NULL;
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	enum mfs_code code;

	if (args->config->n_repos == 0)
		return MFS_OK;
	if ((code = mfs_counter_open(args->config->counter, args->state_dirfd, &counter, err)) != MFS_OK)
		return code;
	for (int i = 0; i < PEEKS; i++) {
		MFS_CLEANUP(mfs_cleanup_trusted) struct mfs_trusted *t = NULL;
		struct mfs_err own = MFS_ERR_INIT;

		if ((code = mfs_trusted_open(args->state_dirfd, -1, mfs_keys_state(args->keys), counter, MFS_TRUSTED_READ, &t,
			     &own)) == MFS_OK) {
			trust_take(args->config, args->keys, mfs_trusted_anchor(t));
			return MFS_OK;
		}
		if (err != NULL)
			*err = own;
		(void)nanosleep(&pause, NULL);
	}
	return code;
}

static enum mfs_code
look_again(struct mfs_engine *e, size_t i, bool recheck, const char *source, bool *changed, struct mfs_err *err)
{
	struct mfs_sha256 before, after;
	enum mfs_code code;

	*changed = false;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	before = shown_now(e, i);
	e->recheck = recheck;
	code = recheck ? show_again(e, i, NULL, source, err) : mfs_engine_enforce_locked(e, i, source, NULL, err);
	e->recheck = false;
	after = shown_now(e, i);
	*changed = !mfs_sha256_equal(&before, &after);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

enum mfs_code
mfs_engine_recheck(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err)
{
	return look_again(e, i, true, "trust", changed, err);
}

/* What is shown and could not be opened, for the want of a wrap that may have come. */
static void
open_again(struct mfs_engine *e, size_t i)
{
	(void)pthread_mutex_lock(&e->lock);
	for (size_t k = 0; k < e->view[i].n; k++)
		(void)mfs_version_open_again(e->args.store, e->args.cache, e->args.keys, i, e->view[i].versions[k].v, NULL);
	(void)pthread_mutex_unlock(&e->lock);
}

enum mfs_code
mfs_engine_restored(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err)
{
	if (i < e->args.config->n_models)
		open_again(e, i);
	return look_again(e, i, false, "scrub", changed, err);
}

/* Hold lock. May the k-th version be shown, as far as trust and policy go? */
static bool
may_be_shown(struct mfs_engine *e, size_t i, const struct mfs_anchor_model *st, size_t k)
{
	if (k == 0)
		return !mfs_sha256_is_zero(&st->active.manifest) && mfs_engine_active_check(e, i, st, NULL) == MFS_OK;
	return e->stops[i].code == MFS_OK &&
		mfs_decide_retained(st, &st->retained[k - 1], &e->args.config->models[i].minimum, NULL) == MFS_OK;
}

/* There is a model key, and no wrap for it is here: one may be had where the version came from. */
static bool
wrap_wanted(const struct mfs_engine *e, size_t i, const struct mfs_version *v)
{
	struct mfs_sha256 key;

	mfs_keys_model_id(e->args.keys, i, &key);
	return v->key_code == MFS_KEY_UNAVAILABLE && !mfs_sha256_is_zero(&key);
}

/* As it lies there; what is lost in both places, and is shown, is written again from memory. */
static enum mfs_code
load_mended(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const struct mfs_version *shown, struct mfs_version **v,
	struct mfs_err *err)
{
	const struct mfs_engine_args *a = &e->args;
	enum mfs_code code = mfs_version_load_repair(a->state_dirfd, a->store, a->cache, a->config, a->keys, i, id, true, v, err);

	if (shown == NULL || !mfs_kept_lost(code))
		return code;
	mfs_version_mend(a->state_dirfd, a->store, shown);
	return mfs_version_load_repair(a->state_dirfd, a->store, a->cache, a->config, a->keys, i, id, true, v, err);
}

enum mfs_code
mfs_engine_lost(struct mfs_engine *e, size_t i, size_t k, bool quick, bool *end, struct mfs_version **out, struct mfs_err *err)
{
	struct mfs_version *v = NULL, *shown = NULL;
	const struct mfs_anchor_model *st;
	enum mfs_code code = MFS_OK;

	*out = NULL;
	*end = true;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	st = mfs_engine_record(e, i);
	*end = st == NULL || k > st->n_retained || strcmp(st->model_id, e->args.config->models[i].model_id) != 0;
	if (!*end && may_be_shown(e, i, st, k)) {
		const struct mfs_sha256 *id = k == 0 ? &st->active.manifest : &st->retained[k - 1].manifest;

		for (size_t j = 0; shown == NULL && j < e->view[i].n; j++)
			if (mfs_sha256_equal(&e->view[i].versions[j].v->m->id, id))
				shown = e->view[i].versions[j].v;
		if (quick && shown != NULL)
			v = mfs_version_ref(shown);
		else
			code = load_mended(e, i, id, shown, &v, err);
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (v != NULL && mfs_engine_compat_check(e->args.config, i, v->m, NULL) == MFS_OK &&
		(wrap_wanted(e, i, v) || mfs_engine_blobs_check(e->args.store, v->m, NULL) != MFS_OK))
		*out = mfs_steal(&v);
	mfs_version_unref(v);
	return code;
}

/* ---- a version that a revocation leads to ---------------------------------------------------------------------------- */

static enum mfs_code
rollback_to_locked(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, char *from, char *to, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &e->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	struct mfs_version *v = NULL;
	struct mfs_anchor_model *st;
	char detail[64 + MFS_VERSION_MAX];
	enum mfs_install how;
	enum mfs_code code;

	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) != MFS_OK)
		return code;
	if ((st = mfs_anchor_find(a, cfg->id)) == NULL)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "model %s: nothing is installed: no revocation leads anywhere", cfg->id);
	mfs_engine_version_copy(from, &st->active);
	if ((code = mfs_engine_candidate(e, i, id, &v, err)) != MFS_OK)
		return code;
	(void)snprintf(to, MFS_VERSION_MAX + 1, "%s", v->m->version);
	if ((code = mfs_decide_rollback_to(st, cfg->model_id, v->m, &cfg->minimum, &how, err)) == MFS_OK &&
		(code = mfs_engine_signed_put(e, id, &v->signed_bytes, err)) == MFS_OK &&
		(code = mfs_anchor_activate(st, v->m, e->args.config->retain, false, err)) == MFS_OK &&
		(code = mfs_trusted_commit(e->trusted, a, err)) == MFS_OK) {
		(void)mfs_steal(&a);
		(void)snprintf(detail, sizeof(detail), "the publisher revoked %s and leads back here%s", from,
			free_pin(e, i) ? "; pin and hold are lifted" : "");
		mfs_engine_swapped(e, i, v, MFS_OK, "policy", from[0] != '\0' ? from : NULL, to, detail);
	}
	mfs_version_unref(v);
	return code;
}

enum mfs_code
mfs_engine_rollback_to(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, char *from, char *to,
	struct mfs_err *err)
{
	char old[MFS_VERSION_MAX + 1] = "", target[MFS_VERSION_MAX + 1] = "";
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	code = rollback_to_locked(e, i, id, old, target, err);
	(void)pthread_mutex_unlock(&e->lock);
	if (from != NULL)
		memcpy(from, old, sizeof(old));
	if (to != NULL)
		memcpy(to, target, sizeof(target));
	return code;
}
