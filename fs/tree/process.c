/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "cleanup.h"
#include "process.h"

/* From newer headers than the oldest supported system ships. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#define OPEN_THREAD  O_EXCL /* PIDFD_THREAD, Linux 6.9 */
#define INFO_CGROUP  4u     /* PIDFD_INFO_CGROUPID */
struct pidfd_info_v0 {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};
#define GET_INFO _IOWR(0xff, 11, struct pidfd_info_v0) /* PIDFD_GET_INFO, Linux 6.13 */
_Static_assert(sizeof(struct pidfd_info_v0) == 64, "PIDFD_INFO_SIZE_VER0");

static int
pidfd_open_raw(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static bool
info_of(int pidfd, struct pidfd_info_v0 *info)
{
	*info = (struct pidfd_info_v0){ .mask = INFO_CGROUP };
	return ioctl(pidfd, GET_INFO, info) == 0 && info->tgid != 0;
}

/* 1 found, 0 gone, -1 this kernel cannot tell. */
static int
by_pidfd(pid_t tid, bool cgroup, struct mfs_process *out)
{
	mfs_autoclose int thread = pidfd_open_raw(tid, OPEN_THREAD), leader = -1;
	struct pidfd_info_v0 info;
	struct stat st;

	if (thread < 0)
		return errno == ESRCH ? 0 : -1;
	if (!info_of(thread, &info))
		return errno == ESRCH ? 0 : -1;
	if (cgroup) {
		if ((info.mask & INFO_CGROUP) == 0)
			return -1;
		*out = (struct mfs_process){ .id = info.cgroup };
		return 1;
	}
	if ((pid_t)info.tgid == tid) { /* the leader itself asks: the usual case */
		if (fstat(thread, &st) != 0)
			return 0;
		*out = (struct mfs_process){ .id = st.st_ino, .tgid = tid };
		return 1;
	}
	/* An inode names a thread; the process is its leader's. The thread living, so does the leader. */
	if ((leader = pidfd_open_raw((pid_t)info.tgid, 0)) < 0 || fstat(leader, &st) != 0)
		return 0;
	if (!info_of(thread, &info))
		return 0;
	*out = (struct mfs_process){ .id = st.st_ino, .tgid = (pid_t)info.tgid };
	return 1;
}

static ssize_t
proc_read(pid_t pid, const char *name, char *buf, size_t cap)
{
	char path[64];
	mfs_autoclose int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return -1;
	if ((n = read(fd, buf, cap - 1)) < 0)
		return -1;
	buf[n] = '\0';
	return n;
}

/* FNV-1a: names a cgroup by its path where the kernel does not give its number. */
static uint64_t
path_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h;
}

static bool
start_time(pid_t tgid, uint64_t *out)
{
	char buf[1024], *p;
	unsigned long long v;

	if (proc_read(tgid, "stat", buf, sizeof(buf)) <= 0 || (p = strrchr(buf, ')')) == NULL)
		return false;
	/* field 22; the first after ')' is field 3 */
	if (sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &v) != 1)
		return false;
	*out = v;
	return true;
}

static bool
by_proc(pid_t tid, bool cgroup, struct mfs_process *out)
{
	char buf[4096], *p;
	int tgid;

	if (cgroup) {
		if (proc_read(tid, "cgroup", buf, sizeof(buf)) <= 0)
			return false;
		*out = (struct mfs_process){ .id = path_hash(buf), .by_proc = true };
		return true;
	}
	if (proc_read(tid, "status", buf, sizeof(buf)) <= 0 || (p = strstr(buf, "\nTgid:")) == NULL ||
		sscanf(p, "\nTgid: %d", &tgid) != 1 || tgid <= 0)
		return false;
	*out = (struct mfs_process){ .tgid = tgid, .by_proc = true };
	return start_time(tgid, &out->id);
}

bool
mfs_process_of(pid_t tid, bool cgroup, struct mfs_process *out)
{
	int r;

	*out = (struct mfs_process){ .id = 0 };
	if (tid <= 0)
		return false;
	if ((r = by_pidfd(tid, cgroup, out)) >= 0)
		return r > 0;
	return by_proc(tid, cgroup, out);
}

bool
mfs_process_alive(const struct mfs_process *p)
{
	mfs_autoclose int fd = -1;
	struct pollfd pfd;
	uint64_t start;
	struct stat st;

	if (p->tgid == 0)
		return true;
	if ((fd = pidfd_open_raw(p->tgid, 0)) < 0)
		return errno != ESRCH && errno != EINVAL;
	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	if (poll(&pfd, 1, 0) == 1) /* ended: readable, also before it is reaped */
		return false;
	if (p->by_proc)
		return !start_time(p->tgid, &start) || start == p->id;
	return fstat(fd, &st) != 0 || st.st_ino == p->id;
}
