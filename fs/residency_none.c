/* SPDX-License-Identifier: Apache-2.0 */
/* residency_none.c - weak: a build without the resident tier serves everything paged. */
#include "residency.h"

#define WEAK __attribute__((weak))

WEAK enum mfs_code
mfs_residency_start(struct mfs_serve *s, struct mfs_residency **out, struct mfs_err *err)
{
	(void)s, (void)err;
	*out = NULL;
	return MFS_OK;
}

WEAK void
mfs_residency_stop(struct mfs_residency *r)
{
	(void)r;
}

WEAK void
mfs_residency_kick(struct mfs_residency *r, size_t i)
{
	(void)r, (void)i;
}

WEAK void
mfs_residency_facts(struct mfs_residency *r, size_t i, struct mfs_residency_facts *out)
{
	(void)r, (void)i;
	*out = (struct mfs_residency_facts){ 0 };
}
