/* SPDX-License-Identifier: Apache-2.0 */
/* response.c - judge an answer by its headers, before a byte of its body counts. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "fetcher.h"

#define HEADERS_MAX (64u << 10) /* bytes of all headers of one answer, interim ones too */

static struct fetcher *the_fetcher; /* single-threaded: callbacks of curl bring a transfer only */

void
response_fetcher_set(struct fetcher *f)
{
	the_fetcher = f;
}

struct fetcher *
response_fetcher(void)
{
	return the_fetcher;
}

enum mfs_code
response_curl_code(CURLcode c, const char *text)
{
	switch (c) {
	case CURLE_OK:
		return MFS_OK;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return MFS_NET_RESOLVE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CLIENTCERT:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_ENGINE_SETFAILED:
	case CURLE_SSL_ENGINE_INITFAILED:
	case CURLE_USE_SSL_FAILED:
		return MFS_NET_TLS;
	case CURLE_COULDNT_CONNECT: /* nobody answered, or refused */
	case CURLE_OPERATION_TIMEDOUT:
		return MFS_NET_TIMEOUT;
	case CURLE_OUT_OF_MEMORY:
		return MFS_NO_MEMORY;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		/* With TLS 1.3 a server refuses a client certificate only after the handshake. */
		return strstr(text, "alert") != NULL ? MFS_NET_TLS : MFS_NET_PROTOCOL;
	default:
		return MFS_NET_PROTOCOL;
	}
}

/* ---- fields ------------------------------------------------------------------------------------- */

/* Decimal digits, at least one, value below 2^63; *s behind them. */
static bool
number(const char **s, uint64_t *v)
{
	const char *p = *s;

	*v = 0;
	while (*p >= '0' && *p <= '9') {
		if (*v > ((uint64_t)INT64_MAX - 9) / 10)
			return false;
		*v = *v * 10 + (uint64_t)(*p++ - '0');
	}
	if (p == *s)
		return false;
	*s = p;
	return true;
}

/* "bytes 5-9/10", or of a 416 "bytes * /10" without the space: then from and to are UNKNOWN. */
bool
response_content_range(const char *v, uint64_t *from, uint64_t *to, uint64_t *total)
{
	*from = *to = *total = MFS_WIRE_UNKNOWN;
	if (strncasecmp(v, "bytes ", 6) != 0)
		return false;
	v += 6;
	if (*v == '*')
		return *++v == '/' && (v++, number(&v, total)) && *v == '\0';
	return number(&v, from) && *v++ == '-' && number(&v, to) && *v++ == '/' && number(&v, total) && *v == '\0' &&
		*from <= *to && *to < *total;
}

/* The value of a header line if it has this name, ends of white space off; else NULL. The line is changed. */
static char *
header_value(char *line, size_t n, const char *name)
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	line += len + 1;
	while (*line == ' ' || *line == '\t')
		line++;
	return line;
}

static void
answer_reset(struct transfer *t)
{
	size_t bytes = t->answer.bytes;

	memset(&t->answer, 0, sizeof(t->answer));
	t->answer.bytes = bytes;
	t->answer.length = t->answer.total = MFS_WIRE_UNKNOWN;
}

static void
etag_keep(struct transfer *t, const char *v)
{
	size_t n = strlen(v);

	if (n == 0 || n >= sizeof(t->answer.etag))
		return;
	for (size_t i = 0; i < n; i++)
		if (v[i] <= 0x20 || v[i] > 0x7e)
			return;
	memcpy(t->answer.etag, v, n + 1);
}

/* One field. False: it cannot be, and t->code says so. */
static bool
field_take(struct fetcher *f, struct transfer *t, char *line, size_t n)
{
	char *v;

	if ((v = header_value(line, n, "content-range")) != NULL) {
		t->answer.has_range = response_content_range(v, &t->answer.from, &t->answer.to, &t->answer.total);
		if (!t->answer.has_range)
			transfer_end(f, t, MFS_NET_PROTOCOL, "Content-Range is malformed or without a total");
		return t->answer.has_range;
	}
	if ((v = header_value(line, n, "content-length")) != NULL) {
		const char *p = v;

		if (!number(&p, &t->answer.length) || *p != '\0') {
			transfer_end(f, t, MFS_NET_PROTOCOL, "Content-Length is malformed");
			return false;
		}
	} else if ((v = header_value(line, n, "transfer-encoding")) != NULL) {
		t->answer.chunked = true;
	} else if ((v = header_value(line, n, "content-type")) != NULL) {
		t->answer.html = strncasecmp(v, "text/html", 9) == 0 || strncasecmp(v, "application/xhtml", 17) == 0;
	} else if ((v = header_value(line, n, "etag")) != NULL) {
		etag_keep(t, v);
	} else if (header_value(line, n, "location") != NULL) {
		t->answer.location = true;
	}
	return true;
}

