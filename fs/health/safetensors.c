/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.c - u64 length of the header, the header (JSON), then one buffer.
 *
 *	{"__metadata__": {"k": "v"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *
 * The header may have 100 MB: it is read as a stream and never becomes a tree.
 */
#include <inttypes.h>
#include <string.h>

#include "probe.h"

#define HEADER_MAX 100000000u /* the format's own limit */

static const struct {
	const char *name;
	unsigned bits;
	enum mfs_float kind;
} types[] = {
	{ "F64", 64, MFS_FLOAT_F64 }, { "F32", 32, MFS_FLOAT_F32 }, { "F16", 16, MFS_FLOAT_F16 }, { "BF16", 16, MFS_FLOAT_BF16 },
	{ "C64", 64, MFS_FLOAT_F32 }, { "I64", 64, 0 }, { "U64", 64, 0 }, { "I32", 32, 0 }, { "U32", 32, 0 }, { "I16", 16, 0 },
	{ "U16", 16, 0 }, { "I8", 8, 0 }, { "U8", 8, 0 }, { "BOOL", 8, 0 }, { "F8_E4M3", 8, 0 }, { "F8_E5M2", 8, 0 },
	{ "F8_E8M0", 8, 0 }, { "F6_E2M3", 6, 0 }, { "F6_E3M2", 6, 0 }, { "F4", 4, 0 },
};

struct header {
	struct mfs_probe *p;
	uint64_t at, end; /* of the JSON */
	uint64_t data_len, used;
};

/* The next byte after white space, not taken; 0 at the end. */
static enum mfs_code
peek(struct header *h, uint8_t *c)
{
	enum mfs_code code;

	for (*c = 0; h->at < h->end; h->at++) {
		if ((code = mfs_probe_u8(h->p, h->at, c, "the header")) != MFS_OK)
			return code;
		if (*c != ' ' && *c != '\t' && *c != '\n' && *c != '\r')
			return MFS_OK;
		*c = 0;
	}
	return MFS_OK;
}

static enum mfs_code
expect(struct header *h, char want)
{
	uint8_t c;
	enum mfs_code code = peek(h, &c);

	if (code == MFS_OK && c != (uint8_t)want)
		return mfs_probe_bad(h->p, h->at, "header: '%c' is missing", want);
	h->at++;
	return code;
}

/* After an item: true in *more for ',', false for `close`. */
static enum mfs_code
item_end(struct header *h, char close, bool *more)
{
	uint8_t c;
	enum mfs_code code = peek(h, &c);

	*more = c == ',';
	if (code == MFS_OK && c != ',' && c != (uint8_t)close)
		return mfs_probe_bad(h->p, h->at, "header: ',' or '%c' is missing", close);
	h->at++;
	return code;
}

/* Is `close` next? Then it is taken: an empty list or object. */
static enum mfs_code
is_empty(struct header *h, char close, bool *empty)
{
	uint8_t c;
	enum mfs_code code = peek(h, &c);

	*empty = code == MFS_OK && c == (uint8_t)close;
	h->at += *empty;
	return code;
}

/* A text; its head as written into out (escapes stay). */
static enum mfs_code
text(struct header *h, char *out, size_t cap)
{
	enum mfs_code code = expect(h, '"');
	size_t n = 0;
	bool escaped = false;

	out[0] = '\0';
	while (code == MFS_OK) {
		uint8_t c = 0;

		if (h->at >= h->end)
			return mfs_probe_bad(h->p, h->at, "header: a text without its end");
		if ((code = mfs_probe_u8(h->p, h->at, &c, "the header")) != MFS_OK)
			return code;
		h->at++;
		if (!escaped && c == '"')
			return MFS_OK;
		if (c < 0x20)
			return mfs_probe_bad(h->p, h->at - 1, "header: a control character in a text");
		escaped = !escaped && c == '\\';
		if (n + 1 < cap) {
			out[n++] = (char)c;
			out[n] = '\0';
		}
	}
	return code;
}

static enum mfs_code
number(struct header *h, uint64_t *out)
{
	uint64_t start, v = 0;
	uint8_t c;
	enum mfs_code code = peek(h, &c);

	for (start = h->at; code == MFS_OK && h->at < h->end; h->at++) {
		if ((code = mfs_probe_u8(h->p, h->at, &c, "the header")) != MFS_OK || c < '0' || c > '9')
			break;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(c - '0'), &v))
			return mfs_probe_bad(h->p, start, "header: a number beyond 2^64");
	}
	if (code == MFS_OK && h->at == start)
		return mfs_probe_bad(h->p, start, "header: a whole number is missing");
	*out = v;
	return code;
}

