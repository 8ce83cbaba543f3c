/* SPDX-License-Identifier: Apache-2.0 */
/* Model formats: what is whole passes, what lies, ends early or holds NaN is named with file and offset. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>

#include "probe.h"

#define CAP (1u << 20)

static uint8_t model[CAP], weights[CAP];
static size_t model_len, weights_len;
static enum mfs_code read_code;

static enum mfs_code
mem_read(void *user, size_t file, void *buf, size_t len, uint64_t off, struct mfs_err *err)
{
	const uint8_t *from = file == 0 ? model : weights;
	size_t size = file == 0 ? model_len : weights_len;

	(void)user;
	cr_assert(off <= size && len <= size - off, "read of %zu at %llu in %zu", len, (unsigned long long)off, size);
	if (read_code != MFS_OK)
		return mfs_fail(err, read_code, "as the test wants");
	memcpy(buf, from + off, len);
	return MFS_OK;
}

static bool
mem_find(void *user, const char *name, size_t *file, uint64_t *size)
{
	(void)user;
	*file = 1;
	*size = weights_len;
	return strcmp(name, "dir/w.data") == 0;
}

static enum mfs_code
probe(enum mfs_media media, struct mfs_err *err)
{
	struct mfs_probe p = { .read = mem_read, .find = mem_find, .total = model_len + weights_len };
	enum mfs_code code;

	*err = (struct mfs_err)MFS_ERR_INIT;
	code = mfs_probe_file(&p, media, 0, "dir/model", model_len, err);
	mfs_probe_end(&p);
	cr_assert_eq(code, err->code);
	return code;
}

static void
good(enum mfs_media media)
{
	struct mfs_err err;

	cr_assert_eq(probe(media, &err), MFS_OK, "%s", err.msg);
}

static void
bad(enum mfs_media media, const char *words)
{
	struct mfs_err err;

	cr_assert_eq(probe(media, &err), MFS_HEALTH_CHECK_FAILED, "%s: %s", words, err.msg);
	cr_assert_not_null(strstr(err.msg, words), "wanted '%s', got '%s'", words, err.msg);
	cr_assert(strncmp(err.msg, "dir/model: offset ", 18) == 0 || strncmp(err.msg, "dir/w.data: offset ", 19) == 0, "%s", err.msg);
}

/* Every prefix, and every byte inverted, is a verdict or passes: never a crash, never another code. */
static void
survives_damage(enum mfs_media media)
{
	size_t whole = model_len;
	struct mfs_err err;

	for (model_len = 0; model_len < whole; model_len++)
		cr_assert_eq(probe(media, &err), MFS_HEALTH_CHECK_FAILED, "cut at %zu of %zu passes", model_len, whole);
	for (size_t i = 0; i < whole; i++) {
		enum mfs_code code;

		model[i] ^= 0xff;
		code = probe(media, &err);
		cr_assert(code == MFS_OK || code == MFS_HEALTH_CHECK_FAILED, "byte %zu: %s", i, err.msg);
		model[i] ^= 0xff;
	}
	good(media);
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static void
put(const void *p, size_t n)
{
	cr_assert_leq(model_len + n, CAP);
	memcpy(model + model_len, p, n);
	model_len += n;
}

static void
le(uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++, v >>= 8)
		put(&(uint8_t){ (uint8_t)v }, 1);
}

static void
pad(size_t to)
{
	while (model_len % to != 0)
		le(0, 1);
}

static void
f32(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	le(bits, 4);
}

/* ---- GGUF ----------------------------------------------------------------------------------------------- */

static void
gguf_text(const char *s)
{
	le(strlen(s), 8);
	put(s, strlen(s));
}

static void
gguf_begin(uint32_t version, uint64_t tensors, uint64_t pairs)
{
	model_len = weights_len = 0;
	put("GGUF", 4);
	le(version, 4);
	le(tensors, 8);
	le(pairs, 8);
}

static void
gguf_tensor(const char *name, uint64_t x, uint64_t y, uint32_t type, uint64_t offset)
{
	gguf_text(name);
	le(2, 4);
	le(x, 8);
	le(y, 8);
	le(type, 4);
	le(offset, 8);
}

