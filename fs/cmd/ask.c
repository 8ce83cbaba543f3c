/* SPDX-License-Identifier: Apache-2.0 */
/* ask.c - which configuration a command asks with: the files', or that of the mount they started when they are broken by now. */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"
#include "running.h"

static bool
answers(const struct mfs_config *c)
{
	mfs_autoclose int fd = -1;
	struct mfs_err err = MFS_ERR_INIT;

	return mfs_client_connect(c, &fd, &err) == MFS_OK;
}

/* The files are valid, but lead elsewhere than to what they started, and nothing answers there. */
static bool
leads_elsewhere(const struct mfs_config *now, const struct mfs_config *running, struct mfs_err *why)
{
	const bool state = strcmp(now->state, running->state) != 0;

	if (strcmp(now->run, running->run) == 0 || answers(now))
		return false;
	(void)mfs_fail(why, MFS_CONFIG_INVALID, "%s: %s: was %s; this change takes effect only after 'modelfs unmount' and "
		"'modelfs mount'", MFS_ESC(now->path), state ? "state" : "run", MFS_ESC(state ? running->state : running->run));
	return true;
}

enum mfs_code
mfs_cmd_env_running(struct mfs_cmd_env *env, const char *path, bool dead, struct mfs_err *err)
{
	struct mfs_config_snapshot *snapshot = NULL;
	struct mfs_config *config = NULL;
	struct mfs_running_names names;
	struct mfs_err why = MFS_ERR_INIT;
	const bool valid = mfs_cmd_env_config(env, path, &why) == MFS_OK;

	mfs_running_names(path, &names);
	/* Without memory nothing is known of the files. */
	if (why.code == MFS_NO_MEMORY || mfs_running_find(&names, &snapshot, &config, NULL) != MFS_OK ||
		(valid && !leads_elsewhere(env->config, config, &why)) || (!dead && !answers(config))) {
		mfs_config_free(config);
		mfs_config_snapshot_free(snapshot);
		if (!valid && err != NULL)
			*err = why;
		return valid ? MFS_OK : why.code;
	}
	mfs_config_free(env->config);
	mfs_config_snapshot_free(env->snapshot);
	env->config = config;
	env->snapshot = snapshot;
	env->broken = why;
	return MFS_OK;
}

enum mfs_code
mfs_cmd_env_ask(struct mfs_cmd_env *env, const char *command, const char *path, struct mfs_err *err)
{
	enum mfs_code code = mfs_cmd_env_running(env, path, strcmp(command, "unmount") == 0, err);

	if (code == MFS_OK && env->broken.code != MFS_OK)
		fprintf(stderr, "modelfs: %s: %s: %s; what is mounted runs with the configuration before it\n", command,
			mfs_code_name(env->broken.code), env->broken.msg);
	return code;
}

enum mfs_code
mfs_cmd_env_broken(const struct mfs_cmd_env *env, struct mfs_err *err)
{
	if (env->broken.code != MFS_OK && err != NULL)
		*err = env->broken;
	return env->broken.code;
}
