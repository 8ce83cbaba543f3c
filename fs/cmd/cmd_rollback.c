/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_rollback.c - `modelfs rollback ID` and `modelfs unpin ID`. */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"

#define CHANGE_IDLE_MS 150000

static int
rollback_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *id = c->models[model].id;
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_engine_rollback(o->engine, model, from, to, &err);

	if (code == MFS_NOT_SELECTED) {
		(void)mfs_cmd_fail("rollback", &err);
		return MFS_EXIT_NOTHING;
	}
	if (code != MFS_OK)
		return mfs_cmd_fail("rollback", &err);
	printf("%s %s is active (was %s); held until 'modelfs unpin %s'\n", id, to, from, id);
	return MFS_EXIT_DONE;
}

static int
unpin_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool was_held = false;

	if (mfs_engine_unpin(o->engine, model, &was_held, &err) != MFS_OK)
		return mfs_cmd_fail("unpin", &err);
	printf(was_held ? "%s is no longer held\n" : "%s was not held: nothing to do\n", c->models[model].id);
	return was_held ? MFS_EXIT_DONE : MFS_EXIT_NOTHING;
}

static int
one_model(int argc, char **argv, enum mfs_ctl_command command, mfs_offline_fn *offline)
{
	struct mfs_ctl_request r = { .command = command, .timeout_ms = -1 };
	struct mfs_args args;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 1, 1, &args, &code))
		return code;
	(void)snprintf(r.model, sizeof(r.model), "%s", args.pos[0]);
	return mfs_cmd_change(argv[0], &args, &r, CHANGE_IDLE_MS, NULL, offline);
}

int
mfs_cmd_rollback(int argc, char **argv)
{
	return one_model(argc, argv, MFS_CTL_ROLLBACK, rollback_offline);
}

int
mfs_cmd_unpin(int argc, char **argv)
{
	return one_model(argc, argv, MFS_CTL_UNPIN, unpin_offline);
}
