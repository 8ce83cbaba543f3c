/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - the keeper process, inside: root, single-threaded, parses nothing untrusted but the
 * fixed frames of klink.h. Every time is CLOCK_MONOTONIC in milliseconds, 0 none.
 */
#ifndef MFS_KEEPER_H
#define MFS_KEEPER_H

#include <signal.h>

#include "cmd.h"
#include "keys.h"
#include "kjobs.h"
#include "klink.h"
#include "running.h"

/*
 * ---- descriptors of a serve: fixed numbers (kspawn.c) ----------------------------------------
 *
 * One that is absent is an O_PATH descriptor, which nothing can be read from.
 */

enum mfs_serve_fd {
	MFS_FD_LINK = 3,
	MFS_FD_DEV,     /* /dev/fuse */
	MFS_FD_SHM,
	MFS_FD_CONFIG,  /* the snapshot; has its own offset: read by position */
	MFS_FD_STATE,
	MFS_FD_STORE,
	MFS_FD_CONTROL, /* listening; may be absent */
	MFS_FD_SCRATCH, /* absent when there is no noswap tmpfs */
	MFS_FD_STATE_KEY,
	MFS_FD_HELD,    /* held.h; absent when there is no memory for it */
	MFS_FD_FIRST_KEY, /* n_keys trust keys, then n_models model keys, n_seed seeds, n_repos roots; those may be absent */
};

#define MFS_SCRATCH_BYTES (16u << 20)

/* ---- the superblock and its two mounts (kmount.c) -------------------------------------------- */

struct mfs_kmount {
	int dev;          /* /dev/fuse */
	int detached_fd;  /* the public mount until it is attached; -1 afterwards: it would keep it busy */
	int private_fd;   /* writable clone, in no namespace; -1: no inotify events (before Linux 5.12) */
	int target_fd;    /* O_PATH: the folder to attach it to; -1 afterwards */
	char *path;       /* of that folder */
	uint64_t id;      /* mount id of the public mount; 0 before it is attached */
	bool made_folder;
};
#define MFS_KMOUNT_INIT { -1, -1, -1, -1, NULL, 0, false }

/*
 * The folder to mount on: made if missing; a dead mount of ours on it is detached; one that is not
 * empty, or shows a live modelfs, is refused. errors CONFIG_INVALID, CONDITION_UNMET, IO
 */
enum mfs_code mfs_kmount_target(struct mfs_kmount *m, const char *path, struct mfs_err *err);

/*
 * Make the superblock with a read-only, detached mount, answer INIT and set read-ahead.
 *
 * shm     receives INIT, the answer, what the kernel offers
 * noswap  a noswap tmpfs exists: ask for passthrough
 * resend  false: behave as on a kernel without RESEND (MODELFS_TEST_NO_RESEND)
 */
enum mfs_code mfs_kmount_create(struct mfs_kmount *m, const struct mfs_config *c, struct mfs_shm *shm, bool noswap,
	bool resend, struct mfs_err *err);

/* Show it at its folder and make the private clone. */
enum mfs_code mfs_kmount_attach(struct mfs_kmount *m, struct mfs_err *err);

bool mfs_kmount_listed(const struct mfs_kmount *m); /* still in mountinfo of this namespace */
bool mfs_kmount_dead(const struct mfs_kmount *m);   /* the kernel has ended the connection */

/*
 * Unmount in a child, which may hang in our stead; its pid, or -1. abort: MNT_FORCE | MNT_DETACH;
 * else plainly and, if busy, MNT_DETACH. The private clone goes with the child.
 */
pid_t mfs_kmount_remove(struct mfs_kmount *m, bool abort);
void mfs_kmount_close(struct mfs_kmount *m);

/* ---- without root (krootless.c) --------------------------------------------------------------- */

