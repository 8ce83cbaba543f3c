/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonline.h"

#include <string.h>

void
mfs_jsonline_init(struct mfs_jsonline *j, char *text, size_t len)
{
	*j = (struct mfs_jsonline){ .text = text, .p = text, .end = text + len };
}

static bool
bad(struct mfs_jsonline *j, const char *at, const char *why)
{
	if (j->bad == NULL) {
		j->bad = why;
		j->bad_at = (size_t)(at - j->text) + 1;
	}
	return false;
}

static void
space_skip(struct mfs_jsonline *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
		j->p++;
}

/* The next byte after white space, or 0 at the end. */
static char
peek(struct mfs_jsonline *j)
{
	space_skip(j);
	return j->p < j->end && j->bad == NULL ? *j->p : '\0';
}

static bool
take(struct mfs_jsonline *j, char c, const char *why)
{
	if (peek(j) != c)
		return bad(j, j->p, why);
	j->p++;
	return true;
}

char
mfs_jsonline_kind(struct mfs_jsonline *j)
{
	const char c = peek(j);

	if (c == '-' || (c >= '0' && c <= '9'))
		return '0';
	return c != '\0' && strchr("{[\"tfn", c) != NULL ? c : '\0';
}

/* ---- strings --------------------------------------------------------------------------------------- */

/* Four hex digits at *p; -1 if they are not. */
static int
hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char c = p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v << 4 | ((c | 32) - 'a' + 10);
		else
			return -1;
	}
	return v;
}

static char *
utf8_put(char *w, uint32_t cp)
{
	if (cp < 0x80) {
		*w++ = (char)cp;
		return w;
	}
	if (cp < 0x800) {
		*w++ = (char)(0xc0 | cp >> 6);
	} else {
		if (cp < 0x10000) {
			*w++ = (char)(0xe0 | cp >> 12);
		} else {
			*w++ = (char)(0xf0 | cp >> 18);
			*w++ = (char)(0x80 | (cp >> 12 & 0x3f));
		}
		*w++ = (char)(0x80 | (cp >> 6 & 0x3f));
	}
	*w++ = (char)(0x80 | (cp & 0x3f));
	return w;
}

/* The \u escape at r (after the u): its code point, *r behind it; 0 when it is none, or U+0000. */
static uint32_t
escape_u(const char **r, const char *end)
{
	const int a = hex4(*r, end);
	int b;

	if (a < 0)
		return 0;
	*r += 4;
	if (a < 0xd800 || a > 0xdfff)
		return (uint32_t)a;
	if (a > 0xdbff || end - *r < 6 || (*r)[0] != '\\' || (*r)[1] != 'u' || (b = hex4(*r + 2, end)) < 0xdc00 || b > 0xdfff)
		return 0;
	*r += 6;
	return 0x10000 + ((uint32_t)(a - 0xd800) << 10) + (uint32_t)(b - 0xdc00);
}

