/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - the serve process: no socket(2), no exec, own uid. It starts with descriptors from
 * keeper and nothing else (keeper.h, enum mfs_serve_fd), loads what OpenSSL needs, enters the
 * sandbox, and only then reads a byte that anybody else wrote.
 */
#include "serve.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "io.h"
#include "keeper.h"
#include "log.h"

#define STOP_S 4 /* an orderly end takes no longer: keeper kills after 5 s */

struct inherited { /* descriptors beyond the fixed ones */
	struct mfs_key_fds keys;
	int *seeds;
	size_t n_seeds;
};

static int wake_fd = -1; /* the main thread waits on it */
static _Atomic bool unmounted;

static bool
fd_open(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_PATH) == 0; /* keeper's mark of an absent one */
}

static void
wake(uint64_t why)
{
	if (write(wake_fd, &why, sizeof(why)) < 0)
		_exit(1);
}

static void
on_stop(void *user, bool gone)
{
	(void)user;
	if (gone)
		_exit(1); /* keeper died: the connection dies with us, and readers get ENOTCONN */
	wake(1);
}

static void
on_session_end(void *user)
{
	(void)user;
	atomic_store(&unmounted, true);
	wake(1);
}

/* ---- before the sandbox ----------------------------------------------------------------------- */

static enum mfs_code
inherited_find(const struct mfs_config *c, struct inherited *in, struct mfs_err *err)
{
	int fd = MFS_FD_FIRST_KEY;

	in->keys.state = MFS_FD_STATE_KEY;
	in->keys.trust = calloc(c->n_keys + 1, sizeof(int));
	in->keys.model = calloc(c->n_models + 1, sizeof(int));
	in->seeds = calloc(c->n_seed + 1, sizeof(int));
	in->keys.root = calloc(c->n_repos + 1, sizeof(int));
	if (in->keys.trust == NULL || in->keys.model == NULL || in->seeds == NULL || in->keys.root == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "serve: descriptors");
	for (size_t i = 0; i < c->n_keys; i++)
		in->keys.trust[i] = fd++;
	for (size_t i = 0; i < c->n_models; i++, fd++)
		in->keys.model[i] = fd_open(fd) ? fd : -1;
	for (size_t i = 0; i < c->n_seed; i++, fd++)
		if (fd_open(fd))
			in->seeds[in->n_seeds++] = fd;
	for (size_t i = 0; i < c->n_repos; i++, fd++)
		in->keys.root[i] = fd_open(fd) ? fd : -1;
	return MFS_OK;
}

