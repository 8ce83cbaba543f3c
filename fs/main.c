/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the modelfs command: dispatch by a table. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static const struct mfs_cmd commands[] = {
	{ "status", "[-c FILE] [ID] [--json]", "What is served, since when, and what happened last.", mfs_cmd_status, false },
	{ "install", "[-c FILE] BUNDLE", "Verify a bundle, copy it into the store and make it active.", mfs_cmd_install,
		false },
	{ NULL, NULL, NULL, NULL, false },
};

static void
help(FILE *out)
{
	fprintf(out, "usage: modelfs COMMAND [-c FILE] [ARGUMENTS]\n\n"
		     "A filesystem that shows only verified models.\n\n");
	for (const struct mfs_cmd *c = commands; c->name != NULL; c++)
		if (!c->internal)
			fprintf(out, "  %-10s %-28s %s\n", c->name, c->args, c->help);
	fprintf(out, "\nSee modelfs(8).\n");
}

int
main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return MFS_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		help(stdout);
		return MFS_EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("modelfs %s\n", PACKAGE_VERSION);
		return MFS_EXIT_DONE;
	}
	for (const struct mfs_cmd *c = commands; c->name != NULL; c++)
		if (strcmp(argv[1], c->name) == 0)
			return mfs_cmd_enter(c), c->run(argc - 1, argv + 1);
	fprintf(stderr, "modelfs: no command '%s'; see 'modelfs --help'\n", MFS_ESC(argv[1]));
	return MFS_EXIT_USAGE;
}
