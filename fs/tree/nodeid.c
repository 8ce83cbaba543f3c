/* SPDX-License-Identifier: Apache-2.0 */
#include "nodeid.h"

#define INPUT_MAX (64 + MFS_SHA256_LEN + 8 + 4 + MFS_ID_MAX)

struct input {
	uint8_t b[INPUT_MAX + 1]; /* room for the attempt */
	size_t len;
};

static void
put(struct input *in, const void *p, size_t n)
{
	memcpy(in->b + in->len, p, n);
	in->len += n;
}

static void
put_le(struct input *in, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		in->b[in->len++] = (uint8_t)(v >> (8 * i));
}

enum mfs_code
mfs_nodeid_hash(struct mfs_span bytes, bool (*reserved)(uint64_t id), uint64_t *out, struct mfs_err *err)
{
	uint8_t b[INPUT_MAX + 1];

	*out = 0;
	if (bytes.len > INPUT_MAX)
		return mfs_fail(err, MFS_INTERNAL, "node id: %zu bytes to hash", bytes.len);
	memcpy(b, bytes.p, bytes.len);
	for (unsigned attempt = 0; attempt < 256; attempt++) {
		struct mfs_sha256 h;
		uint64_t id = 0;

		b[bytes.len] = (uint8_t)attempt;
		if (mfs_sha256(MFS_SPAN(b, bytes.len + (attempt > 0)), &h, err) != MFS_OK)
			return err != NULL ? err->code : MFS_INTERNAL;
		for (unsigned i = 0; i < 8; i++)
			id |= (uint64_t)h.b[i] << (8 * i);
		if (!reserved(id)) {
			*out = id;
			return MFS_OK;
		}
	}
	return mfs_fail(err, MFS_INTERNAL, "node id: every attempt is reserved");
}

enum mfs_code
mfs_nodeid_payload(const struct mfs_sha256 *manifest, uint64_t exposure, uint32_t index, const char *local_id,
	uint64_t *out, struct mfs_err *err)
{
	struct input in = { .len = 0 };

	put(&in, manifest->b, sizeof(manifest->b));
	put_le(&in, exposure, 8);
	put_le(&in, index, 4);
	put(&in, local_id, strnlen(local_id, MFS_ID_MAX));
	return mfs_nodeid_hash(MFS_SPAN(in.b, in.len), mfs_nodeid_reserved, out, err);
}

enum mfs_code
mfs_nodeid_named(const char *label, const char *local_id, const struct mfs_sha256 *manifest, uint64_t *out,
	struct mfs_err *err)
{
	struct input in = { .len = 0 };

	put(&in, "modelfs node\0", 13);
	put(&in, label, strnlen(label, 40) + 1);
	if (manifest != NULL)
		put(&in, manifest->b, sizeof(manifest->b));
	put(&in, local_id, strnlen(local_id, MFS_ID_MAX));
	return mfs_nodeid_hash(MFS_SPAN(in.b, in.len), mfs_nodeid_reserved, out, err);
}
