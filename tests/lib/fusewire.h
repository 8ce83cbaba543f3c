/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fusewire.h - the kernel's side of FUSE in one process: requests go straight into libfuse, replies
 * are caught in its writev hook. Each call is synchronous; any thread may call.
 */
#ifndef MFS_TEST_FUSEWIRE_H
#define MFS_TEST_FUSEWIRE_H

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

struct wire_reply {
	unsigned count; /* replies to the last request: must be 1 */
	int error;      /* 0 or a positive errno */
	size_t len;     /* of data */
	uint8_t data[2u << 20];
};

struct wire {
	struct fuse_session *se;
	int fd;
};

/* ops with user data; sends INIT. Aborts the test program on failure. */
void wire_open(struct wire *w, const struct fuse_lowlevel_ops *ops, void *user);
void wire_close(struct wire *w);

/* pid of the headers from now on, in this thread (default: 4711, a process that does not exist). */
void wire_pid(uint32_t pid);
/* unique of the next request of this thread, 0: a fresh one. */
void wire_unique(uint64_t unique);
/* unique of the last request of this thread. */
uint64_t wire_last_unique(void);

/* One request; the reply of this thread, valid until its next request. */
struct wire_reply *wire_request(struct wire *w, uint32_t opcode, uint64_t node, const void *body, size_t len);

/* The usual ones: 0 or a positive errno. */
int wire_lookup(struct wire *w, uint64_t parent, const char *name, struct fuse_entry_out *out);
int wire_getattr(struct wire *w, uint64_t node, struct fuse_attr_out *out);
int wire_readlink(struct wire *w, uint64_t node, char *out, size_t cap);
int wire_open_file(struct wire *w, uint64_t node, uint32_t flags, struct fuse_open_out *out);
int wire_open_dir(struct wire *w, uint64_t node, struct fuse_open_out *out);
int wire_read(struct wire *w, uint64_t node, uint64_t fh, uint64_t off, uint32_t size, void *out, size_t *got);
int wire_release(struct wire *w, uint64_t node, uint64_t fh);
int wire_release_dir(struct wire *w, uint64_t node, uint64_t fh);

/* Names of a folder as "a b c " in the order given, `size` bytes a READDIR; "." and ".." left out. */
int wire_list(struct wire *w, uint64_t node, uint32_t size, char *out, size_t cap);
/* One READDIR from off: the first name, its d_ino and the offset behind it. False at the end. */
bool wire_dirent(struct wire *w, uint64_t node, uint64_t off, char *name, uint64_t *ino, uint64_t *next);

/* Resolve a path from the root through folders only; 0 when absent. */
uint64_t wire_walk(struct wire *w, const char *path);

#endif
