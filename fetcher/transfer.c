/* SPDX-License-Identifier: Apache-2.0 */
/* transfer.c - requests: begun, paused when nobody takes their bytes, ended with exactly one DONE. */
#include "fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "span.h"

#define REDIRECTS_MAX 4u
#define DISCARD_MAX   (64u << 10)
#define BUFFER_BYTES  (128L << 10)
#define REST_MS       5

/* ---- the end ------------------------------------------------------------------------------------ */

static void
transfer_free(struct fetcher *f, struct transfer *t)
{
	for (struct transfer **at = &f->list; *at != NULL; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	if (t->easy != NULL) {
		(void)curl_multi_remove_handle(f->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->headers);
	mfs_cleanup_close(&t->pipe);
	mfs_cleanup_close(&t->source);
	free(t->rest);
	free(t);
}

void
transfer_end(struct fetcher *f, struct transfer *t, enum mfs_code code, const char *fmt, ...)
{
	char text[2 * MFS_WIRE_TEXT];
	va_list ap;

	(void)f;
	if (t->ended)
		return; /* the first reason counts */
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *c = text; *c != '\0'; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	t->code = code;
	if (code != MFS_OK)
		(void)snprintf(t->text, sizeof(t->text), "%.255s", text);
	t->ended = true;
	if (t->origin != NULL && !t->post)
		t->origin->failed = code != MFS_OK && code != MFS_NET_HTTP && code != MFS_CONDITION_UNMET;
}

/* The pipe first: when DONE arrives, serve finds the end of the body behind its last byte. */
static void
done_send(struct fetcher *f, struct transfer *t)
{
	union mfs_wire m = { 0 };

	mfs_cleanup_close(&t->pipe);
	m.done.code = (uint32_t)t->code;
	m.done.http = t->http > 999 ? 0 : t->http;
	m.done.sent = t->sent;
	m.done.total = t->total;
	m.done.retry_after_s = t->retry_after_s;
	memcpy(m.done.text, t->text, strnlen(t->text, sizeof(m.done.text) - 1));
	fetcher_send(f, &m, MFS_W_DONE, t->id);
	transfer_free(f, t);
}

/* ---- the body ----------------------------------------------------------------------------------- */

bool
transfer_flush(struct transfer *t)
{
	while (t->rest_len > 0) {
		ssize_t n = write(t->pipe, t->rest + t->rest_at, t->rest_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			t->full = true;
			return false;
		}
		if (n < 0) { /* serve has closed its end: it does not want any more */
			t->rest_len = 0;
			t->full = false;
			transfer_end(response_fetcher(), t, MFS_CONDITION_UNMET, "cancelled");
			t->code = MFS_CONDITION_UNMET;
			return true;
		}
		t->sent += (uint64_t)n;
		t->rest_at += (size_t)n;
		t->rest_len -= (size_t)n;
	}
	t->rest_at = 0;
	t->full = false;
	return true;
}

uint8_t *
transfer_room(struct transfer *t, size_t n)
{
	if (t->sent + t->rest_len + n > t->q.cap) {
		transfer_end(response_fetcher(), t, MFS_LIMIT_EXCEEDED, "more than %llu bytes", (unsigned long long)t->q.cap);
		return NULL;
	}
	if (t->rest == NULL && (t->rest = malloc(REST_BYTES)) == NULL)
		_exit(1);
	if (n > REST_BYTES - t->rest_at - t->rest_len) {
		(void)transfer_flush(t);
		if (t->ended)
			return NULL;
		memmove(t->rest, t->rest + t->rest_at, t->rest_len);
		t->rest_at = 0;
	}
	if (n > REST_BYTES - t->rest_len) {
		t->blocked = true;
		return NULL;
	}
	return t->rest + t->rest_at + t->rest_len;
}

void
transfer_add(struct transfer *t, size_t n)
{
	if (t->rest_len == 0)
		t->rest_since = mfs_clock_mono_ms();
	t->rest_len += n;
	if (t->rest_len >= REST_BYTES / 2)
		(void)transfer_flush(t);
}

static size_t
body_take(char *p, size_t size, size_t n, void *transfer)
{
	struct transfer *t = transfer;
	struct fetcher *f = response_fetcher();
	uint8_t *room;

	(void)size; /* is 1 */
	if (t->mode == TRANSFER_DISCARD) {
		t->discarded += n;
		return t->discarded <= DISCARD_MAX ? n : 0;
	}
	if (t->ended || t->mode != TRANSFER_BODY || n > REST_BYTES)
		return 0;
	if (t->blocked)
		return CURL_WRITEFUNC_PAUSE;
	room = transfer_room(t, n);
	if (room == NULL)
		return t->ended ? 0 : CURL_WRITEFUNC_PAUSE;
	bucket_fill(&f->bucket, mfs_clock_mono_ms());
	if (!bucket_take(&f->bucket, n)) {
		t->starved = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	memcpy(room, p, n);
	transfer_add(t, n);
	return t->ended ? 0 : n;
}

static size_t
post_give(char *p, size_t size, size_t n, void *transfer)
{
	struct transfer *t = transfer;
	size_t want = size * n < t->source_left ? size * n : (size_t)t->source_left;
	ssize_t got = want > 0 ? pread(t->source, p, want, (off_t)t->source_at) : 0;

	if (got < 0 || (want > 0 && got == 0))
		return CURL_READFUNC_ABORT;
	t->source_at += (uint64_t)got;
	t->source_left -= (uint64_t)got;
	return (size_t)got;
}

/* ---- the request -------------------------------------------------------------------------------- */

static bool
header_add(struct transfer *t, const char *line)
{
	struct curl_slist *grown = curl_slist_append(t->headers, line);

	if (grown == NULL)
		return false;
	t->headers = grown;
	return true;
}

static bool
headers_fill(struct transfer *t)
{
	char line[64 + MFS_WIRE_ETAG];
	bool ok = true;

	curl_slist_free_all(t->headers);
	t->headers = NULL;
	if (t->post)
		return header_add(t, "Content-Type: application/json") && header_add(t, "Expect:");
	if (t->origin->token != NULL)
		ok = header_add(t, t->origin->token);
	if (t->q.length != 0) {
		(void)snprintf(line, sizeof(line), "Range: bytes=%llu-%llu", (unsigned long long)t->q.from,
			(unsigned long long)(t->q.from + t->q.length - 1));
		ok = ok && header_add(t, line);
	}
	/* A weak ETag is no condition of a range: serve compares it with the answer's. */
	if (t->q.etag[0] != '\0' && (t->q.length == 0 || strncmp(t->q.etag, "W/", 2) != 0)) {
		(void)snprintf(line, sizeof(line), "%s: %s", t->q.length != 0 ? "If-Range" : "If-None-Match", t->q.etag);
		ok = ok && header_add(t, line);
	}
	return ok;
}

#define SET(option, value) (e = e == CURLE_OK ? curl_easy_setopt(t->easy, (option), (value)) : e)

static CURLcode
options_tls(struct transfer *t)
{
	const struct origin *o = t->origin;
	CURLcode e = CURLE_OK;

	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (o->ca.data != NULL) {
		SET(CURLOPT_CAINFO_BLOB, &o->ca);
		SET(CURLOPT_CAPATH, NULL);
	}
	if (o->cert.data != NULL && !t->post) {
		SET(CURLOPT_SSLCERT_BLOB, &o->cert);
		SET(CURLOPT_SSLKEY_BLOB, o->key.data != NULL ? &o->key : &o->cert);
	}
	if (o->w->pin[0] != '\0')
		SET(CURLOPT_PINNEDPUBLICKEY, o->w->pin);
	return e;
}

/* Everything that curl could take from elsewhere is set: environment, .netrc, cookies never count. */
static CURLcode
options_set(struct fetcher *f, struct transfer *t, const char *url)
{
	const struct mfs_wire_origins *doc = f->origins.doc;
	const int64_t left = t->deadline != 0 ? t->deadline - mfs_clock_mono_ms() : 0;
	CURLcode e = CURLE_OK;

	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROXY, t->origin->w->proxy);
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_USERAGENT, "modelfs/" PACKAGE_VERSION);
	/* A stream has its connection to itself anyway, and frames around megabytes cost a sixth of this process's time. */
	SET(CURLOPT_HTTP_VERSION, !t->post && t->q.kind == MFS_WIRE_BLOB ? (long)CURL_HTTP_VERSION_1_1 : (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	SET(CURLOPT_LOW_SPEED_LIMIT, (long)doc->low_speed);
	SET(CURLOPT_LOW_SPEED_TIME, (long)doc->low_speed_s);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)doc->low_speed_s * 1000);
	if (t->deadline != 0)
		SET(CURLOPT_TIMEOUT_MS, (long)(left > 1 ? left : 1));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_HEADERFUNCTION, response_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, body_take);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_FRESH_CONNECT, t->origin->failed || t->post ? 1L : 0L);
	SET(CURLOPT_FORBID_REUSE, t->post ? 1L : 0L);
	if (t->post) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->source_left);
		SET(CURLOPT_READFUNCTION, post_give);
		SET(CURLOPT_READDATA, t);
	}
	return e == CURLE_OK ? options_tls(t) : e;
}

