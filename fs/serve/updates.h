/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updates.h - the update cycle of a running serve: its threads (fs/update), and what they need of the
 * rest of it: refresh, downloads, health checks, the tree, hooks.
 */
#ifndef MFS_UPDATES_H
#define MFS_UPDATES_H

#include "refresh.h"
#include "update.h"

struct mfs_serve;
struct mfs_updates;

/*
 * After the tree shows what the state says, before requests. _start begins the threads. A repository that
 * cannot be followed (no root, ...) is a line in its status; nothing else suffers.
 */
enum mfs_code mfs_updates_new(struct mfs_serve *s, struct mfs_updates **out, struct mfs_err *err);
enum mfs_code mfs_updates_start(struct mfs_updates *u, struct mfs_err *err);
void mfs_updates_stop(struct mfs_updates *u); /* NULL is fine; nothing is freed: status still looks at it */

struct mfs_update *mfs_updates_threads(struct mfs_updates *u); /* NULL for NULL, and within mfs_updates_new() */
struct mfs_download *mfs_updates_download(struct mfs_updates *u, size_t repo);
/* As mfs_wrap_fetch() for model i; via: the remote of a command, or NULL. */
enum mfs_code mfs_updates_wrap(struct mfs_updates *u, size_t i, const struct mfs_manifest *m, struct mfs_remote *via,
	const _Atomic int *cancel, int64_t *retry_after_s, struct mfs_err *err);
struct mfs_refresh *mfs_updates_refresh(struct mfs_updates *u);
const struct mfs_cycle_run *mfs_updates_run(struct mfs_updates *u);

/*
 * The engine changed what model i shows: the view is swapped, then, unless all loads are to end at once, it
 * waits until no process is still loading the old version; `generation` changes and on_change is asked for.
 * Never from a FUSE request.
 */
enum mfs_code mfs_updates_changed(struct mfs_serve *s, size_t i, bool at_once, enum mfs_code outcome, struct mfs_err *err);

/* A version was refused: on_reject is asked for. version may be NULL or "", release 0. */
void mfs_updates_rejected(struct mfs_serve *s, size_t i, const char *version, int64_t release, enum mfs_code why);

#endif
