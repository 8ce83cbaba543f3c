/* SPDX-License-Identifier: Apache-2.0 */
/*
 * klink.h - keeper and serve: fixed verbs over a SOCK_SEQPACKET pair, one struct a frame, at most
 * one descriptor beside it. A frame of another size, version or verb ends the peer, not the mount.
 * keeper parses nothing else from serve; commands, users and paths come from its own configuration.
 */
#ifndef MFS_KLINK_H
#define MFS_KLINK_H

#include "shm.h"

#define MFS_KLINK_VERSION 1u

enum mfs_kverb {
	/* serve -> keeper, without a reply */
	MFS_K_HELLO = 1,  /* version; first frame of a serve */
	MFS_K_READY,      /* INIT replay agreed, local state evaluated, loop running */
	MFS_K_PONG,
	MFS_K_TOUCH,      /* model: make inotify fire on its `generation` */
	MFS_K_STATUS,     /* text: one line for systemd */
	MFS_K_FAILED,     /* result, text: why this serve cannot come up; it exits next */
	/* serve -> keeper, answered by MFS_K_REPLY with the same seq */
	MFS_K_RESIDENT_CREATE,   /* slot, size; reply carries a descriptor to fill */
	MFS_K_RESIDENT_COMPLETE, /* slot; reply: backing id in `value`, also stored in shm */
	MFS_K_RESIDENT_DROP,     /* slot */
	MFS_K_RELOAD,            /* as SIGHUP; reply: result and text when the configuration is invalid, value: mfs_reload_later */
	MFS_K_UNMOUNT,           /* as SIGTERM; replied before it starts */
	MFS_K_FETCH,             /* end the present fetch, start another; reply carries its socket (wire.h) */
	/*
	 * Run a configured command (jobs.h). model; slot: enum mfs_job_kind; size: enum mfs_job_reason; value:
	 * release; result: outcome; text: version, previous version and vectors file, each ended by a newline,
	 * empty where there is none. Reply: job number in `value`; seq 0: none wanted. A health command
	 * that already runs for the same version is the same job.
	 */
	MFS_K_JOB = 20,
	MFS_K_JOB_STOP,          /* model, slot: kind; its end is told by MFS_K_JOB_DONE as ever. No reply */
	MFS_K_HOLD,              /* does the configured hold file exist? reply: `value` 1 or 0 */
	/* keeper -> serve */
	MFS_K_PING = 64,
	MFS_K_STOP,       /* finish what is in flight and exit 0 (reload, unmount) */
	MFS_K_REPLY,
	/*
	 * A job ended. seq: its number; model; slot: kind; result: enum mfs_job_end; value: exit code or signal;
	 * size: bytes of output before the cap; text: how, for people; with a sealed memfd of the output.
	 */
	MFS_K_JOB_DONE = 70,
};

struct mfs_kmsg {
	uint16_t version;
	uint16_t verb;
	uint32_t seq;
	uint32_t slot;
	uint32_t model;
	int64_t value;
	uint64_t size;
	uint32_t result; /* enum mfs_code in a reply */
	char text[512];  /* NUL-terminated; as long as a message of struct mfs_err */
};

/*
 * Send one frame; m->version is filled in. fd -1: no descriptor (the caller keeps its own).
 *
 * returns 0, or -1 with errno; EAGAIN when the peer does not read (keeper's end does not block)
 */
int mfs_kmsg_send(int sock, const struct mfs_kmsg *m, int fd);

/*
 * Receive one frame. *fd is the descriptor that came with it (close-on-exec), or -1.
 *
 * returns 1 a frame, 0 end of file, -1 errno. EPROTO: malformed (size, version, verb, text without
 *         its end, more than one descriptor); every descriptor that came is closed then
 */
int mfs_kmsg_recv(int sock, struct mfs_kmsg *m, int *fd);

/*
 * serve's end: a thread of its own receives and answers pings; calls wait for their reply.
 *
 * sock     taken over: closed by mfs_klink_stop
 * on_stop  called once, from that thread: gone false on MFS_K_STOP, true when keeper died or sent
 *          a malformed frame (then every waiting call has failed with IO)
 */
struct mfs_klink;
enum mfs_code mfs_klink_start(int sock, void (*on_stop)(void *user, bool gone), void *user, struct mfs_klink **out,
	struct mfs_err *err);
void mfs_klink_stop(struct mfs_klink *k);

/* What a reload read and only the next mount can use, as bits; _text: their keys with ", " between. */
enum mfs_reload_later { MFS_LATER_BUDGET = 1, MFS_LATER_READ_AHEAD = 2, MFS_LATER_XATTRS = 4, MFS_LATER_EXEC = 8,
	MFS_LATER_SELINUX = 16 };
const char *mfs_reload_later_text(int64_t bits, char out[96]);

/* Verbs without a reply; text may be NULL and is cut. Threads any. errors IO. */
enum mfs_code mfs_klink_notify(struct mfs_klink *k, enum mfs_kverb verb, uint32_t model, const char *text,
	struct mfs_err *err);

/* MFS_K_FAILED: report before exiting. Usable before mfs_klink_start, on the bare socket. */
void mfs_klink_failed(int sock, const struct mfs_err *why);

/*
 * Verbs with a reply. Threads any, but never from a FUSE request: keeper may be slow.
 *
 * fd, value  may be NULL; *fd is the caller's, -1 when none came
 * errors     what keeper answered, with its text; IO when it is gone or silent for 30 s
 */
enum mfs_code mfs_klink_call(struct mfs_klink *k, enum mfs_kverb verb, uint32_t slot, uint64_t size, int *fd,
	int64_t *value, struct mfs_err *err);

/*
 * A whole frame with a reply, and one without. _ask: *reply is what keeper answered, which may be an error;
 * errors and threads as mfs_klink_call. _tell: errors IO.
 */
enum mfs_code mfs_klink_ask(struct mfs_klink *k, const struct mfs_kmsg *m, struct mfs_kmsg *reply, struct mfs_err *err);
enum mfs_code mfs_klink_tell(struct mfs_klink *k, const struct mfs_kmsg *m, struct mfs_err *err);

bool mfs_klink_gone(struct mfs_klink *k); /* nothing comes from it any more */

/* Who is told of MFS_K_JOB_DONE, in the link's thread: quick. fd is the callee's, -1 without. NULL: nobody. */
typedef void mfs_klink_job_fn(void *user, const struct mfs_kmsg *m, int fd);
void mfs_klink_on_job(struct mfs_klink *k, mfs_klink_job_fn *fn, void *user);

#endif
