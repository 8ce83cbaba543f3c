/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_seccomp.c - which system calls a confined process may make.
 *
 * Three answers. Allowed: what serve, libfuse, OpenSSL and glibc's threads use. Kill: what an
 * exploit wants and no library tries by itself (exec, ptrace, new sockets, mounts, ...). Anything
 * else gets ENOSYS, so that a libc that probes for a new call falls back instead of crash looping.
 */
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "sandbox_internal.h"

static void
filter_release(void *f)
{
	seccomp_release(f);
}
MFS_DEFINE_CLEANUP(filter, void, filter_release)

/* Names, not numbers: one that this architecture or libseccomp does not know is skipped. */
static const char *const allowed[] = {
	/* files: what may be opened is Landlock's and the uid's business */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
	"open", "openat", "openat2", "close", "close_range", "lseek", "_llseek", "fstat", "fstat64", "newfstatat",
	"fstatat64", "stat", "stat64", "lstat", "lstat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64",
	"access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "fcntl", "fcntl64",
	"flock", "fsync", "fdatasync", "sync_file_range", "syncfs", "ftruncate", "ftruncate64", "fallocate",
	"fadvise64", "fadvise64_64", "arm_fadvise64_64", "copy_file_range", "readahead", "rename", "renameat",
	"renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "link", "linkat", "fchmod", "fchmodat",
	"chmod", "utimensat", "utimensat_time64", "umask", "dup", "dup2", "dup3", "pipe", "pipe2", "memfd_create",
	"getcwd", "fchdir",
	/* memory; mmap and mprotect only without PROT_EXEC, see below */
	"munmap", "mremap", "madvise", "mlock", "mlock2", "munlock", "brk", "msync", "mincore", "membarrier",
	/* threads, signals, time */
	"futex", "futex_time64", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "exit", "exit_group",
	"gettid", "getpid", "getppid", "getpgrp", "getpgid", "getsid", "tgkill", "sched_yield", "sched_getaffinity",
	"sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max",
	"sched_get_priority_min", "getpriority", "setpriority", "ioprio_set", "ioprio_get", "getcpu", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigtimedwait_time64",
	"rt_sigsuspend", "sigaltstack", "restart_syscall", "nanosleep", "clock_nanosleep", "clock_nanosleep_time64",
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday", "time", "times",
	"getrusage", "sysinfo", "uname", "getrandom", "getuid", "getuid32", "geteuid", "geteuid32", "getgid",
	"getgid32", "getegid", "getegid32", "getresuid", "getresgid", "getgroups", "getrlimit", "ugetrlimit",
	/* waiting, and sockets that were inherited */
	"poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64", "epoll_create1",
	"epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime",
	"timerfd_settime64", "timerfd_gettime", "alarm", "setitimer", "signalfd4", "accept", "accept4", "recv", "recvfrom", "recvmsg", "send",
	"sendto", "sendmsg", "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername", "pidfd_open",
#ifdef MFS_SANITIZERS
	/* The sanitizers' runtimes map and inspect the process; leak checking forks and ptraces itself and stays off. */
	"personality", "prlimit64", "sched_rr_get_interval", "set_tid_address", "arch_prctl", "setrlimit", "wait4",
	"waitid", "kill", "rt_sigqueueinfo", "mmap2", "mmap", "mprotect",
#endif
};

static const char *const killed[] = {
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
	"pidfd_getfd", "pidfd_send_signal", "kcmp", "add_key", "request_key", "keyctl", "bpf", "perf_event_open",
	"mount", "umount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
	"mount_setattr", "pivot_root", "chroot", "unshare", "setns", "init_module", "finit_module", "delete_module",
	"kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "userfaultfd", "acct", "quotactl", "syslog",
	"ioperm", "iopl", "modify_ldt", "lookup_dcookie", "name_to_handle_at", "open_by_handle_at", "mknod", "mknodat",
	"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "setuid", "setuid32", "setgid",
	"setgid32", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
	"seccomp", "personality",
};

static const char *const sockets[] = { "socket", "socketpair", "connect", "bind", "listen", "socketcall" };
static const char *const networking[] = { "connect", "bind", "sendmmsg", "recvmmsg", "socketpair" };

