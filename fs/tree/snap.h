/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap.h - snapshots of status files: rendered at open, kept in memory shared with keeper (beyond
 * MFS_SNAPS in memory of serve, bounded), so that a `cat` sees one moment and survives a crash.
 * A document is named by its kind and model. Threads any.
 */
#ifndef MFS_SNAP_H
#define MFS_SNAP_H

#include "handles.h"
#include "status.h"

struct mfs_snaps;

/* handles must outlive it; snapshots that no handle of shm names are freed. errors NO_MEMORY */
enum mfs_code mfs_snaps_new(struct mfs_serve *s, struct mfs_shm *shm, struct mfs_handles *h, size_t n_models,
	struct mfs_snaps **out, struct mfs_err *err);
void mfs_snaps_free(struct mfs_snaps *s);

/*
 * Render a document and open it under this OPEN's unique; a repeated OPEN gets the snapshot it had.
 * uid: who asks. When there is no memory for one more snapshot it is opened without: each read is
 * rendered then, so that nobody who holds many keeps others from reading.
 * Returns the fh, or 0 with *error (ENFILE, ENOMEM, EIO).
 */
uint64_t mfs_snap_open(struct mfs_snaps *s, uint64_t unique, uint64_t node, uint32_t uid, enum mfs_status_kind kind,
	size_t model, int *error);

/*
 * Copy from a snapshot; *got 0 at its end. fh must be an open handle of `node`. One that was lost
 * with an earlier serve's own memory is rendered again.
 * Returns 0 or a positive errno (EBADF).
 */
int mfs_snap_read(struct mfs_snaps *s, uint64_t fh, uint64_t node, enum mfs_status_kind kind, size_t model,
	void *buf, size_t len, uint64_t off, size_t *got);

/*
 * Release any handle, with the snapshot it may hold; false when it was free already. *out as it was.
 * status: whether its node is a status file known to this serve (kind and model then say which).
 */
bool mfs_snap_release(struct mfs_snaps *s, uint64_t fh, bool status, enum mfs_status_kind kind, size_t model,
	struct mfs_handle *out);

/* Size of the newest snapshot while one is open, else of a rendering at most 250 ms old; 0 on failure. */
uint64_t mfs_snap_size(struct mfs_snaps *s, enum mfs_status_kind kind, size_t model, int64_t *mtime_ns);

#endif
