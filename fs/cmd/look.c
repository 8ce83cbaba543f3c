/* SPDX-License-Identifier: Apache-2.0 */
/* look.c - commands that only look at the trusted state while nothing is mounted. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd_common.h"

struct look {
	const char *command;
	mfs_look_fn *fn;
	void *arg;
};

static int
look_main(struct mfs_cmd_env *env, int link, void *arg)
{
	const struct look *l = arg;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_offline o;
	int status;

	(void)link;
	if (mfs_offline_open(env, MFS_TRUSTED_READ, &o, &err) != MFS_OK)
		return mfs_cmd_fail(l->command, &err);
	status = l->fn(env, &o, l->arg);
	mfs_offline_close(&o);
	return status;
}

static bool
stands(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path) && lstat(path, &st) == 0;
}

/* Something is missing, but was anything ever installed? Then saying "nothing" would be wrong. */
static bool
was_installed(const struct mfs_config *c, struct mfs_err *err)
{
	static const char *const parts[] = { "anchor.0", "anchor.1", "counter" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (!stands(c->state, parts[i]))
			continue;
		if (err->code == MFS_IO)
			(void)mfs_err_hint(err, "; the state is there: mounting or installing makes a new store, and what was in "
				"it must be installed again");
		return true;
	}
	if (!stands(c->store, ".state-id"))
		return false;
	(void)mfs_err_hint(err, "; the store says that there was a state: restore it or run 'modelfs recover'");
	return true;
}

int
mfs_cmd_look(const char *command, struct mfs_cmd_env *env, mfs_look_fn *fn, void *arg)
{
	struct look l = { command, fn, arg };
	struct mfs_err err = MFS_ERR_INIT;
	pid_t pid;
	int status;

	if (mfs_cmd_env_open(env, false, &err) != MFS_OK) {
		/* No folder, or no key in an empty one: nothing was ever installed here. */
		if (err.sys_errno == ENOENT && (err.code == MFS_IO || err.code == MFS_KEY_UNAVAILABLE) &&
			!was_installed(env->config, &err))
			return fn(env, NULL, arg);
		if (err.sys_errno == EACCES)
			(void)mfs_err_hint(&err, "; modelfs is not mounted");
		return mfs_cmd_fail(command, &err);
	}
	if (mfs_cmd_confined(command, env, -1, look_main, &l, NULL, &pid, &err) != MFS_OK ||
		(status = mfs_cmd_reap(pid, command, &err)) < 0)
		return mfs_cmd_fail(command, &err);
	return status;
}
