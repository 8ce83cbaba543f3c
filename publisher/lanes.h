/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lanes.h - batches of one file on several threads, with stages that run in order.
 *
 * A worker takes the next batch, works on it alone, and enters each ordered stage (a running
 * hash) when every earlier batch has left it. So memory is the workers' buffers alone, all cores
 * hash and encrypt, and the order needs no queue.
 */
#ifndef MFS_PUB_LANES_H
#define MFS_PUB_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

#define MFS_LANES_MAX  8         /* workers: beyond it the ordered SHA-256 is the limit */
#define MFS_LANE_BATCH (1u << 20) /* bytes a worker holds at a time: the largest chunk, twice (plain, stored) */

enum mfs_lane_stage { MFS_STAGE_PLAIN, MFS_STAGE_STORED, MFS_STAGES };

struct mfs_lanes;

/*
 * Work on one batch. worker is 0 ... MFS_LANES_MAX - 1 and names this thread's buffers. Before it
 * returns MFS_OK it must have passed every stage that it uses with mfs_lane_turn()/mfs_lane_pass().
 */
typedef enum mfs_code (*mfs_lane_fn)(void *arg, struct mfs_lanes *l, unsigned worker, uint64_t batch,
	struct mfs_err *err);

/* Workers worth starting on this machine for n batches: 1 ... MFS_LANES_MAX. */
unsigned mfs_lanes_workers(uint64_t batches);

/*
 * Run fn for batches 0 ... n-1. With one worker it runs on the caller's thread.
 *
 * errors  that of the earliest batch that failed; others are told to stop and awaited
 */
enum mfs_code mfs_lanes_run(unsigned workers, uint64_t batches, mfs_lane_fn fn, void *arg, struct mfs_err *err);

/* Wait until every earlier batch has passed the stage. false: another batch failed, return MFS_OK. */
bool mfs_lane_turn(struct mfs_lanes *l, enum mfs_lane_stage stage, uint64_t batch);
void mfs_lane_pass(struct mfs_lanes *l, enum mfs_lane_stage stage);

/*
 * Ask every run to stop (async-signal-safe, for a SIGINT handler): runs end with IO and errno
 * EINTR. mfs_interrupted() tells.
 */
void mfs_interrupt(int signal_number);
int mfs_interrupted(void);

#endif
