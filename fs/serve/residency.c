/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.c - one thread that brings the active versions into memory and lets old copies go.
 *
 * A copy is one exposure of tier resident with a slot of keeper's tmpfs per file (smaller files
 * stay paged inside it, mfs_file_resident). A slot goes FREE -> FILLING -> READY -> FILLING -> FREE;
 * whatever is FILLING when a serve starts was left by a dead one. What is shown is never touched
 * here: the view hides an old copy, mfs_view_retire says when nobody holds it any more.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "io.h"
#include "log.h"
#include "serve.h"

#define RETIRE_MS    2000          /* look again whether an old copy is closed */
#define RETRY_MS     60000         /* after a fill that failed; doubles */
#define RETRY_MS_MAX (60 * 60000)
#define DEATHS_MAX   2u            /* serves that may die in the fill of one model */
#define FILL_NICE    10

struct model {
	bool kicked;            /* lock */
	struct mfs_residency_facts facts; /* lock; `done` is in the residency */
	int64_t retry_ms;       /* thread only, as all below: CLOCK_MONOTONIC to look again; 0 none */
	int64_t fill_ms;        /* not before this time: the last fill failed */
	int64_t backoff_ms;
	struct mfs_sha256 last; /* the active version last seen */
	bool seen;
};

struct mfs_residency {
	struct mfs_serve *s;
	size_t n;
	struct model *models;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;            /* lock */
	size_t filling;       /* lock; n: none */
	_Atomic int cancel;   /* ends the present fill */
	_Atomic uint64_t done;
	pthread_t thread;
};

/* ---- slots ---------------------------------------------------------------------------------------- */

static void
slot_drop(struct mfs_serve *s, uint32_t slot)
{
	struct mfs_shm_resident *r = &s->shm->residents[slot];
	struct mfs_err err = MFS_ERR_INIT;

	atomic_store(&r->state, MFS_RESIDENT_FILLING);
	/* First: of a call that fails nobody knows whether the file and its id are still there. They belong to no exposure now. */
	r->exposure = 0;
	r->backing_id = 0;
	if (mfs_klink_call(s->klink, MFS_K_RESIDENT_DROP, slot, 0, NULL, NULL, &err) != MFS_OK) {
		mfs_log_err("resident copy", &err); /* stays FILLING: the next serve drops it */
		return;
	}
	r->size = 0;
	atomic_store(&r->state, MFS_RESIDENT_FREE);
}

static void
slots_drop(struct mfs_serve *s, uint32_t exposure)
{
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++)
		if (atomic_load(&s->shm->residents[r].state) != MFS_RESIDENT_FREE &&
			s->shm->residents[r].exposure == exposure + 1)
			slot_drop(s, r);
}

static enum mfs_code
slot_take(struct mfs_serve *s, uint32_t exposure, uint32_t file, uint64_t size, uint32_t *slot, struct mfs_err *err)
{
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		struct mfs_shm_resident *x = &s->shm->residents[r];

		if (atomic_load(&x->state) != MFS_RESIDENT_FREE)
			continue;
		x->exposure = exposure + 1;
		x->file = file;
		x->size = size;
		x->backing_id = 0;
		atomic_store(&x->state, MFS_RESIDENT_FILLING);
		*slot = r;
		return MFS_OK;
	}
	return mfs_fail(err, MFS_LIMIT_EXCEEDED, "all %u resident files are in use", MFS_RESIDENTS);
}

static uint64_t
slots_bytes(const struct mfs_serve *s, const char *except)
{
	uint64_t sum = 0;

	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		const struct mfs_shm_resident *x = &s->shm->residents[r];

		if (atomic_load(&x->state) == MFS_RESIDENT_FREE || x->exposure == 0 || x->exposure > MFS_EXPOSURES)
			continue;
		if (strncmp(s->shm->exposures[x->exposure - 1].model, except, MFS_ID_MAX + 1) != 0)
			sum += x->size;
	}
	return sum;
}

/* ---- copies ---------------------------------------------------------------------------------------- */

/* A live copy of model `id`; NULL: of any. */
static bool
is_copy(const struct mfs_serve *s, uint32_t x, const char *id)
{
	const struct mfs_shm_exposure *e = &s->shm->exposures[x];

	return atomic_load(&e->state) == MFS_EXPOSURE_LIVE && e->tier == MFS_TIER_RESIDENT &&
		(id == NULL || strncmp(e->model, id, sizeof(e->model)) == 0);
}

