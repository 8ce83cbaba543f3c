/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - a device without a mount: configuration, keys, store, state and engine in a private
 * folder, for the tests of installation and of the engine. Aborts when it cannot be made.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "engine.h"
#include "mkbundle.h"
#include "scratch.h"

struct device {
	char root[256];
	int root_fd, state_fd, store_fd;
	struct mk_signer *signer;
	struct mfs_key model_key;
	struct mfs_config_snapshot *snapshot;
	struct mfs_config *config;
	struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_cache *cache;
	struct mfs_events *events;
	struct mfs_held *held;     /* keeper's memory; NULL: a test that needs none */
	struct mfs_engine *engine; /* between device_open and device_close */
	enum mfs_code (*decide)(void *user, size_t model, const struct mfs_manifest *m, struct mfs_err *err);
	bool small;
};

/* `more` is appended to the configuration: models det (model_key) and seg (without one) exist. */
void device_make(struct device *d, const char *more);
void device_free(struct device *d);

void device_bundle(struct device *d, const struct mk_bundle *b, const char *name, struct mfs_sha256 *id);
void device_unbundle(struct device *d, const char *name);

/* mfs_install_bundle under the store's lock. */
enum mfs_code device_copy(struct device *d, const char *name, struct mfs_sha256 *id, struct mfs_err *err);

enum mfs_code device_try_open(struct device *d, unsigned flags, struct mfs_err *err);
void device_open(struct device *d);
void device_close(struct device *d);
enum mfs_code device_recover(struct device *d, struct mfs_err *err);
enum mfs_code device_activate(struct device *d, const struct mfs_sha256 *id, struct mfs_err *err);

/* Make, copy, activate: one version of model det. Fails the test when it is refused. */
void device_install(struct device *d, const struct mk_bundle *b, struct mfs_sha256 *id);

unsigned device_blobs(struct device *d);
void device_blob_path(struct device *d, unsigned i, char *out, size_t cap); /* i-th in readdir order */
uint64_t device_blob_size(struct device *d, const char *path);

/* Put a tmpfs over the store; false without the right to mount. */
bool device_small_store(struct device *d, const char *options);
void device_small_store_end(struct device *d);
/* The same over a state that nothing was written to yet; no engine is open. */
bool device_small_state(struct device *d, const char *options);
void device_small_state_end(struct device *d);

#endif
