/* SPDX-License-Identifier: Apache-2.0 */
/* Two hashes side by side are the two that OpenSSL makes. */
#define MFS_IN_VERIFIER
#include "internal.h"

#include "cpu.h"
#include "verify_help.h"

#define MOST 4096u

/* The same bytes in every run, different ones for every seed. */
static void
bytes_make(uint8_t *p, size_t n, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

static void
same_as_openssl(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint8_t got[2][MFS_SHA256_LEN];
	struct mfs_sha256 want[2];
	struct mfs_err err;

	cr_assert_eq(mfs_sha256(MFS_SPAN(a, n), &want[0], &err), MFS_OK);
	cr_assert_eq(mfs_sha256(MFS_SPAN(b, n), &want[1], &err), MFS_OK);
	cr_assert(mfs_sha256_pair(a, b, n, got[0], got[1]));
	cr_assert_arr_eq(got[0], want[0].b, MFS_SHA256_LEN, "first of two of %zu bytes", n);
	cr_assert_arr_eq(got[1], want[1].b, MFS_SHA256_LEN, "second of two of %zu bytes", n);
}

/* Without the instructions it says so, and nothing is written. */
static bool
not_here(void)
{
	uint8_t got[2][MFS_SHA256_LEN] = { { 1 }, { 2 } };

	if (mfs_cpu_sha())
		return false;
	cr_assert_not(mfs_sha256_pair((const uint8_t *)"a", (const uint8_t *)"b", 1, got[0], got[1]));
	cr_assert_eq(got[0][0], 1);
	cr_assert_eq(got[1][0], 2);
	return true;
}

Test(sha256_pair, every_length_around_the_padding)
{
	uint8_t a[MOST], b[MOST];

	if (not_here())
		return;
	bytes_make(a, sizeof(a), 1);
	bytes_make(b, sizeof(b), 2);
	for (size_t n = 0; n <= 520; n++)
		same_as_openssl(a, b, n);
}

Test(sha256_pair, any_alignment)
{
	uint8_t a[MOST], b[MOST];

	if (not_here())
		return;
	bytes_make(a, sizeof(a), 3);
	bytes_make(b, sizeof(b), 4);
	for (size_t i = 0; i < 32; i++)
		same_as_openssl(a + i, b + 31 - i, 1000 + i);
}

Test(sha256_pair, many_contents)
{
	uint8_t a[MOST], b[MOST];

	if (not_here())
		return;
	for (uint64_t seed = 0; seed < 400; seed++) {
		bytes_make(a, sizeof(a), 5 + 2 * seed);
		bytes_make(b, sizeof(b), 6 + 2 * seed);
		same_as_openssl(a, b, (size_t)(seed * 10 + 1) % MOST);
	}
}

/* Lengths whose number of bits needs more than 32. */
Test(sha256_pair, beyond_512_mib)
{
	const size_t n = (512u << 20) + 70;
	uint8_t *a = calloc(1, n);

	if (!not_here()) {
		cr_assert_not_null(a);
		a[n - 1] = 7;
		same_as_openssl(a, a, n);
	}
	free(a);
}

Test(sha256_pair, one_bit_changes_its_own_alone)
{
	uint8_t a[512], b[512], base[2][MFS_SHA256_LEN], got[2][MFS_SHA256_LEN];

	if (not_here())
		return;
	bytes_make(a, sizeof(a), 7);
	bytes_make(b, sizeof(b), 8);
	cr_assert(mfs_sha256_pair(a, b, sizeof(a), base[0], base[1]));
	for (size_t bit = 0; bit < 8 * sizeof(a); bit++) {
		a[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert(mfs_sha256_pair(a, b, sizeof(a), got[0], got[1]));
		cr_assert_neq(memcmp(got[0], base[0], MFS_SHA256_LEN), 0, "bit %zu", bit);
		cr_assert_arr_eq(got[1], base[1], MFS_SHA256_LEN, "bit %zu", bit);
		a[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}
