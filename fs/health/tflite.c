/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tflite.c - a FlatBuffer with the identifier TFL3: tables found through offsets, each field through a
 * vtable. What is read: Model {subgraphs 2, buffers 4}, SubGraph {tensors 0, inputs 1, outputs 2,
 * operators 3}, Tensor {shape 0, type 1, buffer 2, name 3, sparsity 6}, Operator {inputs 1, outputs 2},
 * Buffer {data 0, offset 1, size 2: data behind the FlatBuffer, of models above 2 GiB}.
 */
#include <inttypes.h>
#include <string.h>

#include "probe.h"

static const struct {
	uint8_t bytes; /* 0: not of a fixed size */
	enum mfs_float kind;
} types[] = {
	{ 4, MFS_FLOAT_F32 }, { 2, MFS_FLOAT_F16 }, { 4, 0 }, { 1, 0 }, { 8, 0 }, { 0, 0 }, { 1, 0 }, { 2, 0 }, { 8, MFS_FLOAT_F32 },
	{ 1, 0 }, { 8, MFS_FLOAT_F64 }, { 16, MFS_FLOAT_F64 }, { 8, 0 }, { 0, 0 }, { 0, 0 }, { 4, 0 }, { 2, 0 }, { 0, 0 },
	{ 2, MFS_FLOAT_BF16 },
};

/* Where an offset at `at` leads; 0 is its own "absent". */
static enum mfs_code
follow(struct mfs_probe *p, uint64_t at, uint64_t *to, const char *what)
{
	uint32_t off = 0;
	enum mfs_code code = mfs_probe_u32(p, at, &off, what);

	*to = at + off;
	return code;
}

/* The place of a field of a table; 0: the table does not have it. */
static enum mfs_code
field(struct mfs_probe *p, uint64_t table, unsigned id, unsigned bytes, uint64_t *out)
{
	uint32_t back = 0;
	uint64_t vtable;
	uint16_t vtable_len = 0, table_len = 0, off = 0;
	enum mfs_code code;

	*out = 0;
	if ((code = mfs_probe_u32(p, table, &back, "a table")) != MFS_OK)
		return code;
	vtable = table - (uint64_t)(int64_t)(int32_t)back; /* wraps to beyond the file when it leads before it */
	if ((code = mfs_probe_u16(p, vtable, &vtable_len, "a vtable")) != MFS_OK ||
		(code = mfs_probe_u16(p, vtable + 2, &table_len, "a vtable")) != MFS_OK)
		return code;
	if (vtable_len < 4 || vtable_len % 2 != 0 || table_len < 4)
		return mfs_probe_bad(p, vtable, "a vtable of %u bytes for a table of %u", vtable_len, table_len);
	if (4 + 2 * id + 2 > vtable_len)
		return MFS_OK;
	if ((code = mfs_probe_u16(p, vtable + 4 + 2 * (uint64_t)id, &off, "a vtable")) != MFS_OK || off == 0)
		return code;
	if (off < 4 || (unsigned)off + bytes > table_len)
		return mfs_probe_bad(p, table, "field %u lies outside of its table", id);
	*out = table + off;
	return MFS_OK;
}

struct vector {
	uint64_t at; /* of the first item */
	uint32_t n;
};

static enum mfs_code
vector(struct mfs_probe *p, uint64_t table, unsigned id, unsigned item, struct vector *out)
{
	uint64_t at, to = 0;
	enum mfs_code code;

	*out = (struct vector){ 0, 0 };
	if ((code = field(p, table, id, 4, &at)) != MFS_OK || at == 0)
		return code;
	if ((code = follow(p, at, &to, "a vector")) != MFS_OK || (code = mfs_probe_u32(p, to, &out->n, "a vector")) != MFS_OK)
		return code;
	out->at = to + 4;
	return mfs_probe_within(p, out->at, (uint64_t)out->n * item, "a vector");
}

struct buffer {
	uint64_t at, len;
};

