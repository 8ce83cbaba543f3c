/* SPDX-License-Identifier: Apache-2.0 */
/* kjobs.c - health commands and hooks, supervised: started, limited, reaped, told to serve. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "log.h"

#define LINGER_MS 2000 /* after SIGKILL: told without waiting for its end any longer */
#define HOOKS_MAX (MFS_KJOBS - 2)
#define RETRY_MS  100  /* a result that serve had no room for */

/* ---- what is asked ------------------------------------------------------------------------------ */

/* The next line of *p without its newline into out; false: none, or too long. */
static bool
line_take(const char **p, char *out, size_t cap)
{
	const char *end = strchr(*p, '\n');

	if (end == NULL || (size_t)(end - *p) >= cap)
		return false;
	memcpy(out, *p, (size_t)(end - *p));
	out[end - *p] = '\0';
	*p = end + 1;
	return true;
}

static bool
version_or_empty(const char *v)
{
	return v[0] == '\0' || mfs_job_name_ok(v);
}

static bool
ask_parse(const struct mfs_keeper *k, const struct mfs_kmsg *m, struct mfs_kjob_ask *a)
{
	const char *p = m->text;

	if (m->model >= k->config->n_models || m->slot >= MFS_JOB_KINDS || m->size >= MFS_REASONS || m->value < 0 ||
		m->value > MFS_JSON_INT_MAX)
		return false;
	*a = (struct mfs_kjob_ask){ .model = m->model, .kind = (enum mfs_job_kind)m->slot,
		.reason = (enum mfs_job_reason)m->size, .outcome = (enum mfs_code)m->result, .release = m->value };
	if (!line_take(&p, a->version, sizeof(a->version)) || !line_take(&p, a->previous, sizeof(a->previous)) ||
		!line_take(&p, a->vectors, sizeof(a->vectors)) || *p != '\0')
		return false;
	if (!version_or_empty(a->version) || !version_or_empty(a->previous) ||
		(a->vectors[0] != '\0' && !mfs_file_name_ok(a->vectors, strlen(a->vectors))))
		return false;
	return a->kind != MFS_JOB_HEALTH || a->version[0] != '\0';
}

static char *const *
command_of(const struct mfs_config_model *c, enum mfs_job_kind kind)
{
	return kind == MFS_JOB_HEALTH ? c->health.command : kind == MFS_JOB_ON_CHANGE ? c->on_change : c->on_reject;
}

static struct mfs_kjob *
job_find(struct mfs_keeper *k, size_t model, enum mfs_job_kind kind)
{
	for (size_t i = 0; i < MFS_KJOBS; i++) {
		struct mfs_kjob *j = &k->jobs.jobs[i];

		if (j->number != 0 && j->ask.model == model && j->ask.kind == kind)
			return j;
	}
	return NULL;
}

static struct mfs_kjob *
job_free_one(struct mfs_keeper *k, enum mfs_job_kind kind)
{
	struct mfs_kjob *found = NULL;
	size_t hooks = 0;

	for (size_t i = 0; i < MFS_KJOBS; i++) {
		struct mfs_kjob *j = &k->jobs.jobs[i];

		if (j->number == 0)
			found = found != NULL ? found : j;
		else
			hooks += j->ask.kind != MFS_JOB_HEALTH;
	}
	return kind != MFS_JOB_HEALTH && hooks >= HOOKS_MAX ? NULL : found;
}

/* ---- start and end ------------------------------------------------------------------------------- */

static uint64_t
memory_of(const struct mfs_config_health *h)
{
	struct sysinfo si;

	if (h->memory > 0)
		return h->memory;
	return sysinfo(&si) == 0 ? (uint64_t)si.totalram * si.mem_unit / 2 : 1ull << 30;
}

static void
job_clear(struct mfs_keeper *k, struct mfs_kjob *j)
{
	if (j->number == 0)
		return;
	mfs_cleanup_close(&j->output);
	mfs_kcgroup_remove(k->jobs.cgroup, j->number, &j->cgroup);
	if (j->note != NULL)
		(void)munmap(j->note, sizeof(*j->note));
	*j = (struct mfs_kjob){ .output = -1, .cgroup = -1 };
}

static void
job_kill(struct mfs_kjob *j, int64_t now)
{
	if (j->pid > 0 && j->killed == 0) {
		(void)kill(j->pid, SIGKILL); /* the init of its pid namespace: everything in it goes */
		j->killed = now;
	}
}

