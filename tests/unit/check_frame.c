/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of trusted state, against one made without this code, and damaged in every way. */
#include "verify_help.h"
#include "../vectors/vectors.h"

static struct mfs_key
state_key(void)
{
	struct mfs_key k;

	memcpy(k.b, vec_state_key, 32);
	return k;
}

static enum mfs_code
open_frame(const uint8_t *p, size_t n, enum mfs_state_kind kind, const struct mfs_key *k, struct mfs_err *err)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);
	uint64_t generation = 1;
	struct mfs_span json;
	enum mfs_code code;

	cr_assert_not_null(copy);
	memcpy(copy, p, n);
	code = mfs_state_open(kind, MFS_SPAN(copy, n), k, &generation, &json, err);
	if (code != MFS_OK)
		cr_assert(generation == 0 && json.p == NULL && json.len == 0);
	free(copy);
	return code;
}

Test(frame, known_answer)
{
	const struct mfs_key k = state_key();
	uint64_t generation;
	struct mfs_span json;
	uint8_t *out;
	size_t len;

	expect(MFS_OK, mfs_state_seal(MFS_STATE_ANCHOR, 0x0102030405060708, TEXT("{}"), &k, &out, &len, err));
	cr_assert_eq(len, sizeof(vec_frame));
	cr_assert_arr_eq(out, vec_frame, sizeof(vec_frame));
	expect(MFS_OK, mfs_state_open(MFS_STATE_ANCHOR, MFS_SPAN(out, len), &k, &generation, &json, err));
	cr_assert_eq(generation, 0x0102030405060708);
	cr_assert(mfs_span_equal(json, TEXT("{}")));
	free(out);
}

Test(frame, torn_short_long_or_flipped_is_refused)
{
	const struct mfs_key k = state_key();
	uint8_t copy[sizeof(vec_frame) + 1] = { 0 };

	memcpy(copy, vec_frame, sizeof(vec_frame));
	for (size_t n = 0; n < sizeof(vec_frame); n++)
		expect(MFS_MALFORMED, open_frame(copy, n, MFS_STATE_ANCHOR, &k, err));
	expect(MFS_MALFORMED, open_frame(copy, sizeof(copy), MFS_STATE_ANCHOR, &k, err));
	for (size_t i = 0; i < sizeof(vec_frame); i++) {
		/* What XXH3 covers is torn; what only the HMAC covers is not authentic. */
		const enum mfs_code want = i < sizeof(vec_frame) - 32 ? MFS_MALFORMED : MFS_SIGNATURE_INVALID;

		copy[i] ^= 1;
		expect(want, open_frame(copy, sizeof(vec_frame), MFS_STATE_ANCHOR, &k, err));
		copy[i] ^= 1;
	}
	expect(MFS_OK, open_frame(copy, sizeof(vec_frame), MFS_STATE_ANCHOR, &k, err));
}

Test(frame, another_host_or_another_document)
{
	const struct mfs_key k = state_key(), other = { { 1 } };
	uint8_t *cycle;
	size_t len;

	expect(MFS_SIGNATURE_INVALID, open_frame(vec_frame, sizeof(vec_frame), MFS_STATE_ANCHOR, &other, err));
	expect(MFS_MALFORMED, open_frame(vec_frame, sizeof(vec_frame), MFS_STATE_CYCLE, &k, err));
	expect(MFS_OK, mfs_state_seal(MFS_STATE_CYCLE, 1, TEXT("{}"), &k, &cycle, &len, err));
	expect_says(MFS_MALFORMED, "kind 2", open_frame(cycle, len, MFS_STATE_ANCHOR, &k, err));
	expect(MFS_OK, open_frame(cycle, len, MFS_STATE_CYCLE, &k, err));
	free(cycle);
}

Test(frame, caps)
{
	const struct mfs_key k = state_key();
	struct mfs_span huge = { vec_frame, MFS_STATE_BYTES_MAX + 1 };
	uint64_t generation;
	struct mfs_span json;
	uint8_t *out;
	size_t len;

	expect(MFS_LIMIT_EXCEEDED, mfs_state_open(MFS_STATE_ANCHOR, huge, &k, &generation, &json, err));
	expect(MFS_LIMIT_EXCEEDED, mfs_state_seal(MFS_STATE_ANCHOR, 1, huge, &k, &out, &len, err));
	cr_assert_null(out);
}
