/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "io.h"
#include "pins.h"

#define LOADS_MAX 1024u /* processes loading something at one time */
#define SWAPS_MAX 8u    /* versions of one model that left `active` within 60 s */

struct load {
	struct mfs_process who;
	struct mfs_sha256 manifest;
	size_t model;
	int64_t last_ms; /* 0: free */
	uint64_t serial; /* high bits of an owner: an owner of an earlier load does nothing */
	uint32_t n_files, opened;
	uint8_t *seen; /* one bit a file */
};

struct swap {
	struct mfs_sha256 manifest;
	int64_t at_ms; /* 0: free */
};

struct model {
	_Atomic int64_t last_swap_ms; /* 0: none, or every load was ended */
	struct swap swaps[SWAPS_MAX];
};

struct mfs_pins {
	const struct mfs_config *config;
	int64_t (*clock_ms)(void);
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct load loads[LOADS_MAX];
	uint64_t serial;
	size_t n_models;
	struct model models[];
};

enum mfs_code
mfs_pins_new(const struct mfs_config *c, int64_t (*clock_ms)(void), struct mfs_pins **out, struct mfs_err *err)
{
	struct mfs_pins *p = calloc(1, sizeof(*p) + c->n_models * sizeof(p->models[0]));

	*out = NULL;
	if (p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "pins of %zu models", c->n_models);
	p->config = c;
	p->clock_ms = clock_ms != NULL ? clock_ms : mfs_clock_boot_ms;
	p->n_models = c->n_models;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->changed, NULL);
	*out = p;
	return MFS_OK;
}

void
mfs_pins_free(struct mfs_pins *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < LOADS_MAX; i++)
		free(p->loads[i].seen);
	(void)pthread_cond_destroy(&p->changed);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static void
load_clear(struct load *l)
{
	free(l->seen);
	*l = (struct load){ .last_ms = 0 };
}

static bool
is_loading(const struct mfs_pins *p, const struct load *l, int64_t now)
{
	return l->last_ms != 0 && l->opened < l->n_files && now - l->last_ms < p->config->models[l->model].pin_window_ms;
}

/* The load of this process and version: the one it has, a free one, or the oldest that ended. */
static struct load *
load_of(struct mfs_pins *p, size_t model, const struct mfs_process *who, const struct mfs_sha256 *manifest,
	size_t n_files, int64_t now)
{
	struct load *spare = NULL;

	for (size_t i = 0; i < LOADS_MAX; i++) {
		struct load *l = &p->loads[i];

		if (l->last_ms != 0 && l->model == model && mfs_process_equal(&l->who, who) &&
			mfs_sha256_equal(&l->manifest, manifest))
			return l;
		/* A load that ended by its window starts anew if it is seen again: keep the others. */
		if (spare == NULL && (l->last_ms == 0 || now - l->last_ms >= p->config->models[l->model].pin_window_ms))
			spare = l;
	}
	if (spare == NULL)
		return NULL;
	load_clear(spare);
	if ((spare->seen = calloc((n_files + 7) / 8, 1)) == NULL)
		return NULL;
	spare->who = *who;
	spare->manifest = *manifest;
	spare->model = model;
	spare->n_files = (uint32_t)n_files;
	spare->serial = ++p->serial;
	return spare;
}

