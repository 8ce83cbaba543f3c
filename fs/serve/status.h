/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - everything people and programs read: status, status.json, events, generation,
 * metrics.prom, version, config. One place renders them for the mounted files and for commands.
 */
#ifndef MFS_STATUS_H
#define MFS_STATUS_H

#include "engine.h"

struct mfs_serve;

enum mfs_status_kind {
	MFS_STATUS_MODEL_TEXT, MFS_STATUS_MODEL_JSON, MFS_STATUS_MODEL_EVENTS, MFS_STATUS_MODEL_GENERATION,
	MFS_STATUS_ALL_TEXT, MFS_STATUS_ALL_JSON, MFS_STATUS_METRICS, MFS_STATUS_VERSION, MFS_STATUS_CONFIG,
};

/*
 * Render one document as of now; at most MFS_SNAP_BYTES.
 *
 * s        the running serve; model: index, ignored by the ALL and global kinds
 * out      malloc'd, NUL after *len bytes
 * threads  any; never waits for disk, network or a lock held across one: called from FUSE requests
 */
enum mfs_code mfs_status_render(struct mfs_serve *s, enum mfs_status_kind kind, size_t model, char **out, size_t *len,
	struct mfs_err *err);

/*
 * The same for an unmounted system, from the trusted state (commands; kinds *_TEXT and *_JSON).
 *
 * e    with all that a mount would withhold withheld (mfs_refresh_new()); NULL: nothing was ever installed
 * now  seconds since the epoch that expiry goes by (mfs_refresh_now())
 */
enum mfs_code mfs_status_render_offline(const struct mfs_config *c, struct mfs_engine *e, int64_t now,
	enum mfs_status_kind kind, size_t model, char **out, size_t *len, struct mfs_err *err);

#endif
