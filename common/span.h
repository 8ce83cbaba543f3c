/* SPDX-License-Identifier: Apache-2.0 */
/*
 * span.h - bounded reads of untrusted bytes. Every reader advances the span only on success
 * and returns false when too few bytes are left.
 */
#ifndef MFS_SPAN_H
#define MFS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct mfs_span {
	const uint8_t *p;
	size_t len;
};

#define MFS_SPAN(ptr, n) ((struct mfs_span){ (const uint8_t *)(ptr), (n) })

static inline bool
mfs_span_take(struct mfs_span *s, size_t n, struct mfs_span *out)
{
	if (s->len < n)
		return false;
	out->p = s->p;
	out->len = n;
	s->p += n;
	s->len -= n;
	return true;
}

static inline bool
mfs_span_copy(struct mfs_span *s, void *dst, size_t n)
{
	struct mfs_span t;

	if (!mfs_span_take(s, n, &t))
		return false;
	if (n > 0)
		memcpy(dst, t.p, n);
	return true;
}

static inline bool
mfs_span_u32le(struct mfs_span *s, uint32_t *v)
{
	struct mfs_span t;

	if (!mfs_span_take(s, 4, &t))
		return false;
	*v = (uint32_t)t.p[0] | (uint32_t)t.p[1] << 8 | (uint32_t)t.p[2] << 16 | (uint32_t)t.p[3] << 24;
	return true;
}

static inline bool
mfs_span_u64le(struct mfs_span *s, uint64_t *v)
{
	uint32_t lo, hi;

	if (s->len < 8 || !mfs_span_u32le(s, &lo) || !mfs_span_u32le(s, &hi))
		return false;
	*v = (uint64_t)hi << 32 | lo;
	return true;
}

static inline bool
mfs_span_equal(struct mfs_span a, struct mfs_span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline void
mfs_put_u32le(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static inline void
mfs_put_u64le(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static inline void
mfs_put_u32be(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static inline void
mfs_put_u16be(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Lower-case hex. out holds 2 * n + 1 bytes. */
static inline void
mfs_hex_encode(char *out, const uint8_t *in, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[in[i] >> 4];
		out[2 * i + 1] = digits[in[i] & 15];
	}
	out[2 * n] = '\0';
}

/* Exactly 2 * n lower-case hex digits; anything else is false. */
static inline bool
mfs_hex_decode(uint8_t *out, size_t n, const char *in, size_t len)
{
	if (len != 2 * n)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = in[i];
		int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (v < 0)
			return false;
		if (i % 2 == 0)
			out[i / 2] = (uint8_t)(v << 4);
		else
			out[i / 2] = (uint8_t)(out[i / 2] | v);
	}
	return true;
}

#endif
