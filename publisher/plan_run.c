/* SPDX-License-Identifier: Apache-2.0 */
/* Every device of an inventory against every policy, on several threads. */
#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct run { /* shared; lock covers what is below it */
	struct mfs_plan *plan;
	struct mfs_inventory *inventory;
	int64_t now;
	FILE *list;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t turn; /* `written` or `stop` changed */
	uint64_t written;    /* blocks whose list is out */
	struct mfs_err err;  /* of the first that failed */
};

struct worker {
	pthread_t thread;
	struct run *run;
	struct mfs_plan_model *models; /* counts of this thread; the rest is borrowed from the plan */
	uint64_t devices;
	uint64_t *ids; size_t n_ids, room; /* hashes of ids, to find those that occur twice */
	struct mfs_inventory_device device;
	char *text; size_t n_text; /* list of the block in work */
	FILE *out;                 /* writes to it; NULL without a list */
};

/* ---- one device -------------------------------------------------------------------------------------- */

static bool
follows(const struct mfs_inventory_device *d, const char *model_id)
{
	for (size_t i = 0; i < d->n_models; i++)
		if (strcmp(d->models[i], model_id) == 0)
			return true;
	return !d->some_models;
}

/* What an inventory does not say counts as fitting: it knows labels and apps, and more if somebody added it. */
static bool
fits(const struct mfs_policy *p, const struct mfs_manifest *m, const struct mfs_inventory_device *d)
{
	static char any[] = "0.0.0";
	struct mfs_device c = d->compat;
	struct mfs_range runtime;

	if (m == NULL)
		return true;
	if (m->key_epoch < p->min_key_epoch ||
		((p->min_key_epoch == 0 || m->key_epoch == p->min_key_epoch) && m->release < p->min_release))
		return false;
	if (c.platform == NULL && m->compat.platforms != NULL)
		c.platform = m->compat.platforms[0];
	if (c.memory == 0)
		c.memory = UINT64_MAX;
	if (c.page_size == 0)
		c.page_size = m->compat.page_size;
	if (c.n_runtimes == 0 && m->compat.n_runtimes > 0) {
		runtime = m->compat.runtimes[0];
		runtime.min = runtime.min != NULL ? runtime.min : runtime.max != NULL ? runtime.max : any;
		c.runtimes = &runtime;
		c.n_runtimes = 1;
	}
	return mfs_compat_check(m, &c, NULL) == MFS_OK;
}

static enum mfs_code
device_ask(struct worker *w, struct mfs_plan_model *m, struct mfs_err *err)
{
	struct mfs_policy_device facts = w->device.facts;
	const struct mfs_policy *p = m->policy;
	char id[4 * MFS_INVENTORY_ID_MAX + 1];
	struct mfs_policy_choice c;
	enum mfs_code code;
	bool taken = false;
	size_t at = 0;

	for (size_t i = 0; i < w->device.n_channels; i++)
		if (strcmp(w->device.channels[i].name, p->model_id) == 0)
			facts.channel = w->device.channels[i].min;
	code = mfs_policy_select(p, &facts, w->run->now, &c, NULL, NULL);
	if (code != MFS_OK && code != MFS_NOT_SELECTED)
		return mfs_fail(err, code, "policy of %s", p->model_id);
	m->devices++;
	if (code == MFS_OK) {
		at = m->first[c.rollout - p->rollouts] + (size_t)(c.variant - c.rollout->variants);
		taken = fits(p, m->manifests[at], &w->device);
		(*(taken ? &m->taken[at] : &m->refused[at]))++;
	} else {
		m->none[c.why]++;
	}
	if (w->out == NULL)
		return MFS_OK;
	(void)mfs_escape(id, sizeof(id), w->device.facts.id, strlen(w->device.facts.id));
	if (taken)
		(void)fprintf(w->out, "%s\t%s\t%s\t%s\t%lld\t%s\t%u\n", id, p->model_id, c.variant->entry.version,
			c.variant->entry.variant, (long long)c.variant->entry.release, c.rollout->id, c.bucket);
	else
		(void)fprintf(w->out, "%s\t%s\t-\t%s\n", id, p->model_id,
			code == MFS_OK ? "does not fit" : p->n_rollouts == 0 ? "no rollouts" : mfs_policy_why_text(c.why));
	return MFS_OK;
}

