/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - frames between serve and fetch: each field of a received one is checked here, once. */
#include "wire.h"

#include <string.h>

#include "cleanup.h"
#include "fdmsg.h"

/* No padding: a frame is compared, checked and sent as it lies in memory. */
_Static_assert(sizeof(struct mfs_wire_head) == 16, "wire");
_Static_assert(sizeof(struct mfs_wire_get) == 16 + 16 + 32 + 24 + 8 + MFS_WIRE_ETAG + MFS_WIRE_PATH, "wire");
_Static_assert(sizeof(struct mfs_wire_post) == 32, "wire");
_Static_assert(sizeof(struct mfs_wire_hello) == 24, "wire");
_Static_assert(sizeof(struct mfs_wire_headers) == 48 + MFS_WIRE_ETAG, "wire");
_Static_assert(sizeof(struct mfs_wire_done) == 48 + MFS_WIRE_TEXT, "wire");
_Static_assert(sizeof(struct mfs_wire_facts) == 32 + 16 * MFS_WIRE_NETS, "wire");
_Static_assert(sizeof(struct mfs_wire_origin) == 32 + 1024 + 512 + 512, "wire");
_Static_assert(sizeof(struct mfs_wire_origins) == 48 + 108 + 148, "wire");

static const struct {
	uint16_t type;
	bool from_fetch;
	bool fd; /* a descriptor comes with it */
	size_t size;
} frames[] = {
	{ MFS_W_GET, false, true, sizeof(struct mfs_wire_get) },
	{ MFS_W_POST, false, true, sizeof(struct mfs_wire_post) },
	{ MFS_W_CANCEL, false, false, sizeof(struct mfs_wire_head) },
	{ MFS_W_CONDITIONS, false, false, sizeof(struct mfs_wire_head) },
	{ MFS_W_PING, false, false, sizeof(struct mfs_wire_head) },
	{ MFS_W_HELLO, true, false, sizeof(struct mfs_wire_hello) },
	{ MFS_W_HEADERS, true, false, sizeof(struct mfs_wire_headers) },
	{ MFS_W_DONE, true, false, sizeof(struct mfs_wire_done) },
	{ MFS_W_FACTS, true, false, sizeof(struct mfs_wire_facts) },
	{ MFS_W_PONG, true, false, sizeof(struct mfs_wire_head) },
};
#define N_FRAMES (sizeof(frames) / sizeof(frames[0]))

/* Index into frames, or N_FRAMES. */
static size_t
frame_find(uint16_t type)
{
	size_t i = 0;

	while (i < N_FRAMES && frames[i].type != type)
		i++;
	return i;
}

/* ---- fields ----------------------------------------------------------------------------------- */

/* Printable ASCII, ends within its field, and only zeros follow. */
static bool
text_ok(const char *s, size_t cap)
{
	size_t n = strnlen(s, cap);

	if (n == cap)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			return false;
	for (size_t i = n; i < cap; i++)
		if (s[i] != '\0')
			return false;
	return true;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One character of a component at *s, decoded; -1 if it may not stand there. */
static int
path_char(const char **s)
{
	static const char plain[] = "-._~!$&'()*+,;=:@";
	const char c = **s;
	int hi, lo;

	if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		(c != '\0' && strchr(plain, c) != NULL)) {
		(*s)++;
		return (unsigned char)c;
	}
	if (c != '%' || (hi = hex_value((*s)[1])) < 0 || (lo = hex_value((*s)[2])) < 0)
		return -1;
	*s += 3;
	hi = hi << 4 | lo;
	return hi == 0 || hi == '/' ? -1 : hi;
}

bool
mfs_wire_path_ok(const char *path)
{
	const char *s = path;

	if (strnlen(path, MFS_WIRE_PATH) == MFS_WIRE_PATH)
		return false;
	do {
		size_t n = 0, dots = 0;

		for (; *s != '\0' && *s != '/'; n++) {
			int c = path_char(&s);

			if (c < 0)
				return false;
			dots += c == '.';
		}
		if (n == 0 || (n <= 2 && dots == n))
			return false;
	} while (*s++ == '/');
	return true;
}

