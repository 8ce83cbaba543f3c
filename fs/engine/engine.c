/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: opening, the view of each model, and small questions. Changes: engine_change.c,
 * collection and checking: engine_gc.c, recovery: engine_recover.c.
 */
#include "engine.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine_io.h"
#include "io.h"

const struct mfs_anchor_model *
mfs_engine_record(const struct mfs_engine *e, size_t i)
{
	return mfs_anchor_find(mfs_trusted_anchor(e->trusted), e->args.config->models[i].id);
}

/* ---- checks of one version ------------------------------------------------------------------------ */

enum mfs_code
mfs_engine_blobs_check(struct mfs_store *s, const struct mfs_manifest *m, struct mfs_err *err)
{
	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		if (!mfs_store_blob_has(s, &f->sha256, f->size))
			return mfs_fail(err, MFS_IO, "%s %s: %s: blob %s is missing from the store or has the wrong size: "
				"it is fetched again where a repository is followed, else install the bundle again", m->model_id, m->version, MFS_ESC(f->name), MFS_HEX(&f->sha256));
		if (f->chunks > 1 && !mfs_store_blob_has(s, &f->chunks_sha256, mfs_table_length(f->chunks)))
			return mfs_fail(err, MFS_IO, "%s %s: %s: chunk table %s is missing from the store or has the wrong "
				"size: fetched again where a repository is followed, else install the bundle again", m->model_id, m->version, MFS_ESC(f->name),
				MFS_HEX(&f->chunks_sha256));
	}
	return MFS_OK;
}

enum mfs_code
mfs_engine_compat_check(const struct mfs_config *c, size_t i, const struct mfs_manifest *m, struct mfs_err *err)
{
	struct mfs_device d;

	mfs_device_describe(c, i, &d);
	return mfs_compat_check(m, &d, err);
}

/* A loaded version under a trust list that changed. */
static bool
still_trusted(const struct mfs_engine *e, size_t i, const struct mfs_version *v)
{
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;

	if (!e->recheck)
		return true;
	trust = mfs_keys_trust(e->args.keys, i);
	return mfs_signed_verify(&v->signed_bytes, trust, e->args.config->threshold, &m, NULL, NULL) == MFS_OK;
}

/* Load, unless the view has it already; may be shown (blobs and compatibility). */
static enum mfs_code
version_get(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_version *loaded,
	struct mfs_version **out, struct mfs_err *err)
{
	const struct mfs_config_model *cm = &e->args.config->models[i];
	const struct mfs_engine_model *view = &e->view[i];
	struct mfs_version *v = NULL;
	enum mfs_code code = MFS_OK;

	*out = NULL;
	if (loaded != NULL && mfs_sha256_equal(&loaded->m->id, id))
		v = mfs_version_ref(loaded);
	for (size_t k = 0; v == NULL && k < view->n; k++)
		if (mfs_sha256_equal(&view->versions[k].v->m->id, id) && still_trusted(e, i, view->versions[k].v))
			v = mfs_version_ref(view->versions[k].v);
	if (v == NULL)
		code = mfs_version_load_repair(e->args.state_dirfd, e->args.store, e->args.cache, e->args.config,
			e->args.keys, i, id, (e->args.flags & MFS_TRUSTED_READ) == 0, &v, err);
	if (code == MFS_OK && strcmp(v->m->model_id, cm->model_id) != 0)
		code = mfs_fail(err, MFS_MALFORMED, "manifest %s: model_id is '%s', configured is '%s'", MFS_HEX(id),
			v->m->model_id, cm->model_id);
	if (code == MFS_OK)
		code = mfs_engine_compat_check(e->args.config, i, v->m, err);
	if (code == MFS_OK)
		code = mfs_engine_blobs_check(e->args.store, v->m, err);
	if (code != MFS_OK) {
		mfs_version_unref(v);
		return code;
	}
	*out = v;
	return MFS_OK;
}

