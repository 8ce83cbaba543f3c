/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h - serve's end of fetch: whole requests, blocking, any number of threads.
 *
 * fetch is started when something is to be fetched and ends when nothing was for half a minute
 * (so a stick can be unmounted, and a new token file or resolver counts). It is not trusted: serve
 * counts and caps bytes itself, and one that dies, hangs, or says what cannot be is dropped and
 * another one started, with growing pauses. Whatever it delivers is unverified.
 */
#ifndef MFS_REMOTE_H
#define MFS_REMOTE_H

#include <stdatomic.h>

#include "klink.h"
#include "mfs_verify.h"
#include "wire.h"

enum mfs_remote_kind {
	MFS_REMOTE_METADATA = MFS_WIRE_METADATA, /* path below metadata/ */
	MFS_REMOTE_TARGET = MFS_WIRE_TARGET,     /* path below targets/ */
	MFS_REMOTE_BLOB = MFS_WIRE_BLOB,         /* hash and part */
	MFS_REMOTE_GRANT = MFS_WIRE_GRANT,       /* path below grants/ */
};

struct mfs_remote_request {
	size_t repo;               /* config->repos[repo] */
	int mirror;                /* config->repos[repo].mirrors[mirror]; -1 the repository itself */
	enum mfs_remote_kind kind;
	const char *path;          /* METADATA, TARGET, GRANT: relative, percent-encoded (mfs_wire_path_ok); BLOB: NULL */
	struct mfs_sha256 hash;    /* BLOB */
	uint32_t part;             /* BLOB: number of the part of 256 MiB; from and length count within it */
	uint64_t from, length;     /* range; length 0: whole (then from is 0) */
	uint64_t cap;              /* body bytes at most, 1 … : one more is LIMIT_EXCEEDED; at least length */
	uint64_t discard;          /* range: a server that sends all (200) may be read over for so many bytes */
	unsigned deadline_ms;      /* of the whole request; 0 none (low speed ends it) */
	const char *etag;          /* whole: If-None-Match. Range: If-Range, and another ETag is NET_PROTOCOL. NULL without */
	const _Atomic int *cancel; /* becomes non-zero: the request ends within 0.2 s with CONDITION_UNMET; NULL without */
	/*
	 * Called in the caller's thread with the bytes of the range (or of the whole) in order, as they
	 * arrive, n from 1 to 1 MiB. Anything but MFS_OK ends the request with that code and *err.
	 */
	enum mfs_code (*sink)(void *user, const void *p, size_t n, struct mfs_err *err);
	/*
	 * NULL, or where the caller would have the next bytes: memory for *n > 0 of them. Then they are read to there, no
	 * more than that at once, and given to sink with that pointer. A call may be made without one of sink after it.
	 */
	void *(*room)(void *user, size_t *n);
	void *user;
};

struct mfs_remote_result { /* filled as far as known, on failure too */
	unsigned http;          /* status of the server; 0 none. file:// gives 200, 206, 404 as well */
	bool not_found;         /* with OK: 404, 410; METADATA: 403 too (object stores say that) */
	bool not_modified;      /* with OK: 304 */
	uint64_t from;          /* of the first byte given to sink */
	uint64_t total;         /* bytes of the whole thing; UINT64_MAX unknown */
	uint64_t received;      /* body bytes that came over the network for it, discarded ones too: for budgets */
	char etag[MFS_WIRE_ETAG]; /* "" without */
	int64_t retry_after_s;  /* the server's wish with 429, 503 and others; 0 none, at most a day */
};

struct mfs_remote;

/*
 * start  begins a fetch and gives the socket to it; called whenever one is needed, from any of the
 *        requesting threads, one at a time
 */
enum mfs_code mfs_remote_new(enum mfs_code (*start)(void *user, int *sock, struct mfs_err *err), void *user,
	struct mfs_remote **out, struct mfs_err *err);

/* `start` of a serve: asks keeper (MFS_K_FETCH). user is the struct mfs_klink. */
enum mfs_code mfs_remote_start_klink(void *klink, int *sock, struct mfs_err *err);

/*
 * A remote over one connected socket (`update --from`): its fetch knows one repository, 0, and no
 * mirrors. It is not started again: once it failed, every request fails.
 *
 * sock  taken over, on failure too
 */
enum mfs_code mfs_remote_adopt(int sock, struct mfs_remote **out, struct mfs_err *err);

/* The bandwidth that fetch was told to keep to (update.bandwidth; 0 none): a body may be as slow as that. Before the first request. */
void mfs_remote_bandwidth(struct mfs_remote *r, uint64_t bytes_per_s);

/* End it: requests in flight end with CONDITION_UNMET; the caller's threads must have returned before. NULL is fine. */
void mfs_remote_free(struct mfs_remote *r);

/*
 * Fetch. Blocks until the end; never from a FUSE request.
 *
 * range    what is given to sink begins at res->from == q->from and is q->length bytes, fewer only if
 *          the whole ends before (then res->total tells). A server that sends the whole instead is read
 *          up to the end of the range if q->from + q->length is at most q->discard, else NET_PROTOCOL
 * res      filled on failure too
 * errors   40 to 45 by man page modelfs(8) (NET_TIMEOUT also: fetch gives so little that it cannot mean a server that it
 *          should have given up); NET_HTTP any other status (res->http, res->retry_after_s; a
 *          range beyond the end: 416 with res->total); LIMIT_EXCEEDED more bytes than cap, announced or
 *          sent; NET_PROTOCOL also: fetch died, hung or lied (another one is started for the next request);
 *          CONDITION_UNMET cancelled or ending; IO, NO_MEMORY here; CONFIG_INVALID no such origin; and
 *          what sink returned
 * threads  any, concurrently; beyond MFS_WIRE_REQUESTS they wait
 */
enum mfs_code mfs_remote_get(struct mfs_remote *r, const struct mfs_remote_request *q, struct mfs_remote_result *res,
	struct mfs_err *err);

/* A small file whole, into memory: as mfs_remote_get with a sink of its own; q->sink is ignored. *out malloc'd, NUL after it. */
enum mfs_code mfs_remote_read(struct mfs_remote *r, const struct mfs_remote_request *q, uint8_t **out, size_t *len,
	struct mfs_remote_result *res, struct mfs_err *err);

/*
 * Send a body (OTLP/HTTP JSON) to the telemetry endpoint, on a connection of its own without client
 * certificate or token. The answer's body is thrown away.
 *
 * errors  as mfs_remote_get; NET_HTTP unless 2xx, with res->retry_after_s
 */
enum mfs_code mfs_remote_post(struct mfs_remote *r, const void *body, size_t len, unsigned deadline_ms,
	const _Atomic int *cancel, struct mfs_remote_result *res, struct mfs_err *err);

/*
 * Power supply, battery, metered network, interfaces, as fetch sees them.
 *
 * cancel  as in a request; NULL without
 * errors  NET_PROTOCOL, NET_TIMEOUT, IO, CONDITION_UNMET (cancelled)
 */
enum mfs_code mfs_remote_conditions(struct mfs_remote *r, const _Atomic int *cancel, struct mfs_wire_facts *out,
	struct mfs_err *err);

/*
 * What the last fetch that came up runs without, for `status` and `doctor`: bits as in struct mfs_wire_hello.
 * false: none has come up yet. Never waits
 */
bool mfs_remote_weakened(const struct mfs_remote *r, unsigned *bits);

/* For status: how often a fetch was started and how often one had to be dropped. */
void mfs_remote_counts(struct mfs_remote *r, uint64_t *starts, uint64_t *drops);

#endif
