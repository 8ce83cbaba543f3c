/* SPDX-License-Identifier: Apache-2.0 */
/* check_response.c - headers of servers, outcomes of curl, the bandwidth bucket: fetch's pure parts. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fetcher.h"

static enum mfs_code ended_with;
static struct mfs_wire_headers told;

void
transfer_end(struct fetcher *f, struct transfer *t, enum mfs_code code, const char *fmt, ...)
{
	(void)f;
	(void)fmt;
	t->ended = true;
	t->code = ended_with = code;
}

void
fetcher_send(struct fetcher *f, union mfs_wire *m, enum mfs_wire_type type, uint64_t id)
{
	(void)f;
	(void)id;
	cr_assert_eq(type, MFS_W_HEADERS);
	told = m->headers;
}

Test(response, content_range)
{
	static const struct {
		const char *v;
		bool ok;
		uint64_t from, to, total;
	} cases[] = {
		{ "bytes 0-0/1", true, 0, 0, 1 },
		{ "bytes 5-9/10", true, 5, 9, 10 },
		{ "Bytes 5-9/10", true, 5, 9, 10 },
		{ "bytes 0-9223372036854775797/9223372036854775798", true, 0, 9223372036854775797u, 9223372036854775798u },
		{ "bytes */10", true, MFS_WIRE_UNKNOWN, MFS_WIRE_UNKNOWN, 10 },
		{ "bytes 5-9/*", false, 0, 0, 0 }, /* the total is needed */
		{ "bytes */*", false, 0, 0, 0 },
		{ "bytes 9-5/10", false, 0, 0, 0 },
		{ "bytes 5-10/10", false, 0, 0, 0 },
		{ "bytes 5-9/10 ", false, 0, 0, 0 },
		{ "bytes 5-9/10,20-30/40", false, 0, 0, 0 },
		{ "bytes -5-9/10", false, 0, 0, 0 },
		{ "bytes +5-9/10", false, 0, 0, 0 },
		{ "bytes 5 - 9/10", false, 0, 0, 0 },
		{ "bytes 5-9", false, 0, 0, 0 },
		{ "bytes 5-/10", false, 0, 0, 0 },
		{ "bytes", false, 0, 0, 0 },
		{ "", false, 0, 0, 0 },
		{ "items 5-9/10", false, 0, 0, 0 },
		{ "bytes 18446744073709551621-18446744073709551625/18446744073709551626", false, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t from, to, total;
		bool ok = response_content_range(cases[i].v, &from, &to, &total);

		cr_assert_eq(ok, cases[i].ok, "%s", cases[i].v);
		if (ok)
			cr_assert(from == cases[i].from && to == cases[i].to && total == cases[i].total, "%s", cases[i].v);
	}
}

