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
	bool wrong = false;

	for (size_t i = 0; i < c->n_notes; i++)
		printf("%s\n", c->notes[i]);
	if (mfs_key_fds_open(c, -1, &env->keys, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	env->has_keys = true;
	if (mfs_keys_load(c, &env->keys, &keys, &err) != MFS_OK)
		return mfs_cmd_fail("config", &err);
	/*
	 * What a mount would go on without, for the sake of the other models, is wrong all the same. A credential
	 * is there only within its unit.
	 */
	for (size_t i = 0; i < c->n_models; i++) {
		bool credential = c->models[i].model_key != NULL && strncmp(c->models[i].model_key, "credential:", 11) == 0;

		if (env->keys.reason[i] == NULL)
			continue;
		printf("%s: models.%s.model_key: %s\n", c->path, c->models[i].id, env->keys.reason[i]);
		wrong = wrong || !credential || getenv("CREDENTIALS_DIRECTORY") != NULL;
	}
	for (size_t i = 0; i < c->n_repos; i++)
		wrong = wrong || mfs_keys_root(keys, i).len == 0; /* said when it was opened */
	if (wrong) {
		(void)mfs_fail(&err, MFS_CONFIG_INVALID, "%s: files that it names cannot be used, see above", c->path);
		return mfs_cmd_fail("config", &err);
	}
	printf("%s: right: %zu model%s, %zu trust key%s", c->path, c->n_models, c->n_models == 1 ? "" : "s", c->n_keys,
		c->n_keys == 1 ? "" : "s");
	if (c->n_repos > 0)
		printf(", %zu repositor%s", c->n_repos, c->n_repos == 1 ? "y" : "ies");
	printf("\n");
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
