/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trusted.h - trusted state on disk: anchor, cycle, counter (design 9; modelfs-state(5)).
 *
 *	state/anchor.0 anchor.1 cycle.0 cycle.1   framed documents, two copies each
 *	state/counter                             file counter (counter: file)
 *	state/key                                 state key, root only, opened by keeper
 *	state/manifests/<hash>/                   what was signed, first copy
 *	state/lock                                flock: keeper, or a command that writes offline
 *	store/.state-id                           mark that a state existed: a lost state is not a first start
 *
 * One thread at a time (the engine's lock).
 */
#ifndef MFS_TRUSTED_H
#define MFS_TRUSTED_H

#include "mfs_verify.h"

/* A monotonic counter. The TPM's NV counter will be another implementation of these. */
struct mfs_counter {
	const char *kind; /* "file": proves nothing against a copied disk; "tpm" */
	/* errors COUNTER_UNAVAILABLE; *absent true and *value 0 when it was never created */
	enum mfs_code (*read)(struct mfs_counter *c, uint64_t *value, bool *absent, struct mfs_err *err);
	enum mfs_code (*create)(struct mfs_counter *c, struct mfs_err *err); /* starts at 0 */
	enum mfs_code (*increment)(struct mfs_counter *c, struct mfs_err *err); /* durable when it returns */
	/*
	 * `recover` only: make the value at least at_least, replacing an unreadable or absent counter. A TPM
	 * starts a new counter above every earlier one by itself.
	 */
	enum mfs_code (*raise)(struct mfs_counter *c, uint64_t at_least, struct mfs_err *err);
	void (*free)(struct mfs_counter *c);
};
/* `spec` as configured ("file"). It never falls back by itself. errors CONFIG_INVALID, COUNTER_UNAVAILABLE */
enum mfs_code mfs_counter_open(const char *spec, int state_dirfd, struct mfs_counter **out, struct mfs_err *err);
void mfs_counter_free(struct mfs_counter *c);
MFS_DEFINE_CLEANUP(counter, struct mfs_counter, mfs_counter_free)

struct mfs_cycle_activation { struct mfs_sha256 manifest; int64_t time_ns; }; /* ctime of its folders */

/* Where an update of a model stands (design 8). The order is that of the cycle. */
enum mfs_step {
	MFS_STEP_IDLE, MFS_STEP_DOWNLOAD, MFS_STEP_VERIFY, MFS_STEP_STAGE, MFS_STEP_HEALTH, MFS_STEP_ACTIVATE,
	MFS_STEP_OBSERVE, MFS_STEP_COMMIT, MFS_STEPS,
};
const char *mfs_step_name(enum mfs_step s); /* "idle", "download", ... */

/* Which version something is about; manifest zero: none. */
struct mfs_cycle_version {
	struct mfs_sha256 manifest;
	char version[MFS_VERSION_MAX + 1], variant[MFS_VARIANT_MAX + 1];
	int64_t release, key_epoch;
};

/*
 * What is brought in, one version at a time; from DOWNLOAD to ACTIVATE. Written before a step
 * starts, so that a step in which serve dies counts. Times: seconds since the epoch.
 */
struct mfs_cycle_attempt {
	enum mfs_step step; /* IDLE: nothing; the rest then says how the last one ended */
	struct mfs_cycle_version v;
	int64_t since;      /* this step was entered */
	int64_t deadline;   /* the step is given up then; 0 none */
	int64_t not_before; /* the next try; 0 at once */
	unsigned starts;    /* of this step; more than tries when serve died in it */
	unsigned failures;  /* in a row, of any step */
	enum mfs_code why;  /* of the last failure; OK without */
	char *detail;
	uint64_t free_bytes; /* INSUFFICIENT_STORAGE: free then; tried again when more is */
	bool by_hand;       /* asked for by a command */
	bool rollback;      /* v is where a revocation sends this host: mfs_engine_rollback_to() activates it */
};

/* The active version that was not committed yet: its probation. */
struct mfs_cycle_observation {
	struct mfs_cycle_version v;
	int64_t seconds;   /* watched so far: time in which serve ran, whatever the clock says */
	int64_t total;     /* seconds to watch, as configured when it was activated */
	unsigned checks, undecided; /* health checks that were good; without a verdict, in a row */
	bool by_hand;      /* an installation */
};

/* The last version that was refused, so that it is refused once and not at every check. */
struct mfs_cycle_refusal {
	struct mfs_cycle_version v;
	enum mfs_code why;
	int64_t time;
	char *detail;
	struct mfs_sha256 key; /* DECRYPT_FAILED: the model key it happened with; zero without */
};

struct mfs_cycle_model {
	char id[MFS_ID_MAX + 1];
	uint64_t exposure_next; /* every exposure below it may have been shown */
	uint64_t generation;    /* counter of the `generation` file */
	bool held;              /* by `rollback` or `pin`, until `unpin` */
	int64_t active_since;   /* seconds since the epoch */
	int64_t last_activation_ns; /* strictly increasing */
	struct mfs_cycle_activation *activations; size_t n_activations;
	enum mfs_code last_outcome; int64_t last_outcome_time; char *last_detail;
	char pin[MFS_VERSION_MAX + 1]; /* by `pin`: only this version may become active; empty without */
	struct mfs_cycle_attempt attempt;
	struct mfs_cycle_observation observation;
	struct mfs_cycle_refusal refusal;
	enum mfs_code policy_why; char *policy_detail; /* why its policy could not be renewed; OK without */
	enum mfs_code offer_why; char *offer_detail; /* why the last check brings nothing newer; OK: there is nothing to say */
	char *extra_json; /* unknown minor fields, kept; NULL without */
};

#define MFS_CYCLE_ETAG  127u
#define MFS_CYCLE_ROLES 4u

/* A time that the clock may not go behind, nor behind what has passed since. time 0: none */
struct mfs_cycle_floor {
	int64_t time; /* seconds since the epoch */
	int64_t boot; /* CLOCK_BOOTTIME in seconds when it was that */
};

/* A repository as the last checks left it. Times: seconds since the epoch, 0 never. */
struct mfs_cycle_repo {
	char name[MFS_ID_MAX + 1];
	int64_t timestamp_version; /* TUF: the highest that was accepted */
	char etag[MFS_CYCLE_ETAG + 1]; /* of the stored timestamp.json; empty without */
	int64_t expires[MFS_CYCLE_ROLES]; /* of root, timestamp, snapshot, targets as stored; 0 unknown */
	int64_t last_check, last_success;
	int64_t next_check;
	struct mfs_cycle_floor floor; /* what its own policies raised */
	unsigned failures;  /* in a row */
	enum mfs_code why;  /* of the last check */
	char *detail;
	char *extra_json;
};

struct mfs_cycle {
	struct mfs_cycle_model *models; size_t n_models; /* sorted by id */
	struct mfs_cycle_repo *repos; size_t n_repos;    /* sorted by name */
	int64_t budget_day;    /* days since the epoch; bytes fetched on it, of all models */
	uint64_t budget_bytes;
	struct mfs_cycle_floor floor; /* of this host: the latest of all repositories' */
	uint64_t event_seq;    /* next event number */
	char *extra_json;      /* unknown minor fields, kept */
};
void mfs_cycle_free(struct mfs_cycle *c);
MFS_DEFINE_CLEANUP(cycle, struct mfs_cycle, mfs_cycle_free)
struct mfs_cycle_model *mfs_cycle_find(struct mfs_cycle *c, const char *id);
enum mfs_code mfs_cycle_add(struct mfs_cycle *c, const char *id, struct mfs_cycle_model **out, struct mfs_err *err);
/* The record of a repository, made when it is new; it may move the others. NULL: no memory, or not a name. */
struct mfs_cycle_repo *mfs_cycle_repo(struct mfs_cycle *c, const char *name);
/*
 * The time floor. One for each repository, because a new timestamp key takes back what its own repository raised, and
 * nothing else; that of the host is the latest of them. A floor of the host that no repository has was written by an
 * earlier version: it counts too, until any of them is taken back.
 *
 * _at    its time now; boot_s: CLOCK_BOOTTIME in seconds. 0 without one
 * _rest  the one that no repository has; none mostly
 * _set   of a repository: raised to `time`, or (anew) begun again with it, and that of the host after it. True: to be saved
 */
int64_t mfs_cycle_floor_at(struct mfs_cycle_floor f, int64_t boot_s);
struct mfs_cycle_floor mfs_cycle_floor_rest(const struct mfs_cycle *c);
bool mfs_cycle_floor_set(struct mfs_cycle *c, const char *repo, int64_t time, int64_t boot_s, bool anew);
/* Copies of strings are the copy's own; _clear frees them. NO_MEMORY leaves *to as it was. */
void mfs_cycle_attempt_clear(struct mfs_cycle_attempt *a);
enum mfs_code mfs_cycle_attempt_copy(struct mfs_cycle_attempt *to, const struct mfs_cycle_attempt *from,
	struct mfs_err *err);
enum mfs_code mfs_cycle_parse(struct mfs_span json, struct mfs_cycle **out, struct mfs_err *err);
enum mfs_code mfs_cycle_json(const struct mfs_cycle *c, char **out, size_t *len, struct mfs_err *err);
/* The same; what memo has of models that did not change is not made again. memo: of cycles alone. */
enum mfs_code mfs_cycle_json_memo(const struct mfs_cycle *c, struct mfs_memo *memo, char **out, size_t *len,
	struct mfs_err *err);

struct mfs_trusted;

enum mfs_trusted_flags {
	MFS_TRUSTED_READ = 1,    /* status of an unmounted system: writes nothing */
	/*
	 * `modelfs recover`: the anchor returned joins what is authentic in either copy, whatever its
	 * generation, so that floors, minima, revocations and bad versions only rise; the first commit
	 * makes it the state. Nothing is written before.
	 */
	MFS_TRUSTED_RECOVER = 2,
};

/*
 * Load at start: accepts the anchor whose generation equals the counter, or counter + 1 (then
 * increments); anything else is STATE_REPLAYED. No anchor and no counter is a first start, unless
 * the store carries the mark of a state (then refused: `modelfs recover`).
 *
 * errors  STATE_REPLAYED, MALFORMED and SIGNATURE_INVALID (unreadable: names both copies),
 *         COUNTER_UNAVAILABLE, IO
 */
enum mfs_code mfs_trusted_open(int state_dirfd, int store_dirfd, const struct mfs_key *state_key,
	struct mfs_counter *counter, unsigned flags, struct mfs_trusted **out, struct mfs_err *err);
void mfs_trusted_close(struct mfs_trusted *t);
MFS_DEFINE_CLEANUP(trusted, struct mfs_trusted, mfs_trusted_close)

const struct mfs_anchor *mfs_trusted_anchor(const struct mfs_trusted *t); /* borrowed until the next commit */
struct mfs_cycle *mfs_trusted_cycle(struct mfs_trusted *t);               /* change, then _cycle_save */

/*
 * Write a new anchor: to the older copy, fsync file and folder, increment the counter, then bring
 * the other copy up to it, so that one bad sector is no lost state. The first write after each
 * start commits a copy of the present anchor first. Takes ownership of `a` on success. On failure
 * the present anchor stays in force here; after a restart the new one may be found in force (its
 * copy was whole, only the increment is not certain), never anything older than the present one.
 */
enum mfs_code mfs_trusted_commit(struct mfs_trusted *t, struct mfs_anchor *a, struct mfs_err *err);
enum mfs_code mfs_trusted_cycle_save(struct mfs_trusted *t, struct mfs_err *err);

/*
 * What is written from now on may use this reserve where the disk is full; NULL: may not. Returns the one before.
 * Borrowed.
 */
struct mfs_reserve;
struct mfs_reserve *mfs_trusted_reserve(struct mfs_trusted *t, struct mfs_reserve *r);

/*
 * `a` could not be written, and is in force here all the same: it must do nothing but forbid more than the present
 * anchor, or go back. Takes ownership. It is on the disk with the next commit of whatever is made from it, and
 * with _flush; _ahead says that it is not yet. It stands in keeper's memory before this returns, and with it from now
 * on a cycle that cannot be written, so that the next serve finds both; _unkept says why not (empty: it does, or nobody
 * gave such memory: then a restart finds the anchor of the disk). _lacks names what the disk does not know, one call each:
 * the model or repository, and "the revocation of version 1.2.0 (withdraw)".
 */
void mfs_trusted_hold(struct mfs_trusted *t, struct mfs_anchor *a);
bool mfs_trusted_ahead(const struct mfs_trusted *t);
const char *mfs_trusted_unkept(const struct mfs_trusted *t);
enum mfs_code mfs_trusted_flush(struct mfs_trusted *t, struct mfs_err *err); /* as mfs_trusted_commit */
void mfs_trusted_lacks(const struct mfs_trusted *t, void (*say)(void *user, const char *what, const char *lacks), void *user);

/*
 * Right after _open, not for reading: hold in this memory from now on, and join what a process before this one held
 * there with the anchor of the disk; then _ahead. It only ever takes trust away: revocations and minima count where
 * the disk knows no later policy; where it was made from what the disk has, a model is also where it went back to
 * (among what the disk lists), and keys are gone that were taken away. A document that is torn, another host's or
 * unreadable counts nothing, which is logged. The held cycle is in force if it is later than the disk's.
 *
 * held    borrowed, as long as t
 * errors  NO_MEMORY
 */
struct mfs_held;
enum mfs_code mfs_trusted_take_over(struct mfs_trusted *t, struct mfs_held *h, struct mfs_err *err);

/*
 * Take out of the repository's trust list what `by`, a verified trust.json, has no longer, or not with that epoch and those
 * models. What `by` has beyond it stays out. errors as mfs_trustlist_parse
 */
enum mfs_code mfs_anchor_trust_cut(struct mfs_anchor_repo *r, struct mfs_span by, bool *cut, struct mfs_err *err);

/*
 * The cycle was absent or unreadable beside an anchor: its counters start anew from values that
 * cannot have been used (mfs_trusted_fresh_exposure).
 */
bool mfs_trusted_cycle_lost(const struct mfs_trusted *t);

/* Opened with MFS_TRUSTED_RECOVER: what was found, one line ("anchor.0: ...; anchor.1: ..."). */
const char *mfs_trusted_found(const struct mfs_trusted *t);

const char *mfs_trusted_protection(const struct mfs_trusted *t); /* "file counter: ..." for status */

/*
 * Create state/key (32 random bytes, 0600) if no state exists yet; root, before the sandbox. A key
 * that is missing beside a state is refused (STATE_REPLAYED); `recover` makes a new one with renew
 * set, and then nothing of the old state is readable.
 */
enum mfs_code mfs_state_key_create(int state_dirfd, struct mfs_err *err);
enum mfs_code mfs_state_key_renew(int state_dirfd, struct mfs_err *err);

#endif
