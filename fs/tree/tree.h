/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - the mounted tree of interface.md section 1: nodes, links, folders, handles, pins.
 *
 * The published view of a model is replaced as a whole (mfs_tree_publish); a request sees the old
 * view or the new one. Node ids are pure functions of what they name, so every serve has the same.
 * Threads any.
 */
#ifndef MFS_TREE_H
#define MFS_TREE_H

#include <fuse_lowlevel.h>

#include "shm.h"
#include "version.h"

struct mfs_serve;
struct mfs_tree;

#define MFS_SHOWN_MAX (MFS_VERSION_MAX + 1 + MFS_VARIANT_MAX) /* bytes of a name below versions/ */

struct mfs_exposed {
	struct mfs_version *v; /* a reference is taken */
	uint32_t exposure_index; /* in shm->exposures: exposure number and tier */
	bool active, previous, candidate;
	bool checked; /* candidate and nothing else: shown to the health check's user alone */
	int64_t activated_ns;
};

/* Starts the thread of the tree, which finds it as s->tree: out is &s->tree. */
enum mfs_code mfs_tree_new(struct mfs_serve *s, struct mfs_tree **out, struct mfs_err *err);
void mfs_tree_free(struct mfs_tree *t);

/* Replace what model i shows. Counts as a swap when the active manifest changed. */
enum mfs_code mfs_tree_publish(struct mfs_tree *t, size_t i, const struct mfs_exposed *versions, size_t n,
	uint64_t generation, struct mfs_err *err);

/*
 * Keep answering for a version that is no longer shown: its nodes may still be open (called at
 * start for exposures found in shm that belong to no published version).
 */
enum mfs_code mfs_tree_keep(struct mfs_tree *t, size_t i, const struct mfs_exposed *version, struct mfs_err *err);

/* The tier in which a version of model i is shown now; paged when it is not shown. Threads any. */
enum mfs_tier mfs_tree_tier(struct mfs_tree *t, size_t i, const struct mfs_sha256 *manifest);

/* Open handles of an exposure, from shm. */
unsigned mfs_tree_handles(struct mfs_tree *t, uint32_t exposure_index);

/*
 * Pins (interface 1): wait until no process is still loading the version that was active before
 * the last swap, at most until 60 s after it. mfs_tree_unpin ends all loads of the model at once.
 */
void mfs_tree_wait_loads(struct mfs_tree *t, size_t i);
void mfs_tree_unpin(struct mfs_tree *t, size_t i);

/*
 * The line of model i's `generation` file as last announced, newline included: "counter version
 * release manifest-hash", "counter - 0 -" without an active version. Returns its length; cut at cap.
 */
size_t mfs_tree_generation(struct mfs_tree *t, size_t i, char *out, size_t cap);

extern const struct fuse_lowlevel_ops mfs_tree_ops; /* userdata: struct mfs_serve */

/* ---- view.c: engine + exposures in shm -> tree ------------------------------------------------ */

/*
 * Publish model i as the engine has it now: exposures already in shm are used again, new ones get
 * a fresh durable number (paged; residency exposes again when a resident copy is ready). Then
 * the caller waits for loads, and calls mfs_view_announce. Never from a FUSE request.
 */
enum mfs_code mfs_view_refresh(struct mfs_serve *s, size_t i, struct mfs_err *err);

/*
 * `generation` changes now: keeper's child touches it, inotify fires. When another version is active than
 * was announced last, on_change is asked for, with `outcome` as why it changed (OK: nothing was wrong). A
 * crash before the end repeats both.
 */
enum mfs_code mfs_view_announce(struct mfs_serve *s, size_t i, enum mfs_code outcome, struct mfs_err *err);
/* Was any version active when it was announced last? */
bool mfs_view_announced(struct mfs_serve *s, size_t i);

/* A resident copy of version `id` stands ready under shm->exposures[index]: expose it under its new node ids. */
enum mfs_code mfs_view_resident_ready(struct mfs_serve *s, size_t i, uint32_t exposure_index, struct mfs_err *err);

/*
 * The candidate of model i (interface 1): the link `candidate` leads to versions/<version>, which is
 * private to the user of the model's health command (folder 0500, owned by it, its files too) unless
 * the version is active or retained, and shown, anyway. Beside another variant of the same version it is
 * called versions/<version>+<variant>, which no version is ever called. Remembered in the memory shared with keeper: a
 * successor of this serve shows it again, so a check goes on over a crash; a new mount does not.
 * Activating it gives it the ordinary owner and mode under the same node ids.
 *
 * name    receives what it is called below versions/
 * errors  as mfs_engine_candidate_set; CONDITION_UNMET: another model's candidate belongs to the same user
 */
enum mfs_code mfs_view_candidate_set(struct mfs_serve *s, size_t i, const struct mfs_sha256 *id,
	char name[MFS_SHOWN_MAX + 1], struct mfs_err *err);
enum mfs_code mfs_view_candidate_clear(struct mfs_serve *s, size_t i, struct mfs_err *err);

/* At the start of a serve, before the model's first refresh: what the serve before it was checking. */
void mfs_view_candidate_restore(struct mfs_serve *s, size_t i);

/*
 * Exposures, for view and residency. _expose takes a fresh durable number and a free record of
 * shm->exposures for version v of model i (nothing is shown yet). _retire: true when the exposure
 * is neither shown nor held by an open handle, and closes it, so that nothing opens it any more:
 * a resident one's files may be dropped then. _forget gives the record back afterwards (residency
 * does so for resident exposures once their files are dropped; the view does for paged ones).
 * errors  LIMIT_EXCEEDED (no free record), else as mfs_engine_exposures
 */
enum mfs_code mfs_view_expose(struct mfs_serve *s, size_t i, const struct mfs_version *v, enum mfs_tier tier,
	uint32_t *index, struct mfs_err *err);
bool mfs_view_retire(struct mfs_serve *s, uint32_t exposure_index);
void mfs_view_forget(struct mfs_serve *s, uint32_t exposure_index);

/* For gc: does the kernel or a pin still hold this version? user: struct mfs_serve. */
bool mfs_view_busy(void *user, const struct mfs_sha256 *id);

#endif
