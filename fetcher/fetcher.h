/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetcher.h - the fetch process, inside: one thread, one loop (main.c). It believes keeper (the
 * origins), checks what serve asks (a compromised serve must not reach the world through it), and
 * takes nothing for granted that a server says. No memory is the end: another one is started.
 */
#ifndef MFS_FETCHER_H
#define MFS_FETCHER_H

#include <curl/curl.h>
#include <poll.h>

#include "wire.h"

/* ---- origins (origin.c) ------------------------------------------------------------------------ */

struct origin {
	const struct mfs_wire_origin *w;
	bool file;        /* file:// */
	char *base;       /* "scheme://host:port", lower case; "file" */
	char *token;      /* "Authorization: Bearer ...", or NULL */
	struct curl_blob ca, cert, key; /* data NULL without */
	bool failed;      /* the last transfer: the next one takes a new connection */
};

struct origins {
	const struct mfs_wire_origins *doc;
	struct origin *list; /* doc->n */
};

/* Map and check the document, read the files that it names. errors MALFORMED, LIMIT_EXCEEDED, IO, CONFIG_INVALID */
enum mfs_code origins_load(struct origins *o, struct mfs_err *err);

/* NULL: not configured. */
struct origin *origin_find(const struct origins *o, uint32_t repo, int32_t mirror);

/* The URL of a request at this origin (file://: its path below the folder, decoded). malloc'd; NULL: the origin has no place for it. */
char *origin_url(const struct origin *o, const struct mfs_wire_get *g);

/*
 * Where a redirect may lead: to an origin of the same repository, and never from https to http.
 *
 * returns  that origin (the present one if it is the same), or NULL with *code NET_PORTAL (elsewhere)
 *          or NET_PROTOCOL
 */
struct origin *origin_redirect(const struct origins *o, const struct origin *from, const char *url, enum mfs_code *code);

/* ---- bandwidth: one bucket for all requests (bucket.c) ------------------------------------------ */

struct bucket {
	uint64_t rate; /* bytes per second, 0 no limit */
	int64_t tokens; /* may go below zero by one piece */
	int64_t at_ms;
};
void bucket_fill(struct bucket *b, int64_t now_ms);
bool bucket_take(struct bucket *b, size_t n); /* false: wait; true also takes more than there is, as debt */
int64_t bucket_wait_ms(const struct bucket *b); /* until there is something; 0 now */

/* ---- transfers (transfer.c, response.c, local.c) ------------------------------------------------- */

enum transfer_mode {
	TRANSFER_WAIT,    /* no answer yet */
	TRANSFER_BODY,    /* HEADERS are sent, the body goes into the pipe */
	TRANSFER_DISCARD, /* a body that nobody wants, read so that the connection stays usable */
};

#define REST_BYTES (256u << 10)

struct transfer {
	struct transfer *next;
	uint64_t id;
	bool post, ended; /* ended: DONE is due once `rest` is written */
	struct mfs_wire_get q;
	struct origin *origin;
	int pipe;         /* non-blocking write end; -1 of a POST */
	int source;       /* file:// or the body of a POST; -1 */
	uint64_t source_left, source_at;
	int64_t deadline; /* 0 none */
	unsigned redirects;

	CURL *easy;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];

	enum transfer_mode mode;
	struct {              /* of the response that is being read */
		size_t bytes;     /* of headers */
		bool has_range, html, chunked, location;
		uint64_t from, to, total; /* Content-Range; total UNKNOWN with 416 and "*" missing */
		uint64_t length;  /* Content-Length, or UNKNOWN */
		char etag[MFS_WIRE_ETAG];
	} answer;
	uint64_t discarded;
	uint64_t sent;

	bool full;            /* the pipe took no more at the last try */
	bool blocked;         /* curl waits for it */
	bool starved;         /* curl waits for bandwidth */
	uint64_t turn;        /* when it was last given some; 0 never */
	uint8_t *rest;        /* REST_BYTES: what has not been written yet; serve wakes for much at once */
	size_t rest_at, rest_len;
	int64_t rest_since;   /* when its first byte came */

	enum mfs_code code;   /* of DONE */
	uint32_t http, retry_after_s;
	uint64_t total;       /* of DONE */
	char text[MFS_WIRE_TEXT];
};

struct fetcher {
	int sock;
	struct origins origins;
	struct bucket bucket;
	CURLM *multi;
	struct transfer *list;
	uint64_t turns;
};

/* main.c. Failure to send is the end of the process: serve is gone. */
void fetcher_send(struct fetcher *f, union mfs_wire *m, enum mfs_wire_type type, uint64_t id);

/* transfer.c. fd is taken over. A request that cannot be gets its DONE at once. */
void transfer_get(struct fetcher *f, const struct mfs_wire_get *g, int fd);
void transfer_post(struct fetcher *f, const struct mfs_wire_post *p, int fd);
void transfer_cancel(struct fetcher *f, uint64_t id);
/* Where n bytes of a body may be put, at most REST_BYTES; NULL: the pipe is full, or t is ended (beyond its cap, cancelled). */
uint8_t *transfer_room(struct transfer *t, size_t n);
/* They are there. Written when there are enough of them, at the latest in transfer_tick. */
void transfer_add(struct transfer *t, size_t n);
/* Write what is left over; true when nothing is. */
bool transfer_flush(struct transfer *t);
/* End it with an outcome; DONE follows as soon as `rest` is written (at once for a failure). */
void transfer_end(struct fetcher *f, struct transfer *t, enum mfs_code code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* curl has finished one. */
void transfer_curl_done(struct fetcher *f, CURL *easy, CURLcode result);
/* What is due: pipes that take again, bandwidth, deadlines, files. Returns ms until it must be called again, at most 1000. */
int transfer_tick(struct fetcher *f, int64_t now_ms);

/* response.c: judge what a server answers. */
size_t response_header(char *p, size_t size, size_t n, void *transfer);
bool response_content_range(const char *v, uint64_t *from, uint64_t *to, uint64_t *total);
enum mfs_code response_curl_code(CURLcode c, const char *text);
void response_tell(struct fetcher *f, struct transfer *t, uint32_t http, uint64_t from, uint64_t length, uint64_t total);
struct fetcher *response_fetcher(void); /* callbacks of curl know a transfer only */
void response_fetcher_set(struct fetcher *f);

/* local.c: file://. */
void local_begin(struct fetcher *f, struct transfer *t, const char *path);
bool local_pump(struct fetcher *f, struct transfer *t); /* true: more can be done at once */

/* ---- conditions (facts.c, dbus.c) --------------------------------------------------------------- */

void facts_find(const struct mfs_wire_origins *doc, struct mfs_wire_facts *out);
enum mfs_wire_metered dbus_metered(const char *bus); /* at most a second */

#endif
