/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine has and what keeper's memory remembers, brought into the tree. */
#include <stdio.h>
#include <sys/random.h>

#include "log.h"
#include "tree_int.h"

/* ---- exposure records in shm ------------------------------------------------------------------------------ */

static bool
record_is(const struct mfs_tree *t, uint32_t x, size_t i, const struct mfs_sha256 *manifest)
{
	const struct mfs_shm_exposure *r = &t->shm->exposures[x];

	return atomic_load(&r->state) == MFS_EXPOSURE_LIVE &&
		strncmp(r->model, t->config->models[i].id, sizeof(r->model)) == 0 &&
		(manifest == NULL || mfs_sha256_equal(&r->manifest, manifest));
}

/* A free record, filled in. Takes view_lock: whoever looks through the records holds it too. */
static bool
record_claim(struct mfs_tree *t, size_t i, const struct mfs_sha256 *manifest, enum mfs_tier tier, uint64_t number,
	uint32_t *out)
{
	bool claimed = false;

	(void)pthread_mutex_lock(&t->view_lock);
	for (uint32_t x = 0; x < MFS_EXPOSURES && !claimed; x++) {
		struct mfs_shm_exposure *r = &t->shm->exposures[x];

		if (atomic_load(&r->state) != MFS_EXPOSURE_FREE)
			continue;
		atomic_store(&r->state, MFS_EXPOSURE_CLAIMED); /* a crash from here on: the next serve frees it */
		r->tier = (uint32_t)tier;
		r->exposure = number;
		r->manifest = *manifest;
		memset(r->model, 0, sizeof(r->model));
		(void)snprintf(r->model, sizeof(r->model), "%s", t->config->models[i].id);
		atomic_store(&r->state, MFS_EXPOSURE_LIVE);
		*out = x;
		claimed = true;
	}
	(void)pthread_mutex_unlock(&t->view_lock);
	return claimed;
}

/*
 * A number that no node id was ever made from. Durable before anything shows it; when the state's
 * disk is full or failing the working model must still be shown, and 63 random bits (with the
 * highest set: no counter gets there) are not met twice either.
 */
static enum mfs_code
number_take(struct mfs_serve *s, size_t i, uint64_t *number, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;

	if (mfs_engine_exposures(s->engine, i, 1, number, &own) == MFS_OK)
		return MFS_OK;
	if ((own.code != MFS_IO && own.code != MFS_INSUFFICIENT_STORAGE) ||
		getrandom(number, sizeof(*number), 0) != (ssize_t)sizeof(*number))
		return mfs_fail(err, own.code, "%s", own.msg);
	*number |= 1ull << 63;
	(void)mfs_err_context(&own, "model %s: node ids are numbered at random: ", s->tree->config->models[i].id);
	mfs_log_err("tree", &own);
	return MFS_OK;
}

enum mfs_code
mfs_view_expose(struct mfs_serve *s, size_t i, const struct mfs_version *v, enum mfs_tier tier, uint32_t *index,
	struct mfs_err *err)
{
	struct mfs_tree *t = s->tree;
	enum mfs_code code;
	uint64_t number;

	if ((code = number_take(s, i, &number, err)) != MFS_OK)
		return code;
	if (record_claim(t, i, &v->m->id, tier, number, index))
		return MFS_OK;
	mfs_tree_sweep(t, true);
	if (record_claim(t, i, &v->m->id, tier, number, index))
		return MFS_OK;
	return mfs_fail(err, MFS_LIMIT_EXCEEDED, "model %s: all %u exposure records are in use: close files of old versions",
		t->config->models[i].id, MFS_EXPOSURES);
}

/* Hold view_lock. The tree's record of an exposure, or NULL. */
static struct mfs_exp *
exp_of(struct mfs_tree *t, uint32_t x)
{
	for (size_t i = 0; i < t->n_models; i++)
		for (struct mfs_exp *e = t->models[i].exps; e != NULL; e = e->next)
			if (e->index == x && e->exposure == t->shm->exposures[x].exposure)
				return e;
	return NULL;
}

bool
mfs_view_retire(struct mfs_serve *s, uint32_t exposure_index)
{
	struct mfs_tree *t = s->tree;
	struct mfs_exp *e;
	bool idle;

	if (exposure_index >= MFS_EXPOSURES)
		return false;
	(void)pthread_mutex_lock(&t->view_lock);
	(void)pthread_rwlock_wrlock(&t->lock);
	e = exp_of(t, exposure_index);
	idle = (e == NULL || !e->shown) && mfs_handles_count(t->handles, exposure_index) == 0;
	if (idle && e != NULL)
		e->closed = true;
	(void)pthread_rwlock_unlock(&t->lock);
	(void)pthread_mutex_unlock(&t->view_lock);
	return idle;
}