static bool
is_whole(const struct mfs_serve *s, uint32_t x, const struct mfs_manifest *m)
{
	size_t want = 0, have = 0;

	for (size_t f = 0; f < m->n_files; f++)
		want += mfs_file_resident(&m->files[f]);
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		const struct mfs_shm_resident *y = &s->shm->residents[r];

		have += atomic_load(&y->state) == MFS_RESIDENT_READY && y->exposure == x + 1 && y->file < m->n_files &&
			mfs_file_resident(&m->files[y->file]);
	}
	return have == want;
}

/* Hide the slots of a copy, or show those that were whole again. */
static void
slots_hide(struct mfs_serve *s, uint32_t exposure, bool hide)
{
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		struct mfs_shm_resident *x = &s->shm->residents[r];

		if (atomic_load(&x->state) == MFS_RESIDENT_FREE || x->exposure != exposure + 1)
			continue;
		atomic_store(&x->state, hide || x->backing_id <= 0 ? MFS_RESIDENT_FILLING : MFS_RESIDENT_READY);
	}
}

/*
 * Let go of a copy that nobody sees or holds. False: not yet. A copy that this serve never showed
 * could be chosen by a refresh (a rollback to it) between the question and the drop: so it is
 * hidden first, and asked about again.
 */
static bool
copy_drop(struct mfs_serve *s, uint32_t x)
{
	if (!mfs_view_retire(s, x))
		return false;
	slots_hide(s, x, true);
	if (!mfs_view_retire(s, x)) {
		slots_hide(s, x, false);
		return false;
	}
	slots_drop(s, x);
	mfs_view_forget(s, x);
	return true;
}

/*
 * Drop every copy of the model but a whole one of `active`.
 * *have  that one exists
 * *freed some were dropped
 * False: some are still held.
 */
static bool
copies_clean(struct mfs_serve *s, const char *id, const struct mfs_manifest *active, bool *have, bool *freed)
{
	bool all = true;

	*have = *freed = false;
	for (uint32_t x = 0; x < MFS_EXPOSURES; x++) {
		if (!is_copy(s, x, id))
			continue;
		if (active != NULL && !*have && mfs_sha256_equal(&s->shm->exposures[x].manifest, &active->id) &&
			is_whole(s, x, active))
			*have = true;
		else if (copy_drop(s, x))
			*freed = true;
		else
			all = false;
	}
	return all;
}

/* What dead serves left: fills that ended with them, copies of models that are configured no more. */
static void
clean_start(struct mfs_residency *r)
{
	struct mfs_serve *s = r->s;

	for (size_t i = 0; i < r->n; i++) {
		struct mfs_shm_model *m = &s->shm->models[i];

		if (atomic_exchange(&m->filling, 0) != 0)
			(void)atomic_fetch_add(&m->fill_deaths, 1);
	}
	for (uint32_t x = 0; x < MFS_RESIDENTS; x++)
		if (atomic_load(&s->shm->residents[x].state) == MFS_RESIDENT_FILLING)
			slot_drop(s, x);
	for (uint32_t x = 0; x < MFS_EXPOSURES; x++)
		if (is_copy(s, x, NULL) && mfs_config_find(s->config, s->shm->exposures[x].model) < 0)
			(void)copy_drop(s, x);
}

/* ---- the decision (design 6) ------------------------------------------------------------------------ */

static enum mfs_code
say_no(struct mfs_err *why, enum mfs_code code, const char *text)
{
	return mfs_fail(why, code, "%s", text);
}

/*
 * Shall this version be brought into memory? OK: yes. Else why not; CONDITION_UNMET and NO_MEMORY
 * are shown in status, NOT_SELECTED is not worth a word.
 */
