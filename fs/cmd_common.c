/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_common.c - configuration, folders and keys of a command, and its confined child. */
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_common.h"

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
	return MFS_OK;
}

void
mfs_cmd_env_close(struct mfs_cmd_env *env)
{
	if (env->has_keys)
		mfs_key_fds_close(env->config, &env->keys);
	env->has_keys = false;
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

/* Only in the child; never returns. */
static void
confined_main(const char *command, struct mfs_cmd_env *env, int extra_fd, mfs_confined_fn *fn, int link, void *arg,
	pid_t parent)
{
	struct mfs_sandbox_dir dirs[3] = {
		{ env->folders.state, true }, { env->folders.store, true }, { extra_fd, false },
	};
	struct mfs_sandbox sandbox = {
		.profile = MFS_SANDBOX_INSTALL, .uid = (uid_t)-1, .gid = (gid_t)-1, .dirs = dirs,
		.n_dirs = extra_fd >= 0 ? 3 : 2, .optional = env->config->sandbox_optional, .parent = parent,
	};
	struct mfs_sandbox_report report;
	struct mfs_err err = MFS_ERR_INIT;
	int status;

	if (geteuid() == 0) {
		sandbox.uid = env->folders.uid;
		sandbox.gid = env->folders.gid;
	}
	if (mfs_sandbox_apply(&sandbox, &report, &err) != MFS_OK)
		_exit(mfs_cmd_fail(command, &err));
	status = fn(env, link, arg);
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
	(void)mfs_fail(err, MFS_INTERNAL, "%s: its process was ended by signal %d (%s)", what, WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return -1;
}
