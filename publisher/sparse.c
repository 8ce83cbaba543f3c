/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

bool
mfs_sparse_begin(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size && fdatasync(fd) == 0;
}

int
mfs_sparse_pread(int fd, bool sparse, void *buf, size_t n, uint64_t off)
{
	if (sparse) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA);
		struct stat st;

		/* ENXIO: only a hole follows, or the file has become shorter. Other errors: cannot tell. */
		if (data < 0 && errno == ENXIO && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= off + n)
			data = st.st_size;
		if (data >= 0 && (uint64_t)data >= off + n) {
			memset(buf, 0, n);
			return 0;
		}
	}
	return mfs_pread_full(fd, buf, n, (off_t)off);
}
