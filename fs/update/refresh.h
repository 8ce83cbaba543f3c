/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refresh.h - what the repositories say now: TUF metadata, trust.json, policies; persisted, and applied.
 *
 * One object for all repositories of a serve (or of an offline command). A refresh of one repository
 * is one TUF run over remote.h: a poll with nothing new is two tiny requests. What it verified
 * persists before it takes effect, and a revocation that it brings takes effect before it returns.
 * Nothing here activates a version that is not on this host already: mfs_refresh_target() says what
 * the device should run, the update cycle brings it.
 *
 *	state/tuf/<repository>/root.json timestamp.json snapshot.json targets.json <role>.json
 *	state/policy/<model>.json      the policy in force, by local id
 *
 * Hashes of root, snapshot, targets and policies are in the anchor, and trust.json itself: a stored file
 * that is another one is dropped and fetched again. Source: modelfs-state(5), design 5.
 *
 * Threads any; runs of one repository wait for each other.
 */
#ifndef MFS_REFRESH_H
#define MFS_REFRESH_H

#include "engine.h"
#include "remote.h"

struct mfs_policy;
struct mfs_policy_device;
struct mfs_refresh;

struct mfs_refresh_args { /* all outlive the object */
	const struct mfs_config *config;
	struct mfs_engine *engine;
	struct mfs_keys *keys;     /* holds the configured roots; trust lists change in it */
	struct mfs_remote *remote; /* NULL: only what is stored counts (offline commands) */
	/* Without a remote: stands in for mfs_remote_read(); unit tests. NULL without. */
	enum mfs_code (*get)(void *user, const struct mfs_remote_request *q, uint8_t **out, size_t *len,
		struct mfs_remote_result *res, struct mfs_err *err);
	int64_t (*clock)(void *user); /* seconds since the epoch; NULL: the host's */
	void *get_user; /* of both */
	struct mfs_events *events;
	int state_dirfd;
	/*
	 * The engine's view of model i changed because of a refresh: a revocation, a minimum, a key that is
	 * no longer trusted, `stale: stop`, or any of these lifted. To be shown at once, loads end at once
	 * (mfs_tree_unpin), `on_change` runs. NULL without a tree. Called without any lock.
	 */
	void (*changed)(void *user, size_t i);
	void *user;
};

/* Reads what is stored; nothing is fetched. errors NO_MEMORY, IO */
enum mfs_code mfs_refresh_new(const struct mfs_refresh_args *args, struct mfs_refresh **out, struct mfs_err *err);
void mfs_refresh_free(struct mfs_refresh *r);
MFS_DEFINE_CLEANUP(refresh, struct mfs_refresh, mfs_refresh_free)

/* Another way to the repository's files (`update --from`): a remote whose repository 0 stands in for it. */
struct mfs_refresh_via {
	struct mfs_remote *remote; /* NULL: the object's own */
};

struct mfs_refresh_result { /* filled as far as known, on failure too */
	bool news;             /* any metadata, policy or trust list differs from what was known */
	int64_t retry_after_s; /* the server's wish; 0 none */
	uint64_t received;     /* bytes over the network */
	unsigned requests;
};

/*
 * Refresh repository `repo`: TUF to the end, trust.json, the policy of every model that follows it;
 * persist; apply (kill switch, minima, key trust) to every exposed path, pinned or held or not.
 * A model whose policy alone fails (vanished, does not parse, goes back) keeps the last one in force and
 * gets no new activation: mfs_refresh_policy_state and mfs_refresh_target say why, the run is none the worse.
 * What cannot be written (a full disk) does not keep what it forbids from acting, from memory if need be; the run then
 * says so, nothing new is activated, and the next run does all of it again.
 * Outcome, time and expiry are recorded for mfs_refresh_status, an event is written when the outcome
 * differs from the last one.
 *
 * errors  METADATA_SIGNATURE_INVALID, METADATA_EXPIRED, ROLLBACK_ATTEMPT, HASH_MISMATCH, MALFORMED,
 *         LIMIT_EXCEEDED, POLICY_REJECTED (trust.json vanished), CLOCK_UNSET (everything was applied, but the
 *         clock is behind the time floor), NET_*, CONDITION_UNMET (cancelled), CONFIG_INVALID (no root),
 *         INSUFFICIENT_STORAGE, IO, COUNTER_UNAVAILABLE (everything was applied, not all of it written), NO_MEMORY
 */
enum mfs_code mfs_refresh_run(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_via *via,
	const _Atomic int *cancel, struct mfs_refresh_result *res, struct mfs_err *err);

/*
 * A pass over the models of a repository begins or ends: in between, mfs_refresh_run() and mfs_refresh_target()
 * leave their TUF run open for the next mfs_refresh_target() by the same way, for MFS_REFRESH_SHARED_S: a thousand
 * models cost one run, not a thousand. What was verified in it counts, and nothing more: time and the policy in
 * force are looked at for each model. A run that failed is never shared. One thread per repository.
 */
#define MFS_REFRESH_SHARED_S 30
void mfs_refresh_pass(struct mfs_refresh *r, size_t repo, bool begin);

/*
 * What passing time alone changes: metadata that has expired with `stale: stop`, the time floor, and room for what
 * could not be written. To be called about once a minute. Seconds until it should be called again at the latest.
 */
int64_t mfs_refresh_tick(struct mfs_refresh *r);

/* ---- what a model should run ----------------------------------------------------------------------- */

