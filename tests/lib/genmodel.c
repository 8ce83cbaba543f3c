/* SPDX-License-Identifier: Apache-2.0 */
/*
 * genmodel - write a valid model of a real format and of any size, the same for the same seed.
 *
 *	genmodel FORMAT SIZE SEED OUT
 *
 * FORMAT  onnx           y = x W + b with x [1,64]; runs in ONNX Runtime
 *         onnx-external  the same with W in OUT.data
 *         gguf           one F32 tensor, version 3
 *         safetensors    one F32 tensor
 *         tflite         one subgraph with one constant F32 tensor (below 2 GiB)
 *         raw            pseudo-random bytes
 *         sparse         a file with holes, data at every 256 MiB and around 4 GiB
 * SIZE    bytes of weights (raw, sparse: of the file); K, M and G are understood
 * SEED    any number; the weights, and with them what the model computes, depend on it
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 64u /* of the ONNX model's W; its input has this many numbers */

enum onnx_type { ONNX_FLOAT = 1 };

struct buf {
	uint8_t *p;
	size_t len, cap;
};

static _Noreturn void
die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t
next_random(uint64_t *s)
{
	uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void
buf_put(struct buf *b, const void *p, size_t n)
{
	if (b->cap - b->len < n) {
		b->cap = (b->len + n) * 2;
		if ((b->p = realloc(b->p, b->cap)) == NULL)
			die("memory");
	}
	if (n > 0)
		memcpy(b->p + b->len, p, n);
	b->len += n;
}

static void
buf_u32le(struct buf *b, uint32_t v)
{
	uint8_t x[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	buf_put(b, x, sizeof(x));
}

static void
buf_u64le(struct buf *b, uint64_t v)
{
	buf_u32le(b, (uint32_t)v);
	buf_u32le(b, (uint32_t)(v >> 32));
}

/* ---- protobuf, as much as ONNX needs ---- */

static void
pb_varint(struct buf *b, uint64_t v)
{
	do {
		uint8_t c = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));

		buf_put(b, &c, 1);
		v >>= 7;
	} while (v != 0);
}

static void
pb_int(struct buf *b, unsigned field, uint64_t v)
{
	pb_varint(b, (uint64_t)field << 3);
	pb_varint(b, v);
}

static void
pb_bytes(struct buf *b, unsigned field, const void *p, size_t n)
{
	pb_varint(b, (uint64_t)field << 3 | 2);
	pb_varint(b, n);
	buf_put(b, p, n);
}

static void
pb_str(struct buf *b, unsigned field, const char *s)
{
	pb_bytes(b, field, s, strlen(s));
}

/* Append message m as a field and empty it. */
static void
pb_msg(struct buf *b, unsigned field, struct buf *m)
{
	pb_bytes(b, field, m->p, m->len);
	free(m->p);
	*m = (struct buf){ 0 };
}

/* ---- writing ---- */

static void
write_all(FILE *f, const void *p, size_t n)
{
	if (n > 0 && fwrite(p, 1, n, f) != n)
		die("write");
}

static void
write_bytes(FILE *f, uint64_t n, uint64_t seed)
{
	static uint64_t block[1 << 15];
	uint64_t s = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;

	while (n > 0) {
		size_t take = n < sizeof(block) ? (size_t)n : sizeof(block);

		for (size_t i = 0; i < (take + 7) / 8; i++)
			block[i] = next_random(&s);
		write_all(f, block, take);
		n -= take;
	}
}

/* n floats in [-1, 1). */
static void
write_floats(FILE *f, uint64_t n, uint64_t seed)
{
	static float block[1 << 16];
	uint64_t s = seed * UINT64_C(0x2545f4914f6cdd1d) + 2;

	while (n > 0) {
		size_t take = n < sizeof(block) / sizeof(block[0]) ? (size_t)n : sizeof(block) / sizeof(block[0]);

		for (size_t i = 0; i < take; i++)
			block[i] = (float)(int32_t)(next_random(&s) >> 32) / 2147483648.0f;
		write_all(f, block, take * sizeof(block[0]));
		n -= take;
	}
}

static FILE *
create(const char *path)
{
	FILE *f = fopen(path, "wb");

	if (f == NULL)
		die(path);
	return f;
}

static void
finish(FILE *f, const char *path)
{
	if (fflush(f) != 0 || fclose(f) != 0)
		die(path);
}

/* ---- ONNX: field numbers of onnx.proto ---- */

