/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "io.h"
#include "pins.h"

#define UID_LOADS (MFS_LOADS / 2) /* of one user but root: nobody may keep the others from being pinned */

_Static_assert(MFS_LOAD_SEEN * 8 >= MFS_FILES_MAX, "a bit for each file");

struct mfs_pins {
	const struct mfs_config *config;
	struct mfs_shm_pins *shm;
	int64_t (*clock_ms)(void);
	pthread_mutex_t lock; /* of the loads and swaps in shm, among the threads of this serve */
	pthread_cond_t changed;
};

static void
load_clear(struct mfs_shm_load *l)
{
	atomic_store(&l->last_ms, 0);
}

enum mfs_code
mfs_pins_new(const struct mfs_config *c, struct mfs_shm_pins *shm, int64_t (*clock_ms)(void), struct mfs_pins **out,
	struct mfs_err *err)
{
	struct mfs_pins *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	*out = NULL;
	if (p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "pins of %zu models", c->n_models);
	p->config = c;
	p->shm = shm;
	p->clock_ms = clock_ms != NULL ? clock_ms : mfs_clock_boot_ms;
	(void)pthread_mutex_init(&p->lock, NULL);
	/* Who sets the clock back holds up no swap, nor the thread that brings revocations and waits for its loaders. */
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	for (size_t i = 0; i < MFS_LOADS; i++) {
		struct mfs_shm_load *l = &shm->loads[i];

		/* What a predecessor died in the midst of changing. */
		if (l->model >= c->n_models || l->n_files > MFS_FILES_MAX)
			load_clear(l);
		l->opened = 0;
		for (size_t k = 0; l->last_ms != 0 && k < (l->n_files + 7) / 8; k++)
			l->opened += (uint32_t)__builtin_popcount(shm->seen[i][k]);
	}
	*out = p;
	return MFS_OK;
}

