/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmount.c - the superblock: made detached and read-only, INIT answered, read-ahead set, shown only
 * when a serve is ready. A private clone of the mount is writable, for the byte that makes inotify
 * fire. Nothing here touches a file of the mount in this process.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "io.h"
#include "keeper.h"
#include "log.h"
#include "session_init.h"

#define INIT_WAIT_MS 5000

/* ---- the folder ------------------------------------------------------------------------------- */

static enum mfs_code
target_empty(const struct mfs_kmount *m, struct mfs_err *err)
{
	int fd = openat(m->target_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mfs_autodir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL)
		return mfs_fail_sys(err, MFS_IO, "mount: %s", MFS_ESC(m->path));
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return mfs_fail(err, MFS_CONFIG_INVALID, "mount: %s: the folder is not empty; empty it or choose another",
				MFS_ESC(m->path));
	return MFS_OK;
}

enum mfs_code
mfs_kmount_target(struct mfs_kmount *m, const char *path, struct mfs_err *err)
{
	mfs_autofree char *full = NULL;
	struct stat st;

	if (mfs_mount_path(path, &full, err) != MFS_OK)
		return err->code;
	/* A keeper that was killed leaves a dead mount; more than one if it happened before. */
	for (int i = 0; i < 16; i++) {
		enum mfs_mount_state state = mfs_mount_state(full);

		if (state == MFS_MOUNT_NONE)
			break;
		if (state == MFS_MOUNT_LIVE)
			return mfs_fail(err, MFS_CONDITION_UNMET, "mount: %s: another modelfs is mounted there", MFS_ESC(full));
		mfs_log(MFS_LOG_NOTICE, "%s: detaching what a dead modelfs left mounted", MFS_ESC(full));
		if (geteuid() != 0 ? mfs_krootless_unmount(full, true) != 0 : umount2(full, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
			return mfs_fail_sys(err, MFS_IO, "mount: %s: cannot detach the dead mount", MFS_ESC(full));
	}
	if (mkdir(full, 0755) == 0)
		m->made_folder = true;
	else if (errno != EEXIST)
		return mfs_fail_sys(err, MFS_IO, "mount: %s: cannot make the folder", MFS_ESC(full));
	m->target_fd = open(full, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (m->target_fd < 0 && (errno == ENOTDIR || errno == ELOOP) && lstat(full, &st) == 0 && S_ISLNK(st.st_mode))
		return mfs_fail(err, MFS_CONFIG_INVALID, "mount: %s: is a link; name the folder itself", MFS_ESC(full));
	if (m->target_fd < 0)
		return mfs_fail_sys(err, MFS_IO, "mount: %s", MFS_ESC(full));
	m->path = mfs_steal(&full);
	return target_empty(m, err);
}

/* ---- the superblock --------------------------------------------------------------------------- */

static enum mfs_code
config_fail(int fs, const char *what, struct mfs_err *err)
{
	char text[160] = { 0 };
	int e = errno;

	/* "e fuse: reason", one message a read. */
	if (read(fs, text, sizeof(text) - 1) <= 0)
		text[0] = '\0';
	errno = e;
	(void)mfs_fail_sys(err, MFS_IO, "mount: %s", what);
	if (text[0] != '\0')
		(void)mfs_err_hint(err, " (%s)", MFS_ESC(text));
	return err->code;
}

static enum mfs_code
superblock_options(int fs, const struct mfs_config *c, int dev, struct mfs_err *err)
{
	char number[16];
	const struct {
		const char *key, *value; /* value NULL: a flag */
	} options[] = {
		{ "source", "modelfs" }, { "subtype", "modelfs" }, { "fd", number }, { "rootmode", "40000" },
		{ "user_id", "0" }, { "group_id", "0" }, { "allow_other", NULL }, { "default_permissions", NULL },
		{ "max_read", "1048576" },
	};

	(void)snprintf(number, sizeof(number), "%d", dev);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (fsconfig(fs, options[i].value != NULL ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[i].key,
			    options[i].value, 0) != 0)
			return config_fail(fs, options[i].key, err);
	if (c->selinux_context != NULL && fsconfig(fs, FSCONFIG_SET_STRING, "context", c->selinux_context, 0) != 0)
		return config_fail(fs, "selinux_context", err);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
		return config_fail(fs, "superblock", err);
	return MFS_OK;
}

/* Read INIT, keep it and the answer for every serve, and answer. */
static enum mfs_code
init_exchange(struct mfs_kmount *m, struct mfs_shm *shm, bool noswap, bool resend, struct mfs_err *err)
{
	struct pollfd p = { .fd = m->dev, .events = POLLIN };
	struct mfs_init_offer offer = { 0 };
	uint8_t in[8192];
	ssize_t n;

	if (poll(&p, 1, INIT_WAIT_MS) != 1)
		return mfs_fail(err, MFS_IO, "mount: the kernel sent no INIT");
	n = read(m->dev, in, sizeof(in));
	if (n < 0 || (size_t)n > sizeof(shm->init_in))
		return mfs_fail_sys(err, MFS_IO, "mount: INIT");
	memcpy(shm->init_in, in, (size_t)n);
	shm->init_in_len = (uint32_t)n;
	if (mfs_init_answer(in, (size_t)n, noswap, &offer, shm->init_out, &shm->init_out_len, err) != MFS_OK)
		return err->code;
	if (write(m->dev, shm->init_out, shm->init_out_len) != (ssize_t)shm->init_out_len)
		return mfs_fail_sys(err, MFS_IO, "mount: answer to INIT");
	shm->noswap = noswap;
	shm->passthrough = noswap && offer.passthrough;
	shm->kernel_resend = resend && offer.resend;
	return MFS_OK;
}

/* read_ahead_kb of the mount's bdi: INIT cannot raise it above the kernel's default. Not fatal. */
static void
read_ahead_set(const struct mfs_kmount *m, const struct mfs_config *c, struct mfs_shm *shm)
{
	mfs_autoclose int fd = -1;
	char path[96], text[16];
	struct statx sx;
	int n;

	shm->read_ahead_kb = 0;
	/* From the mount's root as it lies in memory: no request is sent. */
	if (statx(m->detached_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &sx) != 0)
		return;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", sx.stx_dev_major, sx.stx_dev_minor);
	n = snprintf(text, sizeof(text), "%u", c->read_ahead_kb);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)n) == n)
		shm->read_ahead_kb = c->read_ahead_kb;
	else
		mfs_log(MFS_LOG_WARN, "%s: cannot set read-ahead: %s; cold reads will be slower", path, strerror(errno));
}

