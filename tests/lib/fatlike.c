/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fatlike - a folder shown by the rules of a FAT32 stick, for hosts whose kernel has no vfat.
 *
 *	fatlike [--strict] FOLDER MOUNTPOINT      in the foreground, until it is unmounted
 *
 * What vfat does: names are found whatever their case and keep the case they were made with; "*:<>?\| and control
 * characters are no part of a name, dots at its end are dropped; no file of 4 GiB or more; no links, sockets, attributes;
 * everything belongs to root, 0755, whatever chmod says; times of two seconds; nothing is exchanged by rename, and a
 * file gets a new inode number with each mount. --strict: what worse drivers and network shares do besides: chmod and
 * times other than now are refused (EPERM), rename knows no flags.
 */
#define FUSE_USE_VERSION 314
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_MAX 0xffffffffll

static int top;
static bool strict;

static bool
name_ok(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < 0x20 || strchr("\"*:<>?\\|", name[i]) != NULL)
			return false;
	return len > 0 && len <= 255;
}

/* The name in folder fd that is this one but for its case, or this one. */
static void
name_find(int fd, char *name, size_t room)
{
	const int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again >= 0 ? fdopendir(again) : NULL;
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (strcasecmp(e->d_name, name) == 0)
			(void)snprintf(name, room, "%s", e->d_name);
	if (d != NULL)
		(void)closedir(d);
}

/* "/a/b" to the folder's own spelling of it, without the slash in front; "." for the top. 0 or -errno. */
static int
spelt(const char *path, char out[PATH_MAX])
{
	size_t used = 0;

	(void)snprintf(out, PATH_MAX, ".");
	while (*path == '/')
		path++;
	while (*path != '\0') {
		const size_t part = strcspn(path, "/");
		size_t len = part;
		char name[NAME_MAX + 1];
		int fd;

		while (len > 1 && path[len - 1] == '.')
			len--;
		if (!name_ok(path, len))
			return -EINVAL;
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, path);
		if ((fd = openat(top, out, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
			return -errno;
		name_find(fd, name, sizeof(name));
		(void)close(fd);
		if (used + strlen(name) + 2 > PATH_MAX)
			return -ENAMETOOLONG;
		used += (size_t)snprintf(out + used, PATH_MAX - used, "%s%s", used > 0 ? "/" : "", name);
		path += part;
		path += strspn(path, "/");
	}
	return 0;
}

static void
fat_stat(struct stat *st)
{
	st->st_mode = (st->st_mode & S_IFMT) | 0755;
	st->st_uid = 0;
	st->st_gid = 0;
	st->st_nlink = 1;
	st->st_mtim.tv_sec &= ~1;
	st->st_ctim.tv_sec &= ~1;
	st->st_atim.tv_sec &= ~1;
	st->st_mtim.tv_nsec = st->st_ctim.tv_nsec = st->st_atim.tv_nsec = 0;
}

static int
f_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	char p[PATH_MAX];
	int rc = fi != NULL ? 0 : spelt(path, p);

	if (rc == 0 && (fi != NULL ? fstat((int)fi->fh, st) : fstatat(top, p, st, AT_SYMLINK_NOFOLLOW)) != 0)
		rc = -errno;
	if (rc == 0)
		fat_stat(st);
	return rc;
}

static int
f_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off, struct fuse_file_info *fi,
	enum fuse_readdir_flags flags)
{
	char p[PATH_MAX];
	const struct dirent *e;
	int rc = spelt(path, p), fd;
	DIR *d;

