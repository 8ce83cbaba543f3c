/* SPDX-License-Identifier: Apache-2.0 */
#include "blobs.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "lanes.h"
#include "modes.h"

#define COPY_BYTES (1u << 20)
#define PART_NAME  8 /* "00000" and a NUL, with room for 10,000,000 parts */

uint64_t
mfs_blob_parts(uint64_t size)
{
	return size / MFS_BLOB_PART + (size % MFS_BLOB_PART != 0);
}

const char *
mfs_blob_path(char out[MFS_BLOB_PATH], const struct mfs_sha256 *hash)
{
	(void)snprintf(out, MFS_BLOB_PATH, "blobs/sha256/%02x/%s", hash->b[0], MFS_HEX(hash));
	return out;
}

static uint64_t
part_length(uint64_t size, uint64_t part)
{
	const uint64_t left = size - part * MFS_BLOB_PART;

	return left < MFS_BLOB_PART ? left : MFS_BLOB_PART;
}

static const char *
part_name(char out[PART_NAME + 16], uint64_t part)
{
	(void)snprintf(out, PART_NAME + 16, "%05llu", (unsigned long long)part);
	return out;
}

enum mfs_blob_state
mfs_blob_look(int dirfd, const struct mfs_sha256 *hash, uint64_t size)
{
	char path[MFS_BLOB_PATH], name[PART_NAME + 16];
	mfs_autoclose int fd = openat(dirfd, mfs_blob_path(path, hash), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? MFS_BLOB_ABSENT : MFS_BLOB_DAMAGED;
	for (uint64_t i = 0; i < mfs_blob_parts(size); i++)
		if (fstatat(fd, part_name(name, i), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
			(uint64_t)st.st_size != part_length(size, i))
			return MFS_BLOB_DAMAGED;
	return fstatat(fd, part_name(name, mfs_blob_parts(size)), &st, AT_SYMLINK_NOFOLLOW) == 0 ? MFS_BLOB_DAMAGED :
												 MFS_BLOB_THERE;
}

struct copy {
	uint8_t *buf;
	struct mfs_hash *hash;
	struct mfs_progress *progress;
};

static void
copy_clear(struct copy *c)
{
	free(c->buf);
	mfs_hash_free(c->hash);
}

static enum mfs_code
copy_begin(struct copy *c, struct mfs_err *err)
{
	if ((c->buf = malloc(COPY_BYTES)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "buffer");
	return mfs_hash_new(&c->hash, err);
}

/* Hash length bytes of src from `from` on, and write them to dst (-1: nowhere). */
static enum mfs_code
stream(struct copy *c, const char *what, int src, uint64_t from, uint64_t length, int dst, struct mfs_err *err)
{
	while (length > 0) {
		const size_t n = length < COPY_BYTES ? (size_t)length : COPY_BYTES;
		enum mfs_code code;

		if (mfs_interrupted() != 0)
			return mfs_fail(err, MFS_IO, "interrupted");
		if (mfs_pread_full(src, c->buf, n, (off_t)from) != 0)
			return mfs_fail_sys(err, MFS_IO, "%s: read at offset %llu", MFS_ESC(what),
				(unsigned long long)from);
		if ((code = mfs_hash_update(c->hash, c->buf, n, err)) != MFS_OK)
			return code;
		if (dst >= 0 && mfs_write_full(dst, c->buf, n) != 0)
			return mfs_fail_sys(err, MFS_IO, "%s: write", MFS_ESC(what));
		mfs_progress_add(c->progress, n);
		from += n;
		length -= n;
	}
	return MFS_OK;
}

static enum mfs_code
hash_check(struct copy *c, const char *what, const struct mfs_sha256 *want, struct mfs_err *err)
{
	struct mfs_sha256 got;
	enum mfs_code code = mfs_hash_final(c->hash, &got, err);

	if (code == MFS_OK && !mfs_sha256_equal(&got, want))
		code = mfs_fail(err, MFS_HASH_MISMATCH, "%s: SHA-256 is not the signed one; copy it again from its source",
			MFS_ESC(what));
	return code;
}

enum mfs_code
mfs_blob_verify(int dirfd, const struct mfs_sha256 *hash, uint64_t size, struct mfs_progress *progress,
	struct mfs_err *err)
{
	MFS_CLEANUP(copy_clear) struct copy c = { .progress = progress };
	char path[MFS_BLOB_PATH], name[PART_NAME + 16];
	mfs_autoclose int dir = -1;
	enum mfs_code code;

	(void)mfs_blob_path(path, hash);
	if (mfs_blob_look(dirfd, hash, size) != MFS_BLOB_THERE && size > 0)
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s: missing, or parts of a wrong size; publish its bundle again", path);
	if ((code = copy_begin(&c, err)) != MFS_OK)
		return code;
	if (size > 0 && (dir = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	for (uint64_t i = 0; i < mfs_blob_parts(size); i++) {
		mfs_autoclose int fd = openat(dir, part_name(name, i), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			return mfs_fail_sys(err, MFS_IO, "%s/%s", path, name);
		if ((code = stream(&c, path, fd, 0, part_length(size, i), -1, err)) != MFS_OK)
			return code;
	}
	return hash_check(&c, path, hash, err);
}

/* Where a blob's bytes come from: one file, or the parts of another blob. */
struct origin {
	int fd;     /* the file; -1 for parts */
	int parts;  /* the folder of parts; -1 for a file */
	const char *what;
	bool link;
};

/* One part, as a clone of the source where the filesystem can, else a copy. Hashed either way, from what will be served. */
static enum mfs_code
part_write(struct copy *c, int dir, const char *name, int src, const char *what, uint64_t from, uint64_t length,
	struct mfs_err *err)
{
	struct file_clone_range range = { .src_fd = src, .src_offset = from, .src_length = length };
	mfs_autoclose int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	enum mfs_code code;
	struct stat st;

	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s: create a part", MFS_ESC(what));
	mfs_modes_like(fd, dir);
	if (ioctl(fd, FICLONERANGE, &range) == 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == length)
		code = stream(c, what, fd, 0, length, -1, err);
	else if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
		code = mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(what));
	else
		code = stream(c, what, src, from, length, fd, err);
	if (code == MFS_OK && fsync(fd) != 0)
		code = mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(what));
	return code;
}

/* A part as a second name of a file. false: not possible here, or few may read that file; copy instead. */
static bool
part_link(int dir, const char *name, int src)
{
	char proc[40];

	if (!mfs_modes_reach(src, dir))
		return false;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", src);
	return linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW) == 0;
}

/* Part i from whatever the origin is. */
static enum mfs_code
part_make(struct copy *c, int dir, const struct origin *o, uint64_t i, uint64_t size, struct mfs_err *err)
{
	const bool whole = o->fd < 0 || mfs_blob_parts(size) == 1; /* one file, one part */
	const uint64_t length = part_length(size, i);
	char name[PART_NAME + 16];
	mfs_autoclose int part = -1;
	int src = o->fd;
	enum mfs_code code;

	(void)part_name(name, i);
	if (o->fd < 0 && (src = part = openat(o->parts, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(o->what), name);
	if (!o->link || !whole || !part_link(dir, name, src))
		return part_write(c, dir, name, src, o->what, o->fd < 0 ? 0 : i * MFS_BLOB_PART, length, err);
	if ((code = stream(c, o->what, src, 0, length, -1, err)) != MFS_OK)
		return code;
	return fsync(src) == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s: sync", MFS_ESC(o->what));
}

static enum mfs_code
parts_write(int dir, const struct origin *o, const struct mfs_sha256 *hash, uint64_t size, struct mfs_progress *progress,
	struct mfs_err *err)
{
	MFS_CLEANUP(copy_clear) struct copy c = { .progress = progress };
	enum mfs_code code;

	if ((code = copy_begin(&c, err)) != MFS_OK)
		return code;
	for (uint64_t i = 0; i < mfs_blob_parts(size); i++)
		if ((code = part_make(&c, dir, o, i, size, err)) != MFS_OK)
			return code;
	return hash_check(&c, o->what, hash, err);
}

/* A filesystem that does not know the flags of renameat2: network shares, sticks. */
static bool
flags_unknown(void)
{
	return errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP;
}

/* In the place of a damaged blob: exchanged, so that there is always one, or, where nothing can be, after it went aside. */
static enum mfs_code
blob_replace(int parent, const char *tmp, const char *name, struct mfs_err *err)
{
	char aside[96];

	if (renameat2(parent, tmp, parent, name, RENAME_EXCHANGE) == 0)
		return mfs_remove_all(parent, tmp) == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "blob %s: remove what it replaced", name);
	(void)snprintf(aside, sizeof(aside), ".%s.old.new", name); /* gc knows it as a leftover */
	if (!flags_unknown() || mfs_remove_all(parent, aside) != 0 || renameat(parent, name, parent, aside) != 0 ||
		renameat(parent, tmp, parent, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "blob %s: rename", name);
	return mfs_remove_all(parent, aside) == 0 ? MFS_OK : mfs_fail_sys(err, MFS_IO, "blob %s: remove what it replaced", name);
}

/* Give the finished folder its name. */
static enum mfs_code
blob_show(int parent, const char *tmp, const char *name, struct mfs_err *err)
{
	enum mfs_code code;

	if (renameat2(parent, tmp, parent, name, RENAME_NOREPLACE) != 0 &&
		/* Without the flag: a folder that holds something is not replaced either. */
		(!flags_unknown() || renameat(parent, tmp, parent, name) != 0)) {
		if (errno != EEXIST && errno != ENOTEMPTY)
			return mfs_fail_sys(err, MFS_IO, "blob %s: rename", name);
		if ((code = blob_replace(parent, tmp, name, err)) != MFS_OK)
			return code;
	}
	return mfs_dir_sync(parent, NULL, err);
}

/* blobs, blobs/sha256, blobs/sha256/ab: each durable before the next. */
static enum mfs_code
folders_make(int dirfd, const char *blob, struct mfs_err *err)
{
	char path[MFS_BLOB_PATH];

	for (size_t i = 1; blob[i] != '\0'; i++) {
		enum mfs_code code;
		char *up;

		if (blob[i] != '/')
			continue;
		(void)snprintf(path, sizeof(path), "%.*s", (int)i, blob);
		if (mkdirat(dirfd, path, 0777) != 0) {
			if (errno == EEXIST)
				continue;
			return mfs_fail_sys(err, MFS_IO, "%s: mkdir", path);
		}
		mfs_modes_like_at(dirfd, path, dirfd);
		if ((up = strrchr(path, '/')) != NULL)
			*up = '\0';
		if ((code = mfs_dir_sync(dirfd, up != NULL ? path : NULL, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* Bring a blob in from an origin, unless it is there. */
static enum mfs_code
blob_make(int dirfd, const struct origin *o, const struct mfs_sha256 *hash, uint64_t size, struct mfs_progress *progress,
	bool *added, struct mfs_err *err)
{
	mfs_autoclose int parent = -1, dir = -1;
	char path[MFS_BLOB_PATH], tmp[80];
	enum mfs_code code;

	(void)mfs_blob_path(path, hash);
	if ((code = folders_make(dirfd, path, err)) != MFS_OK)
		return code;
	path[strlen("blobs/sha256/ab")] = '\0';
	if ((parent = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	(void)snprintf(tmp, sizeof(tmp), ".%s.new", MFS_HEX(hash));
	if (mfs_remove_all(parent, tmp) != 0 || mkdirat(parent, tmp, 0777) != 0 ||
		(dir = openat(parent, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", path, tmp);
	mfs_modes_like(dir, dirfd);
	if ((code = parts_write(dir, o, hash, size, progress, err)) == MFS_OK && (code = mfs_dir_sync(dir, NULL, err)) == MFS_OK)
		code = blob_show(parent, tmp, MFS_HEX(hash), err);
	if (code != MFS_OK)
		(void)mfs_remove_all(parent, tmp);
	else
		*added = true;
	return code;
}

enum mfs_code
mfs_blob_add(int dirfd, int src, const char *what, const struct mfs_sha256 *hash, uint64_t size, bool link,
	struct mfs_progress *progress, bool *added, struct mfs_err *err)
{
	const struct origin o = { .fd = src, .parts = -1, .what = what, .link = link };
	bool ignored = false;

	added = added != NULL ? added : &ignored;
	*added = false;
	if (size == 0 || mfs_blob_look(dirfd, hash, size) == MFS_BLOB_THERE) {
		mfs_progress_add(progress, size);
		return MFS_OK;
	}
	return blob_make(dirfd, &o, hash, size, progress, added, err);
}

enum mfs_code
mfs_blob_copy(int from, int to, const struct mfs_sha256 *hash, uint64_t size, bool link, struct mfs_progress *progress,
	bool *added, struct mfs_err *err)
{
	char path[MFS_BLOB_PATH];
	mfs_autoclose int parts = -1;
	bool ignored = false;

	added = added != NULL ? added : &ignored;
	*added = false;
	if (size == 0 || mfs_blob_look(to, hash, size) == MFS_BLOB_THERE) {
		mfs_progress_add(progress, size);
		return MFS_OK;
	}
	(void)mfs_blob_path(path, hash);
	if (mfs_blob_look(from, hash, size) != MFS_BLOB_THERE)
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s: missing, or parts of a wrong size; publish its bundle again", path);
	if ((parts = openat(from, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	return blob_make(to, &(struct origin){ .fd = -1, .parts = parts, .what = path, .link = link }, hash, size, progress,
		added, err);
}
