/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - subcommands of modelfs: a table in main.c, one function each, exit codes of error.h. */
#ifndef MFS_CMD_H
#define MFS_CMD_H

#include "config.h"

struct mfs_cmd {
	const char *name, *args, *help;
	int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name */
	bool internal; /* not listed: serve and children */
};

/* Print "modelfs: COMMAND: outcome: message" on stderr; returns the exit code of the outcome. */
int mfs_cmd_fail(const char *command, const struct mfs_err *err);
/* "usage: modelfs NAME ARGS" on stderr; returns MFS_EXIT_USAGE. */
int mfs_cmd_usage(const struct mfs_cmd *cmd);

/* mount.c, unmount.c, serve.c */
int mfs_cmd_mount(int argc, char **argv);
int mfs_cmd_unmount(int argc, char **argv);
int mfs_cmd_serve(int argc, char **argv);
/* cmd_*.c */
int mfs_cmd_status(int argc, char **argv);
int mfs_cmd_install(int argc, char **argv);
int mfs_cmd_rollback(int argc, char **argv);
int mfs_cmd_unpin(int argc, char **argv);
int mfs_cmd_verify(int argc, char **argv);
int mfs_cmd_events(int argc, char **argv);
int mfs_cmd_wait(int argc, char **argv);
int mfs_cmd_exec(int argc, char **argv);
int mfs_cmd_gc(int argc, char **argv);
int mfs_cmd_keys(int argc, char **argv);
int mfs_cmd_config(int argc, char **argv);
int mfs_cmd_recover(int argc, char **argv);
int mfs_cmd_doctor(int argc, char **argv);

#endif
