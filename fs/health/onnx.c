/* SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx.c - a protobuf, walked without becoming a tree: graphs hold nodes, whose attributes may hold graphs
 * and tensors again. Field numbers are those of onnx.proto3. Weights lie in a tensor (raw_data, or
 * float_data and the like) or in another file of the bundle (external_data).
 */
#include <inttypes.h>
#include <string.h>

#include "probe.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum message { GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, MODEL };

#define LOCATION_MAX 1024u

struct tag {
	uint64_t start; /* of the field */
	uint32_t number;
	unsigned wire;
	uint64_t value;   /* of a varint */
	uint64_t at, len; /* of the content */
};

static enum mfs_code
varint(struct mfs_probe *p, uint64_t *at, uint64_t end, uint64_t *out)
{
	uint64_t start = *at;
	uint8_t c = 0x80;
	enum mfs_code code;

	*out = 0;
	for (unsigned i = 0; (c & 0x80) != 0; i++) {
		if (i == 10 || *at >= end)
			return mfs_probe_bad(p, start, "a number without its end");
		if ((code = mfs_probe_u8(p, *at, &c, "a number")) != MFS_OK)
			return code;
		*out |= i < 9 || c < 2 ? (uint64_t)(c & 0x7f) << (7 * i) : 0;
		(*at)++;
	}
	return MFS_OK;
}

