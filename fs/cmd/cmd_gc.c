/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_gc.c - `modelfs gc`: remove versions beyond `retain` and blobs that nobody names. */
#include <inttypes.h>
#include <stdio.h>

#include "cmd_common.h"

#define GC_IDLE_MS 600000 /* a store on a slow disk */

static int
gc_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint64_t freed = 0;
	size_t removed = 0;

	(void)c, (void)model;
	if (mfs_engine_gc(o->engine, NULL, NULL, &freed, &removed, &err) != MFS_OK)
		return mfs_cmd_fail("gc", &err);
	printf("%zu removed, %" PRIu64 " bytes freed\n", removed, freed);
	return removed == 0 ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
}

int
mfs_cmd_gc(int argc, char **argv)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_GC, .timeout_ms = -1 };
	struct mfs_args args;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 0, 0, &args, &code))
		return code;
	return mfs_cmd_change("gc", &args, &r, GC_IDLE_MS, NULL, gc_offline);
}