static enum mfs_code
decide(struct mfs_residency *r, size_t i, const struct mfs_version *v, uint64_t *bytes, struct mfs_err *why)
{
	const struct mfs_config_model *c = &r->s->config->models[i];
	const struct mfs_shm *shm = r->s->shm;
	uint64_t others, budget = shm->tmpfs_size;

	*bytes = 0;
	if (c->serve == MFS_SERVE_PAGED || v->files == NULL || v->key_code != MFS_OK)
		return say_no(why, MFS_NOT_SELECTED, "paged as configured");
	for (size_t f = 0; f < v->m->n_files; f++)
		if (mfs_file_resident(&v->m->files[f]))
			*bytes += v->m->files[f].size;
	if (*bytes == 0)
		return say_no(why, MFS_NOT_SELECTED, "every file is smaller than 64 KiB");
	if (shm->passthrough == 0)
		return say_no(why, MFS_CONDITION_UNMET,
			shm->rootless ? "mounted without root" : "this kernel has no FUSE passthrough (Linux 6.9) or no tmpfs without swap (6.4)");
	if (atomic_load(&shm->models[i].fill_deaths) >= DEATHS_MAX)
		return say_no(why, MFS_INTERNAL, "serve died twice while it filled memory with this model; the next version or a new start of modelfs tries again");
	others = slots_bytes(r->s, c->id);
	/* Old and new side by side must fit, so that the tier stays the same from update to update. */
	if (c->serve == MFS_SERVE_AUTO && (*bytes > budget / 2 || others > budget - 2 * *bytes))
		return mfs_fail(why, MFS_NO_MEMORY,
			"twice its %" PRIu64 " MiB do not fit memory_budget (%" PRIu64 " MiB, %" PRIu64 " MiB in use by other models)",
			*bytes >> 20, budget >> 20, others >> 20);
	if (*bytes > budget)
		return mfs_fail(why, MFS_NO_MEMORY, "%" PRIu64 " MiB do not fit memory_budget (%" PRIu64 " MiB)", *bytes >> 20,
			budget >> 20);
	return MFS_OK;
}

/* ---- the fill ------------------------------------------------------------------------------------------ */

static enum mfs_code
fill_file(struct mfs_residency *r, const struct mfs_version *v, uint32_t x, size_t f, struct mfs_err *err)
{
	struct mfs_serve *s = r->s;
	uint64_t size = v->m->files[f].size;
	mfs_autoclose int fd = -1;
	enum mfs_code code;
	uint32_t slot = 0;
	int64_t id = 0;

	if ((code = slot_take(s, x, (uint32_t)f, size, &slot, err)) != MFS_OK ||
		(code = mfs_klink_call(s->klink, MFS_K_RESIDENT_CREATE, slot, size, &fd, NULL, err)) != MFS_OK)
		return code;
	if (fd < 0)
		return mfs_fail(err, MFS_INTERNAL, "keeper sent no descriptor");
	if ((code = mfs_content_fill(v->files[f], fd, 0, &r->cancel, &r->done, err)) != MFS_OK)
		return code;
	/* No writer is left when keeper opens it for good. */
	(void)close(mfs_steal_fd(&fd));
	if ((code = mfs_klink_call(s->klink, MFS_K_RESIDENT_COMPLETE, slot, 0, NULL, &id, err)) != MFS_OK)
		return code;
	s->shm->residents[slot].backing_id = (int32_t)id;
	atomic_store(&s->shm->residents[slot].state, MFS_RESIDENT_READY);
	return MFS_OK;
}

static enum mfs_code
fill_files(struct mfs_residency *r, const struct mfs_version *v, uint32_t x, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	for (size_t f = 0; code == MFS_OK && f < v->m->n_files; f++) {
		if (!mfs_file_resident(&v->m->files[f]))
			continue;
		code = atomic_load(&r->cancel) != 0 ? mfs_fail(err, MFS_CONDITION_UNMET, "canceled") :
			fill_file(r, v, x, f, err);
	}
	return code;
}

static void
filling_set(struct mfs_residency *r, size_t i, uint64_t bytes, bool on)
{
	(void)pthread_mutex_lock(&r->lock);
	r->filling = on ? i : r->n;
	r->models[i].facts.filling = on;
	r->models[i].facts.total = bytes;
	r->models[i].facts.done = 0;
	atomic_store(&r->done, 0);
	/* A kick or the stop that came before we got here counts as well. */
	atomic_store(&r->cancel, on && (r->stop || r->models[i].kicked));
	(void)pthread_mutex_unlock(&r->lock);
	atomic_store(&r->s->shm->models[i].filling, on ? 1 : 0);
}

/* *canceled: by a kick or the end of serve; that is no failure. */
static enum mfs_code
fill(struct mfs_residency *r, size_t i, const struct mfs_version *v, uint64_t bytes, bool *canceled,
	struct mfs_err *err)
{
	struct mfs_serve *s = r->s;
	enum mfs_code code;
	uint32_t x;

