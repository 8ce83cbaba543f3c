/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signed JSON: a lexical pass that knows offsets, then jansson for the grammar, then the
 * canonical form against the received bytes. The first pass allocates nothing and bounds what
 * the second one will: depth, number of values, range of numbers.
 */
#include "internal.h"

struct scan {
	const char *what;
	struct mfs_span in;
	size_t at;         /* offset of the next byte */
	size_t values;     /* upper bound of the values seen */
	size_t values_max; /* jansson needs up to some 250 bytes for each */
	unsigned depth;
	bool any_text;     /* every string that JSON allows, in keys too: metadata of other tools */
	struct mfs_err *err;
};

static enum mfs_code
scan_bad(const struct scan *s, size_t offset, const char *why)
{
	return mfs_fail(s->err, MFS_MALFORMED, "%s: offset %zu: %s", s->what, offset, why);
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* \uXXXX at s->at (after the u); false unless four hex digits. */
static bool
scan_hex4(struct scan *s, unsigned *v)
{
	*v = 0;
	for (int i = 0; i < 4; i++, s->at++) {
		uint8_t c;

		if (s->at >= s->in.len)
			return false;
		c = s->in.p[s->at];
		if (c >= '0' && c <= '9')
			*v = *v << 4 | (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*v = *v << 4 | (unsigned)((c | 32) - 'a' + 10);
		else
			return false;
	}
	return true;
}

static enum mfs_code
scan_escape(struct scan *s, bool *ascii)
{
	const size_t start = s->at - 1;
	unsigned v;
	uint8_t c;

	if (s->at >= s->in.len)
		return scan_bad(s, start, "the document ends inside a string");
	c = s->in.p[s->at++];
	switch (c) {
	case '"':
	case '\\':
	case '/':
		return MFS_OK;
	case 'u':
		if (!scan_hex4(s, &v))
			return scan_bad(s, start, "an incomplete \\u escape");
		if (v == 0 || (!s->any_text && (v < 0x20 || v == 0x7f)))
			return scan_bad(s, start, "an escaped control character");
		if (v > 0x7f)
			*ascii = false;
		return MFS_OK;
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return s->any_text ? MFS_OK : scan_bad(s, start, "an escaped control character");
	default:
		return scan_bad(s, start, "an unknown escape");
	}
}

/* A string whose opening quote has been read; keys (a colon follows) must be ASCII, unless any_text. */
static enum mfs_code
scan_string(struct scan *s)
{
	const size_t start = s->at - 1;
	bool ascii = true;

	for (;;) {
		uint8_t c;

		if (s->at >= s->in.len)
			return scan_bad(s, start, "a string that does not end");
		c = s->in.p[s->at++];
		if (c == '"')
			break;
		if (c < 0x20 || (c == 0x7f && !s->any_text))
			return scan_bad(s, s->at - 1, "a control character in a string");
		if (c >= 0x80)
			ascii = false;
		if (c == '\\') {
			enum mfs_code code = scan_escape(s, &ascii);

			if (code != MFS_OK)
				return code;
		}
	}
	if (!ascii && !s->any_text) {
		size_t next = s->at;

		while (next < s->in.len && is_space(s->in.p[next]))
			next++;
		if (next < s->in.len && s->in.p[next] == ':')
			return scan_bad(s, start, "a key that is not ASCII");
	}
	return MFS_OK;
}

static enum mfs_code
scan_number(struct scan *s)
{
	const size_t start = s->at - 1;
	uint64_t v = 0;

	if (s->in.p[start] != '-')
		s->at = start;
	while (s->at < s->in.len && s->in.p[s->at] >= '0' && s->in.p[s->at] <= '9') {
		v = v * 10 + (uint64_t)(s->in.p[s->at++] - '0');
		if (v > (uint64_t)MFS_JSON_INT_MAX)
			return scan_bad(s, start, "a number beyond 2^53-1: large values are written as strings");
	}
	if (s->at < s->in.len && (s->in.p[s->at] == '.' || (s->in.p[s->at] | 32) == 'e'))
		return scan_bad(s, start, "a number that is not an integer");
	return MFS_OK;
}

static enum mfs_code
scan_open(struct scan *s)
{
	if (++s->depth > MFS_JSON_DEPTH_MAX)
		return scan_bad(s, s->at - 1, "nested deeper than 16 levels");
	return MFS_OK;
}

static enum mfs_code
scan_all(struct scan *s)
{
	while (s->at < s->in.len) {
		const uint8_t c = s->in.p[s->at++];
		enum mfs_code code = MFS_OK;

		if (c == '"')
			code = scan_string(s);
		else if (c == '-' || (c >= '0' && c <= '9'))
			code = scan_number(s);
		else if (c == '[' || c == '{')
			code = scan_open(s);
		else if ((c == ']' || c == '}') && s->depth > 0)
			s->depth--;
		else if (c == 0x7f || (c < 0x20 && !is_space(c)))
			code = scan_bad(s, s->at - 1, "a control character");
		if (code != MFS_OK)
			return code;
		if ((c == '[' || c == '{' || c == ',') && ++s->values > s->values_max)
			return mfs_fail(s->err, MFS_LIMIT_EXCEEDED, "%s: offset %zu: more than %zu values", s->what,
				s->at - 1, s->values_max);
	}
	return MFS_OK;
}

static enum mfs_code
parse_any(const char *what, struct mfs_span in, size_t cap, json_type top, bool any_text, json_t **out,
	struct mfs_err *err)
{
	struct scan s = { .what = what, .in = in, .values_max = 1024 + cap / 16, .any_text = any_text, .err = err };
	mfs_autojson json_t *v = NULL;
	json_error_t je;
	enum mfs_code code;

	*out = NULL;
	if (in.len > cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %zu", what, in.len, cap);
	if (in.len == 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: offset 0: empty", what);
	if ((code = scan_all(&s)) != MFS_OK)
		return code;
	v = json_loadb((const char *)in.p, in.len, JSON_REJECT_DUPLICATES, &je);
	if (v == NULL) {
		if (json_error_code(&je) == json_error_out_of_memory)
			return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu bytes of JSON", what, in.len);
		return mfs_fail(err, MFS_MALFORMED, "%s: offset %d: not JSON: %s", what, je.position, MFS_ESC(je.text));
	}
	if (json_typeof(v) != top)
		return mfs_fail(err, MFS_MALFORMED, "%s: offset 0: not a JSON %s", what,
			top == JSON_OBJECT ? "object" : "array");
	*out = mfs_steal(&v);
	return MFS_OK;
}

enum mfs_code
mfs_json_parse(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err)
{
	return parse_any(what, in, cap, JSON_OBJECT, false, out, err);
}

enum mfs_code
mfs_json_parse_any_text(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err)
{
	return parse_any(what, in, cap, JSON_OBJECT, true, out, err);
}

struct compare {
	struct mfs_span rest;
	size_t offset;
	bool differs;
};

static int
compare_bytes(const char *p, size_t n, void *arg)
{
	struct compare *c = arg;
	size_t i;

	for (i = 0; i < n && i < c->rest.len && c->rest.p[i] == (uint8_t)p[i]; i++)
		;
	c->offset += i;
	c->rest.p += i;
	c->rest.len -= i;
	c->differs = i < n;
	return c->differs ? -1 : 0;
}

static enum mfs_code
parse_canonical(const char *what, struct mfs_span in, size_t cap, json_type top, json_t **out, struct mfs_err *err)
{
	struct compare c = { .rest = in };
	mfs_autojson json_t *v = NULL;
	enum mfs_code code;
	int rc;

	*out = NULL;
	if ((code = parse_any(what, in, cap, top, false, &v, err)) != MFS_OK)
		return code;
	rc = json_dump_callback(v, compare_bytes, &c, JSON_COMPACT | JSON_SORT_KEYS);
	if (c.differs || (rc == 0 && c.rest.len != 0))
		return mfs_fail(err, MFS_MALFORMED,
			"%s: offset %zu: not canonical JSON (sorted keys, no white space, no final newline)", what, c.offset);
	if (rc != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: canonical form", what);
	*out = mfs_steal(&v);
	return MFS_OK;
}

enum mfs_code
mfs_json_parse_canonical(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err)
{
	return parse_canonical(what, in, cap, JSON_OBJECT, out, err);
}

enum mfs_code
mfs_json_parse_array(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err)
{
	return parse_canonical(what, in, cap, JSON_ARRAY, out, err);
}
