/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobio.h"
#include "content_internal.h"
#include "contentfix.h"

#define CHUNK (64u << 10)
#define CACHE (1u << 20)

static enum mfs_code
read_at(struct mfs_content *c, void *buf, size_t len, uint64_t off, size_t *got)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_content_read(c, buf, len, off, got, &err);

	cr_assert_eq(code == MFS_OK, err.msg[0] == '\0', "a failure says why, a success nothing: %s", err.msg);
	return code;
}

static void
expect_same(struct fix *f, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1);
	size_t want = off >= f->file.size ? 0 : f->file.size - off < len ? f->file.size - off : len, got = 99;

	cr_assert_not_null(buf);
	cr_assert_eq(read_at(f->c, buf, len, off, &got), MFS_OK);
	cr_assert_eq(got, want, "%zu at %lu: got %zu", len, (unsigned long)off, got);
	cr_assert_arr_eq(buf, f->plain + (off > f->file.size ? f->file.size : off), want);
	free(buf);
}

/* ---- sizes and offsets ---------------------------------------------------------------------------- */

struct shape {
	uint64_t size;
	uint32_t chunk;
	enum mfs_cipher cipher;
};

ParameterizedTestParameters(content, every_size_reads_right)
{
	static struct shape s[] = {
		{ 0, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ 1, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ CHUNK - 1, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ CHUNK + 1, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ 40 * CHUNK + 4097, CHUNK, MFS_CIPHER_AES_256_GCM },
		{ 3 * (1u << 20) + 5, 1u << 20, MFS_CIPHER_AES_256_GCM },
		{ 5 * CHUNK + 7, CHUNK, MFS_CIPHER_CHACHA20_POLY1305 },
		{ 1, CHUNK, MFS_CIPHER_NONE },
		{ 5 * CHUNK + 7, CHUNK, MFS_CIPHER_NONE },
	};

	return cr_make_param_array(struct shape, s, sizeof(s) / sizeof(s[0]));
}

ParameterizedTest(struct shape *s, content, every_size_reads_right)
{
	struct fix f;
	uint64_t x = 88172645463325252ull;

	fix_make(&f, s->size, s->chunk, s->cipher, CACHE);
	expect_same(&f, 0, s->size + 10);
	expect_same(&f, s->size, 10);
	expect_same(&f, s->size + 1, 10);
	expect_same(&f, UINT64_MAX - 5, 10);
	expect_same(&f, 0, 0);
	if (s->size > 0)
		expect_same(&f, s->size - 1, 2);
	for (int i = 0; i < 200; i++) {
		uint64_t off, len;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		off = x % (s->size + 3);
		len = (x >> 32) % (i % 4 == 0 ? 4 * (uint64_t)s->chunk : 9000);
		if (i % 3 == 0)
			off &= ~(uint64_t)4095;
		expect_same(&f, off, len);
	}
	fix_free(&f);
}

/* ---- attacks on what is stored ----------------------------------------------------------------------- */

/* Every chunk: the good ones read right, the bad ones give `code` and no byte of plaintext. */
static void
expect_bad(struct fix *f, uint64_t bad, enum mfs_code code)
{
	uint8_t *buf = malloc(f->file.chunk_size);

	cr_assert_not_null(buf);
	for (uint64_t i = 0; i < f->file.chunks; i++) {
		uint64_t off = i * f->file.chunk_size;
		size_t len = mfs_chunk_length(&f->file, i), got;

		if (i != bad) {
			expect_same(f, off, len);
			expect_same(f, off + 1, 1);
			continue;
		}
		for (int part = 0; part < 2; part++) {
			size_t n = part ? len / 2 + 1 : len, same = 0;

			memset(buf, 0, f->file.chunk_size);
			cr_assert_eq(read_at(f->c, buf, n, off, &got), code);
			cr_assert_eq(got, 0);
			for (size_t j = 0; j < n; j++)
				same += buf[j] == f->plain[off + j];
			cr_assert_lt(same, n / 8 + 2, "plaintext of a chunk that did not verify came out");
		}
	}
	free(buf);
}