	if ((code = mfs_view_expose(s, i, v, MFS_TIER_RESIDENT, &x, err)) != MFS_OK)
		return code;
	filling_set(r, i, bytes, true);
	code = fill_files(r, v, x, err);
	*canceled = code == MFS_CONDITION_UNMET && atomic_load(&r->cancel) != 0;
	filling_set(r, i, bytes, false);
	if (code == MFS_OK) {
		atomic_store(&s->shm->models[i].fill_deaths, 0);
		return mfs_view_resident_ready(s, i, x, err);
	}
	(void)copy_drop(s, x);
	return code;
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static void
facts_set(struct mfs_residency *r, size_t i, enum mfs_code code, const char *why)
{
	(void)pthread_mutex_lock(&r->lock);
	r->models[i].facts.code = code;
	(void)snprintf(r->models[i].facts.why, sizeof(r->models[i].facts.why), "%s", why);
	(void)pthread_mutex_unlock(&r->lock);
}

static void
look_again(struct model *m, int64_t in_ms)
{
	int64_t at = mfs_clock_mono_ms() + in_ms;

	if (m->retry_ms == 0 || at < m->retry_ms)
		m->retry_ms = at;
}

static void
fill_failed(struct mfs_residency *r, size_t i, const struct mfs_version *v, const struct mfs_err *err)
{
	struct model *m = &r->models[i];

	facts_set(r, i, err->code, err->msg);
	m->backoff_ms = m->backoff_ms == 0 ? RETRY_MS : 2 * m->backoff_ms;
	if (m->backoff_ms > RETRY_MS_MAX)
		m->backoff_ms = RETRY_MS_MAX;
	m->fill_ms = mfs_clock_mono_ms() + m->backoff_ms;
	look_again(m, m->backoff_ms);
	mfs_event(r->s->events, &(struct mfs_event){ .model = r->s->config->models[i].id, .version = v->m->version,
		.code = err->code, .source = "residency", .detail = err->msg });
	if (err->code == MFS_HASH_MISMATCH || err->code == MFS_IO) /* mended, it is filled again */
		mfs_scrub_kick(r->s->scrub, i);
}

static void
bring(struct mfs_residency *r, size_t i, const struct mfs_version *v)
{
	struct model *m = &r->models[i];
	struct mfs_err err = MFS_ERR_INIT;
	bool canceled = false;
	enum mfs_code code;
	uint64_t bytes;

	if ((code = decide(r, i, v, &bytes, &err)) != MFS_OK) {
		/* Not a failure: looked at again when something changes, not by the clock. */
		facts_set(r, i, code == MFS_NOT_SELECTED ? MFS_OK : code, code == MFS_NOT_SELECTED ? "" : err.msg);
		return;
	}
	if (m->fill_ms != 0 && mfs_clock_mono_ms() < m->fill_ms) {
		look_again(m, m->fill_ms - mfs_clock_mono_ms());
		return;
	}
	m->fill_ms = 0;
	code = fill(r, i, v, bytes, &canceled, &err);
	if (code == MFS_OK) {
		m->backoff_ms = 0;
		facts_set(r, i, MFS_OK, "");
		look_again(m, RETIRE_MS);
	} else if (!canceled) { /* else the kick that canceled it comes next */
		fill_failed(r, i, v, &err);
	}
}

/* Memory came free: whoever waits for some looks again. */
static void
wake_waiting(struct mfs_residency *r)
{
	(void)pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < r->n; i++)
		if (r->models[i].facts.code == MFS_NO_MEMORY)
			r->models[i].kicked = true;
	(void)pthread_mutex_unlock(&r->lock);
}

static void
reconsider(struct mfs_residency *r, size_t i)
{
	const char *id = r->s->config->models[i].id;
	struct mfs_engine_model em = { .n = 0 };
	const struct mfs_version *active = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct model *m = &r->models[i];
	const struct mfs_manifest *keep;
	bool have, freed;

	m->retry_ms = 0;
	if (mfs_engine_model_get(r->s->engine, i, &em, &err) != MFS_OK) {
		mfs_log_err("resident copies", &err);
		look_again(m, RETRY_MS);
		return;
	}
	for (size_t k = 0; k < em.n; k++)
		if (em.versions[k].active)
			active = em.versions[k].v;
	if (active != NULL && (!m->seen || !mfs_sha256_equal(&m->last, &active->m->id))) {
		if (m->seen) /* another version: the deaths were not its */
			atomic_store(&r->s->shm->models[i].fill_deaths, 0);
		m->backoff_ms = m->fill_ms = 0;
		m->last = active->m->id;
		m->seen = true;
	}
	/* Configured paged since: the view shows it no more. */
	keep = active != NULL && r->s->config->models[i].serve != MFS_SERVE_PAGED ? active->m : NULL;
	if (!copies_clean(r->s, id, keep, &have, &freed))
		look_again(m, RETIRE_MS);
	if (freed)
		wake_waiting(r);
	if (active == NULL || have)
		facts_set(r, i, MFS_OK, "");
	else
		bring(r, i, active);
	mfs_engine_model_free(&em);
}

