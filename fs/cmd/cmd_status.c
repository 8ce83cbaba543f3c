/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_status.c - `modelfs status [ID] [--json]`: from serve, or without a mount from the trusted state. */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"
#include "io.h"
#include "refresh.h"
#include "status.h"

#define STATUS_IDLE_MS 10000

struct offline {
	enum mfs_status_kind kind;
	size_t model;
};

static int
render(const struct mfs_config *c, struct mfs_engine *e, int64_t now, const struct offline *q)
{
	mfs_autofree char *text = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	if (mfs_status_render_offline(c, e, now, q->kind, q->model, &text, &len, &err) != MFS_OK)
		return mfs_cmd_fail("status", &err);
	mfs_cmd_print(stdout, text, len);
	return MFS_EXIT_DONE;
}

static int
look(const struct mfs_cmd_env *env, const struct mfs_offline *o, void *arg)
{
	struct mfs_refresh_args args = { .config = env->config, .state_dirfd = env->folders.state };
	MFS_CLEANUP(mfs_cleanup_refresh) struct mfs_refresh *r = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (o == NULL)
		return render(env->config, NULL, mfs_clock_wall(), arg);
	args.engine = o->engine;
	args.keys = o->keys;
	args.events = o->events;
	/* What a mount would not show (stale: stop) is not said to be served. */
	if (mfs_refresh_new(&args, &r, &err) != MFS_OK)
		return mfs_cmd_fail("status", &err);
	return render(env->config, o->engine, mfs_refresh_now(r), arg);
}

int
mfs_cmd_status(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_ctl_request r = { .command = MFS_CTL_STATUS, .timeout_ms = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	struct offline q = { 0 };
	struct mfs_args args;
	const json_t *text;
	ssize_t i = -1;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_JSON, 0, 1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "status", args.config, &err) != MFS_OK)
		return mfs_cmd_fail("status", &err);
	if (args.n_pos == 1 && (i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0)
		return mfs_cmd_fail("status", &err);
	r.json = args.json;
	if (i >= 0)
		(void)snprintf(r.model, sizeof(r.model), "%s", env.config->models[i].id);
	if (mfs_client_ask(env.config, &r, STATUS_IDLE_MS, NULL, NULL, &reply, &err) == MFS_OK) {
		text = json_object_get(reply.body, "text");
		if (reply.code == MFS_OK && json_is_string(text))
			mfs_cmd_print(stdout, json_string_value(text), json_string_length(text));
		return mfs_client_finish("status", &reply);
	}
	if (err.code != MFS_CONDITION_UNMET || err.sys_errno == 0 || mfs_cmd_env_broken(&env, &err) != MFS_OK)
		return mfs_cmd_fail("status", &err);
	q.kind = i >= 0 ? (args.json ? MFS_STATUS_MODEL_JSON : MFS_STATUS_MODEL_TEXT)
			: (args.json ? MFS_STATUS_ALL_JSON : MFS_STATUS_ALL_TEXT);
	q.model = i >= 0 ? (size_t)i : 0;
	return mfs_cmd_look("status", &env, look, &q);
}
