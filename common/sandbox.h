/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - confinement of serve, of the install child and of fetch: uid, capabilities,
 * no_new_privs, Landlock, seccomp. Applied first in each process, after libraries were loaded
 * and folders opened. One that cannot be applied is an error, unless `optional` says otherwise.
 */
#ifndef MFS_SANDBOX_H
#define MFS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "error.h"

enum mfs_sandbox_profile {
	MFS_SANDBOX_SERVE,   /* no socket, connect, exec, ptrace */
	MFS_SANDBOX_INSTALL, /* as serve, but may use the control socket it was given */
	MFS_SANDBOX_FETCH,   /* AF_INET, AF_INET6, AF_UNIX, AF_NETLINK */
};

struct mfs_sandbox_dir {
	int fd;        /* an open folder */
	bool writable; /* create, write, rename and remove below it */
};

struct mfs_sandbox {
	enum mfs_sandbox_profile profile;
	uid_t uid; /* (uid_t)-1: keep (a run without root) */
	gid_t gid;
	const struct mfs_sandbox_dir *dirs; size_t n_dirs;
	bool allow_unix; /* a configured key needs AF_UNIX (pcscd, a software TPM) */
	bool optional;   /* the configuration allows a weaker sandbox */
	pid_t parent;    /* PR_SET_PDEATHSIG SIGKILL, then getppid() must be this; 0: no parent */
};

/* What could not be applied, for `status` and `doctor`. */
struct mfs_sandbox_report {
	bool uid, no_new_privs, landlock, seccomp; /* applied */
	int landlock_abi;                          /* 0: the kernel has none */
};

/*
 * Apply it to the calling process; call while it is single-threaded.
 * errors  IO (errno), INTERNAL. On failure the process must exit.
 */
enum mfs_code mfs_sandbox_apply(const struct mfs_sandbox *s, struct mfs_sandbox_report *report, struct mfs_err *err);

#endif
