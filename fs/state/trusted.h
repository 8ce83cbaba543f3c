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

struct mfs_cycle_model {
	char id[MFS_ID_MAX + 1];
	uint64_t exposure_next; /* every exposure below it may have been shown */
	uint64_t generation;    /* counter of the `generation` file */
	bool held;              /* by `rollback` or `pin`, until `unpin` */
	int64_t active_since;   /* seconds since the epoch */
	int64_t last_activation_ns; /* strictly increasing */
	struct mfs_cycle_activation *activations; size_t n_activations;
	enum mfs_code last_outcome; int64_t last_outcome_time; char *last_detail;
	char *extra_json; /* unknown minor fields, kept; NULL without */
};

struct mfs_cycle {
	struct mfs_cycle_model *models; size_t n_models; /* sorted by id */
	int64_t time_floor;    /* seconds; the clock may not go behind it */
	uint64_t event_seq;    /* next event number */
	char *extra_json;      /* unknown minor fields, kept */
};
void mfs_cycle_free(struct mfs_cycle *c);
MFS_DEFINE_CLEANUP(cycle, struct mfs_cycle, mfs_cycle_free)
struct mfs_cycle_model *mfs_cycle_find(struct mfs_cycle *c, const char *id);
enum mfs_code mfs_cycle_add(struct mfs_cycle *c, const char *id, struct mfs_cycle_model **out, struct mfs_err *err);
enum mfs_code mfs_cycle_parse(struct mfs_span json, struct mfs_cycle **out, struct mfs_err *err);
enum mfs_code mfs_cycle_json(const struct mfs_cycle *c, char **out, size_t *len, struct mfs_err *err);

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
