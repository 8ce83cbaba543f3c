/* SPDX-License-Identifier: Apache-2.0 */
/* The tree's life: fixed nodes, tables, housekeeping, failed chunks. */
#include <time.h>

#include "io.h"
#include "log.h"
#include "tree_int.h"

#define HOUSEKEEPING_MS 10000
#define PENDING_MS 100 /* between looks whether an announcement may be made */
#define QUIET_S 1      /* between looks whether there is one */
#define FAILURE_EVENT_MS 10000 /* one event in 10 s: a bad disk must not fill the log */

static enum mfs_code
fixed_node(struct mfs_tree *t, size_t at, enum mfs_node_kind kind, const char *label, size_t model, unsigned status,
	struct mfs_err *err)
{
	struct mfs_node *n = &t->fixed[at];
	const char *id = model < t->n_models ? t->config->models[model].id : "";

	*n = (struct mfs_node){ .kind = (uint8_t)kind, .status = (uint8_t)status, .model = (uint16_t)model };
	if (kind == MFS_NODE_ROOT) {
		n->id = FUSE_ROOT_ID;
		n->ino = FUSE_ROOT_ID;
		return MFS_OK;
	}
	return mfs_nodeid_named(label, id, NULL, &n->id, err);
}

static enum mfs_code
fixed_nodes(struct mfs_tree *t, struct mfs_err *err)
{
	const size_t none = UINT16_MAX;
	enum mfs_code code = fixed_node(t, 0, MFS_NODE_ROOT, "", none, 0, err);
	char label[32];
	size_t at = 1;

	for (size_t k = 0; code == MFS_OK && k < MFS_FIXED_ROOT; k++)
		code = fixed_node(t, at++, mfs_fixed_root[k].kind, mfs_fixed_root[k].name, none, 0, err);
	for (size_t k = 0; code == MFS_OK && k < MFS_FIXED_MODELFS; k++) {
		(void)snprintf(label, sizeof(label), ".modelfs/%s", mfs_fixed_modelfs[k].name);
		code = fixed_node(t, at++, MFS_NODE_STATUS, label, none, mfs_fixed_modelfs[k].status, err);
	}
	for (size_t i = 0; code == MFS_OK && i < t->n_models; i++) {
		code = fixed_node(t, at++, MFS_NODE_MODEL, "model", i, 0, err);
		for (size_t k = 0; code == MFS_OK && k < MFS_FIXED_MODEL; k++) {
			(void)snprintf(label, sizeof(label), "model/%s", mfs_fixed_model[k].name);
			code = fixed_node(t, at++, mfs_fixed_model[k].kind, label, i, mfs_fixed_model[k].status, err);
		}
		if (code == MFS_OK)
			code = fixed_node(t, at++, MFS_NODE_ACTIVE_LINK, ".active/link", i, 0, err);
		if (code == MFS_OK)
			code = fixed_node(t, at++, MFS_NODE_RELEASE_DIR, ".release/folder", i, 0, err);
	}
	return code == MFS_OK ? mfs_tree_link_fixed(t, err) : code;
}

/* ---- failed chunks --------------------------------------------------------------------------------- */

/* The local id of a manifest, into out. Takes lock. */
static void
local_id(struct mfs_tree *t, const struct mfs_manifest *m, char *out, size_t cap)
{
	(void)snprintf(out, cap, "%s", m->model_id);
	(void)pthread_rwlock_rdlock(&t->lock);
	for (size_t i = 0; i < t->n_models; i++)
		for (size_t k = 0; t->models[i].view != NULL && k < t->models[i].view->n; k++)
			if (t->models[i].view->shown[k]->mver->v->m == m)
				(void)snprintf(out, cap, "%s", t->config->models[i].id);
	(void)pthread_rwlock_unlock(&t->lock);
}

