/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - the commands of modelpub, one file each, and what they share. */
#ifndef MFS_PUB_CMD_H
#define MFS_PUB_CMD_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mfs_verify.h"

/*
 * Each returns an exit code of common/error.h. argv[0] is "modelpub NAME", for getopt's messages.
 */
int mfs_cmd_key(int argc, char **argv);
int mfs_cmd_pack(int argc, char **argv);
int mfs_cmd_sign(int argc, char **argv);
int mfs_cmd_verify(int argc, char **argv);
int mfs_cmd_inspect(int argc, char **argv);
int mfs_cmd_init(int argc, char **argv);
int mfs_cmd_plan(int argc, char **argv);
int mfs_cmd_publish(int argc, char **argv);
int mfs_cmd_refresh(int argc, char **argv);
int mfs_cmd_revoke(int argc, char **argv);
int mfs_cmd_check(int argc, char **argv);
int mfs_cmd_export(int argc, char **argv);
int mfs_cmd_gc(int argc, char **argv);
int mfs_cmd_grant(int argc, char **argv);
int mfs_cmd_rebase(int argc, char **argv);
int mfs_cmd_republish(int argc, char **argv);

/* Another command from within one: argv[0] is its name ("publish"). USAGE when there is none of that name. */
int mfs_command_again(int argc, const char *const *argv);
int mfs_cmd_metadata(int argc, char **argv);
int mfs_cmd_rotate(int argc, char **argv);
int mfs_cmd_trust(int argc, char **argv);
int mfs_cmd_advance(int argc, char **argv);
int mfs_cmd_rollout(int argc, char **argv);

/* A growing list of borrowed option arguments. */
struct mfs_args {
	const char **v; /* NULL-terminated */
	size_t n;
};
enum mfs_code mfs_args_add(struct mfs_args *a, const char *arg, struct mfs_err *err);
void mfs_args_free(struct mfs_args *a);
#define mfs_autoargs MFS_CLEANUP(mfs_args_free)

/* A model key file (mfs_model_key_parse); path is named in messages. errors IO, CONFIG_INVALID, LIMIT_EXCEEDED */
enum mfs_code mfs_model_key_file(const char *path, struct mfs_key *out, struct mfs_err *err);

/* Print "modelpub NAME: ..." and a pointer to --help; returns MFS_EXIT_USAGE. */
int mfs_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Print "modelpub NAME: what: outcome: message"; returns the outcome's exit code. what may be NULL. */
int mfs_report(const char *name, const char *what, const struct mfs_err *err);

/* A decimal integer from min to max, nothing around it. */
bool mfs_parse_int(const char *s, int64_t min, int64_t max, int64_t *out);

/* MFS_EXIT_DONE if everything printed has reached stdout, else MFS_EXIT_FAILED with a message. */
int mfs_finish(const char *name);

/* "det 1.0.0 (default), release 1: 3 files, 5.0 GiB, manifest 0123..." */
void mfs_print_summary(const struct mfs_manifest *m, const char *prefix, const char *suffix);

/* Long options that every command has; for getopt_long's table. */
enum { MFS_OPT_HELP = 256, MFS_OPT_OTHER = 300 };

#endif
