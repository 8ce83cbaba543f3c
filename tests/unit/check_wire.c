/* SPDX-License-Identifier: Apache-2.0 */
/* check_wire.c - frames between serve and fetch: whatever is not exactly right ends the peer. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../lib/fdsock.h"
#include "wire.h"

static union mfs_wire
frame(enum mfs_wire_type type, size_t size, uint64_t id)
{
	union mfs_wire m;

	memset(&m, 0, sizeof(m));
	m.head = (struct mfs_wire_head){ MFS_WIRE_VERSION, (uint16_t)type, (uint32_t)size, id };
	return m;
}

static union mfs_wire
get(void)
{
	union mfs_wire m = frame(MFS_W_GET, sizeof(m.get), 7);

	m.get.mirror = -1;
	m.get.kind = MFS_WIRE_METADATA;
	m.get.cap = 100;
	strcpy(m.get.path, "timestamp.json");
	return m;
}

static union mfs_wire
headers(uint32_t http)
{
	union mfs_wire m = frame(MFS_W_HEADERS, sizeof(m.headers), 7);

	m.headers.http = http;
	if (http == 206) {
		m.headers.from = 5;
		m.headers.length = 10;
		m.headers.total = 15;
	}
	return m;
}

static bool
good(const union mfs_wire *m, bool from_fetch)
{
	union mfs_wire out;

	return mfs_wire_parse(m, m->head.size, from_fetch, &out, NULL) == MFS_OK && memcmp(m, &out, m->head.size) == 0;
}

Test(wire, good_frames_arrive_as_they_are)
{
	union mfs_wire m = get();

	cr_assert(good(&m, false));
	cr_assert_not(good(&m, true), "in the other direction");
	m = headers(200);
	cr_assert(good(&m, true));
	m = headers(206);
	cr_assert(good(&m, true));
	cr_assert_not(good(&m, false));
	m = frame(MFS_W_HELLO, sizeof(m.hello), 0);
	cr_assert(good(&m, true));
	m = frame(MFS_W_DONE, sizeof(m.done), 3);
	m.done.total = MFS_WIRE_UNKNOWN;
	cr_assert(good(&m, true));
	m = frame(MFS_W_FACTS, sizeof(m.facts), 3);
	m.facts.n_nets = 1;
	strcpy(m.facts.nets[0], "eth0");
	cr_assert(good(&m, true));
	m = frame(MFS_W_POST, sizeof(m.post), 3);
	m.post.size = 1;
	cr_assert(good(&m, false));
	for (enum mfs_wire_type t = MFS_W_CANCEL; t <= MFS_W_PING; t++) {
		m = frame(t, sizeof(m.head), 9);
		cr_assert(good(&m, false));
	}
}

Test(wire, every_length_but_the_right_one_is_refused)
{
	union mfs_wire m = get(), out;

	for (size_t n = 0; n < sizeof(m) + 64; n++) {
		uint8_t *exact = calloc(1, n + 1);

		memcpy(exact, &m, n < sizeof(m) ? n : sizeof(m));
		cr_assert_eq(mfs_wire_parse(exact, n, false, &out, NULL) == MFS_OK, n == sizeof(m.get), "%zu bytes", n);
		free(exact);
	}
}

Test(wire, heads_that_cannot_be_are_refused)
{
	union mfs_wire m = get();

	m.head.version++;
	cr_assert_not(good(&m, false));
	m = get();
	m.head.id = 0;
	cr_assert_not(good(&m, false), "no id");
	m = frame(MFS_W_HELLO, sizeof(m.hello), 1);
	cr_assert_not(good(&m, true), "HELLO with an id");
	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		union mfs_wire out;

		m = get();
		m.head.type = (uint16_t)type;
		cr_assert_eq(mfs_wire_parse(&m, m.head.size, false, &out, NULL) == MFS_OK, type == MFS_W_GET, "type %u", type);
	}
	m = get();
	m.head.size--;
	cr_assert_neq(mfs_wire_parse(&m, sizeof(m.get), false, &m, NULL), MFS_OK, "a size that is not the frame's");
}

#define REFUSED(make, change, from_fetch)                                            \
	do {                                                                         \
		union mfs_wire m = make;                                             \
		cr_assert(good(&m, from_fetch), "not good before: %s", #change);     \
		change;                                                              \
		cr_assert_not(good(&m, from_fetch), "accepted: %s", #change);        \
	} while (0)

Test(wire, fields_of_requests_out_of_range_are_refused)
{
	REFUSED(get(), m.get.kind = 0, false);
	REFUSED(get(), m.get.kind = MFS_WIRE_GRANT + 1, false);
	REFUSED(get(), m.get.mirror = -2, false);
	REFUSED(get(), m.get.repo = MFS_WIRE_TELEMETRY, false);
	REFUSED(get(), m.get.cap = 0, false);
	REFUSED(get(), m.get.length = 101, false);
	REFUSED(get(), m.get.from = 1, false); /* without a length */
	REFUSED(get(), (m.get.length = 1, m.get.from = UINT64_MAX), false);
	REFUSED(get(), (m.get.length = m.get.cap = UINT64_MAX), false);
	REFUSED(get(), m.get.part = 1, false);
	REFUSED(get(), m.get.hash[31] = 1, false);
	REFUSED(get(), m.get.zero = 1, false);
	REFUSED(get(), m.get.path[0] = '\0', false);
	REFUSED(get(), m.get.path[0] = '/', false);
	REFUSED(get(), strcpy(m.get.path, "a?b"), false);
	REFUSED(get(), m.get.path[MFS_WIRE_PATH - 1] = 'x', false); /* behind the end */
	REFUSED(get(), memset(m.get.path, 'x', sizeof(m.get.path)), false);
	REFUSED(get(), strcpy(m.get.etag, "\"a\"\r\nX: y"), false);
	REFUSED(get(), memset(m.get.etag, 'x', sizeof(m.get.etag)), false);
	REFUSED(get(), m.get.kind = MFS_WIRE_BLOB, false); /* with a path */
	{
		union mfs_wire m = get();

		m.get.kind = MFS_WIRE_BLOB;
		memset(m.get.path, 0, sizeof(m.get.path));
		m.get.part = 99999;
		cr_assert(good(&m, false));
		m.get.part++;
		cr_assert_not(good(&m, false), "a part of six digits");
	}
}