static pid_t
job_fork(struct mfs_keeper *k, const struct mfs_kjob *j)
{
	struct mfs_kjob_run run = { .config = k->config, .model = &k->config->models[j->ask.model], .ask = &j->ask,
		.mount = k->mount.path, .output = j->output, .cgroup = j->cgroup, .note = j->note, .uid = geteuid(),
		.gid = getegid() };
	mfs_autoclose int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int flags = mfs_kjob_clone_flags(&j->ask);
	long pid;

	run.keeper_fd = self;
	pid = syscall(SYS_clone, (long)flags | SIGCHLD, 0L, 0L, 0L, 0L); /* as fork() */
	if (pid == 0)
		mfs_kjob_init(&run);
	return (pid_t)pid;
}

static enum mfs_code
job_start(struct mfs_keeper *k, const struct mfs_kjob_ask *a, struct mfs_kjob *j, struct mfs_err *err)
{
	const struct mfs_config_model *c = &k->config->models[a->model];
	int64_t now = mfs_clock_mono_ms();
	struct mfs_kjobs *js = &k->jobs;

	if (!js->cgroup_tried) {
		js->cgroup_tried = true;
		js->cgroup = geteuid() == 0 ? mfs_kcgroup_open() : -1;
		if (js->cgroup < 0)
			mfs_log(MFS_LOG_INFO, "no cgroup2 of our own: the memory of health checks is limited per process");
	}
	if (++js->number == 0)
		js->number = 1;
	*j = (struct mfs_kjob){ .ask = *a, .number = js->number, .output = -1, .cgroup = -1, .started = now };
	j->deadline = now + (a->kind == MFS_JOB_HEALTH ? c->health.timeout_ms : MFS_KJOB_HOOK_MS);
	j->output = memfd_create("modelfs-output", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	j->note = mmap(NULL, sizeof(*j->note), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (j->note == MAP_FAILED)
		j->note = NULL;
	if (js->cgroup >= 0)
		j->cgroup = mfs_kcgroup_make(js->cgroup, j->number, memory_of(&c->health));
	if (j->output < 0 || j->note == NULL) {
		(void)mfs_fail_sys(err, MFS_NO_MEMORY, "job of model %s", c->id);
	} else if ((j->pid = job_fork(k, j)) < 0) {
		j->pid = 0;
		(void)mfs_fail_sys(err, MFS_IO, "job of model %s: fork into namespaces", c->id);
	} else {
		return MFS_OK;
	}
	job_clear(k, j);
	return err->code;
}

/* Printable ASCII: its init ran as the job's user. */
static void
text_copy(char *out, size_t cap, const char *in, size_t len)
{
	size_t i = 0;

	for (; i < len && in[i] != '\0' && i + 1 < cap; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? in[i] : '?';
	out[i] = '\0';
}

/* How it ended, from what keeper did, what its init left behind, and why the init went. */
static enum mfs_job_end
verdict(const struct mfs_kjob *j, int status, int *value, char *text, size_t cap)
{
	const struct mfs_kjob_note *n = j->note;
	bool memory = mfs_kcgroup_killed_by_memory(j->cgroup);

	*value = 0;
	if (j->stopped) {
		(void)snprintf(text, cap, "stopped");
		return MFS_JOB_STOPPED;
	}
	if (j->timed_out) {
		(void)snprintf(text, cap, "not done after %lld ms: killed", (long long)(j->deadline - j->started));
		return MFS_JOB_TIMED_OUT;
	}
	if (n->stage == MFS_KJOB_FAILED) {
		text_copy(text, cap, n->text, sizeof(n->text));
		return MFS_JOB_NOT_STARTED;
	}
	if (n->stage == MFS_KJOB_OVER && WIFEXITED(n->wait_status)) {
		*value = WEXITSTATUS(n->wait_status);
		(void)snprintf(text, cap, "exit %d%s", *value, memory ? ", after a kill at its memory limit" : "");
		return memory && *value != 0 ? MFS_JOB_NO_MEMORY : MFS_JOB_EXITED;
	}
	if (memory) {
		(void)snprintf(text, cap, "killed at its memory limit");
		return MFS_JOB_NO_MEMORY;
	}
	if (n->stage == MFS_KJOB_OVER && WIFSIGNALED(n->wait_status)) {
		*value = WTERMSIG(n->wait_status);
		(void)snprintf(text, cap, "killed by signal %d (%s)", *value, strsignal(*value));
		return MFS_JOB_SIGNALED;
	}
	(void)snprintf(text, cap, "its supervisor ended early (status %d)", status);
	return MFS_JOB_NOT_STARTED;
}

static void
job_over(struct mfs_keeper *k, struct mfs_kjob *j, int status, int64_t now)
{
	struct mfs_kmsg *d = &j->done;
	int value;

	*d = (struct mfs_kmsg){ .verb = MFS_K_JOB_DONE, .seq = j->number, .model = (uint32_t)j->ask.model,
		.slot = (uint32_t)j->ask.kind, .size = j->note->total };
	d->result = (uint32_t)verdict(j, status, &value, d->text, sizeof(d->text));
	d->value = value;
	j->over = now;
	if (j->pid == 0) /* nobody maps or writes it any more */
		(void)fcntl(j->output, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (!j->stopped) /* else it may be of models that are no longer configured */
		mfs_log(MFS_LOG_INFO, "%s: %s: %s", k->config->models[j->ask.model].id,
		j->ask.kind == MFS_JOB_HEALTH ? "health command" : j->ask.kind == MFS_JOB_ON_CHANGE ? "on_change" : "on_reject",
		d->text);
}

bool
mfs_kjobs_reaped(struct mfs_keeper *k, pid_t pid, int status, int64_t now)
{
	for (size_t i = 0; i < MFS_KJOBS; i++) {
		struct mfs_kjob *j = &k->jobs.jobs[i];

		if (j->number == 0 || j->pid != pid)
			continue;
		j->pid = 0;
		if (j->over == 0)
			job_over(k, j, status, now);
		return true;
	}
	return false;
}

/* ---- serve's verbs --------------------------------------------------------------------------------- */

static enum mfs_code
hook_wait(struct mfs_keeper *k, const struct mfs_kjob_ask *a, struct mfs_err *err)
{
	struct mfs_kjobs *js = &k->jobs;
	struct mfs_kjob_ask **place, *copy;

	if (js->waiting == NULL) {
		js->n_models = k->config->n_models;
		if ((js->waiting = calloc(2 * js->n_models + 1, sizeof(struct mfs_kjob_ask *))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "hooks");
	}
	place = &js->waiting[2 * a->model + (a->kind == MFS_JOB_ON_REJECT)];
	if ((copy = malloc(sizeof(*copy))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "hooks");
	*copy = *a;
	free(*place);
	*place = copy; /* the newest wins */
	return MFS_OK;
}

static enum mfs_code
health_ask(struct mfs_keeper *k, const struct mfs_kjob_ask *a, uint32_t *number, struct mfs_err *err)
{
	const char *id = k->config->models[a->model].id;
	struct mfs_kjob *j = job_find(k, a->model, MFS_JOB_HEALTH);

	if (j != NULL && strcmp(j->ask.version, a->version) == 0 && j->ask.release == a->release &&
		j->ask.reason == a->reason && !j->stopped && !j->told) {
		*number = j->number; /* of a serve that died: it goes on */
		return MFS_OK;
	}
	if (j != NULL && j->pid == 0) {
		job_clear(k, j);
	} else if (j != NULL) {
		j->stopped = j->told = true;
		job_kill(j, mfs_clock_mono_ms());
		return mfs_fail(err, MFS_CONDITION_UNMET, "model %s: its health command is still ending another check", id);
	}
	if ((j = job_free_one(k, MFS_JOB_HEALTH)) == NULL)
		return mfs_fail(err, MFS_CONDITION_UNMET, "model %s: %u commands are running already", id, MFS_KJOBS);
	if (job_start(k, a, j, err) != MFS_OK)
		return err->code;
	*number = j->number;
	return MFS_OK;
}

bool
mfs_kjobs_ask(struct mfs_keeper *k, const struct mfs_kmsg *m, uint32_t *number, struct mfs_err *err)
{
	struct mfs_kjob_ask a;

	*number = 0;
	if (k->serve.stop_sent) { /* it counts models of the configuration before */
		(void)mfs_fail(err, MFS_CONDITION_UNMET, "modelfs is reloading");
		return true;
	}
	if (!ask_parse(k, m, &a))
		return false;
	if (k->state != MFS_KEEPER_RUNNING)
		(void)mfs_fail(err, MFS_CONDITION_UNMET, "modelfs is starting or ending");
	else if (command_of(&k->config->models[a.model], a.kind) == NULL)
		(void)mfs_fail(err, MFS_CONFIG_INVALID, "model %s: no such command is configured", k->config->models[a.model].id);
	else if (a.kind == MFS_JOB_HEALTH)
		(void)health_ask(k, &a, number, err);
	else if (hook_wait(k, &a, err) == MFS_OK)
		mfs_kjobs_tick(k, mfs_clock_mono_ms());
	return true;
}

bool
mfs_kjobs_stop(struct mfs_keeper *k, const struct mfs_kmsg *m)
{
	struct mfs_kjob *j;

	if (k->serve.stop_sent)
		return true; /* it counts models of the configuration before */
	if (m->model >= k->config->n_models || m->slot >= MFS_JOB_KINDS)
		return false;
	if ((j = job_find(k, m->model, (enum mfs_job_kind)m->slot)) != NULL && j->over == 0) {
		j->stopped = true;
		job_kill(j, mfs_clock_mono_ms());
	}
	return true;
}

/* ---- the loop's part -------------------------------------------------------------------------------- */

static void
job_watch(struct mfs_keeper *k, struct mfs_kjob *j, int64_t now)
{
	if (j->over == 0 && j->killed == 0 && now >= j->deadline) {
		j->timed_out = true;
		job_kill(j, now);
	}
	if (j->over == 0 && j->killed != 0 && now >= j->killed + LINGER_MS)
		job_over(k, j, 0, now); /* something of it cannot die yet: the cycle does not wait for that */
	if (j->over != 0 && !j->told && k->serve.ready && !k->serve.stop_sent && k->serve.sock >= 0 &&
		mfs_kmsg_send(k->serve.sock, &j->done, j->output) == 0)
		j->told = true;
	if (j->over != 0 && j->pid == 0 && (j->told || j->ask.kind != MFS_JOB_HEALTH || now >= j->over + MFS_KJOB_KEEP_MS))
		job_clear(k, j);
}

static void
hooks_start(struct mfs_keeper *k)
{
	struct mfs_kjobs *js = &k->jobs;

	if (k->state != MFS_KEEPER_RUNNING)
		return;
	for (size_t i = 0; js->waiting != NULL && i < 2 * js->n_models; i++) {
		struct mfs_kjob_ask *a = js->waiting[i];
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_kjob *j;

		if (a == NULL || job_find(k, a->model, a->kind) != NULL)
			continue;
		if ((j = job_free_one(k, a->kind)) == NULL)
			return;
		js->waiting[i] = NULL;
		if (job_start(k, a, j, &err) != MFS_OK)
			mfs_log_err("hook", &err);
		free(a);
	}
}

void
mfs_kjobs_tick(struct mfs_keeper *k, int64_t now)
{
	for (size_t i = 0; i < MFS_KJOBS; i++)
		if (k->jobs.jobs[i].number != 0)
			job_watch(k, &k->jobs.jobs[i], now);
	hooks_start(k);
}

int64_t
mfs_kjobs_next(const struct mfs_keeper *k)
{
	int64_t next = 0;

	for (size_t i = 0; i < MFS_KJOBS; i++) {
		const struct mfs_kjob *j = &k->jobs.jobs[i];
		int64_t at = 0;

		if (j->number == 0)
			continue;
		if (j->over == 0)
			at = j->killed != 0 ? j->killed + LINGER_MS : j->deadline;
		else if (!j->told && k->serve.ready)
			at = mfs_clock_mono_ms() + RETRY_MS;
		if (at != 0 && (next == 0 || at < next))
			next = at;
	}
	return next;
}

void
mfs_kjobs_end(struct mfs_keeper *k)
{
	struct mfs_kjobs *js = &k->jobs;
	int64_t now = mfs_clock_mono_ms();

	for (size_t i = 0; i < MFS_KJOBS; i++) {
		struct mfs_kjob *j = &js->jobs[i];

		if (j->number == 0)
			continue;
		j->stopped = true;
		j->told = true; /* it counts models by another configuration, or nobody listens */
		if (j->pid > 0)
			job_kill(j, now);
		else
			job_clear(k, j);
	}
	for (size_t i = 0; js->waiting != NULL && i < 2 * js->n_models; i++)
		free(js->waiting[i]);
	free(js->waiting);
	js->waiting = NULL;
	js->n_models = 0;
}
