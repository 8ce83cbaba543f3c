/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kadopt.c - a crash of keeper, under systemd: the descriptors of the connection lie in systemd's
 * store too (FDSTORE), and the next keeper goes on with them. Readers wait for it meanwhile; without
 * the store they would get ENOTCONN.
 */
#include <fcntl.h>
#include <linux/major.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "held.h"
#include "io.h"
#include "keeper.h"
#include "log.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

enum { STORED_DEV, STORED_SHM, STORED_TMPFS, STORED_TABLE, STORED_HELD, STORED_N };
static const char *const names[STORED_N] = { "modelfs-dev", "modelfs-shm", "modelfs-tmpfs", "modelfs-table", "modelfs-held" };

void
mfs_kadopt_store(const struct mfs_keeper *k)
{
	const int fds[STORED_N] = { k->mount.dev, k->shm_fd, k->resident.dir, k->resident.table_fd, k->held_fd };

	for (int i = 0; i < STORED_N; i++)
		if (fds[i] >= 0)
			mfs_notify_fd(fds[i], names[i]);
}

void
mfs_kadopt_forget(bool keep_held)
{
	for (int i = 0; i < STORED_N; i++)
		if (i != STORED_HELD || !keep_held)
			mfs_notify("FDSTOREREMOVE=1\nFDNAME=%s", names[i]);
}

/* Descriptors by name; true if this process was given any. */
static bool
stored_take(int fds[STORED_N])
{
	const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID"), *given = getenv("LISTEN_FDNAMES");
	mfs_autofree char *list = given != NULL ? strdup(given) : NULL;
	char *save = NULL, *name = list != NULL ? strtok_r(list, ":", &save) : NULL;
	int n = count != NULL && pid != NULL && atol(pid) == (long)getpid() ? atoi(count) : 0;

	for (int i = 0; i < STORED_N; i++)
		fds[i] = -1;
	for (int at = 0; at < n && name != NULL; at++, name = strtok_r(NULL, ":", &save)) {
		(void)fcntl(FIRST_FD + at, F_SETFD, FD_CLOEXEC);
		for (int i = 0; i < STORED_N; i++)
			if (fds[i] < 0 && strcmp(name, names[i]) == 0)
				fds[i] = FIRST_FD + at;
	}
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDNAMES");
	return fds[STORED_DEV] >= 0;
}

struct mount_search {
	const char *path;
	uint64_t id;
};

static bool
mount_match(void *user, const struct mfs_mountinfo *m)
{
	struct mount_search *s = user;

	if (strcmp(m->path, s->path) == 0)
		s->id = strcmp(m->type, "fuse.modelfs") == 0 ? m->id : 0; /* the last one lies on top */
	return true;
}

/* Is it a live connection, ours, shown where the configuration says? */
static bool
stored_usable(const int fds[STORED_N], const char *path, uint64_t *id)
{
	struct mfs_kmount m = { .dev = fds[STORED_DEV] };
	struct mount_search s = { .path = path };
	struct stat dev, shm, table;

	if (fds[STORED_SHM] < 0 || fstat(fds[STORED_DEV], &dev) != 0 || !S_ISCHR(dev.st_mode) ||
		dev.st_rdev != makedev(MISC_MAJOR, 229) || mfs_kmount_dead(&m))
		return false;
	if (fstat(fds[STORED_SHM], &shm) != 0 || shm.st_size != (off_t)sizeof(struct mfs_shm))
		return false;
	if (fds[STORED_TMPFS] >= 0 && (fds[STORED_TABLE] < 0 || fstat(fds[STORED_TABLE], &table) != 0 ||
		table.st_size != (off_t)(MFS_RESIDENTS * sizeof(struct mfs_kresident_file))))
		return false;
	if (mfs_mountinfo_each(mount_match, &s) != 0 || s.id == 0)
		return false;
	*id = s.id;
	return true;
}

bool
mfs_kadopt(struct mfs_keeper *k, struct mfs_err *err)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	mfs_autofree char *path = NULL;
	int fds[STORED_N];
	uint64_t id = 0;
	bool usable;
	void *p;

	usable = stored_take(fds);
	/* Whatever became of the connection: what acts from memory alone goes on to act. */
	if (k->held_fd < 0 && mfs_held_usable(fds[STORED_HELD]))
		k->held_fd = fds[STORED_HELD];
	else
		mfs_cleanup_close(&fds[STORED_HELD]);
	fds[STORED_HELD] = -1;
	if (!usable)
		return false;
	if (mfs_mount_path(k->config->mount, &path, err) != MFS_OK)
		return false;
	p = stored_usable(fds, path, &id) ?
		mmap(NULL, sizeof(struct mfs_shm), PROT_READ | PROT_WRITE, MAP_SHARED, fds[STORED_SHM], 0) :
		MAP_FAILED;
	if (p == MAP_FAILED || ((struct mfs_shm *)p)->magic != MFS_SHM_MAGIC ||
		((struct mfs_shm *)p)->layout != MFS_SHM_LAYOUT) {
		mfs_log(MFS_LOG_WARN, "the stored connection cannot be used any more; mounting anew");
		if (p != MAP_FAILED)
			(void)munmap(p, sizeof(struct mfs_shm));
		mfs_kadopt_forget(true);
		if (id != 0) /* systemd may still hold a duplicate: end the connection itself */
			(void)umount2(path, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
		for (int i = 0; i < STORED_N; i++)
			mfs_cleanup_close(&fds[i]);
		return false;
	}
	k->shm = p;
	k->shm_fd = fds[STORED_SHM];
	memset(k->shm->models, 0, sizeof(k->shm->models)); /* by index of a configuration that may be another now */
	k->mount.dev = fds[STORED_DEV];
	k->mount.id = id;
	k->mount.private_fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (k->mount.private_fd >= 0 &&
		mount_setattr(k->mount.private_fd, "", AT_EMPTY_PATH, &writable, sizeof(writable)) != 0)
		mfs_cleanup_close(&k->mount.private_fd);
	k->mount.path = mfs_steal(&path);
	mfs_kresident_adopt(&k->resident, fds[STORED_TMPFS], fds[STORED_TABLE], k->shm->tmpfs_size);
	k->was_ready = true; /* this serve is a successor */
	mfs_log(MFS_LOG_NOTICE, "%s: going on with the connection of a keeper that died", MFS_ESC(k->mount.path));
	return true;
}