Test(wire, fields_of_answers_out_of_range_are_refused)
{
	union mfs_wire done = frame(MFS_W_DONE, sizeof(done.done), 3), facts = frame(MFS_W_FACTS, sizeof(facts.facts), 3);

	facts.facts.n_nets = 1;
	strcpy(facts.facts.nets[0], "eth0");
	REFUSED(headers(200), m.headers.http = 404, true);
	REFUSED(headers(200), m.headers.from = 1, true);
	REFUSED(headers(200), m.headers.total = 1, true); /* another length */
	REFUSED(headers(200), m.headers.zero = 1, true);
	REFUSED(headers(200), strcpy(m.headers.etag, "\x7f"), true);
	REFUSED(headers(304), m.headers.length = 1, true);
	REFUSED(headers(206), m.headers.length = 0, true);
	REFUSED(headers(206), m.headers.length = 11, true);
	REFUSED(headers(206), m.headers.from = 6, true);
	REFUSED(headers(206), m.headers.from = UINT64_MAX - 4, true);
	REFUSED(headers(206), m.headers.total = MFS_WIRE_UNKNOWN, true);
	REFUSED(done, m.done.code = MFS_REVOKED, true); /* not for fetch to say */
	REFUSED(done, m.done.code = MFS_INTERNAL, true);
	REFUSED(done, m.done.code = 4711, true);
	REFUSED(done, m.done.http = 1000, true);
	REFUSED(done, m.done.retry_after_s = MFS_WIRE_RETRY_MAX + 1, true);
	REFUSED(done, strcpy(m.done.text, "\x1b[2J"), true);
	REFUSED(facts, m.facts.on_ac = 2, true);
	REFUSED(facts, m.facts.battery = 101, true);
	REFUSED(facts, m.facts.metered = 3, true);
	REFUSED(facts, m.facts.n_nets = MFS_WIRE_NETS + 1, true);
	REFUSED(facts, m.facts.n_nets = 2, true); /* with one name */
	REFUSED(facts, m.facts.n_nets = 0, true);
}

Test(wire, paths)
{
	static const char *const fine[] = { "a", "timestamp.json", "12.release.det.json", "det/1.1.0/default/x.json", "a%20b",
		"..a", "a..", "...", "%2e%2e%2e", "a/b/c", "~!$&'()*+,;=:@-._" };
	static const char *const not[] = { "", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "../a", "%2e", "%2E%2e/a", ".%2e",
		"a%2Fb", "a%2fb", "a%00", "a%", "a%2", "a%zz", "a b", "a?b", "a#b", "a\\b", "a\"b", "\xc3\xa4", "a\nb", "[a]", "{x}" };

	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		cr_assert(mfs_wire_path_ok(fine[i]), "%s", fine[i]);
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++)
		cr_assert_not(mfs_wire_path_ok(not[i]), "%s", not[i]);
}

Test(wire, folder_of_a_file_url)
{
	cr_assert_eq(mfs_wire_file_base("file:///srv/repo"), strlen("file:///srv/repo"));
	cr_assert_eq(mfs_wire_file_base("file:///srv/c/{hash}/{part}"), strlen("file:///srv/c/"));
	cr_assert_eq(mfs_wire_file_base("file:///srv/c/x{hash}"), strlen("file:///srv/c/"));
}

