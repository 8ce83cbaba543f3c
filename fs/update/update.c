/* SPDX-License-Identifier: Apache-2.0 */
/* The two threads of updates. What commands ask: update_ask.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "mfs_config.h"
#include "remote.h"
#include "update_io.h"

#define TURN_MS   30000 /* at most: a clock that was suspended is noticed */
#define FIRST_S   60    /* the first check of a repository that was never asked comes within so many seconds */
#define TICK_S    60

static int64_t
boot(const struct mfs_update *u)
{
	return u->args.boot_ms(u->args.user);
}

static int64_t
now_s(const struct mfs_update *u)
{
	return u->args.run.parts->now(u->args.run.parts->user);
}

static uint32_t
chance(const struct mfs_update *u)
{
	return u->args.run.parts->random(u->args.run.parts->user);
}

bool
mfs_update_follows(const struct mfs_update *u, size_t i, size_t repo)
{
	return u->args.run.config->models[i].repo == (ssize_t)repo;
}

void
mfs_via_unref(struct mfs_via *v)
{
	if (v == NULL || --v->refs > 0)
		return;
	mfs_remote_free(v->remote);
	free(v);
}

/* ---- the refresher ------------------------------------------------------------------------------------------ */

/* Hold lock. What the next check is to use and to answer; false: none is due. */
static bool
repo_take(struct mfs_update *u, size_t *repo, struct mfs_via **via, int64_t *wait_ms)
{
	int64_t now = boot(u);

	for (size_t r = 0; r < u->n_repos; r++) {
		struct mfs_update_repo *p = &u->repos[r];

		if (!p->asked && p->due_ms > now) {
			if (p->due_ms - now < *wait_ms)
				*wait_ms = p->due_ms - now;
			continue;
		}
		p->asked = false;
		p->checking = true;
		*repo = r;
		*via = p->via;
		p->via = NULL;
		memcpy(p->answers, p->waits, sizeof(p->answers));
		memset(p->waits, 0, sizeof(p->waits));
		return true;
	}
	return false;
}

/* When it is asked next, written down: pauses survive a restart. A check by another way (a stick) changes nothing. */
static void
repo_scheduled(struct mfs_update *u, size_t repo, bool by_via, const struct mfs_err *err, int64_t retry_after_s)
{
	const struct mfs_config_update *c = &u->args.run.config->update;
	int64_t now = now_s(u), pause;
	struct mfs_engine_repo r;
	struct mfs_err save = MFS_ERR_INIT;

	mfs_engine_repo_get(u->args.run.engine, repo, &r);
	if (by_via) {
		pause = mfs_time_clamp(r.next_check, now, c->max_interval_ms / 1000) - now;
	} else {
		r.last_check = now;
		r.failures = err->code == MFS_OK ? 0 : r.failures + 1;
		if (err->code == MFS_OK)
			r.last_success = now;
		pause = err->code == MFS_OK ? mfs_next_check(c->interval_ms / 1000, chance(u))
					    : mfs_backoff(r.failures, c->max_interval_ms / 1000, retry_after_s, chance(u));
		r.next_check = now + pause;
		r.why = err->code;
		(void)snprintf(r.detail, sizeof(r.detail), "%.255s", err->msg);
	}
	/* With what was found for each model. */
	if (mfs_engine_repo_set(u->args.run.engine, repo, &r, &save) != MFS_OK)
		mfs_log_err("updates", &save);
	(void)pthread_mutex_lock(&u->lock);
	u->repos[repo].due_ms = boot(u) + (pause > 0 ? pause : 1) * 1000;
	(void)pthread_mutex_unlock(&u->lock);
}

/* Hold lock. */
static void
via_lend(struct mfs_update_model *m, struct mfs_via *via, const struct mfs_sha256 *manifest)
{
	via->refs++;
	mfs_via_unref(m->via);
	m->via = via;
	m->via_for = *manifest;
}

