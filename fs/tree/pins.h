/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pins.h - `active` stays on V for a process that is loading V (interface 1).
 *
 * Loading: it has opened some but not all payload files of V, and its last open or close there is
 * younger than the model's pin window; until at most 60 s after the swap. Looks alone never pin;
 * a version of one file never does; a process that cannot be identified neither. Bounded: what
 * does not fit is not pinned, and no user but root may take more than half of it. What is known
 * lies in memory shared with keeper: a loader that is between two files when serve dies stays on
 * its version. Threads any.
 */
#ifndef MFS_PINS_H
#define MFS_PINS_H

#include "mfs_config.h"
#include "process.h"
#include "shm.h"

#define MFS_PIN_SWAP_MS 60000

struct mfs_pins;

/*
 * shm       as a predecessor left it, or zero; outlives it. Of at most MFS_SHM_MODELS models
 * clock_ms  in milliseconds, the same for every serve; NULL: CLOCK_BOOTTIME
 * errors    NO_MEMORY
 */
enum mfs_code mfs_pins_new(const struct mfs_config *c, struct mfs_shm_pins *shm, int64_t (*clock_ms)(void),
	struct mfs_pins **out, struct mfs_err *err);
void mfs_pins_free(struct mfs_pins *p);

/*
 * A payload file was opened. pid, uid: of the request. Returns an owner for _closed, 0 when nobody is
 * pinned by it. Makes system calls, and only for a version of several files.
 */
uint64_t mfs_pins_opened(struct mfs_pins *p, size_t model, pid_t pid, uid_t uid,
	const struct mfs_sha256 *manifest, size_t n_files, size_t file);
void mfs_pins_closed(struct mfs_pins *p, uint64_t owner);

/* `manifest` was active until now. Call before the new view is seen. */
void mfs_pins_swapped(struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest);

/* Is a swap of this model young enough for a pin to matter? One atomic load. */
bool mfs_pins_young(struct mfs_pins *p, size_t model);

/* The version that this process is still loading, of those that were active before; system calls when young. */
bool mfs_pins_held(struct mfs_pins *p, size_t model, pid_t pid, struct mfs_sha256 *manifest);

/* Is any process still loading this version, which was active before? */
bool mfs_pins_loading(struct mfs_pins *p, size_t model, const struct mfs_sha256 *manifest);

/* Is any live process still loading what was active before? Makes system calls. */
bool mfs_pins_any(struct mfs_pins *p, size_t model);

/* End all loads of the model at once. */
void mfs_pins_end(struct mfs_pins *p, size_t model);

/* Wait until no live process is loading what was active before; at most 60 s after the last swap. */
void mfs_pins_wait(struct mfs_pins *p, size_t model);

#endif
