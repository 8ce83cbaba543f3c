/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - uid, capabilities, no_new_privs, Landlock, seccomp, in this order: Landlock and
 * seccomp need either CAP_SYS_ADMIN or no_new_privs, and PR_SET_PDEATHSIG is cleared by a change
 * of uid, so it comes after it. The system call lists are in sandbox_seccomp.c.
 */
#include "sandbox.h"

#include <grp.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "sandbox_internal.h"

/* From newer headers than the oldest supported system ships. */
#define FS_TRUNCATE         (1ull << 14) /* ABI 3 */
#define FS_IOCTL_DEV        (1ull << 15) /* ABI 5 */
#define NET_BIND_TCP        (1ull << 0)  /* ABI 4 */
#define NET_CONNECT_TCP     (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL        (1ull << 1)

#define FS_ABI1  ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* bits 0 to 12 */
#define FS_READ  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE (FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                     \
		  LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
		  LANDLOCK_ACCESS_FS_REFER | FS_TRUNCATE)

struct ruleset_attr { /* of ABI 6; older kernels take the first size bytes */
	uint64_t fs, net, scoped;
};

/* ---- uid and capabilities --------------------------------------------------------------------- */

static enum mfs_code
uid_drop(const struct mfs_sandbox *s, struct mfs_err *err)
{
	if (s->uid == (uid_t)-1)
		return MFS_OK;
	if (s->uid == 0)
		return mfs_fail(err, MFS_INTERNAL, "sandbox: uid 0 is none");
	if (geteuid() == 0) {
		/* Bounding set first: it needs CAP_SETPCAP, which goes with the uid. */
		for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
			if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EPERM)
				return mfs_fail_sys(err, MFS_IO, "sandbox: drop capability %d", cap);
		if (setgroups(0, NULL) != 0)
			return mfs_fail_sys(err, MFS_IO, "sandbox: setgroups");
	}
	if (setresgid(s->gid, s->gid, s->gid) != 0 || setresuid(s->uid, s->uid, s->uid) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: become uid %u, gid %u", (unsigned)s->uid, (unsigned)s->gid);
	if (setresuid(0, 0, 0) == 0 || geteuid() != s->uid || getegid() != s->gid)
		return mfs_fail(err, MFS_INTERNAL, "sandbox: the change of uid did not hold");
	return MFS_OK;
}

static enum mfs_code
caps_drop(struct mfs_err *err)
{
	struct { /* linux/capability.h, version 3 */
		uint32_t version;
		int pid;
	} head = { 0x20080522, 0 };
	struct {
		uint32_t effective, permitted, inheritable;
	} none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: drop capabilities");
	return MFS_OK;
}

/* ---- Landlock --------------------------------------------------------------------------------- */

static int
landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

static enum mfs_code
landlock_rule(int ruleset, int dirfd, uint64_t access, struct mfs_err *err)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = dirfd };

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: Landlock rule");
	return MFS_OK;
}

static enum mfs_code
landlock_apply(const struct mfs_sandbox *s, struct mfs_sandbox_report *report, struct mfs_err *err)
{
	struct ruleset_attr attr = { .fs = FS_ABI1 | LANDLOCK_ACCESS_FS_REFER };
	mfs_autoclose int ruleset = -1;
	int abi = landlock_abi();
	size_t size = sizeof(attr.fs);

	report->landlock_abi = abi;
	/* ABI 1 (Linux 5.13 to 5.18) forbids every rename between folders, which the store lives by. */
	if (abi < 2)
		return MFS_OK;
	if (abi >= 3)
		attr.fs |= FS_TRUNCATE;
	if (abi >= 4 && s->profile != MFS_SANDBOX_FETCH) {
		attr.net = NET_BIND_TCP | NET_CONNECT_TCP;
		size = 2 * sizeof(attr.fs);
	}
	if (abi >= 5)
		attr.fs |= FS_IOCTL_DEV;
	if (abi >= 6) {
		attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
		size = sizeof(attr);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: Landlock");
	for (size_t i = 0; i < s->n_dirs; i++)
		if (landlock_rule(ruleset, s->dirs[i].fd, (s->dirs[i].writable ? FS_WRITE : FS_READ) & attr.fs, err) !=
			MFS_OK)
			return err != NULL ? err->code : MFS_IO;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: Landlock");
	report->landlock = true;
	return MFS_OK;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static enum mfs_code
process_attributes(const struct mfs_sandbox *s, struct mfs_err *err)
{
	struct rlimit none = { 0, 0 };

	/* No core dump: it would carry keys and plaintext to disk. Not dumpable: no ptrace by the same uid. */
	if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: core dumps");
	if (s->parent == 0)
		return MFS_OK;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "sandbox: PR_SET_PDEATHSIG");
	if (getppid() != s->parent)
		return mfs_fail(err, MFS_INTERNAL, "sandbox: the parent died before");
	return MFS_OK;
}

enum mfs_code
mfs_sandbox_apply(const struct mfs_sandbox *s, struct mfs_sandbox_report *report, struct mfs_err *err)
{
	struct mfs_err local = MFS_ERR_INIT;

	if (err == NULL)
		err = &local;
	*report = (struct mfs_sandbox_report){ 0 };
	if (uid_drop(s, err) != MFS_OK || caps_drop(err) != MFS_OK || process_attributes(s, err) != MFS_OK)
		return err->code;
	report->uid = s->uid != (uid_t)-1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		report->no_new_privs = true;
	else if (!s->optional)
		return mfs_fail_sys(err, MFS_IO, "sandbox: no_new_privs");
	if (landlock_apply(s, report, err) != MFS_OK && !s->optional)
		return err->code;
	if (mfs_sandbox_seccomp(s, err) == MFS_OK)
		report->seccomp = true;
	else if (!s->optional)
		return err->code;
	return MFS_OK;
}