/* Begin, or begin again after a redirect, at t->origin. */
static void
curl_begin(struct fetcher *f, struct transfer *t, const char *url)
{
	CURLcode e;

	if (t->easy != NULL) {
		(void)curl_multi_remove_handle(f->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	t->mode = TRANSFER_WAIT;
	t->http = 0;
	t->discarded = 0;
	memset(&t->answer, 0, sizeof(t->answer));
	t->answer.length = t->answer.total = MFS_WIRE_UNKNOWN;
	t->error[0] = '\0';
	t->easy = curl_easy_init();
	if (t->easy == NULL || !headers_fill(t)) {
		transfer_end(f, t, MFS_NO_MEMORY, "no memory for a transfer");
		return;
	}
	e = options_set(f, t, url);
	if (e != CURLE_OK)
		transfer_end(f, t, MFS_CONFIG_INVALID, "curl does not take an option: %s", curl_easy_strerror(e));
	else if (curl_multi_add_handle(f->multi, t->easy) != CURLM_OK)
		transfer_end(f, t, MFS_NO_MEMORY, "no memory for a transfer");
}

/*
 * More in flight than serve may ask for? One that was cancelled or failed goes at the end of this turn: serve may have
 * sent the next request behind its CANCEL.
 */
static bool
too_many(const struct fetcher *f)
{
	unsigned n = 0;

	for (const struct transfer *t = f->list; t != NULL; t = t->next)
		n += !t->ended || t->code == MFS_OK;
	return n > MFS_WIRE_REQUESTS;
}

static struct transfer *
transfer_new(struct fetcher *f, uint64_t id, uint32_t deadline_ms)
{
	struct transfer *t = calloc(1, sizeof(*t));

	if (t == NULL)
		_exit(1);
	t->id = id;
	t->pipe = t->source = -1;
	t->total = MFS_WIRE_UNKNOWN;
	t->deadline = deadline_ms != 0 ? mfs_clock_mono_ms() + deadline_ms : 0;
	t->next = f->list;
	f->list = t;
	return t;
}

void
transfer_get(struct fetcher *f, const struct mfs_wire_get *g, int fd)
{
	struct transfer *t = transfer_new(f, g->head.id, g->deadline_ms);
	mfs_autofree char *url = NULL;
	struct stat st;

	t->q = *g;
	t->pipe = fd;
	if (too_many(f) || fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode) ||
		fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		_exit(1); /* serve does not ask such things */
	t->origin = origin_find(&f->origins, g->repo, g->mirror);
	if (t->origin == NULL) {
		transfer_end(f, t, MFS_CONFIG_INVALID, "repository %u, mirror %d: not configured", g->repo, g->mirror);
		return;
	}
	url = origin_url(t->origin, g);
	if (url == NULL)
		transfer_end(f, t, MFS_CONFIG_INVALID, "this mirror has no place for it");
	else if (t->origin->file)
		local_begin(f, t, url);
	else
		curl_begin(f, t, url);
}

void
transfer_post(struct fetcher *f, const struct mfs_wire_post *p, int fd)
{
	struct transfer *t = transfer_new(f, p->head.id, p->deadline_ms);

	t->post = true;
	t->source = fd;
	t->source_left = p->size;
	t->origin = origin_find(&f->origins, MFS_WIRE_TELEMETRY, -1);
	if (too_many(f))
		_exit(1);
	if (t->origin == NULL || t->origin->file)
		transfer_end(f, t, MFS_CONFIG_INVALID, "no telemetry endpoint is configured");
	else
		curl_begin(f, t, t->origin->w->url);
}

void
transfer_cancel(struct fetcher *f, uint64_t id)
{
	for (struct transfer *t = f->list; t != NULL; t = t->next)
		if (t->id == id) {
			t->rest_len = 0;
			transfer_end(f, t, MFS_CONDITION_UNMET, "cancelled");
			return;
		}
}

/* ---- what curl says at the end ------------------------------------------------------------------ */

static void
redirect_follow(struct fetcher *f, struct transfer *t)
{
	mfs_autofree char *url = NULL;
	char *to = NULL;
	enum mfs_code code;
	struct origin *o;

	(void)curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &to);
	if (to == NULL || t->post) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "%u without a place to go to", t->http);
		return;
	}
	o = origin_redirect(&f->origins, t->origin, to, &code);
	if (o == NULL) {
		transfer_end(f, t, code, code == MFS_NET_PORTAL
			? "redirected to a host that is not configured: a login page of this network?"
			: "redirected from https to http, or to no URL");
		return;
	}
	if (++t->redirects > REDIRECTS_MAX) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "more than %u redirects", REDIRECTS_MAX);
		return;
	}
	url = strdup(to);
	t->origin = o;
	if (url == NULL)
		transfer_end(f, t, MFS_NO_MEMORY, "no memory for a transfer");
	else
		curl_begin(f, t, url);
}

