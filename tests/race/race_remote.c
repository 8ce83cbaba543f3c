/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race_remote - many threads ask one remote, more than it has places for, while its fetch dies in
 * between: each request ends, with an answer or an error, and what was answered is right.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mockfetch.h"
#include "remote_int.h"

#define THREADS  24
#define REQUESTS 40

static _Atomic unsigned answered, failed;

static bool
serves_a_while(struct mock *k, const union mfs_wire *m, int fd)
{
	if (m->head.type == MFS_W_CANCEL) {
		mock_done(k, m->head.id, MFS_CONDITION_UNMET, 0, 0);
	} else if (m->head.type == MFS_W_GET) {
		if (m->head.id % 97 == 0)
			return false; /* dies */
		mock_headers(k, m->head.id, 206, m->get.from, m->get.length, 1 << 20);
		mock_bytes(fd, m->get.length);
		mock_done(k, m->head.id, MFS_OK, 206, m->get.length);
	}
	return true;
}

static enum mfs_code
sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	(void)p;
	(void)err;
	*(uint64_t *)user += n;
	return MFS_OK;
}

static void *
asker(void *arg)
{
	struct mfs_remote *r = arg;

	for (unsigned i = 0; i < REQUESTS; i++) {
		uint64_t n = 0;
		struct mfs_remote_request q = { .mirror = -1, .kind = MFS_REMOTE_BLOB, .from = i, .length = 100 + i, .cap = 1000,
			.sink = sink, .user = &n };
		struct mfs_remote_result res;
		enum mfs_code code = mfs_remote_get(r, &q, &res, NULL);

		if (code == MFS_OK && (n != q.length || res.from != i)) {
			fprintf(stderr, "%llu bytes of %llu\n", (unsigned long long)n, (unsigned long long)q.length);
			_exit(1);
		}
		if (code == MFS_OK)
			answered++;
		else
			failed++;
	}
	return NULL;
}

int
main(void)
{
	static const struct mfs_remote_timing t = { 50, 5000, 5000, 60000, 1, 0, 0 };
	static struct mock k = { .on = serves_a_while };
	struct mfs_remote *r;
	pthread_t threads[THREADS];

	if (mfs_remote_new(mock_start, &k, &r, NULL) != MFS_OK)
		return 1;
	mfs_remote_timing_set(r, &t);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, asker, r) != 0)
			return 1;
	for (unsigned i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	mfs_remote_free(r);
	mock_join(&k);
	printf("%u answered, %u failed, %u fetches\n", answered, failed, k.starts);
	return answered + failed == THREADS * REQUESTS && answered > THREADS && k.starts > 1 ? 0 : 1;
}
