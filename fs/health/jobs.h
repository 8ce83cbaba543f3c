/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.h - serve's end of the commands that keeper runs (kjobs.c): the health command and the hooks.
 *
 * serve names a model, a kind, a reason and a version; the program, its arguments, user, limits and
 * paths come from keeper's own reading of the configuration. A job belongs to keeper: it goes on
 * when serve dies, and whoever asks for the same one again gets the running one's result.
 */
#ifndef MFS_JOBS_H
#define MFS_JOBS_H

#include "klink.h"

struct mfs_config;

enum mfs_job_kind { MFS_JOB_HEALTH, MFS_JOB_ON_CHANGE, MFS_JOB_ON_REJECT, MFS_JOB_KINDS };

/* Is this a name as above? It comes from what was signed, and becomes a path. */
bool mfs_job_name_ok(const char *name);

/* MODELFS_REASON: "candidate", "probation", "swap", "rollback", "withdraw", "refused" */
enum mfs_job_reason { MFS_REASON_CANDIDATE, MFS_REASON_PROBATION, MFS_REASON_SWAP, MFS_REASON_ROLLBACK,
	MFS_REASON_WITHDRAW, MFS_REASON_REFUSED, MFS_REASONS };
const char *mfs_job_reason_name(enum mfs_job_reason r);

enum mfs_job_end {
	MFS_JOB_EXITED,     /* status: exit code */
	MFS_JOB_SIGNALED,   /* status: signal */
	MFS_JOB_TIMED_OUT,  /* killed at the time limit */
	MFS_JOB_NO_MEMORY,  /* killed at the memory limit */
	MFS_JOB_NOT_STARTED, /* the program, user or sandbox is missing: never the model's fault; detail says what */
	MFS_JOB_STOPPED,    /* by mfs_job_stop, a reload, or the end of modelfs */
	MFS_JOB_ENDS,
};

#define MFS_JOB_NAME_MAX   (MFS_VERSION_MAX + 1 + MFS_VARIANT_MAX) /* bytes of a version's name in the mount */
#define MFS_JOB_VECTORS_MAX 240u  /* bytes of the vectors file's name */
#define MFS_JOB_OUTPUT_MAX 65536u /* bytes of standard output and error that are kept */

struct mfs_job_request {
	size_t model; /* index in the configuration */
	enum mfs_job_kind kind;
	enum mfs_job_reason reason;
	enum mfs_code outcome;  /* MODELFS_OUTCOME: its name */
	const char *version;    /* as shown in the mount: a version, or version+variant of a candidate; NULL: none (withdraw) */
	int64_t release;        /* of version; 0 without */
	const char *previous;   /* likewise, or NULL */
	const char *vectors;    /* name of the payload file with the test vectors, or NULL: in the manifest */
};

struct mfs_job_result {
	enum mfs_job_end end;
	int status;
	char *output; size_t output_len; /* untrusted bytes, NUL after them; NULL without */
	bool truncated;  /* there was more */
	char detail[256]; /* how it ended, for people: printable ASCII */
};
void mfs_job_result_free(struct mfs_job_result *r);

struct mfs_jobs;

/* Made once, after the link. errors NO_MEMORY */
enum mfs_code mfs_jobs_new(struct mfs_klink *k, const struct mfs_config *c, struct mfs_jobs **out, struct mfs_err *err);
void mfs_jobs_free(struct mfs_jobs *j); /* when no mfs_job_run is under way, before mfs_klink_stop */

/* Called when a hook ended, one after the other, in a thread for that alone. Set before the first hook is asked for. */
typedef void mfs_job_hook_fn(void *user, size_t model, enum mfs_job_kind kind, const struct mfs_job_result *r);
void mfs_jobs_on_hook(struct mfs_jobs *j, mfs_job_hook_fn *fn, void *user);

/*
 * Run the health command of a model to its end. Blocking, for as long as the configured time limit
 * and a little more: for the cycle's worker, never for a FUSE request.
 *
 * cancel  may be NULL; polled: nonzero stops the job and ends with CONDITION_UNMET
 * out     how it ended, filled on MFS_OK alone; release with mfs_job_result_free()
 * errors  IO (keeper did not answer), CONDITION_UNMET (cancelled, or the model's command is busy with
 *         something else), CONFIG_INVALID (no such command), NO_MEMORY. None of them says anything
 *         about the model.
 * threads any, one at a time per model
 */
enum mfs_code mfs_job_run(struct mfs_jobs *j, const struct mfs_job_request *q, const _Atomic int *cancel,
	struct mfs_job_result *out, struct mfs_err *err);

/*
 * The turn of one check of a model, from before its version is shown as the candidate until it is no longer: there is
 * one candidate and one command of a model at a time, and three threads that may want them (the worker of updates, the
 * probation of what is active, an installation by hand).
 *
 * patient  wait for it; else CONDITION_UNMET at once
 * cancel   may be NULL; as of mfs_job_run()
 * errors   CONDITION_UNMET: not taken, nothing to end
 * threads  any
 */
enum mfs_code mfs_job_turn(struct mfs_jobs *j, size_t model, bool patient, const _Atomic int *cancel, struct mfs_err *err);
void mfs_job_turn_end(struct mfs_jobs *j, size_t model);

/*
 * Ask for a hook and go on: keeper runs one at a time per model and kind, with a time limit; of
 * those that wait the newest wins. Does nothing when the hook is not configured. Never blocks
 * longer than a write to a socket. Its end is an event when it failed.
 */
void mfs_job_hook(struct mfs_jobs *j, const struct mfs_job_request *q);

#endif
