/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kcgroup.c - a cgroup2 for each job, where keeper may make one: in its own group when that was
 * delegated to it (systemd: Delegate=) or allows it as it is. A group with processes cannot hand
 * controllers down, so in a delegated one keeper moves to a leaf first.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io.h"
#include "kjobs.h"
#include "log.h"

#define TASKS_MAX 512 /* processes and threads of one job */

static bool
text_write(int dir, const char *name, const char *text)
{
	mfs_autoclose int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Our place in the cgroup2 hierarchy, mounted at its usual place. */
static int
own_open(void)
{
	mfs_autofree uint8_t *text = NULL;
	char path[4096 + 32];
	struct statfs fs;
	size_t len = 0;
	char *line, *end;

	if (statfs("/sys/fs/cgroup", &fs) != 0 || fs.f_type != CGROUP2_SUPER_MAGIC ||
		mfs_file_read(AT_FDCWD, "/proc/self/cgroup", 65536, &text, &len, NULL) != MFS_OK)
		return -1;
	for (line = (char *)text; line < (char *)text + len; line = end + 1) {
		if ((end = memchr(line, '\n', len - (size_t)(line - (char *)text))) == NULL)
			return -1;
		*end = '\0';
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		if (strstr(line, "/..") != NULL || strlen(line) > 4096) /* outside of this cgroup namespace */
			return -1;
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s", line + 3);
		return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return -1;
}

static bool
delegated(int dir)
{
	char value[8] = "";

	return (fgetxattr(dir, "trusted.delegate", value, sizeof(value) - 1) > 0 ||
		fgetxattr(dir, "user.delegate", value, sizeof(value) - 1) > 0) && value[0] == '1';
}

int
mfs_kcgroup_open(void)
{
	mfs_autoclose int own = own_open(), leaf = -1, parent = -1;
	int probe;

	if (own < 0)
		return -1;
	parent = openat(own, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (delegated(own)) {
		if ((mkdirat(own, "modelfs", 0755) != 0 && errno != EEXIST) ||
			(leaf = openat(own, "modelfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
			!text_write(leaf, "cgroup.procs", "0"))
			return -1;
	} else if (parent >= 0 && delegated(parent)) { /* an earlier keeper's leaf, or DelegateSubgroup= */
		mfs_cleanup_close(&own);
		own = mfs_steal_fd(&parent);
	}
	(void)text_write(own, "cgroup.subtree_control", "+memory");
	(void)text_write(own, "cgroup.subtree_control", "+pids");
	probe = mfs_kcgroup_make(own, 0, 1u << 30);
	if (probe < 0)
		return -1;
	mfs_kcgroup_remove(own, 0, &probe);
	return mfs_steal_fd(&own);
}

static void
name_of(char out[32], uint32_t number)
{
	(void)snprintf(out, 32, "modelfs-job-%" PRIu32, number);
}

int
mfs_kcgroup_make(int parent, uint32_t number, uint64_t memory)
{
	char name[32], bytes[32], tasks[16];
	int fd = -1;

	name_of(name, number);
	(void)snprintf(bytes, sizeof(bytes), "%" PRIu64, memory);
	(void)snprintf(tasks, sizeof(tasks), "%d", TASKS_MAX);
	/* One that a keeper before left has counted kills that were not of this job. */
	if (parent >= 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		return -1;
	if (parent < 0 || mkdirat(parent, name, 0755) != 0 || (fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	if (!text_write(fd, "memory.max", bytes)) {
		(void)close(fd);
		(void)unlinkat(parent, name, AT_REMOVEDIR);
		return -1;
	}
	(void)text_write(fd, "memory.swap.max", "0"); /* plaintext stays out of swap */
	(void)text_write(fd, "memory.oom.group", "1");
	(void)text_write(fd, "pids.max", tasks);
	return fd;
}

bool
mfs_kcgroup_killed_by_memory(int folder)
{
	mfs_autofree uint8_t *text = NULL;
	const char *line;
	size_t len = 0;

	if (folder < 0 || mfs_file_read(folder, "memory.events", 4096, &text, &len, NULL) != MFS_OK)
		return false;
	line = memmem(text, len, "oom_kill ", 9);
	return line != NULL && line + 9 < (char *)text + len && line[9] != '0';
}

void
mfs_kcgroup_remove(int parent, uint32_t number, int *folder)
{
	char name[32];

	if (*folder < 0)
		return;
	name_of(name, number);
	mfs_cleanup_close(folder);
	if (unlinkat(parent, name, AT_REMOVEDIR) != 0)
		mfs_log(MFS_LOG_DEBUG, "cgroup %s: %s", name, strerror(errno));
}
