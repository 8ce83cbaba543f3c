/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the modelfs command: dispatch by a table. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"

static const struct mfs_cmd commands[] = {
	{ "mount", "[-c FILE | --repository DIR --root FILE] [-f] [MOUNTPOINT]", "show verified models; returns when they are served", mfs_cmd_mount, false },
	{ "unmount", "[-c FILE] [--lazy|--force]", "end it; returns when nothing is left mounted", mfs_cmd_unmount, false },
	{ "serve", "", "internal", mfs_cmd_serve, true },
	{ "status", "[-c FILE] [ID] [--json]", "what is served, since when, and what happened last", mfs_cmd_status, false },
	{ "check", "[-c FILE] [ID]", "ask the repositories now, and say what is offered", mfs_cmd_check, false },
	{ "update", "[-c FILE] [ID] [--from URL|DIR [--cacert FILE]]", "bring what is offered, check it, make it active", mfs_cmd_update, false },
	{ "install", "[-c FILE] BUNDLE [ID]", "verify a bundle, copy it into the store, make it active", mfs_cmd_install, false },
	{ "rollback", "[-c FILE] ID", "back to the previous version; holds the model", mfs_cmd_rollback, false },
	{ "pin", "[-c FILE] ID VERSION", "keep a model at a version", mfs_cmd_pin, false },
	{ "unpin", "[-c FILE] ID", "let a held model go on", mfs_cmd_unpin, false },
	{ "mark", "[-c FILE] good|bad ID VERSION|active", "judge a version: bad goes back at once", mfs_cmd_mark, false },
	{ "explain", "[-c FILE] ID", "every rollout, condition and refusal: why this version", mfs_cmd_explain, false },
	{ "verify", "[-c FILE] [ID]", "check every stored byte against what was signed", mfs_cmd_verify, false },
	{ "events", "[-c FILE] [-f] [ID] [--json]", "what happened, and with -f what happens", mfs_cmd_events, false },
	{ "wait", "[-c FILE] ID [--version V] [--timeout T]", "until a version is active", mfs_cmd_wait, false },
	{ "exec", "[-c FILE] ID -- CMD...", "run a command that sees one version in MODELFS_DIR", mfs_cmd_exec, false },
	{ "gc", "[-c FILE]", "remove what no version needs any more", mfs_cmd_gc, false },
	{ "keys", "[-c FILE] init|show|retrust [--json]", "make the state key; list keys; load them anew", mfs_cmd_keys,
		false },
	{ "config", "[-c FILE] check|show", "check the configuration, or show what is in effect", mfs_cmd_config, false },
	{ "device", "[-c FILE] --json", "one line about this host for a publisher's inventory", mfs_cmd_device, false },
	{ "evidence", "[-c FILE] -o FILE", "what was signed, decided and done, in one tar", mfs_cmd_evidence, false },
	{ "recover", "[-c FILE]", "a new trusted state after the old one was lost or damaged", mfs_cmd_recover, false },
	{ "doctor", "[-c FILE] [--json]", "what this host lacks, what it costs, how to fix it", mfs_cmd_doctor, false },
	{ NULL, NULL, NULL, NULL, false },
};

static void
help(FILE *out)
{
	fprintf(out, "usage: modelfs COMMAND [-c FILE] [ARGUMENTS]\n\n"
		     "A filesystem that shows only verified models.\n\n");
	for (const struct mfs_cmd *c = commands; c->name != NULL; c++)
		if (!c->internal)
			fprintf(out, "  %-9s %-42s %s\n", c->name, c->args, c->help);
	fprintf(out, "\nSee modelfs(8).\n");
}

static int
run(const struct mfs_cmd *c, int argc, char **argv)
{
	mfs_cmd_enter(c);
	/* What is made here has modes of its own; a caller's umask could only make it unreadable for serve. */
	if (strcmp(c->name, "exec") != 0)
		(void)umask(022);
	return mfs_cmd_shown(c->name, c->run(argc, argv));
}

int
main(int argc, char **argv)
{
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;

	name = name != NULL ? name + 1 : argc > 0 ? argv[0] : "";
	if (strcmp(name, "mount.modelfs") == 0)
		return mfs_cmd_enter(&commands[0]), (void)umask(022), mfs_mount_helper(argc, argv);
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
			return run(c, argc - 1, argv + 1);
	fprintf(stderr, "modelfs: no command '%s'; see 'modelfs --help'\n", MFS_ESC(argv[1]));
	return MFS_EXIT_USAGE;
}
