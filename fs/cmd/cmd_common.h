/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_common.h - what the commands share: options, the opened configuration, folders and keys,
 * and a confined child in which a command touches what nobody vouches for.
 */
#ifndef MFS_CMD_COMMON_H
#define MFS_CMD_COMMON_H

#include <stdio.h>

#include "cmd.h"
#include "client.h"
#include "engine.h"
#include "keys.h"
#include "sandbox.h"

/* In the run folder: where the tree is mounted, for the command line of mount may have said it. */
#define MFS_MOUNT_NOTE "mount"

enum mfs_arg_flags {
	MFS_ARG_JSON = 1,
	MFS_ARG_FOLLOW = 2,
	MFS_ARG_VERSION = 4,
	MFS_ARG_TIMEOUT = 8,
	MFS_ARG_FROM = 16,
	MFS_ARG_OUTPUT = 32,
	MFS_ARG_REPOSITORY = 64, /* --repository and --root */
};

struct mfs_args {
	const char *config;  /* -c FILE; NULL: the search path */
	bool json, follow;
	const char *version; /* --version V */
	int64_t timeout_ms;  /* --timeout T; -1 without */
	const char *from;    /* --from URL|DIR */
	const char *cacert;  /* --cacert FILE, of --from */
	const char *output;  /* -o FILE */
	const char *repository, *root; /* --repository DIR --root FILE */
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
	int *seeds; size_t n_seeds; /* read-only folders that exist */
	int lock;                   /* state/lock, when this command works without a mount */
	struct mfs_err broken;      /* what is wrong with the files, when config is that of the mount; code OK: nothing */
};
#define MFS_CMD_ENV_INIT { .folders = MFS_FOLDERS_INIT, .lock = -1 }

/* Read and parse the configuration. */
enum mfs_code mfs_cmd_env_config(struct mfs_cmd_env *env, const char *path, struct mfs_err *err);
/*
 * The same for a command that serve answers. Where the files are absent, unreadable or invalid by now, or name another
 * state or run folder than what they started and nothing is mounted there: the configuration that the mount runs with
 * (running.h), and what is wrong in env->broken. Without that mount nothing may be done then: _broken() says it.
 *
 * dead    also when what was mounted does not answer (unmount)
 * _ask    says it in a line on stderr
 * errors  of the files, when nothing that they started is mounted
 */
enum mfs_code mfs_cmd_env_running(struct mfs_cmd_env *env, const char *path, bool dead, struct mfs_err *err);
enum mfs_code mfs_cmd_env_ask(struct mfs_cmd_env *env, const char *command, const char *path, struct mfs_err *err);
/*
 * To be asked before anything is done without serve. errors as the files' when they are not what is in env->config
 */
enum mfs_code mfs_cmd_env_broken(const struct mfs_cmd_env *env, struct mfs_err *err);
/*
 * Open folders and key files, as root (or without root, as their owner).
 *
 * create  make what is missing (install, keys init); else IO with ENOENT in sys_errno
 */
enum mfs_code mfs_cmd_env_open(struct mfs_cmd_env *env, bool create, struct mfs_err *err);
void mfs_cmd_env_close(struct mfs_cmd_env *env);

/*
 * Is this instance mounted? Waits up to 10 s while somebody holds the state but answers nowhere
 * (a mount that is starting, another command).
 *
 * mounted  set: ask serve; not set: env->lock holds state/lock until the environment is closed
 * errors   CONDITION_UNMET, IO
 */
enum mfs_code mfs_cmd_side(struct mfs_cmd_env *env, bool *mounted, struct mfs_err *err);

/* What a command without a mount works on, in its confined child. */
struct mfs_offline {
	struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_events *events;
	struct mfs_engine *engine;
};
/* flags: enum mfs_trusted_flags. errors as the parts' own */
enum mfs_code mfs_offline_open(struct mfs_cmd_env *env, unsigned flags, struct mfs_offline *out, struct mfs_err *err);
void mfs_offline_close(struct mfs_offline *o);

/*
 * Run a command that serve does when mounted, and a confined child when not.
 *
 * req      sent to serve; its model is checked against the configuration first
 * idle_ms  longest silence of serve
 * offline  called in the child with index (n_models: all) of the model; prints and returns the exit code
 */
typedef int mfs_offline_fn(struct mfs_offline *o, const struct mfs_config *c, size_t model);
int mfs_cmd_change(const char *command, const struct mfs_args *args, const struct mfs_ctl_request *req, int idle_ms,
	bool (*line)(void *user, const json_t *body), mfs_offline_fn *offline);

/*
 * Look at the trusted state while nothing is mounted: in a confined child, without a lock and without a write.
 *
 * fn       prints and returns the exit code; o is NULL (and this process is not confined) when nothing was ever
 *          installed here. State that is there but cannot be read is an error, never "nothing"
 */
typedef int mfs_look_fn(const struct mfs_cmd_env *env, const struct mfs_offline *o, void *arg);
int mfs_cmd_look(const char *command, struct mfs_cmd_env *env, mfs_look_fn *fn, void *arg);

/* A bar on a terminal, a calm line now and then elsewhere (stderr). Zero to start; total 0 is fine. */
struct mfs_progress {
	const char *what;
	int64_t started_ms, last_ms;
	bool shown;
};
void mfs_progress_show(struct mfs_progress *p, uint64_t done, uint64_t total);
/* The same with the rate of late in bytes a second (0: the average is shown). */
void mfs_progress_rate(struct mfs_progress *p, uint64_t done, uint64_t total, uint64_t rate);
void mfs_progress_end(struct mfs_progress *p);

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
/* The same for one line, into out; cut at cap. */
void mfs_cmd_printable(char *out, size_t cap, const char *text);

#endif