/* ---- the socket --------------------------------------------------------------------------------- */

Test(wire, descriptors_belong_to_their_frames_and_never_leak)
{
	const int fds[] = { 0, 0, 0, 0, 0, 0 };
	union mfs_wire m = get(), ping = frame(MFS_W_PING, sizeof(ping.head), 1), out;
	unsigned before;
	int pair[2], fd;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = descriptors_open();
	cr_assert_eq(mfs_wire_send(pair[0], &m, MFS_W_GET, 5, 0), 0);
	cr_assert_eq(mfs_wire_recv(pair[1], false, &out, &fd, NULL), 1);
	cr_assert(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	cr_assert_eq(out.head.id, 5);
	close(fd);
	cr_assert_neq(mfs_wire_send(pair[0], &m, MFS_W_GET, 5, -1), 0, "a GET without its pipe");
	cr_assert_neq(mfs_wire_send(pair[0], &ping, MFS_W_PING, 5, 0), 0, "a PING with a descriptor");
	for (size_t n = 0; n <= 6; n++) {
		m = get();
		raw_send(pair[0], &m, sizeof(m.get), fds, n);
		cr_assert_eq(mfs_wire_recv(pair[1], false, &out, &fd, NULL), n == 1 ? 1 : -1, "a GET with %zu", n);
		if (n == 1)
			close(fd);
		ping = frame(MFS_W_PING, sizeof(ping.head), 1);
		raw_send(pair[0], &ping, sizeof(ping.head), fds, n);
		cr_assert_eq(mfs_wire_recv(pair[1], false, &out, &fd, NULL), n == 0 ? 1 : -1, "a PING with %zu", n);
	}
	raw_send(pair[0], &m, sizeof(m), NULL, 0);
	cr_assert_eq(mfs_wire_recv(pair[1], false, &out, &fd, NULL), -1, "too long");
	cr_assert_eq(errno, EPROTO);
	cr_assert_eq(descriptors_open(), before);
	close(pair[0]);
	cr_assert_eq(mfs_wire_recv(pair[1], false, &out, &fd, NULL), 0, "the end");
	close(pair[1]);
}

/* ---- origins ------------------------------------------------------------------------------------ */

static struct mfs_wire_origins *
origins(uint32_t n, size_t *size)
{
	struct mfs_wire_origins *o;

	*size = sizeof(*o) + n * sizeof(o->origin[0]);
	o = calloc(1, *size);
	cr_assert_not_null(o);
	o->magic = MFS_WIRE_ORIGINS_MAGIC;
	o->version = MFS_WIRE_VERSION;
	o->n = n;
	o->uid = 1000;
	o->low_speed_s = 30;
	for (uint32_t i = 0; i < n; i++) {
		struct mfs_wire_origin *a = &o->origin[i];

		a->mirror = a->dir_fd = a->ca_fd = a->cert_fd = a->key_fd = a->token_fd = -1;
		strcpy(a->url, "https://h");
	}
	return o;
}

#define ORIGINS_REFUSED(change)                                                                \
	do {                                                                                   \
		size_t size;                                                                   \
		struct mfs_wire_origins *o = origins(2, &size);                                \
		cr_assert_eq(mfs_wire_origins_check(o, size, NULL), MFS_OK);                   \
		change;                                                                        \
		cr_assert_neq(mfs_wire_origins_check(o, size, NULL), MFS_OK, "%s", #change);   \
		free(o);                                                                       \
	} while (0)

Test(wire, origins_that_cannot_be_are_refused)
{
	ORIGINS_REFUSED(o->magic++);
	ORIGINS_REFUSED(o->version++);
	ORIGINS_REFUSED(o->n++);
	ORIGINS_REFUSED(o->n = UINT32_MAX);
	ORIGINS_REFUSED(size--);
	ORIGINS_REFUSED(size = sizeof(*o) - 1);
	ORIGINS_REFUSED(o->uid = 0); /* root is none */
	ORIGINS_REFUSED(o->low_speed_s = 0);
	ORIGINS_REFUSED(memset(o->bus, 'x', sizeof(o->bus)));
	ORIGINS_REFUSED(memset(o->origin[1].url, 'x', sizeof(o->origin[1].url)));
	ORIGINS_REFUSED(o->origin[1].url[0] = '\0');
	ORIGINS_REFUSED(memset(o->origin[1].pin, 'x', sizeof(o->origin[1].pin)));
	ORIGINS_REFUSED(memset(o->origin[1].proxy, 'x', sizeof(o->origin[1].proxy)));
	ORIGINS_REFUSED(o->origin[1].token_fd = MFS_WIRE_FD_SOCK);
	ORIGINS_REFUSED(o->origin[1].dir_fd = -2);
	ORIGINS_REFUSED(o->origin[1].mirror = -2);
}