/* The next model to look at, or n; *wait_ms until one is due, -1 for none. Hold the lock. */
static size_t
next_due(struct mfs_residency *r, int64_t *wait_ms)
{
	int64_t now = mfs_clock_mono_ms();

	*wait_ms = -1;
	for (size_t i = 0; i < r->n; i++) {
		struct model *m = &r->models[i];
		int64_t left = m->retry_ms - now;

		if (m->kicked || (m->retry_ms != 0 && left <= 0)) {
			if (m->kicked)
				m->fill_ms = 0;
			m->kicked = false;
			return i;
		}
		if (m->retry_ms != 0 && (*wait_ms < 0 || left < *wait_ms))
			*wait_ms = left;
	}
	return r->n;
}

static void
wait_for(struct mfs_residency *r, int64_t ms)
{
	struct timespec until;

	if (ms < 0) {
		(void)pthread_cond_wait(&r->wake, &r->lock);
		return;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&r->wake, &r->lock, &until);
}

static void *
run(void *arg)
{
	struct mfs_residency *r = arg;

	/* Of this thread alone; the workers of a fill inherit it. Readers come first. */
	(void)setpriority(PRIO_PROCESS, 0, FILL_NICE);
	clean_start(r);
	(void)pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		int64_t wait_ms;
		size_t i = next_due(r, &wait_ms);

		if (i == r->n) {
			wait_for(r, wait_ms);
			continue;
		}
		(void)pthread_mutex_unlock(&r->lock);
		reconsider(r, i);
		(void)pthread_mutex_lock(&r->lock);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- the outside ---------------------------------------------------------------------------------------- */

enum mfs_code
mfs_residency_start(struct mfs_serve *s, struct mfs_residency **out, struct mfs_err *err)
{
	struct mfs_residency *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;
	int e;

	*out = NULL;
	if (r == NULL || (r->models = calloc(s->config->n_models + 1, sizeof(*r->models))) == NULL) {
		free(r);
		return mfs_fail(err, MFS_NO_MEMORY, "resident tier: no memory");
	}
	r->s = s;
	r->n = s->config->n_models < MFS_SHM_MODELS ? s->config->n_models : MFS_SHM_MODELS;
	r->filling = r->n;
	for (size_t i = 0; i < r->n; i++)
		r->models[i].kicked = true;
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&r->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if ((e = pthread_create(&r->thread, NULL, run, r)) != 0) {
		free(r->models);
		free(r);
		errno = e;
		return mfs_fail_sys(err, MFS_NO_MEMORY, "resident tier: thread");
	}
	*out = r;
	return MFS_OK;
}

void
mfs_residency_stop(struct mfs_residency *r)
{
	if (r == NULL)
		return;
	(void)pthread_mutex_lock(&r->lock);
	r->stop = true;
	atomic_store(&r->cancel, 1);
	(void)pthread_cond_broadcast(&r->wake);
	(void)pthread_mutex_unlock(&r->lock);
	(void)pthread_join(r->thread, NULL);
	(void)pthread_cond_destroy(&r->wake);
	(void)pthread_mutex_destroy(&r->lock);
	free(r->models);
	free(r);
}

void
mfs_residency_kick(struct mfs_residency *r, size_t i)
{
	if (r == NULL || i >= r->n)
		return;
	(void)pthread_mutex_lock(&r->lock);
	r->models[i].kicked = true;
	if (r->filling == i)
		atomic_store(&r->cancel, 1);
	(void)pthread_cond_broadcast(&r->wake);
	(void)pthread_mutex_unlock(&r->lock);
}

void
mfs_residency_facts(struct mfs_residency *r, size_t i, struct mfs_residency_facts *out)
{
	*out = (struct mfs_residency_facts){ .code = MFS_OK };
	if (r == NULL || i >= r->n)
		return;
	(void)pthread_mutex_lock(&r->lock);
	*out = r->models[i].facts;
	if (out->filling)
		out->done = atomic_load(&r->done);
	(void)pthread_mutex_unlock(&r->lock);
}
