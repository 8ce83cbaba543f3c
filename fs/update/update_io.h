/* SPDX-License-Identifier: Apache-2.0 */
/* update_io.h - shared by update*.c only. */
#ifndef MFS_UPDATE_IO_H
#define MFS_UPDATE_IO_H

#include <pthread.h>
#include <stdatomic.h>

#include "update.h"

struct mfs_via { /* a remote of a command; freed when the last model that comes by it is done */
	struct mfs_remote *remote;
	unsigned refs; /* under lock */
};

struct mfs_update_model { /* under lock, but for the atomics */
	bool active;        /* may have an attempt: the worker looks */
	bool observing;     /* may be under observation: the refresher looks */
	int64_t due_ms;     /* of the next step; CLOCK_BOOTTIME, as the two below */
	int64_t observe_ms; /* the next look */
	int64_t observed_ms; /* the last look */
	uint64_t looks;     /* counts what asks for one anew: the end of a look that began before says nothing about it */
	bool by_hand;       /* a command waits for it */
	uint64_t swaps;     /* number of the last swap here; 0 none since start */
	struct mfs_via *via; /* NULL: as configured; lent until the command that brought it ends */
	struct mfs_sha256 via_for; /* manifest that is to come by it */
	enum mfs_code offer;
	char offer_detail[256];
	char offer_version[MFS_VERSION_MAX + 1]; /* with OK */
	bool offered;
	bool current;       /* what is offered is active, and nothing newer is for others */
	_Atomic int cancel; /* the running step */
	_Atomic uint64_t done, total, rate;
};

enum mfs_ask_state { MFS_ASK_FREE, MFS_ASK_CHECKING, MFS_ASK_UPDATING, MFS_ASK_DONE };

struct mfs_ask { /* under lock */
	enum mfs_ask_state state;
	uint64_t id;
	size_t model;      /* n_models: all */
	bool update;
	struct mfs_via *via;
	size_t repos_left; /* still to be checked */
	uint64_t swaps;    /* number of the last swap when it was asked */
	enum mfs_code code; /* of the checks */
	char detail[256];
};

struct mfs_update_repo { /* under lock */
	bool asked;          /* check now */
	bool checking;
	struct mfs_via *via;
	int64_t due_ms;      /* CLOCK_BOOTTIME of the next check */
	bool waits[MFS_UPDATE_ASKS]; /* asks that the next check answers */
	bool answers[MFS_UPDATE_ASKS]; /* asks that the running one answers */
};

struct mfs_update {
	struct mfs_update_args args;
	size_t n_models, n_repos;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC: either thread has something new to look at */
	struct mfs_update_model *models;
	struct mfs_update_repo *repos;
	struct mfs_ask asks[MFS_UPDATE_ASKS];
	uint64_t asked, swaps;
	size_t working;     /* model; n_models: none */
	size_t next;        /* where the worker looks first, so that all get their turn */
	int64_t tick_ms;
	bool looked;        /* the refresher's last turn was a probation: a check that is due comes first now */
	_Atomic int cancel_refresh;
	_Atomic bool stop;
	pthread_t refresher, worker;
	bool started[2];
};

/* Hold lock. */
void mfs_via_unref(struct mfs_via *v);
/* The check of `repo` ended: every ask that it answers goes on. Without lock. */
void mfs_update_answered(struct mfs_update *u, size_t repo, enum mfs_code code, const char *detail);
bool mfs_update_follows(const struct mfs_update *u, size_t i, size_t repo);

#endif