enum mfs_code
mfs_kmount_create(struct mfs_kmount *m, const struct mfs_config *c, struct mfs_shm *shm, bool noswap, bool resend,
	struct mfs_err *err)
{
	unsigned flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | (c->exec ? 0 : MOUNT_ATTR_NOEXEC);
	mfs_autoclose int fs = -1;

	shm->mounted_at = mfs_clock_wall();
	if (geteuid() != 0) {
		shm->rootless = 1;
		return mfs_krootless_mount(m, c, err) == MFS_OK ? init_exchange(m, shm, false, resend, err) : err->code;
	}
	m->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m->dev < 0) {
		(void)mfs_fail_sys(err, MFS_IO, "/dev/fuse");
		return mfs_err_hint(err, "; load the fuse module (modprobe fuse), or give this container the device");
	}
	fs = fsopen("fuse", FSOPEN_CLOEXEC);
	if (fs < 0) {
		(void)mfs_fail_sys(err, MFS_IO, "mount: fsopen");
		return mfs_err_hint(err, "; modelfs mounts as root, on Linux 5.4 or newer");
	}
	if (superblock_options(fs, c, m->dev, err) != MFS_OK)
		return err->code;
	m->detached_fd = fsmount(fs, FSMOUNT_CLOEXEC, flags);
	if (m->detached_fd < 0)
		return mfs_fail_sys(err, MFS_IO, "mount: fsmount");
	if (init_exchange(m, shm, noswap, resend, err) != MFS_OK)
		return err->code;
	read_ahead_set(m, c, shm);
	return MFS_OK;
}