uint64_t
mfs_pins_opened(struct mfs_pins *p, size_t model, pid_t pid, const struct mfs_sha256 *manifest, size_t n_files,
	size_t file)
{
	enum mfs_pin_mode mode = p->config->models[model].pin;
	struct mfs_process who;
	uint64_t owner = 0;
	struct load *l;
	int64_t now;

	if (n_files < 2 || file >= n_files || mode == MFS_PIN_OFF || p->config->models[model].pin_window_ms <= 0 ||
		!mfs_process_of(pid, mode == MFS_PIN_CGROUP, &who))
		return 0;
	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	if ((l = load_of(p, model, &who, manifest, n_files, now)) != NULL) {
		if (l->last_ms != 0 && now - l->last_ms >= p->config->models[model].pin_window_ms) {
			memset(l->seen, 0, (n_files + 7) / 8); /* that load is over: this open begins another */
			l->opened = 0;
		}
		if ((l->seen[file / 8] & 1u << file % 8) == 0) {
			l->seen[file / 8] |= (uint8_t)(1u << file % 8);
			l->opened++;
		}
		l->last_ms = now;
		owner = l->serial * LOADS_MAX + (uint64_t)(l - p->loads) + 1;
		(void)pthread_cond_broadcast(&p->changed);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return owner;
}

void
mfs_pins_closed(struct mfs_pins *p, uint64_t owner)
{
	struct load *l;

	if (owner == 0)
		return;
	owner--;
	(void)pthread_mutex_lock(&p->lock);
	l = &p->loads[owner % LOADS_MAX];
	/* A close prolongs a load, it never begins one. */
	if (l->serial == owner / LOADS_MAX && is_loading(p, l, p->clock_ms()))
		l->last_ms = p->clock_ms();
	(void)pthread_mutex_unlock(&p->lock);
}

void
mfs_pins_swapped(struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest)
{
	struct model *m = &p->models[model];
	struct swap *at = &m->swaps[0];
	int64_t now;

	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	for (size_t i = 0; i < SWAPS_MAX; i++) {
		if (mfs_sha256_equal(&m->swaps[i].manifest, manifest)) {
			at = &m->swaps[i];
			break;
		}
		if (m->swaps[i].at_ms < at->at_ms)
			at = &m->swaps[i];
	}
	*at = (struct swap){ *manifest, now };
	atomic_store(&m->last_swap_ms, now);
	(void)pthread_mutex_unlock(&p->lock);
}

bool
mfs_pins_young(struct mfs_pins *p, size_t model)
{
	int64_t at = atomic_load(&p->models[model].last_swap_ms);

	return at != 0 && p->config->models[model].pin != MFS_PIN_OFF && p->clock_ms() - at < MFS_PIN_SWAP_MS;
}

/* When this manifest left `active`, 0 if it did not within 60 s. */
static int64_t
left_at(const struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest, int64_t now)
{
	const struct model *m = &p->models[model];

	for (size_t i = 0; i < SWAPS_MAX; i++)
		if (m->swaps[i].at_ms != 0 && mfs_sha256_equal(&m->swaps[i].manifest, manifest))
			return now - m->swaps[i].at_ms < MFS_PIN_SWAP_MS ? m->swaps[i].at_ms : 0;
	return 0;
}

bool
mfs_pins_held(struct mfs_pins *p, size_t model, pid_t pid, struct mfs_sha256 *manifest)
{
	const struct load *best = NULL;
	struct mfs_process who;
	int64_t now;

	if (!mfs_pins_young(p, model) ||
		!mfs_process_of(pid, p->config->models[model].pin == MFS_PIN_CGROUP, &who))
		return false;
	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	for (size_t i = 0; i < LOADS_MAX; i++) {
		const struct load *l = &p->loads[i];

		if (l->last_ms != 0 && l->model == model && mfs_process_equal(&l->who, &who) && is_loading(p, l, now) &&
			left_at(p, model, &l->manifest, now) != 0 && (best == NULL || l->last_ms > best->last_ms))
			best = l;
	}
	if (best != NULL)
		*manifest = best->manifest;
	(void)pthread_mutex_unlock(&p->lock);
	return best != NULL;
}

bool
mfs_pins_loading(struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest)
{
	bool found = false;
	int64_t now;

	if (!mfs_pins_young(p, model))
		return false;
	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	if (left_at(p, model, manifest, now) != 0)
		for (size_t i = 0; i < LOADS_MAX && !found; i++)
			found = p->loads[i].model == model && is_loading(p, &p->loads[i], now) &&
				mfs_sha256_equal(&p->loads[i].manifest, manifest);
	(void)pthread_mutex_unlock(&p->lock);
	return found;
}

void
mfs_pins_end(struct mfs_pins *p, size_t model)
{
	(void)pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < LOADS_MAX; i++)
		if (p->loads[i].last_ms != 0 && p->loads[i].model == model)
			load_clear(&p->loads[i]);
	memset(p->models[model].swaps, 0, sizeof(p->models[model].swaps));
	atomic_store(&p->models[model].last_swap_ms, 0);
	(void)pthread_cond_broadcast(&p->changed);
	(void)pthread_mutex_unlock(&p->lock);
}

/* Drop loads of processes that ended, without the lock across system calls; true when any is left. */
static bool
any_loading(struct mfs_pins *p, size_t model)
{
	struct mfs_process who;
	bool left = false;

	for (size_t i = 0; i < LOADS_MAX; i++) {
		struct load *l = &p->loads[i];
		uint64_t serial;
		bool loading;
		int64_t now;

		(void)pthread_mutex_lock(&p->lock);
		now = p->clock_ms();
		loading = l->last_ms != 0 && l->model == model && is_loading(p, l, now) &&
			left_at(p, model, &l->manifest, now) != 0;
		who = l->who;
		serial = l->serial;
		(void)pthread_mutex_unlock(&p->lock);
		if (!loading)
			continue;
		if (mfs_process_alive(&who)) {
			left = true;
			continue;
		}
		(void)pthread_mutex_lock(&p->lock);
		if (l->serial == serial)
			load_clear(l);
		(void)pthread_mutex_unlock(&p->lock);
	}
	return left;
}

void
mfs_pins_wait(struct mfs_pins *p, size_t model)
{
	while (mfs_pins_young(p, model) && any_loading(p, model)) {
		struct timespec until;

		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100 * 1000000; /* a process ends without telling: look every 100 ms */
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		(void)pthread_mutex_lock(&p->lock);
		(void)pthread_cond_timedwait(&p->changed, &p->lock, &until);
		(void)pthread_mutex_unlock(&p->lock);
	}
}