static void
inherited_cloexec(const struct mfs_config *c)
{
	int end = MFS_FD_FIRST_KEY + (int)(c->n_keys + c->n_models + c->n_seed + c->n_repos);

	for (int fd = MFS_FD_LINK; fd < end; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}


static enum mfs_code
sandbox_enter(struct mfs_serve *s, const struct inherited *in, pid_t keeper, struct mfs_err *err)
{
	/* /proc for the processes that pins are about, before PIDFD_GET_INFO (Linux 6.13); the CPUs for thread counts. */
	mfs_autoclose int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	mfs_autoclose int cpu = open("/sys/devices/system/cpu", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mfs_sandbox_dir *dirs = calloc(in->n_seeds + 4, sizeof(*dirs));
	struct mfs_sandbox box = { .profile = MFS_SANDBOX_SERVE, .dirs = dirs, .optional = s->config->sandbox_optional,
		.parent = keeper };
	enum mfs_code code;

	if (dirs == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "serve: sandbox");
	dirs[box.n_dirs++] = (struct mfs_sandbox_dir){ MFS_FD_STATE, true };
	dirs[box.n_dirs++] = (struct mfs_sandbox_dir){ MFS_FD_STORE, true };
	for (size_t i = 0; i < in->n_seeds; i++)
		dirs[box.n_dirs++] = (struct mfs_sandbox_dir){ in->seeds[i], false };
	if (proc >= 0)
		dirs[box.n_dirs++] = (struct mfs_sandbox_dir){ proc, false };
	if (cpu >= 0)
		dirs[box.n_dirs++] = (struct mfs_sandbox_dir){ cpu, false };
	box.uid = (uid_t)-1;
	if (geteuid() == 0) {
		code = mfs_config_user(s->config, &box.uid, &box.gid, err);
		if (code != MFS_OK) {
			free(dirs);
			return code;
		}
	}
	code = mfs_sandbox_apply(&box, &s->sandbox, err);
	free(dirs);
	return code;
}

static enum mfs_code
shared_map(struct mfs_serve *s, struct mfs_err *err)
{
	void *p = mmap(NULL, sizeof(struct mfs_shm), PROT_READ | PROT_WRITE, MAP_SHARED, MFS_FD_SHM, 0);

	if (p == MAP_FAILED)
		return mfs_fail_sys(err, MFS_IO, "serve: shared memory");
	s->shm = p;
	if (s->shm->magic != MFS_SHM_MAGIC || s->shm->layout != MFS_SHM_LAYOUT || s->shm->total != sizeof(*s->shm))
		return mfs_fail(err, MFS_INTERNAL, "serve: shared memory of another layout");
	return MFS_OK;
}

/* ---- after it --------------------------------------------------------------------------------- */

/* Each has a buffer of 1 MiB and more: serve stays below 48 MiB however many cores there are. */
static unsigned
thread_count(void)
{
	int cores = get_nprocs();

	return cores < 2 ? 4 : cores < 8 ? (unsigned)cores + 2 : 10;
}

/* Everything that decides what is shown: keys, state, store, versions. */
static enum mfs_code
local_state_open(struct mfs_serve *s, const struct inherited *in, struct mfs_err *err)
{
	struct mfs_engine_args args = { .config = s->config, .state_dirfd = s->state_dirfd };

	if (mfs_keys_load(s->config, &in->keys, &s->keys, err) != MFS_OK ||
		mfs_store_open(MFS_FD_STORE, in->seeds, in->n_seeds, &s->store, err) != MFS_OK ||
		mfs_cache_new(MFS_SCRATCH_BYTES, fd_open(MFS_FD_SCRATCH) ? MFS_FD_SCRATCH : -1, &s->cache, err) != MFS_OK ||
		mfs_events_open(s->state_dirfd, false, &s->events, err) != MFS_OK)
		return err->code;
	args.keys = s->keys;
	args.store = s->store;
	args.cache = s->cache;
	args.events = s->events;
	if (mfs_held_open(MFS_FD_HELD, &s->held, err) == MFS_NO_MEMORY)
		return err->code;
	*err = (struct mfs_err)MFS_ERR_INIT;
	args.held = s->held;
	if (mfs_engine_open(&args, &s->engine, err) != MFS_OK)
		return err->code;
	(void)mfs_engine_reserve_fill(s->engine, true); /* what is missing is an event, and keeps nothing from being served */
	return MFS_OK;
}

/* A model that cannot be shown is a line in the log and in its status; the others are. */
static void
views_publish(struct mfs_serve *s)
{
	for (size_t i = 0; i < s->config->n_models; i++) {
		struct mfs_err err = MFS_ERR_INIT;

		mfs_view_candidate_restore(s, i);
		if (mfs_view_refresh(s, i, &err) != MFS_OK)
			mfs_log_err(s->config->models[i].id, &err);
	}
}

/* What a hook said matters only when it failed. */
static void
on_hook(void *user, size_t i, enum mfs_job_kind kind, const struct mfs_job_result *r)
{
	struct mfs_serve *s = user;
	char detail[400];

	if (r->end == MFS_JOB_EXITED && r->status == 0)
		return;
	(void)snprintf(detail, sizeof(detail), "%s: %s%s%.200s", kind == MFS_JOB_ON_CHANGE ? "on_change" : "on_reject", r->detail,
		r->output_len > 0 ? ": " : "", r->output_len > 0 ? MFS_ESC(r->output) : "");
	mfs_event(s->events, &(struct mfs_event){ .model = s->config->models[i].id, .code = MFS_IO, .source = "hook",
		.detail = detail });
}

static enum mfs_code
serve_build(struct mfs_serve *s, const struct inherited *in, struct mfs_err *err)
{
	if (local_state_open(s, in, err) != MFS_OK || mfs_tree_new(s, &s->tree, err) != MFS_OK ||
		mfs_klink_start(MFS_FD_LINK, on_stop, s, &s->klink, err) != MFS_OK ||
		mfs_remote_new(mfs_remote_start_klink, s->klink, &s->remote, err) != MFS_OK ||
		mfs_jobs_new(s->klink, s->config, &s->jobs, err) != MFS_OK ||
		mfs_session_new(MFS_FD_DEV, s->shm, &mfs_tree_ops, s, &s->session, err) != MFS_OK)
		return err->code;
	mfs_remote_bandwidth(s->remote, s->config->update.bandwidth);
	mfs_session_on_end(s->session, on_session_end, s);
	mfs_jobs_on_hook(s->jobs, on_hook, s);
	views_publish(s);
	/* Requests last: they see every pointer of the context, and none of them changes any more. */
	if (mfs_scrub_new(s, &s->scrub, err) != MFS_OK || mfs_residency_start(s, &s->residency, err) != MFS_OK ||
		mfs_telemetry_new(s->config, s->state_dirfd, s->remote, &s->telemetry, err) != MFS_OK ||
		mfs_telemetry_start(s->telemetry, err) != MFS_OK || mfs_updates_new(s, &s->updates, err) != MFS_OK ||
		mfs_repairs_new(s, &s->repairs, err) != MFS_OK ||
		(fd_open(MFS_FD_CONTROL) && mfs_control_start(s, MFS_FD_CONTROL, &s->control, err) != MFS_OK) ||
		mfs_session_start(s->session, thread_count(), err) != MFS_OK || mfs_updates_start(s->updates, err) != MFS_OK ||
		mfs_scrub_start(s->scrub, err) != MFS_OK)
		return err->code;
	return mfs_klink_notify(s->klink, MFS_K_READY, 0, NULL, err);
}

static void
on_alarm(int sig)
{
	(void)sig;
	_exit(0); /* what is unanswered lies in its slot: the successor answers it */
}

/*
 * In reverse. Requests first: nothing is received after it, and what stays unanswered is the
 * successor's. Threads of the other parts end with the process if they do not in time.
 */
static void
serve_end(struct mfs_serve *s)
{
	(void)signal(SIGALRM, on_alarm);
	(void)alarm(STOP_S);
	mfs_session_stop(s->session);
	mfs_engine_last_write(s->engine, atomic_load(&unmounted));
	mfs_scrub_stop(s->scrub);
	mfs_repairs_stop(s->repairs);
	mfs_updates_stop(s->updates);
	mfs_telemetry_stop(s->telemetry);
	mfs_control_stop(s->control);
	mfs_residency_stop(s->residency);
	mfs_tree_free(s->tree);
	mfs_engine_close(s->engine);
	mfs_events_close(s->events);
}

static enum mfs_code
serve_main(struct mfs_serve *s, pid_t keeper, struct mfs_err *err)
{
	struct mfs_config_snapshot *snapshot = NULL;
	static struct inherited in; /* as long as the process */
	uint64_t why;

	s->state_dirfd = MFS_FD_STATE;
	s->started_ms = mfs_clock_boot_ms();
	wake_fd = eventfd(0, EFD_CLOEXEC);
	if (wake_fd < 0)
		return mfs_fail_sys(err, MFS_IO, "serve: eventfd");
	if (mfs_config_snapshot_load(MFS_FD_CONFIG, &snapshot, err) != MFS_OK ||
		mfs_config_parse(snapshot, &s->config, err) != MFS_OK || inherited_find(s->config, &in, err) != MFS_OK)
		return err->code;
	inherited_cloexec(s->config);
	if (shared_map(s, err) != MFS_OK || mfs_libraries_load(err) != MFS_OK || sandbox_enter(s, &in, keeper, err) != MFS_OK)
		return err->code;
	if (serve_build(s, &in, err) != MFS_OK)
		return err->code;
	while (read(wake_fd, &why, sizeof(why)) < 0 && errno == EINTR)
		;
	serve_end(s);
	return MFS_OK;
}

int
mfs_cmd_serve(int argc, char **argv)
{
	static struct mfs_serve serve; /* threads look at it until the process is gone */
	struct mfs_err err = MFS_ERR_INIT;
	pid_t keeper = argc == 2 ? (pid_t)atol(argv[1]) : 0;

	if (keeper <= 1 || !fd_open(MFS_FD_LINK) || !fd_open(MFS_FD_DEV) || !fd_open(MFS_FD_SHM) ||
		!fd_open(MFS_FD_CONFIG)) {
		fprintf(stderr, "modelfs: serve is started by 'modelfs mount'\n");
		return MFS_EXIT_USAGE;
	}
	(void)prctl(PR_SET_NAME, "modelfs: serve", 0, 0, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	mfs_log_open("modelfs[serve]", MFS_LOG_INFO);
	if (serve_main(&serve, keeper, &err) != MFS_OK) {
		mfs_log_err("serve", &err);
		mfs_klink_failed(MFS_FD_LINK, &err);
		/* Not exit(): threads that run would lose what they stand on. */
		_exit((int)mfs_code_exit(err.code));
	}
	_exit(0);
}