static void
onnx_value_info(struct buf *graph, unsigned field, const char *name, uint64_t rows, uint64_t cols)
{
	struct buf dim = { 0 }, shape = { 0 }, tensor = { 0 }, type = { 0 }, info = { 0 };

	pb_int(&dim, 1, rows); /* Dimension.dim_value */
	pb_msg(&shape, 1, &dim);
	pb_int(&dim, 1, cols);
	pb_msg(&shape, 1, &dim);
	pb_int(&tensor, 1, ONNX_FLOAT); /* TypeProto.Tensor: elem_type, shape */
	pb_msg(&tensor, 2, &shape);
	pb_msg(&type, 1, &tensor);
	pb_str(&info, 1, name);
	pb_msg(&info, 2, &type);
	pb_msg(graph, field, &info);
}

static void
onnx_node(struct buf *graph, const char *op, const char *in1, const char *in2, const char *out)
{
	struct buf node = { 0 };

	pb_str(&node, 1, in1);
	pb_str(&node, 1, in2);
	pb_str(&node, 2, out);
	pb_str(&node, 3, op);
	pb_str(&node, 4, op);
	pb_msg(graph, 1, &node);
}

/* TensorProto head of W: dims, type, name; raw_data or external_data follow. */
static void
onnx_weights_head(struct buf *t, uint64_t cols)
{
	pb_int(t, 1, ROWS);
	pb_int(t, 1, cols);
	pb_int(t, 2, ONNX_FLOAT);
	pb_str(t, 8, "W");
}

static void
onnx_entry(struct buf *t, const char *key, const char *value)
{
	struct buf e = { 0 };

	pb_str(&e, 1, key);
	pb_str(&e, 2, value);
	pb_msg(t, 13, &e); /* external_data */
}

static void
onnx_bias(struct buf *graph, uint64_t cols, uint64_t seed)
{
	struct buf t = { 0 };
	uint64_t s = seed * UINT64_C(0x2545f4914f6cdd1d) + 3;
	float *v = calloc((size_t)cols, sizeof(*v));

	if (v == NULL)
		die("memory");
	for (uint64_t i = 0; i < cols; i++)
		v[i] = (float)(int32_t)(next_random(&s) >> 32) / 2147483648.0f;
	pb_int(&t, 1, cols);
	pb_int(&t, 2, ONNX_FLOAT);
	pb_str(&t, 8, "b");
	pb_bytes(&t, 9, v, (size_t)cols * sizeof(*v));
	pb_msg(graph, 5, &t);
	free(v);
}

static void
gen_onnx(const char *path, uint64_t size, uint64_t seed, bool external)
{
	uint64_t cols = size / (ROWS * sizeof(float)) > 0 ? size / (ROWS * sizeof(float)) : 1;
	uint64_t weights = cols * ROWS * sizeof(float);
	struct buf head = { 0 }, graph = { 0 }, tensor = { 0 }, opset = { 0 }, tag = { 0 };
	FILE *f = create(path);

	pb_int(&head, 1, 8); /* ir_version */
	pb_str(&head, 2, "modelfs-tests");
	pb_int(&opset, 2, 13);
	pb_msg(&head, 8, &opset);

	onnx_node(&graph, "MatMul", "x", "W", "xW");
	onnx_node(&graph, "Add", "xW", "b", "y");
	pb_str(&graph, 2, "linear");
	onnx_value_info(&graph, 11, "x", 1, ROWS);
	onnx_value_info(&graph, 12, "y", 1, cols);
	onnx_bias(&graph, cols, seed);
	onnx_weights_head(&tensor, cols);
	if (external) {
		const char *base = strrchr(path, '/');
		char data[4096], length[32];
		FILE *d;

		snprintf(data, sizeof(data), "%s.data", path);
		d = create(data);
		write_floats(d, weights / sizeof(float), seed);
		finish(d, data);
		snprintf(data, sizeof(data), "%s.data", base != NULL ? base + 1 : path);
		snprintf(length, sizeof(length), "%" PRIu64, weights);
		onnx_entry(&tensor, "location", data);
		onnx_entry(&tensor, "offset", "0");
		onnx_entry(&tensor, "length", length);
		pb_int(&tensor, 14, 1); /* data_location = EXTERNAL */
		pb_msg(&graph, 5, &tensor);
		pb_msg(&head, 7, &graph);
		write_all(f, head.p, head.len);
	} else {
		/* The weights are the last field of the last message, so they are written as a stream. */
		pb_varint(&tensor, 9 << 3 | 2); /* raw_data */
		pb_varint(&tensor, weights);
		pb_varint(&tag, 5 << 3 | 2); /* graph.initializer */
		pb_varint(&tag, tensor.len + weights);
		pb_varint(&head, 7 << 3 | 2); /* model.graph */
		pb_varint(&head, graph.len + tag.len + tensor.len + weights);
		write_all(f, head.p, head.len);
		write_all(f, graph.p, graph.len);
		write_all(f, tag.p, tag.len);
		write_all(f, tensor.p, tensor.len);
		write_floats(f, weights / sizeof(float), seed);
	}
	free(head.p);
	free(graph.p);
	free(tensor.p);
	free(tag.p);
	finish(f, path);
}