/* FNV-1a: two different ids of a fleet that share 64 bits would only be a wrong warning. */
static uint64_t
id_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h;
}

static enum mfs_code
id_note(struct worker *w, const char *id, struct mfs_err *err)
{
	if (w->n_ids == w->room) {
		const size_t room = w->room == 0 ? 4096 : 2 * w->room;
		uint64_t *p = reallocarray(w->ids, room, sizeof(*p));

		if (p == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%zu devices", room);
		w->ids = p;
		w->room = room;
	}
	w->ids[w->n_ids++] = id_hash(id);
	return MFS_OK;
}

static enum mfs_code
line_work(struct worker *w, char *line, size_t len, struct mfs_err *err)
{
	struct mfs_plan *plan = w->run->plan;
	enum mfs_code code;

	if ((code = mfs_inventory_device(line, len, &w->device, err)) != MFS_OK ||
		(code = id_note(w, w->device.facts.id, err)) != MFS_OK)
		return code;
	w->devices++;
	for (size_t i = 0; i < plan->n_models; i++)
		if (follows(&w->device, plan->models[i].policy->model_id) &&
			(code = device_ask(w, &w->models[i], err)) != MFS_OK)
			return code;
	return MFS_OK;
}

static bool
blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

static enum mfs_code
block_work(struct worker *w, const struct mfs_inventory_block *b, struct mfs_err *err)
{
	char *p = b->text, *end = b->text + b->len;

	for (uint64_t n = b->line; p < end; n++) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		const size_t len = (size_t)((stop != NULL ? stop : end) - p);

		if (!blank(p, len) && line_work(w, p, len, err) != MFS_OK)
			return mfs_err_context(err, "--devices: line %llu: ", (unsigned long long)n);
		p += len + 1;
	}
	return MFS_OK;
}

/* ---- threads -------------------------------------------------------------------------------------------- */

/* The list of block `number`, once all before it are out. */
static enum mfs_code
block_write(struct worker *w, uint64_t number, struct mfs_err *err)
{
	struct run *r = w->run;
	enum mfs_code code = MFS_OK;

	if (fflush(w->out) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "--list");
	(void)pthread_mutex_lock(&r->lock);
	while (r->written != number && !atomic_load(&r->stop))
		(void)pthread_cond_wait(&r->turn, &r->lock);
	if (r->written == number) {
		if (w->n_text > 0 && fwrite(w->text, 1, w->n_text, r->list) != w->n_text)
			code = mfs_fail_sys(err, MFS_IO, "--list");
		r->written++;
		(void)pthread_cond_broadcast(&r->turn);
	}
	(void)pthread_mutex_unlock(&r->lock);
	rewind(w->out);
	return code;
}

static void
run_stop(struct run *r, const struct mfs_err *err)
{
	(void)pthread_mutex_lock(&r->lock);
	if (!atomic_exchange(&r->stop, true))
		r->err = *err;
	(void)pthread_cond_broadcast(&r->turn);
	(void)pthread_mutex_unlock(&r->lock);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct mfs_inventory_block b = { 0 };
	struct mfs_err err = MFS_ERR_INIT;

	while (!atomic_load(&w->run->stop)) {
		if (mfs_inventory_next(w->run->inventory, &b, &err) != MFS_OK) {
			run_stop(w->run, &err);
			break;
		}
		if (b.len == 0)
			break;
		if (block_work(w, &b, &err) != MFS_OK || (w->out != NULL && block_write(w, b.number, &err) != MFS_OK)) {
			run_stop(w->run, &err);
			break;
		}
	}
	free(b.text);
	return NULL;
}

/* Counters of its own, so that threads share nothing while they count. */
static enum mfs_code
worker_init(struct worker *w, struct run *r, struct mfs_err *err)
{
	const struct mfs_plan *p = r->plan;

	*w = (struct worker){ .run = r };
	if ((w->models = calloc(p->n_models + 1, sizeof(*w->models))) == NULL ||
		(r->list != NULL && (w->out = open_memstream(&w->text, &w->n_text)) == NULL))
		return mfs_fail(err, MFS_NO_MEMORY, "plan");
	for (size_t i = 0; i < p->n_models; i++) {
		struct mfs_plan_model *m = &w->models[i];

		*m = (struct mfs_plan_model){ .policy = p->models[i].policy, .manifests = p->models[i].manifests,
			.first = p->models[i].first, .n_variants = p->models[i].n_variants };
		m->taken = calloc(m->n_variants + 1, sizeof(*m->taken));
		m->refused = calloc(m->n_variants + 1, sizeof(*m->refused));
		if (m->taken == NULL || m->refused == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "plan");
	}
	return MFS_OK;
}

