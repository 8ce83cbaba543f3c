/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cutcalls - run a command and end it, with everything it started, at its Nth call that changes a disk.
 *
 *	cutcalls N COMMAND...     SIGKILL for all processes at once, just before the Nth such call takes effect;
 *	                          exit 137, or the command's own exit code when it makes fewer calls
 *	cutcalls 0 COMMAND...     end nothing; the number of such calls on standard error
 *
 * With CUTCALLS_RUN in the environment nothing is ended: that shell command runs just before the Nth call, while the
 * command stands still, and the command goes on.
 *
 * What a power cut does to processes (the page cache survives: what reaches the disk in which
 * order is the unit tests' business). Counted over all threads and children, so N is stable as
 * long as the command's order is.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/openat2.h>
#include <linux/ptrace.h>

#define OPTIONS \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | \
	PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

#define TRACEES_MAX 64

static pid_t tracees[TRACEES_MAX];
static size_t n_tracees;

static void
die(const char *what)
{
	perror(what);
	exit(125);
}

/* openat2's flags are the first 64 bits of what its third argument points to. */
static bool
openat2_creates(pid_t pid, uint64_t how)
{
	long flags;

	errno = 0;
	flags = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)how, NULL);
	return errno == 0 && (flags & O_CREAT) != 0;
}

static bool
changes_disk(pid_t pid, const struct ptrace_syscall_info *i)
{
	switch ((long)i->entry.nr) {
	case SYS_openat:
		return (i->entry.args[2] & O_CREAT) != 0;
	case SYS_openat2:
		return openat2_creates(pid, i->entry.args[2]);
	case SYS_pwrite64:
	case SYS_fsync:
	case SYS_fdatasync:
	case SYS_ftruncate:
	case SYS_mkdirat:
	case SYS_renameat2:
	case SYS_unlinkat:
#ifdef SYS_renameat
	case SYS_renameat:
#endif
#ifdef SYS_mkdir
	case SYS_mkdir:
#endif
		return true;
	case SYS_write:
		return i->entry.args[0] > 2;
	default:
		return false;
	}
}

static void
remember(pid_t pid)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (tracees[i] == pid)
			return;
	if (n_tracees == TRACEES_MAX)
		die("too many processes");
	tracees[n_tracees++] = pid;
}

/* All at once, and gone when this returns: their locks are free. */
static void
kill_all(void)
{
	for (size_t i = 0; i < n_tracees; i++)
		(void)kill(tracees[i], SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
}

/* One stop of a tracee; the signal to deliver. */
static int
stopped(pid_t pid, int status, unsigned long cut, unsigned long *calls)
{
	struct ptrace_syscall_info info;
	int sig = WSTOPSIG(status);

	if (status >> 16 != 0)
		return 0; /* a fork or clone event */
	if (sig != (SIGTRAP | 0x80))
		return sig == SIGSTOP ? 0 : sig;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) <= 0)
		return 0;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY && changes_disk(pid, &info) && ++*calls == cut) {
		const char *run = getenv("CUTCALLS_RUN");

		if (run != NULL) {
			if (system(run) == -1)
				die(run);
			return 0;
		}
		kill_all();
		exit(137);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned long cut, calls = 0;
	int status, code = 125;
	char *end;
	pid_t child, pid;

	if (argc < 3 || (cut = strtoul(argv[1], &end, 10), *end != '\0')) {
		(void)fprintf(stderr, "usage: cutcalls N COMMAND...\n");
		return 125;
	}
	if ((child = fork()) < 0)
		die("fork");
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
			die("ptrace");
		(void)execvp(argv[2], argv + 2);
		die(argv[2]);
	}
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
		ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)OPTIONS) != 0 ||
		ptrace(PTRACE_SYSCALL, child, NULL, NULL) != 0)
		die("ptrace");
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid <= 0)
			continue;
		remember(pid);
		if (WIFSTOPPED(status))
			(void)ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)stopped(pid, status, cut, &calls));
		else if (pid == child)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	if (cut == 0)
		(void)fprintf(stderr, "%lu\n", calls);
	return code;
}
