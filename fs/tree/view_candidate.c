/* SPDX-License-Identifier: Apache-2.0 */
/* The version that is being health-checked: shown to the check's user alone, also over a crash of serve. */
#include <stdio.h>

#include "io.h"
#include "log.h"
#include "tree_int.h"

#define UNCLAIMED_MS 60000 /* beyond the time limit of its check */

static void
note(struct mfs_serve *s, size_t i, const struct mfs_sha256 *id)
{
	struct mfs_shm_model *m = &s->shm->models[i];
	uint32_t next = atomic_load(&m->candidate_at) == 1 ? 2 : 1;

	m->candidate[next - 1] = *id;
	atomic_store(&m->candidate_at, next);
}

void
mfs_view_candidate_forget(struct mfs_serve *s, size_t i)
{
	atomic_store(&s->shm->models[i].candidate_at, 0);
}

static bool
noted(const struct mfs_serve *s, size_t i, struct mfs_sha256 *id)
{
	const struct mfs_shm_model *m = &s->shm->models[i];
	uint32_t at = atomic_load(&m->candidate_at);

	if (at != 1 && at != 2)
		return false;
	*id = m->candidate[at - 1];
	return true;
}

/* Nobody else of this uid has a private version open to it: a check sees no other model's candidate. */
static enum mfs_code
user_is_free(struct mfs_serve *s, size_t i, struct mfs_err *err)
{
	const struct mfs_config *c = s->config;
	struct mfs_sha256 other;

	for (size_t k = 0; k < c->n_models; k++)
		if (k != i && c->models[k].health.uid == c->models[i].health.uid && noted(s, k, &other))
			return mfs_fail(err, MFS_CONDITION_UNMET, "model %s: user %u of its health check is busy with the candidate "
				"of %s: later, or give each its own health.user", c->models[i].id, c->models[i].health.uid,
				c->models[k].id);
	return MFS_OK;
}

/* What it is called; it must be what the link leads to, or the check would look at something else. */
static enum mfs_code
name_find(struct mfs_serve *s, size_t i, const struct mfs_sha256 *id, char name[MFS_SHOWN_MAX + 1], struct mfs_err *err)
{
	struct mfs_tree *t = s->tree;
	enum mfs_code code = MFS_OK;
	const struct mfs_exp *e;

	(void)pthread_rwlock_rdlock(&t->lock);
	e = t->models[i].view != NULL ? t->models[i].view->candidate : NULL;
	if (e != NULL && mfs_sha256_equal(&e->mver->v->m->id, id))
		(void)snprintf(name, MFS_SHOWN_MAX + 1, "%s", mfs_look_name(e));
	else
		code = mfs_fail(err, MFS_CONDITION_UNMET, "model %s: another version is shown as the candidate", t->config->models[i].id);
	(void)pthread_rwlock_unlock(&t->lock);
	return code;
}

enum mfs_code
mfs_view_candidate_set(struct mfs_serve *s, size_t i, const struct mfs_sha256 *id, char name[MFS_SHOWN_MAX + 1],
	struct mfs_err *err)
{
	struct mfs_sha256 old;
	enum mfs_code code;

	if (i >= s->tree->n_models)
		return mfs_fail(err, MFS_INTERNAL, "model %zu of %zu", i, s->tree->n_models);
	(void)pthread_mutex_lock(&s->tree->refresh_lock); /* a refresh forgets what the engine does not have */
	atomic_store(&s->tree->models[i].candidate_until, 0); /* somebody goes on with it */
	if ((code = user_is_free(s, i, err)) == MFS_OK &&
		(code = mfs_engine_candidate_set(s->engine, i, id, err)) == MFS_OK &&
		(!noted(s, i, &old) || !mfs_sha256_equal(&old, id)))
		note(s, i, id);
	(void)pthread_mutex_unlock(&s->tree->refresh_lock);
	if (code != MFS_OK)
		return code;
	if ((code = mfs_view_refresh(s, i, err)) == MFS_OK && (code = name_find(s, i, id, name, err)) == MFS_OK)
		return MFS_OK;
	(void)mfs_view_candidate_clear(s, i, NULL);
	return code;
}

enum mfs_code
mfs_view_candidate_clear(struct mfs_serve *s, size_t i, struct mfs_err *err)
{
	enum mfs_code code;

	if (i >= s->tree->n_models)
		return mfs_fail(err, MFS_INTERNAL, "model %zu of %zu", i, s->tree->n_models);
	if ((code = mfs_engine_candidate_clear(s->engine, i, err)) != MFS_OK)
		return code;
	return mfs_view_refresh(s, i, err);
}

void
mfs_view_candidate_restore(struct mfs_serve *s, size_t i)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	if (!noted(s, i, &id))
		return;
	if (mfs_engine_candidate_set(s->engine, i, &id, &err) == MFS_OK) {
		atomic_store(&s->tree->models[i].candidate_until,
			mfs_clock_boot_ms() + s->config->models[i].health.timeout_ms + UNCLAIMED_MS);
		return;
	}
	mfs_log_err(s->config->models[i].id, &err);
	mfs_view_candidate_forget(s, i);
}

void
mfs_view_candidates_expire(struct mfs_serve *s)
{
	for (size_t i = 0; i < s->tree->n_models; i++) {
		_Atomic int64_t *until = &s->tree->models[i].candidate_until;
		struct mfs_err err = MFS_ERR_INIT;
		bool over;

		if (atomic_load(until) == 0)
			continue;
		(void)pthread_mutex_lock(&s->tree->refresh_lock); /* nobody takes it over meanwhile */
		over = atomic_load(until) != 0 && mfs_clock_boot_ms() >= atomic_load(until);
		if (over) {
			atomic_store(until, 0);
			(void)mfs_engine_candidate_clear(s->engine, i, &err);
		}
		(void)pthread_mutex_unlock(&s->tree->refresh_lock);
		if (over && err.code == MFS_OK)
			(void)mfs_view_refresh(s, i, &err);
		if (err.code != MFS_OK)
			mfs_log_err(s->config->models[i].id, &err);
	}
}
