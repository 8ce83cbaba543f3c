/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_repo.h - what the commands on a repository share: options, opening, committing. */
#ifndef MFS_PUB_CMD_REPO_H
#define MFS_PUB_CMD_REPO_H

#include <getopt.h>

#include "cmd.h"
#include "offer.h"
#include "outdir.h"
#include "repo.h"

struct mfs_repocmd {
	const char *name; /* of the command */
	char **argv;      /* as given, for change.json */
	int argc;
	const char *keys, *passin, *root, *out, *stage;
	const char *reuse; /* blobs of an upload folder that is made again: rebase gives it */
	struct mfs_args key_args;
	struct mfs_lifetimes life; /* given by --expires; 0: not */
	bool quiet;
	bool behind;   /* it is older than what was there, which was said: the record stays */
	bool restored; /* the repository may be older than what was there: set before _open */
	/* filled by mfs_repocmd_open() */
	struct mfs_keyring *ring;
	const char *path; /* of the repository, as given */
	struct mfs_repo *repo;
	struct mfs_outdir *outdir; /* with --out or --stage */
};

enum { MFS_OPT_KEYS = 280, MFS_OPT_KEY, MFS_OPT_PASSIN, MFS_OPT_EXPIRES, MFS_OPT_ROOT, MFS_OPT_OUT, MFS_OPT_STAGE,
	MFS_OPT_QUIET, MFS_OPT_REUSE, MFS_OPT_PERCENT, MFS_OPT_STEPS, MFS_OPT_AUTO, MFS_OPT_MATCH };

/* For a table of long options. */
#define MFS_REPO_OPTIONS                                                                     \
	{ "keys", required_argument, NULL, MFS_OPT_KEYS }, { "key", required_argument, NULL, MFS_OPT_KEY },           \
		{ "passin", required_argument, NULL, MFS_OPT_PASSIN },                                                \
		{ "expires", required_argument, NULL, MFS_OPT_EXPIRES },                                              \
		{ "root", required_argument, NULL, MFS_OPT_ROOT }, { "out", required_argument, NULL, MFS_OPT_OUT },   \
		{ "stage", required_argument, NULL, MFS_OPT_STAGE }, { "quiet", no_argument, NULL, MFS_OPT_QUIET },   \
		{ "reuse", required_argument, NULL, MFS_OPT_REUSE },                                                  \
		{ "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 }

/* To whom a version is offered: the commands that make a rollout have these besides (and --auto, if they name it). */
#define MFS_OFFER_OPTIONS                                                                             \
	{ "percent", required_argument, NULL, MFS_OPT_PERCENT }, { "steps", required_argument, NULL, MFS_OPT_STEPS }, \
		{ "match", required_argument, NULL, MFS_OPT_MATCH }

/* The same for help texts: keys, where the change goes, the rest; and all of them. */
#define MFS_REPO_HELP_KEYS                                                                                           \
	"  --keys KEYDIR        role keys: root.pem targets.pem release.pem policy.pem snapshot.pem timestamp.pem,\n" \
	"                       or a .uri file with an OpenSSL store URI; only those that are needed are read\n"      \
	"  --key ROLE=URI       a role key elsewhere (repeatable)\n"                                                  \
	"  --passin SOURCE      pass phrase of the keys: file:PATH or env:NAME (else asked for on the terminal)\n"    \
	"  --root FILE          root.json to trust (default: KEYDIR/root.json if there is one)\n"                     \
	"  --expires ROLE=TIME  lifetime of what is signed now, for example timestamp=36h (repeatable); init's is kept\n"
#define MFS_REPO_HELP_WHERE                                                                                          \
	"  --out DIR            leave the repository as it is, write upload steps 1-blobs to 4-timestamp into DIR\n"  \
	"  --stage DIR          leave the repository as it is, write DIR for 'modelpub metadata sign|commit'\n"
#define MFS_REPO_HELP_REST                                                                                           \
	"  --quiet              no progress bar, no notes\n"                                                          \
	"  --help               this text\n"
#define MFS_REPO_HELP MFS_REPO_HELP_KEYS MFS_REPO_HELP_WHERE MFS_REPO_HELP_REST

void mfs_repocmd_init(struct mfs_repocmd *c, const char *name, int argc, char **argv);
void mfs_repocmd_clear(struct mfs_repocmd *c);

/* What a command line has led to: an exit code (0 and above), or that the command goes on. */
enum { MFS_PARSED = -1 };

/*
 * The options of a command: those of MFS_REPO_OPTIONS are taken here, each other by take(), which returns
 * MFS_EXIT_DONE or, when it has printed why not, an exit code. options and help are the command's own.
 * MFS_PARSED: all are taken, the arguments stand at argv[optind]. Else the exit code to end with: --help or
 * a message has been printed.
 */
int mfs_repocmd_parse(struct mfs_repocmd *c, const struct option *options, const char *help,
	int (*take)(void *user, int opt, const char *arg), void *user);

/*
 * One of MFS_OFFER_OPTIONS or MFS_OPT_AUTO, into o; match is the list that o->match borrows. MFS_EXIT_DONE, or
 * MFS_EXIT_USAGE: the message has been printed, except for an option that is none of them.
 */
int mfs_repocmd_offer(const struct mfs_repocmd *c, struct mfs_offer *o, struct mfs_args *match, int opt, const char *arg);

/* Keys, output folder and repository; `create` makes a new one. The lock is held until _close or _clear. */
enum mfs_code mfs_repocmd_open(struct mfs_repocmd *c, const char *repo, bool create, struct mfs_err *err);

/*
 * The same for what is done to one model. Keys that are needed besides snapshot and timestamp: those of the
 * model's release role, its policy role; without either, nothing is to be signed.
 * errors  NOT_SELECTED (the repository has no such model), those of _open and _need
 */
enum { MFS_NEED_RELEASE = 1, MFS_NEED_POLICY = 2 };
enum mfs_code mfs_repocmd_open_model(struct mfs_repocmd *c, const char *repo, const char *model_id, unsigned need,
	struct mfs_err *err);

/*
 * The repository as it is now, locked, in the place of the one that is open: after mfs_repo_unlock() and something
 * that took long. What was edited in that one is gone; keys and output folder stay.
 */
enum mfs_code mfs_repocmd_again(struct mfs_repocmd *c, struct mfs_err *err);

/* What _open has opened; it may be opened again. */
void mfs_repocmd_close(struct mfs_repocmd *c);

/*
 * Are the keys of these roles at hand, and may the repository be written? roles: NULL-terminated. Nothing is asked of a
 * staged change.
 */
enum mfs_code mfs_repocmd_need(struct mfs_repocmd *c, const char *const *roles, struct mfs_err *err);

/* Sign and write, into the repository, --out or --stage. */
enum mfs_code mfs_repocmd_commit(struct mfs_repocmd *c, struct mfs_err *err);

/* Finish the folder of --out: what _commit does at its end, also when nothing was to be signed. */
enum mfs_code mfs_repocmd_out(struct mfs_repocmd *c, struct mfs_err *err);

/* Where the change went: "REPO", or "DIR (upload ...)"; for the last line that a command prints. */
const char *mfs_repocmd_where(const struct mfs_repocmd *c, char out[512]);

/* A note on stderr unless --quiet. */
void mfs_repocmd_note(const struct mfs_repocmd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "publish: REPO: ..." and the exit code. */
int mfs_repocmd_fail(const struct mfs_repocmd *c, const struct mfs_err *err);

/* The exit code of a command that is done: 0, 2 when there was nothing to change, 1 when stdout is lost. */
int mfs_repocmd_end(const struct mfs_repocmd *c, bool changed);

#endif
