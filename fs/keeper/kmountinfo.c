/* SPDX-License-Identifier: Apache-2.0 */
/* kmountinfo.c - what is mounted where, without ever asking the mounted filesystem in this process. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "io.h"
#include "keeper.h"

#define MODELFS_TYPE "fuse.modelfs"

/* Copy a field up to the next space, \040 and its like undone. */
static const char *
field_copy(const char *p, char *out, size_t cap)
{
	size_t o = 0;

	while (*p != '\0' && *p != ' ' && *p != '\n') {
		char c = *p++;

		if (c == '\\' && p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7') {
			c = (char)((p[0] - '0') * 64 + (p[1] - '0') * 8 + (p[2] - '0'));
			p += 3;
		}
		if (o + 1 < cap)
			out[o++] = c;
	}
	out[o] = '\0';
	return *p == ' ' ? p + 1 : p;
}

static bool
line_parse(const char *line, struct mfs_mountinfo *m)
{
	const char *p = line, *dash = strstr(line, " - ");
	char skip[16];

	if (dash == NULL || sscanf(line, "%llu", (unsigned long long *)&m->id) != 1)
		return false;
	for (int i = 0; i < 4; i++) /* id, parent, major:minor, root */
		p = field_copy(p, skip, sizeof(skip));
	(void)field_copy(p, m->path, sizeof(m->path));
	p = field_copy(dash + 3, m->type, sizeof(m->type));
	(void)field_copy(p, m->source, sizeof(m->source));
	return true;
}

int
mfs_mountinfo_each(bool (*fn)(void *user, const struct mfs_mountinfo *m), void *user)
{
	mfs_autofclose FILE *f = fopen("/proc/self/mountinfo", "re");
	mfs_autofree struct mfs_mountinfo *m = malloc(sizeof(*m));
	mfs_autofree char *line = NULL;
	size_t cap = 0;

	if (f == NULL || m == NULL)
		return -1;
	while (getline(&line, &cap, f) > 0)
		if (line_parse(line, m) && !fn(user, m))
			break;
	return 0;
}

struct state_search {
	const char *path;
	bool found;
};

static bool
state_match(void *user, const struct mfs_mountinfo *m)
{
	struct state_search *s = user;

	/* The last one of a path lies on top. */
	if (strcmp(m->path, s->path) == 0)
		s->found = strcmp(m->type, MODELFS_TYPE) == 0;
	return true;
}

enum mfs_mount_state
mfs_mount_state(const char *path)
{
	struct state_search s = { .path = path };
	int64_t until = mfs_clock_mono_ms() + 2000;
	int status = -1;
	pid_t pid;

	if (mfs_mountinfo_each(state_match, &s) != 0 || !s.found)
		return MFS_MOUNT_NONE;
	if ((pid = fork()) == 0) {
		struct statfs st;

		_exit(statfs(path, &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED) ? 1 : 0);
	}
	if (pid < 0)
		return MFS_MOUNT_LIVE;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (mfs_clock_mono_ms() >= until) {
			(void)kill(pid, SIGKILL); /* not waited for: it may hang */
			return MFS_MOUNT_LIVE;
		}
		(void)poll(NULL, 0, 5);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? MFS_MOUNT_DEAD : MFS_MOUNT_LIVE;
}

enum mfs_code
mfs_mount_path(const char *path, char **out, struct mfs_err *err)
{
	mfs_autofree char *copy = strdup(path), *parent = NULL;
	char *base, *slash, *full;

	*out = NULL;
	if (copy == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	base = slash != NULL ? slash + 1 : copy;
	if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "mount: %s: not a folder that can be mounted on", MFS_ESC(path));
	if (slash == NULL)
		parent = realpath(".", NULL);
	else {
		*slash = '\0';
		parent = realpath(copy[0] != '\0' ? copy : "/", NULL);
	}
	if (parent == NULL && errno == ENOENT && slash != NULL) { /* parents are made with the folder */
		if (mfs_mkdirs(AT_FDCWD, copy, 0755, err) != MFS_OK)
			return mfs_err_context(err, "mount: ");
		parent = realpath(copy, NULL);
	}
	if (parent == NULL)
		return mfs_fail_sys(err, MFS_IO, "mount: %s", MFS_ESC(path));
	if (asprintf(&full, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, base) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	*out = full;
	return MFS_OK;
}
