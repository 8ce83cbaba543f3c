/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - what happened: JSON lines {seq, time, boot, model, version, from, to, code, outcome,
 * class, source, detail, cycle}, appended to state/events.jsonl (rotated once at 1 MiB to
 * events.1.jsonl) and kept in a ring for /models/<id>/events and `modelfs events`.
 * Threads any. An event that cannot be written is counted, never an error.
 */
#ifndef MFS_EVENTS_H
#define MFS_EVENTS_H

#include "mfs_verify.h"

struct mfs_events;
/* Read the host's boot id, which a sandboxed process cannot: call it before the sandbox. Once is enough. */
void mfs_events_boot(void);
enum mfs_code mfs_events_open(int state_dirfd, bool read_only, struct mfs_events **out, struct mfs_err *err);
void mfs_events_close(struct mfs_events *e);

struct mfs_event { /* strings may be NULL */
	const char *model, *version, *from, *to; /* from, to: states or versions ("1.0.0" -> "1.1.0") */
	enum mfs_code code;
	const char *source; /* "install", "mount", "read", "control" */
	const char *detail; /* one line */
};
/* Also logs one line. */
void mfs_event(struct mfs_events *e, const struct mfs_event *ev);

/* The newest lines of one model (NULL: all), oldest first; malloc'd JSON lines of at most cap bytes. */
enum mfs_code mfs_events_render(struct mfs_events *e, const char *model, size_t cap, char **out, size_t *len,
	struct mfs_err *err);
/* Block until an event with seq > after exists or timeout_ms passed; returns the newest seq. */
uint64_t mfs_events_wait(struct mfs_events *e, uint64_t after, int timeout_ms);
/* Totals per (model, outcome, source) for metrics: calls fn for each. */
void mfs_events_totals(struct mfs_events *e,
	void (*fn)(void *user, const char *model, enum mfs_code code, const char *source, uint64_t n), void *user);

#endif