/* A status that is no success, its body read over. */
static void
status_end(struct fetcher *f, struct transfer *t)
{
	curl_off_t wait = 0;

	(void)curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &wait);
	if (wait > 0)
		t->retry_after_s = wait > (curl_off_t)MFS_WIRE_RETRY_MAX ? MFS_WIRE_RETRY_MAX : (uint32_t)wait;
	if (t->http == 416 && t->answer.has_range)
		t->total = t->answer.total;
	if (t->post && t->http >= 200 && t->http <= 299)
		transfer_end(f, t, MFS_OK, "%s", "");
	else if (t->http >= 300 && t->http <= 308 && t->answer.location)
		redirect_follow(f, t);
	else if (t->http == 511)
		transfer_end(f, t, MFS_NET_PORTAL, "511: this network wants a login");
	else if (t->http < 400)
		transfer_end(f, t, MFS_NET_PROTOCOL, "status %u, which nobody asked for", t->http);
	else
		transfer_end(f, t, MFS_NET_HTTP, "%s: status %u", t->origin->base, t->http);
}

void
transfer_curl_done(struct fetcher *f, CURL *easy, CURLcode result)
{
	struct transfer *t = NULL;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
	if (t->ended)
		return; /* an answer that was refused: curl was told to stop */
	if (t->mode == TRANSFER_DISCARD)
		status_end(f, t);
	else if (result != CURLE_OK)
		transfer_end(f, t, response_curl_code(result, t->error), "%s: %s", t->origin->base,
			t->error[0] != '\0' ? t->error : curl_easy_strerror(result));
	else if (t->mode != TRANSFER_BODY)
		transfer_end(f, t, MFS_NET_PROTOCOL, "%s: an answer without headers", t->origin->base);
	else
		transfer_end(f, t, MFS_OK, "%s", "");
}

