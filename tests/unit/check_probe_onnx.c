/* SPDX-License-Identifier: Apache-2.0 */
/* check_probe_onnx.c - ONNX: as check_probe.c; values as fields, in graphs of graphs, in files of their own. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "probefix.h"

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
