/* SPDX-License-Identifier: Apache-2.0 */
/*
 * running.h - the configuration that a mount runs with, found again by the files it came from when these are
 * broken, unreadable or others by now.
 *
 *	RUN/config                  the snapshot that serve runs with, replaced at each reload that is accepted
 *	/run/modelfs/running/NAME   a link to RUN; NAME is made from the path of the configuration, or "default" for the
 *	                            search path. Without root below $XDG_RUNTIME_DIR instead of /run
 *
 * Whoever reads one believes it only where nobody but root, or the caller, could have written it. No secrets are in
 * them: a configuration holds none. Threads any.
 */
#ifndef MFS_RUNNING_H
#define MFS_RUNNING_H

#include "mfs_config.h"

#define MFS_RUNNING_NAMES 2u

/* What a configuration is found by: its path as it was given, and without links. */
struct mfs_running_names {
	char name[MFS_RUNNING_NAMES][40];
	unsigned n;
};

/* path as on a command line, relative to the working folder; NULL: the search path. The file itself may be missing. */
void mfs_running_names(const char *path, struct mfs_running_names *out);

/*
 * keeper: write the snapshot into the run folder, and (names not NULL) the links that lead there; what an earlier
 * mount of the same configuration left is replaced. _forget: the mount ends; links that lead elsewhere stay.
 *
 * run     absolute path of the folder run_dirfd
 * errors  IO: nobody finds it again, and nothing else is wrong
 */
enum mfs_code mfs_running_note(int run_dirfd, const char *run, const struct mfs_running_names *names,
	const struct mfs_config_snapshot *s, struct mfs_err *err);
void mfs_running_forget(int run_dirfd, const char *run, const struct mfs_running_names *names);

/*
 * The configuration of a mount that was started by these names and did not end, or was killed: whether it answers is
 * for the caller to ask.
 *
 * out     parsed; release with mfs_config_free()
 * errors  CONDITION_UNMET (there is none that can be believed), CONFIG_INVALID, NO_MEMORY
 */
enum mfs_code mfs_running_find(const struct mfs_running_names *names, struct mfs_config_snapshot **snapshot,
	struct mfs_config **out, struct mfs_err *err);

#endif