/* Mount at m->path through fusermount3: m->dev and m->id. errors IO */
enum mfs_code mfs_krootless_mount(struct mfs_kmount *m, const struct mfs_config *c, struct mfs_err *err);
/* Blocking: in a child. 0, EBUSY, or EINVAL when nothing is mounted there. */
int mfs_krootless_unmount(const char *path, bool lazy);

/* ---- mountinfo (kmountinfo.c), for the commands too ------------------------------------------- */

struct mfs_mountinfo {
	uint64_t id;
	char path[4096]; /* octal escapes undone */
	char type[64];
	char source[256];
};
/* Call fn for each mount of this namespace until it returns false. 0, or -1 with errno. */
int mfs_mountinfo_each(bool (*fn)(void *user, const struct mfs_mountinfo *m), void *user);

enum mfs_mount_state { MFS_MOUNT_NONE, MFS_MOUNT_DEAD, MFS_MOUNT_LIVE };
/* Is a modelfs mounted on path, and does its connection live? Asks in a child, for at most 2 s (silent is LIVE). */
enum mfs_mount_state mfs_mount_state(const char *path);

/* Absolute path without links, of a folder that may be missing or a dead mount. malloc'd. */
enum mfs_code mfs_mount_path(const char *path, char **out, struct mfs_err *err);

/* ---- the resident tier's files (kresident.c) -------------------------------------------------- */

struct mfs_kresident_file {
	bool used, complete;
	int32_t backing_id;
	uint64_t size;
};

struct mfs_kresident {
	int dir;       /* root of the detached tmpfs; -1: none, everything is paged */
	int table_fd;  /* memfd of `files`, keeper's alone: survives keeper in systemd's store */
	uint64_t size; /* bytes for resident files */
	struct mfs_kresident_file *files; /* MFS_RESIDENTS */
};

/* memory_budget in bytes: a share of the smaller of memory and the cgroup limits above. */
uint64_t mfs_kresident_budget(const struct mfs_config *c);
/* errors NO_MEMORY; no noswap tmpfs is none: dir is -1 then, with a line in the log. */
enum mfs_code mfs_kresident_open(struct mfs_kresident *r, uint64_t size, struct mfs_err *err);
void mfs_kresident_close(struct mfs_kresident *r);
/* Take over what an earlier keeper left; dir -1: nothing is resident. */
void mfs_kresident_adopt(struct mfs_kresident *r, int dir, int table_fd, uint64_t size);
/* The verbs of klink.h. `dev` registers; errors: INTERNAL for what a sane serve does not ask, INSUFFICIENT_STORAGE, IO. */
enum mfs_code mfs_kresident_create(struct mfs_kresident *r, uint32_t slot, uint64_t size, int *fd, struct mfs_err *err);
enum mfs_code mfs_kresident_complete(struct mfs_kresident *r, int dev, uint32_t slot, int32_t *id, struct mfs_err *err);
enum mfs_code mfs_kresident_drop(struct mfs_kresident *r, int dev, uint32_t slot, struct mfs_err *err);
int mfs_kresident_scratch(struct mfs_kresident *r); /* a fresh unnamed file of MFS_SCRATCH_BYTES, or -1 */

/* ---- the supervised process and the helpers --------------------------------------------------- */

struct mfs_kserve {
	pid_t pid; /* 0: none */
	int sock;  /* -1: none */
	bool ready, stop_sent;
	int64_t started, last_pong, killed;
};

enum mfs_kstate { MFS_KEEPER_STARTING, MFS_KEEPER_RUNNING, MFS_KEEPER_ENDING, MFS_KEEPER_DONE };

struct mfs_keeper {
	const char *config_path; /* NULL: the search path */
	const char *mount_arg;   /* MOUNTPOINT of the command line, or NULL */
	struct mfs_running_names names; /* what commands find this mount by when the files are broken */
	bool foreground, resend;
	bool own_log; /* stderr is the log in the run folder */
	int report_fd; /* the command that waits; -1 once told */

