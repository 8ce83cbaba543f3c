/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dbus.c - one property of NetworkManager over the system bus: two method calls, spoken directly,
 * because that is all that is needed of D-Bus here. What cannot be understood is "unknown".
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "fetcher.h"
#include "io.h"
#include "span.h"

#define WAIT_MS     1000
#define MESSAGE_MAX 8192u
#define MESSAGES    32 /* signals of the bus may come between */

struct bus {
	int fd;
	int64_t until;
	uint8_t in[MESSAGE_MAX];
};

struct message { /* being marshalled */
	uint8_t b[512];
	size_t n;
};

/* ---- sending ------------------------------------------------------------------------------------ */

static void
pad(struct message *m, size_t to)
{
	while (m->n % to != 0)
		m->b[m->n++] = 0;
}

static void
put_u32(struct message *m, uint32_t v)
{
	pad(m, 4);
	memcpy(m->b + m->n, &v, 4);
	m->n += 4;
}

static void
put_text(struct message *m, const char *s)
{
	put_u32(m, (uint32_t)strlen(s));
	memcpy(m->b + m->n, s, strlen(s) + 1);
	m->n += strlen(s) + 1;
}

static void
put_field(struct message *m, uint8_t code, char type, const char *value)
{
	pad(m, 8);
	m->b[m->n++] = code;
	m->b[m->n++] = 1;
	m->b[m->n++] = (uint8_t)type;
	m->b[m->n++] = 0;
	if (type == 'g') {
		m->b[m->n++] = (uint8_t)strlen(value);
		memcpy(m->b + m->n, value, strlen(value) + 1);
		m->n += strlen(value) + 1;
	} else {
		put_text(m, value);
	}
}

/* Constant strings of together well below the buffer. */
static bool
call(struct bus *bus, uint32_t serial, const char *dest, const char *path, const char *interface, const char *member,
	const char *arg1, const char *arg2)
{
	struct message m = { { 0 }, 0 }, body = { { 0 }, 0 };
	uint32_t len;

	if (arg1 != NULL && arg2 != NULL) {
		put_text(&body, arg1);
		put_text(&body, arg2);
	}
	m.b[0] = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B';
	m.b[1] = 1; /* method call */
	m.b[2] = 2; /* do not start anything for it */
	m.b[3] = 1;
	m.n = 4;
	put_u32(&m, (uint32_t)body.n);
	put_u32(&m, serial);
	put_u32(&m, 0); /* length of the fields, below */
	put_field(&m, 1, 'o', path);
	put_field(&m, 2, 's', interface);
	put_field(&m, 3, 's', member);
	put_field(&m, 6, 's', dest);
	if (arg1 != NULL)
		put_field(&m, 8, 'g', "ss");
	len = (uint32_t)(m.n - 16);
	memcpy(m.b + 12, &len, 4);
	pad(&m, 8);
	memcpy(m.b + m.n, body.b, body.n);
	m.n += body.n;
	return send(bus->fd, m.b, m.n, MSG_NOSIGNAL) == (ssize_t)m.n;
}

/* ---- receiving ---------------------------------------------------------------------------------- */

