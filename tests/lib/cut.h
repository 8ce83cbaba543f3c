/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - the power cut: run a function in a child and kill it at the entry of its n-th system
 * call, so that every point between two steps on disk is reached once.
 */
#ifndef CUT_H
#define CUT_H

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum cut_result {
	CUT_KILLED,   /* at the n-th system call */
	CUT_FINISHED, /* fn returned 0 before */
	CUT_FAILED,   /* fn returned something else, or a signal ended it */
	CUT_UNAVAILABLE, /* ptrace is not permitted here */
};

typedef int cut_fn(void *arg);

/* Called at the entry of each system call with its number; nonzero: kill here. */
typedef int cut_entry_fn(void *user, uint64_t nr);

static inline enum cut_result
cut_trace(cut_fn *fn, void *arg, cut_entry_fn *entry, void *user)
{
	pid_t pid = fork();
	int entering = 1, status;

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(99);
		(void)raise(SIGSTOP);
		_exit(fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return CUT_UNAVAILABLE;
	(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(long)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	for (long sig = 0;;) {
		struct __ptrace_syscall_info info = { 0 };

		if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)sig) != 0 || waitpid(pid, &status, 0) != pid)
			return CUT_UNAVAILABLE;
		if (WIFEXITED(status))
			return WEXITSTATUS(status) == 0 ? CUT_FINISHED : CUT_FAILED;
		if (WIFSIGNALED(status))
			return CUT_FAILED;
		sig = 0;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			sig = WSTOPSIG(status);
			continue;
		}
		(void)ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info);
		if (entering && entry(user, info.entry.nr) != 0) {
			(void)kill(pid, SIGKILL);
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
			return CUT_KILLED;
		}
		entering = !entering;
	}
}

static inline int
cut_count(void *user, uint64_t nr)
{
	unsigned *left = user;

	(void)nr;
	return --*left == 0;
}

/* Kill at the n-th system call, from 1. */
static inline enum cut_result
cut_run(cut_fn *fn, void *arg, unsigned nth)
{
	return cut_trace(fn, arg, cut_count, &nth);
}

/*
 * The steps on disk as letters: w write, f fsync, r rename, p pwrite. A kill keeps what the kernel
 * already holds, a power cut does not: that the order is right is seen here.
 */
struct cut_steps {
	char text[512];
	size_t n;
};

static inline int
cut_step(void *user, uint64_t nr)
{
	struct cut_steps *s = user;
	char c = nr == SYS_write ? 'w' : nr == SYS_pwrite64 ? 'p' : nr == SYS_fsync || nr == SYS_fdatasync ? 'f' :
		nr == SYS_renameat2 ? 'r' : '\0';

#ifdef SYS_renameat
	if (nr == SYS_renameat)
		c = 'r';
#endif
	if (c != '\0' && s->n < sizeof(s->text) - 1)
		s->text[s->n++] = c;
	return 0;
}

#endif
