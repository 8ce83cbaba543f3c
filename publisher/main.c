/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub: makes, signs and checks bundles, and publishes them. See modelpub(1). */
#include <getopt.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cleanup.h"
#include "cmd.h"
#include "lanes.h"

static const struct command {
	const char *name;
	char *title; /* for getopt's messages */
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "key", (char[]){ "modelpub key" }, mfs_cmd_key, "make a signing key or a model key" },
	{ "pack", (char[]){ "modelpub pack" }, mfs_cmd_pack, "files and folders into a signed bundle" },
	{ "sign", (char[]){ "modelpub sign" }, mfs_cmd_sign, "add a signature, also one made elsewhere" },
	{ "verify", (char[]){ "modelpub verify" }, mfs_cmd_verify, "check every byte of a bundle, with public keys alone" },
	{ "inspect", (char[]){ "modelpub inspect" }, mfs_cmd_inspect, "show what a bundle says of itself" },
	{ "init", (char[]){ "modelpub init" }, mfs_cmd_init, "make a repository, and its role keys" },
	{ "publish", (char[]){ "modelpub publish" }, mfs_cmd_publish, "a bundle into a repository, and to whom" },
	{ "rollout", (char[]){ "modelpub rollout" }, mfs_cmd_rollout, "show, offer and change who gets what" },
	{ "advance", (char[]){ "modelpub advance" }, mfs_cmd_advance, "confirm the next step of a rollout" },
	{ "revoke", (char[]){ "modelpub revoke" }, mfs_cmd_revoke, "the kill switch for a version" },
	{ "grant", (char[]){ "modelpub grant" }, mfs_cmd_grant, "what is packed already, for a further model key" },
	{ "republish", (char[]){ "modelpub republish" }, mfs_cmd_republish, "an older version's files as a new version" },
	{ "plan", (char[]){ "modelpub plan" }, mfs_cmd_plan, "which devices would get what" },
	{ "refresh", (char[]){ "modelpub refresh" }, mfs_cmd_refresh, "sign a new timestamp, for cron" },
	{ "trust", (char[]){ "modelpub trust" }, mfs_cmd_trust, "the keys that may sign models" },
	{ "rotate", (char[]){ "modelpub rotate" }, mfs_cmd_rotate, "a new key for a role" },
	{ "metadata", (char[]){ "modelpub metadata" }, mfs_cmd_metadata, "changes that several holders sign" },
	{ "rebase", (char[]){ "modelpub rebase" }, mfs_cmd_rebase, "an upload folder upon what is published now" },
	{ "check", (char[]){ "modelpub check" }, mfs_cmd_check, "a repository as a device sees it" },
	{ "export", (char[]){ "modelpub export" }, mfs_cmd_export, "a repository to a stick or a site" },
	{ "gc", (char[]){ "modelpub gc" }, mfs_cmd_gc, "remove what nothing refers to" },
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
help(FILE *f)
{
	(void)fprintf(f, "usage: modelpub COMMAND [options]\n\nPack, sign and check model bundles for modelfs.\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		(void)fprintf(f, "  %-9s  %s\n", commands[i].name, commands[i].what);
	(void)fprintf(f, "\n'modelpub COMMAND --help' lists its options; modelpub(1) has examples.\n");
}

static int
version(void)
{
	(void)printf("modelpub %s (%s)\n", PACKAGE_VERSION, OpenSSL_version(OPENSSL_VERSION));
	return mfs_finish("version");
}

/* Long work stops at the next batch and removes what it has written; then the signal is obeyed. */
static void
signals_setup(void)
{
	struct sigaction sa = { .sa_handler = mfs_interrupt };

	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

/* Keys must not reach a core file. */
static void
cores_forbid(void)
{
	const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
}

static int
run(const struct command *c, int argc, char **argv)
{
	int exit_code, signal_number;

	cores_forbid();
	signals_setup();
	argv[0] = c->title;
	exit_code = c->run(argc, argv);
	if (exit_code != MFS_EXIT_DONE && (signal_number = mfs_interrupted()) != 0) {
		(void)signal(signal_number, SIG_DFL);
		(void)raise(signal_number);
	}
	return exit_code;
}

int
mfs_command_again(int argc, const char *const *argv)
{
	mfs_autofree char **copy = calloc((size_t)argc + 1, sizeof(*copy));

	for (size_t i = 0; copy != NULL && i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, argv[0]) == 0) {
			for (int k = 1; k < argc; k++)
				copy[k] = (char *)(uintptr_t)argv[k]; /* getopt reorders, it does not write */
			copy[0] = commands[i].title;
			optind = 0; /* getopt starts anew */
			return commands[i].run(argc, copy);
		}
	return mfs_usage("rebase", "'%s': no such command, or no memory", MFS_ESC(argv[0]));
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
		return mfs_finish("help");
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return version();
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			/* Alone it is ours; with a value it is the version of the model to pack. */
			if (argc == 3 && strcmp(argv[2], "--version") == 0)
				return version();
			return run(&commands[i], argc - 1, argv + 1);
		}
	(void)fprintf(stderr, "modelpub: unknown command '%s'; see 'modelpub --help'\n", MFS_ESC(argv[1]));
	return MFS_EXIT_USAGE;
}
