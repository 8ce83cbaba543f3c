/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_wait.c - `modelfs wait ID [--version V] [--timeout T]`: until a version is active and served. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd_common.h"
#include "io.h"

int
mfs_cmd_wait(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_ctl_request r = { .command = MFS_CTL_WAIT, .timeout_ms = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	struct mfs_args args;
	int64_t until;
	ssize_t i;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_VERSION | MFS_ARG_TIMEOUT, 1, 1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "wait", args.config, &err) != MFS_OK ||
		(i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0)
		return mfs_cmd_fail("wait", &err);
	if (args.version != NULL && !mfs_version_ok(args.version, strlen(args.version))) {
		(void)mfs_fail(&err, MFS_CONFIG_INVALID, "'%s' is no version; write it as 1.2.3", MFS_ESC(args.version));
		return mfs_cmd_fail("wait", &err);
	}
	(void)snprintf(r.model, sizeof(r.model), "%s", env.config->models[i].id);
	(void)snprintf(r.version, sizeof(r.version), "%s", args.version != NULL ? args.version : "");
	until = args.timeout_ms < 0 ? -1 : mfs_clock_mono_ms() + args.timeout_ms;
	/* Not mounted yet, or a serve that restarts: asked again, so that a unit can wait for a mount. */
	for (;;) {
		int64_t left = until < 0 ? -1 : until - mfs_clock_mono_ms();

		r.timeout_ms = until < 0 ? -1 : left > 0 ? left : 0;
		err = (struct mfs_err)MFS_ERR_INIT;
		if (mfs_client_ask(env.config, &r, -1, NULL, NULL, &reply, &err) == MFS_OK) {
			if (reply.code != MFS_CONDITION_UNMET || (until >= 0 && mfs_clock_mono_ms() >= until))
				return mfs_client_finish("wait", &reply);
			json_decref(reply.body);
		} else if (err.code != MFS_CONDITION_UNMET) {
			return mfs_cmd_fail("wait", &err);
		}
		if (until >= 0 && mfs_clock_mono_ms() >= until) {
			if (err.code == MFS_OK)
				(void)mfs_fail(&err, MFS_CONDITION_UNMET, "%s: the time is over", r.model);
			return mfs_cmd_fail("wait", &err);
		}
		(void)nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	}
}
