/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the control socket (modelfs-control(5)): JSON lines with `format`.
 *
 * keeper makes the listening socket, serve accepts on it (it may not create sockets), commands
 * connect. Reading is for everyone who can connect; changes are for root and control_group
 * (SO_PEERCRED).
 */
#ifndef MFS_CONTROL_H
#define MFS_CONTROL_H

#include "mfs_verify.h"

struct mfs_serve;
struct mfs_control;

/*
 * serve's end: accepts on listen_fd (borrowed, non-blocking), a bounded number of connections, each
 * with a deadline. Threads of its own, so after the sandbox.
 *
 * errors  NO_MEMORY, IO
 */
enum mfs_code mfs_control_start(struct mfs_serve *s, int listen_fd, struct mfs_control **out, struct mfs_err *err);
/* Stops accepting, ends what runs (a verify is cancelled) and joins. NULL is fine. */
void mfs_control_stop(struct mfs_control *c);

/*
 * Bytes that blobs take in the store, as counted at start and after the last change: the count
 * reads folders, so status documents take it from here. False until it was counted. Threads any.
 */
bool mfs_control_store_bytes(struct mfs_control *c, uint64_t *bytes);
/* Count them again: an update brought or collected some. Reads folders. */
void mfs_control_recount(struct mfs_control *c);

#endif
