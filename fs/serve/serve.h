/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h - the context of the serve process: built once at start in the order of the fields,
 * torn down in reverse. The pointers do not change while requests are served.
 */
#ifndef MFS_SERVE_H
#define MFS_SERVE_H

#include "control.h"
#include "engine.h"
#include "jobs.h"
#include "klink.h"
#include "remote.h"
#include "repair.h"
#include "residency.h"
#include "sandbox.h"
#include "scrub.h"
#include "session.h"
#include "status.h"
#include "telemetry.h"
#include "tree.h"
#include "updates.h"

struct mfs_serve {
	struct mfs_config *config;
	struct mfs_shm *shm;
	struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_cache *cache;
	struct mfs_events *events;
	struct mfs_held *held; /* NULL: keeper has no such memory */
	struct mfs_engine *engine;
	struct mfs_tree *tree;
	struct mfs_klink *klink;
	struct mfs_remote *remote; /* fetch; started when it is first asked */
	struct mfs_jobs *jobs;
	struct mfs_session *session;
	struct mfs_residency *residency;
	struct mfs_telemetry *telemetry; /* NULL: off */
	struct mfs_updates *updates;
	struct mfs_repairs *repairs;
	struct mfs_scrub *scrub;
	struct mfs_control *control;
	struct mfs_sandbox_report sandbox;
	int state_dirfd;
	int64_t started_ms; /* CLOCK_BOOTTIME */
};

#endif
