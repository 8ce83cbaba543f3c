/* SPDX-License-Identifier: Apache-2.0 */
/* Model formats: what is whole passes, what lies, ends early or holds NaN is named with file and offset. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "probefix.h"

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