static void
chunk_failed(void *user, const struct mfs_content *c, uint64_t chunk, const struct mfs_err *err)
{
	struct mfs_tree *t = user;
	const struct mfs_manifest *m = mfs_content_manifest(c);
	int64_t now = mfs_clock_boot_ms(), last = atomic_load(&t->failure_event_ms);
	char model[MFS_ID_MAX + 1], detail[1024], which[48] = "";
	unsigned long long muted;

	(void)atomic_fetch_add(&t->shm->chunk_failures, 1);
	if ((last != 0 && now - last < FAILURE_EVENT_MS) ||
		!atomic_compare_exchange_strong(&t->failure_event_ms, &last, now)) {
		(void)atomic_fetch_add(&t->failures_muted, 1);
		return;
	}
	muted = atomic_exchange(&t->failures_muted, 0);
	local_id(t, m, model, sizeof(model));
	if (chunk != UINT64_MAX) /* else its table or blob could not be had */
		(void)snprintf(which, sizeof(which), "chunk %llu: ", (unsigned long long)chunk);
	(void)snprintf(detail, sizeof(detail), "%s: %s%s%s", MFS_ESC(m->files[mfs_content_file(c)].name), which, err->msg,
		muted > 0 ? " (more failed since the last event)" : "");
	if (t->s->events != NULL)
		mfs_event(t->s->events, &(struct mfs_event){ .model = model, .version = m->version, .code = err->code,
			.source = "read", .detail = detail });
}

/* ---- housekeeping ----------------------------------------------------------------------------------- */

static void
statfs_refresh(struct mfs_tree *t)
{
	struct statvfs now;

	if (t->s->store == NULL || fstatvfs(mfs_store_dirfd(t->s->store), &now) != 0)
		return;
	(void)pthread_mutex_lock(&t->statfs_lock);
	t->statfs = now;
	(void)pthread_mutex_unlock(&t->statfs_lock);
}

/*
 * A predecessor died between a swap and its announcement, perhaps with the command that waited for
 * it: who watches `generation` is told all the same, when nobody loads the old version any more.
 */
static void
announce_pending(struct mfs_tree *t)
{
	bool left = false;

	atomic_store(&t->pending, false); /* before the look: one that comes meanwhile is not lost */
	for (size_t i = 0; i < t->n_models; i++) {
		struct mfs_err err = MFS_ERR_INIT;
		bool unannounced;

		(void)pthread_rwlock_rdlock(&t->lock);
		unannounced = t->models[i].unannounced;
		(void)pthread_rwlock_unlock(&t->lock);
		if (!unannounced)
			continue;
		if (mfs_pins_any(t->pins, i))
			left = true;
		else if (mfs_view_announce(t->s, i, MFS_OK, &err) != MFS_OK)
			mfs_log_err(t->config->models[i].id, &err);
	}
	if (left)
		atomic_store(&t->pending, true);
}

static void *
housekeeping(void *user)
{
	struct mfs_tree *t = user;
	int64_t next = mfs_clock_boot_ms() + HOUSEKEEPING_MS;

	(void)pthread_mutex_lock(&t->stop_lock);
	while (!t->stop) {
		struct timespec until;

		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += PENDING_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000 + (atomic_load(&t->pending) ? 0 : QUIET_S);
		until.tv_nsec %= 1000000000;
		if (pthread_cond_timedwait(&t->stop_cond, &t->stop_lock, &until) == 0 || t->stop)
			continue;
		(void)pthread_mutex_unlock(&t->stop_lock);
		if (atomic_load(&t->pending))
			announce_pending(t);
		mfs_view_candidates_expire(t->s);
		if (mfs_clock_boot_ms() >= next) {
			next = mfs_clock_boot_ms() + HOUSEKEEPING_MS;
			statfs_refresh(t);
			mfs_tree_sweep(t, false);
		}
		(void)pthread_mutex_lock(&t->stop_lock);
	}
	(void)pthread_mutex_unlock(&t->stop_lock);
	return NULL;
}

/* ---- life --------------------------------------------------------------------------------------------- */

static enum mfs_code
locks_init(struct mfs_tree *t, struct mfs_err *err)
{
	pthread_rwlockattr_t attr;
	pthread_condattr_t clock;

	/* A writer must not starve behind lookups; no reader takes the lock twice. */
	if (pthread_rwlockattr_init(&attr) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "locks of the tree");
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&t->lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_mutex_init(&t->refresh_lock, NULL);
	(void)pthread_mutex_init(&t->view_lock, NULL);
	(void)pthread_mutex_init(&t->statfs_lock, NULL);
	(void)pthread_mutex_init(&t->stop_lock, NULL);
	(void)pthread_condattr_init(&clock);
	(void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC); /* a clock that is set back stops no housekeeping */
	(void)pthread_cond_init(&t->stop_cond, &clock);
	(void)pthread_condattr_destroy(&clock);
	return MFS_OK;
}

/*
 * Records that a predecessor died on while it filled them in, and those of models that are no
 * longer configured. Residency gives resident ones back.
 */
