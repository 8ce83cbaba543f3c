/* SPDX-License-Identifier: Apache-2.0 */
#include "modes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "cleanup.h"

/* The rights that st lacks of those that folder gives; write is its owner's own affair. */
static mode_t
lacks(const struct stat *st, int folder)
{
	struct stat up;

	if (fstat(folder, &up) != 0)
		return 0;
	return up.st_mode & (S_ISDIR(st->st_mode) ? 0555 : 0444) & ~st->st_mode;
}

bool
mfs_modes_reach(int fd, int folder)
{
	struct stat st;

	return fstat(fd, &st) == 0 && lacks(&st, folder) == 0;
}

void
mfs_modes_like(int fd, int folder)
{
	struct stat st;
	mode_t more;

	if (fstat(fd, &st) == 0 && (more = lacks(&st, folder)) != 0)
		(void)fchmod(fd, (st.st_mode & 07777) | more);
}

void
mfs_modes_like_at(int dirfd, const char *path, int folder)
{
	mfs_autoclose int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0)
		mfs_modes_like(fd, folder);
}
