/* SPDX-License-Identifier: Apache-2.0 */
/* control_work.c - the workers of the control socket: changes in some, checks (minutes long) in another. */
#include "control_io.h"

#include <string.h>
#include <sys/eventfd.h>

#include "io.h"

static bool
is_verify(const struct job *j)
{
	return j->req.command == MFS_CTL_VERIFY;
}

/* A way back must not wait for an installation that waits for loaders, or for its health check. */
static void
hurry(struct mfs_control *c, const struct conn *k)
{
	bool unpin = false;

	if (k->req.command != MFS_CTL_ROLLBACK && !(k->req.command == MFS_CTL_MARK && !k->req.good))
		return;
	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = WORKER_CHANGE; i < WORKERS; i++)
		if (c->workers[i].running.serial != 0 && c->workers[i].running.model == k->model) {
			atomic_store(&c->workers[i].cancel, 1);
			unpin = true;
		}
	(void)pthread_mutex_unlock(&c->lock);
	if (unpin && c->s->tree != NULL)
		mfs_tree_unpin(c->s->tree, k->model);
}

void
mfs_control_job(struct mfs_control *c, struct conn *k)
{
	struct job j = { .req = k->req, .model = k->model, .serial = k->serial };
	size_t alike = 0;
	bool full;

	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->n_queue; i++)
		alike += is_verify(&c->queue[i]) == is_verify(&j);
	full = alike >= CONTROL_JOBS;
	if (!full)
		c->queue[c->n_queue++] = j;
	(void)pthread_cond_broadcast(&c->added);
	(void)pthread_mutex_unlock(&c->lock);
	hurry(c, k);
	if (full) {
		mfs_conn_finish(k, MFS_RATE_LIMITED, MFS_EXIT_RETRY, "too many commands are waiting; try again later", NULL);
		return;
	}
	k->state = CONN_WORKING;
	k->deadline = 0;
	k->said = mfs_clock_mono_ms();
}

/* Hold lock. The first job that this worker may take now: never two changes of one model at a time. */
static bool
job_take(struct worker *w)
{
	struct mfs_control *c = w->c;

	for (size_t i = 0; i < c->n_queue; i++) {
		bool busy = is_verify(&c->queue[i]) != (w == &c->workers[WORKER_VERIFY]);

		for (size_t k = WORKER_CHANGE; k < WORKERS && !busy && !is_verify(&c->queue[i]); k++)
			busy = c->workers[k].running.serial != 0 && c->workers[k].running.model == c->queue[i].model;
		if (busy)
			continue;
		w->running = c->queue[i];
		memmove(&c->queue[i], &c->queue[i + 1], (--c->n_queue - i) * sizeof(c->queue[0]));
		return true;
	}
	return false;
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct mfs_control *c = w->c;

	if (w == &c->workers[WORKER_CHANGE])
		mfs_control_recount(c);
	(void)pthread_mutex_lock(&c->lock);
	for (;;) {
		struct job j;

		while (!atomic_load(&c->stop) && !job_take(w))
			(void)pthread_cond_wait(&c->added, &c->lock);
		if (atomic_load(&c->stop))
			break;
		j = w->running;
		atomic_store(&w->cancel, 0);
		(void)pthread_mutex_unlock(&c->lock);
		mfs_control_run(w, &j);
		(void)pthread_mutex_lock(&c->lock);
		w->running.serial = 0;
		/* What waited for this model may be taken by a worker that sleeps. */
		(void)pthread_cond_broadcast(&c->added);
		if (c->n_results < sizeof(c->results) / sizeof(c->results[0]))
			c->results[c->n_results++] = j;
		else
			json_decref(j.body);
		(void)eventfd_write(c->wake, 1);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

bool
mfs_control_workers_start(struct mfs_control *c)
{
	bool ok = true;

	for (size_t i = 0; i < WORKERS; i++) {
		c->workers[i].c = c;
		c->workers[i].started = pthread_create(&c->workers[i].thread, NULL, worker_main, &c->workers[i]) == 0;
		ok = ok && c->workers[i].started;
	}
	return ok;
}
