/* SPDX-License-Identifier: Apache-2.0 */
/* The update cycle in a command's confined child: one thread, until the command's question is answered. */
#include "update_offline.h"

#include <openssl/rand.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "download.h"
#include "health.h"
#include "io.h"
#include "log.h"
#include "refresh.h"
#include "update.h"
#include "wrap.h"

#define OFFLINE_CACHE (16u << 20)

struct offline {
	struct mfs_cmd_env *env;
	const struct mfs_update_offline *q;
	struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_cache *cache;
	struct mfs_events *events;
	struct mfs_engine *engine;
	struct mfs_remote *remote;
	struct mfs_refresh *refresh;
	struct mfs_update *update;
	struct mfs_progress progress;
	char what[MFS_ID_MAX + 24];
};

/* ---- parts ------------------------------------------------------------------------------------------------ */

static int64_t
part_now(void *user)
{
	struct offline *o = user;

	return mfs_refresh_now(o->refresh);
}

static uint32_t
part_random(void *user)
{
	uint32_t x = 0;

	(void)user;
	(void)RAND_bytes((unsigned char *)&x, (int)sizeof(x));
	return x;
}

static int64_t
boot_ms(void *user)
{
	(void)user;
	return mfs_clock_boot_ms();
}

static enum mfs_code
refresh(void *user, size_t repo, struct mfs_remote *via, const _Atomic int *cancel, int64_t *retry_after_s, bool *news,
	struct mfs_err *err)
{
	struct offline *o = user;
	struct mfs_refresh_via way = { .remote = via };
	struct mfs_refresh_result res = { 0 };
	enum mfs_code code = mfs_refresh_run(o->refresh, repo, &way, cancel, &res, err);

	*retry_after_s = res.retry_after_s;
	*news = res.news;
	return code;
}

static void
pass(void *user, size_t repo, bool begin)
{
	struct offline *o = user;

	mfs_refresh_pass(o->refresh, repo, begin);
}

static int64_t
tick(void *user)
{
	struct offline *o = user;

	return mfs_refresh_tick(o->refresh);
}

static enum mfs_code
part_target(void *user, size_t i, struct mfs_remote *via, const _Atomic int *cancel, struct mfs_cycle_offer *out,
	struct mfs_err *err)
{
	struct offline *o = user;

	return mfs_cycle_target(o->refresh, i, via, cancel, out, err);
}

static enum mfs_code
part_fresh(void *user, size_t i, struct mfs_err *err)
{
	struct offline *o = user;

	return mfs_refresh_fresh(o->refresh, i, err);
}

static void
on_progress(void *user, const struct mfs_download_progress *p)
{
	struct offline *o = user;

	mfs_progress_rate(&o->progress, p->done, p->total, p->rate);
}

static uint64_t
budget_take(void *user, uint64_t want)
{
	struct offline *o = user;

	return mfs_engine_budget_take(o->engine, mfs_refresh_now(o->refresh) / 86400, want);
}

static void
budget_give(void *user, uint64_t unused)
{
	struct offline *o = user;

	mfs_engine_budget_give(o->engine, unused);
}

static void
collect(struct offline *o)
{
	struct mfs_err ignored = MFS_ERR_INIT;
	uint64_t freed;
	size_t removed;

	(void)mfs_engine_gc(o->engine, NULL, NULL, &freed, &removed, &ignored);
}

static void
make_room(void *user, uint64_t need)
{
	(void)need;
	collect(user);
}

static void
part_collect(void *user, size_t i)
{
	(void)i;
	collect(user);
}

static enum mfs_code
part_download(void *user, size_t i, struct mfs_version *v, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	struct offline *o = user;
	const struct mfs_config *c = o->env->config;
	ssize_t repo = c->models[i].repo;
	struct mfs_download_args args = { .store = o->store, .remote = via != NULL ? via : o->remote,
		.min_free = c->min_free, .make_room = make_room, .user = o };
	struct mfs_download_version q = { .id = c->models[i].id, .m = v->m, .signed_bytes = &v->signed_bytes,
		.progress = on_progress, .user = o, .cancel = cancel };
	struct mfs_download_result res = { 0 };
	struct mfs_download *d = NULL;
	enum mfs_code code;

	if (repo < 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "no repository is configured for model %s", c->models[i].id);
	if (via == NULL) {
		args.repo = (size_t)repo;
		args.repository = &c->repos[repo];
		args.budget_take = budget_take;
		args.budget_give = budget_give;
	}
	(void)snprintf(o->what, sizeof(o->what), "%s %s", c->models[i].id, v->m->version);
	o->progress = (struct mfs_progress){ .what = o->what };
	if ((code = mfs_download_new(&args, &d, err)) == MFS_OK)
		code = mfs_download_version(d, &q, &res, err);
	mfs_progress_end(&o->progress);
	*retry_after_s = res.retry_after_s;
	mfs_download_free(d);
	return code;
}

static enum mfs_code
part_wrap(void *user, size_t i, const struct mfs_manifest *m, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	struct offline *o = user;
	const struct mfs_wrap_ask ask = { .config = o->env->config, .keys = o->keys, .store = o->store,
		.remote = via != NULL ? via : o->remote, .via = via != NULL, .model = i, .m = m, .cancel = cancel };

	return mfs_wrap_fetch(&ask, retry_after_s, err);
}

static void
part_drop(void *user, size_t i)
{
	struct offline *o = user;

	mfs_download_drop(o->store, o->env->config->models[i].id);
}