/* Ask what model i should run, and tell the worker. */
static void
model_offer(struct mfs_update *u, size_t i, struct mfs_via *via)
{
	struct mfs_update_model *m = &u->models[i];
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_news news;
	bool by_hand;
	struct mfs_engine_update up;
	enum mfs_code code;

	(void)pthread_mutex_lock(&u->lock);
	by_hand = m->by_hand;
	(void)pthread_mutex_unlock(&u->lock);
	code = mfs_cycle_offer(&u->args.run, i, via != NULL ? via->remote : NULL, by_hand, &u->cancel_refresh, &news, &err);
	/* A pin or a hold is known without it, and ends without a check. */
	mfs_engine_offer(u->args.run.engine, i, news.current || code == MFS_PINNED || code == MFS_HELD ? MFS_OK : code, err.msg);
	mfs_engine_update_get(u->args.run.engine, i, &up);
	(void)pthread_mutex_lock(&u->lock);
	m->offered = true;
	m->offer = code;
	m->current = news.current;
	(void)snprintf(m->offer_version, sizeof(m->offer_version), "%s", code == MFS_OK ? up.v.version : "");
	(void)snprintf(m->offer_detail, sizeof(m->offer_detail), "%.255s", err.msg);
	if (news.superseded)
		atomic_store(&m->cancel, 1);
	if (code == MFS_OK && via != NULL)
		via_lend(m, via, &up.v.manifest);
	if (news.superseded || (code == MFS_OK && (by_hand || !m->active)))
		m->due_ms = 0;
	m->active = m->active || code == MFS_OK;
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
}

/* What was refused for good is not fetched again to be refused again, unless something is new. */
static bool
worth_asking(struct mfs_update *u, size_t i, bool news)
{
	struct mfs_engine_update up;
	bool fresh;

	(void)pthread_mutex_lock(&u->lock);
	fresh = !u->models[i].offered || u->models[i].by_hand;
	(void)pthread_mutex_unlock(&u->lock);
	if (news || fresh)
		return true;
	mfs_engine_update_get(u->args.run.engine, i, &up);
	return up.step != MFS_STEP_IDLE || mfs_sha256_is_zero(&up.refusal.v.manifest) ||
		mfs_code_class(up.refusal.why) != MFS_CLASS_TRUST;
}

static void
repo_ask(struct mfs_update *u, size_t repo, struct mfs_via *via)
{
	struct mfs_err err = MFS_ERR_INIT;
	int64_t retry_after = 0;
	bool news = false;
	enum mfs_code code = u->args.refresh(u->args.user, repo, via != NULL ? via->remote : NULL, &u->cancel_refresh,
		&retry_after, &news, &err);

	/* A policy of one model that failed does not keep the others from theirs; without metadata nothing is known. */
	for (size_t i = 0; i < u->n_models && !atomic_load(&u->stop); i++)
		if (mfs_update_follows(u, i, repo) && mfs_code_class(code) != MFS_CLASS_NETWORK && worth_asking(u, i, news))
			model_offer(u, i, via);
	/* Last: a check that is cut off before every model was asked is made again at the next start, not after an interval. */
	if (atomic_load(&u->stop))
		return;
	repo_scheduled(u, repo, via != NULL, &err, retry_after);
	mfs_update_answered(u, repo, code, err.msg);
}

static void
repo_check(struct mfs_update *u, size_t repo, struct mfs_via *via)
{
	if (u->args.pass != NULL)
		u->args.pass(u->args.user, repo, true);
	repo_ask(u, repo, via);
	if (u->args.pass != NULL)
		u->args.pass(u->args.user, repo, false);
	(void)pthread_mutex_lock(&u->lock);
	u->repos[repo].checking = false;
	mfs_via_unref(via);
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
}

/* Hold lock. The model to look at, or n_models. */
static size_t
observe_take(struct mfs_update *u, int64_t *elapsed, uint64_t *looks, int64_t *wait_ms)
{
	int64_t now = boot(u);

	for (size_t i = 0; i < u->n_models; i++) {
		struct mfs_update_model *m = &u->models[i];

		if (!m->observing)
			continue;
		if (m->observe_ms > now) {
			if (m->observe_ms - now < *wait_ms)
				*wait_ms = m->observe_ms - now;
			continue;
		}
		*elapsed = m->observed_ms == 0 ? 0 : (now - m->observed_ms) / 1000;
		m->observed_ms = now;
		*looks = m->looks;
		return i;
	}
	return u->n_models;
}