void
mfs_pins_free(struct mfs_pins *p)
{
	if (p == NULL)
		return;
	(void)pthread_cond_destroy(&p->changed);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static struct mfs_process
process_of(const struct mfs_shm_load *l)
{
	return (struct mfs_process){ .id = l->process, .tgid = (pid_t)l->tgid, .by_proc = l->by_proc != 0 };
}

static bool
is_of(const struct mfs_shm_load *l, size_t model, const struct mfs_process *who)
{
	const struct mfs_process p = process_of(l);

	return l->last_ms != 0 && l->model == model && mfs_process_equal(&p, who);
}

static bool
is_loading(const struct mfs_pins *p, const struct mfs_shm_load *l, int64_t now)
{
	return l->last_ms != 0 && l->opened < l->n_files && now - l->last_ms < p->config->models[l->model].pin_window_ms;
}

static bool
is_over(const struct mfs_pins *p, const struct mfs_shm_load *l, int64_t now)
{
	return l->last_ms == 0 || now - l->last_ms >= p->config->models[l->model].pin_window_ms;
}

/*
 * The load of this process and version: the one it has, else a free one, one that ended by its
 * window, or the oldest that has opened everything. NULL: none, or too many of this user.
 */
static struct mfs_shm_load *
load_of(struct mfs_pins *p, size_t model, const struct mfs_process *who, uid_t uid, const struct mfs_sha256 *manifest,
	size_t n_files, int64_t now)
{
	struct mfs_shm_load *spare = NULL, *done = NULL;
	unsigned own = 0;

	for (size_t i = 0; i < MFS_LOADS; i++) {
		struct mfs_shm_load *l = &p->shm->loads[i];

		if (is_of(l, model, who) && mfs_sha256_equal(&l->manifest, manifest))
			return l;
		if (is_over(p, l, now))
			spare = spare != NULL ? spare : l;
		else if (is_loading(p, l, now))
			own += l->uid == uid;
		else if (done == NULL || l->last_ms < done->last_ms)
			done = l;
	}
	if (spare == NULL)
		spare = done;
	if (spare == NULL || (uid != 0 && own >= UID_LOADS))
		return NULL;
	load_clear(spare);
	memset(p->shm->seen[spare - p->shm->loads], 0, (n_files + 7) / 8);
	spare->process = who->id;
	spare->tgid = (int32_t)who->tgid;
	spare->by_proc = who->by_proc;
	spare->uid = uid;
	spare->manifest = *manifest;
	spare->model = (uint32_t)model;
	spare->n_files = (uint32_t)n_files;
	spare->opened = 0;
	spare->serial = atomic_fetch_add(&p->shm->serial, 1) + 1;
	return spare;
}

uint64_t
mfs_pins_opened(struct mfs_pins *p, size_t model, pid_t pid, uid_t uid, const struct mfs_sha256 *manifest,
	size_t n_files, size_t file)
{
	enum mfs_pin_mode mode = p->config->models[model].pin;
	struct mfs_process who;
	uint64_t owner = 0;
	struct mfs_shm_load *l;
	int64_t now;

	if (n_files < 2 || file >= n_files || mode == MFS_PIN_OFF || p->config->models[model].pin_window_ms <= 0 ||
		!mfs_process_of(pid, mode == MFS_PIN_CGROUP, &who))
		return 0;
	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	if ((l = load_of(p, model, &who, uid, manifest, n_files, now)) != NULL) {
		uint8_t *seen = p->shm->seen[l - p->shm->loads];

		/* That load is over, by its window or because it had everything: this open begins another. */
		if (l->last_ms != 0 && (now - l->last_ms >= p->config->models[model].pin_window_ms || l->opened >= l->n_files)) {
			memset(seen, 0, (n_files + 7) / 8);
			l->opened = 0;
		}
		if ((seen[file / 8] & 1u << file % 8) == 0) {
			seen[file / 8] |= (uint8_t)(1u << file % 8);
			l->opened++;
		}
		l->last_ms = now;
		owner = l->serial * MFS_LOADS + (uint64_t)(l - p->shm->loads) + 1;
		(void)pthread_cond_broadcast(&p->changed);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return owner;
}

void
mfs_pins_closed(struct mfs_pins *p, uint64_t owner)
{
	struct mfs_shm_load *l;

	if (owner == 0)
		return;
	owner--;
	(void)pthread_mutex_lock(&p->lock);
	l = &p->shm->loads[owner % MFS_LOADS];
	/* A close prolongs a load, it never begins one. */
	if (l->serial == owner / MFS_LOADS && is_loading(p, l, p->clock_ms()))
		l->last_ms = p->clock_ms();
	(void)pthread_mutex_unlock(&p->lock);
}

void
mfs_pins_swapped(struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest)
{
	struct mfs_shm_swap *swaps = p->shm->swaps[model], *at = &swaps[0];
	int64_t now;

	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	for (size_t i = 0; i < MFS_SWAPS; i++) {
		if (mfs_sha256_equal(&swaps[i].manifest, manifest)) {
			at = &swaps[i];
			break;
		}
		if (swaps[i].at_ms < at->at_ms)
			at = &swaps[i];
	}
	atomic_store(&at->at_ms, 0);
	at->manifest = *manifest;
	atomic_store(&at->at_ms, now);
	atomic_store(&p->shm->last_swap_ms[model], now);
	(void)pthread_mutex_unlock(&p->lock);
}

bool
mfs_pins_young(struct mfs_pins *p, size_t model)
{
	int64_t at = atomic_load(&p->shm->last_swap_ms[model]);

	return at != 0 && p->config->models[model].pin != MFS_PIN_OFF && p->clock_ms() - at < MFS_PIN_SWAP_MS;
}

/* When this manifest left `active`, 0 if it did not within 60 s. */
static int64_t
left_at(const struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest, int64_t now)
{
	const struct mfs_shm_swap *swaps = p->shm->swaps[model];

	for (size_t i = 0; i < MFS_SWAPS; i++)
		if (swaps[i].at_ms != 0 && mfs_sha256_equal(&swaps[i].manifest, manifest))
			return now - swaps[i].at_ms < MFS_PIN_SWAP_MS ? swaps[i].at_ms : 0;
	return 0;
}

bool
mfs_pins_held(struct mfs_pins *p, size_t model, pid_t pid, struct mfs_sha256 *manifest)
{
	const struct mfs_shm_load *best = NULL;
	struct mfs_process who;
	int64_t now;

	if (!mfs_pins_young(p, model) ||
		!mfs_process_of(pid, p->config->models[model].pin == MFS_PIN_CGROUP, &who))
		return false;
	(void)pthread_mutex_lock(&p->lock);
	now = p->clock_ms();
	for (size_t i = 0; i < MFS_LOADS; i++) {
		const struct mfs_shm_load *l = &p->shm->loads[i];

		if (is_of(l, model, &who) && is_loading(p, l, now) &&
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
		for (size_t i = 0; i < MFS_LOADS && !found; i++)
			found = p->shm->loads[i].model == model && is_loading(p, &p->shm->loads[i], now) &&
				mfs_sha256_equal(&p->shm->loads[i].manifest, manifest);
	(void)pthread_mutex_unlock(&p->lock);
	return found;
}

void
mfs_pins_end(struct mfs_pins *p, size_t model)
{
	(void)pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < MFS_LOADS; i++)
		if (p->shm->loads[i].last_ms != 0 && p->shm->loads[i].model == model)
			load_clear(&p->shm->loads[i]);
	for (size_t i = 0; i < MFS_SWAPS; i++)
		atomic_store(&p->shm->swaps[model][i].at_ms, 0);
	atomic_store(&p->shm->last_swap_ms[model], 0);
	(void)pthread_cond_broadcast(&p->changed);
	(void)pthread_mutex_unlock(&p->lock);
}

/* Drop loads of processes that ended, without the lock across system calls; true when any is left. */
static bool
any_loading(struct mfs_pins *p, size_t model)
{
	struct mfs_process who;
	bool left = false;

	for (size_t i = 0; i < MFS_LOADS; i++) {
		struct mfs_shm_load *l = &p->shm->loads[i];
		uint64_t serial;
		bool loading;
		int64_t now;

		(void)pthread_mutex_lock(&p->lock);
		now = p->clock_ms();
		loading = l->last_ms != 0 && l->model == model && is_loading(p, l, now) &&
			left_at(p, model, &l->manifest, now) != 0;
		who = process_of(l);
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

bool
mfs_pins_any(struct mfs_pins *p, size_t model)
{
	return mfs_pins_young(p, model) && any_loading(p, model);
}

void
mfs_pins_wait(struct mfs_pins *p, size_t model)
{
	while (mfs_pins_any(p, model)) {
		struct timespec until;

		(void)clock_gettime(CLOCK_MONOTONIC, &until);
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
