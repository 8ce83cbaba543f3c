/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- verdicts and budgets ---------------------------------------------------------------------- */

static enum mfs_code
bad_in(struct mfs_probe *p, const char *name, uint64_t off, const char *text)
{
	return mfs_fail(p->err, MFS_HEALTH_CHECK_FAILED, "%s: offset %" PRIu64 ": %s", MFS_ESC(name), off, text);
}

enum mfs_code
mfs_probe_bad(struct mfs_probe *p, uint64_t off, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return bad_in(p, p->name, off, text);
}

static enum mfs_code
cancelled(struct mfs_probe *p)
{
	if (p->cancel == NULL || atomic_load_explicit(p->cancel, memory_order_relaxed) == 0)
		return MFS_OK;
	return mfs_fail(p->err, MFS_CONDITION_UNMET, "the health check was cancelled");
}

enum mfs_code
mfs_probe_step(struct mfs_probe *p, uint64_t off)
{
	if (++p->steps > MFS_PROBE_STEPS)
		return mfs_probe_bad(p, off, "more than %u items to look at", MFS_PROBE_STEPS);
	return (p->steps & 1023) == 0 ? cancelled(p) : MFS_OK;
}

/* ---- reading --------------------------------------------------------------------------------------- */

enum mfs_code
mfs_probe_within(struct mfs_probe *p, uint64_t off, uint64_t len, const char *what)
{
	if (off > p->size || len > p->size - off)
		return mfs_probe_bad(p, off, "%s of %" PRIu64 " bytes ends beyond the file of %" PRIu64, what, len, p->size);
	return MFS_OK;
}

static enum mfs_code
window_move(struct mfs_probe *p, uint64_t off)
{
	uint64_t at = off - off % 4096;
	size_t len = p->size - at < MFS_PROBE_WINDOW ? (size_t)(p->size - at) : MFS_PROBE_WINDOW;
	enum mfs_code code;

	if (p->window == NULL && (p->window = aligned_alloc(4096, MFS_PROBE_WINDOW)) == NULL)
		return mfs_fail(p->err, MFS_NO_MEMORY, "health check of %s", MFS_ESC(p->name));
	p->window_len = 0;
	if ((code = cancelled(p)) != MFS_OK || (code = p->read(p->user, p->file, p->window, len, at, p->err)) != MFS_OK)
		return code;
	p->window_at = at;
	p->window_len = len;
	return MFS_OK;
}

enum mfs_code
mfs_probe_get(struct mfs_probe *p, uint64_t off, void *out, size_t len, const char *what)
{
	uint8_t *to = out;
	enum mfs_code code;

	if ((code = mfs_probe_within(p, off, len, what)) != MFS_OK)
		return code;
	while (len > 0) {
		size_t n, in;

		if ((off < p->window_at || off - p->window_at >= p->window_len) && (code = window_move(p, off)) != MFS_OK)
			return code;
		in = (size_t)(off - p->window_at);
		n = p->window_len - in < len ? p->window_len - in : len;
		memcpy(to, p->window + in, n);
		to += n;
		off += n;
		len -= n;
	}
	return MFS_OK;
}

enum mfs_code
mfs_probe_u8(struct mfs_probe *p, uint64_t off, uint8_t *out, const char *what)
{
	if (off >= p->window_at && off - p->window_at < p->window_len) {
		*out = p->window[off - p->window_at];
		return MFS_OK;
	}
	return mfs_probe_get(p, off, out, 1, what);
}

enum mfs_code
mfs_probe_u16(struct mfs_probe *p, uint64_t off, uint16_t *out, const char *what)
{
	uint8_t b[2] = { 0 };
	enum mfs_code code = mfs_probe_get(p, off, b, 2, what);

	*out = (uint16_t)(b[0] | b[1] << 8);
	return code;
}

enum mfs_code
mfs_probe_u32(struct mfs_probe *p, uint64_t off, uint32_t *out, const char *what)
{
	uint8_t b[4] = { 0 };
	enum mfs_code code = mfs_probe_get(p, off, b, 4, what);

	*out = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
	return code;
}