Test(content, a_flipped_bit_in_each_chunk_is_an_error_and_its_neighbours_read)
{
	for (uint64_t i = 0; i < 4; i++) {
		struct fix f;

		fix_make(&f, 3 * CHUNK + 100, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
		fix_flip(&f, &f.file.sha256, i * CHUNK + (i * 31) % 100);
		expect_bad(&f, i, MFS_HASH_MISMATCH);
		fix_free(&f);
	}
}

Test(content, a_flipped_bit_in_a_plain_file_is_an_error)
{
	struct fix f;

	fix_make(&f, 3 * CHUNK + 100, CHUNK, MFS_CIPHER_NONE, CACHE);
	fix_flip(&f, &f.file.sha256, CHUNK + 5);
	expect_bad(&f, 1, MFS_HASH_MISMATCH);
	fix_free(&f);
}

Test(content, a_flipped_bit_anywhere_in_the_table_refuses_the_whole_file)
{
	static const uint64_t at[] = { 0, 8, 16, 24, 32, 32 + 31, 32 + 32, 32 + 47, 32 + 48 };

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct fix f;
		uint8_t b;
		size_t got;

		fix_make(&f, 3 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
		fix_flip(&f, &f.file.chunks_sha256, at[i]);
		cr_assert_eq(read_at(f.c, &b, 1, 0, &got), MFS_HASH_MISMATCH, "table byte %lu", (unsigned long)at[i]);
		cr_assert_eq(got, 0);
		fix_free(&f);
	}
}

Test(content, a_wrong_tag_in_the_manifest_does_not_decrypt)
{
	struct fix f;

	fix_make(&f, CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	f.file.tag[3] ^= 1;
	expect_bad(&f, 0, MFS_DECRYPT_FAILED);
	fix_free(&f);
}

Test(content, a_wrong_content_key_does_not_decrypt)
{
	struct fix f;
	struct mfs_content *c;
	struct mfs_key wrong;
	uint8_t *buf = calloc(1, 2 * CHUNK);
	size_t got;

	cr_assert_not_null(buf);
	fix_make(&f, 2 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	wrong = f.key;
	wrong.b[31] ^= 1;
	c = fix_content(&f, &wrong);
	cr_assert_eq(read_at(c, buf, 2 * CHUNK, 0, &got), MFS_DECRYPT_FAILED);
	cr_assert_eq(read_at(c, buf, 10, 5, &got), MFS_DECRYPT_FAILED);
	mfs_content_free(c);
	/* A reader's contexts are shared: they must have gone back to the right key. */
	expect_same(&f, 0, 2 * CHUNK);
	fix_free(&f);
	free(buf);
}

Test(content, without_a_key_an_encrypted_file_gives_nothing)
{
	struct fix f;
	struct mfs_content *c;
	uint8_t b[16];
	size_t got;

	fix_make(&f, CHUNK + 5, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	c = fix_content(&f, NULL);
	cr_assert_eq(read_at(c, b, sizeof(b), 0, &got), MFS_KEY_UNAVAILABLE);
	cr_assert_eq(mfs_content_fill(c, -1, 1, NULL, NULL, NULL), MFS_KEY_UNAVAILABLE);
	cr_assert_eq(mfs_content_check(c, 2, NULL, NULL, NULL), MFS_OK, "the hashes can be checked without a key");
	fix_flip(&f, &f.file.sha256, 7);
	cr_assert_eq(mfs_content_check(c, 2, NULL, NULL, NULL), MFS_HASH_MISMATCH);
	mfs_content_free(c);
	fix_free(&f);
}

Test(content, a_blob_truncated_while_open_is_an_error_where_bytes_are_missing)
{
	struct fix f;
	char path[256];

	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	expect_same(&f, 0, CHUNK);
	fix_path(&f, &f.file.sha256, path);
	(void)chmod(path, 0600);
	cr_assert_eq(truncate(path, 3 * CHUNK + 10), 0);
	expect_bad(&f, 3, MFS_HASH_MISMATCH);
	fix_free(&f);
}

Test(content, a_blob_of_another_size_or_none_is_refused_and_heals_when_it_is_put_back)
{
	struct fix f;
	char path[256];
	uint8_t *good, b;
	size_t len, got;

	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_path(&f, &f.file.sha256, path);
	good = fix_load(path, &len);
	fix_store(path, good, len - 1);
	cr_assert_eq(read_at(f.c, &b, 1, 0, &got), MFS_HASH_MISMATCH);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(read_at(f.c, &b, 1, 0, &got), MFS_IO);
	cr_assert_eq(mfs_content_check(f.c, 1, NULL, NULL, NULL), MFS_IO);
	fix_store(path, good, len);
	expect_same(&f, 0, 4 * CHUNK);
	free(good);
	fix_free(&f);
}

Test(content, a_repaired_blob_is_picked_up_by_the_next_read_of_an_open_file)
{
	struct fix f;
	char path[256];
	uint8_t *good;
	size_t len;

	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_path(&f, &f.file.sha256, path);
	good = fix_load(path, &len);
	for (int round = 0; round < 3; round++) {
		fix_flip(&f, &f.file.sha256, 2 * CHUNK + 9);
		expect_bad(&f, 2, MFS_HASH_MISMATCH);
		fix_store(path, good, len);
		expect_same(&f, 0, 4 * CHUNK);
		/* The cache may hold the good chunk now: make the next round read the disk. */
		mfs_content_free(f.c);
		f.c = fix_content(&f, &f.key);
		expect_same(&f, 0, 10);
	}
	free(good);
	fix_free(&f);
}

Test(content, a_blob_is_picked_up_however_often_it_is_replaced)
{
	struct mfs_err err = MFS_ERR_INIT;
	char path[256];
	uint8_t *good;
	size_t len;
	struct fix f;

	fix_make(&f, 4 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_path(&f, &f.file.sha256, path);
	good = fix_load(path, &len);
	for (int round = 0; round < 12; round++) {
		fix_flip(&f, &f.file.sha256, 2 * CHUNK + 9);
		cr_assert_eq(mfs_content_check(f.c, 1, NULL, NULL, NULL), MFS_HASH_MISMATCH);
		fix_store(path, good, len);
		/* Now and then it is opened anew, which the next read sees. */
		cr_assert(mfs_content_check(f.c, 1, NULL, NULL, NULL) == MFS_OK || mfs_content_check(f.c, 1, NULL, NULL, &err) == MFS_OK,
			"round %d: %s", round, err.msg);
	}
	free(good);
	fix_free(&f);
}

Test(content, every_way_around_the_page_cache_reads_the_same_bytes)
{
	static const enum mfs_blob_mode modes[] = { MFS_BLOB_DONTCACHE, MFS_BLOB_DIRECT, MFS_BLOB_PLAIN };
	static const size_t lengths[] = { 1, 4095, 4096, 65536, 65536 + 100 };
	struct fix f;
	uint8_t *buf = aligned_alloc(4096, 4 * CHUNK), *bounce = aligned_alloc(4096, 4 * CHUNK);

	cr_assert(buf != NULL && bounce != NULL);
	fix_make(&f, 2 * CHUNK + 100, CHUNK, MFS_CIPHER_NONE, CACHE);
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
		struct mfs_blob *b = NULL;

		cr_assert_eq(mfs_blob_open(f.store, &f.file.sha256, f.file.size, &b, NULL), MFS_OK);
		atomic_store(&b->mode, modes[m]);
		if (modes[m] == MFS_BLOB_DIRECT)
			(void)fcntl(b->fd, F_SETFL, O_DIRECT); /* where it is refused, the reads fall back */
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			for (size_t skew = 0; skew < 2; skew++) {
				memset(buf, 0, 4 * CHUNK);
				cr_assert_eq(mfs_blob_read(b, buf + skew, lengths[i], CHUNK, bounce, NULL), MFS_OK);
				cr_assert_arr_eq(buf + skew, f.plain + CHUNK, lengths[i]);
				cr_assert_eq(buf[skew + lengths[i]], 0, "written behind the end");
			}
		}
		cr_assert_eq(mfs_blob_read(b, buf + 1, 4096, 0, NULL, NULL), MFS_OK, "no bounce memory: another way");
		cr_assert_arr_eq(buf + 1, f.plain, 4096);
		cr_assert_eq(mfs_blob_read(b, buf, CHUNK, 2 * CHUNK, bounce, NULL), MFS_HASH_MISMATCH, "beyond the end");
		mfs_blob_close(b);
	}
	free(buf);
	free(bounce);
	fix_free(&f);
}

/* ---- the cache ------------------------------------------------------------------------------------------ */

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

/* ---- fill ------------------------------------------------------------------------------------------------- */

static int
make_target(const struct fix *f)
{
	int fd = memfd_create("target", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, (off_t)f->file.size), 0);
	return fd;
}

Test(content, a_fill_writes_exactly_the_plaintext)
{
	static const uint64_t sizes[] = { 0, 1, CHUNK - 1, CHUNK + 1, 50 * CHUNK + 3 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		_Atomic uint64_t done = 0;
		struct fix f;
		struct stat st;
		uint8_t *copy;
		int fd;

		fix_make(&f, sizes[i], CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
		fd = make_target(&f);
		cr_assert_eq(mfs_content_fill(f.c, fd, 3, NULL, &done, NULL), MFS_OK);
		cr_assert_eq(atomic_load(&done), sizes[i]);
		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq((uint64_t)st.st_size, sizes[i]);
		copy = malloc(sizes[i] + 1);
		cr_assert_not_null(copy);
		cr_assert_eq(pread(fd, copy, sizes[i], 0), (ssize_t)sizes[i]);
		cr_assert_arr_eq(copy, f.plain, sizes[i]);
		free(copy);
		(void)close(fd);
		fix_free(&f);
	}
}

Test(content, a_fill_of_a_damaged_blob_fails_and_says_where)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct fix f;
	int fd;

	fix_make(&f, 50 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_flip(&f, &f.file.sha256, 33 * CHUNK + 1);
	fd = make_target(&f);
	cr_assert_eq(mfs_content_fill(f.c, fd, 2, NULL, NULL, &err), MFS_HASH_MISMATCH);
	cr_assert_not_null(strstr(err.msg, "weights/model.bin"), "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "33"), "%s", err.msg);
	cr_assert_eq(mfs_content_check(f.c, 2, NULL, NULL, NULL), MFS_HASH_MISMATCH);
	(void)close(fd);
	fix_free(&f);
}

/* The worst order: the last chunk alone is read again, by O_DIRECT, when all others are opened already. */
Test(content, a_fill_that_reads_a_chunk_again_spoils_no_other)
{
	struct mfs_open *o = NULL;
	struct fix f;
	char path[256];
	uint8_t *good, *copy;
	size_t len;
	int fd;

	fix_make(&f, 5 * CHUNK + 100, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fix_path(&f, &f.file.sha256, path);
	good = fix_load(path, &len);
	fix_flip(&f, &f.file.sha256, 5 * CHUNK + 9);
	cr_assert_eq(mfs_content_open(f.c, &o, NULL), MFS_OK);
	atomic_store(&o->blob->mode, MFS_BLOB_DIRECT);
	(void)fcntl(o->blob->fd, F_SETFL, O_DIRECT); /* where it is refused, the reads fall back */
	fix_store(path, good, len);
	fd = make_target(&f);
	cr_assert_eq(mfs_content_fill(f.c, fd, 1, NULL, NULL, NULL), MFS_OK);
	copy = malloc(f.file.size);
	cr_assert_not_null(copy);
	cr_assert_eq(pread(fd, copy, f.file.size, 0), (ssize_t)f.file.size);
	cr_assert_arr_eq(copy, f.plain, f.file.size);
	mfs_content_close(f.c, o);
	free(copy);
	free(good);
	(void)close(fd);
	fix_free(&f);
}

Test(content, a_canceled_fill_ends_without_a_whole_copy)
{
	_Atomic int cancel = 1;
	_Atomic uint64_t done = 0;
	struct fix f;
	int fd;

	fix_make(&f, 50 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	fd = make_target(&f);
	cr_assert_eq(mfs_content_fill(f.c, fd, 2, &cancel, &done, NULL), MFS_CONDITION_UNMET);
	cr_assert_eq(atomic_load(&done), 0);
	(void)close(fd);
	fix_free(&f);
}

Test(content, a_fill_into_a_full_file_system_is_no_memory_and_not_a_signal)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct fix f;
	int fd;

	fix_make(&f, 50 * CHUNK, CHUNK, MFS_CIPHER_AES_256_GCM, CACHE);
	cr_assert_geq(fd = open("/dev/full", O_RDWR | O_CLOEXEC), 0);
	cr_assert_eq(mfs_content_fill(f.c, fd, 2, NULL, NULL, &err), MFS_NO_MEMORY);
	cr_assert_not_null(strstr(err.msg, "memory_budget"), "%s", err.msg);
	(void)close(fd);
	fix_free(&f);
}

/* ---- streams ------------------------------------------------------------------------------------------ */

static _Atomic int held;

static void
hold_get(void *object)
{
	(void)atomic_fetch_add((_Atomic int *)object, 1);
}

static void
hold_put(void *object)
{
	(void)atomic_fetch_sub((_Atomic int *)object, 1);
}

static const struct mfs_hold hold = { &held, hold_get, hold_put };

#define MIB (1u << 20)

/* As the mount reads: MIB at a time, compared with the plaintext. The first failure. */
static enum mfs_code
stream_from(struct fix *f, uint64_t off, uint8_t *buf)
{
	enum mfs_code code = MFS_OK;

	for (; off < f->file.size; off += MIB) {
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_stretch s;

		if ((code = mfs_content_stream(f->c, &hold, buf, MIB, off, &s, &err)) != MFS_OK)
			break;
		cr_assert_eq(s.len, f->file.size - off < MIB ? f->file.size - off : MIB);
		cr_assert_arr_eq(s.data, f->plain + off, s.len);
		mfs_stretch_done(f->c, &s);
	}
	return code;
}

/* Jobs that nobody waited for end by themselves; the content stays until they did. */
static void
await_no_hold(void)
{
	for (int i = 0; i < 20000 && atomic_load(&held) > 0; i++)
		(void)usleep(1000);
	cr_assert_eq(atomic_load(&held), 0);
}

Test(content, a_stream_finds_its_next_stretch_opened_and_right)
{
	uint8_t *buf = malloc(MIB);
	struct mfs_cache_stats st;
	struct fix f;

	fix_make(&f, 9 * MIB + 12345, 128u << 10, MFS_CIPHER_AES_256_GCM, 16u << 20);
	for (int round = 0; round < 3; round++)
		cr_assert_eq(stream_from(&f, 0, buf), MFS_OK);
	mfs_cache_stats(f.cache, &st);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		cr_assert_gt(st.ahead, 0);
	await_no_hold();
	fix_free(&f);
	free(buf);
}

Test(content, a_flipped_bit_in_a_stretch_opened_ahead_is_an_error_there_and_nowhere_else)
{
	uint8_t *buf = malloc(MIB);
	struct fix f;

	fix_make(&f, 8 * MIB, 128u << 10, MFS_CIPHER_AES_256_GCM, 16u << 20);
	fix_flip(&f, &f.file.sha256, 4 * MIB + 4242);
	cr_assert_eq(stream_from(&f, 0, buf), MFS_HASH_MISMATCH);
	cr_assert_eq(stream_from(&f, 4 * MIB, buf), MFS_HASH_MISMATCH);
	cr_assert_eq(stream_from(&f, 5 * MIB, buf), MFS_OK);
	fix_flip(&f, &f.file.sha256, 4 * MIB + 4242);
	cr_assert_eq(stream_from(&f, 0, buf), MFS_OK, "what failed once must not stay");
	await_no_hold();
	fix_free(&f);
	free(buf);
}

/* Read the two stretches before off, so that the one at off is opened ahead, and wait until it is. */
static void
open_ahead_of(struct mfs_content *c, const struct fix *f, uint64_t off, const struct mfs_hold *h, uint8_t *buf)
{
	for (uint64_t at = off - 2 * MIB; at < off; at += MIB) {
		struct mfs_stretch s;

		cr_assert_eq(mfs_content_stream(c, at + MIB == off ? h : &hold, buf, MIB, at, &s, NULL), MFS_OK);
		cr_assert_arr_eq(s.data, f->plain + at, MIB);
		mfs_stretch_done(c, &s);
	}
	await_no_hold();
}

/* A reader that comes for its stretch just when another stream is given the room it lies in. */
struct late {
	struct mfs_content *c;
	struct mfs_stretch s;
	uint8_t *buf;
};

static void
late_get(void *object)
{
	struct late *l = object;

	hold_get(&held);
	cr_assert_eq(mfs_content_stream(l->c, &hold, l->buf, MIB, 4 * MIB, &l->s, NULL), MFS_OK);
}

static void
late_put(void *object)
{
	(void)object;
	hold_put(&held);
}

Test(content, a_stretch_whose_room_goes_to_another_stream_is_not_found_any_more)
{
	uint8_t *buf = malloc(MIB);
	struct late late = { .buf = malloc(MIB) };
	const struct mfs_hold hook = { &late, late_get, late_put };
	struct mfs_content *second, *third;
	struct fix f;

	fix_make(&f, 9 * MIB, 128u << 10, MFS_CIPHER_AES_256_GCM, 4u << 20); /* room for two stretches */
	second = fix_content(&f, &f.key);
	third = fix_content(&f, &f.key);
	late.c = f.c;
	open_ahead_of(f.c, &f, 4 * MIB, &hold, buf);
	open_ahead_of(second, &f, 5 * MIB, &hold, buf);
	open_ahead_of(third, &f, 7 * MIB, &hook, buf);
	cr_assert_eq(late.s.len, MIB, "the late reader came");
	cr_assert_arr_eq(late.s.data, f.plain + 4 * MIB, MIB, "bytes of another stream");
	mfs_stretch_done(f.c, &late.s);
	await_no_hold();
	mfs_content_free(second);
	mfs_content_free(third);
	fix_free(&f);
	free(late.buf);
	free(buf);
}

Test(content, a_stream_in_a_small_cache_or_of_small_reads_is_not_read_ahead)
{
	uint8_t *buf = malloc(MIB);
	struct mfs_cache_stats st;
	struct mfs_stretch s;
	struct fix f;

	fix_make(&f, 4 * MIB, 128u << 10, MFS_CIPHER_AES_256_GCM, MIB);
	cr_assert_eq(stream_from(&f, 0, buf), MFS_OK);
	mfs_cache_stats(f.cache, &st);
	cr_assert_eq(st.ahead, 0);
	fix_free(&f);
	fix_make(&f, 4 * MIB, 128u << 10, MFS_CIPHER_AES_256_GCM, 16u << 20);
	for (uint64_t off = 0; off < f.file.size; off += 128u << 10) {
		cr_assert_eq(mfs_content_stream(f.c, &hold, buf, 128u << 10, off, &s, NULL), MFS_OK);
		cr_assert_arr_eq(s.data, f.plain + off, s.len);
		mfs_stretch_done(f.c, &s);
	}
	mfs_cache_stats(f.cache, &st);
	cr_assert_eq(st.ahead, 0);
	fix_free(&f);
	free(buf);
}