static enum mfs_code
get_check(const struct mfs_wire_get *g, struct mfs_err *err)
{
	static const uint8_t no_hash[32];
	const bool blob = g->kind == MFS_WIRE_BLOB;

	if (g->kind < MFS_WIRE_METADATA || g->kind > MFS_WIRE_GRANT || g->mirror < -1 || g->repo == MFS_WIRE_TELEMETRY ||
		g->zero != 0)
		return mfs_fail(err, MFS_MALFORMED, "wire: GET: repository, mirror or kind");
	if (!text_ok(g->etag, sizeof(g->etag)) || !text_ok(g->path, sizeof(g->path)))
		return mfs_fail(err, MFS_MALFORMED, "wire: GET: text");
	if (blob ? g->path[0] != '\0' || g->part > 99999
		 : !mfs_wire_path_ok(g->path) || g->part != 0 || memcmp(g->hash, no_hash, sizeof(no_hash)) != 0)
		return mfs_fail(err, MFS_MALFORMED, "wire: GET: path, hash or part");
	if (g->cap == 0 || g->length > g->cap || (g->length == 0 && g->from != 0) || g->from > INT64_MAX ||
		g->length > INT64_MAX || g->from + g->length > INT64_MAX)
		return mfs_fail(err, MFS_MALFORMED, "wire: GET: range or cap");
	return MFS_OK;
}

static enum mfs_code
headers_check(const struct mfs_wire_headers *h, struct mfs_err *err)
{
	const bool part = h->http == 206;

	if ((h->http != 200 && h->http != 206 && h->http != 304) || h->zero != 0 || !text_ok(h->etag, sizeof(h->etag)))
		return mfs_fail(err, MFS_MALFORMED, "wire: HEADERS: status or text");
	if (part ? h->total > INT64_MAX || h->length == 0 || h->length > h->total || h->from > h->total - h->length
		 : h->from != 0)
		return mfs_fail(err, MFS_MALFORMED, "wire: HEADERS: range");
	if (h->http == 200 && h->total != h->length)
		return mfs_fail(err, MFS_MALFORMED, "wire: HEADERS: length");
	if (h->http == 304 && h->length != 0)
		return mfs_fail(err, MFS_MALFORMED, "wire: HEADERS: 304 with a body");
	return MFS_OK;
}

static enum mfs_code
done_check(const struct mfs_wire_done *d, struct mfs_err *err)
{
	static const uint32_t codes[] = { MFS_OK, MFS_LIMIT_EXCEEDED, MFS_NO_MEMORY, MFS_CONDITION_UNMET, MFS_CONFIG_INVALID,
		MFS_NET_RESOLVE, MFS_NET_TLS, MFS_NET_HTTP, MFS_NET_TIMEOUT, MFS_NET_PROTOCOL, MFS_NET_PORTAL };
	bool known = false;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		known |= d->code == codes[i];
	if (!known || d->http > 999 || d->retry_after_s > MFS_WIRE_RETRY_MAX || d->zero != 0 ||
		!text_ok(d->text, sizeof(d->text)))
		return mfs_fail(err, MFS_MALFORMED, "wire: DONE: code, status or text");
	return MFS_OK;
}

static enum mfs_code
facts_check(const struct mfs_wire_facts *f, struct mfs_err *err)
{
	bool ok = f->on_ac >= -1 && f->on_ac <= 1 && f->battery >= -1 && f->battery <= 100 && f->metered <= MFS_METERED_NO &&
		f->n_nets <= MFS_WIRE_NETS;

	for (size_t i = 0; ok && i < MFS_WIRE_NETS; i++)
		ok = text_ok(f->nets[i], sizeof(f->nets[i])) && (f->nets[i][0] != '\0') == (i < f->n_nets);
	return ok ? MFS_OK : mfs_fail(err, MFS_MALFORMED, "wire: FACTS: a field out of range");
}

enum mfs_code
mfs_wire_parse(const void *frame, size_t n, bool from_fetch, union mfs_wire *out, struct mfs_err *err)
{
	union mfs_wire m;
	enum mfs_code code = MFS_OK;
	size_t i;

	if (n < sizeof(m.head) || n > sizeof(m))
		return mfs_fail(err, MFS_MALFORMED, "wire: a frame of %zu bytes", n);
	memset(&m, 0, sizeof(m));
	memcpy(&m, frame, n);
	i = frame_find(m.head.type);
	if (m.head.version != MFS_WIRE_VERSION || i == N_FRAMES || frames[i].from_fetch != from_fetch)
		return mfs_fail(err, MFS_MALFORMED, "wire: version %u, type %u", m.head.version, m.head.type);
	if (n != frames[i].size || m.head.size != n)
		return mfs_fail(err, MFS_MALFORMED, "wire: type %u of %zu bytes", m.head.type, n);
	if ((m.head.id == 0) != (m.head.type == MFS_W_HELLO))
		return mfs_fail(err, MFS_MALFORMED, "wire: type %u with id %llu", m.head.type, (unsigned long long)m.head.id);
	switch (m.head.type) {
	case MFS_W_GET:
		code = get_check(&m.get, err);
		break;
	case MFS_W_POST:
		if (m.post.zero != 0 || m.post.size == 0 || m.post.size > INT64_MAX)
			code = mfs_fail(err, MFS_MALFORMED, "wire: POST: size");
		break;
	case MFS_W_HELLO:
		if (m.hello.origins > MFS_WIRE_ORIGINS_MAX || m.hello.weakened > 15)
			code = mfs_fail(err, MFS_MALFORMED, "wire: HELLO: a field out of range");
		break;
	case MFS_W_HEADERS:
		code = headers_check(&m.headers, err);
		break;
	case MFS_W_DONE:
		code = done_check(&m.done, err);
		break;
	case MFS_W_FACTS:
		code = facts_check(&m.facts, err);
		break;
	default:
		break;
	}
	if (code == MFS_OK)
		*out = m;
	return code;
}

