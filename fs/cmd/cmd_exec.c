/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_exec.c - `modelfs exec ID -- CMD...`: the command sees one version, whatever is swapped
 * while it opens file after file. For loaders that open many files one after the other.
 */
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_common.h"
#include "io.h"

/* Where the tree is: keeper's note, because the command line of mount may have said it; else the configuration. */
static char *
mounted_at(const struct mfs_config *c)
{
	mfs_autoclose int run = open(c->run, O_PATH | O_DIRECTORY | O_CLOEXEC);
	mfs_autofree uint8_t *noted = NULL;
	size_t len;

	if (run >= 0 && mfs_file_read(run, MFS_MOUNT_NOTE, PATH_MAX, &noted, &len, NULL) == MFS_OK)
		return strdup((const char *)noted);
	return strdup(c->mount);
}

int
mfs_cmd_exec(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	mfs_autofree char *link = NULL, *dir = NULL, *mount = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	const char *id, *version;
	char target[PATH_MAX];
	ssize_t i, n;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 2, -1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "exec", args.config, &err) != MFS_OK ||
		(i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0)
		return mfs_cmd_fail("exec", &err);
	id = env.config->models[i].id;
	if ((mount = mounted_at(env.config)) == NULL || asprintf(&link, "%s/%s/active", mount, id) < 0) {
		(void)mfs_fail(&err, MFS_NO_MEMORY, "no memory");
		return mfs_cmd_fail("exec", &err);
	}
	/* Read once: the very target that a path walk would have taken. */
	if ((n = readlink(link, target, sizeof(target) - 1)) < 0) {
		if (errno == ENOENT)
			(void)mfs_fail(&err, MFS_CONDITION_UNMET, "%s: no version is active, or modelfs is not mounted; see "
				"'modelfs status %s'", MFS_ESC(link), id);
		else
			(void)mfs_fail_sys(&err, MFS_IO, "%s", MFS_ESC(link));
		return mfs_cmd_fail("exec", &err);
	}
	target[n] = '\0';
	version = strrchr(target, '/') != NULL ? strrchr(target, '/') + 1 : target;
	if (!mfs_version_ok(version, strlen(version))) {
		(void)mfs_fail(&err, MFS_MALFORMED, "%s: leads to '%s', which is no version: is modelfs mounted there?",
			MFS_ESC(link), MFS_ESC(target));
		return mfs_cmd_fail("exec", &err);
	}
	if (asprintf(&dir, "%s/%s/versions/%s", mount, id, version) < 0 ||
		setenv("MODELFS_DIR", dir, 1) != 0 || setenv("MODELFS_MODEL", id, 1) != 0 ||
		setenv("MODELFS_VERSION", version, 1) != 0) {
		(void)mfs_fail(&err, MFS_NO_MEMORY, "no memory");
		return mfs_cmd_fail("exec", &err);
	}
	(void)execvp(args.pos[1], args.pos + 1);
	(void)mfs_fail_sys(&err, MFS_IO, "%s", MFS_ESC(args.pos[1]));
	return mfs_cmd_fail("exec", &err);
}
