/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobio.h - stored bytes from disk into private memory, without leaving a second cached copy of
 * them behind (inside fs/: content.c, fill.c).
 */
#ifndef MFS_BLOBIO_H
#define MFS_BLOBIO_H

#include <sys/stat.h>

#include "store.h"

#define MFS_BLOB_ALIGN 4096u /* of memory, offset and length where O_DIRECT is used */

/*
 * How the page cache is kept out, best first; the first read finds what the filesystem takes.
 * Measured on ext4: DONTCACHE is as fast as a buffered read (the kernel reads ahead) and hits
 * pages that are cached already; O_DIRECT has neither.
 */
enum mfs_blob_mode { MFS_BLOB_DONTCACHE, MFS_BLOB_DIRECT, MFS_BLOB_PLAIN };

struct mfs_blob {
	int fd;
	dev_t dev;
	ino_t ino;
	uint64_t size;
	_Atomic int mode;      /* enum mfs_blob_mode */
	_Atomic uint64_t next; /* where the last read ended: sequential detection of PLAIN */
};

/*
 * size    as signed: a blob of another size is refused
 * errors  IO (absent: errno ENOENT), HASH_MISMATCH (another size)
 */
enum mfs_code mfs_blob_open(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size, struct mfs_blob **out,
	struct mfs_err *err);
void mfs_blob_close(struct mfs_blob *b);
MFS_DEFINE_CLEANUP(blob, struct mfs_blob, mfs_blob_close)

/*
 * Read len bytes at off (a multiple of MFS_BLOB_ALIGN) into dst. Threads any.
 *
 * bounce  aligned memory of at least len rounded up to MFS_BLOB_ALIGN, for O_DIRECT into a dst that
 *         is not aligned; may be dst; NULL: then such a read goes through the page cache
 * errors  IO, HASH_MISMATCH (the file ends early: somebody truncated it)
 */
enum mfs_code mfs_blob_read(struct mfs_blob *b, uint8_t *dst, size_t len, uint64_t off, uint8_t *bounce,
	struct mfs_err *err);

#endif
