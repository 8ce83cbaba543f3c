/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_explain.c - `modelfs explain ID`: from serve, or without a mount from state, configuration and clock. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cmd_common.h"
#include "explain.h"
#include "refresh.h"

struct question {
	size_t model;
	struct mfs_cycle_facts host;
};

static int
render(const struct mfs_explained *x, size_t model)
{
	mfs_autofree char *text = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	if (mfs_explain_render(x, model, &text, &len, &err) != MFS_OK)
		return mfs_cmd_fail("explain", &err);
	mfs_cmd_print(stdout, text, len);
	return MFS_EXIT_DONE;
}

static int
look(const struct mfs_cmd_env *env, const struct mfs_offline *o, void *arg)
{
	struct question *q = arg;
	struct mfs_explained x = { .config = env->config, .host = &q->host };
	struct mfs_refresh_args args = { .config = env->config, .state_dirfd = env->folders.state };
	MFS_CLEANUP(mfs_cleanup_refresh) struct mfs_refresh *r = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (o == NULL)
		return render(&x, q->model);
	args.engine = x.engine = o->engine;
	args.keys = o->keys;
	args.events = o->events;
	if (mfs_refresh_new(&args, &r, &err) != MFS_OK)
		return mfs_cmd_fail("explain", &err);
	x.refresh = r;
	q->host.budget_left = mfs_engine_budget_left(o->engine, mfs_refresh_now(r) / 86400);
	return render(&x, q->model);
}

/* The hold file is looked for here: the confined child does not see it. */
static void
host_facts(const struct mfs_config *c, struct mfs_cycle_facts *out)
{
	time_t wall = time(NULL);
	struct tm tm = { 0 };

	*out = (struct mfs_cycle_facts){ .budget_left = UINT64_MAX };
	out->hold = c->update.conditions.hold_file != NULL && access(c->update.conditions.hold_file, F_OK) == 0;
	if (localtime_r(&wall, &tm) != NULL)
		out->minute = (unsigned)(tm.tm_hour * 60 + tm.tm_min);
}

int
mfs_cmd_explain(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_ctl_request r = { .command = MFS_CTL_EXPLAIN, .timeout_ms = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	struct question q = { 0 };
	struct mfs_args args;
	const json_t *text;
	ssize_t i;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 1, 1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "explain", args.config, &err) != MFS_OK ||
		(i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0)
		return mfs_cmd_fail("explain", &err);
	(void)snprintf(r.model, sizeof(r.model), "%s", env.config->models[i].id);
	if (mfs_client_ask(env.config, &r, 30000, NULL, NULL, &reply, &err) == MFS_OK) {
		text = json_object_get(reply.body, "text");
		if (reply.code == MFS_OK && json_is_string(text))
			mfs_cmd_print(stdout, json_string_value(text), json_string_length(text));
		return mfs_client_finish("explain", &reply);
	}
	if (err.code != MFS_CONDITION_UNMET || err.sys_errno == 0 || mfs_cmd_env_broken(&env, &err) != MFS_OK)
		return mfs_cmd_fail("explain", &err);
	q.model = (size_t)i;
	host_facts(env.config, &q.host);
	return mfs_cmd_look("explain", &env, look, &q);
}