static enum mfs_code
records_clean(struct mfs_tree *t, struct mfs_err *err)
{
	mfs_autofree uint32_t *counts = calloc(MFS_EXPOSURES, sizeof(*counts));

	if (counts == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "exposure records");
	mfs_handles_counts(t->handles, counts);
	for (uint32_t x = 0; x < MFS_EXPOSURES; x++) {
		struct mfs_shm_exposure *r = &t->shm->exposures[x];
		uint32_t state = atomic_load(&r->state);

		r->model[sizeof(r->model) - 1] = '\0';
		if (state == MFS_EXPOSURE_CLAIMED || (state == MFS_EXPOSURE_LIVE && r->tier == MFS_TIER_PAGED &&
			counts[x] == 0 && mfs_config_find(t->config, r->model) < 0))
			atomic_store(&r->state, MFS_EXPOSURE_FREE);
	}
	return MFS_OK;
}

static enum mfs_code
tables_init(struct mfs_tree *t, struct mfs_err *err)
{
	enum mfs_code code;

	t->n_fixed = 1 + MFS_FIXED_ROOT + MFS_FIXED_MODELFS + t->n_models * MFS_FIXED_PER_MODEL;
	t->models = calloc(t->n_models > 0 ? t->n_models : 1, sizeof(*t->models));
	t->fixed = calloc(t->n_fixed, sizeof(*t->fixed));
	if (t->models == NULL || t->fixed == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "tree of %zu models", t->n_models);
	for (size_t i = 0; i < t->n_models; i++)
		(void)snprintf(t->models[i].announced, sizeof(t->models[i].announced), "0 - 0 -\n");
	if ((code = mfs_handles_new(t->shm, &t->handles, err)) != MFS_OK ||
		(code = mfs_snaps_new(t->s, t->shm, t->handles, t->n_models, &t->snaps, err)) != MFS_OK ||
		(code = mfs_pins_new(t->config, &t->shm->pins, NULL, &t->pins, err)) != MFS_OK)
		return code;
	if ((code = records_clean(t, err)) != MFS_OK)
		return code;
	return fixed_nodes(t, err);
}

enum mfs_code
mfs_tree_new(struct mfs_serve *s, struct mfs_tree **out, struct mfs_err *err)
{
	struct mfs_tree *t;
	enum mfs_code code;

	*out = NULL;
	if (s->config->n_models > MFS_SHM_MODELS)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%zu models configured; at most %u are served",
			s->config->n_models, MFS_SHM_MODELS);
	if ((t = calloc(1, sizeof(*t))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "tree");
	t->s = s;
	t->shm = s->shm;
	t->config = s->config;
	t->n_models = s->config->n_models;
	if ((code = locks_init(t, err)) != MFS_OK) {
		free(t);
		return code;
	}
	if ((code = tables_init(t, err)) != MFS_OK) {
		mfs_tree_free(t);
		return code;
	}
	statfs_refresh(t);
	*out = t; /* the thread finds it there */
	if (pthread_create(&t->housekeeper, NULL, housekeeping, t) != 0) {
		*out = NULL;
		mfs_tree_free(t);
		return mfs_fail(err, MFS_NO_MEMORY, "thread of the tree");
	}
	t->housekeeping = true;
	if (s->cache != NULL)
		mfs_cache_on_failure(s->cache, chunk_failed, t);
	return MFS_OK;
}

void
mfs_tree_free(struct mfs_tree *t)
{
	if (t == NULL)
		return;
	if (t->housekeeping) {
		(void)pthread_mutex_lock(&t->stop_lock);
		t->stop = true;
		(void)pthread_cond_signal(&t->stop_cond);
		(void)pthread_mutex_unlock(&t->stop_lock);
		(void)pthread_join(t->housekeeper, NULL);
		if (t->s->cache != NULL)
			mfs_cache_on_failure(t->s->cache, NULL, NULL);
	}
	for (size_t i = 0; t->models != NULL && i < t->n_models; i++)
		mfs_tree_model_free(&t->models[i]);
	mfs_pins_free(t->pins);
	mfs_snaps_free(t->snaps);
	mfs_handles_free(t->handles);
	free(t->models);
	free(t->fixed);
	free(t->by_id);
	free(t->by_ino);
	(void)pthread_cond_destroy(&t->stop_cond);
	(void)pthread_mutex_destroy(&t->stop_lock);
	(void)pthread_mutex_destroy(&t->statfs_lock);
	(void)pthread_mutex_destroy(&t->view_lock);
	(void)pthread_mutex_destroy(&t->refresh_lock);
	(void)pthread_rwlock_destroy(&t->lock);
	free(t);
}
