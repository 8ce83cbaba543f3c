/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the update cycle in a running serve. */
#include "updates.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "download.h"
#include "health.h"
#include "io.h"
#include "log.h"
#include "serve.h"
#include "wrap.h"

#define COLLECT_MS 60000 /* a collection waits so long at most for the models that are about to call for one too */
#define FACTS_MS   20000 /* power and network are not asked for more often, however many models wait */

struct mfs_updates {
	struct mfs_serve *s;
	struct mfs_refresh *refresh;
	struct mfs_download **downloads; /* config->n_repos */
	struct mfs_cycle_parts parts;
	struct mfs_update_args args;
	struct mfs_update *threads;
	pthread_mutex_t facts_lock;
	struct mfs_cycle_facts facts;
	int64_t facts_ms; /* 0: never asked */
	_Atomic int64_t collect_ms; /* CLOCK_BOOTTIME at which a collection was put off; 0: none is */
};

/* ---- telemetry --------------------------------------------------------------------------------------------- */

static void
note(struct mfs_serve *s, enum mfs_transition what, const char *version, enum mfs_code code)
{
	struct mfs_refresh *refresh = mfs_updates_refresh(s->updates);

	if (code != MFS_CONDITION_UNMET) /* nothing happened yet */
		mfs_telemetry_note(s->telemetry, what, version, code,
			refresh != NULL ? mfs_refresh_now(refresh) : mfs_clock_wall());
}

/* What model i shows now, and why. */
static void
note_changed(struct mfs_serve *s, size_t i, bool at_once, enum mfs_code outcome)
{
	const char *version = NULL;
	struct mfs_engine_model m;

	if (s->telemetry == NULL || mfs_engine_model_get(s->engine, i, &m, NULL) != MFS_OK)
		return;
	for (size_t k = 0; k < m.n; k++)
		if (m.versions[k].active)
			version = m.versions[k].v->m->version;
	/* Only what goes back does not wait for loaders. */
	note(s, version == NULL ? MFS_TRANSITION_WITHDRAWN : at_once ? MFS_TRANSITION_ROLLED_BACK : MFS_TRANSITION_ACTIVATED,
		version, outcome);
	mfs_engine_model_free(&m);
}

/* ---- what is shown ---------------------------------------------------------------------------------------- */

void
mfs_updates_rejected(struct mfs_serve *s, size_t i, const char *version, int64_t release, enum mfs_code why)
{
	struct mfs_job_request q = { .model = i, .kind = MFS_JOB_ON_REJECT, .reason = MFS_REASON_REFUSED, .outcome = why,
		.version = version, .release = release };
	struct mfs_engine_model m;

	note(s, MFS_TRANSITION_REJECTED, version, why);
	if (s->jobs == NULL || mfs_engine_model_get(s->engine, i, &m, NULL) != MFS_OK)
		return;
	for (size_t k = 0; k < m.n; k++) /* what stays */
		if (m.versions[k].active)
			q.previous = m.versions[k].v->m->version;
	mfs_job_hook(s->jobs, &q);
	mfs_engine_model_free(&m);
}

enum mfs_code
mfs_updates_changed(struct mfs_serve *s, size_t i, bool at_once, enum mfs_code outcome, struct mfs_err *err)
{
	if (mfs_view_refresh(s, i, err) != MFS_OK)
		return err->code;
	if (at_once)
		mfs_tree_unpin(s->tree, i);
	else
		mfs_tree_wait_loads(s->tree, i);
	if (mfs_view_announce(s, i, outcome, err) != MFS_OK)
		return err->code;
	note_changed(s, i, at_once, outcome);
	if (s->residency != NULL)
		mfs_residency_kick(s->residency, i);
	if (mfs_updates_threads(s->updates) != NULL) /* expired metadata with `stale: stop` acts before they are there */
		mfs_update_swapped(mfs_updates_threads(s->updates), i);
	return MFS_OK;
}