/* Anything, for keys of a later version. */
static enum mfs_code
skip(struct header *h, unsigned depth)
{
	bool object, more = true;
	char none[2];
	uint8_t c;
	enum mfs_code code = peek(h, &c);

	if (code != MFS_OK || (code = mfs_probe_step(h->p, h->at)) != MFS_OK)
		return code;
	if (c == '"')
		return text(h, none, sizeof(none));
	if (c != '{' && c != '[') {
		uint64_t start = h->at;

		for (; code == MFS_OK && h->at < h->end; h->at++)
			if ((code = mfs_probe_u8(h->p, h->at, &c, "the header")) != MFS_OK || c == ',' || c == '}' || c == ']')
				break;
		return code == MFS_OK && h->at == start ? mfs_probe_bad(h->p, start, "header: a value is missing") : code;
	}
	if (depth >= MFS_PROBE_DEPTH)
		return mfs_probe_bad(h->p, h->at, "header: nested deeper than %u", MFS_PROBE_DEPTH);
	object = c == '{';
	h->at++;
	if ((code = is_empty(h, object ? '}' : ']', &more)) != MFS_OK || more)
		return code;
	for (more = true; code == MFS_OK && more;) {
		if (object && ((code = text(h, none, sizeof(none))) != MFS_OK || (code = expect(h, ':')) != MFS_OK))
			return code;
		if ((code = skip(h, depth + 1)) == MFS_OK)
			code = item_end(h, object ? '}' : ']', &more);
	}
	return code;
}

struct tensor {
	char name[128], dtype[16];
	uint64_t start, elements, from, to;
	unsigned seen; /* bits: dtype, shape, data_offsets */
};

static enum mfs_code
shape(struct header *h, struct tensor *t)
{
	bool more;
	enum mfs_code code;

	t->elements = 1;
	if ((code = expect(h, '[')) != MFS_OK || (code = is_empty(h, ']', &more)) != MFS_OK || more)
		return code;
	do {
		uint64_t n = 0;

		if ((code = mfs_probe_step(h->p, h->at)) != MFS_OK || (code = number(h, &n)) != MFS_OK)
			return code;
		if (__builtin_mul_overflow(t->elements, n, &t->elements))
			return mfs_probe_bad(h->p, t->start, "tensor '%s' has more than 2^64 elements", MFS_ESC(t->name));
	} while ((code = item_end(h, ']', &more)) == MFS_OK && more);
	return code;
}

static enum mfs_code
offsets(struct header *h, struct tensor *t)
{
	enum mfs_code code;

	if ((code = expect(h, '[')) != MFS_OK || (code = number(h, &t->from)) != MFS_OK || (code = expect(h, ',')) != MFS_OK ||
		(code = number(h, &t->to)) != MFS_OK)
		return code;
	return expect(h, ']');
}

