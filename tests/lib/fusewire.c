/* SPDX-License-Identifier: Apache-2.0 */
#include "fusewire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t next_unique = 2;
static _Thread_local struct wire_reply *reply;
static _Thread_local uint32_t pid = 4711;
static _Thread_local uint64_t forced_unique, last_unique;

/* What session.c does for real. */
uint64_t mfs_session_current_unique(void);
uint64_t
mfs_session_current_unique(void)
{
	return last_unique;
}

static void
die(const char *what)
{
	perror(what);
	abort();
}

static ssize_t
hook_writev(int fd, struct iovec *iov, int n, void *user)
{
	struct fuse_out_header h;
	size_t total = 0;

	(void)fd, (void)user;
	memcpy(&h, iov[0].iov_base, sizeof(h));
	if (h.unique != last_unique) /* libfuse answers an INTERRUPT that found nothing with the next request */
		return (ssize_t)iov[0].iov_len;
	if (reply != NULL) {
		reply->count++;
		reply->error = -h.error;
		reply->len = 0;
	}
	for (int i = 0; i < n; i++) {
		if (i > 0 && reply != NULL) {
			if (reply->len + iov[i].iov_len > sizeof(reply->data))
				abort();
			if (iov[i].iov_len > 0)
				memcpy(reply->data + reply->len, iov[i].iov_base, iov[i].iov_len);
			reply->len += iov[i].iov_len;
		}
		total += iov[i].iov_len;
	}
	return (ssize_t)total;
}

static ssize_t
hook_read(int fd, void *buf, size_t len, void *user)
{
	(void)fd, (void)buf, (void)len, (void)user;
	errno = ENODEV;
	return -1;
}

void
wire_open(struct wire *w, const struct fuse_lowlevel_ops *ops, void *user)
{
	static char name[] = "test";
	static char *argv[] = { name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	static const struct fuse_custom_io io = { .writev = hook_writev, .read = hook_read };
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 36, .max_readahead = 1 << 20 };

	if ((w->se = fuse_session_new(&args, ops, sizeof(*ops), user)) == NULL)
		die("fuse_session_new");
	fuse_opt_free_args(&args);
	if ((w->fd = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0 || fuse_session_custom_io(w->se, &io, w->fd) != 0)
		die("fuse_session_custom_io");
	if (wire_request(w, FUSE_INIT, 0, &in, sizeof(in))->error != 0)
		die("INIT");
}

void
wire_close(struct wire *w)
{
	fuse_session_destroy(w->se); /* closes the descriptor */
	w->se = NULL;
}

void
wire_pid(uint32_t p)
{
	pid = p;
}

void
wire_unique(uint64_t unique)
{
	forced_unique = unique;
}

uint64_t
wire_last_unique(void)
{
	return last_unique;
}

struct wire_reply *
wire_request(struct wire *w, uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	/* As large as the kernel's buffer may be for libfuse, zeroed behind the request. */
	_Alignas(8) uint8_t buf[8192] = { 0 };
	struct fuse_in_header h = { .len = (uint32_t)(sizeof(h) + len), .opcode = opcode, .nodeid = node, .pid = pid };
	struct fuse_buf fbuf = { .size = h.len, .mem = buf };

	if (h.len > sizeof(buf))
		abort();
	if (reply == NULL && (reply = calloc(1, sizeof(*reply))) == NULL)
		die("calloc");
	h.unique = last_unique = forced_unique != 0 ? forced_unique : atomic_fetch_add(&next_unique, 2);
	forced_unique = 0;
	memcpy(buf, &h, sizeof(h));
	if (len > 0)
		memcpy(buf + sizeof(h), body, len);
	reply->count = 0;
	reply->error = 0;
	reply->len = 0;
	fuse_session_process_buf(w->se, &fbuf);
	return reply;
}

static int
result(struct wire_reply *r, void *out, size_t len)
{
	if (r->count != 1) {
		fprintf(stderr, "%u replies to one request\n", r->count);
		abort();
	}
	if (r->error == 0 && out != NULL) {
		memset(out, 0, len);
		memcpy(out, r->data, r->len < len ? r->len : len);
	}
	return r->error;
}

int
wire_lookup(struct wire *w, uint64_t parent, const char *name, struct fuse_entry_out *out)
{
	return result(wire_request(w, FUSE_LOOKUP, parent, name, strlen(name) + 1), out, sizeof(*out));
}

int
wire_getattr(struct wire *w, uint64_t node, struct fuse_attr_out *out)
{
	struct fuse_getattr_in in = { 0 };

	return result(wire_request(w, FUSE_GETATTR, node, &in, sizeof(in)), out, sizeof(*out));
}

int
wire_readlink(struct wire *w, uint64_t node, char *out, size_t cap)
{
	struct wire_reply *r = wire_request(w, FUSE_READLINK, node, NULL, 0);
	int error = result(r, NULL, 0);
	size_t n = r->len < cap - 1 ? r->len : cap - 1;

	if (error == 0) {
		memcpy(out, r->data, n);
		out[n] = '\0';
	}
	return error;
}

static int
open_any(struct wire *w, uint32_t opcode, uint64_t node, uint32_t flags, struct fuse_open_out *out)
{
	struct fuse_open_in in = { .flags = flags };

	return result(wire_request(w, opcode, node, &in, sizeof(in)), out, sizeof(*out));
}

int
wire_open_file(struct wire *w, uint64_t node, uint32_t flags, struct fuse_open_out *out)
{
	return open_any(w, FUSE_OPEN, node, flags, out);
}

int
wire_open_dir(struct wire *w, uint64_t node, struct fuse_open_out *out)
{
	return open_any(w, FUSE_OPENDIR, node, 0, out);
}

int
wire_read(struct wire *w, uint64_t node, uint64_t fh, uint64_t off, uint32_t size, void *out, size_t *got)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = size };
	struct wire_reply *r = wire_request(w, FUSE_READ, node, &in, sizeof(in));
	int error = result(r, NULL, 0);

	*got = 0;
	if (error == 0) {
		if (r->len > size)
			abort();
		memcpy(out, r->data, r->len);
		*got = r->len;
	}
	return error;
}

