/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctlmsg.h - control messages (modelfs-control(5)): one JSON object a line. Pure: bytes to struct
 * and back, for both ends. Unknown fields are ignored; an unknown command is refused.
 */
#ifndef MFS_CTLMSG_H
#define MFS_CTLMSG_H

#include <jansson.h>

#include "mfs_verify.h"

#define MFS_CTL_FORMAT      "modelfs-control/1"
#define MFS_CTL_REQUEST_MAX (64u << 10) /* bytes of a request with its newline */
#define MFS_CTL_REPLY_MAX   (8u << 20)  /* bytes of one line of a reply */
#define MFS_CTL_FIELD_MAX   256         /* bytes of a text field */

enum mfs_ctl_command {
	MFS_CTL_STATUS,   /* for everybody who can connect, as events and wait */
	MFS_CTL_EVENTS,
	MFS_CTL_WAIT,
	MFS_CTL_DECIDE,   /* from here on: root and control_group */
	MFS_CTL_ACTIVATE,
	MFS_CTL_ROLLBACK,
	MFS_CTL_UNPIN,
	MFS_CTL_VERIFY,
	MFS_CTL_GC,
	MFS_CTL_RELOAD,
	MFS_CTL_NOTE, /* an installation failed before serve was asked to activate it */
	MFS_CTL_CHECK,
	MFS_CTL_UPDATE,  /* with `from`: the socket of a fetch came beside the request */
	MFS_CTL_EXPLAIN,
	MFS_CTL_PIN,
	MFS_CTL_MARK,
	MFS_CTL_COMMANDS,
};

const char *mfs_ctl_command_name(enum mfs_ctl_command c);
static inline bool
mfs_ctl_changes(enum mfs_ctl_command c)
{
	return c >= MFS_CTL_DECIDE;
}

struct mfs_ctl_request {
	enum mfs_ctl_command command;
	char model[MFS_ID_MAX + 1];           /* local id; empty: all */
	bool json, follow;                    /* status; events */
	bool good, from;                      /* mark; update */
	uint64_t after;                       /* events: only those with a greater seq */
	int64_t timeout_ms;                   /* wait; -1 without */
	struct mfs_sha256 manifest;           /* decide, activate */
	char version[MFS_VERSION_MAX + 1];    /* decide, wait, pin; mark: also "active" */
	char variant[MFS_VARIANT_MAX + 1];    /* decide */
	char model_id[MFS_ID_MAX + 1];        /* decide */
	int64_t release, key_epoch;           /* decide */
	enum mfs_code outcome;                /* note; a model is optional */
	char detail[MFS_CTL_FIELD_MAX];       /* note */
};

/*
 * Parse a request without its newline. Every field that the command needs is there and valid.
 *
 * errors  MALFORMED (names the field; an unknown command is named too), LIMIT_EXCEEDED, NO_MEMORY
 */
enum mfs_code mfs_ctl_request_parse(struct mfs_span line, struct mfs_ctl_request *out, struct mfs_err *err);

/* The line of a request, newline included; malloc'd. */
enum mfs_code mfs_ctl_request_line(const struct mfs_ctl_request *r, char **out, size_t *len, struct mfs_err *err);

/*
 * The last line of a reply: outcome, exit code, detail and whatever `body` (may be NULL, a
 * reference is taken over) carries. Malloc'd, newline included; NULL only without memory.
 */
char *mfs_ctl_final_line(enum mfs_code code, int exit_code, const char *detail, json_t *body, size_t *len);
/* A line before the last: {"format":..., NAME: value}; takes over the reference. */
char *mfs_ctl_line(const char *name, json_t *value, size_t *len);
char *mfs_ctl_progress_line(uint64_t done, uint64_t total, size_t *len);
/* The same of an update: what is done with which model. step and model may be NULL. */
char *mfs_ctl_update_line(uint64_t done, uint64_t total, uint64_t rate, const char *step, const char *model, size_t *len);

struct mfs_ctl_reply {
	bool final;
	enum mfs_code code; /* final only, as exit_code and detail */
	int exit_code;      /* 0 to 64 */
	char detail[512];   /* escaped for printing */
	json_t *body;       /* the whole object; owned, json_decref */
};

/*
 * Parse one line of a reply, without its newline.
 *
 * errors  MALFORMED, LIMIT_EXCEEDED, NO_MEMORY; out->body is NULL then
 */
enum mfs_code mfs_ctl_reply_parse(struct mfs_span line, struct mfs_ctl_reply *out, struct mfs_err *err);

#endif