/* Metadata of every kind, an f32 and an f16 tensor, a quantized one. */
static void
gguf_whole(void)
{
	gguf_begin(3, 3, 4);
	gguf_text("general.architecture");
	le(8, 4);
	gguf_text("llama");
	gguf_text("general.alignment");
	le(4, 4);
	le(64, 4);
	gguf_text("tokens");
	le(9, 4);
	le(8, 4);
	le(2, 8);
	gguf_text("a");
	gguf_text("bc");
	gguf_text("nested");
	le(9, 4);
	le(9, 4);
	le(1, 8);
	le(5, 4);
	le(2, 8);
	le(7, 4);
	le(8, 4);
	gguf_tensor("w", 4, 2, 0, 0);
	gguf_tensor("h", 3, 1, 1, 64);
	gguf_tensor("q", 32, 1, 2, 128);
	pad(64);
	for (int i = 0; i < 8; i++)
		f32((float)i);
	pad(64);
	for (int i = 0; i < 3; i++)
		le(0x3c00, 2);
	pad(64);
	for (int i = 0; i < 18; i++)
		le(0xff, 1); /* NaN, were it floats */
}

Test(probe, gguf)
{
	size_t floats;

	gguf_whole();
	good(MFS_MEDIA_GGUF);
	survives_damage(MFS_MEDIA_GGUF);
	floats = model_len - 18 - 128;
	memcpy(model + floats + 12, "\0\0\xc0\x7f", 4);
	bad(MFS_MEDIA_GGUF, "tensor 'w' holds NaN");
	gguf_whole();
	memcpy(model + floats + 28, "\0\0\x80\xff", 4);
	bad(MFS_MEDIA_GGUF, "tensor 'w' holds infinity");
	gguf_whole();
	memcpy(model + floats + 64 + 4, "\0\x7c", 2);
	bad(MFS_MEDIA_GGUF, "tensor 'h' holds infinity");
	gguf_whole();
	memcpy(model, "GGML", 4);
	bad(MFS_MEDIA_GGUF, "offset 0: no GGUF file");
	gguf_begin(1, 0, 0);
	bad(MFS_MEDIA_GGUF, "version");
	gguf_begin(0x3000000, 0, 0);
	bad(MFS_MEDIA_GGUF, "big-endian");
	gguf_begin(3, UINT64_MAX, 0);
	bad(MFS_MEDIA_GGUF, "beyond the file");
	gguf_begin(3, 0, UINT64_MAX);
	bad(MFS_MEDIA_GGUF, "beyond the file");
	gguf_begin(2, 0, 0);
	good(MFS_MEDIA_GGUF);
}

Test(probe, gguf_lies)
{
	gguf_begin(3, 0, 1);
	le(UINT64_MAX, 8);
	bad(MFS_MEDIA_GGUF, "limit");
	gguf_begin(3, 0, 1);
	gguf_text("k");
	le(9, 4);
	le(4, 4);
	le(UINT64_MAX / 2, 8);
	bad(MFS_MEDIA_GGUF, "ends beyond the file");
	gguf_begin(3, 0, 1);
	gguf_text("k");
	for (int i = 0; i < 6; i++) { /* arrays of arrays without end */
		le(9, 4);
		if (i > 0)
			le(1, 8);
	}
	bad(MFS_MEDIA_GGUF, "deeper than");
	gguf_begin(3, 0, 1);
	gguf_text("general.alignment");
	le(4, 4);
	le(48, 4);
	bad(MFS_MEDIA_GGUF, "power of two");
	gguf_begin(3, 1, 0);
	gguf_tensor("w", UINT64_MAX, 16, 0, 0);
	bad(MFS_MEDIA_GGUF, "2^64");
	gguf_begin(3, 1, 0);
	gguf_tensor("w", UINT64_MAX / 8, 1, 0, 0);
	pad(32);
	bad(MFS_MEDIA_GGUF, "ends beyond the file");
	gguf_begin(3, 1, 0);
	gguf_tensor("w", 4, 1, 0, 5);
	pad(32);
	bad(MFS_MEDIA_GGUF, "not aligned");
	gguf_begin(3, 1, 0);
	gguf_tensor("w", 31, 1, 2, 0);
	pad(32);
	bad(MFS_MEDIA_GGUF, "whole blocks");
	gguf_begin(3, 1, 0);
	gguf_tensor("new", 31, 1, 999, 0);
	pad(32);
	good(MFS_MEDIA_GGUF); /* a type of a later version */
}