static enum mfs_code
buffer_find(struct mfs_probe *p, const struct vector *buffers, uint32_t index, struct buffer *out)
{
	uint64_t table = 0, at_offset, at_size, offset = 0, size = 0;
	struct vector data;
	enum mfs_code code;

	if ((code = follow(p, buffers->at + 4 * (uint64_t)index, &table, "a buffer")) != MFS_OK ||
		(code = vector(p, table, 0, 1, &data)) != MFS_OK || (code = field(p, table, 1, 8, &at_offset)) != MFS_OK ||
		(code = field(p, table, 2, 8, &at_size)) != MFS_OK)
		return code;
	*out = (struct buffer){ data.at, data.n };
	if (at_offset == 0 || at_size == 0)
		return MFS_OK;
	if ((code = mfs_probe_u64(p, at_offset, &offset, "a buffer")) != MFS_OK ||
		(code = mfs_probe_u64(p, at_size, &size, "a buffer")) != MFS_OK)
		return code;
	if (offset > 1) /* 0 and 1: none */
		*out = (struct buffer){ offset, size };
	return mfs_probe_within(p, out->at, out->len, "a buffer");
}

static enum mfs_code
tensor_name(struct mfs_probe *p, uint64_t table, char *out, size_t cap)
{
	struct vector name;
	enum mfs_code code = vector(p, table, 3, 1, &name);
	size_t n = name.n < cap - 1 ? name.n : cap - 1;

	out[0] = '\0';
	if (code != MFS_OK || (code = mfs_probe_get(p, name.at, out, n, "a name")) != MFS_OK)
		return code;
	out[n] = '\0';
	return MFS_OK;
}

/* Elements of a shape; false in *known when it says nothing (absent, or a dimension left open). */
static enum mfs_code
elements(struct mfs_probe *p, uint64_t table, uint64_t *out, bool *known)
{
	struct vector shape;
	enum mfs_code code = vector(p, table, 0, 4, &shape);

	*out = 1;
	*known = code == MFS_OK && shape.at != 0;
	for (uint32_t i = 0; code == MFS_OK && i < shape.n; i++) {
		uint32_t n = 0;

		if ((code = mfs_probe_step(p, shape.at)) != MFS_OK ||
			(code = mfs_probe_u32(p, shape.at + 4 * (uint64_t)i, &n, "a shape")) != MFS_OK)
			return code;
		if (n > INT32_MAX)
			*known = false;
		else if (__builtin_mul_overflow(*out, (uint64_t)n, out))
			return mfs_probe_bad(p, shape.at, "a shape of more than 2^64 elements");
	}
	return code;
}

static enum mfs_code
check_tensor(struct mfs_probe *p, uint64_t table, const struct vector *buffers)
{
	uint64_t at_type, at_buffer, at_sparsity, count, bytes;
	struct buffer b = { 0, 0 };
	uint32_t index = 0;
	uint8_t type = 0;
	char name[128];
	bool known;
	enum mfs_code code;

	if ((code = tensor_name(p, table, name, sizeof(name))) != MFS_OK || (code = field(p, table, 1, 1, &at_type)) != MFS_OK ||
		(code = field(p, table, 2, 4, &at_buffer)) != MFS_OK || (code = field(p, table, 6, 4, &at_sparsity)) != MFS_OK ||
		(code = elements(p, table, &count, &known)) != MFS_OK)
		return code;
	if ((at_type != 0 && (code = mfs_probe_u8(p, at_type, &type, "a type")) != MFS_OK) ||
		(at_buffer != 0 && (code = mfs_probe_u32(p, at_buffer, &index, "a buffer")) != MFS_OK))
		return code;
	if (index != 0 && index >= buffers->n)
		return mfs_probe_bad(p, at_buffer, "tensor '%s' names buffer %u of %u", MFS_ESC(name), index, buffers->n);
	if (index == 0 || (code = buffer_find(p, buffers, index, &b)) != MFS_OK || b.len == 0)
		return code; /* not constant: it is computed */
	if (type >= sizeof(types) / sizeof(types[0]) || types[type].bytes == 0)
		return MFS_OK;
	if (known && at_sparsity == 0 &&
		(__builtin_mul_overflow(count, (uint64_t)types[type].bytes, &bytes) || bytes != b.len))
		return mfs_probe_bad(p, b.at, "tensor '%s' has %" PRIu64 " elements of %u bytes in a buffer of %" PRIu64, MFS_ESC(name),
			count, types[type].bytes, b.len);
	if (types[type].kind == MFS_FLOAT_NONE)
		return MFS_OK;
	return mfs_probe_floats(p, b.at, b.len, types[type].kind, name);
}

