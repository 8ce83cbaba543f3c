/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_config.c - `modelfs config check|show`. */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"

static int
check(struct mfs_cmd_env *env)
{
	const struct mfs_config *c = env->config;
	MFS_CLEANUP(mfs_cleanup_keys) struct mfs_keys *keys = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	for (size_t i = 0; i < c->n_notes; i++)
		printf("%s\n", c->notes[i]);
	/* The trust keys are part of what must be right; model keys may arrive later. */
	if (mfs_key_fds_open(c, -1, &env->keys, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	env->has_keys = true;
	if (mfs_keys_load(c, &env->keys, &keys, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	for (size_t i = 0; i < c->n_models; i++)
		if (env->keys.reason[i] != NULL)
			printf("%s: models.%s.model_key: %s\n", c->path, c->models[i].id, env->keys.reason[i]);
	printf("%s: right: %zu model%s, %zu trust key%s\n", c->path, c->n_models, c->n_models == 1 ? "" : "s", c->n_keys,
		c->n_keys == 1 ? "" : "s");
	return MFS_EXIT_DONE;
}

int
mfs_cmd_config(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	mfs_autofree char *text = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	size_t len;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 1, 1, &args, &code))
		return code;
	if (strcmp(args.pos[0], "check") != 0 && strcmp(args.pos[0], "show") != 0) {
		fprintf(stderr, "modelfs: config: '%s' is neither check nor show\n", MFS_ESC(args.pos[0]));
		return mfs_cmd_usage(NULL);
	}
	if (mfs_cmd_env_config(&env, args.config, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	if (args.pos[0][0] == 'c')
		return check(&env);
	if (mfs_config_show(env.config, &text, &len, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	mfs_cmd_print(stdout, text, len);
	return MFS_EXIT_DONE;
}
