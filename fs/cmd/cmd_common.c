/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_common.c - configuration, folders and keys of a command, and its confined child. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd_common.h"
#include "io.h"
#include "log.h"

#define SIDE_WAIT_MS 10000

enum mfs_code
mfs_cmd_env_config(struct mfs_cmd_env *env, const char *path, struct mfs_err *err)
{
	if (mfs_config_read(path, &env->snapshot, err) != MFS_OK)
		return err->code;
	return mfs_config_parse(env->snapshot, &env->config, err);
}

enum mfs_code
mfs_cmd_env_open(struct mfs_cmd_env *env, bool create, struct mfs_err *err)
{
	if (mfs_setup_folders(env->config, create, &env->folders, err) != MFS_OK)
		return err->code;
	if (mfs_key_fds_open(env->config, env->folders.state, &env->keys, err) != MFS_OK)
		return err->code;
	env->has_keys = true;
	if ((env->seeds = calloc(env->config->n_seed + 1, sizeof(*env->seeds))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "no memory");
	for (size_t i = 0; i < env->config->n_seed; i++) {
		int fd = open(env->config->seed[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
			env->seeds[env->n_seeds++] = fd;
		else if (errno != ENOENT)
			return mfs_fail_sys(err, MFS_IO, "seed: %s", MFS_ESC(env->config->seed[i]));
	}
	return MFS_OK;
}

void
mfs_cmd_env_close(struct mfs_cmd_env *env)
{
	if (env->has_keys)
		mfs_key_fds_close(env->config, &env->keys);
	env->has_keys = false;
	for (size_t i = 0; i < env->n_seeds; i++)
		(void)close(env->seeds[i]);
	free(env->seeds);
	env->seeds = NULL;
	env->n_seeds = 0;
	mfs_cleanup_close(&env->lock);
	mfs_folders_close(&env->folders);
	mfs_config_free(env->config);
	mfs_config_snapshot_free(env->snapshot);
	env->config = NULL;
	env->snapshot = NULL;
}

ssize_t
mfs_cmd_model(const struct mfs_config *c, const char *id, struct mfs_err *err)
{
	char known[256] = "";
	ssize_t i = mfs_config_find(c, id);

	if (i >= 0)
		return i;
	for (size_t k = 0; k < c->n_models; k++) {
		size_t len = strlen(known);

		(void)snprintf(known + len, sizeof(known) - len, "%s%s", k == 0 ? "" : ", ", c->models[k].id);
	}
	(void)mfs_fail(err, MFS_CONFIG_INVALID, "no model '%s' in %s; configured: %s", MFS_ESC(id), MFS_ESC(c->path),
		c->n_models == 0 ? "none" : known);
	return -1;
}

int
mfs_cmd_shown(const char *command, int status)
{
	static const char *const showing[] = { "status", "events", "config", "keys", "doctor" };

	for (size_t i = 0; i < sizeof(showing) / sizeof(showing[0]); i++) {
		if (status != MFS_EXIT_DONE || strcmp(command, showing[i]) != 0)
			continue;
		if (fflush(stdout) != 0 || ferror(stdout) != 0) {
			(void)fprintf(stderr, "modelfs: %s: io: standard output: cannot be written\n", command);
			return MFS_EXIT_FAILED;
		}
	}
	return status;
}

/* Only in the child; never returns. */
static void
confined_main(const char *command, struct mfs_cmd_env *env, int extra_fd, mfs_confined_fn *fn, int link, void *arg,
	pid_t parent)
{
	mfs_autofree struct mfs_sandbox_dir *dirs = calloc(env->n_seeds + 3, sizeof(*dirs));
	struct mfs_sandbox sandbox = {
		.profile = MFS_SANDBOX_INSTALL, .uid = (uid_t)-1, .gid = (gid_t)-1, .dirs = dirs,
		.optional = env->config->sandbox_optional, .parent = parent,
	};
	struct mfs_sandbox_report report;
	struct mfs_err err = MFS_ERR_INIT;
	int status;

	if (dirs == NULL)
		_exit(MFS_EXIT_FAILED);
	dirs[sandbox.n_dirs++] = (struct mfs_sandbox_dir){ env->folders.state, true };
	dirs[sandbox.n_dirs++] = (struct mfs_sandbox_dir){ env->folders.store, true };
	for (size_t i = 0; i < env->n_seeds; i++)
		dirs[sandbox.n_dirs++] = (struct mfs_sandbox_dir){ env->seeds[i], false };
	if (extra_fd >= 0)
		dirs[sandbox.n_dirs++] = (struct mfs_sandbox_dir){ extra_fd, false };
	if (geteuid() == 0) {
		sandbox.uid = env->folders.uid;
		sandbox.gid = env->folders.gid;
	}
	if (mfs_libraries_load(&err) != MFS_OK || mfs_sandbox_apply(&sandbox, &report, &err) != MFS_OK)
		_exit(mfs_cmd_fail(command, &err));
	status = mfs_cmd_shown(command, fn(env, link, arg));
	(void)fflush(stdout);
	(void)fflush(stderr);
	_exit(status);
}

enum mfs_code
mfs_cmd_confined(const char *command, struct mfs_cmd_env *env, int extra_fd, mfs_confined_fn *fn, void *arg, int *link,
	pid_t *pid, struct mfs_err *err)
{
	int pair[2] = { -1, -1 };
	pid_t parent = getpid();

	if (link != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return mfs_fail_sys(err, MFS_IO, "cannot make a socket pair");
	(void)fflush(stdout);
	(void)fflush(stderr);
	if ((*pid = fork()) < 0) {
		(void)mfs_fail_sys(err, MFS_IO, "cannot start a child");
		mfs_cleanup_close(&pair[0]);
		mfs_cleanup_close(&pair[1]);
		return err->code;
	}
	if (*pid == 0) {
		mfs_cleanup_close(&pair[0]);
		confined_main(command, env, extra_fd, fn, pair[1], arg, parent);
	}
	mfs_cleanup_close(&pair[1]);
	if (link != NULL)
		*link = pair[0];
	return MFS_OK;
}

int
mfs_cmd_reap(pid_t pid, const char *what, struct mfs_err *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) {
			(void)mfs_fail_sys(err, MFS_INTERNAL, "%s: its process is lost", what);
			return -1;
		}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* Whoever read what was shown has gone: no error, and no words. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) {
		(void)signal(SIGPIPE, SIG_DFL);
		(void)raise(SIGPIPE);
	}
	(void)mfs_fail(err, MFS_INTERNAL, "%s: its process was ended by signal %d (%s)", what, WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return -1;
}

/* ---- mounted or not --------------------------------------------------------------------------------- */

enum mfs_code
mfs_cmd_side(struct mfs_cmd_env *env, bool *mounted, struct mfs_err *err)
{
	int64_t until = mfs_clock_mono_ms() + SIDE_WAIT_MS;

	for (;;) {
		mfs_autoclose int fd = -1;
		enum mfs_code code = mfs_client_connect(env->config, &fd, err);

		*mounted = code == MFS_OK;
		if (code != MFS_CONDITION_UNMET)
			return code;
		code = mfs_lock_take(env->folders.state, MFS_STATE_LOCK, false, &env->lock, err);
		if (code != MFS_CONDITION_UNMET)
			return code;
		if (mfs_clock_mono_ms() >= until)
			return mfs_fail(err, MFS_CONDITION_UNMET,
				"%s: another modelfs holds the state but does not answer on %s/control; try again, or see "
				"'modelfs doctor'",
				MFS_ESC(env->config->state), MFS_ESC(env->config->run));
		(void)nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
}

enum mfs_code
mfs_offline_open(struct mfs_cmd_env *env, unsigned flags, struct mfs_offline *out, struct mfs_err *err)
{
	struct mfs_engine_args args = { .config = env->config, .state_dirfd = env->folders.state, .flags = flags };

	*out = (struct mfs_offline){ 0 };
	mfs_log_open("command", (enum mfs_level)0); /* the command itself says what happened */
	if (mfs_keys_load(env->config, &env->keys, &out->keys, err) != MFS_OK ||
		mfs_store_open(env->folders.store, env->seeds, env->n_seeds, &out->store, err) != MFS_OK ||
		mfs_events_open(env->folders.state, (flags & MFS_TRUSTED_READ) != 0, &out->events, err) != MFS_OK) {
		mfs_offline_close(out);
		return err->code;
	}
	args.keys = out->keys;
	args.store = out->store;
	args.events = out->events;
	if (mfs_engine_open(&args, &out->engine, err) != MFS_OK) {
		mfs_offline_close(out);
		return err->code;
	}
	return MFS_OK;
}

void
mfs_offline_close(struct mfs_offline *o)
{
	mfs_engine_close(o->engine);
	mfs_events_close(o->events);
	mfs_store_close(o->store);
	mfs_keys_free(o->keys);
	*o = (struct mfs_offline){ 0 };
}

struct change {
	const char *command;
	mfs_offline_fn *fn;
	size_t model;
};

static int
change_confined(struct mfs_cmd_env *env, int link, void *arg)
{
	struct change *ch = arg;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_offline o;
	int status;

	(void)link;
	if (mfs_offline_open(env, 0, &o, &err) != MFS_OK)
		return mfs_cmd_fail(ch->command, &err);
	status = ch->fn(&o, env->config, ch->model);
	mfs_offline_close(&o);
	return status;
}

int
mfs_cmd_change(const char *command, const struct mfs_args *args, const struct mfs_ctl_request *req, int idle_ms,
	bool (*line)(void *user, const json_t *body), mfs_offline_fn *offline)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct change ch = { command, offline, 0 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	bool mounted;
	ssize_t i;
	pid_t pid;
	int status;

	if (mfs_cmd_env_ask(&env, command, args->config, &err) != MFS_OK)
		return mfs_cmd_fail(command, &err);
	ch.model = env.config->n_models;
	if (req->model[0] != '\0') {
		if ((i = mfs_cmd_model(env.config, req->model, &err)) < 0)
			return mfs_cmd_fail(command, &err);
		ch.model = (size_t)i;
	}
	if (mfs_client_ask(env.config, req, idle_ms, line, NULL, &reply, &err) == MFS_OK)
		return mfs_client_finish(command, &reply);
	/* ENOENT, ECONNREFUSED: nobody listens. Anything else is an answer that went wrong. */
	if (err.code != MFS_CONDITION_UNMET || err.sys_errno == 0 || mfs_cmd_env_broken(&env, &err) != MFS_OK)
		return mfs_cmd_fail(command, &err);
	if (mfs_cmd_env_open(&env, false, &err) != MFS_OK || mfs_cmd_side(&env, &mounted, &err) != MFS_OK)
		return mfs_cmd_fail(command, &err);
	if (mounted) {
		if (mfs_client_ask(env.config, req, idle_ms, line, NULL, &reply, &err) == MFS_OK)
			return mfs_client_finish(command, &reply);
		return mfs_cmd_fail(command, &err);
	}
	if (mfs_cmd_confined(command, &env, -1, change_confined, &ch, NULL, &pid, &err) != MFS_OK ||
		(status = mfs_cmd_reap(pid, command, &err)) < 0)
		return mfs_cmd_fail(command, &err);
	return status;
}
