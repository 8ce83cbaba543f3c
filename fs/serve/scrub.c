/* SPDX-License-Identifier: Apache-2.0 */
#include "scrub.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "download.h"
#include "io.h"
#include "log.h"
#include "schedule.h"
#include "serve.h"

#define FIRST_MS INT64_C(10000) /* after the start: fills of the resident tier and the first readers come before */
#define EVERY_MS (INT64_C(7) * 86400 * 1000)
#define NICE     19
#define STRETCH  (64u << 20) /* bytes that are mended before a READ of the same payload gets its turn */

struct model { /* lock */
	bool kicked;
	bool missing; /* only whether all of it is there */
	bool hurried; /* somebody asked since the last look began: one that fails may do so for what is mended by now */
	int64_t due_ms;
	unsigned failures; /* of repairs, in a row */
	int64_t wraps_ms;  /* when the wraps that nobody had are asked for again; 0: none is wanting */
	unsigned wrapless; /* looks in a row that found such */
	enum mfs_code told;
};

struct mfs_scrub {
	struct mfs_serve *s;
	size_t n;
	_Atomic int cancel;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool started;
	pthread_t thread;
	struct model *models;
};

/* ---- what is told ---------------------------------------------------------------------------------------------- */

/* The same trouble is an event once. */
static void
tell(struct mfs_scrub *c, size_t i, const char *version, enum mfs_code code, const char *detail)
{
	bool told;

	(void)pthread_mutex_lock(&c->lock);
	told = code != MFS_OK && c->models[i].told == code;
	c->models[i].told = code;
	(void)pthread_mutex_unlock(&c->lock);
	if (!told)
		mfs_event(c->s->events, &(struct mfs_event){ .model = c->s->config->models[i].id, .version = version,
			.code = code, .source = "scrub", .detail = detail });
}

/* ---- one file ---------------------------------------------------------------------------------------------------- */

/* As mfs_download_repair(); what was repaired is added to *repaired. */
static enum mfs_code
stretch_mend(struct mfs_scrub *c, size_t i, const struct mfs_manifest *m, size_t file, uint64_t first, uint64_t n,
	uint64_t *repaired, struct mfs_err *err)
{
	struct mfs_serve *s = c->s;
	struct mfs_download *d = mfs_updates_download(s->updates, (size_t)s->config->models[i].repo);
	const struct mfs_sha256 *payload = &m->files[file].sha256;
	uint64_t some = 0;
	enum mfs_code code;

	if (!mfs_repairs_begin(s->repairs, payload, &c->cancel))
		return mfs_fail(err, MFS_CONDITION_UNMET, "ending");
	code = mfs_download_repair(d, m, file, first, n, &c->cancel, &some, err);
	mfs_repairs_end(s->repairs, payload, some, code != MFS_OK && atomic_load(&c->cancel) == 0);
	*repaired += some;
	return code;
}

/* Fetched again: all of what is gone, and if it is damaged, chunks that do not verify. */
static enum mfs_code
mend(struct mfs_scrub *c, size_t i, const struct mfs_manifest *m, size_t file, bool damaged, struct mfs_err *err)
{
	const uint64_t chunks = damaged ? m->files[file].chunks : 0, step = STRETCH / m->files[file].chunk_size;
	uint64_t repaired = 0, first = 0, n;
	char detail[600];
	enum mfs_code code;

	do {
		n = chunks - first < step ? chunks - first : step;
		code = stretch_mend(c, i, m, file, first, n, &repaired, err);
		first += n;
	} while (code == MFS_OK && first < chunks);
	if (repaired > 0) {
		(void)snprintf(detail, sizeof(detail), "%s: damaged or lost in the store; %llu %s fetched again",
			MFS_ESC(m->files[file].name), (unsigned long long)repaired, repaired == 1 ? "part was" : "parts were");
		tell(c, i, m->version, MFS_OK, detail);
	}
	return code;
}