static void
part_changed(void *user, size_t i, enum mfs_job_reason reason, enum mfs_code outcome)
{
	struct mfs_updates *u = user;
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_updates_changed(u->s, i, reason != MFS_REASON_SWAP, outcome, &err) != MFS_OK)
		mfs_log_err(u->s->config->models[i].id, &err);
}

/* A refresh changed what is shown: a revocation, a minimum, a key, or their end. */
static void
on_refreshed(void *user, size_t i)
{
	struct mfs_updates *u = user;
	enum mfs_code absent = MFS_REVOKED;
	struct mfs_engine_model m;
	bool shown = false;

	if (mfs_engine_model_get(u->s->engine, i, &m, NULL) == MFS_OK) {
		shown = m.n > 0 && m.versions[0].active;
		absent = m.absent != MFS_OK ? m.absent : absent;
		mfs_engine_model_free(&m);
	}
	if (shown && !mfs_view_announced(u->s, i)) /* lifted: it is shown again, and nothing went back */
		part_changed(u, i, MFS_REASON_SWAP, MFS_OK);
	else
		part_changed(u, i, shown ? MFS_REASON_ROLLBACK : MFS_REASON_WITHDRAW, shown ? MFS_ROLLBACK_TRIGGERED : absent);
}

static void
part_rejected(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why)
{
	struct mfs_updates *u = user;

	mfs_updates_rejected(u->s, i, v->version, v->release, why);
}

static void
collect(struct mfs_updates *u)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;

	atomic_store(&u->collect_ms, 0);
	if (mfs_engine_gc(u->s->engine, mfs_view_busy, u->s, &freed, &removed, &err) != MFS_OK &&
		err.code != MFS_CONDITION_UNMET) /* an installation is under way: the next one collects */
		mfs_log_err("gc", &err);
	if (u->s->control != NULL)
		mfs_control_recount(u->s->control);
}

/* Was a collection put off that now has nothing to wait for? */
static bool
collect_due(struct mfs_updates *u, size_t i)
{
	int64_t since = atomic_load(&u->collect_ms);

	/* Without a repository nobody comes back to it. */
	return since != 0 && (u->s->config->n_repos == 0 || mfs_clock_boot_ms() - since >= COLLECT_MS ||
		!mfs_update_due(u->threads, i));
}

/*
 * A collection reads every manifest: a thousand models that change together share one. What is not collected
 * when this process ends, the next change collects; a download that needs the room does so at once.
 */
static void
part_collect(void *user, size_t i)
{
	struct mfs_updates *u = user;
	struct mfs_err err = MFS_ERR_INIT;
	int64_t none = 0;

	(void)atomic_compare_exchange_strong(&u->collect_ms, &none, mfs_clock_boot_ms());
	if (collect_due(u, i))
		collect(u);
	if (mfs_view_refresh(u->s, i, &err) != MFS_OK)
		mfs_log_err(u->s->config->models[i].id, &err);
}

/* ---- clock and conditions ------------------------------------------------------------------------------------ */

static int64_t
part_now(void *user)
{
	struct mfs_updates *u = user;

	return mfs_refresh_now(u->refresh);
}

static uint32_t
part_random(void *user)
{
	uint32_t x = 0;

	(void)user;
	if (RAND_bytes((unsigned char *)&x, (int)sizeof(x)) != 1)
		x = (uint32_t)mfs_clock_boot_ms();
	return x;
}

static int64_t
boot_ms(void *user)
{
	(void)user;
	return mfs_clock_boot_ms();
}

/* What fetch knows of the host; what cannot be asked for is not known. */
static void
facts_ask(struct mfs_updates *u, const _Atomic int *cancel, struct mfs_cycle_facts *f)
{
	struct mfs_err err = MFS_ERR_INIT;

	*f = (struct mfs_cycle_facts){ 0 };
	if (mfs_conditions_ask(u->s->config) && !(f->known = mfs_remote_conditions(u->s->remote, cancel, &f->wire, &err) == MFS_OK) &&
		(cancel == NULL || atomic_load(cancel) == 0))
		mfs_log_err("conditions", &err);
}

