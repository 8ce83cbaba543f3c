/* SPDX-License-Identifier: Apache-2.0 */
/* The time floor of the cycle document: one for each repository, and the latest of them. modelfs-state(5), REFRESH. */
#include <string.h>

#include "trusted.h"

int64_t
mfs_cycle_floor_at(struct mfs_cycle_floor f, int64_t boot_s)
{
	if (f.time <= 0)
		return 0;
	/* After another boot at least its own time has passed since the floor was written. */
	return f.time + (boot_s >= f.boot ? boot_s - f.boot : boot_s);
}

struct mfs_cycle_floor
mfs_cycle_floor_rest(const struct mfs_cycle *c)
{
	for (size_t i = 0; i < c->n_repos; i++)
		if (c->repos[i].floor.time == c->floor.time && c->repos[i].floor.boot == c->floor.boot)
			return (struct mfs_cycle_floor){ 0 };
	return c->floor;
}

bool
mfs_cycle_floor_set(struct mfs_cycle *c, const char *repo, int64_t time, int64_t boot_s, bool anew)
{
	const struct mfs_cycle_floor f = { time, time > 0 ? boot_s : 0 };
	struct mfs_cycle_floor latest = { 0 };
	struct mfs_cycle_repo *r = mfs_cycle_repo(c, repo);
	const struct mfs_cycle_floor before = c->floor;
	bool changed;

	if (r == NULL)
		return false;
	if (!anew)
		latest = mfs_cycle_floor_rest(c);
	changed = r->floor.time != f.time || r->floor.boot != f.boot;
	r->floor = f;
	for (size_t i = 0; i < c->n_repos; i++)
		if (mfs_cycle_floor_at(c->repos[i].floor, boot_s) > mfs_cycle_floor_at(latest, boot_s))
			latest = c->repos[i].floor;
	c->floor = latest;
	return changed || before.time != latest.time || before.boot != latest.boot;
}
