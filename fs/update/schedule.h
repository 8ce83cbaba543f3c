/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h - when: backoff, jitter, windows, deadlines. Pure: the clock, a random number and the
 * configuration in, a time out. Times are seconds since the epoch, durations seconds. Threads any.
 */
#ifndef MFS_SCHEDULE_H
#define MFS_SCHEDULE_H

#include "trusted.h"
#include "wire.h"

struct mfs_config;

#define MFS_BACKOFF_BASE_S 30
#define MFS_WAIT_S         60 /* how often a condition that is not met is looked at */
#define MFS_STARTS_MAX     5u /* starts of one step that did not end: serve dies in it */

/*
 * The pause after `failures` failures in a row: full jitter, 1 to min(longest, base * 2^(failures-1)).
 * A Retry-After of the server is the least, itself capped at `longest`.
 */
int64_t mfs_backoff(unsigned failures, int64_t longest, int64_t retry_after_s, uint32_t random);

/* The next check after one that succeeded: the interval, a tenth more or less. At least 1 s. */
int64_t mfs_next_check(int64_t interval, uint32_t random);

/* A stored time may come from a clock that was ahead: never further than `longest` from now. 0 stays. */
int64_t mfs_time_clamp(int64_t t, int64_t now, int64_t longest);

/* How long a step may take, whatever happens. */
int64_t mfs_step_limit(enum mfs_step s, const struct mfs_config *c, size_t model);

/* Is this minute of the local day (0 to 1439) in the window? Always, without one. */
bool mfs_window_open(const struct mfs_config *c, unsigned minute);

struct mfs_cycle_facts { /* of the host; from fetch, keeper and the clock */
	bool known;       /* wire is filled */
	struct mfs_wire_facts wire;
	bool hold;        /* the hold file exists */
	unsigned minute;  /* of the local day */
	uint64_t budget_left; /* UINT64_MAX: no budget */
};

/*
 * Do all conditions of the configuration hold for a step? Only what is configured is asked; a fact that is
 * asked for and not known is not met.
 *
 * errors  HELD (hold file), CONDITION_UNMET, RATE_LIMITED (DOWNLOAD with no budget left); the message names
 *         the condition with what was wanted and found
 */
enum mfs_code mfs_conditions_check(const struct mfs_config *c, const struct mfs_cycle_facts *f, enum mfs_step step,
	struct mfs_err *err);
/* Is anything of it configured that needs facts of fetch? */
bool mfs_conditions_ask(const struct mfs_config *c);

#endif