Test(probe, tensors_that_overlap_do_not_cost_more_than_a_few_reads)
{
	gguf_begin(3, 1000, 0);
	for (int i = 0; i < 1000; i++)
		gguf_tensor("w", 1024, 4, 0, 0);
	pad(32);
	for (int i = 0; i < 4096; i++)
		f32(1);
	bad(MFS_MEDIA_GGUF, "overlap");
}

/* ---- safetensors ----------------------------------------------------------------------------------------- */

static void
safetensors(const char *header, size_t data)
{
	model_len = weights_len = 0;
	le(strlen(header), 8);
	put(header, strlen(header));
	for (size_t i = 0; i < data / 4; i++)
		f32(1.5f);
}

#define ST_ONE "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"
Test(probe, safetensors)
{
	static const char whole[] = "{ \"__metadata__\":{\"format\":\"pt\", \"x\\\"y\":\"z\"}," ST_ONE
		",\"b\":{\"shape\":[2],\"data_offsets\":[16,20],\"dtype\":\"BF16\",\"later\":{\"k\":[1,{},\"x\"]}},"
		"\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]}}  ";
	size_t data = 8 + strlen(whole);

	safetensors(whole, 28);
	good(MFS_MEDIA_SAFETENSORS);
	survives_damage(MFS_MEDIA_SAFETENSORS);
	memcpy(model + data + 4, "\0\0\x80\x7f", 4);
	bad(MFS_MEDIA_SAFETENSORS, "tensor 'a' holds infinity");
	safetensors(whole, 28);
	memcpy(model + data + 18, "\x81\xff", 2);
	bad(MFS_MEDIA_SAFETENSORS, "tensor 'b' holds NaN");
	safetensors(whole, 28);
	memcpy(model + data + 20, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
	good(MFS_MEDIA_SAFETENSORS);
	safetensors("{}", 0);
	good(MFS_MEDIA_SAFETENSORS);
}

Test(probe, safetensors_lies)
{
	char deep[1000];

	safetensors("[]", 0);
	bad(MFS_MEDIA_SAFETENSORS, "'{' is missing");
	safetensors("{" ST_ONE "}x", 16);
	bad(MFS_MEDIA_SAFETENSORS, "something follows");
	safetensors("{" ST_ONE "}", 20);
	bad(MFS_MEDIA_SAFETENSORS, "tensors take 16 of 20");
	safetensors("{" ST_ONE "}", 12);
	bad(MFS_MEDIA_SAFETENSORS, "lies beyond the data");
	safetensors("{" ST_ONE "," ST_ONE "}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "tensors take 32 of 16");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "2 elements of F32 in 16 bytes");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551615,2],\"data_offsets\":[0,16]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "2^64");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,16]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "2^64");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,16]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "number is missing");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "lacks");
	safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", 16);
	bad(MFS_MEDIA_SAFETENSORS, "lies beyond");
	safetensors("{\"a", 0);
	bad(MFS_MEDIA_SAFETENSORS, "without its end");
	(void)snprintf(deep, sizeof(deep), "{\"__metadata__\":%0100d", 0);
	memset(deep + 16, '[', 100);
	safetensors(deep, 0);
	bad(MFS_MEDIA_SAFETENSORS, "nested deeper");
	model_len = 0;
	le(100000001, 8);
	bad(MFS_MEDIA_SAFETENSORS, "limit");
	model_len = 0;
	le(UINT64_MAX, 8);
	bad(MFS_MEDIA_SAFETENSORS, "limit");
}

/* ---- ONNX --------------------------------------------------------------------------------------------------- */

struct pb {
	uint8_t b[4096];
	size_t n;
};

static void
pb_varint(struct pb *o, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		o->b[o->n++] = (uint8_t)(v | 0x80);
	o->b[o->n++] = (uint8_t)v;
}

static void
pb_int(struct pb *o, unsigned field, uint64_t v)
{
	pb_varint(o, (uint64_t)field << 3);
	pb_varint(o, v);
}

static void
pb_bytes(struct pb *o, unsigned field, const void *p, size_t n)
{
	pb_varint(o, (uint64_t)field << 3 | 2);
	pb_varint(o, n);
	cr_assert_leq(o->n + n, sizeof(o->b));
	memcpy(o->b + o->n, p, n);
	o->n += n;
}

static void
pb_entry(struct pb *o, const char *key, const char *value)
{
	struct pb e = { .n = 0 };

	pb_bytes(&e, 1, key, strlen(key));
	pb_bytes(&e, 2, value, strlen(value));
	pb_bytes(o, 13, e.b, e.n);
}

static struct pb
tensor(uint64_t type, uint64_t elements)
{
	struct pb t = { .n = 0 };

	pb_int(&t, 1, elements);
	pb_int(&t, 2, type);
	pb_bytes(&t, 8, "w", 1);
	return t;
}

/* A model with this tensor: as an initializer, or deep within nodes and graphs. */
static void
onnx(const struct pb *t, unsigned depth)
{
	struct pb graph = { .n = 0 }, m = { .n = 0 };

	pb_bytes(&graph, 5, t->b, t->n);
	for (unsigned i = 0; i < depth; i++) {
		struct pb attribute = { .n = 0 }, node = { .n = 0 }, outer = { .n = 0 };

		pb_bytes(&attribute, 6, graph.b, graph.n);
		pb_bytes(&node, 5, attribute.b, attribute.n);
		pb_bytes(&outer, 1, node.b, node.n);
		graph = outer;
	}
	pb_int(&m, 1, 8);
	pb_bytes(&m, 7, graph.b, graph.n);
	model_len = weights_len = 0;
	put(m.b, m.n);
}

static const uint8_t one[4] = { 0, 0, 0x80, 0x3f }, nan_[4] = { 0, 0, 0xc0, 0x7f };

Test(probe, onnx)
{
	struct pb t = tensor(1, 2);
	uint8_t raw[8];

	memcpy(raw, one, 4);
	memcpy(raw + 4, one, 4);
	pb_bytes(&t, 9, raw, 8);
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX);
	survives_damage(MFS_MEDIA_ONNX);
	onnx(&t, 5);
	good(MFS_MEDIA_ONNX);
	onnx(&t, 40);
	bad(MFS_MEDIA_ONNX, "nested deeper");
	t = tensor(1, 2);
	memcpy(raw + 4, nan_, 4);
	pb_bytes(&t, 9, raw, 8);
	onnx(&t, 3);
	bad(MFS_MEDIA_ONNX, "tensor 'w' holds NaN");
	t = tensor(7, 1); /* int64 */
	pb_bytes(&t, 9, raw, 8);
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX);
	t = tensor(1, 3);
	pb_bytes(&t, 9, raw, 8);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "8 bytes, not 12");
	t = tensor(1, UINT64_MAX);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "negative dimension");
	t = tensor(1, INT64_MAX);
	pb_bytes(&t, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "2^64");
	model_len = 0;
	bad(MFS_MEDIA_ONNX, "no ir_version");
	put("GGUF\3\0\0\0", 8);
	bad(MFS_MEDIA_ONNX, "offset");
}

