/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 of two messages at once, with the SHA instructions of x86.
 *
 * One message leaves the SHA unit half idle: each round waits for the one before. Two that are independent fill it
 * (some 1.6 times the rate of one), which no function of OpenSSL offers. Everything else hashes through OpenSSL.
 */
#include "internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "cpu.h"

#define BLOCK 64u /* bytes */

/* FIPS 180-4, 4.2.2 */
static const uint32_t rounds[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* FIPS 180-4, 5.3.3, in the order of the instructions: A B E F, C D G H, the first in the highest lane. */
static const uint32_t start_abef[4] __attribute__((aligned(16))) = { 0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667 };
static const uint32_t start_cdgh[4] __attribute__((aligned(16))) = { 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372 };

#define WITH_SHA __attribute__((target("sha,sse4.1")))

struct lane {
	__m128i abef, cdgh;
};

WITH_SHA static inline __m128i
word_load(const uint8_t *p)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);

	return _mm_shuffle_epi8(_mm_loadu_si128((const void *)p), big_endian);
}

/* w[t]: four words of the message schedule from the sixteen before. */
WITH_SHA static inline __m128i
schedule(__m128i w0, __m128i w4, __m128i w8, __m128i w12)
{
	return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8(w12, w8, 4)), w12);
}

/* n blocks of each, side by side. */
WITH_SHA static void
blocks(struct lane *a, struct lane *b, const uint8_t *pa, const uint8_t *pb, size_t n)
{
	__m128i a0 = a->abef, a1 = a->cdgh, b0 = b->abef, b1 = b->cdgh;

	for (; n > 0; n--, pa += BLOCK, pb += BLOCK) {
		const __m128i a0_in = a0, a1_in = a1, b0_in = b0, b1_in = b1;
		__m128i wa[4], wb[4];

		for (int i = 0; i < 4; i++) {
			wa[i] = word_load(pa + (ptrdiff_t)16 * i);
			wb[i] = word_load(pb + (ptrdiff_t)16 * i);
		}
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			const __m128i k = _mm_load_si128((const void *)(rounds + (ptrdiff_t)4 * i));
			const __m128i ka = _mm_add_epi32(wa[i % 4], k), kb = _mm_add_epi32(wb[i % 4], k);

			a1 = _mm_sha256rnds2_epu32(a1, a0, ka);
			b1 = _mm_sha256rnds2_epu32(b1, b0, kb);
			a0 = _mm_sha256rnds2_epu32(a0, a1, _mm_shuffle_epi32(ka, 0x0e));
			b0 = _mm_sha256rnds2_epu32(b0, b1, _mm_shuffle_epi32(kb, 0x0e));
			if (i < 12) {
				wa[i % 4] = schedule(wa[i % 4], wa[(i + 1) % 4], wa[(i + 2) % 4], wa[(i + 3) % 4]);
				wb[i % 4] = schedule(wb[i % 4], wb[(i + 1) % 4], wb[(i + 2) % 4], wb[(i + 3) % 4]);
			}
		}
		a0 = _mm_add_epi32(a0, a0_in);
		a1 = _mm_add_epi32(a1, a1_in);
		b0 = _mm_add_epi32(b0, b0_in);
		b1 = _mm_add_epi32(b1, b1_in);
	}
	*a = (struct lane){ a0, a1 };
	*b = (struct lane){ b0, b1 };
}

WITH_SHA static void
digest(const struct lane *l, uint8_t out[MFS_SHA256_LEN])
{
	uint32_t s[8]; /* F E B A H G D C */
	static const int order[8] = { 3, 2, 7, 6, 1, 0, 5, 4 };

	_mm_storeu_si128((void *)s, l->abef);
	_mm_storeu_si128((void *)(s + 4), l->cdgh);
	for (size_t i = 0; i < 8; i++)
		mfs_put_u32be(out + 4 * i, s[order[i]]);
}

/* The last bytes of a message of n bytes with its padding; returns the number of blocks, 1 or 2. */
static size_t
pad(uint8_t out[2 * BLOCK], const uint8_t *p, size_t n)
{
	const size_t rest = n % BLOCK, count = rest + 9 <= BLOCK ? 1 : 2;
	const uint64_t bits = (uint64_t)n * 8;

	memset(out, 0, 2 * BLOCK);
	memcpy(out, p + (n - rest), rest);
	out[rest] = 0x80;
	mfs_put_u32be(out + count * BLOCK - 8, (uint32_t)(bits >> 32));
	mfs_put_u32be(out + count * BLOCK - 4, (uint32_t)bits);
	return count;
}

bool
mfs_sha256_pair(const uint8_t *a, const uint8_t *b, size_t n, uint8_t out_a[MFS_SHA256_LEN], uint8_t out_b[MFS_SHA256_LEN])
{
	struct lane la, lb;
	uint8_t end_a[2 * BLOCK], end_b[2 * BLOCK];
	size_t last;

	if (!mfs_cpu_sha())
		return false;
	la.abef = lb.abef = _mm_load_si128((const void *)start_abef);
	la.cdgh = lb.cdgh = _mm_load_si128((const void *)start_cdgh);
	blocks(&la, &lb, a, b, n / BLOCK);
	last = pad(end_a, a, n);
	(void)pad(end_b, b, n);
	blocks(&la, &lb, end_a, end_b, last);
	digest(&la, out_a);
	digest(&lb, out_b);
	return true;
}

#else

bool
mfs_sha256_pair(const uint8_t *a, const uint8_t *b, size_t n, uint8_t out_a[MFS_SHA256_LEN], uint8_t out_b[MFS_SHA256_LEN])
{
	(void)a, (void)b, (void)n, (void)out_a, (void)out_b;
	return false;
}

#endif