/* Every index names a tensor; -1 is an input left out. */
static enum mfs_code
check_indexes(struct mfs_probe *p, uint64_t table, unsigned id, uint32_t tensors)
{
	struct vector v;
	enum mfs_code code = vector(p, table, id, 4, &v);

	for (uint32_t i = 0; code == MFS_OK && i < v.n; i++) {
		uint64_t at = v.at + 4 * (uint64_t)i;
		uint32_t index = 0;

		if ((code = mfs_probe_step(p, at)) != MFS_OK || (code = mfs_probe_u32(p, at, &index, "an index")) != MFS_OK)
			return code;
		if (index != UINT32_MAX && index >= tensors)
			return mfs_probe_bad(p, at, "tensor %u of %u is named", index, tensors);
	}
	return code;
}

static enum mfs_code
check_subgraph(struct mfs_probe *p, uint64_t table, const struct vector *buffers)
{
	struct vector tensors, operators;
	uint64_t to = 0;
	enum mfs_code code;

	if ((code = vector(p, table, 0, 4, &tensors)) != MFS_OK || (code = vector(p, table, 3, 4, &operators)) != MFS_OK ||
		(code = check_indexes(p, table, 1, tensors.n)) != MFS_OK || (code = check_indexes(p, table, 2, tensors.n)) != MFS_OK)
		return code;
	for (uint32_t i = 0; i < tensors.n; i++)
		if ((code = mfs_probe_step(p, tensors.at)) != MFS_OK ||
			(code = follow(p, tensors.at + 4 * (uint64_t)i, &to, "a tensor")) != MFS_OK ||
			(code = check_tensor(p, to, buffers)) != MFS_OK)
			return code;
	for (uint32_t i = 0; i < operators.n; i++)
		if ((code = mfs_probe_step(p, operators.at)) != MFS_OK ||
			(code = follow(p, operators.at + 4 * (uint64_t)i, &to, "an operator")) != MFS_OK ||
			(code = check_indexes(p, to, 1, tensors.n)) != MFS_OK || (code = check_indexes(p, to, 2, tensors.n)) != MFS_OK)
			return code;
	return MFS_OK;
}

enum mfs_code
mfs_probe_tflite(struct mfs_probe *p)
{
	struct vector subgraphs, buffers;
	uint8_t magic[4] = { 0 };
	uint64_t root = 0, to = 0;
	enum mfs_code code;

	if ((code = mfs_probe_get(p, 4, magic, 4, "the identifier")) != MFS_OK)
		return code;
	if (memcmp(magic, "TFL3", 4) != 0)
		return mfs_probe_bad(p, 4, "no TFLite file");
	if ((code = follow(p, 0, &root, "the model")) != MFS_OK || (code = vector(p, root, 2, 4, &subgraphs)) != MFS_OK ||
		(code = vector(p, root, 4, 4, &buffers)) != MFS_OK)
		return code;
	if (subgraphs.n == 0)
		return mfs_probe_bad(p, root, "a model without a subgraph");
	for (uint32_t i = 0; i < buffers.n; i++) {
		struct buffer b;

		if ((code = mfs_probe_step(p, buffers.at)) != MFS_OK || (code = buffer_find(p, &buffers, i, &b)) != MFS_OK)
			return code;
	}
	for (uint32_t i = 0; i < subgraphs.n; i++)
		if ((code = mfs_probe_step(p, subgraphs.at)) != MFS_OK ||
			(code = follow(p, subgraphs.at + 4 * (uint64_t)i, &to, "a subgraph")) != MFS_OK ||
			(code = check_subgraph(p, to, &buffers)) != MFS_OK)
			return code;
	return MFS_OK;
}
