/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kresident.c - plaintext that the kernel serves by itself: files on a private, detached tmpfs that
 * is never swapped. keeper makes each file, serve fills it through a descriptor, and after serve's
 * "complete" keeper opens its own name again, read-only, and registers that with the connection.
 * It never registers a descriptor it received.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "log.h"

/* From newer headers than the oldest supported system ships (Linux 6.9). */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define DEV_IOC_BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define TABLE_BYTES           (MFS_RESIDENTS * sizeof(struct mfs_kresident_file))
#define DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* ---- how much --------------------------------------------------------------------------------- */

/* The smallest memory.max of this cgroup and those above; UINT64_MAX without one. */
static uint64_t
cgroup_limit(void)
{
	mfs_autofclose FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t limit = UINT64_MAX;
	char line[4096];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		for (char *dir = line + 3; dir[0] != '\0';) {
			char path[4200];
			mfs_autofclose FILE *max = NULL;
			unsigned long long v;
			char *slash;

			(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", dir);
			max = fopen(path, "re");
			if (max != NULL && fscanf(max, "%llu", &v) == 1 && v < limit)
				limit = v;
			slash = strrchr(dir, '/');
			*slash = '\0';
		}
	}
	return limit;
}

uint64_t
mfs_kresident_budget(const struct mfs_config *c)
{
	struct sysinfo si;
	uint64_t memory, limit = cgroup_limit();

	if (sysinfo(&si) != 0)
		return 0;
	memory = (uint64_t)si.totalram * si.mem_unit;
	if (limit < memory)
		memory = limit;
	if (c->memory_budget <= 100)
		return memory / 100 * c->memory_budget;
	return c->memory_budget < memory ? c->memory_budget : memory;
}

/* ---- the tmpfs -------------------------------------------------------------------------------- */

static int
tmpfs_open(uint64_t size, bool huge)
{
	mfs_autoclose int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char bytes[32];

	(void)snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)size);
	if (fs < 0 || (huge && fsconfig(fs, FSCONFIG_SET_STRING, "huge", "within_size", 0) != 0) ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0) != 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "size", bytes, 0) != 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) != 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
}

static bool
table_map(struct mfs_kresident *r, int fd)
{
	void *p = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	r->table_fd = fd;
	r->files = p != MAP_FAILED ? p : NULL;
	return r->files != NULL;
}

enum mfs_code
mfs_kresident_open(struct mfs_kresident *r, uint64_t size, struct mfs_err *err)
{
	int table = memfd_create("modelfs-table", MFD_CLOEXEC);

	*r = (struct mfs_kresident){ .dir = -1, .table_fd = table };
	if (table < 0 || ftruncate(table, TABLE_BYTES) != 0 || !table_map(r, table))
		return mfs_fail_sys(err, MFS_IO, "resident files");
	if (geteuid() != 0)
		return MFS_OK; /* for trying out: paged only */
	/* Two scratch files beside: a dying serve's and its successor's. */
	r->dir = tmpfs_open(size + 2ull * MFS_SCRATCH_BYTES, true);
	if (r->dir < 0)
		r->dir = tmpfs_open(size + 2ull * MFS_SCRATCH_BYTES, false);
	if (r->dir < 0)
		mfs_log(MFS_LOG_NOTICE, "no tmpfs without swap (Linux 6.4): %s; every model is served paged", strerror(errno));
	else
		r->size = size;
	return MFS_OK;
}

void
mfs_kresident_close(struct mfs_kresident *r)
{
	mfs_cleanup_close(&r->dir);
	if (r->files != NULL)
		(void)munmap(r->files, TABLE_BYTES);
	r->files = NULL;
	mfs_cleanup_close(&r->table_fd);
}

void
mfs_kresident_adopt(struct mfs_kresident *r, int dir, int table_fd, uint64_t size)
{
	*r = (struct mfs_kresident){ .dir = -1, .table_fd = table_fd };
	if (table_fd >= 0 && table_map(r, table_fd)) {
		r->dir = dir;
		r->size = dir >= 0 ? size : 0;
	}
}

