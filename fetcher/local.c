/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.c - file://: a folder, a stick. Not by curl: beneath the folder that keeper opened, through no
 * link, regular files only. Answers in the words of HTTP, so that serve sees one kind of source.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "fetcher.h"
#include "io.h"

#define PUMP_BYTES (1u << 20) /* of one transfer, before the others get their turn */

/* The folder of an origin as people write it: without the scheme, percent-encoding undone. */
static const char *
base_text(char *out, size_t cap, const char *url)
{
	const size_t n = mfs_wire_file_base(url);
	char *to = out;

	for (size_t i = strlen("file://"); i < n && to < out + cap - 1; i++) {
		unsigned v;

		if (url[i] == '%' && i + 2 < n && sscanf(url + i + 1, "%2x", &v) == 1 && v != 0) {
			*to++ = (char)v;
			i += 2;
		} else {
			*to++ = url[i];
		}
	}
	*to = '\0';
	return out;
}

/*
 * EACCES: which folder or file it is, and which mode it lacks. A name below a folder that may not be searched cannot
 * even be looked at, so the first one that cannot stands below the folder in question.
 */
static void
denied(struct fetcher *f, struct transfer *t, const char *path)
{
	char base[256], at[1024] = ".", next[1024];
	struct stat st, below;
	bool folder = true;

	(void)base_text(base, sizeof(base), t->origin->w->url);
	if (fstat(t->origin->w->dir_fd, &st) != 0 || strlen(path) >= sizeof(next)) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "%s: permission denied", base);
		return;
	}
	for (size_t i = 1; folder && path[i - 1] != '\0'; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		(void)snprintf(next, sizeof(next), "%.*s", (int)i, path);
		if (fstatat(t->origin->w->dir_fd, next, &below, AT_SYMLINK_NOFOLLOW) != 0)
			break;
		st = below;
		memcpy(at, next, sizeof(at));
		folder = path[i] == '/' && S_ISDIR(st.st_mode);
	}
	transfer_end(f, t, MFS_NET_PROTOCOL, "uid %u (fetch) may not %s %s%s%s: mode %04o, uid %u; run chmod o+%s on it",
		(unsigned)geteuid(), folder ? "enter the folder" : "read", base, strcmp(at, ".") != 0 ? "/" : "",
		strcmp(at, ".") != 0 ? at : "", (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid, folder ? "x" : "r");
}

static void
open_failed(struct fetcher *f, struct transfer *t, const char *path)
{
	if (errno == ENOENT || errno == ENOTDIR) {
		t->http = 404;
		transfer_end(f, t, MFS_NET_HTTP, "no such file");
	} else if (errno == ELOOP || errno == EXDEV) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "a link, or out of the folder");
	} else if (errno == EACCES) {
		denied(f, t, path);
	} else {
		transfer_end(f, t, MFS_NET_PROTOCOL, "%s", strerror(errno));
	}
}

/* The range that was asked for of a file of size bytes, as a server would answer. False: ended. */
static bool
range_find(struct fetcher *f, struct transfer *t, uint64_t size)
{
	const bool whole = t->q.length == 0 || (t->q.etag[0] != '\0' && strcmp(t->q.etag, t->answer.etag) != 0);

	if (whole && t->q.length == 0 && size > t->q.cap) {
		transfer_end(f, t, MFS_LIMIT_EXCEEDED, "%llu bytes, %llu at most", (unsigned long long)size,
			(unsigned long long)t->q.cap);
		return false;
	}
	if (whole) {
		t->source_left = size;
		response_tell(f, t, 200, 0, size, size);
		return true;
	}
	if (t->q.from >= size) {
		t->http = 416;
		t->total = size;
		transfer_end(f, t, MFS_NET_HTTP, "the file has %llu bytes", (unsigned long long)size);
		return false;
	}
	t->source_at = t->q.from;
	t->source_left = size - t->q.from < t->q.length ? size - t->q.from : t->q.length;
	response_tell(f, t, 206, t->q.from, t->source_left, size);
	return true;
}

void
local_begin(struct fetcher *f, struct transfer *t, const char *path)
{
	mfs_autoclose int fd = -1;
	struct stat st;

	if (t->origin->w->dir_fd < 0) {
		char base[256];

		transfer_end(f, t, MFS_NET_RESOLVE, "the folder %s is not there", base_text(base, sizeof(base), t->origin->w->url));
		return;
	}
	fd = mfs_open_beneath(t->origin->w->dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) != 0) {
		open_failed(f, t, path);
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "not a regular file");
		return;
	}
	(void)snprintf(t->answer.etag, sizeof(t->answer.etag), "\"%llx-%llx-%llx.%lx\"", (unsigned long long)st.st_ino,
		(unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
	if (t->q.length == 0 && t->q.etag[0] != '\0' && strcmp(t->q.etag, t->answer.etag) == 0) {
		response_tell(f, t, 304, 0, 0, MFS_WIRE_UNKNOWN);
		transfer_end(f, t, MFS_OK, "%s", "");
		return;
	}
	if (range_find(f, t, (uint64_t)st.st_size)) {
		(void)posix_fadvise(fd, (off_t)t->source_at, (off_t)t->source_left, POSIX_FADV_SEQUENTIAL);
		t->source = mfs_steal_fd(&fd);
	}
}

bool
local_pump(struct fetcher *f, struct transfer *t)
{
	for (size_t done = 0; done < PUMP_BYTES && t->source_left > 0 && !t->ended;) {
		size_t want = t->source_left < REST_BYTES / 2 ? (size_t)t->source_left : REST_BYTES / 2;
		uint8_t *room = transfer_room(t, want);
		ssize_t n;

		if (room == NULL)
			break;
		n = pread(t->source, room, want, (off_t)t->source_at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			transfer_end(f, t, MFS_NET_PROTOCOL, "%s", n < 0 ? strerror(errno) : "the file became shorter");
			return false;
		}
		t->source_at += (uint64_t)n;
		t->source_left -= (uint64_t)n;
		done += (size_t)n;
		transfer_add(t, (size_t)n);
	}
	if (t->source_left == 0)
		transfer_end(f, t, MFS_OK, "%s", "");
	return !t->ended && !t->blocked;
}