/* Asked each time: who made the file counts on it at once. */
static bool
held(struct mfs_updates *u)
{
	int64_t is = 0;

	return u->s->config->update.conditions.hold_file != NULL &&
		(mfs_klink_call(u->s->klink, MFS_K_HOLD, 0, 0, NULL, &is, NULL) != MFS_OK || is != 0);
}

static void
part_facts(void *user, const _Atomic int *cancel, struct mfs_cycle_facts *out)
{
	struct mfs_updates *u = user;
	int64_t now = mfs_clock_boot_ms();
	time_t wall = time(NULL);
	struct tm tm = { 0 };

	(void)pthread_mutex_lock(&u->facts_lock);
	if (u->facts_ms == 0 || now - u->facts_ms > FACTS_MS) {
		facts_ask(u, cancel, &u->facts);
		/* Who was cancelled knows nothing that counts for the next one. */
		u->facts_ms = cancel != NULL && atomic_load(cancel) != 0 ? 0 : mfs_clock_boot_ms();
	}
	*out = u->facts;
	(void)pthread_mutex_unlock(&u->facts_lock);
	out->hold = held(u);
	if (localtime_r(&wall, &tm) != NULL)
		out->minute = (unsigned)(tm.tm_hour * 60 + tm.tm_min);
	out->budget_left = mfs_engine_budget_left(u->s->engine, mfs_refresh_now(u->refresh) / 86400);
}

