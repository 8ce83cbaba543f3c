/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.h - what a web server may read. Files of a repository are as readable as the repository's own folder,
 * whatever umask the command that wrote them ran with: a timestamp.json that a cron job of root with umask 077
 * made unreadable would stop a fleet.
 */
#ifndef MFS_PUB_MODES_H
#define MFS_PUB_MODES_H

#include <stdbool.h>

/* May whoever may read `folder` (a descriptor) read the file or enter the folder fd? */
bool mfs_modes_reach(int fd, int folder);

/*
 * See to it; rights are added, never taken. What cannot be changed stays as it is: FAT has no modes, and the bytes
 * are right. Of one's own new files alone. at: of path below dirfd, not a link.
 */
void mfs_modes_like(int fd, int folder);
void mfs_modes_like_at(int dirfd, const char *path, int folder);

#endif
