/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - a command's end of the control socket: one request, its lines, its outcome. */
#ifndef MFS_CLIENT_H
#define MFS_CLIENT_H

#include "mfs_config.h"
#include "ctlmsg.h"

#define MFS_CONTROL_SOCKET "control"      /* in the run folder */
#define MFS_CONTROL_ANY    "/run/modelfs" /* its `control` is a link to the first instance's */

/*
 * Connect to the socket of the configuration's run folder (c NULL: of /run/modelfs).
 *
 * fd      a connected descriptor, -1 on failure
 * errors  CONDITION_UNMET with sys_errno ENOENT or ECONNREFUSED: nothing is mounted there;
 *         IO (EACCES: not allowed to connect)
 */
enum mfs_code mfs_client_connect(const struct mfs_config *c, int *fd, struct mfs_err *err);

/*
 * Send a request and read lines up to the final one.
 *
 * idle_ms  longest silence of the other end; -1: any
 * line     called for every line before the last; may be NULL. False ends the call with CONDITION_UNMET
 * out      the final reply; out->body is the caller's (json_decref)
 * errors   of the conversation only (IO, MALFORMED, CONDITION_UNMET): the outcome of the command itself is in out
 */
enum mfs_code mfs_client_call(int fd, const struct mfs_ctl_request *r, int idle_ms,
	bool (*line)(void *user, const json_t *body), void *user, struct mfs_ctl_reply *out, struct mfs_err *err);

/* Connect, call, close. */
enum mfs_code mfs_client_ask(const struct mfs_config *c, const struct mfs_ctl_request *r, int idle_ms,
	bool (*line)(void *user, const json_t *body), void *user, struct mfs_ctl_reply *out, struct mfs_err *err);

/* The same with a descriptor beside the request (`update --from`); -1: none. It stays the caller's. */
enum mfs_code mfs_client_ask_with(const struct mfs_config *c, const struct mfs_ctl_request *r, int pass, int idle_ms,
	bool (*line)(void *user, const json_t *body), void *user, struct mfs_ctl_reply *out, struct mfs_err *err);

/* Print a final reply for people: detail on stdout, or an error on stderr; returns the exit code. Frees out->body. */
int mfs_client_finish(const char *command, struct mfs_ctl_reply *out);

#endif