/* The field at *at, which moves behind it. */
static enum mfs_code
take(struct mfs_probe *p, uint64_t *at, uint64_t end, struct tag *t)
{
	uint64_t key = 0;
	enum mfs_code code;

	*t = (struct tag){ .start = *at };
	if ((code = mfs_probe_step(p, *at)) != MFS_OK || (code = varint(p, at, end, &key)) != MFS_OK)
		return code;
	if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
		return mfs_probe_bad(p, t->start, "no protobuf field");
	t->number = (uint32_t)(key >> 3);
	t->wire = (unsigned)(key & 7);
	t->at = *at;
	switch (t->wire) {
	case WIRE_VARINT:
		if ((code = varint(p, at, end, &t->value)) != MFS_OK)
			return code;
		t->len = *at - t->at;
		return MFS_OK;
	case WIRE_64: t->len = 8; break;
	case WIRE_32: t->len = 4; break;
	case WIRE_BYTES:
		if ((code = varint(p, at, end, &t->len)) != MFS_OK)
			return code;
		t->at = *at;
		break;
	default:
		return mfs_probe_bad(p, t->start, "no protobuf field: wire type %u", t->wire);
	}
	if (t->len > end - t->at)
		return mfs_probe_bad(p, t->start, "field %u of %" PRIu64 " bytes ends beyond what holds it", t->number, t->len);
	*at = t->at + t->len;
	return MFS_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------------ */

static const struct {
	uint8_t bits; /* 0: of no fixed size */
	enum mfs_float kind;
} types[] = {
	{ 0, 0 }, { 32, MFS_FLOAT_F32 }, { 8, 0 }, { 8, 0 }, { 16, 0 }, { 16, 0 }, { 32, 0 }, { 64, 0 }, { 0, 0 }, { 8, 0 },
	{ 16, MFS_FLOAT_F16 }, { 64, MFS_FLOAT_F64 }, { 32, 0 }, { 64, 0 }, { 64, MFS_FLOAT_F32 }, { 128, MFS_FLOAT_F64 },
	{ 16, MFS_FLOAT_BF16 }, { 8, 0 }, { 8, 0 }, { 8, 0 }, { 8, 0 }, { 4, 0 }, { 4, 0 }, { 4, 0 },
};
#define TYPES (sizeof(types) / sizeof(types[0]))

struct tensor {
	uint64_t start, end;
	uint64_t type, elements;
	uint64_t raw_at, raw_len;
	bool raw, external, has_length;
	char name[128], location[LOCATION_MAX + 1];
	uint64_t offset, length;
};

static enum mfs_code
text(struct mfs_probe *p, const struct tag *t, char *out, size_t cap)
{
	size_t n = t->len < cap - 1 ? (size_t)t->len : cap - 1;
	enum mfs_code code = mfs_probe_get(p, t->at, out, n, "a text");

	out[code == MFS_OK ? n : 0] = '\0';
	return code;
}

static enum mfs_code
decimal(struct mfs_probe *p, const struct tag *t, uint64_t *out)
{
	char digits[24];
	enum mfs_code code;

	if (t->len == 0 || t->len > 19)
		return mfs_probe_bad(p, t->start, "external data: no number");
	if ((code = text(p, t, digits, sizeof(digits))) != MFS_OK)
		return code;
	*out = 0;
	for (size_t i = 0; digits[i] != '\0'; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return mfs_probe_bad(p, t->start, "external data: no number");
		*out = *out * 10 + (uint64_t)(digits[i] - '0');
	}
	return MFS_OK;
}

/* StringStringEntryProto {key 1, value 2} */
static enum mfs_code
take_external(struct mfs_probe *p, const struct tag *entry, struct tensor *t)
{
	struct tag f, value = { 0 };
	char key[16] = "";
	enum mfs_code code;

	for (uint64_t at = entry->at; at < entry->at + entry->len;) {
		if ((code = take(p, &at, entry->at + entry->len, &f)) != MFS_OK)
			return code;
		if (f.number == 1 && f.wire == WIRE_BYTES && (code = text(p, &f, key, sizeof(key))) != MFS_OK)
			return code;
		if (f.number == 2 && f.wire == WIRE_BYTES)
			value = f;
	}
	if (strcmp(key, "location") == 0) {
		if (value.len == 0 || value.len > LOCATION_MAX)
			return mfs_probe_bad(p, entry->start, "external data: a location of %" PRIu64 " bytes", value.len);
		return text(p, &value, t->location, sizeof(t->location));
	}
	if (strcmp(key, "offset") == 0)
		return decimal(p, &value, &t->offset);
	if (strcmp(key, "length") == 0) {
		t->has_length = true;
		return decimal(p, &value, &t->length);
	}
	return MFS_OK;
}

static enum mfs_code
take_dim(struct mfs_probe *p, const struct tag *f, uint64_t n, struct tensor *t)
{
	if (n > INT64_MAX)
		return mfs_probe_bad(p, f->start, "tensor with a negative dimension");
	if (__builtin_mul_overflow(t->elements, n, &t->elements))
		return mfs_probe_bad(p, f->start, "tensor of more than 2^64 elements");
	return MFS_OK;
}

/* Everything but values: they may come before the type that says what they are. */
static enum mfs_code
take_tensor(struct mfs_probe *p, struct tensor *t)
{
	enum mfs_code code = MFS_OK;

	for (uint64_t at = t->start; code == MFS_OK && at < t->end;) {
		struct tag f;

		if ((code = take(p, &at, t->end, &f)) != MFS_OK)
			return code;
		if (f.number == 1 && f.wire == WIRE_VARINT) {
			code = take_dim(p, &f, f.value, t);
		} else if (f.number == 1 && f.wire == WIRE_BYTES) {
			for (uint64_t d = f.at, n; code == MFS_OK && d < f.at + f.len;)
				if ((code = mfs_probe_step(p, d)) == MFS_OK && (code = varint(p, &d, f.at + f.len, &n)) == MFS_OK)
					code = take_dim(p, &f, n, t);
		} else if (f.number == 2 && f.wire == WIRE_VARINT) {
			t->type = f.value;
		} else if (f.number == 8 && f.wire == WIRE_BYTES) {
			code = text(p, &f, t->name, sizeof(t->name));
		} else if (f.number == 9 && f.wire == WIRE_BYTES) {
			t->raw = true;
			t->raw_at = f.at;
			t->raw_len = f.len;
		} else if (f.number == 13 && f.wire == WIRE_BYTES) {
			code = take_external(p, &f, t);
		} else if (f.number == 14 && f.wire == WIRE_VARINT) {
			t->external = f.value == 1;
		}
	}
	return code;
}

/* Values as fields of their own: float_data 4, int32_data 5 (16-bit floats too), double_data 10. */
static enum mfs_code
values_look(struct mfs_probe *p, const struct tensor *t, struct mfs_probe_mask *m)
{
	enum mfs_float kind = t->type < TYPES ? types[t->type].kind : MFS_FLOAT_NONE;
	enum mfs_code code = MFS_OK;

	for (uint64_t at = t->start; code == MFS_OK && at < t->end;) {
		struct tag f;

		if ((code = take(p, &at, t->end, &f)) != MFS_OK)
			return code;
		if ((f.number == 4 && kind == MFS_FLOAT_F32) || (f.number == 10 && kind == MFS_FLOAT_F64)) {
			if (f.wire != WIRE_VARINT)
				code = mfs_probe_floats_part(p, f.at, f.len, kind, t->name, m);
		} else if (f.number == 5 && (kind == MFS_FLOAT_F16 || kind == MFS_FLOAT_BF16)) {
			for (uint64_t v = f.at, bits; code == MFS_OK && v < f.at + f.len;) {
				uint64_t here = v;

				if ((code = varint(p, &v, f.at + f.len, &bits)) == MFS_OK)
					code = mfs_probe_element(p, p->name, here, kind, bits & 0xffff, t->name, m);
			}
		}
	}
	return code;
}

static enum mfs_code
check_values(struct mfs_probe *p, const struct tensor *t)
{
	struct mfs_probe_mask m = { 0 };
	enum mfs_code code = values_look(p, t, &m);

	if (code != MFS_OK || !m.infinite)
		return code;
	m.again = true;
	return values_look(p, t, &m);
}

/* Bytes of all elements; false: not known. */
static bool
tensor_bytes(const struct tensor *t, uint64_t *out)
{
	uint64_t bits;

	if (t->type >= TYPES || types[t->type].bits == 0)
		return false;
	if (__builtin_mul_overflow(t->elements, (uint64_t)types[t->type].bits, &bits) || bits > UINT64_MAX - 7)
		bits = UINT64_MAX - 7;
	*out = (bits + 7) / 8;
	return true;
}

/* The location is relative to the model's own folder. */
static enum mfs_code
check_external(struct mfs_probe *p, const struct tensor *t)
{
	const char *slash = strrchr(p->name, '/');
	char path[2 * LOCATION_MAX + 2];
	uint64_t size = 0, len = 0;
	bool known = tensor_bytes(t, &len);
	size_t file;
	int n = snprintf(path, sizeof(path), "%.*s%s", slash != NULL ? (int)(slash + 1 - p->name) : 0, p->name,
		strncmp(t->location, "./", 2) == 0 ? t->location + 2 : t->location);

	if (n < 0 || (size_t)n >= sizeof(path) || !mfs_file_name_ok(path, (size_t)n) || p->find == NULL ||
		!p->find(p->user, path, &file, &size))
		return mfs_probe_bad(p, t->start, "tensor '%s': external data '%s' is no file of this bundle", MFS_ESC(t->name),
			MFS_ESC(t->location));
	if (t->has_length && known && t->length != len)
		return mfs_probe_bad(p, t->start, "tensor '%s' has %" PRIu64 " bytes of external data for %" PRIu64, MFS_ESC(t->name),
			t->length, len);
	if (t->has_length)
		len = t->length;
	if (t->offset > size || len > size - t->offset)
		return mfs_probe_bad(p, t->start, "tensor '%s' ends beyond its external data '%s' of %" PRIu64 " bytes", MFS_ESC(t->name),
			MFS_ESC(t->location), size);
	if (!known || types[t->type].kind == MFS_FLOAT_NONE)
		return MFS_OK;
	return mfs_probe_floats_in(p, file, path, size, t->offset, len, types[t->type].kind, t->name);
}

static enum mfs_code
check_tensor(struct mfs_probe *p, uint64_t start, uint64_t end)
{
	struct tensor t = { .start = start, .end = end, .elements = 1 };
	uint64_t bytes;
	enum mfs_code code = take_tensor(p, &t);

	if (code != MFS_OK)
		return code;
	if (t.external)
		return t.location[0] != '\0' ? check_external(p, &t) :
			mfs_probe_bad(p, start, "tensor '%s': external data without a location", MFS_ESC(t.name));
	if (!t.raw)
		return check_values(p, &t);
	if (!tensor_bytes(&t, &bytes))
		return MFS_OK;
	if (bytes != t.raw_len)
		return mfs_probe_bad(p, t.raw_at, "tensor '%s' of %" PRIu64 " elements has %" PRIu64 " bytes, not %" PRIu64,
			MFS_ESC(t.name), t.elements, t.raw_len, bytes);
	if (types[t.type].kind == MFS_FLOAT_NONE)
		return MFS_OK;
	return mfs_probe_floats(p, t.raw_at, t.raw_len, types[t.type].kind, t.name);
}

/* ---- what holds them -------------------------------------------------------------------------------------- */

static const struct {
	uint8_t in;
	uint8_t number, what;
} children[] = {
	{ MODEL, 7, GRAPH }, { MODEL, 20, TRAINING }, { MODEL, 25, FUNCTION },
	{ TRAINING, 1, GRAPH }, { TRAINING, 2, GRAPH },
	{ FUNCTION, 7, NODE }, { FUNCTION, 11, ATTRIBUTE },
	{ GRAPH, 1, NODE }, { GRAPH, 5, TENSOR }, { GRAPH, 15, SPARSE },
	{ NODE, 5, ATTRIBUTE },
	{ ATTRIBUTE, 5, TENSOR }, { ATTRIBUTE, 6, GRAPH }, { ATTRIBUTE, 10, TENSOR }, { ATTRIBUTE, 11, GRAPH },
	{ ATTRIBUTE, 22, SPARSE }, { ATTRIBUTE, 23, SPARSE },
	{ SPARSE, 1, TENSOR }, { SPARSE, 2, TENSOR },
};

static enum mfs_code
check_message(struct mfs_probe *p, enum message what, uint64_t start, uint64_t end, unsigned depth)
{
	enum mfs_code code = MFS_OK;

	if (what == TENSOR)
		return check_tensor(p, start, end);
	if (depth > MFS_PROBE_DEPTH)
		return mfs_probe_bad(p, start, "graphs nested deeper than %u", MFS_PROBE_DEPTH);
	for (uint64_t at = start; code == MFS_OK && at < end;) {
		struct tag f;

		if ((code = take(p, &at, end, &f)) != MFS_OK)
			return code;
		for (size_t k = 0; code == MFS_OK && k < sizeof(children) / sizeof(children[0]); k++) {
			if (children[k].in != what || children[k].number != f.number)
				continue;
			if (f.wire != WIRE_BYTES)
				return mfs_probe_bad(p, f.start, "field %u is no message", f.number);
			code = check_message(p, (enum message)children[k].what, f.at, f.at + f.len, depth + 1);
		}
	}
	return code;
}

enum mfs_code
mfs_probe_onnx(struct mfs_probe *p)
{
	bool version = false, graph = false;
	enum mfs_code code;

	for (uint64_t at = 0; at < p->size;) {
		struct tag f;

		if ((code = take(p, &at, p->size, &f)) != MFS_OK)
			return code;
		version |= f.number == 1 && f.wire == WIRE_VARINT;
		graph |= f.number == 7 && f.wire == WIRE_BYTES;
	}
	if (!version || !graph)
		return mfs_probe_bad(p, 0, "no ONNX model: no %s", version ? "graph" : "ir_version");
	return check_message(p, MODEL, 0, p->size, 0);
}
