/* SPDX-License-Identifier: Apache-2.0 */
/* engine_io.h - shared by engine*.c, version.c and install*.c only. */
#ifndef MFS_ENGINE_IO_H
#define MFS_ENGINE_IO_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine.h"
#include "log.h"
#include "reserve.h"

#define MFS_OBSERVERS_MAX 8

struct mfs_engine {
	pthread_mutex_t lock; /* state changes: held across disk I/O */
	pthread_mutex_t view_lock; /* view[] only, never held across I/O; taken after lock */
	struct mfs_engine_args args;
	struct mfs_counter *counter;
	struct mfs_trusted *trusted;
	struct mfs_reserve *reserve;   /* NULL: reading only */
	bool full_told;                /* lock: that the state's disk is full */
	bool took_over;                /* something of args.held is in force; does not change */
	struct mfs_err unwritten;      /* lock: why the anchor in force is not on the disk; OK: it is */
	char unwritten_text[256];      /* view_lock: the same for the status */
	struct mfs_engine_stopped *waits; /* config->n_models; lock: why nothing new of a model may be activated */
	struct mfs_engine_model *view; /* config->n_models */
	struct mfs_engine_stopped {    /* config->n_models; lock: nothing of a model is shown while code is not OK */
		enum mfs_code code;
		char detail[200];
	} *stops;
	struct mfs_engine_due {        /* config->n_models; lock: what a policy demands and was not to be had */
		bool stays; /* its publisher lets the revoked version stay while there is nothing to go back to */
		bool again; /* it could not be written down: mfs_engine_enforce_again() */
	} *due;
	bool recheck;                  /* lock: versions of the view are verified again before they are used again */
	struct mfs_version **candidates; /* config->n_models, NULL without; lock */
	struct mfs_sha256 *bringing;   /* config->n_models; lock: kept for an attempt that is not written yet; zero without */
	uint64_t *exposure_at;         /* config->n_models: next unused; below it may have been shown */
	bool reserved;                 /* the first block of exposures of this run is on disk */
	struct {
		mfs_engine_changed_fn *fn;
		void *user;
	} observers[MFS_OBSERVERS_MAX];
	size_t n_observers;
	struct mfs_engine_repo *repos; /* config->n_repos; under view_lock */
	pthread_mutex_t budget_lock;   /* taken before `lock` */
	int64_t budget_day;
	uint64_t budget_used; /* at most what the cycle document says for that day */
};

/* ---- version.c ---- */

/* mfs_version_load, and with repair a missing or damaged copy is written again from the other. */
enum mfs_code mfs_version_load_repair(int state_dirfd, struct mfs_store *s, struct mfs_cache *cache,
	const struct mfs_config *c, const struct mfs_keys *keys, size_t model, const struct mfs_sha256 *id, bool repair,
	struct mfs_version **out, struct mfs_err *err);

/* What was signed of v is in memory: a copy of it that is missing or damaged on disk is written again. */
void mfs_version_mend(int state_dirfd, struct mfs_store *s, const struct mfs_version *v);

/* ---- engine_kept.c ---- */

void mfs_engine_gone_note(struct mfs_engine_gone *g, const struct mfs_vref *ref, bool previous, const struct mfs_err *why);

/* ---- engine.c: with the engine's lock held ---- */

/* errors IO (names the missing or short blob and its file), for every payload and table of m */
enum mfs_code mfs_engine_blobs_check(struct mfs_store *s, const struct mfs_manifest *m, struct mfs_err *err);
enum mfs_code mfs_engine_compat_check(const struct mfs_config *c, size_t i, const struct mfs_manifest *m,
	struct mfs_err *err);
/* Signed, trusted, compatible, its key at hand, complete in the store: fit to be shown as model i's active version. */
enum mfs_code mfs_engine_candidate(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err);
/* The cycle's record of model i; made on first use with counters that were never used. NULL without memory. */
struct mfs_cycle_model *mfs_engine_cycle(struct mfs_engine *e, size_t i);
/* Counters that cannot have been used, for a record that was lost: modelfs-state(5), CYCLE. */
void mfs_cycle_renew(struct mfs_cycle_model *cm);
/* st->active was just activated: generation, times. build_time in seconds; the activation is later. */
void mfs_cycle_activated(struct mfs_cycle_model *cm, const struct mfs_anchor_model *st, int64_t build_time);
/* Rebuild view[i] from the anchor; `loaded` (may be NULL) is used instead of loading that version again. */
enum mfs_code mfs_engine_reload(struct mfs_engine *e, size_t i, struct mfs_version *loaded, struct mfs_err *err);
void mfs_engine_notify(struct mfs_engine *e, size_t i);
void mfs_engine_outcome(struct mfs_engine *e, size_t i, const char *source, const char *from, const char *to,
	enum mfs_code code, const char *detail);
/* engine_change.c */
enum mfs_code mfs_engine_decide_locked(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	struct mfs_err *err);
void mfs_engine_version_copy(char *out, const struct mfs_vref *v); /* out may be NULL */
void mfs_engine_swapped(struct mfs_engine *e, size_t i, struct mfs_version *v, enum mfs_code code, const char *source,
	const char *from, const char *to, const char *detail);
enum mfs_code mfs_engine_was_refused(struct mfs_engine *e, size_t i, const char *source, const char *to,
	const struct mfs_err *err);
/* engine_update.c: the observation of what is active, from the anchor and what the cycle knows; zero when it is committed. */
void mfs_engine_observing(struct mfs_engine *e, size_t i, struct mfs_cycle_observation *out);
void mfs_engine_update_copy(struct mfs_engine *e, size_t i, struct mfs_engine_update *out);
void mfs_engine_repos_load(struct mfs_engine *e);
void mfs_engine_view_status(struct mfs_engine *e, size_t i); /* engine.c: the cycle's record changed */
/* engine_policy.c: REVOKED, POLICY_REJECTED, KNOWN_BAD, METADATA_EXPIRED: why st's active version may not be shown. */
enum mfs_code mfs_engine_active_check(struct mfs_engine *e, size_t i, const struct mfs_anchor_model *st,
	struct mfs_err *err);
enum mfs_code mfs_engine_enforce_locked(struct mfs_engine *e, size_t i, const char *source, struct mfs_policy_entry *fetch,
	struct mfs_err *err);
/* engine_full.c: with the engine's lock held. From _urgent to _urgent_over writes may use the reserve. */
struct mfs_reserve *mfs_engine_urgent(struct mfs_engine *e);
void mfs_engine_urgent_over(struct mfs_engine *e, struct mfs_reserve *before);
/*
 * Commit an anchor that forbids more than the present one, or goes back; what cannot be written is in force from
 * memory. Takes ownership of a.
 */
enum mfs_code mfs_engine_commit_or_hold(struct mfs_engine *e, struct mfs_anchor *a);
enum mfs_code mfs_engine_room_locked(struct mfs_engine *e, size_t i, struct mfs_err *err);
void mfs_engine_unwritten_settle(struct mfs_engine *e);
enum mfs_code mfs_engine_take_over(struct mfs_engine *e, struct mfs_err *err); /* args.held; at open, before anything is shown */
/* Both copies of what was signed, in state and store. */
enum mfs_code mfs_engine_signed_put(struct mfs_engine *e, const struct mfs_sha256 *id, const struct mfs_signed *s,
	struct mfs_err *err);
void mfs_engine_trust_load(struct mfs_engine *e); /* trust.json of the anchor into the keys; at open */
const struct mfs_anchor_model *mfs_engine_record(const struct mfs_engine *e, size_t i);

#endif
