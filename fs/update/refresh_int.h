/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refresh_int.h - inside fs/update/refresh*.c.
 *
 * Lock order: repository's run lock, then the engine's, then refresh.lock. The last is never held
 * across anything that waits.
 */
#ifndef MFS_REFRESH_INT_H
#define MFS_REFRESH_INT_H

#include <pthread.h>

#include "mfs_policy.h"
#include "mfs_tuf.h"
#include "refresh.h"

#define MFS_TUF_FOLDER    "tuf"    /* in state: one folder per repository */
#define MFS_POLICY_FOLDER "policy" /* in state: <model>.json */

/* What a file is called until the anchor names it: a power cut leaves the one that the anchor means. */
#define MFS_REFRESH_NEW ".new"

struct mfs_refresh_repo {
	pthread_mutex_t run; /* one run at a time */
	bool swept;          /* run: what a crash left under the new names was looked at */
	/* of the snapshot whose policies were all looked at, in this process; zero: none */
	struct mfs_sha256 complete;
	struct mfs_refresh_status status; /* refresh.lock */
	struct mfs_cycle_floor floor;     /* refresh.lock: of the time; what this repository raised */
	/* under `run`: a pass is under way, and the run that its models share; NULL: none is open */
	bool pass;
	struct mfs_refresh_run *shared;
};

struct mfs_refresh {
	struct mfs_refresh_args args;
	pthread_mutex_t lock;
	struct mfs_refresh_repo *repos;   /* config->n_repos */
	struct mfs_refresh_model {        /* config->n_models; lock */
		enum mfs_code code;       /* why its policy could not be renewed */
		char detail[256];
		enum mfs_code manifest;   /* why what it offers could not be had; told already */
	} *models;
	/* lock: the time floor that no repository has, and that of repositories that are not configured now */
	struct mfs_cycle_floor rest, others;
};

/* ---- refresh.c -------------------------------------------------------------------------------------------- */

int64_t mfs_refresh_boot_s(void);
/* The time floor as it is now. Takes refresh.lock. */
int64_t mfs_refresh_floor(struct mfs_refresh *r);
/* The time by the clock and the other repositories' floors: what counts without what `repo` may have pushed. */
int64_t mfs_refresh_now_without(struct mfs_refresh *r, size_t repo);
/*
 * Raise the floor of the repository to `time` if that is later, or begin it anew with that (0: none). Durable when it
 * returns; it counts here in any case.
 */
enum mfs_code mfs_refresh_floor_set(struct mfs_refresh *r, size_t repo, int64_t time, bool anew, struct mfs_err *err);
/* Expiry of the repository's metadata by `now`: METADATA_EXPIRED names the role and the time; refresh.lock is taken. */
enum mfs_code mfs_refresh_expired(struct mfs_refresh *r, size_t repo, struct mfs_err *err);
/* `stale: stop`: show or hide the models of a repository. */
void mfs_refresh_stale_apply(struct mfs_refresh *r, size_t repo);
void mfs_refresh_changed(struct mfs_refresh *r, size_t i);

/* ---- refresh_store.c -------------------------------------------------------------------------------------- */

/* What the anchor says of a repository, copied. */
struct mfs_refresh_known {
	struct mfs_anchor_role root, snapshot, targets;
	int64_t timestamp_version;
	char etag[MFS_CYCLE_ETAG + 1];
	struct mfs_sha256 trust; /* of trust.json as accepted; zero: none */
};
enum mfs_code mfs_refresh_known_get(struct mfs_refresh *r, size_t repo, struct mfs_refresh_known *out, struct mfs_err *err);

/* The root that the anchor names. IO when it is not there. */
enum mfs_code mfs_refresh_root_load(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known, uint8_t **out,
	size_t *len, struct mfs_err *err);
/* Give the client what is stored and fits the anchor; true: a timestamp is among it. _delegated before the first find. */
bool mfs_refresh_tuf_local(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known, struct mfs_tuf *t);
void mfs_refresh_tuf_local_delegated(struct mfs_refresh *r, size_t repo, struct mfs_tuf *t);

/*
 * Write what changed in the run: removals, root, the others; root, snapshot and targets under their new
 * names. _settle gives them their own names once the anchor names them. Roles of delegations only spare
 * the next run their bytes: lost or torn ones are fetched again.
 *
 * root  the root too, though it did not change: it is not stored yet
 */
void mfs_refresh_tuf_store_delegated(struct mfs_refresh *r, size_t repo, const struct mfs_tuf *t);
enum mfs_code mfs_refresh_tuf_store(struct mfs_refresh *r, size_t repo, const struct mfs_tuf *t, bool root,
	struct mfs_err *err);
