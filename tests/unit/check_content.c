/* SPDX-License-Identifier: Apache-2.0 */
/* check_content.c - verified reads: every size and offset, whatever was changed on the disk; resident copies. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobio.h"
#include "content_internal.h"
#include "contentread.h"

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
