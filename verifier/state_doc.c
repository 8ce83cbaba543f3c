/* SPDX-License-Identifier: Apache-2.0 */
/* The frame around a document of trusted state: modelfs-state(5), FRAME. */
#include "internal.h"

#include <openssl/crypto.h>
#include <xxhash.h>

#define MAGIC      "MFSTATE1"
#define HEADER_LEN 32u /* magic, kind, zero, generation, length */
#define XXH_LEN    16u
#define FRAME_LEN  (HEADER_LEN + XXH_LEN + MFS_SHA256_LEN)

static const char *
kind_name(enum mfs_state_kind kind)
{
	static const char *const names[] = { "state", "anchor", "cycle", "held" };

	return (unsigned)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : names[0];
}

static void
xxh_of(const uint8_t *p, size_t n, uint8_t out[XXH_LEN])
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits(p, n));
	memcpy(out, c.digest, XXH_LEN);
}

enum mfs_code
mfs_state_seal(enum mfs_state_kind kind, uint64_t generation, struct mfs_span json, const struct mfs_key *state_key,
	uint8_t **out, size_t *len, struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = NULL;
	struct mfs_sha256 mac;
	enum mfs_code code;
	size_t n;

	*out = NULL;
	*len = 0;
	if (json.len > MFS_STATE_BYTES_MAX - FRAME_LEN)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %u", kind_name(kind), json.len,
			MFS_STATE_BYTES_MAX - FRAME_LEN);
	n = HEADER_LEN + json.len;
	if ((buf = malloc(n + XXH_LEN + MFS_SHA256_LEN)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu bytes", kind_name(kind), n);
	memcpy(buf, MAGIC, 8);
	mfs_put_u32le(buf + 8, (uint32_t)kind);
	mfs_put_u32le(buf + 12, 0);
	mfs_put_u64le(buf + 16, generation);
	mfs_put_u64le(buf + 24, json.len);
	if (json.len > 0)
		memcpy(buf + HEADER_LEN, json.p, json.len);
	xxh_of(buf, n, buf + n);
	n += XXH_LEN;
	if ((code = mfs_hmac(state_key, MFS_SPAN(buf, n), &mac, err)) != MFS_OK)
		return code;
	memcpy(buf + n, mac.b, MFS_SHA256_LEN);
	*out = mfs_steal(&buf);
	*len = n + MFS_SHA256_LEN;
	return MFS_OK;
}

enum mfs_code
mfs_state_open(enum mfs_state_kind kind, struct mfs_span in, const struct mfs_key *state_key, uint64_t *generation,
	struct mfs_span *json, struct mfs_err *err)
{
	const char *what = kind_name(kind);
	const uint8_t *start = in.p;
	uint32_t stored_kind, reserved;
	uint8_t xxh[XXH_LEN];
	struct mfs_sha256 mac;
	struct mfs_span magic, body, sum, tag;
	uint64_t gen, body_len;
	enum mfs_code code;

	*generation = 0;
	*json = (struct mfs_span){ NULL, 0 };
	if (in.len > MFS_STATE_BYTES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %u", what, in.len, MFS_STATE_BYTES_MAX);
	if (!mfs_span_take(&in, 8, &magic) || !mfs_span_u32le(&in, &stored_kind) || !mfs_span_u32le(&in, &reserved) ||
		!mfs_span_u64le(&in, &gen) || !mfs_span_u64le(&in, &body_len))
		return mfs_fail(err, MFS_MALFORMED, "%s: shorter than its header of %u bytes: torn write", what, HEADER_LEN);
	if (memcmp(magic.p, MAGIC, 8) != 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: offset 0: no MFSTATE1", what);
	if (body_len > in.len || in.len - body_len != XXH_LEN + MFS_SHA256_LEN)
		return mfs_fail(err, MFS_MALFORMED, "%s: offset 24: length %llu does not fit the %zu bytes that follow", what,
			(unsigned long long)body_len, in.len);
	if (!mfs_span_take(&in, (size_t)body_len, &body) || !mfs_span_take(&in, XXH_LEN, &sum) ||
		!mfs_span_take(&in, MFS_SHA256_LEN, &tag))
		return mfs_fail(err, MFS_MALFORMED, "%s: short", what);
	xxh_of(start, HEADER_LEN + body.len, xxh);
	if (memcmp(xxh, sum.p, XXH_LEN) != 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: checksum differs: torn write or damaged disk", what);
	if ((code = mfs_hmac(state_key, MFS_SPAN(start, HEADER_LEN + body.len + XXH_LEN), &mac, err)) != MFS_OK)
		return code;
	if (CRYPTO_memcmp(mac.b, tag.p, MFS_SHA256_LEN) != 0)
		return mfs_fail(err, MFS_SIGNATURE_INVALID,
			"%s: not authenticated by this host's state key: changed, or from another host", what);
	if (stored_kind != (uint32_t)kind || reserved != 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: offset 8: kind %u, not %u", what, stored_kind, (unsigned)kind);
	*generation = gen;
	*json = body;
	return MFS_OK;
}
