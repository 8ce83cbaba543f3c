/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - the power cut: run a function in a child and kill it at the entry of its n-th system
 * call, so that every point between two steps on disk is reached once.
 */
#ifndef CUT_H
#define CUT_H

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum cut_result {
	CUT_KILLED,   /* at the n-th system call */
	CUT_FINISHED, /* fn returned 0 before */
	CUT_FAILED,   /* fn returned something else */
	CUT_UNAVAILABLE, /* ptrace is not permitted here */
};

static inline enum cut_result
cut_run(int (*fn)(void *arg), void *arg, unsigned nth)
{
	pid_t pid = fork();
	unsigned calls = 0;
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
		if (entering && ++calls == nth) {
			(void)kill(pid, SIGKILL);
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
			return CUT_KILLED;
		}
		entering = !entering;
	}
}

#endif