Test(probe, onnx_values_as_fields)
{
	struct pb t = { .n = 0 };

	pb_bytes(&t, 4, nan_, 4); /* before the type that says what it is */
	pb_int(&t, 2, 1);
	pb_int(&t, 1, 1);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "holds NaN");
	t = tensor(1, 1);
	pb_bytes(&t, 4, one, 4);
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX);
	t = tensor(10, 2); /* f16 */
	pb_bytes(&t, 5, "\x80\x78\x80\xf8\x01", 5);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "holds infinity");
	t = tensor(10, 2);
	pb_bytes(&t, 5, "\0\x80\xf8\x03", 4); /* 0, -infinity */
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX);
	t = tensor(10, 2);
	pb_bytes(&t, 5, "\0\x81\xf8\x03", 4);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "holds NaN");
	t = tensor(6, 1); /* int32 */
	pb_bytes(&t, 5, "\x80\xf8\x01", 3);
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX);
	t = tensor(11, 1);
	pb_bytes(&t, 10, "\0\0\0\0\0\0\xf0\x7f", 8);
	onnx(&t, 0);
	good(MFS_MEDIA_ONNX); /* the constant that a reduction begins with */
	t = tensor(11, 2);
	pb_bytes(&t, 10, "\0\0\0\0\0\0\xf0\x7f\0\0\0\0\0\0\xf0\x3f", 16);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "holds infinity among other values");
	t = tensor(1, 1);
	pb_bytes(&t, 4, one, 3);
	onnx(&t, 0);
	bad(MFS_MEDIA_ONNX, "does not fit");
}

