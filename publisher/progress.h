/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - what a long command shows on stderr: one moving line on a terminal (share, rate,
 * time left), elsewhere a line per quarter of a long work.
 */
#ifndef MFS_PUB_PROGRESS_H
#define MFS_PUB_PROGRESS_H

#include <stdint.h>

struct mfs_progress;

/*
 * verb    "packing"; borrowed
 * total   bytes of work
 * out     NULL when there is nothing to show (quiet, little work and no terminal) or memory is
 *         short: every function takes NULL
 */
struct mfs_progress *mfs_progress_new(const char *verb, uint64_t total, int quiet);

/* Any thread. done: bytes of work since the last call. Draws at most five times a second. */
void mfs_progress_add(struct mfs_progress *p, uint64_t done);

/* Erase the line and free. */
void mfs_progress_end(struct mfs_progress *p);

/* "1.5 GiB": out holds 32 bytes. Returns out. */
const char *mfs_size_text(char out[32], uint64_t bytes);
#define MFS_SIZE(n) mfs_size_text((char[32]){ 0 }, (n))

#endif