static void
observe(struct mfs_update *u, size_t i, int64_t elapsed, uint64_t looks)
{
	int64_t pause = mfs_cycle_observe(&u->args.run, i, elapsed, &u->cancel_refresh);
	struct mfs_update_model *m = &u->models[i];

	(void)pthread_mutex_lock(&u->lock);
	if (m->looks == looks) {
		m->observing = pause >= 0;
		m->observe_ms = m->observed_ms + (pause > 0 ? pause : 1) * 1000;
		if (!m->observing)
			m->observed_ms = 0;
	}
	(void)pthread_mutex_unlock(&u->lock);
}

/* What time alone changes; when it is due again. */
static void
tick(struct mfs_update *u)
{
	const int64_t now = boot(u);

	if (u->n_repos > 0 && now >= u->tick_ms) {
		int64_t next = u->args.tick(u->args.user);

		u->tick_ms = now + (next < 1 ? 1 : next > TICK_S ? TICK_S : next) * 1000;
	}
}

int64_t
mfs_update_turn_refresher(struct mfs_update *u)
{
	int64_t wait_ms = TURN_MS, elapsed = 0;
	size_t repo = 0, model = u->n_models;
	struct mfs_via *via = NULL;
	uint64_t looks = 0;
	bool check = false;

	tick(u);
	(void)pthread_mutex_lock(&u->lock);
	/*
	 * A probation first: its verdict is about what is served now. But not twice in a row before a check that is due:
	 * looks that take longer than the time between them would keep a revocation away for as long as the probation lasts.
	 */
	if (!u->looked)
		model = observe_take(u, &elapsed, &looks, &wait_ms);
	if (model == u->n_models)
		check = repo_take(u, &repo, &via, &wait_ms);
	if (u->looked && !check)
		model = observe_take(u, &elapsed, &looks, &wait_ms);
	u->looked = model < u->n_models;
	(void)pthread_mutex_unlock(&u->lock);
	if (model < u->n_models)
		return observe(u, model, elapsed, looks), 0;
	if (check)
		return repo_check(u, repo, via), 0;
	if (u->n_repos > 0 && u->tick_ms - boot(u) < wait_ms)
		wait_ms = u->tick_ms - boot(u);
	return wait_ms > 0 ? wait_ms : 1;
}

/* ---- the worker ------------------------------------------------------------------------------------------------- */

/* Hold lock. The next model with a step to run, or n_models: those of a command first, then in turn. */
static size_t
work_take(struct mfs_update *u, int64_t *wait_ms)
{
	int64_t now = boot(u);
	size_t found = u->n_models;

	for (size_t k = 0; k < u->n_models; k++) {
		size_t i = (u->next + k) % u->n_models;
		struct mfs_update_model *m = &u->models[i];

		if (!m->active)
			continue;
		if (m->due_ms > now) {
			if (m->due_ms - now < *wait_ms)
				*wait_ms = m->due_ms - now;
		} else if (found == u->n_models || (m->by_hand && !u->models[found].by_hand)) {
			found = i;
		}
	}
	return found;
}

/* Hold lock. Its attempt is over: what the command lent goes back, and what was activated is watched. */
static void
work_over(struct mfs_update *u, size_t i)
{
	struct mfs_update_model *m = &u->models[i];

	m->active = false;
	mfs_via_unref(m->via);
	m->via = NULL;
	m->observing = true;
	m->observe_ms = m->observed_ms = 0;
	m->looks++;
	atomic_store(&m->total, 0);
	atomic_store(&m->done, 0);
	atomic_store(&m->rate, 0);
}

/* Hold lock. Was another attempt begun since the step wrote the end of its own? Nobody else looks at it. */
static bool
begun_anew(struct mfs_update *u, size_t i)
{
	struct mfs_engine_update up;

	mfs_engine_update_get(u->args.run.engine, i, &up);
	return up.step != MFS_STEP_IDLE;
}

/* Hold lock. By which way the attempt is to come; a reference, or NULL. */
static struct mfs_via *
via_take(struct mfs_update *u, size_t i)
{
	const struct mfs_update_model *m = &u->models[i];
	struct mfs_engine_update up;

	if (m->via == NULL)
		return NULL;
	mfs_engine_update_get(u->args.run.engine, i, &up);
	if (!mfs_sha256_equal(&m->via_for, &up.v.manifest)) /* superseded by what the repository itself offers */
		return NULL;
	m->via->refs++;
	return m->via;
}

