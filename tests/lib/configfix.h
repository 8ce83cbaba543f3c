/* SPDX-License-Identifier: Apache-2.0 */
/* configfix.h - a folder to be in, for configurations with files beside them. */
#ifndef CONFIGFIX_H
#define CONFIGFIX_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "scratch.h"

static inline void
write_text(const char *path, const char *text, mode_t mode)
{
	scratch_write(AT_FDCWD, path, text, strlen(text));
	cr_assert_eq(chmod(path, mode), 0);
}

static inline void
enter_folder(char dir[256])
{
	(void)close(scratch_make(dir, "config"));
	cr_assert_eq(chdir(dir), 0);
}

static inline void
leave_folder(const char *dir)
{
	cr_assert_eq(chdir("/"), 0);
	scratch_remove(dir);
}

#endif
