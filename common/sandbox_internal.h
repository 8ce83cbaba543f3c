/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_internal.h - between sandbox.c and sandbox_seccomp.c. */
#ifndef MFS_SANDBOX_INTERNAL_H
#define MFS_SANDBOX_INTERNAL_H

#include "sandbox.h"

/* Load the filter of the profile; no_new_privs must be set or the caller have CAP_SYS_ADMIN. errors IO, NO_MEMORY */
enum mfs_code mfs_sandbox_seccomp(const struct mfs_sandbox *s, struct mfs_err *err);

#endif