enum mfs_code
mfs_engine_candidate(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err)
{
	enum mfs_code code = version_get(e, i, id, NULL, out, err);

	/* What is in memory may be lost on the disk, which a restart would find. */
	if (code == MFS_OK && (e->args.flags & MFS_TRUSTED_READ) == 0)
		mfs_version_mend(e->args.state_dirfd, e->args.store, *out);
	if (code != MFS_OK || (*out)->key_code == MFS_OK)
		return code;
	/* The view may have had it before a wrap came; what it shows is opened when it is shown again (mfs_engine_swapped). */
	mfs_version_unref(*out);
	code = mfs_version_load(e->args.state_dirfd, e->args.store, e->args.cache, e->args.config, e->args.keys, i, id, out, err);
	if (code != MFS_OK || (*out)->key_code == MFS_OK)
		return code;
	code = mfs_fail(err, (*out)->key_code, "%s", (*out)->key_why != NULL ? (*out)->key_why : "no content key");
	mfs_version_unref(*out);
	*out = NULL;
	return code;
}

/* ---- the cycle's record ------------------------------------------------------------------------------- */

/*
 * Counters of a model whose record was lost. Exposures: 2^52 and 51 random bits above it, so that
 * no earlier number comes back whatever the clock says; generation: seconds and random bits, so
 * that it differs and, with a clock, rises.
 */
void
mfs_cycle_renew(struct mfs_cycle_model *m)
{
	uint64_t random[2] = { 0, 0 };

	if (RAND_bytes((unsigned char *)random, (int)sizeof(random)) != 1)
		mfs_log(MFS_LOG_WARN, "cycle: no random bytes: counters start anew by the clock alone");
	m->exposure_next = (UINT64_C(1) << 52) | (random[0] >> 13);
	m->generation = ((uint64_t)mfs_clock_wall() & 0xffffffffu) << 20 | (random[1] & 0xfffff);
}

struct mfs_cycle_model *
mfs_engine_cycle(struct mfs_engine *e, size_t i)
{
	const char *id = e->args.config->models[i].id;
	struct mfs_cycle *c = mfs_trusted_cycle(e->trusted);
	struct mfs_cycle_model *m = mfs_cycle_find(c, id);

	if (m != NULL || mfs_cycle_add(c, id, &m, NULL) != MFS_OK)
		return m;
	m->exposure_next = 1;
	/* The anchor knows the model: its record was lost, with the whole cycle or earlier. */
	if (mfs_trusted_cycle_lost(e->trusted) || mfs_engine_record(e, i) != NULL)
		mfs_cycle_renew(m);
	return m;
}

static int64_t
activated_ns(struct mfs_cycle_model *cm, const struct mfs_manifest *m)
{
	for (size_t i = 0; cm != NULL && i < cm->n_activations; i++)
		if (mfs_sha256_equal(&cm->activations[i].manifest, &m->id))
			return cm->activations[i].time_ns;
	/* Lost with the cycle: the build time, which an activation is always later than. */
	return m->build_time * INT64_C(1000000000);
}

/* ---- the view ------------------------------------------------------------------------------------------ */

void
mfs_engine_model_free(struct mfs_engine_model *m)
{
	for (size_t i = 0; i < m->n; i++)
		mfs_version_unref(m->versions[i].v);
	free(m->versions);
	*m = (struct mfs_engine_model){ 0 };
}

static void
view_status(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, const struct mfs_cycle_model *cm,
	const struct mfs_anchor_model *st)
{
	if (st != NULL) {
		out->floor_epoch = st->floor_epoch;
		out->floor_release = st->floor_release;
	}
	if (cm == NULL)
		return;
	out->generation = cm->generation;
	out->held = cm->held;
	out->active_since = cm->active_since;
	out->last_outcome = cm->last_outcome;
	out->last_outcome_time = cm->last_outcome_time;
	(void)snprintf(out->last_detail, sizeof(out->last_detail), "%s", cm->last_detail != NULL ? cm->last_detail : "");
	mfs_engine_update_copy(e, i, &out->update);
}

void
mfs_engine_view_status(struct mfs_engine *e, size_t i)
{
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	(void)pthread_mutex_lock(&e->view_lock);
	view_status(e, i, &e->view[i], cm, mfs_engine_record(e, i));
	(void)pthread_mutex_unlock(&e->view_lock);
}