/* ---- what is due -------------------------------------------------------------------------------- */

/* Little that has just come waits for more: each write wakes serve. */
static bool
rest_due(const struct transfer *t, int64_t now, int64_t *wait)
{
	if (t->rest_len == 0)
		return false;
	if (t->ended || t->full || t->rest_len >= REST_BYTES / 2 || now - t->rest_since >= REST_MS)
		return true;
	if (*wait > REST_MS)
		*wait = REST_MS;
	return false;
}

/*
 * There is bandwidth again: for who has waited longest. In the order of the list the newest request would take all of
 * it, and one after the other those that came before would run into their deadlines, metadata too.
 */
static void
starved_go_on(struct fetcher *f)
{
	for (unsigned i = 0; i < MFS_WIRE_REQUESTS && bucket_wait_ms(&f->bucket) == 0; i++) {
		struct transfer *first = NULL;

		for (struct transfer *t = f->list; t != NULL; t = t->next)
			if (t->starved && !t->blocked && !t->ended && (first == NULL || t->turn < first->turn))
				first = t;
		if (first == NULL)
			return;
		first->turn = ++f->turns;
		first->starved = false;
		(void)curl_easy_pause(first->easy, CURLPAUSE_CONT);
	}
}

int
transfer_tick(struct fetcher *f, int64_t now)
{
	int64_t wait = 1000;

	bucket_fill(&f->bucket, now);
	starved_go_on(f);
	for (struct transfer *t = f->list, *next; t != NULL; t = next) {
		next = t->next;
		if (rest_due(t, now, &wait) && transfer_flush(t) && t->blocked) {
			t->blocked = false;
			if (!t->ended && t->easy != NULL)
				(void)curl_easy_pause(t->easy, CURLPAUSE_CONT);
		}
		if (t->starved && bucket_wait_ms(&f->bucket) < wait)
			wait = bucket_wait_ms(&f->bucket);
		if (!t->ended && t->source >= 0 && !t->post && !t->blocked && local_pump(f, t))
			wait = 0;
		if (t->deadline != 0 && now >= t->deadline) {
			transfer_end(f, t, MFS_NET_TIMEOUT, "not done in time");
			t->rest_len = 0;
			if (t->code == MFS_OK)
				t->code = MFS_NET_TIMEOUT;
		} else if (t->deadline != 0 && t->deadline - now < wait) {
			wait = t->deadline - now;
		}
		/* A file that ended in this very turn: nothing will wake us for its rest. */
		if (t->ended && t->code == MFS_OK && !t->full)
			(void)transfer_flush(t);
		if (t->ended && (t->rest_len == 0 || t->code != MFS_OK))
			done_send(f, t);
	}
	return (int)(wait < 0 ? 0 : wait);
}