/* Without a mount nothing can show a candidate to the health command: it runs in the probation, once mounted. */
static enum mfs_code
part_health(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel, struct mfs_err *err)
{
	(void)user, (void)i;
	return probation ? mfs_fail(err, MFS_CONDITION_UNMET, "not mounted") : mfs_health_builtin(v, cancel, err);
}

static void
part_facts(void *user, const _Atomic int *cancel, struct mfs_cycle_facts *f)
{
	struct offline *o = user;
	struct mfs_err err = MFS_ERR_INIT;
	time_t wall = time(NULL);
	struct tm tm = { 0 };

	*f = (struct mfs_cycle_facts){ .hold = o->q->hold };
	if (mfs_conditions_ask(o->env->config))
		f->known = mfs_remote_conditions(o->remote, cancel, &f->wire, &err) == MFS_OK;
	if (localtime_r(&wall, &tm) != NULL)
		f->minute = (unsigned)(tm.tm_hour * 60 + tm.tm_min);
	f->budget_left = mfs_engine_budget_left(o->engine, mfs_refresh_now(o->refresh) / 86400);
}

static uint64_t
part_free(void *user)
{
	struct offline *o = user;
	struct statvfs st;

	return fstatvfs(mfs_store_dirfd(o->store), &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

static void
part_changed(void *user, size_t i, enum mfs_job_reason reason, enum mfs_code outcome)
{
	struct offline *o = user;

	(void)reason, (void)outcome;
	mfs_update_swapped(o->update, i);
}

static void
part_rejected(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why)
{
	(void)user, (void)i, (void)v, (void)why; /* hooks are keeper's: none runs here */
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static enum mfs_code
offline_open(struct offline *o, struct mfs_err *err)
{
	struct mfs_cmd_env *env = o->env;
	struct mfs_engine_args args = { .config = env->config, .state_dirfd = env->folders.state };
	struct mfs_refresh_args ra = { .config = env->config, .state_dirfd = env->folders.state };

	mfs_log_open("command", (enum mfs_level)0);
	if (mfs_keys_load(env->config, &env->keys, &o->keys, err) != MFS_OK ||
		mfs_store_open(env->folders.store, env->seeds, env->n_seeds, &o->store, err) != MFS_OK ||
		mfs_cache_new(OFFLINE_CACHE, -1, &o->cache, err) != MFS_OK ||
		mfs_events_open(env->folders.state, false, &o->events, err) != MFS_OK ||
		mfs_remote_adopt(o->q->sock, &o->remote, err) != MFS_OK)
		return err->code;
	mfs_remote_bandwidth(o->remote, env->config->update.bandwidth);
	args.keys = o->keys;
	args.store = o->store;
	args.cache = o->cache;
	args.events = o->events;
	if (mfs_engine_open(&args, &o->engine, err) != MFS_OK)
		return err->code;
	ra.engine = o->engine;
	ra.keys = o->keys;
	ra.remote = o->remote;
	ra.events = o->events;
	return mfs_refresh_new(&ra, &o->refresh, err);
}

static int
say(const struct offline *o, const struct mfs_update_answer *a)
{
	struct mfs_err err = { .code = a->code };

	if (a->exit_code == MFS_EXIT_DONE || a->exit_code == MFS_EXIT_NOTHING) {
		printf("%s\n", MFS_ESC(a->detail));
		return a->exit_code;
	}
	(void)snprintf(err.msg, sizeof(err.msg), "%s", a->detail);
	(void)mfs_cmd_fail(o->q->update ? "update" : "check", &err);
	return a->exit_code;
}

static int
answer(struct offline *o)
{
	struct mfs_update_answer a;
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t ticket;
	struct mfs_remote *via = NULL;

	/* --from: the one remote there is comes as the command's. */
	if (o->q->via) {
		via = o->remote;
		o->remote = NULL;
	}
	if (mfs_update_ask(o->update, o->q->model, o->q->update, via, &ticket, &err) != MFS_OK)
		return mfs_cmd_fail(o->q->update ? "update" : "check", &err);
	for (;;) {
		mfs_update_poll(o->update, ticket, &a);
		if (a.final)
			return say(o, &a);
		if (mfs_update_turn_refresher(o->update) > 0 && mfs_update_turn_worker(o->update) > 0)
			(void)nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
}

int
mfs_update_offline(struct mfs_cmd_env *env, int link, void *arg)
{
	struct offline o = { .env = env, .q = arg };
	const struct mfs_cycle_parts parts = { .user = &o, .now = part_now, .random = part_random, .target = part_target,
		.fresh = part_fresh, .wrap = part_wrap, .download = part_download, .drop = part_drop, .health = part_health,
		.facts = part_facts, .free_bytes = part_free, .changed = part_changed, .rejected = part_rejected,
		.collect = part_collect };
	struct mfs_update_args args = { .refresh = refresh, .pass = pass, .tick = tick, .boot_ms = boot_ms, .user = &o };
	struct mfs_err err = MFS_ERR_INIT;
	int status;

	(void)link;
	if (offline_open(&o, &err) != MFS_OK)
		return mfs_cmd_fail(o.q->update ? "update" : "check", &err);
	args.run = (struct mfs_cycle_run){ .config = env->config, .engine = o.engine, .parts = &parts };
	if (mfs_update_new(&args, &o.update, &err) != MFS_OK)
		return mfs_cmd_fail(o.q->update ? "update" : "check", &err);
	status = answer(&o);
	mfs_update_free(o.update);
	mfs_refresh_free(o.refresh);
	mfs_remote_free(o.remote);
	mfs_engine_close(o.engine);
	mfs_events_close(o.events);
	mfs_cache_free(o.cache);
	mfs_store_close(o.store);
	mfs_keys_free(o.keys);
	return status;
}