/* ---- GGUF 3 ---- */

static void
gguf_str(struct buf *b, const char *s)
{
	buf_u64le(b, strlen(s));
	buf_put(b, s, strlen(s));
}

static void
gen_gguf(const char *path, uint64_t size, uint64_t seed)
{
	const uint32_t align = 32;
	uint64_t n = size / sizeof(float) > 0 ? size / sizeof(float) : 1;
	struct buf b = { 0 };
	FILE *f = create(path);

	buf_put(&b, "GGUF", 4);
	buf_u32le(&b, 3);
	buf_u64le(&b, 1); /* tensors */
	buf_u64le(&b, 3); /* key-value pairs */
	gguf_str(&b, "general.architecture");
	buf_u32le(&b, 8); /* string */
	gguf_str(&b, "llama");
	gguf_str(&b, "general.name");
	buf_u32le(&b, 8);
	gguf_str(&b, "modelfs test model");
	gguf_str(&b, "general.alignment");
	buf_u32le(&b, 4); /* uint32 */
	buf_u32le(&b, align);
	gguf_str(&b, "token_embd.weight");
	buf_u32le(&b, 1); /* dimensions */
	buf_u64le(&b, n);
	buf_u32le(&b, 0); /* F32 */
	buf_u64le(&b, 0); /* offset in the data part */
	while (b.len % align != 0)
		buf_put(&b, "", 1);
	write_all(f, b.p, b.len);
	write_floats(f, n, seed);
	free(b.p);
	finish(f, path);
}

static void
gen_safetensors(const char *path, uint64_t size, uint64_t seed)
{
	uint64_t n = size / sizeof(float) > 0 ? size / sizeof(float) : 1;
	struct buf b = { 0 };
	char json[256];
	int len = snprintf(json, sizeof(json),
		"{\"__metadata__\":{\"format\":\"pt\"},\"weight\":{\"dtype\":\"F32\",\"shape\":[%" PRIu64
		"],\"data_offsets\":[0,%" PRIu64 "]}}",
		n, n * sizeof(float));
	FILE *f = create(path);

	while (len % 8 != 0)
		json[len++] = ' ';
	buf_u64le(&b, (uint64_t)len);
	buf_put(&b, json, (size_t)len);
	write_all(f, b.p, b.len);
	write_floats(f, n, seed);
	free(b.p);
	finish(f, path);
}

/* ---- TFLite: a FlatBuffer; places of offsets are filled in when what they lead to is written ---- */

static void
fb_pad(struct buf *b)
{
	while (b->len % 4 != 0)
		buf_put(b, "", 1);
}

/* The offset at `slot` leads to the present end. */
static void
fb_here(struct buf *b, size_t slot)
{
	uint32_t off = (uint32_t)(b->len - slot);

	memcpy(b->p + slot, &off, sizeof(off)); /* little-endian hosts */
}

/* A table with 4-byte fields of these ids; slots[i] is the place of ids[i]. Led to from `from`. */
static void
fb_table(struct buf *b, size_t from, unsigned n, const unsigned *ids, size_t *slots)
{
	unsigned last = n > 0 ? ids[n - 1] + 1 : 0;
	uint16_t v[16] = { 0 };
	size_t vtable;

	fb_pad(b);
	vtable = b->len;
	v[0] = (uint16_t)(4 + 2 * last);
	v[1] = (uint16_t)(4 + 4 * n);
	for (unsigned i = 0; i < n; i++)
		v[2 + ids[i]] = (uint16_t)(4 + 4 * i);
	buf_put(b, v, v[0]);
	fb_pad(b);
	fb_here(b, from);
	buf_u32le(b, (uint32_t)(b->len - vtable));
	for (unsigned i = 0; i < n; i++) {
		slots[i] = b->len;
		buf_u32le(b, 0);
	}
}

