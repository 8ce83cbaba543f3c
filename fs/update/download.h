/* SPDX-License-Identifier: Apache-2.0 */
/*
 * download.h - bringing the blobs of a version from a repository into the store (design 8, step 2).
 *
 * Chunk tables first, each verified against the signed manifest, then the payloads in ranges over the parts of a
 * blob (formats 5). Every chunk is verified against its table as it lands, before it is written; a batch is on disk
 * before the journal says so. What lies in staging/ is never trusted: after a restart every chunk that a journal
 * claims is read and verified again, and no length means anything. Nothing is renamed into blobs/ before all of it
 * verified.
 *
 *	store/staging/dl-<id>/<hash>.data     the payload so far, sparse
 *	store/staging/dl-<id>/<hash>.journal  modelfs-state(5), DOWNLOAD JOURNAL
 *
 * Whatever a source sends can cost time, budget and one chunk per fault; it never condemns the version.
 */
#ifndef MFS_DOWNLOAD_H
#define MFS_DOWNLOAD_H

#include "mfs_config.h"
#include "remote.h"
#include "store.h"

struct mfs_download; /* one repository's downloads: sources with their faults, worker threads' limits */

/* ---- where bytes come from ----------------------------------------------------------------------------- */

struct mfs_download_get { /* one GET of one part */
	unsigned source; /* 0 ... n_mirrors - 1: a mirror; n_mirrors: the repository itself */
	const struct mfs_sha256 *hash;
	uint32_t part;
	uint64_t from, length; /* bytes within the part, length > 0 */
	uint64_t discard;      /* as in struct mfs_remote_request: a server without ranges may be read over */
	unsigned deadline_ms;
	const _Atomic int *cancel;
	/* Bytes from `from` on, in order; anything but MFS_OK ends the request with that code. In the calling thread. */
	enum mfs_code (*sink)(void *user, const void *p, size_t n, struct mfs_err *err);
	void *(*room)(void *user, size_t *n); /* as in struct mfs_remote_request; a source need not ask */
	void *user;
};

struct mfs_download_got { /* filled as far as known, on failure too */
	unsigned http;         /* status; 0 no answer. 200 with NET_PROTOCOL: no range where one was asked for */
	uint64_t received;     /* body bytes that came for it, discarded ones too */
	int64_t retry_after_s; /* 0 without */
};

/*
 * Threads any, several at a time. MFS_OK: the answer ended as it should (fewer bytes than asked for if the part
 * ends before); mfs_remote_get() for the errors.
 */
typedef enum mfs_code mfs_download_get_fn(void *user, const struct mfs_download_get *q, struct mfs_download_got *got,
	struct mfs_err *err);

/* ---- downloads ------------------------------------------------------------------------------------------- */

struct mfs_download_args { /* all borrowed: they outlive the mfs_download */
	struct mfs_store *store;
	struct mfs_remote *remote; /* NULL: `get` is used */
	size_t repo;               /* of config->repos: what the remote is asked for */
	mfs_download_get_fn *get;  /* instead of remote: unit tests */
	void *get_user;
	/*
	 * Its mirrors in order of preference; the repository itself comes last, or never if a mirror is `only`. NULL:
	 * n_mirrors of no name; bit i of `only`: nothing but such mirrors is asked.
	 */
	const struct mfs_config_repository *repository;
	unsigned n_mirrors;
	uint32_t only;
	unsigned threads;          /* requests in flight; 0: 4 */
	int64_t retry_most_s;      /* no Retry-After counts for longer: the longest interval (design 8); 0: a day */
	uint64_t min_free;         /* as mfs_store_room */
	uint64_t batch;            /* bytes between two journal writes; 0: 64 MiB */

	/*
	 * Daily byte budget. _take: how many of `want` bytes may be received now (0: none today), already counted as
	 * used; _give: that many of them were not received after all. NULL without a budget. Threads any.
	 */
	uint64_t (*budget_take)(void *user, uint64_t want);
	void (*budget_give)(void *user, uint64_t unused);
	/* Free `need` bytes by collecting what may go; called without any lock of the store. NULL: nothing may go. */
	void (*make_room)(void *user, uint64_t need);
	void *user;
};

enum mfs_code mfs_download_new(const struct mfs_download_args *args, struct mfs_download **out, struct mfs_err *err);
void mfs_download_free(struct mfs_download *d); /* accepts NULL; no call may be under way */
MFS_DEFINE_CLEANUP(download, struct mfs_download, mfs_download_free)