enum mfs_code
mfs_probe_u64(struct mfs_probe *p, uint64_t off, uint64_t *out, const char *what)
{
	uint8_t b[8] = { 0 };
	enum mfs_code code = mfs_probe_get(p, off, b, 8, what);

	*out = 0;
	for (unsigned i = 0; i < 8; i++)
		*out |= (uint64_t)b[i] << (8 * i);
	return code;
}

/* ---- floats ------------------------------------------------------------------------------------------ */

static const struct {
	unsigned bytes;
	uint64_t exponent; /* all of it set: NaN or infinity */
	uint64_t fraction;
} floats[] = {
	[MFS_FLOAT_F16] = { 2, 0x7c00, 0x3ff },
	[MFS_FLOAT_BF16] = { 2, 0x7f80, 0x7f },
	[MFS_FLOAT_F32] = { 4, 0x7f800000, 0x7fffff },
	[MFS_FLOAT_F64] = { 8, 0x7ff0000000000000, 0xfffffffffffff },
};

unsigned
mfs_probe_float_bytes(enum mfs_float kind)
{
	return floats[kind].bytes;
}

static uint64_t
element(const uint8_t *b, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)b[i] << (8 * i);
	return v;
}

/* Loops without a branch, which compilers turn into vectors; little-endian hosts read as they are. */
#define SEARCH(type, conv, mask)                                 \
	do {                                                     \
		unsigned found = 0;                              \
                                                                 \
		for (size_t i = 0; i + sizeof(type) <= n; i += sizeof(type)) { \
			type v;                                  \
                                                                 \
			memcpy(&v, b + i, sizeof(v));            \
			v = (type)conv(v);                       \
			found |= (v & (type)(mask)) == (type)(mask); \
		}                                                \
		return found != 0;                               \
	} while (0)

static bool
any_bad(const uint8_t *b, size_t n, enum mfs_float kind)
{
	switch (kind) {
	case MFS_FLOAT_F16: SEARCH(uint16_t, le16toh, 0x7c00);
	case MFS_FLOAT_BF16: SEARCH(uint16_t, le16toh, 0x7f80);
	case MFS_FLOAT_F32: SEARCH(uint32_t, le32toh, 0x7f800000u);
	case MFS_FLOAT_F64: SEARCH(uint64_t, le64toh, 0x7ff0000000000000ull);
	default: return false;
	}
}

enum mfs_code
mfs_probe_element(struct mfs_probe *p, const char *name, uint64_t off, enum mfs_float kind, uint64_t bits, const char *tensor,
	struct mfs_probe_mask *m)
{
	const uint64_t sign = floats[kind].exponent + floats[kind].fraction + 1, size = bits & (sign - 1);
	char text[300];

	if (size > floats[kind].exponent) {
		(void)snprintf(text, sizeof(text), "tensor '%.150s' holds NaN", MFS_ESC(tensor));
		return bad_in(p, name, off, text);
	}
	if (size == floats[kind].exponent && !m->infinite) {
		m->infinite = true;
		m->negative = (bits & sign) != 0;
		m->at = off;
	}
	/* What is looked at again is known to hold infinity: nothing but zeros may stand beside it, and no other infinity. */
	if (!m->again || size == 0 || (size == floats[kind].exponent && m->negative == ((bits & sign) != 0)))
		return MFS_OK;
	(void)snprintf(text, sizeof(text), "tensor '%.150s' holds infinity among other values: no mask", MFS_ESC(tensor));
	return bad_in(p, name, m->at, text);
}

/* A block that was read: in a first look only if it holds something that is not finite. */
static enum mfs_code
block_check(struct mfs_probe *p, const char *name, const uint8_t *b, size_t n, uint64_t off, enum mfs_float kind,
	const char *tensor, struct mfs_probe_mask *m)
{
	const unsigned bytes = floats[kind].bytes;
	enum mfs_code code = MFS_OK;

	if (!m->again && !any_bad(b, n, kind))
		return MFS_OK;
	for (size_t i = 0; code == MFS_OK && i < n; i += bytes)
		code = mfs_probe_element(p, name, off + i, kind, element(b + i, bytes), tensor, m);
	return code;
}