int64_t
mfs_update_turn_worker(struct mfs_update *u)
{
	struct mfs_update_model *m;
	struct mfs_via *via;
	int64_t wait_ms = TURN_MS, pause;
	size_t i;

	(void)pthread_mutex_lock(&u->lock);
	if ((i = work_take(u, &wait_ms)) == u->n_models) {
		(void)pthread_mutex_unlock(&u->lock);
		return wait_ms;
	}
	m = &u->models[i];
	u->working = i;
	atomic_store(&m->cancel, atomic_load(&u->stop) ? 1 : 0);
	via = via_take(u, i);
	(void)pthread_mutex_unlock(&u->lock);

	pause = mfs_cycle_step(&u->args.run, i, via != NULL ? via->remote : NULL, &m->cancel);

	(void)pthread_mutex_lock(&u->lock);
	u->working = u->n_models;
	mfs_via_unref(via);
	if (pause == MFS_CYCLE_IDLE && atomic_load(&m->cancel) == 0 && !begun_anew(u, i)) {
		work_over(u, i);
	} else {
		/* Superseded: whatever it says, its successor is looked at. */
		m->due_ms = atomic_load(&m->cancel) != 0 || pause <= 0 ? 0 : boot(u) + pause * 1000;
		if (m->due_ms != 0)
			u->next = (i + 1) % u->n_models;
	}
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
	return 0;
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

/* Hold lock. Did something fall due since the turn looked? */
static bool
pending(struct mfs_update *u, bool worker)
{
	int64_t now = boot(u);

	for (size_t i = 0; i < u->n_models; i++)
		if (worker ? u->models[i].active && u->models[i].due_ms <= now
			   : u->models[i].observing && u->models[i].observe_ms <= now)
			return true;
	for (size_t r = 0; !worker && r < u->n_repos; r++)
		if (u->repos[r].asked || u->repos[r].due_ms <= now)
			return true;
	return false;
}

bool
mfs_update_due(struct mfs_update *u, size_t i)
{
	int64_t now = boot(u);
	bool due = false;

	(void)pthread_mutex_lock(&u->lock);
	for (size_t k = 0; k < u->n_models && !due; k++)
		due = k != i && ((u->models[k].active && u->models[k].due_ms <= now) ||
			(u->models[k].observing && u->models[k].observe_ms <= now));
	(void)pthread_mutex_unlock(&u->lock);
	return due;
}

static void
thread_loop(struct mfs_update *u, int64_t (*turn)(struct mfs_update *u))
{
	while (!atomic_load(&u->stop)) {
		int64_t wait_ms = turn(u);
		struct timespec until;

		if (wait_ms <= 0)
			continue;
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += (time_t)(wait_ms / 1000);
		until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		(void)pthread_mutex_lock(&u->lock);
		if (!atomic_load(&u->stop) && !pending(u, turn == mfs_update_turn_worker))
			(void)pthread_cond_timedwait(&u->changed, &u->lock, &until);
		(void)pthread_mutex_unlock(&u->lock);
	}
}

static void *
refresher_main(void *arg)
{
	thread_loop(arg, mfs_update_turn_refresher);
	return NULL;
}

static void *
worker_main(void *arg)
{
	thread_loop(arg, mfs_update_turn_worker);
	return NULL;
}

/* When each repository is asked first: as written down, else soon, not all hosts of a fleet at once. */
static void
repos_schedule(struct mfs_update *u)
{
	const struct mfs_config_update *c = &u->args.run.config->update;
	/* What could not be written: what forbids acts again, but the rest of what the process before knew went with it. */
	const bool full = !mfs_engine_written(u->args.run.engine) || mfs_engine_took_over(u->args.run.engine);
	int64_t now = now_s(u);

	for (size_t r = 0; r < u->n_repos; r++) {
		struct mfs_engine_repo repo;
		int64_t pause, most = c->interval_ms / 1000;
		bool empty = false;

		mfs_engine_repo_get(u->args.run.engine, r, &repo);
		for (size_t i = 0; i < u->n_models; i++) {
			struct mfs_engine_model m;

			if (!mfs_update_follows(u, i, r) || mfs_engine_model_get(u->args.run.engine, i, &m, NULL) != MFS_OK)
				continue;
			empty = empty || m.n == 0 || !m.versions[0].active;
			mfs_engine_model_free(&m);
		}
		if (repo.next_check > now + c->max_interval_ms / 1000) {
			struct mfs_err err = MFS_ERR_INIT;

			/* By a clock that was ahead; said as it counts. */
			repo.next_check = mfs_time_clamp(repo.next_check, now, c->max_interval_ms / 1000);
			if (mfs_engine_repo_set(u->args.run.engine, r, &repo, &err) != MFS_OK)
				mfs_log_err("updates", &err);
		}
		if (full)
			pause = 0;
		else if (repo.next_check != 0)
			pause = repo.next_check - now;
		else if (empty)
			pause = 0; /* nothing to serve yet */
		else
			pause = (int64_t)(chance(u) % (uint64_t)(most < FIRST_S ? (most > 0 ? most : 1) : FIRST_S));
		u->repos[r].due_ms = boot(u) + (pause > 0 ? pause * 1000 : 0);
	}
}

enum mfs_code
mfs_update_new(const struct mfs_update_args *args, struct mfs_update **out, struct mfs_err *err)
{
	struct mfs_update *u = calloc(1, sizeof(*u));
	pthread_condattr_t attr;

	*out = NULL;
	if (u == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "updates");
	u->args = *args;
	u->n_models = u->working = args->run.config->n_models;
	u->n_repos = args->run.config->n_repos;
	(void)pthread_mutex_init(&u->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&u->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	u->models = calloc(u->n_models + 1, sizeof(*u->models));
	u->repos = calloc(u->n_repos + 1, sizeof(*u->repos));
	if (u->models == NULL || u->repos == NULL) {
		mfs_update_free(u);
		return mfs_fail(err, MFS_NO_MEMORY, "updates of %zu models", args->run.config->n_models);
	}
	/* Both look at every model once: what a predecessor left goes on. */
	for (size_t i = 0; i < u->n_models; i++)
		u->models[i].active = u->models[i].observing = true;
	repos_schedule(u);
	*out = u;
	return MFS_OK;
}

enum mfs_code
mfs_update_start(struct mfs_update *u, struct mfs_err *err)
{
	u->started[0] = pthread_create(&u->refresher, NULL, refresher_main, u) == 0;
	u->started[1] = pthread_create(&u->worker, NULL, worker_main, u) == 0;
	if (u->started[0] && u->started[1])
		return MFS_OK;
	mfs_update_stop(u);
	return mfs_fail(err, MFS_NO_MEMORY, "updates: cannot start a thread");
}

void
mfs_update_stop(struct mfs_update *u)
{
	if (u == NULL)
		return;
	(void)pthread_mutex_lock(&u->lock);
	atomic_store(&u->stop, true);
	atomic_store(&u->cancel_refresh, 1);
	for (size_t i = 0; i < u->n_models; i++)
		atomic_store(&u->models[i].cancel, 1);
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
	if (u->started[0])
		(void)pthread_join(u->refresher, NULL);
	if (u->started[1])
		(void)pthread_join(u->worker, NULL);
	u->started[0] = u->started[1] = false;
}

void
mfs_update_free(struct mfs_update *u)
{
	if (u == NULL)
		return;
	mfs_update_stop(u);
	for (size_t i = 0; u->models != NULL && i < u->n_models; i++)
		mfs_via_unref(u->models[i].via);
	for (size_t r = 0; u->repos != NULL && r < u->n_repos; r++)
		mfs_via_unref(u->repos[r].via);
	for (size_t k = 0; k < MFS_UPDATE_ASKS; k++)
		mfs_via_unref(u->asks[k].via);
	free(u->models);
	free(u->repos);
	(void)pthread_cond_destroy(&u->changed);
	(void)pthread_mutex_destroy(&u->lock);
	free(u);
}

void
mfs_update_kick(struct mfs_update *u, size_t i, bool check)
{
	if (u == NULL || i >= u->n_models)
		return;
	(void)pthread_mutex_lock(&u->lock);
	u->models[i].active = u->models[i].observing = true;
	u->models[i].due_ms = u->models[i].observe_ms = u->models[i].observed_ms = 0;
	u->models[i].looks++;
	if (check && u->args.run.config->models[i].repo >= 0)
		u->repos[u->args.run.config->models[i].repo].asked = true;
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
}