static int
rules_add(scmp_filter_ctx f, uint32_t action, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int nr = seccomp_syscall_resolve_name(names[i]);
		int e;

		if (nr == __NR_SCMP_ERROR)
			continue;
		e = seccomp_rule_add(f, action, nr, 0);
		/* -EDOM: not on this architecture. -EEXIST: in an earlier list too, which wins. */
		if (e != 0 && e != -EDOM && e != -EEXIST)
			return e;
	}
	return 0;
}
#define RULES_ADD(f, action, names) rules_add((f), (action), (names), sizeof(names) / sizeof((names)[0]))

static int
rule_add_mmap(scmp_filter_ctx f)
{
#ifdef MFS_SANITIZERS
	(void)f;
	return 0; /* in the list */
#else
	struct scmp_arg_cmp noexec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &noexec);

	if (e == 0)
		e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &noexec);
	if (e == 0 || e == -EDOM)
		e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap2), 1, &noexec);
	return e == -EDOM ? 0 : e;
#endif
}

/* Threads only: no new process, no namespace. clone3 passes its flags by pointer and gets ENOSYS. */
static int
rule_add_clone(scmp_filter_ctx f)
{
	const scmp_datum_t ns = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
				CLONE_NEWCGROUP;
	struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM | ns, CLONE_THREAD | CLONE_VM);

	return seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);
}

/* prlimit64 to read the own limits; prctl for names and the own state. */
static int
rule_add_self(scmp_filter_ctx f)
{
	static const int options[] = { PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_TIMERSLACK, PR_GET_NO_NEW_PRIVS,
		PR_GET_SECCOMP, 0x53564d41 /* PR_SET_VMA: names of anonymous memory */ };
	struct scmp_arg_cmp limit[] = { SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A2(SCMP_CMP_EQ, 0, 0) };
	int e;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct scmp_arg_cmp option = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)options[i], 0);

		e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, &option);
		if (e != 0)
			return e;
	}
	e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, limit);
	return e == -EEXIST ? 0 : e;
}

/* ioctl: terminals (isatty), poll helpers, FUSE (type 229) and pidfs (type 0xff, PIDFD_GET_INFO). */
static int
rule_add_ioctl(scmp_filter_ctx f)
{
	static const unsigned requests[] = { TCGETS, FIONREAD, FIONBIO, FIOCLEX };
	static const unsigned types[] = { 229, 0xff };
	int e;

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct scmp_arg_cmp request = SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, requests[i]);

		e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, &request);
		if (e != 0)
			return e;
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct scmp_arg_cmp type = SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00u, types[i] << 8);

		e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, &type);
		if (e != 0)
			return e;
	}
	return 0;
}

static int
rule_add_family(scmp_filter_ctx f, int family)
{
	struct scmp_arg_cmp domain = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family, 0);

	return seccomp_rule_add_array(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, &domain);
}

static int
rule_add_sockets(scmp_filter_ctx f, const struct mfs_sandbox *s)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX, AF_NETLINK };
	int e = 0;

	if (s->profile != MFS_SANDBOX_FETCH && !s->allow_unix)
		return RULES_ADD(f, SCMP_ACT_KILL_PROCESS, sockets);
	/* Another family gets ENOSYS here: resolvers and smart card libraries probe. */
	if (s->profile == MFS_SANDBOX_FETCH)
		for (size_t i = 0; e == 0 && i < sizeof(families) / sizeof(families[0]); i++)
			e = rule_add_family(f, families[i]);
	else
		e = rule_add_family(f, AF_UNIX);
	if (e == 0)
		e = RULES_ADD(f, SCMP_ACT_ALLOW, networking);
	return e;
}

enum mfs_code
mfs_sandbox_seccomp(const struct mfs_sandbox *s, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_filter) void *f = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int e;

	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "sandbox: seccomp");
	/* A call of a foreign architecture (32-bit on a 64-bit kernel) kills. */
	e = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (e == 0)
		e = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: this runs on every call */
	if (e == 0)
		e = RULES_ADD(f, SCMP_ACT_ALLOW, allowed);
	if (e == 0)
		e = rule_add_mmap(f);
	if (e == 0)
		e = rule_add_clone(f);
	if (e == 0)
		e = rule_add_self(f);
	if (e == 0)
		e = rule_add_ioctl(f);
	if (e == 0)
		e = rule_add_sockets(f, s);
	if (e == 0)
		e = RULES_ADD(f, SCMP_ACT_KILL_PROCESS, killed);
	if (e == 0)
		e = seccomp_load(f);
	if (e != 0) {
		errno = -e;
		return mfs_fail_sys(err, MFS_IO, "sandbox: seccomp");
	}
	return MFS_OK;
}