	struct mfs_config_snapshot *snapshot;
	struct mfs_config *config;
	int config_fd;
	struct mfs_folders folders;
	struct mfs_key_fds keys;
	int *seeds; /* config->n_seed */
	int lock_fd, control_fd, signal_fd, mountinfo_fd;

	int held_fd; /* held.h: as long as keeper, over every connection; -1: none */
	struct mfs_shm *shm;
	int shm_fd;
	struct mfs_kmount mount;
	struct mfs_kresident resident;
	struct mfs_kserve serve;

	enum mfs_kstate state;
	bool was_ready, reloading;
	bool replaced; /* the last serve ended because it was told to: its successor is no restart */
	int64_t later; /* of the last reload: enum mfs_reload_later */
	bool models_changed; /* what shm says by index is of other models: cleared before the next serve */
	unsigned quick_deaths, remounts;
	int64_t spawn_at, ready_by, ping_at, end_by;
	pid_t unmounter;
	struct mfs_err failed; /* what the last serve said before it went; code OK: nothing */
	struct mfs_err result; /* of keeper itself */

	pid_t toucher;
	int64_t touch_by;
	bool *touch; /* config->n_models: asked for */

	pid_t fetch; /* 0: none */
	int64_t fetch_started;
	struct mfs_kjobs jobs;

	pid_t probe; /* of the watchdog */
	int64_t probe_by, probe_at, watchdog_ms;
};

/* Start a serve with its descriptors; fills k->serve. errors IO, NO_MEMORY */
enum mfs_code mfs_kserve_spawn(struct mfs_keeper *k, struct mfs_err *err);

/* A child for a short piece of work: signals unblocked, /dev/fuse closed. As fork(). */
pid_t mfs_keeper_fork(struct mfs_keeper *k);

/* kverbs.c: what serve asks for. False: a malformed or misplaced frame, serve must go. */
bool mfs_keeper_verb(struct mfs_keeper *k, const struct mfs_kmsg *m);
void mfs_keeper_touch_next(struct mfs_keeper *k, int64_t now);
void mfs_keeper_touch_done(struct mfs_keeper *k);

/* kconfig.c: configuration of keeper. */
enum mfs_code mfs_keeper_configure(struct mfs_keeper *k, struct mfs_err *err);
/* Leave word of the configuration for commands (running.h); links: of the mount too. A failure is a line in the log. */
void mfs_keeper_note(struct mfs_keeper *k, bool links);
/* Read again; a valid one replaces the present one, else nothing changes. The caller replaces serve. */
enum mfs_code mfs_keeper_reload(struct mfs_keeper *k, struct mfs_err *err);

/*
 * kconnect.c: fresh shared memory, resident files, superblock: everything that a connection needs
 * before its first serve; what an earlier connection had is gone.
 */
enum mfs_code mfs_keeper_connect(struct mfs_keeper *k, struct mfs_err *err);
void mfs_keeper_disconnect(struct mfs_keeper *k);

/* keeper.c */
void mfs_keeper_ready(struct mfs_keeper *k);
void mfs_keeper_reload_start(struct mfs_keeper *k, struct mfs_err *err);
void mfs_keeper_end(struct mfs_keeper *k, const char *why);
/* Run until it is over; what it ended with is in k->result. */
void mfs_keeper_run(struct mfs_keeper *k);

/*
 * kadopt.c: systemd's descriptor store. mfs_kadopt: go on with a stored connection; false: there is
 * none, or it is of no use (*err untouched but for a bad mountpoint).
 */
bool mfs_kadopt(struct mfs_keeper *k, struct mfs_err *err);
void mfs_kadopt_store(const struct mfs_keeper *k);
/* keep_held: but not the memory of what could not be written, which a service manager hands to a keeper that it starts anew */
void mfs_kadopt_forget(bool keep_held);

/* knotify.c: sd_notify(3) without its library. Does nothing without NOTIFY_SOCKET. */
void mfs_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mfs_notify_fd(int fd, const char *name); /* into the descriptor store */

#endif
