/* SPDX-License-Identifier: Apache-2.0 */
/* check_content_cache.c - the chunks that readers share: opened once, evicted; failures are told and counted. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "contentread.h"

struct crowd {
	struct fix *f;
	pthread_barrier_t barrier;
	_Atomic int wrong;
	size_t len;
	uint64_t off;
	enum mfs_code want;
};

static void *
one_of_crowd(void *arg)
{
	struct crowd *w = arg;
	uint8_t *buf = malloc(w->len);
	size_t got = 0;

	(void)pthread_barrier_wait(&w->barrier);
	if (buf == NULL || mfs_content_read(w->f->c, buf, w->len, w->off, &got, NULL) != w->want ||
		(w->want == MFS_OK && memcmp(buf, w->f->plain + w->off, w->len) != 0))
		atomic_fetch_add(&w->wrong, 1);
	free(buf);
	return NULL;
}

/* Eight threads read the same bytes at once. */
static void
read_together(struct fix *f, uint64_t off, size_t len, enum mfs_code want)
{
	struct crowd w = { .f = f, .len = len, .off = off, .want = want };
	pthread_t t[8];

	(void)pthread_barrier_init(&w.barrier, NULL, 8);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, one_of_crowd, &w), 0);
	for (int i = 0; i < 8; i++)
		(void)pthread_join(t[i], NULL);
	(void)pthread_barrier_destroy(&w.barrier);
	cr_assert_eq(atomic_load(&w.wrong), 0);
}

Test(content, readers_of_parts_of_one_chunk_open_it_once)
{
	struct mfs_cache_stats s;
	struct fix f;

	fix_make(&f, 3u << 20, 1u << 20, MFS_CIPHER_AES_256_GCM, 2u << 20);
	read_together(&f, (1u << 20) + 5, 1000, MFS_OK);
	mfs_cache_stats(f.cache, &s);
	cr_assert_eq(s.opened, 1);
	cr_assert_eq(s.hits, 7);
	fix_free(&f);
}

Test(content, a_waiter_gets_the_chunk_that_another_reader_opened_into_its_own_buffer)
{
	struct mfs_cache_stats s;
	struct fix f;
	bool waited = false;

	fix_make(&f, 3u << 20, 1u << 20, MFS_CIPHER_AES_256_GCM, 2u << 20);
	/* Whether threads meet is chance: until they did, and the bytes are right every time. */
	for (int i = 0; i < 200 && !waited; i++) {
		read_together(&f, 1u << 20, 1u << 20, MFS_OK);
		mfs_cache_stats(f.cache, &s);
		waited = s.waits > 0;
	}
	cr_assert(waited);
	cr_assert_gt(s.hits, 0);
	fix_free(&f);
}

Test(content, waiters_of_a_bad_chunk_get_its_error_and_do_not_hang)
{
	struct fix f;

	fix_make(&f, 3u << 20, 1u << 20, MFS_CIPHER_AES_256_GCM, 2u << 20);
	fix_flip(&f, &f.file.sha256, (1u << 20) + 77);
	for (int i = 0; i < 5; i++) {
		read_together(&f, (1u << 20) + 5, 100, MFS_HASH_MISMATCH);
		read_together(&f, 1u << 20, 1u << 20, MFS_HASH_MISMATCH);
	}
	fix_free(&f);
}

Test(content, the_cache_evicts_and_stays_within_its_budget)
{
	struct mfs_cache_stats s;
	struct fix f;

	fix_make(&f, 64 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 64; i++)
			expect_same(&f, i * CHUNK + 3, 10);
	mfs_cache_stats(f.cache, &s);
	cr_assert_eq(s.bytes, CACHE);
	cr_assert_eq(s.opened, 128, "16 chunks fit, 64 go round: every one is opened again");
	cr_assert_eq(s.evicted, 128 - CACHE / CHUNK);
	expect_same(&f, 63 * CHUNK, 10);
	mfs_cache_stats(f.cache, &s);
	cr_assert_eq(s.opened, 128, "the last one is still there");
	cr_assert_eq(s.hits, 1);
	fix_free(&f);
}