enum mfs_refresh_want {
	MFS_REFRESH_NOTHING,  /* what the policy offers is active */
	MFS_REFRESH_INSTALL,  /* mfs_engine_activate() is to be asked for it */
	MFS_REFRESH_ROLLBACK, /* a revocation's rollback_to: mfs_engine_rollback_to() is to be asked */
};

struct mfs_refresh_target { /* release with mfs_refresh_target_clear() */
	enum mfs_refresh_want want;
	struct mfs_vref version;    /* what is offered, also when NOTHING; of an error only if `judged` */
	bool judged;                /* its bytes are those that the metadata names: an error is about them, and no source's */
	char rollout[MFS_VARIANT_MAX + 1]; /* id of the rollout; "" for a rollback */
	unsigned bucket, fraction;  /* of 10000 */
	size_t step;                /* in effect, from 1 */
	char passed[160];           /* with NOTHING: the rollout that passes this host over, and why; "" none does */
	struct mfs_signed bytes;    /* manifest and signatures as received; empty when NOTHING */
	struct mfs_manifest *m;     /* verified by both signatures, equal to TUF path, policy entry and configuration */
};
void mfs_refresh_target_clear(struct mfs_refresh_target *t);

/*
 * What should model i run now? Selects by the policy in force and the effective time; unless that is
 * active already, resolves its manifest and signatures through release.<model_id> in a TUF run of its
 * own or of the pass, fetches and verifies them. Decides nothing about installation: mfs_engine_decide() is next.
 *
 * errors  as mfs_engine_room; NOT_SELECTED (no rollout includes this device, no policy yet, no repository; says why),
 *         METADATA_EXPIRED, CLOCK_UNSET, POLICY_REJECTED (the policy vanished), and whatever the last
 *         refresh of the policy said: nothing new may be activated; REVOKED; SIGNATURE_INVALID,
 *         KEY_UNTRUSTED, MALFORMED, HASH_MISMATCH: as mfs_refresh_run and mfs_bundle_verify
 */
enum mfs_code mfs_refresh_target(struct mfs_refresh *r, size_t i, const struct mfs_refresh_via *via,
	const _Atomic int *cancel, struct mfs_refresh_target *out, struct mfs_err *err);

/*
 * What was signed of a version that this host keeps, and has lost: the very manifest that v names, with its signatures,
 * verified by both, from the repository as it is now. It may be older than anything that is offered. Needs a TUF run.
 *
 * errors  NET_HTTP (the repository has it no longer), HASH_MISMATCH, and as mfs_refresh_target()
 */
enum mfs_code mfs_refresh_signed(struct mfs_refresh *r, size_t i, const struct mfs_vref *v, const _Atomic int *cancel,
	struct mfs_signed *out, struct mfs_err *err);

/*
 * May anything new become active for model i now, as far as freshness, clock and policy go? Asked
 * again right before activation. MFS_OK for a model without a repository.
 * errors  METADATA_EXPIRED, CLOCK_UNSET, POLICY_REJECTED, ROLLBACK_ATTEMPT, MALFORMED (of its policy)
 */
enum mfs_code mfs_refresh_fresh(struct mfs_refresh *r, size_t i, struct mfs_err *err);

/*
 * May a bundle that was brought by hand be installed, as far as freshness goes? MFS_OK with
 * `offline_install: signed` and for a model without a repository: what is known of minima and revocations is
 * mfs_engine_decide()'s. With `fresh` the stored metadata must be fresh, and the policy must offer this very
 * manifest to this device.
 *
 * errors  as mfs_refresh_fresh(); NOT_SELECTED is POLICY_REJECTED here
 */
enum mfs_code mfs_refresh_install_check(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *manifest,
	struct mfs_err *err);

/* The policy in force of model i, from state. errors NOT_SELECTED (there is none), IO, MALFORMED */
enum mfs_code mfs_refresh_policy(struct mfs_refresh *r, size_t i, struct mfs_policy **out, struct mfs_err *err);

/* What the configuration says of this host to policies; borrows from it. */
void mfs_refresh_device(const struct mfs_config *c, size_t i, struct mfs_policy_device *out);

/* ---- time --------------------------------------------------------------------------------------------- */

/* Seconds since the epoch that expiry and rollouts go by: the clock, but never behind the time floor. */
int64_t mfs_refresh_now(struct mfs_refresh *r);

/* CLOCK_UNSET when the clock is behind the floor by more than MFS_CLOCK_SLACK_S; the message names both. */
#define MFS_CLOCK_SLACK_S 600
enum mfs_code mfs_refresh_clock(struct mfs_refresh *r, struct mfs_err *err);

/* ---- for status, metrics, explain ------------------------------------------------------------------------ */

enum mfs_refresh_role { MFS_ROLE_ROOT, MFS_ROLE_TIMESTAMP, MFS_ROLE_SNAPSHOT, MFS_ROLE_TARGETS, MFS_ROLES };

struct mfs_refresh_status { /* of one repository; seconds since the epoch, 0 never or unknown */
	enum mfs_code outcome; char detail[256]; /* of the last refresh */
	int64_t last_check, last_success;
	struct { int64_t version, expires; } roles[MFS_ROLES];
	bool expired;          /* nothing new is activated */
	bool behind;           /* the clock is behind the time floor */
};
void mfs_refresh_status(struct mfs_refresh *r, size_t repo, struct mfs_refresh_status *out);

/* Why the policy of model i could not be renewed; MFS_OK: it is as the repository has it. detail: 256 bytes. */
enum mfs_code mfs_refresh_policy_state(struct mfs_refresh *r, size_t i, char detail[256]);

#endif
