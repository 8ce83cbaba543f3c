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

/* serve's end: accepts on listen_fd, a bounded number of connections, each with a deadline. */
enum mfs_code mfs_control_start(struct mfs_serve *s, int listen_fd, struct mfs_control **out, struct mfs_err *err);
void mfs_control_stop(struct mfs_control *c);

#endif