static enum mfs_code
take_tensor(struct header *h, struct tensor *t)
{
	bool more;
	enum mfs_code code;

	if ((code = expect(h, '{')) != MFS_OK || (code = is_empty(h, '}', &more)) != MFS_OK || more)
		return code;
	do {
		char key[32];

		if ((code = mfs_probe_step(h->p, h->at)) != MFS_OK || (code = text(h, key, sizeof(key))) != MFS_OK ||
			(code = expect(h, ':')) != MFS_OK)
			return code;
		if (strcmp(key, "dtype") == 0) {
			code = text(h, t->dtype, sizeof(t->dtype));
			t->seen |= 1;
		} else if (strcmp(key, "shape") == 0) {
			code = shape(h, t);
			t->seen |= 2;
		} else if (strcmp(key, "data_offsets") == 0) {
			code = offsets(h, t);
			t->seen |= 4;
		} else {
			code = skip(h, 0);
		}
	} while (code == MFS_OK && (code = item_end(h, '}', &more)) == MFS_OK && more);
	return code;
}

static enum mfs_code
check_tensor(struct header *h, const struct tensor *t)
{
	struct mfs_probe *p = h->p;
	uint64_t bits;
	size_t k = 0;

	if (t->seen != 7)
		return mfs_probe_bad(p, t->start, "tensor '%s' lacks dtype, shape or data_offsets", MFS_ESC(t->name));
	if (t->from > t->to || t->to > h->data_len)
		return mfs_probe_bad(p, t->start, "tensor '%s' at %" PRIu64 " to %" PRIu64 " lies beyond the data of %" PRIu64 " bytes",
			MFS_ESC(t->name), t->from, t->to, h->data_len);
	h->used += t->to - t->from;
	while (k < sizeof(types) / sizeof(types[0]) && strcmp(types[k].name, t->dtype) != 0)
		k++;
	if (k == sizeof(types) / sizeof(types[0]))
		return MFS_OK; /* of a later version */
	if (__builtin_mul_overflow(t->elements, (uint64_t)types[k].bits, &bits) || bits % 8 != 0 || bits / 8 != t->to - t->from)
		return mfs_probe_bad(p, t->start, "tensor '%s' has %" PRIu64 " elements of %s in %" PRIu64 " bytes", MFS_ESC(t->name),
			t->elements, types[k].name, t->to - t->from);
	if (types[k].kind == MFS_FLOAT_NONE)
		return MFS_OK;
	return mfs_probe_floats(p, h->end + t->from, t->to - t->from, types[k].kind, t->name);
}

enum mfs_code
mfs_probe_safetensors(struct mfs_probe *p)
{
	struct header h = { .p = p, .at = 8 };
	uint64_t len = 0;
	bool more;
	uint8_t c;
	enum mfs_code code;

	if ((code = mfs_probe_u64(p, 0, &len, "the length of the header")) != MFS_OK)
		return code;
	if (len > HEADER_MAX)
		return mfs_probe_bad(p, 0, "a header of %" PRIu64 " bytes; limit %u", len, HEADER_MAX);
	if ((code = mfs_probe_within(p, 8, len, "the header")) != MFS_OK)
		return code;
	h.end = 8 + len;
	h.data_len = p->size - h.end;
	if ((code = expect(&h, '{')) != MFS_OK || (code = is_empty(&h, '}', &more)) != MFS_OK)
		return code;
	for (more = !more; more;) {
		struct tensor t = { .start = h.at };

		if ((code = mfs_probe_step(p, h.at)) != MFS_OK || (code = text(&h, t.name, sizeof(t.name))) != MFS_OK ||
			(code = expect(&h, ':')) != MFS_OK)
			return code;
		if (strcmp(t.name, "__metadata__") == 0)
			code = skip(&h, 0);
		else if ((code = take_tensor(&h, &t)) == MFS_OK)
			code = check_tensor(&h, &t);
		if (code != MFS_OK || (code = item_end(&h, '}', &more)) != MFS_OK)
			return code;
	}
	if ((code = peek(&h, &c)) != MFS_OK)
		return code;
	if (h.at != h.end)
		return mfs_probe_bad(p, h.at, "header: something follows its end");
	if (h.used != h.data_len)
		return mfs_probe_bad(p, h.end, "tensors take %" PRIu64 " of %" PRIu64 " bytes of data", h.used, h.data_len);
	return MFS_OK;
}