static enum mfs_code
scan(struct mfs_probe *p, size_t file, const char *name, uint64_t size, uint64_t off, uint64_t len, enum mfs_float kind,
	const char *tensor, struct mfs_probe_mask *m)
{
	unsigned bytes = floats[kind].bytes;
	char text[300];
	enum mfs_code code;

	if (off > size || len > size - off || len % bytes != 0) {
		(void)snprintf(text, sizeof(text), "tensor '%.150s' of %" PRIu64 " bytes does not fit the file of %" PRIu64,
			MFS_ESC(tensor), len, size);
		return bad_in(p, name, off, text);
	}
	if (len > MFS_PROBE_SCANS * p->total - p->scanned)
		return bad_in(p, name, off, "tensors overlap too often to be looked at");
	p->scanned += len;
	if (p->buffer == NULL && (p->buffer = aligned_alloc(4096, MFS_PROBE_BUFFER)) == NULL)
		return mfs_fail(p->err, MFS_NO_MEMORY, "health check of %s", MFS_ESC(name));
	while (len > 0 && (m->again || !m->infinite)) {
		size_t n = MFS_PROBE_BUFFER - (size_t)(off % MFS_PROBE_BUFFER); /* whole chunks, after the first */

		n -= n % bytes;
		if (n == 0)
			n = MFS_PROBE_BUFFER;
		if (n > len)
			n = (size_t)len;
		if ((code = cancelled(p)) != MFS_OK || (code = p->read(p->user, file, p->buffer, n, off, p->err)) != MFS_OK ||
			(code = block_check(p, name, p->buffer, n, off, kind, tensor, m)) != MFS_OK)
			return code;
		off += n;
		len -= n;
	}
	return MFS_OK;
}

enum mfs_code
mfs_probe_floats_part(struct mfs_probe *p, uint64_t off, uint64_t len, enum mfs_float kind, const char *tensor,
	struct mfs_probe_mask *m)
{
	return scan(p, p->file, p->name, p->size, off, len, kind, tensor, m);
}

enum mfs_code
mfs_probe_floats_in(struct mfs_probe *p, size_t file, const char *name, uint64_t size, uint64_t off, uint64_t len,
	enum mfs_float kind, const char *tensor)
{
	struct mfs_probe_mask m = { 0 };
	enum mfs_code code = scan(p, file, name, size, off, len, kind, tensor, &m);

	if (code != MFS_OK || !m.infinite)
		return code;
	m.again = true;
	return scan(p, file, name, size, off, len, kind, tensor, &m);
}

enum mfs_code
mfs_probe_floats(struct mfs_probe *p, uint64_t off, uint64_t len, enum mfs_float kind, const char *tensor)
{
	return mfs_probe_floats_in(p, p->file, p->name, p->size, off, len, kind, tensor);
}

/* ---- one file --------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_probe_file(struct mfs_probe *p, enum mfs_media media, size_t file, const char *name, uint64_t size, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code;

	p->file = file;
	p->name = name;
	p->size = size;
	p->window_len = 0;
	p->steps = 0;
	p->scanned = 0;
	p->err = &own; /* cppcheck-suppress autoVariables; taken back before this returns */
	switch (media) {
	case MFS_MEDIA_GGUF: code = mfs_probe_gguf(p); break;
	case MFS_MEDIA_ONNX: code = mfs_probe_onnx(p); break;
	case MFS_MEDIA_SAFETENSORS: code = mfs_probe_safetensors(p); break;
	case MFS_MEDIA_TFLITE: code = mfs_probe_tflite(p); break;
	default: code = MFS_OK;
	}
	p->err = NULL;
	if (code != MFS_OK && err != NULL)
		*err = own;
	return code;
}

void
mfs_probe_end(struct mfs_probe *p)
{
	free(p->window);
	free(p->buffer);
	p->window = p->buffer = NULL;
}
