/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding a blob: a temporary in staging/, hashed as it is written, renamed into place only when
 * the hash is right and the bytes are on disk.
 */
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "store_io.h"

#define HOLE_BLOCK  4096u        /* bytes; blocks of zeros are not written */
#define FLUSH_EVERY (16u << 20)  /* bytes; writeback starts early, so that the last fsync is short */

struct mfs_put {
	struct mfs_store *store; /* borrowed */
	struct mfs_sha256 want;
	struct mfs_hash *hash;
	uint64_t size, at, flushed;
	int fd;
	char tmp[64]; /* "staging/<random>"; empty: nothing to remove */
};

enum mfs_code
mfs_put_begin(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size, struct mfs_put **out,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_put) struct mfs_put *p = calloc(1, sizeof(*p));
	uint8_t random[16];
	char hex[2 * sizeof(random) + 1];
	enum mfs_code code;

	*out = NULL;
	if (p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "store: blob");
	*p = (struct mfs_put){ .store = s, .want = *hash, .size = size, .fd = -1 };
	if ((code = mfs_hash_new(&p->hash, err)) != MFS_OK)
		return code;
	if (RAND_bytes(random, (int)sizeof(random)) != 1)
		return mfs_fail(err, MFS_INTERNAL, "store: no random bytes");
	mfs_hex_encode(hex, random, sizeof(random));
	if ((code = mfs_store_folder(s->dirfd, "staging", err)) != MFS_OK)
		return mfs_err_context(err, "store/");
	(void)snprintf(p->tmp, sizeof(p->tmp), "staging/%s", hex);
	p->fd = mfs_open_beneath(s->dirfd, p->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0640);
	if (p->fd < 0) {
		code = mfs_fail_sys(err, MFS_IO, "store/%s: create", p->tmp);
		p->tmp[0] = '\0';
		return code;
	}
	*out = mfs_steal(&p);
	return MFS_OK;
}

static bool
all_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Bytes of the next run of equal kind (zero blocks or not), split at block borders of the file. */
static size_t
run_length(const uint8_t *p, size_t n, uint64_t at, bool *zero)
{
	size_t len = 0;

	*zero = false;
	while (len < n) {
		size_t step = HOLE_BLOCK - (size_t)((at + len) % HOLE_BLOCK);
		bool z;

		if (step > n - len)
			step = n - len;
		z = all_zero(p + len, step); /* a new file reads as zeros where nothing was written */
		if (len > 0 && z != *zero)
			break;
		*zero = z;
		len += step;
	}
	return len;
}

int
mfs_blob_write(int fd, const void *buf, size_t n, uint64_t off, bool fresh)
{
	const uint8_t *b = buf;

	while (n > 0) {
		bool zero = false;
		size_t len = fresh ? run_length(b, n, off, &zero) : n;

		if (!zero && mfs_pwrite_full(fd, b, len, (off_t)off) != 0)
			return -1;
		off += len;
		b += len;
		n -= len;
	}
	return 0;
}

enum mfs_code
mfs_put_write(struct mfs_put *p, const void *buf, size_t n, struct mfs_err *err)
{
	enum mfs_code code;

	if (n > p->size - p->at)
		return mfs_fail(err, MFS_HASH_MISMATCH, "blob %s: longer than its %llu bytes", MFS_HEX(&p->want),
			(unsigned long long)p->size);
	if (n == 0)
		return MFS_OK;
	if ((code = mfs_hash_update(p->hash, buf, n, err)) != MFS_OK)
		return code;
	if (mfs_blob_write(p->fd, buf, n, p->at, true) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: blob %s at offset %llu", MFS_HEX(&p->want),
			(unsigned long long)p->at);
	p->at += n;
	if (p->at - p->flushed >= FLUSH_EVERY) {
		(void)sync_file_range(p->fd, (off_t)p->flushed, (off_t)(p->at - p->flushed), SYNC_FILE_RANGE_WRITE);
		p->flushed = p->at;
	}
	return MFS_OK;
}

enum mfs_code
mfs_stage_place(struct mfs_store *s, int from_dir, const char *from, const struct mfs_sha256 *hash, bool sync,
	struct mfs_err *err)
{
	char path[MFS_BLOB_PATH], folder[MFS_BLOB_PATH];
	const char *name;
	mfs_autoclose int dir = -1;
	enum mfs_code code;

	mfs_blob_path(path, hash);
	(void)snprintf(folder, sizeof(folder), "%.15s", path);
	name = path + strlen(folder) + 1;
	if ((code = mfs_store_folder(s->dirfd, folder, err)) != MFS_OK)
		return mfs_err_context(err, "store/");
	if ((dir = mfs_open_beneath(s->dirfd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "store/%s", folder);
	/* A rename replaces a file or link in the blob's place, but no folder. */
	if (renameat(from_dir, from, dir, name) != 0 &&
		(errno != EISDIR || mfs_remove_all(dir, name) != 0 || renameat(from_dir, from, dir, name) != 0))
		return mfs_fail_sys(err, MFS_IO, "store/%s: rename", path);
	return sync ? mfs_dir_sync(dir, NULL, err) : MFS_OK;
}

enum mfs_code
mfs_put_commit(struct mfs_put *p, struct mfs_err *err)
{
	struct mfs_sha256 got;
	enum mfs_code code;

	if (p->tmp[0] == '\0')
		return mfs_fail(err, MFS_INTERNAL, "store: blob committed twice");
	if (p->at != p->size)
		return mfs_fail(err, MFS_HASH_MISMATCH, "blob %s: ends at %llu of %llu bytes", MFS_HEX(&p->want),
			(unsigned long long)p->at, (unsigned long long)p->size);
	if ((code = mfs_hash_final(p->hash, &got, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&got, &p->want))
		return mfs_fail(err, MFS_HASH_MISMATCH, "blob %s: the bytes hash to %s", MFS_HEX(&p->want),
			MFS_HEX(&got));
	/* The length of a file that ends in a hole; permissions despite any umask. */
	if (ftruncate(p->fd, (off_t)p->size) != 0 || fchmod(p->fd, 0640) != 0 || fsync(p->fd) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: blob %s", MFS_HEX(&p->want));
	/* What was copied is not what is read next: leave the page cache to the models in use. */
	(void)posix_fadvise(p->fd, 0, 0, POSIX_FADV_DONTNEED);
	code = mfs_stage_place(p->store, p->store->dirfd, p->tmp, &p->want, true, err);
	/* Also when only the sync of the folder failed: then the name is taken already. */
	if (code == MFS_OK || faccessat(p->store->dirfd, p->tmp, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		p->tmp[0] = '\0';
	return code;
}

void
mfs_put_free(struct mfs_put *p)
{
	if (p == NULL)
		return;
	if (p->fd >= 0)
		(void)close(p->fd);
	if (p->tmp[0] != '\0')
		(void)unlinkat(p->store->dirfd, p->tmp, 0);
	mfs_hash_free(p->hash);
	free(p);
}
