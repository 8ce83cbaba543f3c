/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gguf.c - GGUF 2 and 3: a header, metadata, tensor infos, padding, tensor data.
 *
 *	"GGUF" u32 version u64 tensors u64 pairs
 *	pair    string key, u32 type, value          string  u64 length, bytes
 *	info    string name, u32 dims, u64 dim[dims], u32 type, u64 offset from the start of the data
 *
 * Infos are walked twice, first to find where the data starts, so that nothing has to be kept.
 */
#include <inttypes.h>
#include <string.h>

#include "probe.h"

#define STRING_MAX     (64u << 20) /* a chat template is some kilobytes */
#define DIMS_MAX       8u
#define ARRAYS_MAX     4u /* arrays of arrays */
#define ALIGNMENT      32u
#define ALIGNMENT_MAX  (1u << 20)

enum value { V_U8, V_I8, V_U16, V_I16, V_U32, V_I32, V_F32, V_BOOL, V_STRING, V_ARRAY, V_U64, V_I64, V_F64, V_END };
static const uint8_t value_bytes[V_END] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

/* Elements and bytes of a block. Types that are not here are of a later GGUF: only their place is checked. */
static const struct {
	uint16_t elements, bytes;
	enum mfs_float kind;
} types[] = {
	[0] = { 1, 4, MFS_FLOAT_F32 }, [1] = { 1, 2, MFS_FLOAT_F16 }, [2] = { 32, 18, 0 }, [3] = { 32, 20, 0 }, [6] = { 32, 22, 0 },
	[7] = { 32, 24, 0 }, [8] = { 32, 34, 0 }, [9] = { 32, 36, 0 }, [10] = { 256, 84, 0 }, [11] = { 256, 110, 0 },
	[12] = { 256, 144, 0 }, [13] = { 256, 176, 0 }, [14] = { 256, 210, 0 }, [15] = { 256, 292, 0 }, [16] = { 256, 66, 0 },
	[17] = { 256, 74, 0 }, [18] = { 256, 98, 0 }, [19] = { 256, 50, 0 }, [20] = { 32, 18, 0 }, [21] = { 256, 110, 0 },
	[22] = { 256, 82, 0 }, [23] = { 256, 136, 0 }, [24] = { 1, 1, 0 }, [25] = { 1, 2, 0 }, [26] = { 1, 4, 0 },
	[27] = { 1, 8, 0 }, [28] = { 1, 8, MFS_FLOAT_F64 }, [29] = { 256, 56, 0 }, [30] = { 1, 2, MFS_FLOAT_BF16 },
	[34] = { 256, 54, 0 }, [35] = { 256, 66, 0 }, [39] = { 32, 17, 0 },
};

struct gguf {
	struct mfs_probe *p;
	uint64_t at; /* next byte of the header */
	uint64_t alignment;
};

static enum mfs_code
take_u32(struct gguf *g, uint32_t *out, const char *what)
{
	enum mfs_code code = mfs_probe_u32(g->p, g->at, out, what);

	g->at += 4;
	return code;
}

static enum mfs_code
take_u64(struct gguf *g, uint64_t *out, const char *what)
{
	enum mfs_code code = mfs_probe_u64(g->p, g->at, out, what);

	g->at += 8;
	return code;
}

/* Its head into out (cut at cap - 1 bytes, NUL-terminated). */
static enum mfs_code
take_string(struct gguf *g, char *out, size_t cap, const char *what)
{
	uint64_t len = 0, start = g->at;
	enum mfs_code code;

	out[0] = '\0';
	if ((code = take_u64(g, &len, what)) != MFS_OK)
		return code;
	if (len > STRING_MAX)
		return mfs_probe_bad(g->p, start, "%s of %" PRIu64 " bytes; limit %u", what, len, STRING_MAX);
	if ((code = mfs_probe_within(g->p, g->at, len, what)) != MFS_OK)
		return code;
	if (cap > 1) {
		size_t n = len < cap - 1 ? (size_t)len : cap - 1;

		if ((code = mfs_probe_get(g->p, g->at, out, n, what)) != MFS_OK)
			return code;
		out[n] = '\0';
	}
	g->at += len;
	return MFS_OK;
}

static enum mfs_code
skip_value(struct gguf *g, uint32_t type, unsigned depth)
{
	uint64_t n = 0, start = g->at;
	char none[1];
	uint32_t of = 0;
	enum mfs_code code;

	if (type >= V_END)
		return mfs_probe_bad(g->p, start, "metadata of unknown type %u", type);
	if (type == V_STRING)
		return take_string(g, none, 1, "a text");
	if (type != V_ARRAY) {
		g->at += value_bytes[type];
		return mfs_probe_within(g->p, start, value_bytes[type], "metadata");
	}
	if (depth >= ARRAYS_MAX)
		return mfs_probe_bad(g->p, start, "arrays of arrays deeper than %u", ARRAYS_MAX);
	if ((code = take_u32(g, &of, "an array")) != MFS_OK || (code = take_u64(g, &n, "an array")) != MFS_OK)
		return code;
	if (of >= V_END)
		return mfs_probe_bad(g->p, start, "array of unknown type %u", of);
	if (value_bytes[of] != 0) {
		if (n > (g->p->size - g->at) / value_bytes[of])
			return mfs_probe_bad(g->p, start, "array of %" PRIu64 " items ends beyond the file", n);
		g->at += n * value_bytes[of];
		return MFS_OK;
	}
	for (uint64_t i = 0; i < n; i++)
		if ((code = mfs_probe_step(g->p, g->at)) != MFS_OK || (code = skip_value(g, of, depth + 1)) != MFS_OK)
			return code;
	return MFS_OK;
}