Test(response, outcomes_of_curl)
{
	static const struct {
		CURLcode c;
		enum mfs_code code;
	} cases[] = { { CURLE_OK, MFS_OK }, { CURLE_COULDNT_RESOLVE_HOST, MFS_NET_RESOLVE },
		{ CURLE_COULDNT_RESOLVE_PROXY, MFS_NET_RESOLVE }, { CURLE_COULDNT_CONNECT, MFS_NET_TIMEOUT },
		{ CURLE_OPERATION_TIMEDOUT, MFS_NET_TIMEOUT }, { CURLE_PEER_FAILED_VERIFICATION, MFS_NET_TLS },
		{ CURLE_SSL_CONNECT_ERROR, MFS_NET_TLS }, { CURLE_SSL_PINNEDPUBKEYNOTMATCH, MFS_NET_TLS },
		{ CURLE_SSL_CERTPROBLEM, MFS_NET_TLS }, { CURLE_PARTIAL_FILE, MFS_NET_PROTOCOL },
		{ CURLE_GOT_NOTHING, MFS_NET_PROTOCOL }, { CURLE_WEIRD_SERVER_REPLY, MFS_NET_PROTOCOL },
		{ CURLE_HTTP2, MFS_NET_PROTOCOL }, { CURLE_RECV_ERROR, MFS_NET_PROTOCOL }, { CURLE_OUT_OF_MEMORY, MFS_NO_MEMORY } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(response_curl_code(cases[i].c, ""), cases[i].code, "%d", (int)cases[i].c);
	cr_assert_eq(response_curl_code(CURLE_RECV_ERROR, "tlsv13 alert certificate required"), MFS_NET_TLS);
}

/* Give one answer, header by header; the outcome that ended it, or MFS_OK. */
static enum mfs_code
answer(struct transfer *t, const char *text)
{
	static struct fetcher f;
	char line[8192];

	response_fetcher_set(&f);
	ended_with = MFS_OK;
	memset(&told, 0, sizeof(told));
	t->easy = curl_easy_init();
	while (*text != '\0') {
		size_t n = strcspn(text, "\n") + 1;

		memcpy(line, text, n);
		if (response_header(line, 1, n, t) != n)
			break;
		text += n;
	}
	curl_easy_cleanup(t->easy);
	return ended_with;
}

/* The status is curl's to know: without one nothing is judged, and headers alone do no harm. */
Test(response, headers_without_an_end)
{
	struct transfer t = { .q = { .cap = 100, .kind = MFS_WIRE_METADATA } };

	cr_assert_eq(answer(&t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n"), MFS_OK);
	cr_assert(t.answer.length == 5 && strcmp(t.answer.etag, "\"a\"") == 0 && t.mode == TRANSFER_WAIT);
	cr_assert_eq(answer(&t, "HTTP/1.1 200 OK\r\n"), MFS_OK);
	cr_assert(t.answer.length == MFS_WIRE_UNKNOWN && t.answer.etag[0] == '\0', "another answer begins anew");
}

Test(response, headers_that_cannot_be_end_it)
{
	static const char *const bad[] = { "Content-Length: 5x\r\n", "Content-Length: -5\r\n", "Content-Length: \r\n",
		"Content-Length: 99999999999999999999\r\n", "Content-Length: 5, 5\r\n", "Content-Range: bytes 5-9/*\r\n",
		"content-range: x\r\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct transfer t = { .q = { .cap = 100 } };

		cr_assert_eq(answer(&t, bad[i]), MFS_NET_PROTOCOL, "%s", bad[i]);
	}
}

Test(response, an_etag_that_is_none_is_not_kept)
{
	static const char *const odd[] = { "ETag: a b\r\n", "ETag: \x01\r\n", "ETag: \xc3\xa4\r\n", "ETag:\r\n" };
	char text[256] = "ETag: ";

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		struct transfer t = { 0 };

		cr_assert_eq(answer(&t, odd[i]), MFS_OK);
		cr_assert_str_empty(t.answer.etag);
	}
	memset(text + 6, 'x', 128);
	strcpy(text + 6 + 128, "\r\n");
	{
		struct transfer t = { 0 };

		cr_assert_eq(answer(&t, text), MFS_OK);
		cr_assert_str_empty(t.answer.etag, "128 bytes do not fit");
	}
}

Test(response, headers_without_number_are_bounded)
{
	struct transfer t = { .q = { .cap = 100 } };
	char line[] = "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
	size_t n = strlen(line), given = 0;

	response_fetcher_set(NULL);
	t.easy = curl_easy_init();
	while (response_header(line, 1, n, &t) == n)
		given += n;
	curl_easy_cleanup(t.easy);
	cr_assert(t.ended && t.code == MFS_NET_PROTOCOL && given <= 64 << 10);
}

Test(response, bucket_gives_its_rate_and_no_more)
{
	struct bucket b = { .rate = 10000 };
	uint64_t got = 0;

	for (int64_t now = 0; now <= 10000; now += 7) {
		bucket_fill(&b, now);
		while (bucket_take(&b, 300))
			got += 300;
		cr_assert(bucket_wait_ms(&b) > 0);
	}
	cr_assert(got >= 95000 && got <= 103000, "%llu bytes in ten seconds at 10000", (unsigned long long)got);
	bucket_fill(&b, 1000000000); /* a long pause is no credit */
	got = 0;
	while (bucket_take(&b, 300))
		got += 300;
	cr_assert_leq(got, 10000 / 4 + 301);
	b = (struct bucket){ .rate = 0 };
	cr_assert(bucket_take(&b, 1 << 30) && bucket_wait_ms(&b) == 0);
}

/* ---- the system bus ---------------------------------------------------------------------------------- */

/* A bus that takes no connection any more: fetch has one thread, and all transfers wait for it. */
Test(dbus, a_bus_that_hangs_is_not_waited_for, .timeout = 20)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int bus = socket(AF_UNIX, SOCK_STREAM, 0), held[64], n = 0;

	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/check-bus-%d", (int)getpid());
	(void)unlink(at.sun_path);
	cr_assert_eq(bind(bus, (const struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(bus, 0), 0);
	for (; n < 64; n++) {
		held[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(held[n], (const struct sockaddr *)&at, sizeof(at)) != 0)
			break;
	}
	cr_assert_lt(n, 64);
	cr_assert_eq(dbus_metered(at.sun_path), MFS_METERED_UNKNOWN);
	while (n >= 0)
		(void)close(held[n--]);
	(void)close(bus);
	(void)unlink(at.sun_path);
}