/* Is it still kept? What was collected meanwhile is not damaged. */
static bool
is_kept(struct mfs_scrub *c, size_t i, const struct mfs_sha256 *id)
{
	struct mfs_engine_model m;
	bool kept = false;

	if (mfs_engine_model_get(c->s->engine, i, &m, NULL) != MFS_OK)
		return false;
	for (size_t k = 0; k < m.n; k++)
		kept = kept || mfs_sha256_equal(&m.versions[k].v->m->id, id);
	mfs_engine_model_free(&m);
	return kept;
}

/* What a repair left that did not end, of a payload that is whole now: an installation was quicker. */
static void
leftover_drop(struct mfs_scrub *c, const struct mfs_sha256 *payload)
{
	mfs_autoclose int fd = mfs_stage_find(c->s->store, MFS_HEX(payload));

	if (fd < 0 || !mfs_repairs_begin(c->s->repairs, payload, &c->cancel))
		return;
	mfs_download_drop(c->s->store, MFS_HEX(payload));
	mfs_repairs_end(c->s->repairs, payload, 0, false);
}

static enum mfs_code
file_look(struct mfs_scrub *c, size_t i, struct mfs_version *v, size_t file, struct mfs_err *err)
{
	struct mfs_content *content = v->files != NULL ? v->files[file] : NULL, *own = NULL;
	enum mfs_code code;

	/* Without a key the signed hashes can be checked all the same. */
	if (content == NULL) {
		if ((code = mfs_content_new(c->s->store, c->s->cache, v->m, file, NULL, &own, err)) != MFS_OK)
			return code;
		content = own;
	}
	code = mfs_content_check(content, 1, &c->cancel, NULL, err);
	mfs_content_free(own);
	if (code == MFS_OK)
		leftover_drop(c, &v->m->files[file].sha256);
	if ((code != MFS_HASH_MISMATCH && code != MFS_IO) || atomic_load(&c->cancel) != 0 || !is_kept(c, i, &v->m->id))
		return code == MFS_HASH_MISMATCH || code == MFS_IO ? MFS_OK : code;
	if (c->s->config->models[i].repo < 0) {
		(void)mfs_err_hint(err, "; install its bundle again");
		return code;
	}
	if ((code = mend(c, i, v->m, file, true, err)) == MFS_OK)
		mfs_residency_kick(c->s->residency, i);
	else if (!is_kept(c, i, &v->m->id)) /* meanwhile, and what was staged for it with it */
		return MFS_OK;
	return code;
}

/* ---- one model ---------------------------------------------------------------------------------------------------- */

static enum mfs_code
show(struct mfs_serve *s, size_t i, struct mfs_err *err)
{
	bool changed = false;
	enum mfs_code code;

	if ((code = mfs_engine_restored(s->engine, i, &changed, err)) != MFS_OK)
		return code;
	/* Not at once: nothing of it was withdrawn or is gone back from, and nobody is loading what was not shown. */
	return changed ? mfs_updates_changed(s, i, false, MFS_OK, err) : mfs_view_refresh(s, i, err);
}

struct found {
	bool lost;     /* something was, and came */
	bool wrapless; /* a wrap is wanting that nobody has */
};

/* The wrap of its content key for this host's model key: lost, or made only after the version was published. */
static bool
wrap_bring(struct mfs_scrub *c, size_t i, struct mfs_version *v, struct found *found)
{
	struct mfs_err err = MFS_ERR_INIT;
	int64_t ignored;

	if (mfs_updates_wrap(c->s->updates, i, v->m, NULL, &c->cancel, &ignored, &err) == MFS_OK) {
		found->lost = true;
		tell(c, i, v->m->version, MFS_OK, "the wrap of its content key for this host's model key was fetched");
		return true;
	}
	found->wrapless = true;
	if (atomic_load(&c->cancel) == 0)
		tell(c, i, v->m->version, err.code, err.msg);
	return false;
}

