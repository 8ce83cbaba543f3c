/* SPDX-License-Identifier: Apache-2.0 */
/*
 * krootless.c - for trying out without root: fusermount3 mounts and hands the connection over.
 * No resident tier, no read-ahead setting, no private mount, so no inotify events; only the user
 * who mounted can read.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdmsg.h"
#include "io.h"
#include "keeper.h"

#define HELPER    "fusermount3"
#define HELPER_MS 10000

/* Run the helper with /dev/null as input; comm >= 0 is where it sends the connection. Its pid, or -1. */
static pid_t
helper_start(const char *const *args, int comm)
{
	pid_t pid = fork();

	if (pid == 0) {
		char number[16];
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		if (comm >= 0) {
			(void)fcntl(comm, F_SETFD, 0);
			(void)snprintf(number, sizeof(number), "%d", comm);
			(void)setenv("_FUSE_COMMFD", number, 1);
		}
		(void)execvp(HELPER, (char *const *)(uintptr_t)args);
		_exit(127);
	}
	return pid;
}

/* The one descriptor that the helper sends; -1 without. */
static int
connection_receive(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	struct mfs_fdmsg beside;
	size_t came;
	char byte;

	if (poll(&p, 1, HELPER_MS) != 1 || mfs_fdmsg_recv(sock, &byte, 1, 0, &beside) < 0)
		return -1;
	return mfs_fdmsg_one(&beside, &came);
}

struct id_search {
	const char *path;
	uint64_t id;
};

static bool
id_match(void *user, const struct mfs_mountinfo *info)
{
	struct id_search *s = user;

	if (strcmp(info->path, s->path) == 0)
		s->id = info->id; /* the last one lies on top */
	return true;
}

enum mfs_code
mfs_krootless_mount(struct mfs_kmount *m, const struct mfs_config *c, struct mfs_err *err)
{
	const char *options = c->exec ? "ro,nosuid,nodev,fsname=modelfs,subtype=modelfs,default_permissions,max_read=1048576" :
					"ro,nosuid,nodev,noexec,fsname=modelfs,subtype=modelfs,default_permissions,max_read=1048576";
	const char *const args[] = { HELPER, "-o", options, "--", m->path, NULL };
	struct id_search s = { .path = m->path };
	int pair[2], status = -1;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return mfs_fail_sys(err, MFS_IO, "mount");
	mfs_cleanup_close(&m->target_fd);
	pid = helper_start(args, pair[1]);
	(void)close(pair[1]);
	m->dev = pid > 0 ? connection_receive(pair[0]) : -1;
	(void)close(pair[0]);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	if (m->dev < 0)
		return mfs_fail(err, MFS_IO, "mount: %s", WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
			HELPER " was not found; install fuse3, or run modelfs as root" :
			HELPER " refused; see its message, or run modelfs as root");
	if (mfs_mountinfo_each(id_match, &s) == 0)
		m->id = s.id;
	return MFS_OK;
}

int
mfs_krootless_unmount(const char *path, bool lazy)
{
	const char *const args[] = { HELPER, "-u", lazy ? "-qz" : "-q", "--", path, NULL };
	pid_t pid = helper_start(args, -1);
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return EIO;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return mfs_mount_state(path) == MFS_MOUNT_NONE ? EINVAL : EBUSY;
}
