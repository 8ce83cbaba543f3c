/* SPDX-License-Identifier: Apache-2.0 */
/*
 * update.h - who calls the update cycle, and when. Two threads whatever the number of models:
 *
 *	refresher  checks of repositories (interval with jitter, backoff that survives restarts, commands),
 *	           what they offer, and the probation of what was activated
 *	worker     the steps of attempts, one model at a time, those of a command first
 *
 * A check is made whatever the conditions are. Neither thread is ever waited for by a FUSE request.
 */
#ifndef MFS_UPDATE_H
#define MFS_UPDATE_H

#include "cycle.h"

struct mfs_update;

struct mfs_update_args { /* borrowed, all of it */
	struct mfs_cycle_run run;
	/*
	 * TUF and policies of one repository, applied: mfs_refresh_run(). via NULL: its own remote.
	 * *retry_after_s, *news as in struct mfs_refresh_result.
	 */
	enum mfs_code (*refresh)(void *user, size_t repo, struct mfs_remote *via, const _Atomic int *cancel,
		int64_t *retry_after_s, bool *news, struct mfs_err *err);
	/* What repository `repo` offers to each of its models is asked for from now on, and no more: mfs_refresh_pass(). NULL without. */
	void (*pass)(void *user, size_t repo, bool begin);
	/* What time alone changes; seconds until it wants to be called again: mfs_refresh_tick(). */
	int64_t (*tick)(void *user);
	int64_t (*boot_ms)(void *user); /* CLOCK_BOOTTIME */
	void *user;
};

enum mfs_code mfs_update_new(const struct mfs_update_args *args, struct mfs_update **out, struct mfs_err *err);
enum mfs_code mfs_update_start(struct mfs_update *u, struct mfs_err *err); /* the threads */
/* What runs ends early; then both threads are joined. NULL is fine. */
void mfs_update_stop(struct mfs_update *u);
void mfs_update_free(struct mfs_update *u);
MFS_DEFINE_CLEANUP(update, struct mfs_update, mfs_update_free)

/*
 * The bodies of the threads, once: for tests without threads. Milliseconds until there is something to
 * do; 0 something was done.
 */
int64_t mfs_update_turn_refresher(struct mfs_update *u);
int64_t mfs_update_turn_worker(struct mfs_update *u);

/*
 * Model i changed by a command (installed, unpinned, marked, reloaded): observe it, look at its attempt
 * again, and with `check` ask its repository again soon.
 */
void mfs_update_kick(struct mfs_update *u, size_t i, bool check);

/* ---- commands ------------------------------------------------------------------------------------------ */

#define MFS_UPDATE_ASKS 16

/*
 * Check the repository of model i (config->n_models: of all), and with `update` bring what is offered.
 *
 * via      taken over, also on failure: the files come from there (`update --from`); NULL: as configured
 * ticket   for the two below
 * errors   CONFIG_INVALID (no repository; with via: more than one), RATE_LIMITED (MFS_UPDATE_ASKS are open), NO_MEMORY
 */
enum mfs_code mfs_update_ask(struct mfs_update *u, size_t model, bool update, struct mfs_remote *via, uint64_t *ticket,
	struct mfs_err *err);

struct mfs_update_answer {
	bool final;
	enum mfs_code code; /* final: OK something was activated (or, of a check, is offered) */
	int exit_code;      /* final: 0, 2 nothing to do, 3 refused, 4 retry later, 5 no space, 1 */
	char detail[512];   /* final: one line, of all models with something to say as far as it fits */
	/* before that: what is done now */
	size_t model;       /* config->n_models: none yet, it is being checked */
	enum mfs_step step;
	uint64_t done, total, rate; /* bytes, bytes a second; total 0: not known */
};
void mfs_update_poll(struct mfs_update *u, uint64_t ticket, struct mfs_update_answer *out);
/* What was begun goes on, by the configured way. */
void mfs_update_forget(struct mfs_update *u, uint64_t ticket);

/* ---- for status; memory only ------------------------------------------------------------------------------ */

struct mfs_update_facts {
	bool working;               /* the worker is on this model */
	uint64_t done, total, rate; /* of the download under way; total 0: none */
	int64_t wait_s;             /* until the next try; 0 none */
	enum mfs_code offer; char offer_detail[256]; /* of the last check, since serve started; OK without */
	bool offered;               /* there was one */
	bool current;               /* and it said: the newest there is for anybody is active */
};
/* What the last check found, where none was made since the start: as the cycle document keeps it. */
void mfs_update_recalled(struct mfs_update_facts *f, const struct mfs_engine_update *u);
void mfs_update_facts(struct mfs_update *u, size_t i, struct mfs_update_facts *out);

/* Has a model other than i something to do right now? What is worth doing once for all of them waits for that. */
bool mfs_update_due(struct mfs_update *u, size_t i);

/* From the download of model i, in the worker's thread. */
void mfs_update_progress(struct mfs_update *u, size_t i, uint64_t done, uint64_t total, uint64_t rate);
/* From the part `changed` of struct mfs_cycle_parts: model i shows another version now. */
void mfs_update_swapped(struct mfs_update *u, size_t i);

#endif
