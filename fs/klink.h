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
	/* serve -> keeper, answered by MFS_K_REPLY with the same seq */
	MFS_K_RESIDENT_CREATE,   /* slot, size; reply carries a descriptor to fill */
	MFS_K_RESIDENT_COMPLETE, /* slot; reply: backing id in `value`, also stored in shm */
	MFS_K_RESIDENT_DROP,     /* slot */
	MFS_K_RELOAD,            /* as SIGHUP; reply: result and text when the configuration is invalid */
	MFS_K_UNMOUNT,           /* as SIGTERM; replied before it starts */
	/* keeper -> serve */
	MFS_K_PING = 64,
	MFS_K_STOP,       /* finish what is in flight and exit 0 (reload, unmount) */
	MFS_K_REPLY,
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
	char text[132];  /* NUL-terminated */
};

/* One frame; *fd -1 without a descriptor. 1 a frame, 0 end of file, -1 errno (EPROTO: malformed). */
int mfs_kmsg_send(int sock, const struct mfs_kmsg *m, int fd);
int mfs_kmsg_recv(int sock, struct mfs_kmsg *m, int *fd);

/* serve's end: a thread of its own receives; calls wait for their reply (never from a FUSE request). */
struct mfs_klink;
enum mfs_code mfs_klink_start(int sock, void (*on_stop)(void *user), void *user, struct mfs_klink **out,
	struct mfs_err *err);
void mfs_klink_stop(struct mfs_klink *k);
enum mfs_code mfs_klink_notify(struct mfs_klink *k, enum mfs_kverb verb, uint32_t model, const char *text,
	struct mfs_err *err);
/* fd may be NULL; value may be NULL. errors: what keeper answered; IO when it is gone; waits at most 30 s. */
enum mfs_code mfs_klink_call(struct mfs_klink *k, enum mfs_kverb verb, uint32_t slot, uint64_t size, int *fd,
	int64_t *value, struct mfs_err *err);

#endif
