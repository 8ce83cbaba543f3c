/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_common.h - what the commands share: options, the opened configuration, folders and keys,
 * and a confined child in which a command touches what nobody vouches for.
 */
#ifndef MFS_CMD_COMMON_H
#define MFS_CMD_COMMON_H

#include <stdio.h>

#include "cmd.h"
#include "keys.h"
#include "sandbox.h"

enum mfs_arg_flags {
	MFS_ARG_JSON = 1,
	MFS_ARG_FOLLOW = 2,
	MFS_ARG_VERSION = 4,
	MFS_ARG_TIMEOUT = 8,
};

struct mfs_args {
	const char *config;  /* -c FILE; NULL: the search path */
	bool json, follow;
	const char *version; /* --version V */
	int64_t timeout_ms;  /* --timeout T; -1 without */
	char **pos;          /* positional arguments, in order; what follows "--" too */
	int n_pos;
};

/*
 * Parse options; they may stand before or after positional arguments.
 *
 * accept   enum mfs_arg_flags beside -c and --help
 * exit_code set when false is returned: after --help or a usage error (already printed)
 */
bool mfs_args_parse(int argc, char **argv, unsigned accept, int min_pos, int max_pos, struct mfs_args *out,
	int *exit_code);

/* "90", "1500ms", "30s", "15m", "2h" to milliseconds; false if it is none of these. */
bool mfs_duration_parse(const char *s, int64_t *ms);

/* What a command holds open; start from MFS_CMD_ENV_INIT, end with mfs_cmd_env_close(). */
struct mfs_cmd_env {
	struct mfs_config_snapshot *snapshot;
	struct mfs_config *config;
	struct mfs_folders folders;
	struct mfs_key_fds keys;
	bool has_keys;
};
#define MFS_CMD_ENV_INIT { .folders = MFS_FOLDERS_INIT }

/* Read and parse the configuration. */
enum mfs_code mfs_cmd_env_config(struct mfs_cmd_env *env, const char *path, struct mfs_err *err);
/*
 * Open folders and key files, as root (or without root, as their owner).
 *
 * create  make what is missing (install, keys init); else IO with ENOENT in sys_errno
 */
enum mfs_code mfs_cmd_env_open(struct mfs_cmd_env *env, bool create, struct mfs_err *err);
void mfs_cmd_env_close(struct mfs_cmd_env *env);

/* Index of model `id` in the configuration; -1 with *err naming those that exist. */
ssize_t mfs_cmd_model(const struct mfs_config *c, const char *id, struct mfs_err *err);

/*
 * Fork a child with serve's uid and the sandbox of an installation and run fn in it.
 *
 * extra_fd  a further folder that it may read (a bundle), or -1
 * link      -1, or set to the parent's end of a SOCK_SEQPACKET pair whose other end fn receives
 * pid       of the child; fn's result is its exit status
 * errors    IO, NO_MEMORY. What fails inside the child is printed there; the exit status says it.
 */
typedef int mfs_confined_fn(struct mfs_cmd_env *env, int link, void *arg);
enum mfs_code mfs_cmd_confined(const char *command, struct mfs_cmd_env *env, int extra_fd, mfs_confined_fn *fn,
	void *arg, int *link, pid_t *pid, struct mfs_err *err);

/* Wait for a child: its exit status, or -1 with *err when a signal ended it. */
int mfs_cmd_reap(pid_t pid, const char *what, struct mfs_err *err);

/* Write text of serve to a terminal or file: control bytes but newline and tab become '?'. */
void mfs_cmd_print(FILE *out, const char *text, size_t len);

#endif