/* A vector of n words, led to from `from`; the place of the first. */
static size_t
fb_vector(struct buf *b, size_t from, uint32_t n)
{
	fb_pad(b);
	fb_here(b, from);
	buf_u32le(b, n);
	for (uint32_t i = 0; i < n; i++)
		buf_u32le(b, 0);
	return b->len - 4 * (size_t)n;
}

static void
gen_tflite(const char *path, uint64_t size, uint64_t seed)
{
	uint64_t n = size / sizeof(float) > 0 ? size / sizeof(float) : 1;
	const uint32_t one = 1, count = (uint32_t)n;
	struct buf b = { 0 };
	size_t model[3], subgraph[1], tensor[3], data[1], at;
	FILE *f = create(path);

	buf_u32le(&b, 0);
	buf_put(&b, "TFL3", 4);
	fb_table(&b, 0, 3, (const unsigned[]){ 0, 2, 4 }, model);
	memcpy(b.p + model[0], "\3\0\0", 4);
	at = fb_vector(&b, model[1], 1);
	fb_table(&b, at, 1, (const unsigned[]){ 0 }, subgraph);
	at = fb_vector(&b, subgraph[0], 1);
	fb_table(&b, at, 3, (const unsigned[]){ 0, 2, 3 }, tensor);
	at = fb_vector(&b, tensor[0], 1);
	memcpy(b.p + at, &count, 4);
	memcpy(b.p + tensor[1], &one, 4);
	fb_here(&b, tensor[2]);
	buf_u32le(&b, 6);
	buf_put(&b, "weight\0", 8);
	at = fb_vector(&b, model[2], 2); /* buffer 0 is the empty one */
	fb_table(&b, at, 0, NULL, NULL);
	fb_table(&b, at + 4, 1, (const unsigned[]){ 0 }, data);
	fb_here(&b, data[0]);
	buf_u32le(&b, (uint32_t)(n * sizeof(float)));
	write_all(f, b.p, b.len);
	write_floats(f, n, seed);
	free(b.p);
	finish(f, path);
}

static void
sparse_block(FILE *f, uint64_t size, uint64_t off, uint64_t seed)
{
	const uint64_t len = 128 << 10;

	if (off >= size)
		return;
	if (fseeko(f, (off_t)off, SEEK_SET) != 0)
		die("seek");
	write_bytes(f, size - off < len ? size - off : len, seed ^ off);
}

static void
gen_sparse(const char *path, uint64_t size, uint64_t seed)
{
	const uint64_t step = UINT64_C(256) << 20, four_gib = UINT64_C(1) << 32;
	FILE *f = create(path);

	for (uint64_t off = 0; off < size; off += step)
		sparse_block(f, size, off, seed);
	sparse_block(f, size, four_gib - 4096, seed);
	if (size > 1)
		sparse_block(f, size, size - 1, seed);
	if (fflush(f) != 0 || ftruncate(fileno(f), (off_t)size) != 0)
		die(path);
	finish(f, path);
}

static bool
parse_size(const char *s, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(s, &end, 10);
	if (end == s || errno != 0)
		return false;
	if (*end == 'K' || *end == 'M' || *end == 'G')
		*out <<= *end == 'K' ? 10 : *end == 'M' ? 20 : 30, end++;
	return *end == '\0';
}

int
main(int argc, char **argv)
{
	uint64_t size, seed;

	if (argc != 5 || !parse_size(argv[2], &size) || !parse_size(argv[3], &seed)) {
		fprintf(stderr, "usage: genmodel onnx|onnx-external|gguf|safetensors|tflite|raw|sparse SIZE SEED OUT\n");
		return 64;
	}
	if (strcmp(argv[1], "onnx") == 0 || strcmp(argv[1], "onnx-external") == 0) {
		gen_onnx(argv[4], size, seed, argv[1][4] != '\0');
	} else if (strcmp(argv[1], "gguf") == 0) {
		gen_gguf(argv[4], size, seed);
	} else if (strcmp(argv[1], "safetensors") == 0) {
		gen_safetensors(argv[4], size, seed);
	} else if (strcmp(argv[1], "tflite") == 0) {
		gen_tflite(argv[4], size, seed);
	} else if (strcmp(argv[1], "sparse") == 0) {
		gen_sparse(argv[4], size, seed);
	} else if (strcmp(argv[1], "raw") == 0) {
		FILE *f = create(argv[4]);

		write_bytes(f, size, seed);
		finish(f, argv[4]);
	} else {
		fprintf(stderr, "genmodel: %s: not a format I know\n", argv[1]);
		return 64;
	}
	return 0;
}
