/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mockfetch.h - a fetch that is a thread of the test: it speaks the frames as it is told to, lies too.
 * Give mock_start to mfs_remote_new.
 */
#ifndef MOCKFETCH_H
#define MOCKFETCH_H

#include <pthread.h>

#include "remote.h"

struct mock;

/* What it does with a frame of serve; false: it ends (its socket closes). fd is the mock's to close. */
typedef bool mock_fn(struct mock *k, const union mfs_wire *m, int fd);

struct mock { /* fill `on`, the rest is the mock's */
	mock_fn *on;
	bool no_hello, no_pong;
	unsigned weakened; /* of HELLO */
	void *user;

	unsigned starts; /* how often it was started */
	int sock;
	pthread_t threads[64];
};

enum mfs_code mock_start(void *mock, int *sock, struct mfs_err *err);
void mock_join(struct mock *k); /* after mfs_remote_free */

/* Words of a fetch. */
void mock_headers(struct mock *k, uint64_t id, uint32_t http, uint64_t from, uint64_t length, uint64_t total);
void mock_done(struct mock *k, uint64_t id, enum mfs_code code, uint32_t http, uint64_t sent);
void mock_bytes(int fd, size_t n); /* n bytes 'x', or until nobody reads them */

#endif