static enum mfs_code
take_pair(struct gguf *g)
{
	uint64_t start = g->at;
	char key[64];
	uint32_t type = 0, alignment = 0;
	enum mfs_code code;

	if ((code = mfs_probe_step(g->p, start)) != MFS_OK || (code = take_string(g, key, sizeof(key), "a key")) != MFS_OK ||
		(code = take_u32(g, &type, "the type of a key")) != MFS_OK)
		return code;
	if (strcmp(key, "general.alignment") != 0)
		return skip_value(g, type, 0);
	if (type != V_U32 || (code = take_u32(g, &alignment, "general.alignment")) != MFS_OK || alignment == 0 ||
		(alignment & (alignment - 1)) != 0 || alignment > ALIGNMENT_MAX)
		return code != MFS_OK ? code : mfs_probe_bad(g->p, start, "general.alignment is no power of two up to %u", ALIGNMENT_MAX);
	g->alignment = alignment;
	return MFS_OK;
}

struct info {
	char name[128];
	uint64_t start, elements, first_dim, offset;
	uint32_t type;
};

static enum mfs_code
take_info(struct gguf *g, struct info *t)
{
	uint32_t dims = 0;
	enum mfs_code code;

	*t = (struct info){ .start = g->at, .elements = 1, .first_dim = 1 };
	if ((code = mfs_probe_step(g->p, g->at)) != MFS_OK ||
		(code = take_string(g, t->name, sizeof(t->name), "the name of a tensor")) != MFS_OK ||
		(code = take_u32(g, &dims, "a tensor")) != MFS_OK)
		return code;
	if (dims > DIMS_MAX)
		return mfs_probe_bad(g->p, t->start, "tensor '%s' has %u dimensions; limit %u", MFS_ESC(t->name), dims, DIMS_MAX);
	for (uint32_t i = 0; i < dims; i++) {
		uint64_t n = 0;

		if ((code = take_u64(g, &n, "a dimension")) != MFS_OK)
			return code;
		if (i == 0)
			t->first_dim = n;
		if (__builtin_mul_overflow(t->elements, n, &t->elements))
			return mfs_probe_bad(g->p, t->start, "tensor '%s' has more than 2^64 elements", MFS_ESC(t->name));
	}
	if ((code = take_u32(g, &t->type, "the type of a tensor")) != MFS_OK)
		return code;
	return take_u64(g, &t->offset, "the place of a tensor");
}

static enum mfs_code
check_tensor(struct gguf *g, const struct info *t, uint64_t data)
{
	struct mfs_probe *p = g->p;
	uint64_t bytes, left = p->size - data;

	if (t->offset % g->alignment != 0 || t->offset > left)
		return mfs_probe_bad(p, t->start, "tensor '%s' at data offset %" PRIu64 " is not aligned or lies beyond the file",
			MFS_ESC(t->name), t->offset);
	if (t->type >= sizeof(types) / sizeof(types[0]) || types[t->type].elements == 0)
		return MFS_OK;
	if (t->first_dim % types[t->type].elements != 0)
		return mfs_probe_bad(p, t->start, "tensor '%s': rows of %" PRIu64 " are not whole blocks of %u", MFS_ESC(t->name),
			t->first_dim, types[t->type].elements);
	if (__builtin_mul_overflow(t->elements / types[t->type].elements, (uint64_t)types[t->type].bytes, &bytes) ||
		bytes > left - t->offset)
		return mfs_probe_bad(p, t->start, "tensor '%s' of %" PRIu64 " elements ends beyond the file", MFS_ESC(t->name), t->elements);
	if (types[t->type].kind == MFS_FLOAT_NONE)
		return MFS_OK;
	return mfs_probe_floats(p, data + t->offset, bytes, types[t->type].kind, t->name);
}

enum mfs_code
mfs_probe_gguf(struct mfs_probe *p)
{
	struct gguf g = { .p = p, .at = 8, .alignment = ALIGNMENT };
	uint64_t tensors = 0, pairs = 0, infos, data;
	uint8_t magic[4] = { 0 };
	uint32_t version = 0;
	struct info t;
	enum mfs_code code;

	if ((code = mfs_probe_get(p, 0, magic, 4, "the magic")) != MFS_OK)
		return code;
	if (memcmp(magic, "GGUF", 4) != 0)
		return mfs_probe_bad(p, 0, "no GGUF file");
	if ((code = mfs_probe_u32(p, 4, &version, "the version")) != MFS_OK)
		return code;
	if (version != 2 && version != 3)
		return mfs_probe_bad(p, 4, version == 0x2000000 || version == 0x3000000 ? "big-endian GGUF, which this host cannot use" :
			"GGUF version is neither 2 nor 3");
	if ((code = take_u64(&g, &tensors, "the header")) != MFS_OK || (code = take_u64(&g, &pairs, "the header")) != MFS_OK)
		return code;
	for (uint64_t i = 0; i < pairs; i++)
		if ((code = take_pair(&g)) != MFS_OK)
			return code;
	infos = g.at;
	for (uint64_t i = 0; i < tensors; i++)
		if ((code = take_info(&g, &t)) != MFS_OK)
			return code;
	data = (g.at + g.alignment - 1) & ~(g.alignment - 1);
	if (tensors > 0 && data > p->size)
		return mfs_probe_bad(p, g.at, "the file ends before its tensors");
	g.at = infos;
	for (uint64_t i = 0; i < tensors; i++)
		if ((code = take_info(&g, &t)) != MFS_OK || (code = check_tensor(&g, &t, data)) != MFS_OK)
			return code;
	return MFS_OK;
}
