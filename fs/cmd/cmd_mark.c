/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mark.c - `modelfs mark good|bad ID VERSION|active`, `modelfs pin ID VERSION`. */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"

#define CHANGE_IDLE_MS 150000

static struct mfs_ctl_request asked; /* of this process's one command, for its confined child */

static int
moved_say(const char *id, bool moved, const char *from, const char *to, const char *otherwise)
{
	if (moved && to[0] != '\0')
		printf("%s %s is active (was %s)\n", id, to, from);
	else if (moved)
		printf("%s %s is no longer active; nothing else is kept here: nothing is served\n", id, from);
	else
		printf("%s: %s\n", id, otherwise);
	return MFS_EXIT_DONE;
}

static int
mark_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;
	enum mfs_code code = mfs_engine_mark(o->engine, model, asked.version, asked.good, &moved, from, to, &err);

	if (code != MFS_OK) {
		(void)mfs_cmd_fail("mark", &err);
		return code == MFS_NOT_SELECTED ? MFS_EXIT_NOTHING : (int)mfs_code_exit(code);
	}
	return moved_say(c->models[model].id, moved, from, to, asked.good ? "marked good" : "marked bad");
}

static int
pin_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	if (mfs_engine_pin(o->engine, model, asked.version, &moved, from, to, &err) != MFS_OK)
		return mfs_cmd_fail("pin", &err);
	return moved_say(c->models[model].id, moved, from, to, "pinned until 'modelfs unpin'");
}

static bool
version_take(const char *command, const char *text, bool active)
{
	if (strlen(text) < sizeof(asked.version) &&
		((active && strcmp(text, "active") == 0) || mfs_version_ok(text, strlen(text)))) {
		memcpy(asked.version, text, strlen(text) + 1);
		return true;
	}
	fprintf(stderr, "modelfs: %s: '%s' is no version%s\n", command, MFS_ESC(text), active ? ", and not 'active'" : "");
	return false;
}

int
mfs_cmd_mark(int argc, char **argv)
{
	struct mfs_args args;
	int code;

	asked = (struct mfs_ctl_request){ .command = MFS_CTL_MARK, .timeout_ms = -1 };
	if (!mfs_args_parse(argc, argv, 0, 3, 3, &args, &code))
		return code;
	asked.good = strcmp(args.pos[0], "good") == 0;
	if (!asked.good && strcmp(args.pos[0], "bad") != 0) {
		fprintf(stderr, "modelfs: mark: '%s' is neither good nor bad\n", MFS_ESC(args.pos[0]));
		return mfs_cmd_usage(NULL);
	}
	if (!version_take("mark", args.pos[2], true))
		return mfs_cmd_usage(NULL);
	(void)snprintf(asked.model, sizeof(asked.model), "%s", args.pos[1]);
	return mfs_cmd_change(argv[0], &args, &asked, CHANGE_IDLE_MS, NULL, mark_offline);
}

int
mfs_cmd_pin(int argc, char **argv)
{
	struct mfs_args args;
	int code;

	asked = (struct mfs_ctl_request){ .command = MFS_CTL_PIN, .timeout_ms = -1 };
	if (!mfs_args_parse(argc, argv, 0, 2, 2, &args, &code))
		return code;
	if (!version_take("pin", args.pos[1], false))
		return mfs_cmd_usage(NULL);
	(void)snprintf(asked.model, sizeof(asked.model), "%s", args.pos[0]);
	return mfs_cmd_change(argv[0], &args, &asked, CHANGE_IDLE_MS, NULL, pin_offline);
}