/* Active and retained versions that may be shown; the active one's refusal is kept, never replaced by another. */
static enum mfs_code
view_versions(struct mfs_engine *e, size_t i, const struct mfs_anchor_model *st, struct mfs_version *loaded,
	struct mfs_engine_model *out, struct mfs_err *err)
{
	const struct mfs_minimum *min = &e->args.config->models[i].minimum;
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	out->versions = calloc(st->n_retained + 1, sizeof(*out->versions));
	if (out->versions == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s", st->id);
	for (size_t k = 0; k <= st->n_retained; k++) {
		const struct mfs_vref *ref = k == 0 ? &st->active : &st->retained[k - 1];
		struct mfs_err why = MFS_ERR_INIT;
		struct mfs_version *v = NULL;

		if (mfs_sha256_is_zero(&ref->manifest))
			continue;
		if ((k == 0 ? mfs_engine_active_check(e, i, st, &why) : e->stops[i].code != MFS_OK ? e->stops[i].code :
				mfs_decide_retained(st, ref, min, &why)) == MFS_OK)
			(void)version_get(e, i, &ref->manifest, loaded, &v, &why);
		if (v != NULL) {
			out->versions[out->n++] = (struct mfs_engine_version){
				.v = v,
				.active = k == 0,
				.retained = k > 0,
				.previous = k > 0 && mfs_sha256_equal(&ref->manifest, &st->previous.manifest),
				.activated_ns = activated_ns(cm, v->m),
			};
		} else if (k == 0) {
			out->absent = why.code;
			(void)snprintf(out->absent_detail, sizeof(out->absent_detail), "%.250s", why.msg);
		} else {
			mfs_engine_gone_note(&out->gone, ref, mfs_sha256_equal(&ref->manifest, &st->previous.manifest), &why);
			mfs_log(MFS_LOG_NOTICE, "%s: version %s is kept but cannot be shown: %s: %s", st->id, ref->version,
				mfs_code_name(why.code), why.msg);
		}
	}
	return MFS_OK;
}

/* The version that is being checked: marked where it is shown already, else added. */
static enum mfs_code
view_candidate(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, struct mfs_err *err)
{
	struct mfs_version *c = e->candidates[i];
	struct mfs_engine_version *grown;

	if (c == NULL)
		return MFS_OK;
	for (size_t k = 0; k < out->n; k++)
		if (mfs_sha256_equal(&out->versions[k].v->m->id, &c->m->id)) {
			out->versions[k].candidate = true;
			return MFS_OK;
		}
	if ((grown = realloc(out->versions, (out->n + 1) * sizeof(*grown))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s", e->args.config->models[i].id);
	out->versions = grown;
	grown[out->n++] = (struct mfs_engine_version){ .v = mfs_version_ref(c), .candidate = true };
	return MFS_OK;
}

enum mfs_code
mfs_engine_reload(struct mfs_engine *e, size_t i, struct mfs_version *loaded, struct mfs_err *err)
{
	const struct mfs_config_model *cm = &e->args.config->models[i];
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	struct mfs_engine_model next = { 0 }, old;
	enum mfs_code code = MFS_OK;

	if (st != NULL && strcmp(st->model_id, cm->model_id) != 0) {
		next.absent = MFS_CONFIG_INVALID;
		(void)snprintf(next.absent_detail, sizeof(next.absent_detail),
			"the state knows it as model_id %.80s, the configuration says %.80s: use another name for it",
			st->model_id, cm->model_id);
	} else if (st != NULL) {
		code = view_versions(e, i, st, loaded, &next, err);
	}
	if (code != MFS_OK) {
		mfs_engine_model_free(&next);
		return code;
	}
	if ((code = view_candidate(e, i, &next, err)) != MFS_OK) {
		mfs_engine_model_free(&next);
		return code;
	}
	view_status(e, i, &next, mfs_engine_cycle(e, i), st);
	(void)pthread_mutex_lock(&e->view_lock);
	old = e->view[i];
	e->view[i] = next;
	(void)pthread_mutex_unlock(&e->view_lock);
	mfs_engine_model_free(&old);
	return MFS_OK;
}

enum mfs_code
mfs_engine_model_get(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, struct mfs_err *err)
{
	*out = (struct mfs_engine_model){ 0 };
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->view_lock);
	*out = e->view[i];
	out->versions = calloc(out->n + 1, sizeof(*out->versions));
	if (out->versions == NULL)
		out->n = 0;
	for (size_t k = 0; k < out->n; k++) {
		out->versions[k] = e->view[i].versions[k];
		(void)mfs_version_ref(out->versions[k].v);
	}
	(void)pthread_mutex_unlock(&e->view_lock);
	return out->versions != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "engine: model %zu", i);
}

/* ---- observers, outcomes, exposures ------------------------------------------------------------------ */

void
mfs_engine_observe(struct mfs_engine *e, mfs_engine_changed_fn *fn, void *user)
{
	(void)pthread_mutex_lock(&e->lock);
	if (e->n_observers < MFS_OBSERVERS_MAX) {
		e->observers[e->n_observers].fn = fn;
		e->observers[e->n_observers++].user = user;
	}
	(void)pthread_mutex_unlock(&e->lock);
}

/* Only the holder of `lock` replaces view[i]: it may be read here without view_lock. */
void
mfs_engine_notify(struct mfs_engine *e, size_t i)
{
	for (size_t k = 0; k < e->n_observers; k++)
		e->observers[k].fn(e->observers[k].user, i, &e->view[i]);
}

/* Event, and the model's last outcome in the cycle (saved by the caller, or with the next change). */
void
mfs_engine_outcome(struct mfs_engine *e, size_t i, const char *source, const char *from, const char *to,
	enum mfs_code code, const char *detail)
{
	struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	mfs_autofree char *plain = mfs_engine_text(detail);
	const char *text = plain != NULL ? plain : "";

