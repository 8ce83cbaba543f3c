/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "mfs_config.h"

#define GRACE_MS 15000 /* beyond the command's own limit: keeper kills it, and says so */
#define STEP_MS  100   /* cancel is looked at this often */
#define ENDED_MAX 64u  /* hooks whose end nobody was told of yet */

struct wait { /* on the stack of mfs_job_run; listed under the lock */
	struct wait *next;
	size_t model;
	uint32_t number; /* of its job; 0: keeper has not said yet */
	bool came, done; /* came: m and fd are of a job that ended; done: of this one */
	struct mfs_kmsg m;
	int fd;
};

struct ended { /* a hook */
	struct ended *next;
	struct mfs_kmsg m;
	int fd;
};

struct mfs_jobs {
	struct mfs_klink *k;
	const struct mfs_config *c;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct wait *waits;
	bool *turns; /* lock; by model: a check has its turn */
	mfs_job_hook_fn *on_hook; /* lock */
	void *user;
	struct ended *ended; /* lock; oldest first */
	unsigned n_ended;
	bool stop;           /* lock */
	pthread_t teller;    /* who is told writes to a disk that may be slow: keeper's pings do not wait for that */
};

const char *
mfs_job_reason_name(enum mfs_job_reason r)
{
	static const char *const names[MFS_REASONS] = { "candidate", "probation", "swap", "rollback", "withdraw",
		"refused" };

	return (unsigned)r < MFS_REASONS ? names[r] : "refused";
}

void
mfs_job_result_free(struct mfs_job_result *r)
{
	free(r->output);
	*r = (struct mfs_job_result){ 0 };
}

/* ---- results ------------------------------------------------------------------------------------ */