struct mfs_download_progress {
	uint64_t done, total; /* bytes of payloads and tables that the store lacked */
	uint64_t fetched;     /* received from sources by this call, useless ones included */
	uint64_t rate;        /* bytes a second received of late */
	bool checking;        /* reading again what an earlier attempt left, or what the device has */
};
typedef void mfs_download_progress_fn(void *user, const struct mfs_download_progress *p); /* some ten a second; one thread */

struct mfs_download_result { /* also of a failed call */
	uint64_t fetched; /* bytes received */
	uint64_t wasted;  /* of those: not kept */
	uint64_t reused;  /* bytes found on the device */
	uint64_t resumed; /* bytes an earlier attempt had left, verified again */
	uint64_t needed;  /* INSUFFICIENT_STORAGE: bytes that must be free, 5 % and min_free included */
	int64_t retry_after_s; /* what the sources asked for, at most retry_most_s; 0 without */
};

struct mfs_download_version {
	const char *id;               /* local id of the model: owner of what is staged */
	const struct mfs_manifest *m; /* verified and decided */
	const struct mfs_signed *signed_bytes; /* stored under the same lock once all blobs stand; NULL: not stored */
	/*
	 * Verified manifests whose blobs stand in the store (active and retained versions, this model's first): their
	 * blobs are taken as they stand where they name the same payload and table, and their chunks are copied where
	 * the content is the same.
	 */
	const struct mfs_manifest *const *have;
	size_t n_have;
	mfs_download_progress_fn *progress; /* may be NULL */
	void *user;
	const _Atomic int *cancel; /* may be NULL; nonzero ends the call with CONDITION_UNMET, all staged bytes kept */
};

/*
 * Bring every blob of the manifest into the store, then the manifest itself. One call at a time per mfs_download.
 * Other blobs that an earlier attempt for this model staged and m does not name are removed first.
 * The store's install.lock is taken only for the renames at the end, waited for up to a minute.
 *
 * errors  CONDITION_UNMET (cancelled; an installation holds the store's lock), RATE_LIMITED (byte budget),
 *         INSUFFICIENT_STORAGE, IO, NO_MEMORY; MALFORMED, LIMIT_EXCEEDED (the signed table itself is wrong: the
 *         version is); HASH_MISMATCH (no source sends what the manifest says: theirs, never the version's) and
 *         NET_* (no source answers). What was staged stays for the next call, whatever the outcome
 */
enum mfs_code mfs_download_version(struct mfs_download *d, const struct mfs_download_version *v,
	struct mfs_download_result *res, struct mfs_err *err);

/* Somebody asks: sources that rest after faults are asked at once, except where a server said itself until when. Threads any. */
void mfs_download_awake(struct mfs_download *d);

/*
 * Fetch again what fails at read, and write it back: of the n chunks from `first` on those that do not verify (read
 * here for that), each in its place. What has to be made anew (another length, gone, in a seed) is: the table, or all
 * of the payload. n 0: only what is gone or has another length. Threads any, beside a version under way, but one at
 * a time for one file.
 *
 * What could not be finished of a large payload that is lacking stays staged for the next try, until the payload stands
 * (mfs_download_drop() by its hash) or no version that is kept names it (mfs_engine_gc()); anything else goes.
 *
 * repaired  chunks that were fetched, a table or payload as one; may be NULL
 * cancel    may be NULL
 * errors    as above; patience is short: a reader waits
 */
enum mfs_code mfs_download_repair(struct mfs_download *d, const struct mfs_manifest *m, size_t file, uint64_t first,
	uint64_t n, const _Atomic int *cancel, uint64_t *repaired, struct mfs_err *err);

/* ---- what is staged ---------------------------------------------------------------------------------------- */

/* Bytes that the version still needs in the store; what an earlier attempt staged is counted by its journal. */
uint64_t mfs_download_missing(struct mfs_store *s, const char *id, const struct mfs_manifest *m);

/* Forget what is staged for a model, or for the repair of a payload: superseded, revoked, no longer wanted. Not meanwhile. */
void mfs_download_drop(struct mfs_store *s, const char *id);

/* Forget what is staged for models that are not among these n. */
void mfs_download_collect(struct mfs_store *s, const char *const *ids, size_t n);

#endif
