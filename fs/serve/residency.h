/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.h - the resident tier: which versions, when, and the background fill (design 6).
 */
#ifndef MFS_RESIDENCY_H
#define MFS_RESIDENCY_H

#include "version.h"

struct mfs_serve;
struct mfs_residency;

enum mfs_code mfs_residency_start(struct mfs_serve *s, struct mfs_residency **out, struct mfs_err *err);
void mfs_residency_stop(struct mfs_residency *r);

/* The active version of model i changed or may have: reconsider. Returns at once. */
void mfs_residency_kick(struct mfs_residency *r, size_t i);

struct mfs_residency_facts {
	bool filling;
	uint64_t done, total;      /* bytes of the fill */
	enum mfs_code code;        /* why a model that wants the resident tier is paged; OK otherwise */
	char why[160];
};
/* Threads any, never waits. */
void mfs_residency_facts(struct mfs_residency *r, size_t i, struct mfs_residency_facts *out);

#endif
