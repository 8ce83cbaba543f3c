/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - serve and fetch: fixed frames over a SOCK_SEQPACKET pair, one struct a frame, the
 * descriptor of a pipe beside a request. A frame of another version, type, size, direction or
 * with a field out of range ends the peer. And the origins: what keeper lets a fetch reach,
 * given to it in a sealed memfd when it starts. The only header that fs/ and fetcher/ share.
 *
 * A request names an origin by (repository, mirror), never by a URL. serve reads the body from
 * its end of the pipe:
 *
 *	serve                                   fetch
 *	                                 <--    HELLO
 *	GET id (+ write end of a pipe)   -->
 *	                                 <--    HEADERS id: before the first byte; not after a failure
 *	        body through the pipe    <==
 *	                                 <--    DONE id: the pipe is closed, exactly one per request
 *	CANCEL id                        -->    (DONE follows all the same)
 *	PING id                          -->    PONG id at once, whatever is in flight
 */
#ifndef MFS_WIRE_H
#define MFS_WIRE_H

#include <stdint.h>

#include "error.h"

#define MFS_WIRE_VERSION  1u
#define MFS_WIRE_REQUESTS 16u                  /* in flight at most */
#define MFS_WIRE_ETAG     128u                 /* with its NUL; a longer one is none */
#define MFS_WIRE_PATH     2048u                /* with its NUL: a name of 1,024 bytes, most percent-encoded */
#define MFS_WIRE_TEXT     256u                 /* a message, with its NUL */
#define MFS_WIRE_NETS     16u                  /* interfaces told */
#define MFS_WIRE_UNKNOWN  UINT64_MAX           /* a length or total that the server did not tell */
#define MFS_WIRE_PART     ((uint64_t)256 << 20) /* bytes of a blob's part (formats 5) */

enum mfs_wire_type {
	/* serve -> fetch */
	MFS_W_GET = 1,    /* struct mfs_wire_get, and the write end of a pipe */
	MFS_W_POST,       /* struct mfs_wire_post, and a file with the body to send */
	MFS_W_CANCEL,     /* struct mfs_wire_head */
	MFS_W_CONDITIONS, /* struct mfs_wire_head; answered by FACTS */
	MFS_W_PING,       /* struct mfs_wire_head; answered by PONG */
	/* fetch -> serve */
	MFS_W_HELLO = 64, /* struct mfs_wire_hello; first frame of a fetch */
	MFS_W_HEADERS,    /* struct mfs_wire_headers */
	MFS_W_DONE,       /* struct mfs_wire_done */
	MFS_W_FACTS,      /* struct mfs_wire_facts */
	MFS_W_PONG,       /* struct mfs_wire_head */
};

struct mfs_wire_head {
	uint16_t version, type;
	uint32_t size; /* of the whole frame */
	uint64_t id;   /* of the request; never 0, never used twice on a connection; 0 in HELLO */
};

enum mfs_wire_kind {
	MFS_WIRE_METADATA = 1, /* metadata/<path> */
	MFS_WIRE_TARGET,       /* targets/<path> */
	MFS_WIRE_BLOB,         /* blobs/sha256/<2 digits>/<hash>/<part, 5 digits>, or the mirror's template */
	MFS_WIRE_GRANT,        /* grants/<path> */
};

struct mfs_wire_get {
	struct mfs_wire_head head;
	uint32_t repo;        /* index of a repository */
	int32_t mirror;       /* index of one of its mirrors; -1 the repository itself */
	uint32_t kind;        /* enum mfs_wire_kind */
	uint32_t part;        /* BLOB, else 0 */
	uint8_t hash[32];     /* BLOB, else zeros */
	uint64_t from;        /* first byte */
	uint64_t length;      /* of the range; 0: all of it, then from is 0 */
	uint64_t cap;         /* body bytes at most, at least 1; more is LIMIT_EXCEEDED */
	uint32_t deadline_ms; /* 0 none: low speed ends it alone */
	uint32_t zero;
	char etag[MFS_WIRE_ETAG]; /* If-Range with a range, else If-None-Match; "" without */
	char path[MFS_WIRE_PATH]; /* relative, percent-encoded; "" for a BLOB */
};

struct mfs_wire_post { /* to the origin of telemetry, on a connection of its own */
	struct mfs_wire_head head;
	uint64_t size; /* of the body */
	uint32_t deadline_ms;
	uint32_t zero;
};

enum { MFS_WIRE_NO_UID = 1, MFS_WIRE_NO_LANDLOCK = 2, MFS_WIRE_NO_SECCOMP = 4, MFS_WIRE_NO_NEW_PRIVS = 8 };

struct mfs_wire_hello {
	struct mfs_wire_head head;
	uint32_t origins;  /* it knows */
	uint32_t weakened; /* MFS_WIRE_NO_*: what its sandbox lacks */
};

struct mfs_wire_headers {
	struct mfs_wire_head head;
	uint32_t http; /* 200, 206 or 304; 200 also for a file:// that is sent whole, 206 for its range */
	uint32_t zero;
	uint64_t from;   /* of the first body byte in the whole; 0 unless 206 */
	uint64_t length; /* of the body; UNKNOWN: the server did not say */
	uint64_t total;  /* of the whole; UNKNOWN likewise, never with 206 */
	char etag[MFS_WIRE_ETAG]; /* printable ASCII with its quotes; "" without */
};

