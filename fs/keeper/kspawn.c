/* SPDX-License-Identifier: Apache-2.0 */
/* kspawn.c - starting serve: its descriptors at fixed numbers, nothing else, a clean environment. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "log.h"

#define SERVE_MEMLOCK (64ull << 20) /* keys and buffers */
#define SERVE_NOFILE  65536

pid_t
mfs_keeper_fork(struct mfs_keeper *k)
{
	pid_t pid = fork();

	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		if (k->mount.dev >= 0)
			(void)close(k->mount.dev);
	}
	return pid;
}

/* The descriptors in the order of enum mfs_serve_fd; -1 where there is none. malloc'd. */
static int *
descriptors_list(struct mfs_keeper *k, int link, int scratch, size_t *n)
{
	const struct mfs_config *c = k->config;
	const int fixed[] = { link, k->mount.dev, k->shm_fd, k->config_fd, k->folders.state, k->folders.store, k->control_fd,
		scratch, k->keys.state, k->held_fd };
	int *fds, *p;

	_Static_assert(sizeof(fixed) / sizeof(fixed[0]) == MFS_FD_FIRST_KEY - MFS_FD_LINK, "one per number");
	*n = MFS_FD_FIRST_KEY - MFS_FD_LINK + c->n_keys + c->n_models + c->n_seed + c->n_repos;
	fds = malloc(*n * sizeof(*fds));
	if (fds == NULL)
		return NULL;
	memcpy(fds, fixed, sizeof(fixed));
	p = fds + (MFS_FD_FIRST_KEY - MFS_FD_LINK);
	for (size_t i = 0; i < c->n_keys; i++)
		*p++ = k->keys.trust[i];
	for (size_t i = 0; i < c->n_models; i++)
		*p++ = k->keys.model[i];
	for (size_t i = 0; i < c->n_seed; i++)
		*p++ = k->seeds[i];
	for (size_t i = 0; i < c->n_repos; i++)
		*p++ = k->keys.root[i];
	return fds;
}

static void
limits_set(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max < SERVE_NOFILE ? r.rlim_max : SERVE_NOFILE;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	if (getrlimit(RLIMIT_MEMLOCK, &r) == 0 && r.rlim_cur < SERVE_MEMLOCK) {
		r.rlim_cur = SERVE_MEMLOCK;
		if (r.rlim_max < SERVE_MEMLOCK)
			r.rlim_max = SERVE_MEMLOCK;
		(void)setrlimit(RLIMIT_MEMLOCK, &r);
	}
}

static void
oom_score_set(const char *score)
{
	mfs_autoclose int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, score, strlen(score)) < 0)
		return; /* a container may not */
}

/* In the child: never returns. */
static __attribute__((noreturn)) void
serve_exec(int *fds, size_t n, pid_t keeper)
{
	const int base = MFS_FD_LINK + (int)n;
	char pid[16];
	char *argv[] = { (char[]){ "modelfs:" }, (char[]){ "serve" }, pid, NULL };
	int absent;
	char *env[24] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, (char[]){ "LANG=C" } };

#ifdef MFS_SANITIZERS
	static const char *const kept[] = { "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS" };
	size_t e = 2;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		const char *v = getenv(kept[i]);
		char *entry;

		if (v != NULL && asprintf(&entry, "%s=%s", kept[i], v) > 0)
			env[e++] = entry;
	}
#endif
	limits_set();
	oom_score_set("-500");
	/* An absent one is an O_PATH of /dev/null: a free number would soon be something else. */
	absent = open("/dev/null", O_PATH | O_CLOEXEC);
	/* First out of the way of the numbers they are to have, then there. */
	for (size_t i = 0; i < n; i++)
		if ((fds[i] = fcntl(fds[i] >= 0 ? fds[i] : absent, F_DUPFD_CLOEXEC, base)) < 0)
			_exit(126);
	for (size_t i = 0; i < n; i++)
		if (dup2(fds[i], MFS_FD_LINK + (int)i) < 0)
			_exit(126);
	if (syscall(SYS_close_range, (unsigned)base, ~0u, 0) != 0)
		for (int fd = base; fd < SERVE_NOFILE; fd++)
			(void)close(fd);
	(void)snprintf(pid, sizeof(pid), "%d", (int)keeper);
	(void)execve("/proc/self/exe", argv, env);
	_exit(127);
}

enum mfs_code
mfs_kserve_spawn(struct mfs_keeper *k, struct mfs_err *err)
{
	mfs_autoclose int scratch = mfs_kresident_scratch(&k->resident);
	mfs_autofree int *fds = NULL;
	pid_t keeper = getpid(), pid;
	int pair[2];
	size_t n;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return mfs_fail_sys(err, MFS_IO, "serve: socket pair");
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
	fds = descriptors_list(k, pair[1], scratch, &n);
	if (fds == NULL) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		return mfs_fail(err, MFS_NO_MEMORY, "serve: descriptors");
	}
	pid = fork();
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		serve_exec(fds, n, keeper);
	}
	(void)close(pair[1]);
	if (pid < 0) {
		(void)close(pair[0]);
		return mfs_fail_sys(err, MFS_IO, "serve: fork");
	}
	k->serve = (struct mfs_kserve){ .pid = pid, .sock = pair[0], .started = mfs_clock_mono_ms() };
	k->serve.last_pong = k->serve.started;
	atomic_store(&k->shm->serve_pid, (uint32_t)pid);
	return MFS_OK;
}
