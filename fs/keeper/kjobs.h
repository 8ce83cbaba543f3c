/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kjobs.h - commands that keeper runs: health checks and hooks (jobs.h has serve's end).
 *
 * Each runs in a pid namespace of its own below a small init that keeper forked: killing that init
 * kills everything the command ever started, whatever it called setsid() on. The init also reads the
 * command's output, so keeper reads nothing, waits for nothing and polls one pid. It runs as the
 * model's configured user, never root; a health command in an empty network namespace. Nothing
 * here comes from a bundle: version names are checked and become a path below keeper's own mount.
 */
#ifndef MFS_KJOBS_H
#define MFS_KJOBS_H

#include <sys/types.h>

#include "jobs.h"
#include "mfs_config.h"

struct mfs_keeper;

#define MFS_KJOBS          16u     /* at one time; the last two are for health checks alone */
#define MFS_KJOB_HOOK_MS   60000   /* time limit of a hook */
#define MFS_KJOB_KEEP_MS   600000  /* a result that no serve took */

enum mfs_kjob_stage { MFS_KJOB_STARTING, MFS_KJOB_FAILED, MFS_KJOB_RUNNING, MFS_KJOB_OVER };

/* Memory shared with a job's init, which runs as the job's user: what it found out. */
struct mfs_kjob_note {
	_Atomic int stage; /* enum mfs_kjob_stage */
	int wait_status; /* of the command, when OVER */
	_Atomic uint64_t total; /* bytes of output */
	char text[200];  /* why, when FAILED */
};

struct mfs_kjob_ask {
	size_t model;
	enum mfs_job_kind kind;
	enum mfs_job_reason reason;
	enum mfs_code outcome;
	int64_t release;
	char version[MFS_JOB_NAME_MAX + 1], previous[MFS_JOB_NAME_MAX + 1]; /* "" without */
	char vectors[MFS_JOB_VECTORS_MAX + 1];
};

struct mfs_kjob {
	struct mfs_kjob_ask ask;
	uint32_t number; /* 0: free */
	pid_t pid;       /* of its init; 0 once it is reaped */
	int64_t started, deadline, killed, over; /* ms; over: reaped or told */
	bool timed_out, stopped, told;
	int output;      /* memfd */
	int cgroup;      /* its folder; -1: limits by rlimit alone */
	struct mfs_kjob_note *note;
	struct mfs_kmsg done; /* once over */
};

struct mfs_kjobs {
	struct mfs_kjob jobs[MFS_KJOBS];
	struct mfs_kjob_ask **waiting; size_t n_models; /* hooks: 2 per model, the newest of each */
	uint32_t number;
	bool cgroup_tried;
	int cgroup; /* folder in which a job's cgroup can be made; -1: none */
};

/*
 * MFS_K_JOB. False: a malformed frame. errors CONDITION_UNMET (busy), CONFIG_INVALID (no such
 * command), IO, NO_MEMORY; number 0: it waits.
 */
bool mfs_kjobs_ask(struct mfs_keeper *k, const struct mfs_kmsg *m, uint32_t *number, struct mfs_err *err);
/* MFS_K_JOB_STOP. False: a malformed frame. */
bool mfs_kjobs_stop(struct mfs_keeper *k, const struct mfs_kmsg *m);

/* Was it an init of ours? */
bool mfs_kjobs_reaped(struct mfs_keeper *k, pid_t pid, int status, int64_t now);

/* Time limits, results to be told, hooks that wait. */
void mfs_kjobs_tick(struct mfs_keeper *k, int64_t now);
/* When the next tick is due; 0 none. */
int64_t mfs_kjobs_next(const struct mfs_keeper *k);

/* Kill all, forget what waits: before unmounting (they hold files open), when models changed. */
void mfs_kjobs_end(struct mfs_keeper *k);

/* ---- kjobrun.c: in the child ------------------------------------------------------------------ */

struct mfs_kjob_run {
	const struct mfs_config *config;
	const struct mfs_config_model *model;
	const struct mfs_kjob_ask *ask;
	const char *mount;
	int output, cgroup, keeper_fd; /* memfd; cgroup folder or -1; pidfd of keeper */
	uid_t uid; gid_t gid;          /* of keeper, outside of any namespace */
	struct mfs_kjob_note *note;
};

/* Flags of the namespaces for clone(): as root the pid alone, else a user namespace for all. */
int mfs_kjob_clone_flags(const struct mfs_kjob_ask *ask);
void mfs_kjob_init(const struct mfs_kjob_run *r) __attribute__((noreturn));

/* ---- kcgroup.c -------------------------------------------------------------------------------- */

/* The folder below which jobs get a cgroup2 of their own with a memory limit; -1 when there is none. */
int mfs_kcgroup_open(void);
/* A fresh one with limits; its folder, or -1. */
int mfs_kcgroup_make(int parent, uint32_t number, uint64_t memory);
bool mfs_kcgroup_killed_by_memory(int folder);
void mfs_kcgroup_remove(int parent, uint32_t number, int *folder);

#endif