	mfs_event(e->args.events, &(struct mfs_event){ .model = e->args.config->models[i].id, .version = to,
		.from = from, .to = to, .code = code, .source = source, .detail = text });
	if (cm != NULL) {
		free(cm->last_detail);
		cm->last_detail = mfs_steal(&plain);
		cm->last_outcome = code;
		cm->last_outcome_time = mfs_clock_wall();
	}
	mfs_engine_view_status(e, i);
}

const char *
mfs_engine_protection(struct mfs_engine *e)
{
	return mfs_trusted_protection(e->trusted);
}

#define EXPOSURE_BLOCK 64u /* reserved at once, so that a start with many models costs one write */

static enum mfs_code
exposures_reserve(struct mfs_engine *e, size_t i, unsigned n, struct mfs_err *err)
{
	size_t models = e->args.config->n_models;
	mfs_autofree uint64_t *old = calloc(models + 1, sizeof(*old));
	enum mfs_code code;

	if (old == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "exposures");
	for (size_t k = 0; k < models; k++) {
		struct mfs_cycle_model *cm = mfs_engine_cycle(e, k);
		uint64_t want = e->exposure_at[k] + (k == i ? n : 0) + EXPOSURE_BLOCK;

		if (cm == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "exposures");
		old[k] = cm->exposure_next;
		if (want > cm->exposure_next)
			cm->exposure_next = want;
	}
	if ((code = mfs_trusted_cycle_save(e->trusted, err)) == MFS_OK)
		return code;
	for (size_t k = 0; k < models; k++)
		mfs_engine_cycle(e, k)->exposure_next = old[k];
	return code;
}

enum mfs_code
mfs_engine_exposures(struct mfs_engine *e, size_t i, unsigned n, uint64_t *first, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	struct mfs_cycle_model *cm;

	*first = 0;
	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if ((cm = mfs_engine_cycle(e, i)) == NULL)
		code = mfs_fail(err, MFS_NO_MEMORY, "exposures");
	else if (!e->reserved || e->exposure_at[i] + n > cm->exposure_next)
		code = exposures_reserve(e, i, n, err);
	if (code == MFS_OK) {
		e->reserved = true;
		*first = e->exposure_at[i];
		e->exposure_at[i] += n;
	}
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- opening --------------------------------------------------------------------------------------------- */

void
mfs_engine_close(struct mfs_engine *e)
{
	if (e == NULL)
		return;
	for (size_t i = 0; e->view != NULL && i < e->args.config->n_models; i++)
		mfs_engine_model_free(&e->view[i]);
	for (size_t i = 0; e->candidates != NULL && i < e->args.config->n_models; i++)
		mfs_version_unref(e->candidates[i]);
	free(e->candidates);
	free(e->stops);
	free(e->due);
	free(e->waits);
	free(e->bringing);
	free(e->view);
	free(e->exposure_at);
	free(e->repos);
	mfs_trusted_close(e->trusted);
	mfs_reserve_close(e->reserve);
	mfs_counter_free(e->counter);
	(void)pthread_mutex_destroy(&e->lock);
	(void)pthread_mutex_destroy(&e->view_lock);
	(void)pthread_mutex_destroy(&e->budget_lock);
	free(e);
}
MFS_DEFINE_CLEANUP(engine, struct mfs_engine, mfs_engine_close)

enum mfs_code
mfs_engine_open(const struct mfs_engine_args *args, struct mfs_engine **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_engine) struct mfs_engine *e = calloc(1, sizeof(*e));
	size_t n = args->config->n_models;
	enum mfs_code code;

	*out = NULL;
	if (e == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "engine");
	e->args = *args;
	(void)pthread_mutex_init(&e->lock, NULL);
	(void)pthread_mutex_init(&e->view_lock, NULL);
	(void)pthread_mutex_init(&e->budget_lock, NULL);
	if ((e->view = calloc(n + 1, sizeof(*e->view))) == NULL ||
		(e->repos = calloc(args->config->n_repos + 1, sizeof(*e->repos))) == NULL ||
		(e->candidates = calloc(n + 1, sizeof(struct mfs_version *))) == NULL ||
		(e->stops = calloc(n + 1, sizeof(*e->stops))) == NULL || (e->due = calloc(n + 1, sizeof(*e->due))) == NULL ||
		(e->waits = calloc(n + 1, sizeof(*e->waits))) == NULL ||
		(e->bringing = calloc(n + 1, sizeof(*e->bringing))) == NULL ||
		(e->exposure_at = calloc(n + 1, sizeof(*e->exposure_at))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "engine: %zu models", n);
	if (mfs_keys_state(args->keys) == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "engine: no state key");
	if ((code = mfs_counter_open(args->config->counter, args->state_dirfd, &e->counter, err)) != MFS_OK ||
		(code = mfs_trusted_open(args->state_dirfd, mfs_store_dirfd(args->store), mfs_keys_state(args->keys),
			 e->counter, args->flags, &e->trusted, err)) != MFS_OK ||
		(code = mfs_engine_take_over(e, err)) != MFS_OK ||
		((args->flags & MFS_TRUSTED_READ) == 0 &&
			(code = mfs_reserve_open(args->state_dirfd, &e->reserve, err)) != MFS_OK))
		return code;
	mfs_engine_repos_load(e);
	mfs_engine_trust_load(e);
	for (size_t i = 0; i < n; i++) {
		struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
		struct mfs_err why = MFS_ERR_INIT;

		if (cm == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "engine: model %zu", i);
		e->exposure_at[i] = cm->exposure_next;
		if ((code = mfs_engine_reload(e, i, NULL, err)) != MFS_OK)
			return code;
		if ((args->flags & MFS_TRUSTED_READ) != 0)
			continue;
		/* What was revoked while this host was off, or could not be acted on, acts now. */
		if (mfs_engine_enforce_locked(e, i, "policy", NULL, &why) != MFS_OK)
			mfs_log_err(args->config->models[i].id, &why);
		if (e->view[i].absent != MFS_OK)
			mfs_event(args->events, &(struct mfs_event){ .model = args->config->models[i].id,
				.code = e->view[i].absent, .source = "mount", .detail = e->view[i].absent_detail });
	}
	*out = mfs_steal(&e);
	return MFS_OK;
}