/* ---- the socket ------------------------------------------------------------------------------- */

int
mfs_wire_send(int sock, union mfs_wire *m, enum mfs_wire_type type, uint64_t id, int fd)
{
	size_t i = frame_find((uint16_t)type);

	if (i == N_FRAMES || frames[i].fd != (fd >= 0)) {
		errno = EINVAL;
		return -1;
	}
	m->head = (struct mfs_wire_head){ MFS_WIRE_VERSION, (uint16_t)type, (uint32_t)frames[i].size, id };
	return mfs_fdmsg_send(sock, m, frames[i].size, fd, 0) < 0 ? -1 : 0;
}

int
mfs_wire_recv(int sock, bool from_fetch, union mfs_wire *out, int *fd, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	struct mfs_fdmsg beside;
	union mfs_wire raw;
	size_t came;
	ssize_t n = mfs_fdmsg_recv(sock, &raw, sizeof(raw), 0, &beside);

	*fd = mfs_fdmsg_one(&beside, &came);
	if (n < 0)
		return -1;
	if (n == 0 && came == 0)
		return 0;
	if (beside.cut)
		code = mfs_fail(err, MFS_MALFORMED, "wire: a frame too long, or too many descriptors");
	else
		code = mfs_wire_parse(&raw, (size_t)n, from_fetch, out, err);
	if (code == MFS_OK && came != (size_t)frames[frame_find(out->head.type)].fd)
		code = mfs_fail(err, MFS_MALFORMED, "wire: type %u with %zu descriptors", out->head.type, came);
	if (code == MFS_OK)
		return 1;
	mfs_cleanup_close(fd);
	errno = EPROTO;
	return -1;
}

/* ---- origins ---------------------------------------------------------------------------------- */

size_t
mfs_wire_file_base(const char *url)
{
	size_t n = strcspn(url, "{");

	if (url[n] == '\0')
		return n;
	while (n > 0 && url[n - 1] != '/')
		n--;
	return n;
}

enum mfs_code
mfs_wire_origins_check(const void *p, size_t n, struct mfs_err *err)
{
	const struct mfs_wire_origins *o = p;

	if (n < sizeof(*o) || o->magic != MFS_WIRE_ORIGINS_MAGIC || o->version != MFS_WIRE_VERSION)
		return mfs_fail(err, MFS_MALFORMED, "origins: of another version");
	if (o->n > MFS_WIRE_ORIGINS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "origins: %u, limit %u", o->n, MFS_WIRE_ORIGINS_MAX);
	if (n != sizeof(*o) + o->n * sizeof(o->origin[0]))
		return mfs_fail(err, MFS_MALFORMED, "origins: %zu bytes for %u", n, o->n);
	if (!text_ok(o->bus, sizeof(o->bus)) || strnlen(o->power, sizeof(o->power)) == sizeof(o->power) ||
		o->low_speed_s == 0 || o->low_speed_s > 3600 || o->uid == 0)
		return mfs_fail(err, MFS_MALFORMED, "origins: a field out of range");
	for (uint32_t i = 0; i < o->n; i++) {
		const struct mfs_wire_origin *a = &o->origin[i];
		const int fds[] = { a->dir_fd, a->ca_fd, a->cert_fd, a->key_fd, a->token_fd };

		for (size_t k = 0; k < sizeof(fds) / sizeof(fds[0]); k++)
			if (fds[k] != -1 && fds[k] < MFS_WIRE_FD_FIRST)
				return mfs_fail(err, MFS_MALFORMED, "origins: %u: descriptor", i);
		if (a->mirror < -1 || a->zero != 0 || !text_ok(a->proxy, sizeof(a->proxy)) || !text_ok(a->pin, sizeof(a->pin)) ||
			strnlen(a->url, sizeof(a->url)) == sizeof(a->url) || a->url[0] == '\0')
			return mfs_fail(err, MFS_MALFORMED, "origins: %u: a field out of range", i);
	}
	return MFS_OK;
}
