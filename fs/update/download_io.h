/* SPDX-License-Identifier: Apache-2.0 */
/*
 * download_io.h - shared by download*.c and their tests only.
 *
 * A call (struct mfs_dl_run) has one coordinator, the caller's thread: it starts the workers of a phase, reports
 * progress, hands on the caller's cancel, and joins them. Workers block in mfs_dl_get only. Lock order: a file's lock,
 * then the run's, then the download's; none is held across I/O, a request or a wait for another.
 */
#ifndef MFS_DOWNLOAD_IO_H
#define MFS_DOWNLOAD_IO_H

#include <pthread.h>
#include <stdatomic.h>

#include "download.h"

#define MFS_DL_THREADS      4u          /* requests in flight */
#define MFS_DL_THREADS_MAX  16u
#define MFS_DL_BATCH        (64u << 20) /* bytes between two journal writes */
#define MFS_DL_BATCH_S      10          /* seconds between two journal writes */
#define MFS_DL_LARGE        (4u << 20)  /* bytes: from here on a payload is fetched by several threads */
#define MFS_DL_RANGE_MIN    (1u << 20)  /* bytes of one request */
#define MFS_DL_RANGE_MAX    (64u << 20)
#define MFS_DL_BACKOFF_MS   1000        /* after the first fault of a source */
#define MFS_DL_BACKOFF_MAX_MS 60000
#define MFS_DL_PATIENCE_MS  60000       /* no byte kept for so long: the call ends, the next one resumes */
#define MFS_DL_MISMATCHES   3u          /* per source, in a row, before the call ends */
#define MFS_DL_INDEX_MAX    (1u << 19)  /* chunks of installed versions that are remembered: 8 MiB */
#define MFS_DL_KEPT         256u        /* finished payloads that this process need not read again */
#define MFS_DL_BUF          (1u << 20)  /* bytes read from disk at once */

struct mfs_source {
	char name[96];
	unsigned number;       /* as in struct mfs_download_get */
	/* the download's lock: */
	int64_t until_ms;      /* not before */
	int64_t wish_ms;       /* nor before this: it said so itself (Retry-After) */
	int64_t blamed_ms;     /* of the last fault; what was asked before it does not count again */
	unsigned faults;       /* in a row */
	struct mfs_err fault;  /* the last one; OK: none */
	unsigned ignored_range; /* times in a row that it sent all */
	bool no_range;
};

struct mfs_dl_kept { /* a staged payload that this process has verified: not read again unless it changed */
	struct mfs_sha256 hash;
	dev_t dev;
	ino_t ino;
	struct timespec ctime;
	uint64_t size;
};

struct mfs_download {
	struct mfs_download_args args;
	struct mfs_source *sources;
	unsigned n_sources;
	int64_t backoff_ms, patience_ms; /* tests shorten them */
	pthread_mutex_t lock;
	struct mfs_dl_kept kept[MFS_DL_KEPT]; /* lock */
	size_t n_kept;
};

/* One call. */
struct mfs_dl_run {
	struct mfs_download *d;
	const struct mfs_download_version *v; /* NULL: a repair */
	const _Atomic int *cancel;
	_Atomic int stop;          /* the call ends */
	const _Atomic int *requests; /* what ends requests: &stop in a phase, else cancel where no coordinator hands it on */
	int64_t patience_ms;
	_Atomic uint64_t done, fetched, wasted, reused, resumed;
	_Atomic uint64_t arrived;  /* as fetched, but as it comes, not at the end of a request: for the rate */
	_Atomic bool checking;
	_Atomic int64_t progress_ms; /* when a byte was last kept */
	_Atomic uint64_t range;    /* bytes of the next request: grows while they go well */
	_Atomic uint64_t to_write; /* bytes that the disk still has to take */
	_Atomic uint64_t total;
	int dirfd;                 /* staging/dl-<id> */
	struct mfs_dl_index *index;
	pthread_mutex_t lock;
	pthread_cond_t changed;    /* a worker ended, stop */
	unsigned running;          /* workers; lock */
	struct mfs_err failed;     /* first failure; code OK: none; lock */
	struct mfs_err last_fault; /* of a source; lock */
	int64_t retry_after_s;     /* lock */
	uint64_t needed;           /* lock */
	bool sync_all;             /* at the end: one syncfs instead of an fsync each */
	/* of the coordinator */
	int64_t told_ms, rate_ms;
	uint64_t rate_bytes, rate;
};