void
mfs_view_forget(struct mfs_serve *s, uint32_t exposure_index)
{
	struct mfs_tree *t = s->tree;
	struct mfs_exp **p, *e;

	if (exposure_index >= MFS_EXPOSURES)
		return;
	(void)pthread_mutex_lock(&t->view_lock);
	e = exp_of(t, exposure_index);
	if (e == NULL || !e->shown) { /* what is shown stays, whoever asks */
		(void)pthread_rwlock_wrlock(&t->lock);
		for (p = e != NULL ? &t->models[e->mver->model].exps : NULL; p != NULL && *p != NULL; p = &(*p)->next)
			if (*p == e) {
				mfs_tree_unlink(t, p);
				break;
			}
		(void)pthread_rwlock_unlock(&t->lock);
		atomic_store(&t->shm->exposures[exposure_index].state, MFS_EXPOSURE_FREE);
	}
	(void)pthread_mutex_unlock(&t->view_lock);
}

/* ---- refresh ------------------------------------------------------------------------------------------------- */

/* Every file of it that has a copy stands ready. */
static bool
is_complete(const struct mfs_tree *t, uint32_t x, const struct mfs_manifest *m)
{
	size_t want = 0, have = 0;

	for (size_t f = 0; f < m->n_files; f++)
		want += mfs_file_resident(&m->files[f]);
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		const struct mfs_shm_resident *s = &t->shm->residents[r];

		have += atomic_load(&s->state) == MFS_RESIDENT_READY && s->exposure == x + 1 &&
			s->file < m->n_files && mfs_file_resident(&m->files[s->file]);
	}
	return have == want;
}

/* Hold view_lock. A record of this version and tier that may be shown, or MFS_EXPOSURES. */
static uint32_t
record_find(struct mfs_tree *t, size_t i, const struct mfs_manifest *m, enum mfs_tier tier)
{
	uint32_t best = MFS_EXPOSURES;

	for (uint32_t x = 0; x < MFS_EXPOSURES; x++) {
		const struct mfs_exp *e;

		if (!record_is(t, x, i, &m->id) || t->shm->exposures[x].tier != (uint32_t)tier)
			continue;
		if (tier == MFS_TIER_RESIDENT && !is_complete(t, x, m))
			continue;
		if ((e = exp_of(t, x)) != NULL && e->closed)
			continue;
		if (best == MFS_EXPOSURES || t->shm->exposures[x].exposure > t->shm->exposures[best].exposure)
			best = x;
	}
	return best;
}

/* Hold view_lock. Where a version is shown: the active one resident if it can be, everything else paged. */
static uint32_t
record_choose(struct mfs_tree *t, size_t i, const struct mfs_engine_version *ev)
{
	uint32_t x = MFS_EXPOSURES;

	if (ev->active && t->shm->passthrough && t->config->models[i].serve != MFS_SERVE_PAGED)
		x = record_find(t, i, ev->v->m, MFS_TIER_RESIDENT);
	return x != MFS_EXPOSURES ? x : record_find(t, i, ev->v->m, MFS_TIER_PAGED);
}

static void
free_record(struct mfs_tree *t, uint32_t x)
{
	if (t->shm->exposures[x].tier == MFS_TIER_PAGED) /* residency gives the others back */
		atomic_store(&t->shm->exposures[x].state, MFS_EXPOSURE_FREE);
}

/* Hold view_lock. An exposure of an earlier serve that is not shown: kept while a handle holds it. */
static void
adopt(struct mfs_tree *t, size_t i, uint32_t x, const struct mfs_engine_model *m, unsigned handles)
{
	const struct mfs_shm_exposure *r = &t->shm->exposures[x];
	struct mfs_exposed kept = { .exposure_index = x };
	struct mfs_version *loaded = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (exp_of(t, x) != NULL)
		return;
	if (handles == 0) {
		free_record(t, x);
		return;
	}
	for (size_t k = 0; k < m->n && kept.v == NULL; k++)
		if (mfs_sha256_equal(&m->versions[k].v->m->id, &r->manifest)) {
			kept.v = m->versions[k].v;
			kept.activated_ns = m->versions[k].activated_ns;
		}
	if (kept.v == NULL && mfs_version_load(t->s->state_dirfd, t->s->store, t->s->cache, t->config, t->s->keys, i,
			&r->manifest, &loaded, &err) == MFS_OK)
		kept.v = loaded;
	if (kept.v == NULL || mfs_tree_keep_locked(t, i, &kept, &err) != MFS_OK)
		mfs_log(MFS_LOG_WARN, "model %s: %u open files of a version that is gone get errors: %s",
			t->config->models[i].id, handles, err.msg);
	mfs_version_unref(loaded);
}