	(void)off;
	(void)fi;
	(void)flags;
	if (rc != 0)
		return rc;
	if ((fd = openat(top, p, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || (d = fdopendir(fd)) == NULL)
		return -errno;
	while ((e = readdir(d)) != NULL)
		(void)fill(buf, e->d_name, NULL, 0, 0);
	(void)closedir(d);
	return 0;
}

static int
f_open(const char *path, struct fuse_file_info *fi)
{
	char p[PATH_MAX];
	int rc = spelt(path, p), fd;

	if (rc != 0)
		return rc;
	if ((fd = openat(top, p, (fi->flags & ~O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0755)) < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	return 0;
}

static int
f_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	char p[PATH_MAX];
	int rc = spelt(path, p), fd;

	(void)mode;
	if (rc != 0)
		return rc;
	if ((fd = openat(top, p, fi->flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0755)) < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	return 0;
}

static int
f_read(const char *path, char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
	const ssize_t got = pread((int)fi->fh, buf, n, off);

	(void)path;
	return got < 0 ? -errno : (int)got;
}

static int
f_write(const char *path, const char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
	ssize_t put;

	(void)path;
	if (off + (off_t)n > FILE_MAX)
		return -EFBIG;
	put = pwrite((int)fi->fh, buf, n, off);
	return put < 0 ? -errno : (int)put;
}

static int
f_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	char p[PATH_MAX];
	int rc = fi != NULL ? 0 : spelt(path, p), fd;

	if (size > FILE_MAX)
		return -EFBIG;
	if (rc != 0)
		return rc;
	fd = fi != NULL ? dup((int)fi->fh) : openat(top, p, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, size) == 0 ? 0 : -errno;
	(void)close(fd);
	return rc;
}

static int
f_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	(void)close((int)fi->fh);
	return 0;
}

static int
f_fsync(const char *path, int data, struct fuse_file_info *fi)
{
	(void)path;
	(void)data;
	return fsync((int)fi->fh) == 0 ? 0 : -errno;
}

static int
f_mkdir(const char *path, mode_t mode)
{
	char p[PATH_MAX];
	const int rc = spelt(path, p);

	(void)mode;
	return rc != 0 ? rc : mkdirat(top, p, 0755) == 0 ? 0 : -errno;
}

static int
f_unlink(const char *path)
{
	char p[PATH_MAX];
	const int rc = spelt(path, p);

	return rc != 0 ? rc : unlinkat(top, p, 0) == 0 ? 0 : -errno;
}

static int
f_rmdir(const char *path)
{
	char p[PATH_MAX];
	const int rc = spelt(path, p);

	return rc != 0 ? rc : unlinkat(top, p, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

static int
f_rename(const char *from, const char *to, unsigned flags)
{
	char a[PATH_MAX], b[PATH_MAX];
	int rc;

	if ((flags & ~(strict ? 0u : (unsigned)RENAME_NOREPLACE)) != 0)
		return -EINVAL;
	if ((rc = spelt(from, a)) != 0 || (rc = spelt(to, b)) != 0)
		return rc;
	return renameat2(top, a, top, b, flags) == 0 ? 0 : -errno;
}

static int
f_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)path;
	(void)mode;
	(void)fi;
	return strict ? -EPERM : 0;
}

static int
f_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)path;
	(void)fi;
	return (uid != 0 && uid != (uid_t)-1) || (gid != 0 && gid != (gid_t)-1) ? -EPERM : 0;
}

static int
f_utimens(const char *path, const struct timespec t[2], struct fuse_file_info *fi)
{
	char p[PATH_MAX];
	const int rc = spelt(path, p);

	(void)fi;
	return rc != 0 ? rc : strict && t[1].tv_nsec != UTIME_NOW ? -EPERM : utimensat(top, p, t, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

static int
f_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	return fstatvfs(top, st) == 0 ? 0 : -errno;
}

int
main(int argc, char **argv)
{
	static const struct fuse_operations ops = { .getattr = f_getattr, .readdir = f_readdir, .open = f_open, .create = f_create,
		.read = f_read, .write = f_write, .truncate = f_truncate, .release = f_release, .fsync = f_fsync,
		.mkdir = f_mkdir, .unlink = f_unlink, .rmdir = f_rmdir, .rename = f_rename, .chmod = f_chmod, .chown = f_chown,
		.utimens = f_utimens, .statfs = f_statfs };
	char *args[] = { argv[0], (char[]){ "-f" }, (char[]){ "-s" }, (char[]){ "-o" },
		(char[]){ "allow_other,default_permissions,fsname=fatlike,entry_timeout=0,attr_timeout=0" }, NULL, NULL };

	strict = argc > 1 && strcmp(argv[1], "--strict") == 0;
	if (argc != 3 + strict) {
		fputs("usage: fatlike [--strict] FOLDER MOUNTPOINT\n", stderr);
		return 64;
	}
	if ((top = open(argv[1 + strict], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		perror(argv[1 + strict]);
		return 1;
	}
	(void)umask(0);
	args[5] = argv[2 + strict];
	return fuse_main(6, args, &ops, NULL);
}