/* Read by position: its writer left the offset somewhere. */
static enum mfs_code
output_read(int fd, struct mfs_job_result *out, struct mfs_err *err)
{
	struct stat st;
	size_t len, at = 0;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return MFS_OK;
	len = st.st_size < (off_t)MFS_JOB_OUTPUT_MAX ? (size_t)st.st_size : MFS_JOB_OUTPUT_MAX;
	if ((out->output = malloc(len + 1)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "output of a job");
	while (at < len) {
		ssize_t n = pread(fd, out->output + at, len - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	out->output[at] = '\0';
	out->output_len = at;
	return MFS_OK;
}

static enum mfs_code
result_make(const struct mfs_kmsg *m, int fd, struct mfs_job_result *out, struct mfs_err *err)
{
	*out = (struct mfs_job_result){ .end = m->result < MFS_JOB_ENDS ? (enum mfs_job_end)m->result : MFS_JOB_NOT_STARTED,
		.status = (int)m->value, .truncated = m->size > MFS_JOB_OUTPUT_MAX };
	(void)snprintf(out->detail, sizeof(out->detail), "%.250s", m->text);
	return output_read(fd, out, err);
}

/*
 * Under the lock. Whose end this is: by the job's number. A wait that does not know its number yet keeps the last
 * end that came: one before its own is of another check of this model, which was cancelled or belonged to another wait.
 */
static struct wait *
wait_find(struct mfs_jobs *j, const struct mfs_kmsg *m)
{
	struct wait *unknown = NULL;

	for (struct wait *w = j->waits; w != NULL; w = w->next) {
		if (w->model != m->model || w->done)
			continue;
		if (w->number == m->seq)
			return w;
		if (w->number == 0 && unknown == NULL)
			unknown = w;
	}
	return unknown;
}

/* Under the lock. False: too many, or no memory; fd is the caller's. */
static bool
ended_add(struct mfs_jobs *j, const struct mfs_kmsg *m, int fd)
{
	struct ended **last = &j->ended, *e;

	if (m->model >= j->c->n_models || m->slot >= MFS_JOB_KINDS || j->n_ended >= ENDED_MAX || (e = malloc(sizeof(*e))) == NULL)
		return false;
	*e = (struct ended){ .m = *m, .fd = fd };
	while (*last != NULL)
		last = &(*last)->next;
	*last = e;
	j->n_ended++;
	(void)pthread_cond_broadcast(&j->cond);
	return true;
}

static void *
teller(void *arg)
{
	struct mfs_jobs *j = arg;

	(void)pthread_mutex_lock(&j->lock);
	while (!j->stop || j->ended != NULL) {
		struct ended *e = j->ended;
		mfs_job_hook_fn *fn = j->on_hook;
		void *user = j->user;
		struct mfs_job_result r;

		if (e == NULL) {
			(void)pthread_cond_wait(&j->cond, &j->lock);
			continue;
		}
		j->ended = e->next;
		j->n_ended--;
		(void)pthread_mutex_unlock(&j->lock);
		if (fn != NULL && result_make(&e->m, e->fd, &r, NULL) == MFS_OK) {
			fn(user, e->m.model, (enum mfs_job_kind)e->m.slot, &r);
			mfs_job_result_free(&r);
		}
		if (e->fd >= 0)
			(void)close(e->fd);
		free(e);
		(void)pthread_mutex_lock(&j->lock);
	}
	(void)pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* In the link's thread: quick. */
static void
on_done(void *user, const struct mfs_kmsg *m, int fd)
{
	struct mfs_jobs *j = user;
	struct wait *w;

	(void)pthread_mutex_lock(&j->lock);
	if (m->slot == MFS_JOB_HEALTH) {
		if ((w = wait_find(j, m)) != NULL) {
			if (w->fd >= 0)
				(void)close(w->fd);
			w->m = *m;
			w->fd = fd;
			w->came = true;
			w->done = w->number != 0;
			fd = -1;
			(void)pthread_cond_broadcast(&j->cond);
		}
	} else if (ended_add(j, m, fd)) {
		fd = -1;
	}
	(void)pthread_mutex_unlock(&j->lock);
	if (fd >= 0)
		(void)close(fd);
}

/* ---- asking ---------------------------------------------------------------------------------------- */

bool
mfs_job_name_ok(const char *name)
{
	const char *plus = strchr(name, '+');
	size_t n = plus != NULL ? (size_t)(plus - name) : strlen(name);

	return mfs_version_ok(name, n) && (plus == NULL || mfs_variant_ok(plus + 1, strlen(plus + 1)));
}

/* keeper ends a serve that sends it anything else. */
static const char *
version_or_none(const char *v)
{
	return v != NULL && mfs_job_name_ok(v) ? v : "";
}

static struct mfs_kmsg
message_make(const struct mfs_job_request *q)
{
	struct mfs_kmsg m = { .verb = MFS_K_JOB, .model = (uint32_t)q->model, .slot = (uint32_t)q->kind,
		.size = (uint64_t)q->reason, .value = q->release, .result = (uint32_t)q->outcome };

	(void)snprintf(m.text, sizeof(m.text), "%s\n%s\n%s\n", version_or_none(q->version),
		version_or_none(q->previous), q->vectors != NULL ? q->vectors : "");
	return m;
}

static void
timespec_after(struct timespec *ts, int64_t ms)
{
	(void)clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += (time_t)(ms / 1000);
	ts->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000;
	}
}

/* Until it is done, cancelled, or late. True: done. */
static bool
wait_for(struct mfs_jobs *j, struct wait *w, const _Atomic int *cancel, int64_t until)
{
	bool done;

	(void)pthread_mutex_lock(&j->lock);
	while (!w->done && (cancel == NULL || atomic_load(cancel) == 0) && mfs_clock_mono_ms() < until &&
		!mfs_klink_gone(j->k)) {
		struct timespec ts;

		timespec_after(&ts, STEP_MS);
		(void)pthread_cond_timedwait(&j->cond, &j->lock, &ts);
	}
	done = w->done;
	(void)pthread_mutex_unlock(&j->lock);
	return done;
}

static void
wait_list(struct mfs_jobs *j, struct wait *w)
{
	(void)pthread_mutex_lock(&j->lock);
	w->next = j->waits;
	j->waits = w; /* cppcheck-suppress autoVariables; wait_unlist takes it out before mfs_job_run returns */
	(void)pthread_mutex_unlock(&j->lock);
}

/* keeper said which job it is; its end may have come already. */
static void
wait_number(struct mfs_jobs *j, struct wait *w, int64_t number)
{
	(void)pthread_mutex_lock(&j->lock);
	w->number = (uint32_t)number;
	w->done = w->came && w->m.seq == w->number;
	(void)pthread_mutex_unlock(&j->lock);
}

static void
wait_unlist(struct mfs_jobs *j, const struct wait *w)
{
	(void)pthread_mutex_lock(&j->lock);
	for (struct wait **p = &j->waits; *p != NULL; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
	(void)pthread_mutex_unlock(&j->lock);
}

enum mfs_code
mfs_job_run(struct mfs_jobs *j, const struct mfs_job_request *q, const _Atomic int *cancel, struct mfs_job_result *out,
	struct mfs_err *err)
{
	struct wait w = { .model = q->model, .fd = -1 };
	struct mfs_kmsg m = message_make(q), reply;
	const char *id = j->c->models[q->model].id;
	int64_t until = mfs_clock_mono_ms() + j->c->models[q->model].health.timeout_ms + GRACE_MS;
	enum mfs_code code;

	*out = (struct mfs_job_result){ 0 };
	if (j->c->models[q->model].health.command == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "model %s: no health.command is configured", id);
	wait_list(j, &w); /* before the question: the answer may be quick */
	if ((code = mfs_klink_ask(j->k, &m, &reply, err)) == MFS_OK)
		wait_number(j, &w, reply.value);
	if (code == MFS_OK && !wait_for(j, &w, cancel, until)) {
		struct mfs_kmsg stop = { .verb = MFS_K_JOB_STOP, .model = m.model, .slot = m.slot };

		(void)mfs_klink_tell(j->k, &stop, NULL);
		if (cancel != NULL && atomic_load(cancel) != 0)
			code = mfs_fail(err, MFS_CONDITION_UNMET, "model %s: the health check was cancelled", id);
		else
			code = mfs_fail(err, MFS_IO, "model %s: keeper said nothing of the health command", id);
	}
	wait_unlist(j, &w);
	if (code == MFS_OK)
		code = result_make(&w.m, w.fd, out, err);
	if (w.fd >= 0)
		(void)close(w.fd);
	return code;
}

enum mfs_code
mfs_job_turn(struct mfs_jobs *j, size_t model, bool patient, const _Atomic int *cancel, struct mfs_err *err)
{
	const char *id = j->c->models[model].id;
	enum mfs_code code = MFS_OK;

	(void)pthread_mutex_lock(&j->lock);
	while (j->turns[model] && code == MFS_OK) {
		struct timespec ts;

		if (!patient)
			code = mfs_fail(err, MFS_CONDITION_UNMET, "model %s: another version of it is being checked", id);
		else if ((cancel != NULL && atomic_load(cancel) != 0) || mfs_klink_gone(j->k))
			code = mfs_fail(err, MFS_CONDITION_UNMET, "model %s: the health check was cancelled", id);
		if (code != MFS_OK)
			break;
		timespec_after(&ts, STEP_MS);
		(void)pthread_cond_timedwait(&j->cond, &j->lock, &ts);
	}
	if (code == MFS_OK)
		j->turns[model] = true;
	(void)pthread_mutex_unlock(&j->lock);
	return code;
}

void
mfs_job_turn_end(struct mfs_jobs *j, size_t model)
{
	(void)pthread_mutex_lock(&j->lock);
	j->turns[model] = false;
	(void)pthread_cond_broadcast(&j->cond);
	(void)pthread_mutex_unlock(&j->lock);
}

void
mfs_job_hook(struct mfs_jobs *j, const struct mfs_job_request *q)
{
	const struct mfs_config_model *c = &j->c->models[q->model];
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_kmsg m = message_make(q);

	if ((q->kind == MFS_JOB_ON_CHANGE ? c->on_change : c->on_reject) == NULL)
		return;
	if (mfs_klink_tell(j->k, &m, &err) != MFS_OK)
		mfs_log_err("hook", &err);
}

/* ---- life --------------------------------------------------------------------------------------------- */

void
mfs_jobs_on_hook(struct mfs_jobs *j, mfs_job_hook_fn *fn, void *user)
{
	(void)pthread_mutex_lock(&j->lock);
	j->user = user;
	j->on_hook = fn;
	(void)pthread_mutex_unlock(&j->lock);
}

enum mfs_code
mfs_jobs_new(struct mfs_klink *k, const struct mfs_config *c, struct mfs_jobs **out, struct mfs_err *err)
{
	struct mfs_jobs *j = calloc(1, sizeof(*j));
	pthread_condattr_t attr;

	*out = NULL;
	if (j == NULL || (j->turns = calloc(c->n_models + 1, sizeof(*j->turns))) == NULL) {
		free(j);
		return mfs_fail(err, MFS_NO_MEMORY, "jobs");
	}
	j->k = k;
	j->c = c;
	(void)pthread_mutex_init(&j->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&j->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (pthread_create(&j->teller, NULL, teller, j) != 0) {
		(void)pthread_cond_destroy(&j->cond);
		(void)pthread_mutex_destroy(&j->lock);
		free(j->turns);
		free(j);
		return mfs_fail(err, MFS_NO_MEMORY, "jobs: thread");
	}
	mfs_klink_on_job(k, on_done, j);
	*out = j;
	return MFS_OK;
}

void
mfs_jobs_free(struct mfs_jobs *j)
{
	if (j == NULL)
		return;
	mfs_klink_on_job(j->k, NULL, NULL);
	(void)pthread_mutex_lock(&j->lock);
	j->stop = true;
	(void)pthread_cond_broadcast(&j->cond);
	(void)pthread_mutex_unlock(&j->lock);
	(void)pthread_join(j->teller, NULL);
	(void)pthread_cond_destroy(&j->cond);
	(void)pthread_mutex_destroy(&j->lock);
	free(j->turns);
	free(j);
}
