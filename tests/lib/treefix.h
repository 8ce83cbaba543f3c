/* SPDX-License-Identifier: Apache-2.0 */
/*
 * treefix.h - a serve without disk, keeper or kernel: an engine, contents, status documents and a
 * session made of memory, so that the tree can be driven alone.
 */
#ifndef MFS_TEST_TREEFIX_H
#define MFS_TEST_TREEFIX_H

#include "fusewire.h"
#include "serve.h"

#define FIX_VERSIONS 8

struct fix_model { /* what the engine has; change under fix_lock, then mfs_view_refresh */
	struct mfs_engine_version versions[FIX_VERSIONS];
	size_t n;
	uint64_t generation;
	uint64_t exposure_next; /* durable: survives fix_restart */
	struct mfs_version *staged; /* what mfs_engine_candidate_set finds in the store; durable too */
	bool candidate; /* it is set */
};

struct fix {
	struct mfs_serve serve;
	struct mfs_config config;
	struct mfs_config_model models[2]; /* "det", "other" */
	struct mfs_shm *shm;
	struct fix_model engine[2];
	struct wire wire;
	unsigned touched[2]; /* MFS_K_TOUCH notifications */
	unsigned hooks; /* asked for */
	struct mfs_job_request hook; char hook_version[80], hook_previous[80]; /* the last; "-" for NULL */
	_Atomic unsigned epochs;
	_Atomic unsigned renders;
	const char *status; /* the text of every document */
	enum mfs_code exposures_code; /* outcome of taking exposure numbers */
	mfs_content_failed_fn *failed; /* what the tree registered with the cache */
	void *failed_user;
	unsigned events;
	char event_model[MFS_ID_MAX + 1], event_detail[256]; /* of the last event */
	enum mfs_code read_code; /* outcome of every content read */
	bool defer;              /* slow_begin refuses: the work is run by fix_run_deferred */
	void (*deferred)(void *arg);
	void *deferred_arg;
};

extern struct fix *fix_global;

void fix_open(struct fix *f);
/* A new serve on the same memory: what kill -9 leaves. */
void fix_restart(struct fix *f);
void fix_close(struct fix *f);

/*
 * A version with these files, "name=size" separated by spaces; a trailing "*" makes one executable.
 * Its manifest id is 32 times `id`. Byte k of file i reads as (uint8_t)(id + i + k).
 */
struct mfs_version *fix_version(uint8_t id, const char *version, int64_t release, const char *files);

/* The engine's list of model i: active first; ownership of v is taken. Then refresh. */
void fix_show(struct fix *f, size_t i, struct mfs_version *active, struct mfs_version *previous);

uint8_t fix_byte(uint8_t id, size_t file, uint64_t off);

#endif