/* Hold view_lock. */
static void
adopt_all(struct mfs_tree *t, size_t i, const struct mfs_engine_model *m)
{
	mfs_autofree uint32_t *counts = calloc(MFS_EXPOSURES, sizeof(*counts));

	if (counts == NULL)
		return;
	mfs_handles_counts(t->handles, counts);
	for (uint32_t x = 0; x < MFS_EXPOSURES; x++)
		if (record_is(t, x, i, NULL))
			adopt(t, i, x, m, counts[x]);
}

/* Hold view_lock. One exposure per version of m; new ones come from fresh[k] (MFS_EXPOSURES: none). */
static enum mfs_code
publish(struct mfs_tree *t, size_t i, const struct mfs_engine_model *m, const uint32_t *fresh, struct mfs_err *err)
{
	mfs_autofree struct mfs_exposed *shown = calloc(m->n > 0 ? m->n : 1, sizeof(*shown));
	enum mfs_code code;

	if (shown == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "model %s: %zu versions", t->config->models[i].id, m->n);
	for (size_t k = 0; k < m->n; k++) {
		uint32_t x = record_choose(t, i, &m->versions[k]);

		shown[k] = (struct mfs_exposed){ .v = m->versions[k].v,
			.exposure_index = x != MFS_EXPOSURES ? x : fresh[k], .active = m->versions[k].active,
			.previous = m->versions[k].previous, .candidate = m->versions[k].candidate,
			.checked = m->versions[k].candidate && !m->versions[k].active && !m->versions[k].retained,
			.activated_ns = m->versions[k].activated_ns };
	}
	if ((code = mfs_tree_publish_locked(t, i, shown, m->n, m->generation, err)) != MFS_OK)
		return code;
	if (!t->models[i].started) {
		adopt_all(t, i, m);
		t->models[i].started = true;
	}
	return MFS_OK;
}

/*
 * A record for each version of m; those that have none go behind the first *n, which do. Writes to disk: without the
 * tree's locks. The first failure is the outcome.
 */
static enum mfs_code
records_get(struct mfs_serve *s, size_t i, struct mfs_engine_model *m, uint32_t *fresh, size_t *n, struct mfs_err *err)
{
	struct mfs_tree *t = s->tree;
	enum mfs_code code = MFS_OK;

	*n = 0;
	for (size_t k = 0; k < m->n; k++) {
		const struct mfs_engine_version v = m->versions[k];
		struct mfs_err why = MFS_ERR_INIT;
		uint32_t x;

		(void)pthread_mutex_lock(&t->view_lock);
		x = record_choose(t, i, &v);
		(void)pthread_mutex_unlock(&t->view_lock);
		if (x == MFS_EXPOSURES && mfs_view_expose(s, i, v.v, MFS_TIER_PAGED, &x, &why) != MFS_OK) {
			if (code == MFS_OK && err != NULL)
				*err = why;
			code = code == MFS_OK ? why.code : code;
			continue;
		}
		m->versions[k] = m->versions[*n];
		m->versions[*n] = v;
		fresh[(*n)++] = x;
	}
	return code;
}

/* Does the tree show a version that m does not have: revoked, condemned, collected? */
static bool
shows_others(struct mfs_tree *t, size_t i, const struct mfs_engine_model *m)
{
	bool others = false;

	(void)pthread_mutex_lock(&t->view_lock);
	for (size_t k = 0; t->models[i].view != NULL && k < t->models[i].view->n && !others; k++) {
		const struct mfs_sha256 *id = &t->models[i].view->shown[k]->mver->v->m->id;

		others = true;
		for (size_t j = 0; j < m->n; j++)
			others = others && !mfs_sha256_equal(&m->versions[j].v->m->id, id);
	}
	(void)pthread_mutex_unlock(&t->view_lock);
	return others;
}