static void
worker_clear(struct worker *w)
{
	for (size_t i = 0; w->models != NULL && i < w->run->plan->n_models; i++) {
		free(w->models[i].taken);
		free(w->models[i].refused);
	}
	if (w->out != NULL)
		(void)fclose(w->out);
	free(w->models);
	free(w->text);
	free(w->ids);
}

static void
counts_add(struct mfs_plan *p, const struct worker *w)
{
	p->devices += w->devices;
	for (size_t i = 0; i < p->n_models; i++) {
		struct mfs_plan_model *to = &p->models[i];
		const struct mfs_plan_model *from = &w->models[i];

		to->devices += from->devices;
		for (size_t k = 0; k < to->n_variants; k++) {
			to->taken[k] += from->taken[k];
			to->refused[k] += from->refused[k];
		}
		for (size_t k = 0; k <= MFS_WHY_MINIMUM; k++)
			to->none[k] += from->none[k];
	}
}

static int
hash_order(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static enum mfs_code
twice_count(struct mfs_plan *p, const struct worker *w, unsigned threads, struct mfs_err *err)
{
	mfs_autofree uint64_t *all = NULL;
	size_t n = 0;

	if (p->devices < 2)
		return MFS_OK;
	if ((all = calloc((size_t)p->devices, sizeof(*all))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%llu devices", (unsigned long long)p->devices);
	for (unsigned i = 0; i < threads; i++) {
		if (w[i].n_ids > 0)
			memcpy(all + n, w[i].ids, w[i].n_ids * sizeof(*all));
		n += w[i].n_ids;
	}
	qsort(all, n, sizeof(*all), hash_order);
	for (size_t i = 1; i < n; i++)
		p->twice += all[i] == all[i - 1] && (i == 1 || all[i] != all[i - 2]);
	return MFS_OK;
}

static enum mfs_code
threads_run(struct run *r, struct worker *w, unsigned threads, struct mfs_err *err)
{
	unsigned started = 0;
	enum mfs_code code = MFS_OK;

	for (unsigned i = 0; i < threads && code == MFS_OK; i++)
		code = worker_init(&w[i], r, err);
	while (code == MFS_OK && started < threads) {
		if (pthread_create(&w[started].thread, NULL, work, &w[started]) != 0) {
			code = mfs_fail(err, MFS_NO_MEMORY, "thread %u", started);
			run_stop(r, err);
		} else {
			started++;
		}
	}
	for (unsigned i = 0; i < started; i++)
		(void)pthread_join(w[i].thread, NULL);
	if (code == MFS_OK && atomic_load(&r->stop)) {
		*err = r->err;
		code = err->code;
	}
	if (code != MFS_OK)
		return code;
	for (unsigned i = 0; i < threads; i++)
		counts_add(r->plan, &w[i]);
	return twice_count(r->plan, w, threads, err);
}

enum mfs_code
mfs_plan_run(struct mfs_plan *p, struct mfs_inventory *v, int64_t now, unsigned threads, FILE *list, struct mfs_err *err)
{
	struct run r = { .plan = p, .inventory = v, .now = now, .list = list, .err = MFS_ERR_INIT };
	mfs_autofree struct worker *w = calloc(threads, sizeof(*w));
	enum mfs_code code;

	if (w == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%u threads", threads);
	for (unsigned i = 0; i < threads; i++)
		w[i].run = &r;
	atomic_init(&r.stop, false);
	(void)pthread_mutex_init(&r.lock, NULL);
	(void)pthread_cond_init(&r.turn, NULL);
	code = threads_run(&r, w, threads, err);
	for (unsigned i = 0; i < threads; i++)
		worker_clear(&w[i]);
	(void)pthread_cond_destroy(&r.turn);
	(void)pthread_mutex_destroy(&r.lock);
	return code;
}
