/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_io.h - shared by control.c (one thread that never waits for anything but poll), control_conn.c
 * (one connection of it), control_request.c (what a request begins), control_work.c (the workers that changes
 * and checks run in) and control_run.c (what the commands do).
 */
#ifndef MFS_CONTROL_IO_H
#define MFS_CONTROL_IO_H

#include <pthread.h>
#include <stdatomic.h>

#include "ctlmsg.h"
#include "remote.h"
#include "serve.h"

#define CONTROL_CONNS      32   /* connections; one more is refused politely */
#define CONTROL_CONNS_ROOT 8    /* of them only for those who may change things */
#define CONTROL_CONNS_USER 8    /* of one user who may not: the others get in as well */
#define CONTROL_JOBS       16   /* waiting for a worker */
#define CONTROL_REQUEST_MS 10000 /* to send a request, and to take a reply */
#define CONTROL_TICK_MS    250  /* followers, waiters, progress */
#define CONTROL_ALIVE_MS   10000 /* a command that takes its time says so */
#define CONTROL_OUT_MAX    (MFS_CTL_REPLY_MAX + (64u << 10)) /* bytes that wait for a slow reader */

enum conn_state { CONN_FREE, CONN_READING, CONN_WORKING, CONN_FOLLOWING, CONN_WAITING, CONN_UPDATING };

struct conn { /* of the poll thread alone */
	enum conn_state state;
	int fd;
	bool may_change;
	uid_t uid;
	bool closing;     /* once everything is written */
	bool eof;         /* the peer sends no more, but may read */
	uint64_t serial;  /* never reused: a job's result finds its connection, or none */
	int64_t deadline; /* CLOCK_MONOTONIC, ms: to send a request, or to take bytes that wait; 0 none */
	char *in;         /* MFS_CTL_REQUEST_MAX */
	size_t in_len;
	char *out;
	size_t out_len, out_at;
	struct mfs_ctl_request req;
	size_t model;     /* index; n_models: all */
	uint64_t after;   /* events sent up to this one */
	int64_t wait_until; /* ms; -1 for ever */
	uint64_t progress; /* last sent */
	int64_t said;      /* ms: the last line to a peer that waits */
	uint64_t ticket;   /* of mfs_update_ask() */
	struct mfs_update *updates; /* while there is one */
	int passed;        /* a descriptor that came beside a request, -1 */
};

struct job {
	struct mfs_ctl_request req;
	size_t model;
	uint64_t serial; /* of the connection; 0 when there is no job */
	struct mfs_err err; /* the result: code and, when it is not OK, the message */
	int exit_code;
	char detail[512];
	json_t *body;
};

struct worker {
	struct mfs_control *c;
	pthread_t thread;
	bool started;
	struct job running;   /* under lock but for the worker's own use */
	_Atomic int cancel;
	_Atomic uint64_t done, total;
};

/*
 * Changes of different models run side by side, one at a time per model: one that waits for loaders or for a
 * health check holds up nobody else.
 */
#define CONTROL_CHANGERS 6
enum { WORKER_VERIFY, WORKER_CHANGE, WORKERS = WORKER_CHANGE + CONTROL_CHANGERS };

struct mfs_control {
	struct mfs_serve *s;
	int listen_fd, wake;  /* eventfd */
	pthread_t thread;
	bool started;
	_Atomic bool stop; /* workers */
	_Atomic bool quit; /* the poll thread, after them */
	struct conn conns[CONTROL_CONNS];
	uint64_t serial;
	int64_t accept_after; /* ms: no descriptors were left */
	pthread_mutex_t lock; /* queues and results */
	pthread_cond_t added;
	struct job queue[CONTROL_JOBS * 2]; size_t n_queue; /* under lock; oldest first */
	struct worker workers[WORKERS];
	struct job results[CONTROL_JOBS * 2]; size_t n_results;
	_Atomic uint64_t store_bytes; /* + 1; 0 not counted */
};

/* ---- control_conn.c; all of the poll thread ----------------------------------------------------- */

void mfs_conn_close(struct conn *k);

/* Queue a line for the peer; takes over `line` (malloc'd, or NULL without memory). A peer that does not read is ended. */
void mfs_conn_send(struct conn *k, char *line, size_t len);

/* The final line of a request: the connection may send its next one. detail and body (taken over) may be empty, NULL. */
void mfs_conn_finish(struct conn *k, enum mfs_code code, int exit_code, const char *detail, json_t *body);
void mfs_conn_refuse(struct conn *k, const struct mfs_err *err);

/* The next request that stands whole in the buffer: one a turn, and after its reply was taken, so that all get theirs. */
void mfs_conn_lines(struct mfs_control *c, struct conn *k);

/* After poll(2): bytes in (revents: what it said), bytes out. */
void mfs_conn_read(struct mfs_control *c, struct conn *k, short revents);
void mfs_conn_write(struct conn *k);

/* ---- control_request.c; of the poll thread -------------------------------------------------------- */

/* One request, without its newline: answered, refused or begun. */
void mfs_conn_request(struct mfs_control *c, struct conn *k, const char *line, size_t len);

/* A check or an update that k waits for: what is new of it; now in ms, CLOCK_MONOTONIC. */
void mfs_conn_update_tick(struct mfs_control *c, struct conn *k, int64_t now);

/* ---- control_work.c ----------------------------------------------------------------------------- */

/* From the poll thread: hand k's request to a worker, or refuse it when too many wait. */
void mfs_control_job(struct mfs_control *c, struct conn *k);

/* false when a thread could not be started; mfs_control_stop() ends those that were. */
bool mfs_control_workers_start(struct mfs_control *c);

/* ---- control_run.c ------------------------------------------------------------------------------ */

/* In a worker: run a job and fill its result. */
void mfs_control_run(struct worker *w, struct job *j);
/* Answer at once, from memory: the reply lines of status (malloc'd), NULL without memory. */
char *mfs_control_status(struct mfs_control *c, const struct conn *k, size_t *len);
/* Event lines after k->after (which moves); NULL when there is none. */
char *mfs_control_events(struct mfs_control *c, struct conn *k, size_t *len);
/* Has the model the version that a `wait` asks for? version receives the active one. */
bool mfs_control_reached(struct mfs_control *c, const struct conn *k, char version[MFS_VERSION_MAX + 1]);

#endif
