/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrap.h - a wrapped content key from a repository: grants/<model_key_id>/<content_key_id>.kwp (formats 5), for a model
 * key that the manifest itself has no wrap for. Unsigned: it counts when it opens to the key that content_key_id names.
 */
#ifndef MFS_UPDATE_WRAP_H
#define MFS_UPDATE_WRAP_H

#include "keys.h"
#include "remote.h"
#include "store.h"

struct mfs_wrap_ask { /* borrowed, all of it */
	const struct mfs_config *config;
	const struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_remote *remote;
	bool via;                     /* the remote knows one repository and no mirrors (mfs_remote_adopt) */
	size_t model;                 /* of config->models, which follows a repository */
	const struct mfs_manifest *m; /* verified */
	const _Atomic int *cancel;    /* may be NULL */
};

/*
 * Bring it into the store, asking mirrors first, then the repository, each once. That it is not there is the normal
 * answer. It costs nothing of the daily byte budget: 40 bytes.
 *
 * retry_after_s  what a source that gave no answer asks for; 0 without
 * errors         KEY_UNAVAILABLE (no model key; nowhere, or none that opens: says how many), NET_* (nobody answered),
 *                CONDITION_UNMET (cancelled), IO, INSUFFICIENT_STORAGE, NO_MEMORY
 */
enum mfs_code mfs_wrap_fetch(const struct mfs_wrap_ask *a, int64_t *retry_after_s, struct mfs_err *err);

#endif
