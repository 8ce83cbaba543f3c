/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - subcommands of modelfs: a table in main.c, one function each, exit codes of error.h. */
#ifndef MFS_CMD_H
#define MFS_CMD_H

#include "mfs_config.h"

struct mfs_cmd {
	const char *name, *args, *help;
	int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name */
	bool internal; /* not listed: serve and children */
};

/* Set by main before a command runs, so that usage and errors name it. */
void mfs_cmd_enter(const struct mfs_cmd *cmd);
/* Print "modelfs: COMMAND: outcome: message" on stderr; returns the exit code of the outcome. */
int mfs_cmd_fail(const char *command, const struct mfs_err *err);
/*
 * The exit code of a command that ended with `status`: one whose whole purpose is to show something
 * has failed when standard output did not take it (said on stderr).
 */
int mfs_cmd_shown(const char *command, int status);
/* "usage: modelfs NAME ARGS" on stderr; returns MFS_EXIT_USAGE. */
int mfs_cmd_usage(const struct mfs_cmd *cmd);

/* ---- folders (setup.c), shared by keeper and the commands that work without a mount ---------- */

struct mfs_folders {
	int state, store, run; /* open folders; -1: not open */
	uid_t uid;             /* of serve, who owns state and store; our own when not root */
	gid_t gid;
};
#define MFS_FOLDERS_INIT { -1, -1, -1, (uid_t)-1, (gid_t)-1 }

/*
 * Open state, store and run folder. As root they belong to serve's uid (state and store, 0700)
 * or to root (run, 0755); a folder of root's becomes serve's, one of anybody else is refused.
 *
 * create  make what is missing, and the state key when there is no state yet; without it a
 *         missing folder is IO with ENOENT in err->sys_errno (run alone may be missing: -1)
 * out     closed and -1 on failure; close with mfs_folders_close()
 * errors  CONFIG_INVALID (no such user; foreign owner), IO
 * threads one, before any sandbox
 */
enum mfs_code mfs_setup_folders(const struct mfs_config *c, bool create, struct mfs_folders *out,
	struct mfs_err *err);
void mfs_folders_close(struct mfs_folders *f);

#define MFS_STATE_LOCK   "lock"         /* in state: keeper, or a command that writes offline */
#define MFS_INSTALL_LOCK "install.lock" /* in store: who adds blobs, and gc */

/*
 * Take the flock of dirfd/name, made with the folder's owner if it is missing.
 *
 * wait    false: CONDITION_UNMET when somebody else holds it
 * fd      holds the lock until it and every copy of it are closed
 * errors  CONDITION_UNMET, IO
 */
enum mfs_code mfs_lock_take(int dirfd, const char *name, bool wait, int *fd, struct mfs_err *err);

/*
 * Load what a sandboxed process cannot load any more: OpenSSL's configuration, providers and
 * algorithms, locked memory, boot id, time zone. Before the sandbox, once. errors INTERNAL
 */
enum mfs_code mfs_libraries_load(struct mfs_err *err);

/* mount.c, unmount.c, serve.c */
int mfs_cmd_mount(int argc, char **argv);
int mfs_cmd_unmount(int argc, char **argv);
int mfs_cmd_serve(int argc, char **argv);

/*
 * mount_repo.c: `mount --repository DIR --root FILE`. Writes /run/modelfs/modelfs.yaml, where every command finds it: the
 * repository, its root, and each model that has a folder of targets there.
 *
 * errors  CONFIG_INVALID (not root, another configuration is there, no such folder or file, no model), CONDITION_UNMET
 *         (something is mounted), LIMIT_EXCEEDED, IO, NO_MEMORY
 * forget  removes it if it is one of ours; when the mount ends
 * stale   the same if nothing is mounted: a keeper that was killed left it, and it would hide a configuration made since
 */
enum mfs_code mfs_mount_implied(const char *repository, const char *root, struct mfs_err *err);
void mfs_mount_implied_forget(void);
void mfs_mount_implied_stale(void);

/* mounthelper.c: the program called as mount.modelfs, by mount(8). */
int mfs_mount_helper(int argc, char **argv);

/* cmd_*.c */
int mfs_cmd_status(int argc, char **argv);
int mfs_cmd_install(int argc, char **argv);
int mfs_cmd_rollback(int argc, char **argv);
int mfs_cmd_unpin(int argc, char **argv);
int mfs_cmd_check(int argc, char **argv);
int mfs_cmd_update(int argc, char **argv);
int mfs_cmd_pin(int argc, char **argv);
int mfs_cmd_mark(int argc, char **argv);
int mfs_cmd_explain(int argc, char **argv);
int mfs_cmd_device(int argc, char **argv);
int mfs_cmd_evidence(int argc, char **argv);
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