/* ---- the verdict -------------------------------------------------------------------------------- */

void
response_tell(struct fetcher *f, struct transfer *t, uint32_t http, uint64_t from, uint64_t length, uint64_t total)
{
	union mfs_wire m = { 0 };

	m.headers.http = http;
	m.headers.from = from;
	m.headers.length = length;
	m.headers.total = total;
	memcpy(m.headers.etag, t->answer.etag, strnlen(t->answer.etag, sizeof(m.headers.etag) - 1));
	fetcher_send(f, &m, MFS_W_HEADERS, t->id);
	t->mode = TRANSFER_BODY;
	t->http = http;
}

static void
partial_judge(struct fetcher *f, struct transfer *t)
{
	const uint64_t last = t->q.from + t->q.length - 1;
	uint64_t n;

	if (t->q.length == 0) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "206 for a request without a range");
		return;
	}
	if (!t->answer.has_range || t->answer.from != t->q.from ||
		t->answer.to != (last < t->answer.total ? last : t->answer.total - 1)) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "206 with another range than asked for");
		return;
	}
	n = t->answer.to - t->answer.from + 1;
	if (t->answer.length != MFS_WIRE_UNKNOWN && t->answer.length != n) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "Content-Range and Content-Length differ");
		return;
	}
	t->q.cap = n; /* a body without a length may not go on behind the range: serve would take that for a lie */
	response_tell(f, t, 206, t->answer.from, n, t->answer.total);
}

/* All headers of a final answer are there. */
static void
answer_judge(struct fetcher *f, struct transfer *t)
{
	const bool text = t->q.kind == MFS_WIRE_METADATA || t->q.kind == MFS_WIRE_TARGET;

	if (t->answer.chunked)
		t->answer.length = MFS_WIRE_UNKNOWN;
	if (t->post) {
		t->mode = TRANSFER_DISCARD;
		return;
	}
	if ((t->http == 200 || t->http == 206) && t->answer.html && text) {
		transfer_end(f, t, MFS_NET_PORTAL, "an HTML page instead of a file: a login page of this network?");
	} else if (t->http == 200) {
		if (t->q.length == 0 && t->answer.length != MFS_WIRE_UNKNOWN && t->answer.length > t->q.cap)
			transfer_end(f, t, MFS_LIMIT_EXCEEDED, "%llu bytes announced, %llu at most",
				(unsigned long long)t->answer.length, (unsigned long long)t->q.cap);
		else
			response_tell(f, t, 200, 0, t->answer.length, t->answer.length);
	} else if (t->http == 206) {
		partial_judge(f, t);
	} else if (t->http == 304) {
		if (t->q.etag[0] == '\0' || t->q.length != 0)
			transfer_end(f, t, MFS_NET_PROTOCOL, "304 without a condition");
		else
			response_tell(f, t, 304, 0, 0, MFS_WIRE_UNKNOWN);
	} else {
		t->mode = TRANSFER_DISCARD; /* what it was follows when curl has read it */
	}
}

size_t
response_header(char *p, size_t size, size_t n, void *transfer)
{
	struct transfer *t = transfer;
	struct fetcher *f = response_fetcher();
	char line[1024];
	long http = 0;

	(void)size; /* is 1 */
	t->answer.bytes += n;
	if (t->answer.bytes > HEADERS_MAX) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "more than %u bytes of headers", HEADERS_MAX);
		return 0;
	}
	if (t->mode != TRANSFER_WAIT)
		return n; /* trailers */
	if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		answer_reset(t);
		return n;
	}
	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http);
	if (n <= 2 && (p[0] == '\r' || p[0] == '\n')) {
		if (http < 200)
			return n;
		t->http = (uint32_t)http;
		answer_judge(f, t);
		return t->code == MFS_OK ? n : 0;
	}
	if (n >= sizeof(line))
		return n; /* none of ours is that long */
	memcpy(line, p, n);
	line[n] = '\0';
	for (size_t end = n; end > 0 && isspace((unsigned char)line[end - 1]); end--)
		line[end - 1] = '\0';
	return field_take(f, t, line, n) ? n : 0;
}
