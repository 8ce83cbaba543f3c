/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what is installed and active: state, store and decisions, without FUSE.
 *
 * serve runs one engine for the mount; an offline command runs one under state/lock. Changes are
 * serialised by the engine's lock; observers are called with it held and must be quick.
 * mfs_engine_model_get never waits for a change or for the disk. Every change and refusal is
 * also an event (source "install", "control", "mount", "gc", "recover"). Threads any.
 */
#ifndef MFS_ENGINE_H
#define MFS_ENGINE_H

#include "events.h"
#include "trusted.h"
#include "version.h"

struct mfs_engine_args {
	const struct mfs_config *config; /* must outlive the engine, as all below */
	const struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_cache *cache; /* NULL: versions are not opened for reading (offline commands) */
	struct mfs_events *events;
	int state_dirfd;
	unsigned flags; /* enum mfs_trusted_flags */
};

struct mfs_engine_version {
	struct mfs_version *v; /* referenced */
	bool active, previous;
	int64_t activated_ns; /* ctime of its folders */
};

struct mfs_engine_model { /* a copy: release with mfs_engine_model_free() */
	struct mfs_engine_version *versions; size_t n; /* active first, then retained, newest first */
	uint64_t generation;
	bool held;
	int64_t active_since;
	enum mfs_code last_outcome; int64_t last_outcome_time; char last_detail[256];
	int64_t floor_epoch, floor_release;
	enum mfs_code absent; /* why there is no active version though the anchor names one; OK otherwise */
	char absent_detail[256];
};

struct mfs_engine;

/*
 * Load the trusted state and every active and retained version (signatures and key trust are
 * checked anew). A model whose active version does not verify has none (reason kept), never an older one.
 */
enum mfs_code mfs_engine_open(const struct mfs_engine_args *args, struct mfs_engine **out, struct mfs_err *err);
void mfs_engine_close(struct mfs_engine *e);

/* `fn` is called with the engine's lock held, after model `i` changed (activation, rollback, withdraw, gc). */
typedef void mfs_engine_changed_fn(void *user, size_t i, const struct mfs_engine_model *m);
void mfs_engine_observe(struct mfs_engine *e, mfs_engine_changed_fn *fn, void *user);

enum mfs_code mfs_engine_model_get(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, struct mfs_err *err);
void mfs_engine_model_free(struct mfs_engine_model *m);

/*
 * May this verified manifest become the active version of model i? Asked before its bytes are
 * copied; mfs_engine_activate decides again. Only the fields of a struct mfs_vref, the model_id,
 * the manifest's hash (id) and compat.depends are looked at. `now` receives the active version ("" without one).
 *
 * errors  as mfs_decide_install; HELD when a rollback or pin holds the model
 */
enum mfs_code mfs_engine_decide(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	char now[MFS_VERSION_MAX + 1], struct mfs_err *err);

/*
 * Make an installed version (blobs and manifest in the store) the active one of model i:
 * decide, load, check that every blob stands in the store, write anchor and cycle, observe.
 * `from`, `to`  receive version strings (MFS_VERSION_MAX + 1)
 * returns OK; NOT_SELECTED is never returned; *same true when it was already active
 */
enum mfs_code mfs_engine_activate(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool *same,
	char *from, char *to, struct mfs_err *err);

/*
 * An installation for model i failed before activation was asked for: an event and the model's
 * last outcome. version may be NULL.
 */
void mfs_engine_refused(struct mfs_engine *e, size_t i, const char *version, enum mfs_code code, const char *detail);

/*
 * Back to `previous`; holds the model until _unpin: while it is held, activation of another version
 * is refused (HELD). errors NOT_SELECTED (nothing to go back to), IO (its blobs are gone), as above
 */
enum mfs_code mfs_engine_rollback(struct mfs_engine *e, size_t i, char *from, char *to, struct mfs_err *err);
enum mfs_code mfs_engine_unpin(struct mfs_engine *e, size_t i, bool *was_held, struct mfs_err *err);

/*
 * Remove versions beyond `retain` and blobs nobody names. busy() says whether the kernel still
 * holds a version (kept then); NULL: nothing is held.
 */
enum mfs_code mfs_engine_gc(struct mfs_engine *e, bool (*busy)(void *user, const struct mfs_sha256 *id), void *user,
	uint64_t *freed, size_t *removed, struct mfs_err *err);

/* Verify every stored byte of model i (all its versions). Long; the lock is not held while it reads. */
enum mfs_code mfs_engine_verify(struct mfs_engine *e, size_t i, _Atomic int *cancel, _Atomic uint64_t *done,
	struct mfs_err *err);

/*
 * `n` fresh exposure numbers of model i, durable before they are returned (the first of n
 * consecutive ones).
 */
enum mfs_code mfs_engine_exposures(struct mfs_engine *e, size_t i, unsigned n, uint64_t *first, struct mfs_err *err);

const char *mfs_engine_protection(struct mfs_engine *e); /* valid as long as the engine; takes no lock */

/*
 * `modelfs recover`: replace lost, damaged or replayed state. Offline, as root, under state/lock.
 * The new floor of each configured model is the highest of the readable copies of the anchor
 * (whatever their generation) and of all manifests in state and store whose signatures verify
 * now; that highest manifest is active if its blobs stand in the store, else nothing is. What was
 * found is an event. args->cache is not used. A readable state keeps its minima, revocations and
 * bad versions. The file counter is set above every generation seen.
 */
enum mfs_code mfs_engine_recover(const struct mfs_engine_args *args, struct mfs_err *err);

/* ---- installation of a bundle into a store (install.c); no engine needed --------------------- */

/*
 * Copy and verify a bundle into the store: manifest and signatures first, then every payload and
 * table byte as it is copied; tags too when the content key is at hand (a wrong model key is found
 * here). Decides nothing about activation. Call with install.lock held.
 *
 * bundle_fd  the bundle's folder (RESOLVE_BENEATH, no links, regular files only)
 * model      in: index or -1 to find it by the manifest's model_id; out: the index
 * decide     called after the manifest verified and before any byte is copied; may refuse
 * progress   may be NULL
 * errors     every trust outcome with file and offset, INSUFFICIENT_STORAGE, KEY_UNAVAILABLE,
 *            NOT_SELECTED (model not configured)
 */
struct mfs_install_args {
	const struct mfs_config *config;
	const struct mfs_keys *keys;
	struct mfs_store *store;
	int bundle_fd;
	const char *bundle_name; /* for messages */
	ssize_t model;
	enum mfs_code (*decide)(void *user, size_t model, const struct mfs_manifest *m, struct mfs_err *err);
	void (*progress)(void *user, uint64_t done, uint64_t total);
	void *user;
};
enum mfs_code mfs_install_bundle(struct mfs_install_args *args, struct mfs_sha256 *id, struct mfs_err *err);

/* The host as mfs_compat_check wants it: platform, memory, page size, configured labels and versions. */
void mfs_device_describe(const struct mfs_config *c, size_t model, struct mfs_device *out);

#endif
