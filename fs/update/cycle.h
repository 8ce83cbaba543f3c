/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cycle.h - the update of one model as a state machine (design 8):
 *
 *	offer -> DOWNLOAD -> VERIFY -> STAGE -> HEALTH -> ACTIVATE -> OBSERVE -> commit
 *
 * Each step is durable in the cycle document before it runs (modelfs-state(5), UPDATES) and may be
 * repeated: after a crash mfs_cycle_step() goes on where the document stands. The active version
 * is touched by the last two only, through the engine. What reaches beyond engine and store (network, health
 * checks, the tree, the clock) is behind struct mfs_cycle_parts, so that tests bring their own.
 *
 * No threads and no waiting in here: update.c calls it, one thread per model at a time.
 */
#ifndef MFS_CYCLE_H
#define MFS_CYCLE_H

#include "engine.h"
#include "jobs.h"
#include "schedule.h"

struct mfs_remote;
struct mfs_refresh;

/* What a model should run now. Release with mfs_cycle_offer_clear(). */
struct mfs_cycle_offer {
	bool none;     /* what the policy offers is active */
	bool rollback; /* a revocation's rollback_to */
	struct mfs_cycle_version v; /* also when an error concerns it */
	struct mfs_signed bytes;    /* as received; with !none */
	struct mfs_manifest *m;     /* verified; with !none */
	char rollout[MFS_VARIANT_MAX + 1];
	char passed[160];           /* with none: why something newer is for others; "" nothing is */
};
void mfs_cycle_offer_clear(struct mfs_cycle_offer *o);

struct mfs_cycle_news { /* of a check, beside its code */
	bool superseded; /* the attempt under way has ended or changed: a step that runs now is to be cancelled */
	bool current;    /* NOT_SELECTED because the newest there is for anybody is active */
};

/* mfs_refresh_target() as the part `target` wants it. out: zero before. */
enum mfs_code mfs_cycle_target(struct mfs_refresh *refresh, size_t i, struct mfs_remote *via, const _Atomic int *cancel,
	struct mfs_cycle_offer *out, struct mfs_err *err);

struct mfs_cycle_parts {
	void *user;
	bool mended; /* blobs that the store lost are brought again by somebody else: a mount's scrub */
	int64_t (*now)(void *user);      /* seconds since the epoch, never behind the time floor */
	uint32_t (*random)(void *user);
	/* errors as mfs_refresh_target() */
	enum mfs_code (*target)(void *user, size_t i, struct mfs_remote *via, const _Atomic int *cancel,
		struct mfs_cycle_offer *out, struct mfs_err *err);
	/* May anything new become active, as far as freshness goes? As mfs_refresh_fresh(). */
	enum mfs_code (*fresh)(void *user, size_t i, struct mfs_err *err);
	/*
	 * The wrap of v's content key for this host's model key, into the store, where the manifest has none. Errors as
	 * mfs_wrap_fetch(). NULL: nobody can be asked.
	 */
	enum mfs_code (*wrap)(void *user, size_t i, const struct mfs_manifest *m, struct mfs_remote *via,
		const _Atomic int *cancel, int64_t *retry_after_s, struct mfs_err *err);
	/* Errors as mfs_download_version(). */
	enum mfs_code (*download)(void *user, size_t i, struct mfs_version *v, struct mfs_remote *via,
		const _Atomic int *cancel, int64_t *retry_after_s, struct mfs_err *err);
	void (*drop)(void *user, size_t i); /* what is staged for model i is not wanted any more */
	/* Errors as mfs_health_check(). */
	enum mfs_code (*health)(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel,
		struct mfs_err *err);
	void (*facts)(void *user, const _Atomic int *cancel, struct mfs_cycle_facts *out); /* cancel may be NULL */
	uint64_t (*free_bytes)(void *user); /* of the store */
	/* The engine changed what model i shows: the view, who is loading, `generation`, on_change. May wait for loaders. */
	void (*changed)(void *user, size_t i, enum mfs_job_reason reason, enum mfs_code outcome);
	void (*rejected)(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why); /* on_reject */
	void (*collect)(void *user, size_t i); /* what fell out of `retain` of model i */
};

struct mfs_cycle_run { /* borrowed, all of it */
	const struct mfs_config *config;
	struct mfs_engine *engine;
	const struct mfs_cycle_parts *parts;
};

/*
 * After a refresh: what should model i run, and begin, go on with or supersede the attempt. Of the active version what
 * this host has lost, so that it cannot be shown, is an attempt too. An attempt for another version ends (its step is to
 * be cancelled by the caller when news->superseded says so).
 *
 * by_hand     a command asks: pauses end
 * returns     OK: there is something to do; NOT_SELECTED: nothing (the message says why)
 * errors      a refusal, PINNED, HELD, or why it is not known; all of it is in status afterwards, new
 *             refusals are events and run on_reject once
 */
enum mfs_code mfs_cycle_offer(const struct mfs_cycle_run *r, size_t i, struct mfs_remote *via, bool by_hand,
	const _Atomic int *cancel, struct mfs_cycle_news *news, struct mfs_err *err);

#define MFS_CYCLE_IDLE (-1)

/*
 * Run one step of model i's attempt, if it is due.
 *
 * cancel   nonzero ends a long step early; the attempt stays where it is and nothing is counted
 * returns  seconds until it is to be called again, 0 at once, MFS_CYCLE_IDLE: there is no attempt
 */
int64_t mfs_cycle_step(const struct mfs_cycle_run *r, size_t i, struct mfs_remote *via, const _Atomic int *cancel);

/*
 * Watch the active version of model i if it is not committed: `elapsed` seconds passed since the last call.
 * At intervals the health check runs; its verdict condemns the version and goes back to `previous`. The last
 * one commits.
 *
 * returns  seconds until it is to be called again, MFS_CYCLE_IDLE: nothing is observed
 */
int64_t mfs_cycle_observe(const struct mfs_cycle_run *r, size_t i, int64_t elapsed, const _Atomic int *cancel);

/*
 * An installation by hand of a version whose blobs stand in the store: health check, activation, and
 * observation if the model has a health command (else it is committed at once: the operator decided).
 * Errors and results as mfs_engine_activate(), HEALTH_CHECK_FAILED condemns as in a cycle.
 */
enum mfs_code mfs_cycle_install(const struct mfs_cycle_run *r, size_t i, const struct mfs_sha256 *id,
	const _Atomic int *cancel, bool *same, char *from, char *to, struct mfs_err *err);

#endif