/* ---- download_source.c: choosing a source, budget, blame ---- */

enum mfs_code mfs_dl_sources_make(struct mfs_download *d, struct mfs_err *err);

struct mfs_dl_request {
	const struct mfs_sha256 *hash;
	uint64_t off, length; /* within the blob, inside one part */
	uint64_t unit;        /* a budget that does not allow all is used in multiples of this; 0: any */
	enum mfs_code (*sink)(void *user, const void *p, size_t n, struct mfs_err *err);
	void *(*room)(void *user, size_t *n); /* as in struct mfs_remote_request */
	/* NULL, or called once no more bytes come, however it ended: what sink still holds. Errors as of sink */
	enum mfs_code (*flush)(void *user, struct mfs_err *err);
	void *user;
};

/*
 * One request to the source that is best now; waits while all of them rest.
 *
 * kept    *kept is set by the caller's sink and flush: bytes of use so far; looked at when the request has ended
 * again   set with MFS_OK: not all came, and another request is worth it
 * errors  MFS_OK; the call is over: CONDITION_UNMET, RATE_LIMITED, the source's last fault when patience ran out, IO,
 *         INSUFFICIENT_STORAGE, NO_MEMORY and whatever else the sink returned but HASH_MISMATCH
 */
enum mfs_code mfs_dl_get(struct mfs_dl_run *r, const struct mfs_dl_request *q, const uint64_t *kept, bool *mismatch,
	unsigned *source, struct mfs_err *err);

bool mfs_dl_no_range(struct mfs_download *d); /* the source that would be asked next knows no ranges */

/* A whole that came from this source alone (or not) was wrong. */
void mfs_dl_wrong(struct mfs_dl_run *r, unsigned source, bool one_source, const struct mfs_err *fault);

/* ---- download.c ---- */

void mfs_dl_run_init(struct mfs_dl_run *r, struct mfs_download *d, const struct mfs_download_version *v,
	const _Atomic int *cancel);
void mfs_dl_run_end(struct mfs_dl_run *r);
/*
 * Whatever of one file's table and payload is absent or has another length comes anew; suspect: the payload is also
 * read, and what does not verify comes anew.
 */
enum mfs_code mfs_dl_file_bring(struct mfs_dl_run *r, const struct mfs_manifest *m, size_t file, bool suspect,
	struct mfs_err *err);

/* ---- download_run.c ---- */

void mfs_dl_cond_init(pthread_cond_t *c); /* CLOCK_MONOTONIC */
bool mfs_dl_stopped(struct mfs_dl_run *r);
void mfs_dl_landed(struct mfs_dl_run *r, uint64_t bytes); /* of use: progress */
void mfs_dl_wrote(struct mfs_dl_run *r, uint64_t bytes);  /* and they took room on the disk */
/* The first failure of a run ends it. Returns err->code. */
enum mfs_code mfs_dl_failed(struct mfs_dl_run *r, const struct mfs_err *err);
/* The outcome when no source sends the right bytes: what the last one did. Never OK. */
enum mfs_code mfs_dl_last_fault(struct mfs_dl_run *r, struct mfs_err *err);

struct mfs_dl_worker {
	void (*fn)(struct mfs_dl_run *r, void *arg);
	unsigned n; /* threads */
};
/* Run all of them to their ends; returns the run's outcome. By the coordinator, for up to 4 kinds. */
enum mfs_code mfs_dl_parallel(struct mfs_dl_run *r, const struct mfs_dl_worker *w, size_t n_w, void *arg,
	struct mfs_err *err);

