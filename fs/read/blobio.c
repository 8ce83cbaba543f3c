/* SPDX-License-Identifier: Apache-2.0 */
#include "blobio.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/uio.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80 /* Linux 6.14 */
#endif

#define AHEAD (2u << 20) /* bytes asked for in advance when PLAIN reads run in sequence */

static size_t
round_up(size_t n)
{
	return (n + MFS_BLOB_ALIGN - 1) & ~(size_t)(MFS_BLOB_ALIGN - 1);
}

enum mfs_code
mfs_blob_open(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size, struct mfs_blob **out,
	struct mfs_err *err)
{
	mfs_autoclose int fd = mfs_store_blob_open(s, hash, 0);
	mfs_autofree struct mfs_blob *b = NULL;
	struct stat st;

	*out = NULL;
	if (fd < 0 || fstat(fd, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "store: blob %s", MFS_HEX(hash));
	if ((uint64_t)st.st_size != size)
		return mfs_fail(err, MFS_HASH_MISMATCH, "store: blob %s: %lld bytes, signed are %llu", MFS_HEX(hash),
			(long long)st.st_size, (unsigned long long)size);
	if ((b = calloc(1, sizeof(*b))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "store: no memory");
	b->dev = st.st_dev;
	b->ino = st.st_ino;
	b->size = size;
	b->fd = mfs_steal_fd(&fd);
	*out = mfs_steal(&b);
	return MFS_OK;
}

void
mfs_blob_close(struct mfs_blob *b)
{
	if (b == NULL)
		return;
	(void)close(b->fd);
	free(b);
}

/*
 * The filesystem does not take this mode: the next one, for every later read of this blob. Other
 * threads read meanwhile: PLAIN may be seen only once O_DIRECT is off, and without O_DIRECT every
 * mode reads right.
 */
static bool
next_mode(struct mfs_blob *b, int mode)
{
	int flags = fcntl(b->fd, F_GETFL);

	if (mode == MFS_BLOB_DONTCACHE) {
		if (atomic_compare_exchange_strong(&b->mode, &mode, MFS_BLOB_DIRECT) &&
			(flags < 0 || fcntl(b->fd, F_SETFL, flags | O_DIRECT) != 0))
			atomic_store(&b->mode, MFS_BLOB_PLAIN);
		return true;
	}
	if (mode != MFS_BLOB_DIRECT || flags < 0 || fcntl(b->fd, F_SETFL, flags & ~O_DIRECT) != 0)
		return false;
	(void)atomic_compare_exchange_strong(&b->mode, &mode, MFS_BLOB_PLAIN);
	return true;
}

static bool
refused(int mode, int error)
{
	return mode == MFS_BLOB_DONTCACHE ? error == EOPNOTSUPP || error == EINVAL || error == ENOSYS :
		mode == MFS_BLOB_DIRECT && error == EINVAL;
}

/* One system call in the given mode. n may reach beyond the file's end in DIRECT mode. */
static ssize_t
read_some(const struct mfs_blob *b, int mode, uint8_t *dst, size_t n, uint64_t off)
{
	struct iovec v = { dst, n };

	if (mode == MFS_BLOB_DONTCACHE)
		return preadv2(b->fd, &v, 1, (off_t)off, RWF_DONTCACHE);
	return pread(b->fd, dst, n, (off_t)off);
}

static void
advise(struct mfs_blob *b, size_t len, uint64_t off)
{
	uint64_t end = off + len;

	(void)posix_fadvise(b->fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
	/* Readers' requests arrive a little out of order: near the last end counts as sequence. */
	if (atomic_exchange(&b->next, end) + AHEAD >= off && end < b->size)
		(void)posix_fadvise(b->fd, (off_t)end, AHEAD, POSIX_FADV_WILLNEED);
}

enum mfs_code
mfs_blob_read(struct mfs_blob *b, uint8_t *dst, size_t len, uint64_t off, uint8_t *bounce, struct mfs_err *err)
{
	size_t got = 0;

	while (got < len) {
		int mode = atomic_load(&b->mode);
		/* DIRECT counts in whole blocks; the kernel stops at the file's end. */
		bool direct = mode == MFS_BLOB_DIRECT;
		bool bounced = direct && ((uintptr_t)dst % MFS_BLOB_ALIGN != 0 || len % MFS_BLOB_ALIGN != 0);
		size_t start = direct ? got & ~(size_t)(MFS_BLOB_ALIGN - 1) : got;
		uint8_t *to = (bounced ? bounce : dst) + start;
		ssize_t r;

		if (bounced && bounce == NULL) {
			if (!next_mode(b, mode))
				return mfs_fail_sys(err, MFS_IO, "store: O_DIRECT");
			continue;
		}
		r = read_some(b, mode, to, direct ? round_up(len) - start : len - start, off + start);

		if (r < 0 && (errno == EINTR || (refused(mode, errno) && next_mode(b, mode))))
			continue;
		if (r < 0)
			return mfs_fail_sys(err, MFS_IO, "store: read at offset %llu", (unsigned long long)(off + start));
		if (start + (size_t)r <= got)
			return mfs_fail(err, MFS_HASH_MISMATCH, "store: the blob ends at offset %llu, signed are %llu bytes",
				(unsigned long long)(off + got), (unsigned long long)b->size);
		if ((size_t)r > len - start)
			r = (ssize_t)(len - start);
		if (bounced && bounce != dst) /* the same when a caller reads into its bounce buffer */
			memcpy(dst + start, bounce + start, (size_t)r);
		got = start + (size_t)r;
	}
	if (atomic_load(&b->mode) == MFS_BLOB_PLAIN)
		advise(b, len, off);
	return MFS_OK;
}