/* What the store lacks of a version is brought, then it is shown. */
static enum mfs_code
restore(struct mfs_scrub *c, size_t i, struct mfs_version *v, struct found *found, struct mfs_err *err)
{
	const bool locked = v->key_code == MFS_KEY_UNAVAILABLE;
	struct mfs_serve *s = c->s;
	bool wrap = false;
	enum mfs_code code;

	for (size_t k = 0; k < v->m->n_files; k++) {
		const struct mfs_file *f = &v->m->files[k];

		if (mfs_store_blob_has(s->store, &f->sha256, f->size) &&
			(f->chunks <= 1 || mfs_store_blob_has(s->store, &f->chunks_sha256, mfs_table_length(f->chunks))))
			continue;
		found->lost = true;
		if ((code = mend(c, i, v->m, k, false, err)) != MFS_OK)
			return code;
	}
	if (locked)
		wrap = wrap_bring(c, i, v, found);
	else
		found->lost = true;
	if ((code = show(s, i, err)) == MFS_OK && wrap && s->residency != NULL) /* it is open now */
		mfs_residency_kick(s->residency, i);
	return code;
}

/*
 * What was signed of the k-th version is lost in both places: nothing is known of it but what the anchor says. Of the
 * active one the next check brings it again, if it may.
 */
static bool
is_unsigned(struct mfs_scrub *c, size_t i, size_t k, enum mfs_code code)
{
	struct mfs_engine_model m;
	bool held;

	if (!mfs_kept_lost(code) || k > 0)
		return mfs_kept_lost(code);
	if (mfs_engine_model_get(c->s->engine, i, &m, NULL) != MFS_OK)
		return false;
	held = m.held || m.update.pin[0] != '\0';
	mfs_engine_model_free(&m);
	return held;
}

/* The same bytes from the repository. Then v is the version if the store lacks blobs of it too. */
static enum mfs_code
sign_again(struct mfs_scrub *c, size_t i, size_t k, struct mfs_version **v, struct mfs_err *err)
{
	struct mfs_serve *s = c->s;
	struct mfs_signed bytes = { 0 };
	struct mfs_vref ref;
	enum mfs_code code;
	bool end;

	if (!mfs_engine_kept(s->engine, i, k, &ref))
		return MFS_OK;
	*err = (struct mfs_err)MFS_ERR_INIT;
	if ((code = mfs_refresh_signed(mfs_updates_refresh(s->updates), i, &ref, &c->cancel, &bytes, err)) == MFS_OK)
		code = mfs_engine_signed_restore(s->engine, i, &ref.manifest, &bytes, err);
	mfs_signed_free(&bytes);
	if (atomic_load(&c->cancel) != 0 || code == MFS_CONDITION_UNMET) /* collected meanwhile */
		return atomic_load(&c->cancel) != 0 ? code : MFS_OK;
	tell(c, i, ref.version, code, code == MFS_OK ? "what was signed of it was lost in both places; fetched again" : err->msg);
	if (code != MFS_OK || (code = mfs_engine_lost(s->engine, i, k, true, &end, v, err)) != MFS_OK || *v != NULL)
		return code;
	return show(s, i, err);
}

/* What could not be shown for its missing blobs, or opened for the want of a wrap, the active version first. */
static enum mfs_code
restore_all(struct mfs_scrub *c, size_t i, bool full, struct found *found, struct mfs_err *err)
{
	enum mfs_code first = MFS_OK;
	bool end = false;

	*found = (struct found){ .lost = false };
	if (c->s->config->models[i].repo < 0)
		return MFS_OK; /* its status says what is wrong */
	for (size_t k = 0; !end && atomic_load(&c->cancel) == 0; k++) {
		struct mfs_err why = MFS_ERR_INIT;
		struct mfs_version *v;
		enum mfs_code code = mfs_engine_lost(c->s->engine, i, k, !full, &end, &v, &why);

		if (v == NULL && !is_unsigned(c, i, k, code))
			continue;
		if (v == NULL) {
			found->lost = true;
			code = sign_again(c, i, k, &v, &why);
		}
		if (v != NULL && (code = restore(c, i, v, found, &why)) != MFS_OK && atomic_load(&c->cancel) == 0)
			tell(c, i, v->m->version, code, why.msg);
		if (code != MFS_OK && first == MFS_OK) {
			first = code;
			*err = why;
		}
		mfs_version_unref(v);
	}
	return first;
}