static uint64_t
part_free(void *user)
{
	struct mfs_updates *u = user;
	struct statvfs st;

	return fstatvfs(mfs_store_dirfd(u->s->store), &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

/* ---- refresh and target ------------------------------------------------------------------------------------------ */

static enum mfs_code
refresh(void *user, size_t repo, struct mfs_remote *via, const _Atomic int *cancel, int64_t *retry_after_s, bool *news,
	struct mfs_err *err)
{
	struct mfs_updates *u = user;
	struct mfs_refresh_via way = { .remote = via };
	struct mfs_refresh_result res = { 0 };
	enum mfs_code code = mfs_refresh_run(u->refresh, repo, &way, cancel, &res, err);

	*retry_after_s = res.retry_after_s;
	*news = res.news;
	/* A revocation may lead to a version that is kept here, and of which the store has lost something. */
	for (size_t i = 0; res.news && i < u->s->config->n_models; i++)
		if (u->s->config->models[i].repo == (ssize_t)repo)
			mfs_scrub_missing(u->s->scrub, i);
	return code;
}

static void
pass(void *user, size_t repo, bool begin)
{
	struct mfs_updates *u = user;

	mfs_refresh_pass(u->refresh, repo, begin);
}

static int64_t
tick(void *user)
{
	struct mfs_updates *u = user;

	if (collect_due(u, SIZE_MAX))
		collect(u);
	return mfs_refresh_tick(u->refresh);
}

static enum mfs_code
part_target(void *user, size_t i, struct mfs_remote *via, const _Atomic int *cancel, struct mfs_cycle_offer *out,
	struct mfs_err *err)
{
	struct mfs_updates *u = user;

	return mfs_cycle_target(u->refresh, i, via, cancel, out, err);
}

static enum mfs_code
part_fresh(void *user, size_t i, struct mfs_err *err)
{
	struct mfs_updates *u = user;

	return mfs_refresh_fresh(u->refresh, i, err);
}

/* ---- downloads --------------------------------------------------------------------------------------------------- */

static uint64_t
budget_take(void *user, uint64_t want)
{
	struct mfs_updates *u = user;

	return mfs_engine_budget_take(u->s->engine, mfs_refresh_now(u->refresh) / 86400, want);
}

static void
budget_give(void *user, uint64_t unused)
{
	struct mfs_updates *u = user;

	mfs_engine_budget_give(u->s->engine, unused);
}

static void
make_room(void *user, uint64_t need)
{
	struct mfs_updates *u = user;
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;

	(void)need;
	if (mfs_engine_gc(u->s->engine, mfs_view_busy, u->s, &freed, &removed, &err) != MFS_OK)
		mfs_log_err("gc", &err);
}

struct showing {
	struct mfs_updates *u;
	size_t i;
};

static void
on_progress(void *user, const struct mfs_download_progress *p)
{
	struct showing *w = user;

	mfs_update_progress(w->u->threads, w->i, p->done, p->total, p->rate);
}

static enum mfs_code
download_make(struct mfs_updates *u, size_t repo, struct mfs_err *err)
{
	struct mfs_download_args args = { .store = u->s->store, .remote = u->s->remote, .repo = repo,
		.repository = &u->s->config->repos[repo], .min_free = u->s->config->min_free, .budget_take = budget_take,
		.retry_most_s = u->s->config->update.max_interval_ms / 1000, .budget_give = budget_give, .make_room = make_room, .user = u };

	return mfs_download_new(&args, &u->downloads[repo], err);
}

static enum mfs_code
version_fetch(struct mfs_updates *u, struct mfs_download *d, size_t i, struct mfs_version *v,
	const _Atomic int *cancel, int64_t *retry_after_s, struct mfs_err *err)
{
	struct showing w = { .u = u, .i = i };
	struct mfs_download_version q = { .id = u->s->config->models[i].id, .m = v->m, .signed_bytes = &v->signed_bytes,
		.progress = on_progress, .user = &w, .cancel = cancel };
	mfs_autofree const struct mfs_manifest **have = NULL;
	struct mfs_download_result res = { 0 };
	struct mfs_engine_model m;
	enum mfs_code code;

	if ((code = mfs_engine_model_get(u->s->engine, i, &m, err)) != MFS_OK)
		return code;
	if ((have = calloc(m.n + 1, sizeof(*have))) != NULL)
		for (; q.n_have < m.n; q.n_have++)
			have[q.n_have] = m.versions[q.n_have].v->m;
	q.have = have;
	code = mfs_download_version(d, &q, &res, err);
	*retry_after_s = res.retry_after_s;
	mfs_engine_model_free(&m);
	return code;
}

static enum mfs_code
part_download(void *user, size_t i, struct mfs_version *v, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	struct mfs_updates *u = user;
	ssize_t repo = u->s->config->models[i].repo;
	/* A stick costs nothing of the day's bytes. */
	struct mfs_download_args args = { .store = u->s->store, .remote = via, .min_free = u->s->config->min_free,
		.retry_most_s = u->s->config->update.max_interval_ms / 1000, .make_room = make_room, .user = u };
	struct mfs_download *once = NULL;
	enum mfs_code code;

	if (repo < 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "no repository is configured for model %s any more",
			u->s->config->models[i].id);
	if (via == NULL)
		code = version_fetch(u, u->downloads[repo], i, v, cancel, retry_after_s, err);
	else if ((code = mfs_download_new(&args, &once, err)) == MFS_OK)
		code = version_fetch(u, once, i, v, cancel, retry_after_s, err);
	mfs_download_free(once);
	note(u->s, MFS_TRANSITION_DOWNLOADED, v->m->version, code);
	return code;
}

enum mfs_code
mfs_updates_wrap(struct mfs_updates *u, size_t i, const struct mfs_manifest *m, struct mfs_remote *via,
	const _Atomic int *cancel, int64_t *retry_after_s, struct mfs_err *err)
{
	const struct mfs_wrap_ask ask = { .config = u->s->config, .keys = u->s->keys, .store = u->s->store,
		.remote = via != NULL ? via : u->s->remote, .via = via != NULL, .model = i, .m = m, .cancel = cancel };

	return mfs_wrap_fetch(&ask, retry_after_s, err);
}

static enum mfs_code
part_wrap(void *user, size_t i, const struct mfs_manifest *m, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	return mfs_updates_wrap(user, i, m, via, cancel, retry_after_s, err);
}

static void
part_drop(void *user, size_t i)
{
	struct mfs_updates *u = user;

	mfs_download_drop(u->s->store, u->s->config->models[i].id);
}

static enum mfs_code
part_health(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel, struct mfs_err *err)
{
	struct mfs_updates *u = user;
	enum mfs_code code = mfs_health_check(u->s, i, v, probation ? MFS_REASON_PROBATION : MFS_REASON_CANDIDATE, cancel, err);

	note(u->s, MFS_TRANSITION_CHECKED, v->m->version, code);
	return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

struct mfs_update *
mfs_updates_threads(struct mfs_updates *u)
{
	return u != NULL ? u->threads : NULL;
}

struct mfs_download *
mfs_updates_download(struct mfs_updates *u, size_t repo)
{
	return u->downloads[repo];
}

struct mfs_refresh *
mfs_updates_refresh(struct mfs_updates *u)
{
	return u != NULL ? u->refresh : NULL;
}

const struct mfs_cycle_run *
mfs_updates_run(struct mfs_updates *u)
{
	return &u->args.run;
}

static void
parts_fill(struct mfs_updates *u)
{
	u->parts = (struct mfs_cycle_parts){ .user = u, .mended = true, .now = part_now, .random = part_random, .target = part_target,
		.fresh = part_fresh, .wrap = part_wrap, .download = part_download, .drop = part_drop, .health = part_health,
		.facts = part_facts, .free_bytes = part_free, .changed = part_changed, .rejected = part_rejected,
		.collect = part_collect };
	u->args = (struct mfs_update_args){ .run = { .config = u->s->config, .engine = u->s->engine, .parts = &u->parts },
		.refresh = refresh, .pass = pass, .tick = tick, .boot_ms = boot_ms, .user = u };
}

static void
staged_collect(struct mfs_updates *u)
{
	const struct mfs_config *c = u->s->config;
	mfs_autofree const char **ids = calloc(c->n_models + 1, sizeof(*ids));

	for (size_t i = 0; ids != NULL && i < c->n_models; i++)
		ids[i] = c->models[i].id;
	if (ids != NULL)
		mfs_download_collect(u->s->store, ids, c->n_models);
}

enum mfs_code
mfs_updates_new(struct mfs_serve *s, struct mfs_updates **out, struct mfs_err *err)
{
	struct mfs_refresh_args args = { .config = s->config, .engine = s->engine, .keys = s->keys, .remote = s->remote,
		.events = s->events, .state_dirfd = s->state_dirfd, .changed = on_refreshed };
	struct mfs_updates *u = calloc(1, sizeof(*u));
	enum mfs_code code;

	*out = NULL;
	if (u == NULL || (u->downloads = calloc(s->config->n_repos + 1, sizeof(*u->downloads))) == NULL) {
		free(u);
		return mfs_fail(err, MFS_NO_MEMORY, "updates");
	}
	u->s = s;
	(void)pthread_mutex_init(&u->facts_lock, NULL);
	args.user = u;
	parts_fill(u);
	*out = u; /* as long as the process: what fails here ends it */
	staged_collect(u); /* before requests: a READ may begin a repair, which has a folder there too */
	if ((code = mfs_refresh_new(&args, &u->refresh, err)) != MFS_OK)
		return code;
	for (size_t r = 0; r < s->config->n_repos; r++)
		if ((code = download_make(u, r, err)) != MFS_OK)
			return code;
	return mfs_update_new(&u->args, &u->threads, err);
}

enum mfs_code
mfs_updates_start(struct mfs_updates *u, struct mfs_err *err)
{
	return mfs_update_start(u->threads, err);
}

void
mfs_updates_stop(struct mfs_updates *u)
{
	if (u != NULL)
		mfs_update_stop(u->threads);
}
