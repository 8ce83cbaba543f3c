/* SPDX-License-Identifier: Apache-2.0 */
/* check_content_stream.c - streams: the next stretch is opened ahead, and what is bad in it is an error there alone. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <unistd.h>

#include "contentfix.h"

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

Test(content, a_stretch_is_for_readers_of_its_own_file_alone)
{
	uint8_t *buf = malloc(MIB);
	struct mfs_cache_stats before, after;
	struct mfs_content *second;
	struct mfs_stretch s;
	struct fix f;

	fix_make(&f, 9 * MIB, 128u << 10, MFS_CIPHER_AES_256_GCM, 16u << 20);
	second = fix_content(&f, &f.key);
	open_ahead_of(f.c, &f, 4 * MIB, &hold, buf);
	mfs_cache_stats(f.cache, &before);
	cr_assert_eq(mfs_content_stream(second, &hold, buf, MIB, 4 * MIB, &s, NULL), MFS_OK);
	cr_assert_null(s.held, "the stretch of another file");
	mfs_stretch_done(second, &s);
	mfs_cache_stats(f.cache, &after);
	cr_assert_eq(after.ahead, before.ahead);
	await_no_hold();
	mfs_content_free(second);
	fix_free(&f);
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