struct mfs_wire_done {
	struct mfs_wire_head head;
	uint32_t code;         /* OK, LIMIT_EXCEEDED, NO_MEMORY, CONDITION_UNMET (cancelled), CONFIG_INVALID (no such origin), 40 to 45 */
	uint32_t http;         /* 0: no answer */
	uint64_t sent;         /* body bytes written into the pipe */
	uint64_t total;        /* of the whole with a 416 that tells it, else UNKNOWN */
	uint32_t retry_after_s; /* at most MFS_WIRE_RETRY_MAX; 0 not told */
	uint32_t zero;
	char text[MFS_WIRE_TEXT]; /* what happened, printable ASCII; "" with OK */
};
#define MFS_WIRE_RETRY_MAX 86400u

enum mfs_wire_metered { MFS_METERED_UNKNOWN, MFS_METERED_YES, MFS_METERED_NO };

struct mfs_wire_facts {
	struct mfs_wire_head head;
	int32_t on_ac;    /* 1 mains or no battery at all, 0 on battery, -1 cannot be told */
	int32_t battery;  /* percent, the least of all batteries; -1 there is none */
	uint32_t metered; /* enum mfs_wire_metered, of NetworkManager; its guesses count */
	uint32_t n_nets;
	char nets[MFS_WIRE_NETS][16]; /* names of interfaces that are up and not loopback */
};

union mfs_wire {
	struct mfs_wire_head head;
	struct mfs_wire_get get;
	struct mfs_wire_post post;
	struct mfs_wire_hello hello;
	struct mfs_wire_headers headers;
	struct mfs_wire_done done;
	struct mfs_wire_facts facts;
};

/*
 * Check a received frame.
 *
 * frame      untrusted bytes, n of them
 * from_fetch the direction that it came from
 * out        filled on MFS_OK only; every string ends within its field, nothing follows it
 * errors     MALFORMED: size, version, type, direction, id, a field out of range
 * threads    any; pure
 */
enum mfs_code mfs_wire_parse(const void *frame, size_t n, bool from_fetch, union mfs_wire *out, struct mfs_err *err);

/*
 * A path of a GET: relative, components separated by single slashes, none "." or ".." (plain or
 * encoded), RFC 3986 unreserved and sub-delims and ":" "@" plain, all else as %XX, never %00 or %2F.
 */
bool mfs_wire_path_ok(const char *path);

/*
 * Send or receive one frame.
 *
 * send  fills version, type and size; fd -1: none (the caller keeps its own); 0, or -1 with errno
 * recv  1 a frame, 0 end of file, -1 errno (EPROTO malformed, also: more than one descriptor, or one
 *       with a frame that has none). *fd is the caller's, close-on-exec, or -1. err may be NULL
 */
int mfs_wire_send(int sock, union mfs_wire *m, enum mfs_wire_type type, uint64_t id, int fd);
int mfs_wire_recv(int sock, bool from_fetch, union mfs_wire *out, int *fd, struct mfs_err *err);

/*
 * ---- origins: keeper -> fetch ------------------------------------------------------------------
 *
 * Descriptors of a fetch: fixed numbers, then those that the origins name.
 */
enum mfs_wire_fd { MFS_WIRE_FD_SOCK = 3, MFS_WIRE_FD_ORIGINS, MFS_WIRE_FD_FIRST };

#define MFS_WIRE_ORIGINS_MAX   1100u /* 64 repositories with 16 mirrors, and telemetry */
#define MFS_WIRE_ORIGINS_MAGIC 0x3147524fu
#define MFS_WIRE_TELEMETRY     UINT32_MAX /* `repo` of the origin that takes POSTs */

struct mfs_wire_origin {
	uint32_t repo;
	int32_t mirror;    /* -1 the repository itself */
	int32_t dir_fd;    /* file://: the folder (O_PATH); -1 otherwise, or it is not there */
	int32_t ca_fd, cert_fd, key_fd; /* PEM files; -1 none. Without a CA file the system's are used */
	int32_t token_fd;  /* bearer token; -1 none */
	uint32_t zero;
	char url[1024];    /* http://, https:// or file:///; of a mirror may hold {hash}, {part}, {path} */
	char proxy[512];   /* "" none: the environment never counts */
	char pin[512];     /* "sha256//BASE64;…" of the server's public key, or "" */
};

struct mfs_wire_origins {
	uint32_t magic, version;
	uint32_t n;              /* origins that follow */
	uint32_t uid, gid;       /* to become; UINT32_MAX: stay */
	uint32_t optional;       /* 1: a weaker sandbox is accepted */
	int32_t parent;          /* keeper's pid; 0 none to die with */
	uint32_t low_speed;      /* bytes per second below which a transfer is given up after … */
	uint32_t low_speed_s;    /* … this many seconds; connecting may take as long */
	uint32_t zero;
	uint64_t bandwidth;      /* bytes per second of all requests together; 0 no limit */
	char bus[108];           /* socket of the system D-Bus */
	char power[148];         /* folder of power supplies */
	struct mfs_wire_origin origin[];
};

/*
 * How much of a file:// URL names the folder that is opened: all of it, or of a template what comes
 * before the component of the first "{"; the rest is relative to it.
 */
size_t mfs_wire_file_base(const char *url);

/*
 * Check what keeper wrote (keeper is trusted: this finds mistakes and a wrong version).
 *
 * errors  MALFORMED, LIMIT_EXCEEDED
 */
enum mfs_code mfs_wire_origins_check(const void *p, size_t n, struct mfs_err *err);

#endif
