/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inventory.h - an inventory of devices: JSON lines as 'modelfs device --json' prints them, read in
 * blocks by several threads. Millions of devices take no more memory than the blocks in work.
 *
 * Fields of a line: id; class, region, channel, platform (text or absent); labels, apps, runtimes
 * {name: text}; channels {model: channel}, where it is not `channel`; memory, page_size (bytes); models
 * [model ids], absent: every model. Others are ignored.
 */
#ifndef MFS_PUB_INVENTORY_H
#define MFS_PUB_INVENTORY_H

#include "mfs_policy.h"

#define MFS_INVENTORY_BLOCK   (1u << 20) /* bytes read at once; no line is longer */
#define MFS_INVENTORY_ENTRIES 256u       /* labels, apps, runtimes or models of a device */
#define MFS_INVENTORY_ID_MAX  255u       /* bytes of a device's id */

struct mfs_inventory;

/* path "-": standard input. errors IO */
enum mfs_code mfs_inventory_open(const char *path, struct mfs_inventory **out, struct mfs_err *err);
void mfs_inventory_free(struct mfs_inventory *v);
MFS_DEFINE_CLEANUP(inventory, struct mfs_inventory, mfs_inventory_free)

struct mfs_inventory_block { /* whole lines; zero to begin with, its memory is used again */
	char *text; size_t len;
	uint64_t number; /* of the block, from 0 */
	uint64_t line;   /* number of its first line, from 1 */
};

/*
 * The next block; len 0 at the end. Any number of threads, each with a block of its own.
 * errors  IO, LIMIT_EXCEEDED (a line longer than a block), NO_MEMORY
 */
enum mfs_code mfs_inventory_next(struct mfs_inventory *v, struct mfs_inventory_block *b, struct mfs_err *err);

struct mfs_inventory_device { /* all text is borrowed from the line */
	struct mfs_policy_device facts;
	struct mfs_device compat; /* what is not said is zero */
	bool some_models;         /* only models[0 ... n_models - 1], else every model */
	const char *models[MFS_INVENTORY_ENTRIES]; size_t n_models;
	struct mfs_range labels[MFS_INVENTORY_ENTRIES], apps[MFS_INVENTORY_ENTRIES], runtimes[MFS_INVENTORY_ENTRIES];
	struct mfs_range channels[MFS_INVENTORY_ENTRIES]; size_t n_channels; /* model, its own channel in min */
};

/*
 * One line, without its newline; it is read in place and changed by that. Unknown fields are skipped,
 * but the line is JSON all the same. Absent and null are the same.
 * errors  MALFORMED (names the field or the byte), LIMIT_EXCEEDED (more entries than MFS_INVENTORY_ENTRIES)
 */
enum mfs_code mfs_inventory_device(char *line, size_t len, struct mfs_inventory_device *out, struct mfs_err *err);

#endif