/* Of every version that is shown, each byte. */
static enum mfs_code
versions_look(struct mfs_scrub *c, size_t i, struct mfs_err *err)
{
	struct mfs_engine_model m;
	enum mfs_code code = mfs_engine_model_get(c->s->engine, i, &m, err), first = MFS_OK;

	if (code != MFS_OK)
		return code;
	for (size_t k = 0; k < m.n && atomic_load(&c->cancel) == 0; k++)
		for (size_t f = 0; f < m.versions[k].v->m->n_files && atomic_load(&c->cancel) == 0; f++) {
			struct mfs_err why = MFS_ERR_INIT;

			if ((code = file_look(c, i, m.versions[k].v, f, &why)) == MFS_OK || atomic_load(&c->cancel) != 0)
				continue;
			tell(c, i, m.versions[k].v->m->version, code, why.msg);
			if (first == MFS_OK && err != NULL)
				*err = why;
			first = first == MFS_OK ? code : first;
		}
	mfs_engine_model_free(&m);
	return first;
}

/* When the next look is due, in ms. */
static int64_t
next_look(struct mfs_scrub *c, size_t i, enum mfs_code code)
{
	uint32_t random = 0;
	unsigned failures;

	(void)pthread_mutex_lock(&c->lock);
	failures = code == MFS_OK ? 0 : c->models[i].failures + 1;
	c->models[i].failures = failures;
	(void)pthread_mutex_unlock(&c->lock);
	/* What nobody can bring again is not read every hour. */
	if (code == MFS_OK || c->s->config->models[i].repo < 0)
		return EVERY_MS;
	(void)RAND_bytes((unsigned char *)&random, (int)sizeof(random));
	return mfs_backoff(failures, c->s->config->update.max_interval_ms / 1000, 0, random) * 1000;
}

/* When the wraps that nobody had are asked for again: without looking at every byte for it. */
static void
wraps_plan(struct mfs_scrub *c, size_t i, bool wrapless)
{
	struct model *m = &c->models[i];
	uint32_t random = 0;

	(void)RAND_bytes((unsigned char *)&random, (int)sizeof(random));
	(void)pthread_mutex_lock(&c->lock);
	m->wrapless = wrapless ? m->wrapless + 1 : 0;
	m->wraps_ms = wrapless ? mfs_clock_boot_ms() +
			mfs_backoff(m->wrapless, c->s->config->update.max_interval_ms / 1000, 0, random) * 1000 : 0;
	(void)pthread_mutex_unlock(&c->lock);
}

/* full: every byte; else only whether all of it is there. When the next look is due, in ms; -1: as it was. */
static int64_t
look(struct mfs_scrub *c, size_t i, bool full)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct found found;
	enum mfs_code code = restore_all(c, i, full, &found, &err);

	wraps_plan(c, i, found.wrapless);
	if (code == MFS_OK && found.lost)
		return FIRST_MS; /* what came just now was verified; the rest is looked at then */
	if (code == MFS_OK && !full)
		return -1;
	if (code == MFS_OK)
		code = versions_look(c, i, &err);
	return next_look(c, i, code);
}

/* ---- the thread ---------------------------------------------------------------------------------------------------- */

/* Hold the lock. The model to look at, or n; *wait_ms until one is due. What is missing first: nobody can read it. */
static size_t
due(struct mfs_scrub *c, bool *full, int64_t *wait_ms)
{
	int64_t now = mfs_clock_boot_ms();

	*wait_ms = EVERY_MS;
	*full = false;
	for (size_t i = 0; i < c->n; i++) {
		struct model *m = &c->models[i];

		if (m->missing || (m->wraps_ms != 0 && m->wraps_ms <= now)) {
			m->missing = false;
			m->wraps_ms = 0;
			return i;
		}
		if (m->wraps_ms != 0 && m->wraps_ms - now < *wait_ms)
			*wait_ms = m->wraps_ms - now;
	}
	*full = true;
	for (size_t i = 0; i < c->n; i++) {
		struct model *m = &c->models[i];

		if (m->kicked || m->due_ms <= now) {
			m->kicked = false;
			return i;
		}
		if (m->due_ms - now < *wait_ms)
			*wait_ms = m->due_ms - now;
	}
	return c->n;
}