/* n elements as float32 into p. */
static void
fill(uint8_t *p, size_t n, float (*value)(size_t i))
{
	for (size_t i = 0; i < n; i++) {
		float v = value(i);

		memcpy(p + 4 * i, &v, 4);
	}
}

static float causal(size_t i) { return i % 16 > i / 16 ? -INFINITY : 0.0f; } /* 16 x 16, as torch.triu makes it */
static float below_zero(size_t i) { return i % 16 > i / 16 ? -INFINITY : -0.0f; }
static float only(size_t i) { (void)i; return -INFINITY; }
static float overflown(size_t i) { return i == 200 ? INFINITY : (float)i / 100; }
static float both_signs(size_t i) { return i == 3 ? INFINITY : i == 200 ? -INFINITY : 0.0f; }
static float scaled(size_t i) { return i % 16 > i / 16 ? -INFINITY : 1.0f; }
static float not_a_number(size_t i) { return i == 255 ? NAN : causal(i); }

Test(probe, infinity_in_a_mask_is_no_fault)
{
	static const struct { float (*value)(size_t); const char *wrong; } cases[] = {
		{ causal, NULL }, { below_zero, NULL }, { only, NULL }, { overflown, "holds infinity" },
		{ both_signs, "holds infinity" }, { scaled, "holds infinity" }, { not_a_number, "holds NaN" },
	};
	uint8_t raw[1024];

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct pb t = tensor(1, 256), node = { .n = 0 }, constant = { .n = 0 }, graph = { .n = 0 }, m = { .n = 0 };

		fill(raw, 256, cases[k].value);
		/* An initializer; the value of a Constant node; values as fields, packed and one by one; a file of its own */
		pb_bytes(&t, 9, raw, sizeof(raw));
		onnx(&t, 0);
		cases[k].wrong == NULL ? good(MFS_MEDIA_ONNX) : bad(MFS_MEDIA_ONNX, cases[k].wrong);
		pb_bytes(&constant, 5, t.b, t.n);
		pb_bytes(&node, 4, "Constant", 8);
		pb_bytes(&node, 5, constant.b, constant.n);
		pb_bytes(&graph, 1, node.b, node.n);
		pb_int(&m, 1, 8);
		pb_bytes(&m, 7, graph.b, graph.n);
		model_len = weights_len = 0;
		put(m.b, m.n);
		cases[k].wrong == NULL ? good(MFS_MEDIA_ONNX) : bad(MFS_MEDIA_ONNX, cases[k].wrong);
		t = tensor(1, 256);
		pb_bytes(&t, 4, raw, sizeof(raw));
		onnx(&t, 0);
		cases[k].wrong == NULL ? good(MFS_MEDIA_ONNX) : bad(MFS_MEDIA_ONNX, cases[k].wrong);
		t = tensor(1, 256);
		for (size_t i = 0; i < sizeof(raw); i += 4) {
			pb_varint(&t, 4 << 3 | 5);
			memcpy(t.b + t.n, raw + i, 4);
			t.n += 4;
		}
		onnx(&t, 0);
		cases[k].wrong == NULL ? good(MFS_MEDIA_ONNX) : bad(MFS_MEDIA_ONNX, cases[k].wrong);
		safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[16,16],\"data_offsets\":[0,1024]}}", 1024);
		memcpy(model + model_len - 1024, raw, 1024);
		cases[k].wrong == NULL ? good(MFS_MEDIA_SAFETENSORS) : bad(MFS_MEDIA_SAFETENSORS, cases[k].wrong);
	}
}