/* Is there room for what is still to be written? Asks for collection once. errors INSUFFICIENT_STORAGE, IO */
enum mfs_code mfs_dl_room(struct mfs_dl_run *r, struct mfs_err *err);

void mfs_dl_name(char out[80], const struct mfs_sha256 *hash, const char *suffix); /* "<hash>.data" */
int mfs_dl_staged(int dirfd, const char *name, struct mfs_err *err); /* open or create; -1 and *err */
/* Finished payloads of this process: not read again unless something touched them. */
bool mfs_dl_is_kept(struct mfs_download *d, const struct mfs_sha256 *hash, uint64_t size, int fd);
void mfs_dl_keep(struct mfs_download *d, const struct mfs_sha256 *hash, uint64_t size, int fd);

/* ---- download_stream.c: a blob in order, by one thread ---- */

/*
 * Bring a blob into staging by one request after the other. table NULL: verified as a whole at its end only; else
 * chunk by chunk, and as a whole. What an earlier attempt left is used if all of it is there and right.
 */
enum mfs_code mfs_dl_stream(struct mfs_dl_run *r, const struct mfs_sha256 *hash, uint64_t size,
	const struct mfs_table *table, struct mfs_err *err);

/*
 * Read fd from 0 to its end: every chunk and the whole. r: looks at its stop; NULL without.
 * errors  HASH_MISMATCH (length, a chunk; with NULL table or one chunk the whole), MALFORMED (all chunks are right, the
 *         whole is not: what was signed does not fit together), IO, CONDITION_UNMET
 */
enum mfs_code mfs_dl_verify(struct mfs_dl_run *r, int fd, const struct mfs_sha256 *hash, uint64_t size,
	const struct mfs_table *table, struct mfs_err *err);

/* ---- download_file.c: a large payload, by all threads ---- */

enum mfs_code mfs_dl_file(struct mfs_dl_run *r, const struct mfs_file *f, const struct mfs_table *table,
	struct mfs_err *err);

/* ---- download_journal.c: modelfs-state(5), DOWNLOAD JOURNAL ---- */

#define MFS_JOURNAL_HEADER 96u

/* Length of a whole journal. */
uint64_t mfs_journal_length(const struct mfs_file *f);
void mfs_journal_header(uint8_t out[MFS_JOURNAL_HEADER], const struct mfs_file *f);

/*
 * in    untrusted: what a power cut or somebody else left
 * bits  receives one bit per chunk ((chunks + 7) / 8 bytes), zeroed first: claims that are verified by reading
 * errors MALFORMED (another blob's, another length, bits beyond the last chunk): begin anew
 */
enum mfs_code mfs_journal_parse(struct mfs_span in, const struct mfs_file *f, uint8_t *bits, struct mfs_err *err);

/* ---- download_reuse.c: what the device has ---- */

struct mfs_dl_index;

/* Chunks of plain files of `have`, at most MFS_DL_INDEX_MAX of them. NULL *out: nothing to reuse. */
enum mfs_code mfs_dl_index_make(struct mfs_store *s, const struct mfs_manifest *const *have, size_t n_have,
	struct mfs_dl_index **out, struct mfs_err *err);
/* Chunks of one stored blob that is damaged somewhere; joins the index (made if *x is NULL). */
enum mfs_code mfs_dl_index_add(struct mfs_dl_index **x, struct mfs_store *s, const struct mfs_table *table,
	struct mfs_err *err);
void mfs_dl_index_free(struct mfs_dl_index *x);
/*
 * Bytes of chunk i of `table` from somewhere on the device, verified. buf holds a chunk. False: not there.
 * Threads any, an opener each.
 */
bool mfs_dl_index_find(struct mfs_dl_index *x, struct mfs_opener *o, const struct mfs_table *table, uint64_t i,
	uint8_t *buf);

/* The table of a file, from staging or the store; verified. errors IO (absent), HASH_MISMATCH, MALFORMED, NO_MEMORY */
enum mfs_code mfs_dl_table(struct mfs_store *s, int dirfd, const struct mfs_file *f, struct mfs_table **out,
	struct mfs_err *err);

#endif
