/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h - scope-exit cleanup and ownership transfer (gcc and clang).
 *
 *	mfs_autofree char *p = strdup(s);
 *	mfs_autoclose int fd = open(...);
 *	return mfs_steal(&p);
 */
#ifndef MFS_CLEANUP_H
#define MFS_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void
mfs_cleanup_free(void *pp)
{
	void **p = pp;
	int saved = errno;

	free(*p);
	*p = NULL;
	errno = saved;
}

static inline void
mfs_cleanup_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

static inline void
mfs_cleanup_fclose(FILE **f)
{
	int saved = errno;

	if (*f != NULL)
		(void)fclose(*f);
	*f = NULL;
	errno = saved;
}

static inline void
mfs_cleanup_closedir(DIR **d)
{
	int saved = errno;

	if (*d != NULL)
		(void)closedir(*d);
	*d = NULL;
	errno = saved;
}

#define MFS_CLEANUP(fn) __attribute__((cleanup(fn)))
#define mfs_autofree    MFS_CLEANUP(mfs_cleanup_free)
#define mfs_autoclose   MFS_CLEANUP(mfs_cleanup_close)
#define mfs_autofclose  MFS_CLEANUP(mfs_cleanup_fclose)
#define mfs_autodir     MFS_CLEANUP(mfs_cleanup_closedir)

/* Define mfs_cleanup_NAME(TYPE **) that calls fn(*p); use as MFS_CLEANUP(mfs_cleanup_NAME). */
#define MFS_DEFINE_CLEANUP(name, type, fn)                                                   \
	__attribute__((unused)) static inline void mfs_cleanup_##name(type **p)             \
	{                                                                                    \
		int saved_errno = errno;                                                     \
		if (*p != NULL)                                                              \
			fn(*p);                                                              \
		*p = NULL;                                                                   \
		errno = saved_errno;                                                         \
	}

/* Move a pointer out of a scope that would free it. */
#define mfs_steal(pp)                                                                        \
	__extension__({                                                                      \
		__typeof__(*(pp)) stolen_ = *(pp);                                           \
		*(pp) = NULL;                                                                \
		stolen_;                                                                     \
	})

static inline int
mfs_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