static enum mfs_code
refresh(struct mfs_serve *s, size_t i, struct mfs_err *err)
{
	struct mfs_engine_model m = { .n = 0 }, part;
	mfs_autofree uint32_t *fresh = NULL;
	struct mfs_tree *t = s->tree;
	enum mfs_code code, lacking;
	bool candidate = false;
	size_t n;

	if ((code = mfs_engine_model_get(s->engine, i, &m, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < m.n; k++)
		candidate |= m.versions[k].candidate;
	if (!candidate)
		mfs_view_candidate_forget(s, i);
	if ((fresh = calloc(m.n > 0 ? m.n : 1, sizeof(*fresh))) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "model %s: %zu versions", t->config->models[i].id, m.n);
		mfs_engine_model_free(&m);
		return code;
	}
	lacking = records_get(s, i, &m, fresh, &n, err);
	part = m;
	part.n = n;
	/* What cannot be shown yet leaves all as it is; but not what may be shown no longer. */
	if (lacking == MFS_OK || shows_others(t, i, &m)) {
		(void)pthread_mutex_lock(&t->view_lock);
		code = publish(t, i, &part, fresh, lacking == MFS_OK ? err : NULL);
		(void)pthread_mutex_unlock(&t->view_lock);
	}
	mfs_engine_model_free(&m);
	return lacking != MFS_OK ? lacking : code;
}

enum mfs_code
mfs_view_refresh(struct mfs_serve *s, size_t i, struct mfs_err *err)
{
	enum mfs_code code;

	if (i >= s->tree->n_models)
		return mfs_fail(err, MFS_INTERNAL, "model %zu of %zu", i, s->tree->n_models);
	(void)pthread_mutex_lock(&s->tree->refresh_lock);
	code = refresh(s, i, err);
	(void)pthread_mutex_unlock(&s->tree->refresh_lock);
	if (code == MFS_OK) {
		mfs_session_epoch(s->session);
		mfs_tree_sweep(s->tree, false);
	}
	return code;
}

/* "counter version release hash": the parts that a hook is told of. */
struct said {
	char version[MFS_VERSION_MAX + 1], hash[65];
	long long release;
};

static void
said_parse(const char *line, struct said *out)
{
	_Static_assert(MFS_VERSION_MAX == 64, "as in the format below");
	if (sscanf(line, "%*u %64s %lld %64s", out->version, &out->release, out->hash) != 3)
		*out = (struct said){ .version = "-", .hash = "-" };
}

/* `on_change`, when another version is active than was announced last. */
static void
change_tell(struct mfs_serve *s, size_t i, enum mfs_code outcome)
{
	struct mfs_job_request q = { .model = i, .kind = MFS_JOB_ON_CHANGE, .outcome = outcome };
	char said[256], now[256];
	struct said a, b;

	if (s->jobs == NULL)
		return;
	mfs_tree_sentences(s->tree, i, said, now);
	said_parse(said, &a);
	said_parse(now, &b);
	if (strcmp(a.hash, b.hash) == 0)
		return;
	q.reason = strcmp(b.hash, "-") == 0 ? MFS_REASON_WITHDRAW : b.release < a.release ? MFS_REASON_ROLLBACK :
		MFS_REASON_SWAP;
	if (q.reason != MFS_REASON_WITHDRAW) {
		q.version = b.version;
		q.release = b.release;
		q.previous = strcmp(a.hash, "-") != 0 ? a.version : NULL;
	}
	mfs_job_hook(s->jobs, &q);
}

bool
mfs_view_announced(struct mfs_serve *s, size_t i)
{
	char said[256], now[256];
	struct said a;

	mfs_tree_sentences(s->tree, i, said, now);
	said_parse(said, &a);
	return strcmp(a.hash, "-") != 0;
}

enum mfs_code
mfs_view_announce(struct mfs_serve *s, size_t i, enum mfs_code outcome, struct mfs_err *err)
{
	change_tell(s, i, outcome); /* first: a crash between repeats the hook rather than losing it */
	mfs_tree_announce(s->tree, i);
	if (s->klink == NULL)
		return MFS_OK;
	return mfs_klink_notify(s->klink, MFS_K_TOUCH, (uint32_t)i, "", err);
}

enum mfs_code
mfs_view_resident_ready(struct mfs_serve *s, size_t i, uint32_t exposure_index, struct mfs_err *err)
{
	if (exposure_index >= MFS_EXPOSURES)
		return mfs_fail(err, MFS_INTERNAL, "exposure record %u", exposure_index);
	return mfs_view_refresh(s, i, err);
}

bool
mfs_view_busy(void *user, const struct mfs_sha256 *id)
{
	struct mfs_serve *s = user;
	struct mfs_tree *t = s->tree;
	mfs_autofree uint32_t *counts = calloc(MFS_EXPOSURES, sizeof(*counts));
	bool busy = counts == NULL; /* rather keep than collect what may be open */

	if (counts != NULL)
		mfs_handles_counts(t->handles, counts);
	(void)pthread_mutex_lock(&t->view_lock);
	for (uint32_t x = 0; x < MFS_EXPOSURES && !busy; x++)
		busy = counts[x] > 0 && atomic_load(&t->shm->exposures[x].state) == MFS_EXPOSURE_LIVE &&
			mfs_sha256_equal(&t->shm->exposures[x].manifest, id);
	(void)pthread_mutex_unlock(&t->view_lock);
	for (size_t i = 0; i < t->n_models && !busy; i++)
		busy = mfs_pins_loading(t->pins, i, id);
	return busy;
}
