/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_unmount.c - `modelfs unmount`: returns when keeper is gone and nothing is left mounted. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_common.h"
#include "io.h"
#include "keeper.h"

#define BUSY_MS 2000
#define GONE_MS 20000
#define HOLDERS 5

enum how { PLAIN, LAZY, FORCE };

/* ---- who holds it ----------------------------------------------------------------------------- */

struct holders {
	const char *path;
	char text[300];
	unsigned n;
};

static bool
below(const char *path, const char *mount)
{
	size_t n = strlen(mount);

	return strncmp(path, mount, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static bool
link_below(int dirfd, const char *name, const char *mount)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return false;
	target[n] = '\0';
	return below(target, mount);
}

static bool
process_maps(int dirfd, const char *mount)
{
	int fd = openat(dirfd, "maps", O_RDONLY | O_CLOEXEC);
	mfs_autofclose FILE *f = fd >= 0 ? fdopen(fd, "re") : NULL;
	char line[PATH_MAX + 128];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *p = strchr(line, '/');

		if (p == NULL)
			continue;
		p[strcspn(p, "\n")] = '\0';
		if (below(p, mount))
			return true;
	}
	return false;
}

/* Links and maps are read, never followed: nothing here asks the mount. */
static bool
process_holds(int at, const char *mount)
{
	int fd;
	mfs_autodir DIR *d = NULL;
	struct dirent *e;

	if (link_below(at, "cwd", mount) || link_below(at, "root", mount) || link_below(at, "exe", mount))
		return true;
	fd = openat(at, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	while (d != NULL && (e = readdir(d)) != NULL)
		if (link_below(dirfd(d), e->d_name, mount))
			return true;
	return process_maps(at, mount);
}

static void
holders_find(struct holders *h)
{
	mfs_autodir DIR *proc = opendir("/proc");
	struct dirent *e;

	while (proc != NULL && (e = readdir(proc)) != NULL && h->n < HOLDERS) {
		mfs_autoclose int dir = -1;
		mfs_autofree uint8_t *comm = NULL;
		size_t used = strlen(h->text), len;

		if (e->d_name[0] < '0' || e->d_name[0] > '9' || atol(e->d_name) == (long)getpid())
			continue;
		dir = openat(dirfd(proc), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || !process_holds(dir, h->path))
			continue;
		h->n++;
		comm = calloc(1, 64);
		if (comm != NULL) {
			mfs_autoclose int fd = openat(dir, "comm", O_RDONLY | O_CLOEXEC);
			ssize_t r = fd >= 0 ? read(fd, comm, 63) : 0;

			len = r > 0 ? (size_t)r : 0;
			if (len > 0 && comm[len - 1] == '\n')
				comm[len - 1] = '\0';
		}
		(void)snprintf(h->text + used, sizeof(h->text) - used, "%s%s (%s)", used > 0 ? ", " : "", e->d_name,
			comm != NULL ? MFS_ESC((const char *)comm) : "?");
	}
}

/* ---- unmounting ------------------------------------------------------------------------------- */

/* In a helper, which may hang in our stead. 0, or an errno. */
static int
unmount_try(const char *path, int flags)
{
	int64_t until = mfs_clock_mono_ms() + 5000;
	int status;
	pid_t pid = fork();

	if (pid == 0 && geteuid() != 0)
		_exit(mfs_krootless_unmount(path, flags != 0));
	if (pid == 0)
		_exit(umount2(path, flags | UMOUNT_NOFOLLOW) == 0 ? 0 : errno);
	if (pid < 0)
		return errno;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (mfs_clock_mono_ms() >= until) {
			(void)kill(pid, SIGKILL);
			return ETIMEDOUT;
		}
		(void)poll(NULL, 0, 2);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static enum mfs_code
mount_remove(const char *path, enum how how, struct mfs_err *err)
{
	int flags = how == FORCE ? MNT_FORCE | MNT_DETACH : how == LAZY ? MNT_DETACH : 0;
	int64_t until = mfs_clock_mono_ms() + BUSY_MS;
	struct holders h = { .path = path };
	int e;

	while ((e = unmount_try(path, flags)) == EBUSY && mfs_clock_mono_ms() < until)
		(void)poll(NULL, 0, 50);
	if (e == 0 || e == EINVAL || e == ENOENT) /* somebody else was faster */
		return MFS_OK;
	errno = e;
	if (e != EBUSY)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	holders_find(&h);
	return mfs_fail(err, MFS_CONDITION_UNMET,
		"%s: in use%s%s; end them, or use --lazy (they keep what they have open for 10 s) or --force (they get errors)",
		MFS_ESC(path), h.n > 0 ? " by " : "", h.text);
}

/* keeper holds the lock for as long as it lives. */
static enum mfs_code
keeper_wait(const struct mfs_folders *f, struct mfs_err *err)
{
	int64_t until = mfs_clock_mono_ms() + GONE_MS;
	int lock;

	for (;;) {
		struct mfs_err busy = MFS_ERR_INIT;

		if (mfs_lock_take(f->state, MFS_STATE_LOCK, false, &lock, &busy) == MFS_OK) {
			(void)close(lock);
			return MFS_OK;
		}
		if (busy.code != MFS_CONDITION_UNMET) {
			*err = busy;
			return busy.code;
		}
		if (mfs_clock_mono_ms() >= until)
			return mfs_fail(err, MFS_CONDITION_UNMET, "unmounted, but modelfs has not ended yet; see its log");
		(void)poll(NULL, 0, 5);
	}
}

static enum mfs_code
unmount_run(const struct mfs_config *c, struct mfs_folders *f, enum how how, bool *nothing, struct mfs_err *err)
{
	mfs_autofree uint8_t *noted = NULL;
	mfs_autofree char *path = NULL;
	enum mfs_mount_state state;
	bool live = false;
	size_t len;
	int lock;

	/* Where it is mounted: keeper's note (the command line may have said it), else the configuration. */
	if (f->run >= 0 && mfs_file_read(f->run, MFS_MOUNT_NOTE, PATH_MAX, &noted, &len, NULL) == MFS_OK)
		path = strdup((const char *)noted);
	else if (mfs_mount_path(c->mount, &path, err) != MFS_OK)
		return err->code;
	if (path == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "unmount");
	if (f->state >= 0) {
		live = mfs_lock_take(f->state, MFS_STATE_LOCK, false, &lock, NULL) == MFS_CONDITION_UNMET;
		if (!live && lock >= 0)
			(void)close(lock);
	}
	state = mfs_mount_state(path);
	if (state == MFS_MOUNT_NONE && !live) {
		*nothing = true;
		return MFS_OK;
	}
	/* A dead one is nobody's: whoever still holds it can only get errors from it. */
	if (state != MFS_MOUNT_NONE && mount_remove(path, state == MFS_MOUNT_DEAD ? LAZY : how, err) != MFS_OK)
		return err->code;
	return live ? keeper_wait(f, err) : MFS_OK;
}

int
mfs_cmd_unmount(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_err err = MFS_ERR_INIT;
	enum how how = PLAIN;
	bool nothing = false;
	struct mfs_args args;
	int code, n = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--lazy") == 0)
			how = LAZY;
		else if (strcmp(argv[i], "--force") == 0)
			how = FORCE;
		else
			argv[n++] = argv[i];
	}
	if (!mfs_args_parse(n, argv, 0, 0, 0, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "unmount", args.config, &err) == MFS_OK &&
		(mfs_setup_folders(env.config, false, &env.folders, &err) == MFS_OK || err.sys_errno == ENOENT)) {
		err = (struct mfs_err)MFS_ERR_INIT;
		(void)unmount_run(env.config, &env.folders, how, &nothing, &err);
	}
	if (err.code != MFS_OK)
		return mfs_cmd_fail("unmount", &err);
	if (nothing)
		fprintf(stderr, "modelfs: unmount: nothing is mounted\n");
	return nothing ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
}