void mfs_refresh_tuf_settle(struct mfs_refresh *r, size_t repo);
/*
 * What a crash left under the new names: gets its own name where the anchor names it (the next _store would
 * overwrite it, perhaps the only copy), and goes otherwise. Before the first _store or _put of a process.
 */
void mfs_refresh_tuf_sweep(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known);
void mfs_refresh_policy_sweep(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *in_force);

/* The policy of model i; _put under the new name. */
enum mfs_code mfs_refresh_policy_put(struct mfs_refresh *r, size_t i, struct mfs_span bytes, struct mfs_err *err);
void mfs_refresh_policy_settle(struct mfs_refresh *r, size_t i);
/* IO with ENOENT when neither file is the one with this hash. */
enum mfs_code mfs_refresh_policy_load(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *want, uint8_t **out,
	size_t *len, struct mfs_err *err);

/* ---- refresh_run.c ---------------------------------------------------------------------------------------- */

struct mfs_refresh_run {
	struct mfs_refresh *r;
	size_t repo;
	struct mfs_remote *remote;
	bool via;  /* not the object's own remote: no ETag of it counts */
	const _Atomic int *cancel;
	int64_t now;
	struct mfs_refresh_known known;
	struct mfs_tuf *t;
	bool timestamp;    /* a stored one is in t */
	bool root_lacks;   /* the trusted root is not stored */
	bool had_failed;   /* the run before */
	bool delegated;    /* stored roles of delegations are in t */
	bool unstored;     /* roles of delegations that were fetched since they were stored */
	int64_t begun_ms;  /* CLOCK_BOOTTIME */
	bool *changed;     /* config->n_models: another version is shown now; told once no lock is held */
	struct mfs_sha256 came;        /* the timestamp that came, trusted or not; zero: none */
	char came_etag[MFS_CYCLE_ETAG + 1];
	char etag[MFS_CYCLE_ETAG + 1]; /* of the timestamp that is stored at the end; "": none is known */
	struct mfs_err unwritten; /* what of this run could not be written, first; OK: nothing. Its metadata is then not taken over */
	struct mfs_refresh_result res;
};

/*
 * Begin: opens the TUF client and drives it to the end of a refresh; stores what it verified, on failure too. What
 * cannot be stored is no failure, but noted as unwritten.
 */
enum mfs_code mfs_refresh_run_begin(struct mfs_refresh_run *x, struct mfs_err *err);
void mfs_refresh_run_end(struct mfs_refresh_run *x);
/* The run goes on, so that what it forbids acts. */
void mfs_refresh_unwritten(struct mfs_refresh_run *x, const struct mfs_err *why);
/*
 * With the run lock held. _share: x goes on to the next of the pass, or ends; x is empty then. _resume: take the run
 * over that was left open, if it fits and is young; cancel stays x's own.
 */
void mfs_refresh_run_share(struct mfs_refresh_run *x, bool good);
bool mfs_refresh_run_resume(struct mfs_refresh_run *x);
/* What the metadata says of a target; *target is borrowed until the next find. */
enum mfs_code mfs_refresh_target_find(struct mfs_refresh_run *x, const char *path, bool *found,
	struct mfs_tuf_target *target, struct mfs_err *err);
/* Its bytes, fetched and checked. */
enum mfs_code mfs_refresh_target_get(struct mfs_refresh_run *x, const struct mfs_tuf_target *target, size_t cap,
	uint8_t **out, size_t *len, struct mfs_err *err);
/* The whole of mfs_refresh_run() with the repository's run lock held; the run stays open for mfs_refresh_target(). */
enum mfs_code mfs_refresh_run_locked(struct mfs_refresh_run *x, struct mfs_err *err);

/* Show what a run changed (config->n_models; NULL: nothing); without any lock. */
void mfs_refresh_tell(struct mfs_refresh *r, size_t repo, const bool *changed);

/* ---- refresh_policy.c ------------------------------------------------------------------------------------- */

/* The two of _sweep above, for the repository and its models. */
void mfs_refresh_sweep(struct mfs_refresh_run *x);
/* trust.json and every policy, when the snapshot is one whose policies were not all looked at; applied. */
enum mfs_code mfs_refresh_policies(struct mfs_refresh_run *x, struct mfs_err *err);
/* A run that failed: what it verified until then into the anchor. */
enum mfs_code mfs_refresh_roles_write(struct mfs_refresh_run *x, struct mfs_err *err);

#endif