Test(content, chunks_of_different_sizes_share_the_cache)
{
	struct fix f;
	struct mfs_file large;
	struct mfs_manifest m;
	struct mfs_content *c = NULL;
	struct fix g;
	uint8_t b[64];
	size_t got;

	fix_make(&f, 40 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_make(&g, 3u << 20, 1u << 20, MFS_CIPHER_NONE, CACHE);
	large = g.file;
	m = g.m;
	m.files = &large;
	cr_assert_eq(mfs_content_new(g.store, f.cache, &m, 0, NULL, &c, NULL), MFS_OK);
	for (uint64_t i = 0; i < 120; i++) {
		expect_same(&f, (i * 7 % 40) * CHUNK + 5, 50);
		if (i % 5 != 0)
			continue;
		cr_assert_eq(read_at(c, b, sizeof(b), (i % 3 << 20) + 11, &got), MFS_OK);
		cr_assert_arr_eq(b, g.plain + (i % 3 << 20) + 11, sizeof(b));
	}
	mfs_content_free(c);
	fix_free(&g);
	fix_free(&f);
}

Test(content, more_files_than_may_stay_open_are_all_read)
{
	struct mfs_content *c[300];
	struct fix f;
	uint8_t b[16];
	size_t got;

	fix_make(&f, CHUNK + 16, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	for (size_t i = 0; i < 300; i++)
		c[i] = fix_content(&f, &f.key);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < 300; i++) {
			cr_assert_eq(read_at(c[i], b, sizeof(b), CHUNK, &got), MFS_OK);
			cr_assert_arr_eq(b, f.plain + CHUNK, sizeof(b));
		}
	}
	cr_assert_eq(open("/proc/self/fd/290", O_RDONLY), -1, "descriptors of idle files are closed");
	for (size_t i = 0; i < 300; i++)
		mfs_content_free(c[i]);
	fix_free(&f);
}

static void
count_failure(void *user, const struct mfs_content *c, uint64_t chunk, const struct mfs_err *err)
{
	uint64_t *seen = user;

	(void)c;
	seen[0]++;
	seen[1] = chunk;
	seen[2] = (uint64_t)err->code;
}

Test(content, a_failure_is_told_once_with_its_chunk)
{
	uint64_t seen[3] = { 0 };
	struct fix f;
	uint8_t *buf = malloc(4 * CHUNK);
	size_t got;

	cr_assert_not_null(buf);
	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	mfs_cache_on_failure(f.cache, count_failure, seen);
	fix_flip(&f, &f.file.sha256, 2 * CHUNK);
	cr_assert_eq(read_at(f.c, buf, 4 * CHUNK, 0, &got), MFS_HASH_MISMATCH);
	cr_assert_eq(seen[0], 1);
	cr_assert_eq(seen[1], 2);
	cr_assert_eq(seen[2], MFS_HASH_MISMATCH);
	fix_free(&f);
	free(buf);
}

Test(content, failures_are_counted_for_the_version_that_has_them)
{
	struct mfs_failures mine = { .manifest.b[0] = 1, .n = 7 }, other = { .manifest.b[0] = 2 }, late = { .manifest.b[0] = 1 };
	uint8_t *buf = malloc(4 * CHUNK);
	struct fix f;
	size_t got;

	cr_assert_not_null(buf);
	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	f.m.id.b[0] = 1;
	fix_flip(&f, &f.file.sha256, 2 * CHUNK);
	mfs_failures_begin(f.cache, &mine);
	mfs_failures_begin(f.cache, &other);
	cr_assert_eq(read_at(f.c, buf, CHUNK, 0, &got), MFS_OK);
	cr_assert_eq(read_at(f.c, buf, 4 * CHUNK, 0, &got), MFS_HASH_MISMATCH);
	cr_assert_eq(read_at(f.c, buf, 10, 2 * CHUNK, &got), MFS_HASH_MISMATCH);
	mfs_failures_begin(f.cache, &late);
	mfs_failures_end(f.cache, &mine);
	cr_assert_eq(read_at(f.c, buf, 10, 2 * CHUNK, &got), MFS_HASH_MISMATCH);
	mfs_failures_end(f.cache, &other);
	mfs_failures_end(f.cache, &late);
	cr_assert_eq(mine.n, 2);
	cr_assert_eq(other.n, 0);
	cr_assert_eq(late.n, 1);
	fix_free(&f);
	free(buf);
}

/* A health check that fails meanwhile is no verdict about the version: every read that failed counts. */
Test(content, a_failed_read_is_counted_whatever_was_lacking)
{
	static const char *const what[] = { "a chunk", "the table", "the blob" };
	uint8_t *buf = malloc(4 * CHUNK);

	cr_assert_not_null(buf);
	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		uint64_t seen[3] = { 0 };
		struct mfs_cache_stats st;
		char path[256];
		struct fix f;
		size_t got;

		fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
		mfs_cache_on_failure(f.cache, count_failure, seen);
		fix_path(&f, &f.file.sha256, path);
		if (i < 2)
			fix_flip(&f, i == 0 ? &f.file.sha256 : &f.file.chunks_sha256, 100);
		else
			cr_assert_eq(truncate(path, CHUNK), 0);
		cr_assert_neq(read_at(f.c, buf, CHUNK, 0, &got), MFS_OK, "%s", what[i]);
		mfs_cache_stats(f.cache, &st);
		cr_assert_eq(st.failed, 1, "%s", what[i]);
		cr_assert_eq(seen[0], 1, "%s", what[i]);
		fix_free(&f);
	}
	free(buf);
}