/* The escape at *r (after the backslash), written at w; NULL when it is none. */
static char *
escape(char *w, const char **r, const char *end)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	uint32_t cp;

	if (*r == end)
		return NULL;
	if (**r == 'u') {
		(*r)++;
		cp = escape_u(r, end);
		return cp != 0 ? utf8_put(w, cp) : NULL;
	}
	if (**r == '\0' || (found = strchr(from, **r)) == NULL)
		return NULL;
	(*r)++;
	*w++ = to[found - from];
	return w;
}

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629), not ASCII; 0 when it is none. */
static size_t
utf8_length(const char *s, const char *end)
{
	const uint8_t *p = (const uint8_t *)s;
	const size_t n = p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : 0;

	if (n == 0 || (size_t)(end - s) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
		(p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

bool
mfs_jsonline_string(struct mfs_jsonline *j, char **out)
{
	const char *r;
	char *w;

	if (!take(j, '"', "a string is wanted"))
		return false;
	*out = w = j->p;
	r = j->p;
	for (;;) {
		size_t n;

		if (r == j->end)
			return bad(j, r, "a string that does not end");
		if (*r == '"')
			break;
		if (*r == '\\') {
			const char *at = r++;

			if ((w = escape(w, &r, j->end)) == NULL)
				return bad(j, at, "not an escape");
			continue;
		}
		if ((uint8_t)*r < 0x20)
			return bad(j, r, "a control character in a string");
		if ((uint8_t)*r < 0x80) {
			*w++ = *r++;
			continue;
		}
		if ((n = utf8_length(r, j->end)) == 0)
			return bad(j, r, "not UTF-8");
		while (n-- > 0)
			*w++ = *r++;
	}
	*w = '\0'; /* at or before the closing quote */
	j->p += r + 1 - j->p;
	return true;
}

/* ---- objects and arrays -------------------------------------------------------------------------------- */

/* Behind the bracket or comma before the next one; false at the end. */
static bool
next(struct mfs_jsonline *j, bool *first, char open, char close)
{
	if (*first) {
		*first = false;
		if (!take(j, open, open == '{' ? "an object is wanted" : "an array is wanted"))
			return false;
		if (peek(j) != close)
			return j->bad == NULL;
	} else if (peek(j) == ',') {
		j->p++;
		return true;
	}
	(void)take(j, close, "a comma or the end of the object or array is wanted");
	return false;
}

bool
mfs_jsonline_member(struct mfs_jsonline *j, bool *first, char **key)
{
	return next(j, first, '{', '}') && mfs_jsonline_string(j, key) && take(j, ':', "a colon is wanted");
}

bool
mfs_jsonline_item(struct mfs_jsonline *j, bool *first)
{
	return next(j, first, '[', ']');
}

/* ---- other values ----------------------------------------------------------------------------------------- */

static size_t
digits(struct mfs_jsonline *j)
{
	const char *start = j->p;

	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
	return (size_t)(j->p - start);
}

static bool
number(struct mfs_jsonline *j, bool *integer)
{
	const char *start = j->p;
	size_t n;

	*integer = true;
	if (*j->p == '-')
		j->p++;
	n = digits(j);
	if (n == 0 || (n > 1 && j->p[-(ptrdiff_t)n] == '0'))
		return bad(j, start, "not a number");
	if (j->p < j->end && *j->p == '.') {
		*integer = false;
		j->p++;
		if (digits(j) == 0)
			return bad(j, start, "not a number");
	}
	if (j->p < j->end && (*j->p | 32) == 'e') {
		*integer = false;
		j->p++;
		if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
			j->p++;
		if (digits(j) == 0)
			return bad(j, start, "not a number");
	}
	return true;
}

bool
mfs_jsonline_integer(struct mfs_jsonline *j, int64_t *out)
{
	const char *start;
	bool integer;
	int64_t v = 0;

	if (mfs_jsonline_kind(j) != '0')
		return bad(j, j->p, "an integer is wanted");
	start = j->p;
	if (!number(j, &integer))
		return false;
	if (!integer)
		return bad(j, start, "an integer is wanted");
	for (const char *p = start + (*start == '-'); p < j->p; p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return bad(j, start, "a number beyond 63 bits");
	*out = *start == '-' ? -v : v;
	return true;
}

static bool
word(struct mfs_jsonline *j, const char *w)
{
	const size_t n = strlen(w);

	if ((size_t)(j->end - j->p) < n || memcmp(j->p, w, n) != 0)
		return bad(j, j->p, "not a value");
	j->p += n;
	return true;
}

static bool
skip(struct mfs_jsonline *j, unsigned depth)
{
	bool first = true, integer;
	char *s;

	if (depth > MFS_JSONLINE_DEPTH)
		return bad(j, j->p, "nested too deep");
	switch (mfs_jsonline_kind(j)) {
	case '{':
		while (mfs_jsonline_member(j, &first, &s))
			if (!skip(j, depth + 1))
				return false;
		return j->bad == NULL;
	case '[':
		while (mfs_jsonline_item(j, &first))
			if (!skip(j, depth + 1))
				return false;
		return j->bad == NULL;
	case '"':
		return mfs_jsonline_string(j, &s);
	case '0':
		return number(j, &integer);
	case 't':
		return word(j, "true");
	case 'f':
		return word(j, "false");
	case 'n':
		return word(j, "null");
	default:
		return bad(j, j->p, "not a value");
	}
}

bool
mfs_jsonline_skip(struct mfs_jsonline *j)
{
	return skip(j, 1);
}

bool
mfs_jsonline_end(struct mfs_jsonline *j)
{
	(void)peek(j);
	return j->bad == NULL && (j->p == j->end || bad(j, j->p, "something after the value"));
}