static void
external(const char *location, const char *offset, const char *length, uint64_t elements)
{
	struct pb t = tensor(1, elements);

	if (location != NULL)
		pb_entry(&t, "location", location);
	if (offset != NULL)
		pb_entry(&t, "offset", offset);
	if (length != NULL)
		pb_entry(&t, "length", length);
	pb_int(&t, 14, 1);
	onnx(&t, 0);
	weights_len = 64;
	for (size_t i = 0; i < weights_len; i += 4)
		memcpy(weights + i, one, 4);
}

Test(probe, onnx_external_data)
{
	external("w.data", NULL, NULL, 16);
	good(MFS_MEDIA_ONNX);
	external("./w.data", "32", "32", 8);
	good(MFS_MEDIA_ONNX);
	memcpy(weights, nan_, 4); /* not of this tensor */
	good(MFS_MEDIA_ONNX);
	memcpy(weights + 60, nan_, 4);
	bad(MFS_MEDIA_ONNX, "dir/w.data: offset 60: tensor 'w' holds NaN");
	external("w.data", "36", NULL, 8);
	bad(MFS_MEDIA_ONNX, "ends beyond its external data");
	external("w.data", "18446744073709551", NULL, 8);
	bad(MFS_MEDIA_ONNX, "ends beyond its external data");
	external("w.data", NULL, "32", 9);
	bad(MFS_MEDIA_ONNX, "32 bytes of external data for 36");
	external("w.data", "-1", NULL, 8);
	bad(MFS_MEDIA_ONNX, "no number");
	external("other", NULL, NULL, 8);
	bad(MFS_MEDIA_ONNX, "'other' is no file of this bundle");
	external("../dir/w.data", NULL, NULL, 8);
	bad(MFS_MEDIA_ONNX, "no file of this bundle");
	external("/dir/w.data", NULL, NULL, 8);
	bad(MFS_MEDIA_ONNX, "no file of this bundle");
	external(NULL, NULL, NULL, 8);
	bad(MFS_MEDIA_ONNX, "without a location");
}

/* ---- TFLite -------------------------------------------------------------------------------------------------- */

static void
at(size_t where, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++, v >>= 8)
		model[where + i] = (uint8_t)v;
}

/* A table with 4-byte fields by id; each place is returned in slots[id] (0: absent). */
static size_t
table(unsigned n, size_t *slots)
{
	size_t vtable, t;
	uint16_t used = 0;

	for (unsigned i = 0; i < n; i++)
		used = (uint16_t)(used + (slots[i] != 0));
	pad(4);
	vtable = model_len;
	le(4 + 2 * n, 2);
	le(4 + 4 * (uint64_t)used, 2);
	for (unsigned i = 0, k = 0; i < n; i++)
		le(slots[i] != 0 ? 4 + 4 * k++ : 0, 2);
	pad(4);
	t = model_len;
	le(t - vtable, 4);
	for (unsigned i = 0; i < n; i++)
		if (slots[i] != 0) {
			slots[i] = model_len;
			le(0, 4);
		}
	return t;
}

static size_t
vector(size_t slot, uint32_t n, const uint32_t *items)
{
	size_t v;

	pad(4);
	v = model_len;
	at(slot, v - slot, 4);
	le(n, 4);
	for (uint32_t i = 0; i < n; i++)
		le(items != NULL ? items[i] : 0, 4);
	return v + 4;
}

static size_t tfl_data, tfl_shape, tfl_buffer, tfl_inputs, tfl_subgraphs;

