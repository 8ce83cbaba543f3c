/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

struct mfs_pool {
	pthread_mutex_t lock; /* all below */
	pthread_cond_t work, done;
	struct mfs_pool_job *first, **last;
	unsigned max, started, busy; /* busy: jobs queued or running */
	bool stop;
	pthread_t threads[];
};

static void *
thread_run(void *arg)
{
	struct mfs_pool *p = arg;

	(void)pthread_mutex_lock(&p->lock);
	for (;;) {
		struct mfs_pool_job *j = p->first;
		bool pushed;

		if (j == NULL && p->stop)
			break;
		if (j == NULL) {
			(void)pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		if ((p->first = j->next) == NULL)
			p->last = &p->first;
		j->state = MFS_JOB_RUNNING;
		pushed = j->pushed; /* such a job may be anything once it ran */
		(void)pthread_mutex_unlock(&p->lock);
		j->fn(j->arg);
		(void)pthread_mutex_lock(&p->lock);
		if (!pushed)
			j->state = MFS_JOB_DONE;
		p->busy--;
		(void)pthread_cond_broadcast(&p->done);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct mfs_pool *
mfs_pool_new(unsigned threads)
{
	struct mfs_pool *p = threads > 0 ? calloc(1, sizeof(*p) + threads * sizeof(p->threads[0])) : NULL;

	if (p == NULL)
		return NULL;
	p->max = threads;
	p->last = &p->first;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->work, NULL);
	(void)pthread_cond_init(&p->done, NULL);
	return p;
}

void
mfs_pool_free(struct mfs_pool *p)
{
	if (p == NULL)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_broadcast(&p->work);
	(void)pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->started; i++)
		(void)pthread_join(p->threads[i], NULL);
	(void)pthread_cond_destroy(&p->work);
	(void)pthread_cond_destroy(&p->done);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

/* With p->lock. */
static void
start_thread(struct mfs_pool *p)
{
	if (p->busy >= p->started && p->started < p->max &&
		pthread_create(&p->threads[p->started], NULL, thread_run, p) == 0)
		p->started++;
}

/* With p->lock. */
static void
enqueue(struct mfs_pool *p, struct mfs_pool_job *j, bool pushed)
{
	j->next = NULL;
	j->pushed = pushed;
	j->state = MFS_JOB_QUEUED;
	*p->last = j;
	p->last = &j->next;
	p->busy++;
	(void)pthread_cond_signal(&p->work);
}

bool
mfs_pool_try(struct mfs_pool *p, struct mfs_pool_job *j)
{
	bool queued;

	if (p == NULL)
		return false;
	(void)pthread_mutex_lock(&p->lock);
	start_thread(p);
	if ((queued = p->busy < p->started))
		enqueue(p, j, false);
	(void)pthread_mutex_unlock(&p->lock);
	return queued;
}

bool
mfs_pool_push(struct mfs_pool *p, struct mfs_pool_job *j)
{
	bool queued;

	if (p == NULL)
		return false;
	(void)pthread_mutex_lock(&p->lock);
	start_thread(p);
	if ((queued = p->started > 0))
		enqueue(p, j, true);
	(void)pthread_mutex_unlock(&p->lock);
	return queued;
}

void
mfs_pool_wait(struct mfs_pool *p, struct mfs_pool_job *j)
{
	(void)pthread_mutex_lock(&p->lock);
	if (j->state == MFS_JOB_QUEUED) {
		struct mfs_pool_job **at = &p->first;

		while (*at != j)
			at = &(*at)->next;
		if ((*at = j->next) == NULL)
			p->last = at;
		p->busy--;
		(void)pthread_mutex_unlock(&p->lock);
		j->fn(j->arg);
		j->state = MFS_JOB_DONE;
		return;
	}
	while (j->state != MFS_JOB_DONE)
		(void)pthread_cond_wait(&p->done, &p->lock);
	(void)pthread_mutex_unlock(&p->lock);
}