enum mfs_code
mfs_kmount_attach(struct mfs_kmount *m, struct mfs_err *err)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	struct statx sx;

	if (m->detached_fd < 0) /* without root it was attached from the start */
		return MFS_OK;
	if (move_mount(m->detached_fd, "", m->target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
		return mfs_fail_sys(err, MFS_IO, "mount: %s", MFS_ESC(m->path));
	if (statx(m->detached_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0x1000 /* STATX_MNT_ID */, &sx) == 0 &&
		(sx.stx_mask & 0x1000) != 0)
		m->id = sx.stx_mnt_id;
	m->private_fd = open_tree(m->detached_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (m->private_fd >= 0 && mount_setattr(m->private_fd, "", AT_EMPTY_PATH, &writable, sizeof(writable)) != 0)
		mfs_cleanup_close(&m->private_fd);
	if (m->private_fd < 0)
		mfs_log(MFS_LOG_WARN, "no private writable mount: %s; inotify on `generation` stays silent", strerror(errno));
	mfs_cleanup_close(&m->detached_fd); /* an open descriptor would keep the public mount busy */
	mfs_cleanup_close(&m->target_fd);
	return MFS_OK;
}

/* ---- is it still there ------------------------------------------------------------------------ */

static bool
listed_match(void *user, const struct mfs_mountinfo *info)
{
	struct listed {
		const struct mfs_kmount *m;
		bool found;
	} *l = user;

	l->found = l->m->id != 0 ? info->id == l->m->id :
				   strcmp(info->path, l->m->path) == 0 && strcmp(info->type, "fuse.modelfs") == 0;
	return !l->found;
}

bool
mfs_kmount_listed(const struct mfs_kmount *m)
{
	struct {
		const struct mfs_kmount *m;
		bool found;
	} l = { m, false };

	return mfs_mountinfo_each(listed_match, &l) != 0 || l.found;
}

bool
mfs_kmount_dead(const struct mfs_kmount *m)
{
	struct pollfd p = { .fd = m->dev };

	return m->dev < 0 || (poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLNVAL)) != 0);
}

/* ---- the end ---------------------------------------------------------------------------------- */

pid_t
mfs_kmount_remove(struct mfs_kmount *m, bool abort)
{
	pid_t pid = fork();

	if (pid == 0) {
		int dev = m->dev;

		(void)close(dev); /* else the connection would live as long as this child */
		if (m->id != 0 && mfs_kmount_listed(m)) {
			if (geteuid() != 0) {
				if (mfs_krootless_unmount(m->path, abort) == EBUSY)
					(void)mfs_krootless_unmount(m->path, true);
			} else if (abort)
				(void)umount2(m->path, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
			else if (umount2(m->path, UMOUNT_NOFOLLOW) != 0 && errno == EBUSY)
				(void)umount2(m->path, MNT_DETACH | UMOUNT_NOFOLLOW);
		}
		/* The last reference to the superblock may go with these, and its end may wait for serve. */
		if (m->private_fd >= 0)
			(void)close(m->private_fd);
		if (m->detached_fd >= 0)
			(void)close(m->detached_fd);
		_exit(0);
	}
	mfs_cleanup_close(&m->private_fd);
	mfs_cleanup_close(&m->detached_fd);
	return pid;
}

void
mfs_kmount_close(struct mfs_kmount *m)
{
	mfs_cleanup_close(&m->detached_fd);
	mfs_cleanup_close(&m->private_fd);
	mfs_cleanup_close(&m->dev);
	m->id = 0;
}