static int
release_any(struct wire *w, uint32_t opcode, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return result(wire_request(w, opcode, node, &in, sizeof(in)), NULL, 0);
}

int
wire_release(struct wire *w, uint64_t node, uint64_t fh)
{
	return release_any(w, FUSE_RELEASE, node, fh);
}

int
wire_release_dir(struct wire *w, uint64_t node, uint64_t fh)
{
	return release_any(w, FUSE_RELEASEDIR, node, fh);
}

static struct wire_reply *
readdir_at(struct wire *w, uint64_t node, uint64_t off, uint32_t size)
{
	struct fuse_read_in in = { .offset = off, .size = size };
	struct wire_reply *r = wire_request(w, FUSE_READDIR, node, &in, sizeof(in));

	(void)result(r, NULL, 0);
	return r;
}

int
wire_list(struct wire *w, uint64_t node, uint32_t size, char *out, size_t cap)
{
	struct wire_reply *r;
	uint64_t off = 0;
	size_t used = 0;

	out[0] = '\0';
	while ((r = readdir_at(w, node, off, size))->error == 0 && r->len > 0)
		for (size_t at = 0; at + FUSE_NAME_OFFSET <= r->len;) {
			struct fuse_dirent d;
			const char *name = (const char *)r->data + at + FUSE_NAME_OFFSET;

			memcpy(&d, r->data + at, FUSE_NAME_OFFSET);
			if (!(d.namelen <= 2 && strncmp(name, "..", d.namelen) == 0))
				used += (size_t)snprintf(out + used, cap - used, "%.*s ", (int)d.namelen, name);
			if (used >= cap)
				abort();
			off = d.off;
			at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
		}
	return r->error;
}

bool
wire_dirent(struct wire *w, uint64_t node, uint64_t off, char *name, uint64_t *ino, uint64_t *next)
{
	struct wire_reply *r = readdir_at(w, node, off, 4096);
	struct fuse_dirent d;

	if (r->error != 0 || r->len < FUSE_NAME_OFFSET)
		return false;
	memcpy(&d, r->data, FUSE_NAME_OFFSET);
	memcpy(name, r->data + FUSE_NAME_OFFSET, d.namelen);
	name[d.namelen] = '\0';
	*ino = d.ino;
	*next = d.off;
	return true;
}

uint64_t
wire_walk(struct wire *w, const char *path)
{
	uint64_t node = FUSE_ROOT_ID;
	struct fuse_entry_out e;
	char part[256];

	while (*path != '\0') {
		size_t n = strcspn(path, "/");

		(void)snprintf(part, sizeof(part), "%.*s", (int)n, path);
		if (wire_lookup(w, node, part, &e) != 0)
			return 0;
		node = e.nodeid;
		path += n + (path[n] == '/');
	}
	return node;
}