static void
wait_for(struct mfs_scrub *c, int64_t ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	(void)pthread_cond_timedwait(&c->wake, &c->lock, &until);
}

static void
look_and_plan(struct mfs_scrub *c, size_t i, bool full)
{
	const ssize_t repo = c->s->config->models[i].repo;
	struct model *m = &c->models[i];
	bool hurried;
	int64_t pause;

	(void)pthread_mutex_lock(&c->lock);
	hurried = m->hurried;
	m->hurried = false;
	(void)pthread_mutex_unlock(&c->lock);
	if (hurried && repo >= 0) /* again: a look that failed since somebody asked has let its sources rest */
		mfs_download_awake(mfs_updates_download(c->s->updates, (size_t)repo));
	pause = look(c, i, full);
	(void)pthread_mutex_lock(&c->lock);
	if (pause >= 0)
		m->due_ms = mfs_clock_boot_ms() + (m->hurried && m->failures > 0 ? 0 : pause);
	(void)pthread_mutex_unlock(&c->lock);
}

static void *
run(void *arg)
{
	struct mfs_scrub *c = arg;

	/* Of this thread alone. */
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->n; i++) {
		c->models[i].missing = true;
		c->models[i].due_ms = mfs_clock_boot_ms() + FIRST_MS;
	}
	while (atomic_load(&c->cancel) == 0) {
		int64_t wait_ms;
		bool full;
		size_t i = due(c, &full, &wait_ms);

		if (i == c->n) {
			wait_for(c, wait_ms);
			continue;
		}
		(void)pthread_mutex_unlock(&c->lock);
		look_and_plan(c, i, full);
		(void)pthread_mutex_lock(&c->lock);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- the outside --------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_scrub_new(struct mfs_serve *s, struct mfs_scrub **out, struct mfs_err *err)
{
	struct mfs_scrub *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	*out = NULL;
	if (c == NULL || (c->models = calloc(s->config->n_models + 1, sizeof(*c->models))) == NULL) {
		free(c);
		return mfs_fail(err, MFS_NO_MEMORY, "scrub");
	}
	c->s = s;
	c->n = s->config->n_models;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&c->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	*out = c;
	return MFS_OK;
}

enum mfs_code
mfs_scrub_start(struct mfs_scrub *c, struct mfs_err *err)
{
	if (pthread_create(&c->thread, NULL, run, c) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "scrub: thread");
	c->started = true;
	return MFS_OK;
}

void
mfs_scrub_stop(struct mfs_scrub *c)
{
	if (c == NULL || !c->started)
		return;
	(void)pthread_mutex_lock(&c->lock);
	atomic_store(&c->cancel, 1);
	(void)pthread_cond_broadcast(&c->wake);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_join(c->thread, NULL);
	c->started = false;
}

static void
kick(struct mfs_scrub *c, size_t i, bool failed_only)
{
	if (c == NULL)
		return;
	(void)pthread_mutex_lock(&c->lock);
	for (size_t k = 0; k < c->n; k++) {
		struct model *m = &c->models[k];

		if (i != k && i < c->n)
			continue;
		m->kicked = m->kicked || !failed_only || m->failures > 0;
		m->missing = m->missing || m->wrapless > 0;
		m->hurried = m->hurried || failed_only;
	}
	(void)pthread_cond_broadcast(&c->wake);
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_scrub_kick(struct mfs_scrub *c, size_t i)
{
	kick(c, i, false);
}

void
mfs_scrub_missing(struct mfs_scrub *c, size_t i)
{
	if (c == NULL || i >= c->n)
		return;
	(void)pthread_mutex_lock(&c->lock);
	c->models[i].missing = true;
	(void)pthread_cond_broadcast(&c->wake);
	(void)pthread_mutex_unlock(&c->lock);
}

void
mfs_scrub_hurry(struct mfs_scrub *c, size_t i)
{
	kick(c, i, true);
}
