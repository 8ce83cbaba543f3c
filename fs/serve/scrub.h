/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub.h - stored bytes of what is shown are looked at before anybody needs them (design 6), by one thread that
 * gives way to everything else: soon after serve has started, at once where something is known to be wrong, and
 * every week. What does not verify, or is gone from the store, is fetched again by the repository of its
 * model, beside and without the update cycle: an active version that serve could not show for its missing
 * blobs is shown again without a poll, and one that it cannot open is asked for a wrap of its key. Without a repository an event says what is wrong. Never another version.
 */
#ifndef MFS_SCRUB_H
#define MFS_SCRUB_H

#include <stddef.h>

#include "error.h"

struct mfs_serve;
struct mfs_scrub;

enum mfs_code mfs_scrub_new(struct mfs_serve *s, struct mfs_scrub **out, struct mfs_err *err);
/* The thread; after updates and repairs. errors NO_MEMORY */
enum mfs_code mfs_scrub_start(struct mfs_scrub *c, struct mfs_err *err);
/* Before repairs end. NULL is fine. Nothing is freed. */
void mfs_scrub_stop(struct mfs_scrub *c);

/* Bytes of model i are known to be wrong: look now. Any thread, never waits, as the next. */
void mfs_scrub_kick(struct mfs_scrub *c, size_t i);
/* Some of what is kept of model i may be gone from the store, and was wanted: look whether it is all there. */
void mfs_scrub_missing(struct mfs_scrub *c, size_t i);
/* Somebody asks for model i (n_models: for all): what could not be repaired before is tried now. */
void mfs_scrub_hurry(struct mfs_scrub *c, size_t i);

#endif