/* ---- files ------------------------------------------------------------------------------------ */

static const char *
slot_name(char name[16], uint32_t slot)
{
	(void)snprintf(name, 16, "%u", slot);
	return name;
}

enum mfs_code
mfs_kresident_create(struct mfs_kresident *r, uint32_t slot, uint64_t size, int *fd, struct mfs_err *err)
{
	struct mfs_kresident_file *f;
	char name[16];
	int w;

	*fd = -1;
	if (r->dir < 0 || slot >= MFS_RESIDENTS || size == 0)
		return mfs_fail(err, MFS_INTERNAL, "resident slot %u: no such", slot);
	f = &r->files[slot];
	if (f->complete)
		return mfs_fail(err, MFS_INTERNAL, "resident slot %u: in use", slot);
	if (size > r->size)
		return mfs_fail(err, MFS_INSUFFICIENT_STORAGE, "resident slot %u: %llu bytes, memory_budget is %llu", slot,
			(unsigned long long)size, (unsigned long long)r->size);
	(void)unlinkat(r->dir, slot_name(name, slot), 0); /* what a dead serve left half filled */
	w = openat(r->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (w < 0 || ftruncate(w, (off_t)size) != 0) {
		(void)mfs_fail_sys(err, MFS_IO, "resident slot %u", slot);
		if (w >= 0)
			(void)close(w);
		(void)unlinkat(r->dir, name, 0);
		f->used = false;
		return err->code;
	}
	*f = (struct mfs_kresident_file){ .used = true, .size = size };
	*fd = w;
	return MFS_OK;
}

enum mfs_code
mfs_kresident_complete(struct mfs_kresident *r, int dev, uint32_t slot, int32_t *id, struct mfs_err *err)
{
	mfs_autoclose int own = -1;
	struct mfs_kresident_file *f;
	struct backing_map map = { 0 };
	struct stat st;
	char name[16];

	if (r->dir < 0 || slot >= MFS_RESIDENTS || !r->files[slot].used || r->files[slot].complete)
		return mfs_fail(err, MFS_INTERNAL, "resident slot %u: not being filled", slot);
	f = &r->files[slot];
	own = openat(r->dir, slot_name(name, slot), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (own < 0 || fstat(own, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "resident slot %u", slot);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
		return mfs_fail(err, MFS_INTERNAL, "resident slot %u: its size changed", slot);
	map.fd = own;
	*id = ioctl(dev, DEV_IOC_BACKING_OPEN, &map);
	if (*id <= 0)
		return mfs_fail_sys(err, MFS_IO, "resident slot %u: the kernel does not take it", slot);
	f->complete = true;
	f->backing_id = *id;
	return MFS_OK;
}

enum mfs_code
mfs_kresident_drop(struct mfs_kresident *r, int dev, uint32_t slot, struct mfs_err *err)
{
	char name[16];
	uint32_t id;

	if (r->dir < 0 || slot >= MFS_RESIDENTS)
		return mfs_fail(err, MFS_INTERNAL, "resident slot %u: no such", slot);
	if (r->files[slot].complete) {
		/* Open handles keep the file; its memory goes with the last of them. */
		id = (uint32_t)r->files[slot].backing_id;
		(void)ioctl(dev, DEV_IOC_BACKING_CLOSE, &id);
	}
	if (r->files[slot].used && unlinkat(r->dir, slot_name(name, slot), 0) != 0 && errno != ENOENT)
		return mfs_fail_sys(err, MFS_IO, "resident slot %u", slot);
	r->files[slot] = (struct mfs_kresident_file){ 0 };
	return MFS_OK;
}

int
mfs_kresident_scratch(struct mfs_kresident *r)
{
	int fd;

	if (r->dir < 0)
		return -1;
	fd = openat(r->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 && ftruncate(fd, MFS_SCRATCH_BYTES) != 0)
		mfs_cleanup_close(&fd);
	return fd;
}
