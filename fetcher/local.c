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

static void
open_failed(struct fetcher *f, struct transfer *t)
{
	if (errno == ENOENT || errno == ENOTDIR) {
		t->http = 404;
		transfer_end(f, t, MFS_NET_HTTP, "no such file");
	} else if (errno == ELOOP || errno == EXDEV) {
		transfer_end(f, t, MFS_NET_PROTOCOL, "a link, or out of the folder");
	} else {
		transfer_end(f, t, MFS_NET_PROTOCOL, "%s%s", strerror(errno),
			errno == EACCES ? ": the files must be readable for all" : "");
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
		transfer_end(f, t, MFS_NET_RESOLVE, "the folder is not there");
		return;
	}
	fd = mfs_open_beneath(t->origin->w->dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) != 0) {
		open_failed(f, t);
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
