/* SPDX-License-Identifier: Apache-2.0 */
#include "lanes.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

struct mfs_lanes {
	pthread_mutex_t lock;
	pthread_cond_t moved; /* a stage was passed, or stop was set */
	uint64_t batches;
	uint64_t next;              /* lock */
	uint64_t turn[MFS_STAGES];  /* lock */
	bool stop;                  /* lock */
	uint64_t failed_batch;      /* lock; valid with stop */
	struct mfs_err err;         /* lock */
	mfs_lane_fn fn;
	void *arg;
};

struct lane {
	struct mfs_lanes *l;
	unsigned worker;
	pthread_t thread;
};

static volatile sig_atomic_t interrupted;

void
mfs_interrupt(int signal_number)
{
	interrupted = signal_number;
}

int
mfs_interrupted(void)
{
	return (int)interrupted;
}

unsigned
mfs_lanes_workers(uint64_t batches)
{
	cpu_set_t set;
	unsigned n = 1;

	if (batches < 2)
		return 1;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	n++; /* one more than cores: a worker that waits for its turn leaves no core idle */
	if (n > MFS_LANES_MAX)
		n = MFS_LANES_MAX;
	return n > batches ? (unsigned)batches : n;
}

static void
lanes_fail(struct mfs_lanes *l, uint64_t batch, const struct mfs_err *err)
{
	(void)pthread_mutex_lock(&l->lock);
	if (!l->stop || batch < l->failed_batch) {
		l->err = *err;
		l->failed_batch = batch;
	}
	l->stop = true;
	(void)pthread_cond_broadcast(&l->moved);
	(void)pthread_mutex_unlock(&l->lock);
}

static bool
lanes_next(struct mfs_lanes *l, uint64_t *batch)
{
	bool more;

	(void)pthread_mutex_lock(&l->lock);
	more = !l->stop && l->next < l->batches;
	*batch = l->next;
	if (more)
		l->next++;
	(void)pthread_mutex_unlock(&l->lock);
	return more;
}

static void *
lane_main(void *arg)
{
	const struct lane *lane = arg;
	struct mfs_lanes *l = lane->l;
	uint64_t batch;

	while (lanes_next(l, &batch)) {
		struct mfs_err err = MFS_ERR_INIT;
		enum mfs_code code;

		if (interrupted != 0) {
			errno = EINTR;
			code = mfs_fail_sys(&err, MFS_IO, "stopped by a signal");
		} else {
			code = l->fn(l->arg, l, lane->worker, batch, &err);
		}
		if (code != MFS_OK)
			lanes_fail(l, batch, &err);
	}
	return NULL;
}

bool
mfs_lane_turn(struct mfs_lanes *l, enum mfs_lane_stage stage, uint64_t batch)
{
	bool go;

	(void)pthread_mutex_lock(&l->lock);
	while (!l->stop && l->turn[stage] != batch)
		(void)pthread_cond_wait(&l->moved, &l->lock);
	go = !l->stop;
	(void)pthread_mutex_unlock(&l->lock);
	return go;
}

void
mfs_lane_pass(struct mfs_lanes *l, enum mfs_lane_stage stage)
{
	(void)pthread_mutex_lock(&l->lock);
	l->turn[stage]++;
	(void)pthread_cond_broadcast(&l->moved);
	(void)pthread_mutex_unlock(&l->lock);
}

enum mfs_code
mfs_lanes_run(unsigned workers, uint64_t batches, mfs_lane_fn fn, void *arg, struct mfs_err *err)
{
	struct mfs_lanes l = { .batches = batches, .fn = fn, .arg = arg };
	struct lane lanes[MFS_LANES_MAX];
	enum mfs_code code = MFS_OK;
	unsigned started = 0;

	if (workers > MFS_LANES_MAX)
		workers = MFS_LANES_MAX;
	if (pthread_mutex_init(&l.lock, NULL) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "threads");
	if (pthread_cond_init(&l.moved, NULL) != 0) {
		(void)pthread_mutex_destroy(&l.lock);
		return mfs_fail(err, MFS_NO_MEMORY, "threads");
	}
	/* The caller is worker 0; fewer threads than asked for is slower, not a failure. */
	for (unsigned i = 1; i < workers; i++) {
		lanes[i] = (struct lane){ .l = &l, .worker = i };
		if (pthread_create(&lanes[i].thread, NULL, lane_main, &lanes[i]) != 0)
			break;
		started = i;
	}
	lanes[0] = (struct lane){ .l = &l, .worker = 0 };
	(void)lane_main(&lanes[0]);
	for (unsigned i = 1; i <= started; i++)
		(void)pthread_join(lanes[i].thread, NULL);
	if (l.stop) {
		code = l.err.code;
		if (err != NULL)
			*err = l.err;
	}
	(void)pthread_cond_destroy(&l.moved);
	(void)pthread_mutex_destroy(&l.lock);
	return code;
}