static bool
receive(struct bus *bus, uint8_t *p, size_t n)
{
	while (n > 0) {
		struct pollfd w = { .fd = bus->fd, .events = POLLIN };
		int64_t left = bus->until - mfs_clock_mono_ms();
		ssize_t got;

		if (left <= 0 || poll(&w, 1, (int)left) <= 0)
			return false;
		got = recv(bus->fd, p, n, 0);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool
receive_line(struct bus *bus, char *line, size_t cap)
{
	for (size_t n = 0; n + 1 < cap; n++) {
		if (!receive(bus, (uint8_t *)line + n, 1))
			return false;
		if (line[n] == '\n') {
			line[n] = '\0';
			return true;
		}
	}
	return false;
}

static bool
get_u32(const uint8_t *p, size_t n, size_t *at, uint32_t *v)
{
	*at = (*at + 3) & ~(size_t)3;
	if (*at > n || n - *at < 4)
		return false;
	memcpy(v, p + *at, 4);
	*at += 4;
	return true;
}

/* Which call a message answers, by its fields; 0 none or not to be understood. */
static uint32_t
reply_serial(const uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at + 4 <= n) {
		const uint8_t code = p[at];
		const char type = (char)p[at + 2];
		uint32_t v;

		if (p[at + 1] != 1 || p[at + 3] != 0)
			return 0;
		at += 4;
		if (type == 'g') {
			if (at >= n)
				return 0;
			at += 2u + p[at];
		} else if (type == 'u' || type == 's' || type == 'o') {
			if (!get_u32(p, n, &at, &v))
				return 0;
			if (code == 5 && type == 'u')
				return v;
			if (type != 'u' && v >= n - at)
				return 0;
			at += type != 'u' ? (size_t)v + 1 : 0;
		} else {
			return 0;
		}
		at = (at + 7) & ~(size_t)7;
	}
	return 0;
}

/* The answer to a call: its body, of *n bytes; NULL: an error, or none came. */
static const uint8_t *
answer(struct bus *bus, uint32_t serial, size_t *n)
{
	const uint8_t order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B';

	for (int i = 0; i < MESSAGES; i++) {
		uint8_t head[16];
		uint32_t body, fields;
		size_t padded;

		if (!receive(bus, head, sizeof(head)) || head[0] != order || head[3] != 1)
			return NULL;
		memcpy(&body, head + 4, 4);
		memcpy(&fields, head + 12, 4);
		if (body > MESSAGE_MAX || fields > MESSAGE_MAX)
			return NULL;
		padded = ((size_t)fields + 7) & ~(size_t)7;
		if (padded + body > sizeof(bus->in) || !receive(bus, bus->in, padded + body))
			return NULL;
		if (reply_serial(bus->in, fields) != serial || (head[1] != 2 && head[1] != 3))
			continue;
		*n = body;
		return head[1] == 2 ? bus->in + padded : NULL;
	}
	return NULL;
}

static bool
login(struct bus *bus)
{
	char line[128], uid[16], hex[2 * sizeof(uid) + 1];

	(void)snprintf(uid, sizeof(uid), "%u", (unsigned)getuid());
	mfs_hex_encode(hex, (const uint8_t *)uid, strlen(uid));
	line[0] = '\0'; /* the byte that carries credentials */
	(void)snprintf(line + 1, sizeof(line) - 1, "AUTH EXTERNAL %s\r\n", hex);
	return send(bus->fd, line, 1 + strlen(line + 1), MSG_NOSIGNAL) > 0 && receive_line(bus, line, sizeof(line)) &&
		strncmp(line, "OK ", 3) == 0 && send(bus->fd, "BEGIN\r\n", 7, MSG_NOSIGNAL) == 7;
}

enum mfs_wire_metered
dbus_metered(const char *path)
{
	static const char *const own[] = { "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.NetworkManager",
		"/org/freedesktop/NetworkManager" };
	/* A bus that takes no connection, or no more bytes, is none: everything else in here waits meanwhile. */
	struct bus bus = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
		.until = mfs_clock_mono_ms() + WAIT_MS };
	mfs_autoclose int fd = bus.fd;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const uint8_t *body;
	uint32_t v;
	size_t n;

	if (fd < 0 || path[0] == '\0')
		return MFS_METERED_UNKNOWN;
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 || !login(&bus) ||
		!call(&bus, 1, own[0], own[1], "org.freedesktop.DBus", "Hello", NULL, NULL) || answer(&bus, 1, &n) == NULL ||
		!call(&bus, 2, own[2], own[3], "org.freedesktop.DBus.Properties", "Get", own[2], "Metered"))
		return MFS_METERED_UNKNOWN;
	body = answer(&bus, 2, &n);
	if (body == NULL || n != 8 || memcmp(body, "\1u\0", 3) != 0) /* a variant of one u32 */
		return MFS_METERED_UNKNOWN;
	memcpy(&v, body + 4, 4);
	return v == 1 || v == 3 ? MFS_METERED_YES : v == 2 || v == 4 ? MFS_METERED_NO : MFS_METERED_UNKNOWN;
}