/* One subgraph, one tensor of 4 floats in buffer 1, one operator that takes it. */
static void
tflite(void)
{
	size_t m[5] = { 0, 0, 1, 0, 1 }, s[4] = { 1, 1, 0, 1 }, t[4] = { 1, 1, 1, 1 }, o[2] = { 0, 1 }, none[1] = { 0 }, b[1] = { 1 };
	size_t root, items, to;

	model_len = weights_len = 0;
	le(0, 4);
	put("TFL3", 4);
	root = table(5, m);
	at(0, root, 4);
	tfl_subgraphs = vector(m[2], 1, NULL);
	to = table(4, s);
	at(tfl_subgraphs, to - tfl_subgraphs, 4);
	items = vector(s[0], 1, NULL);
	to = table(4, t);
	at(items, to - items, 4);
	tfl_shape = vector(t[0], 2, (const uint32_t[]){ 2, 2 });
	at(t[1], 0, 1);
	tfl_buffer = t[2];
	at(t[2], 1, 4);
	pad(4);
	at(t[3], model_len - t[3], 4);
	le(1, 4);
	put("w\0\0\0", 4);
	(void)vector(s[1], 1, (const uint32_t[]){ 0 });
	items = vector(s[3], 1, NULL);
	to = table(2, o);
	at(items, to - items, 4);
	tfl_inputs = vector(o[1], 2, (const uint32_t[]){ 0, UINT32_MAX });
	items = vector(m[4], 2, NULL);
	to = table(1, none);
	at(items, to - items, 4);
	to = table(1, b);
	at(items + 4, to - items - 4, 4);
	at(b[0], model_len - b[0], 4);
	le(16, 4);
	tfl_data = model_len;
	for (int i = 0; i < 4; i++)
		f32((float)i);
}

Test(probe, tflite)
{
	tflite();
	good(MFS_MEDIA_TFLITE);
	survives_damage(MFS_MEDIA_TFLITE);
	memcpy(model + tfl_data + 8, nan_, 4);
	bad(MFS_MEDIA_TFLITE, "tensor 'w' holds NaN");
	tflite();
	at(tfl_shape, 3, 4);
	bad(MFS_MEDIA_TFLITE, "6 elements of 4 bytes in a buffer of 16");
	tflite();
	at(tfl_shape, UINT32_MAX, 4); /* left open */
	good(MFS_MEDIA_TFLITE);
	tflite();
	at(tfl_buffer, 2, 4);
	bad(MFS_MEDIA_TFLITE, "names buffer 2 of 2");
	tflite();
	at(tfl_inputs, 1, 4);
	bad(MFS_MEDIA_TFLITE, "tensor 1 of 1 is named");
	tflite();
	at(tfl_data - 4, 17, 4);
	bad(MFS_MEDIA_TFLITE, "beyond the file");
	tflite();
	at(tfl_subgraphs - 4, 0, 4);
	bad(MFS_MEDIA_TFLITE, "without a subgraph");
	tflite();
	memcpy(model + 4, "TFL2", 4);
	bad(MFS_MEDIA_TFLITE, "no TFLite file");
}

/* ---- around them ------------------------------------------------------------------------------------------------ */

Test(probe, media_without_a_check_pass_and_wrong_media_do_not)
{
	gguf_whole();
	good(MFS_MEDIA_OTHER);
	good(MFS_MEDIA_TEXT);
	bad(MFS_MEDIA_SAFETENSORS, "offset");
	bad(MFS_MEDIA_TFLITE, "no TFLite");
	bad(MFS_MEDIA_ONNX, "offset");
	tflite();
	bad(MFS_MEDIA_GGUF, "no GGUF");
}

Test(probe, trouble_and_cancelling_are_no_verdict)
{
	_Atomic int cancel = 1;
	struct mfs_probe p = { .read = mem_read, .cancel = &cancel, .total = CAP };
	struct mfs_err err;

	gguf_whole();
	read_code = MFS_IO;
	cr_assert_eq(probe(MFS_MEDIA_GGUF, &err), MFS_IO);
	read_code = MFS_OK;
	cr_assert_eq(mfs_probe_file(&p, MFS_MEDIA_GGUF, 0, "m", model_len, &err), MFS_CONDITION_UNMET);
	mfs_probe_end(&p);
}

Test(probe, nan_is_found_wherever_it_lies)
{
	static const size_t places[] = { 0, 4, 65536 - 4, 65536, 262140, 262144, 524288 - 4 };

	for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++) {
		char want[80];
		size_t data;

		safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[131072],\"data_offsets\":[0,524288]}} ", 524288);
		data = model_len - 524288;
		memcpy(model + data + places[k], nan_, 4);
		(void)snprintf(want, sizeof(want), "offset %zu: tensor 'a' holds NaN", data + places[k]);
		bad(MFS_MEDIA_SAFETENSORS, want);
	}
}
