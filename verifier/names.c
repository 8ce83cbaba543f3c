/* SPDX-License-Identifier: Apache-2.0 */
/* Names (modelfs-bundle(5), NAMES): what is accepted is short enough to be listed here whole. */
#include "internal.h"

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool
id_ok(const char *s, size_t len, size_t max)
{
	if (len == 0 || len > max || !is_alnum(s[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-')
			return false;
	return true;
}

bool
mfs_model_id_ok(const char *s, size_t len)
{
	return id_ok(s, len, MFS_ID_MAX);
}

bool
mfs_variant_ok(const char *s, size_t len)
{
	return id_ok(s, len, MFS_VARIANT_MAX);
}

/* One identifier up to `end` or a dot; numeric ones have no leading zero. */
static bool
semver_identifier(const char **p, const char *end, bool numeric_only)
{
	const char *start = *p;
	bool numeric = true;

	while (*p < end && **p != '.') {
		if (!is_digit(**p)) {
			if (numeric_only || (!is_alnum(**p) && **p != '-'))
				return false;
			numeric = false;
		}
		(*p)++;
	}
	return *p > start && !(numeric && *p - start > 1 && *start == '0');
}

bool
mfs_version_ok(const char *s, size_t len)
{
	const char *p = s, *end = s + len, *core_end;

	if (len == 0 || len > MFS_VERSION_MAX)
		return false;
	core_end = memchr(s, '-', len);
	if (core_end == NULL)
		core_end = end;
	for (int i = 0; i < 3; i++) {
		if (i > 0 && (p >= core_end || *p++ != '.'))
			return false;
		if (!semver_identifier(&p, core_end, true))
			return false;
	}
	if (p != core_end)
		return false;
	if (core_end == end)
		return true;
	do {
		p++; /* the hyphen, later a dot */
		if (!semver_identifier(&p, end, false))
			return false;
	} while (p < end);
	return true;
}

/* Length of the identifier at s: up to a dot, a hyphen of the core, or the end. */
static size_t
identifier_length(const char *s, bool core)
{
	size_t n = 0;

	while (s[n] != '\0' && s[n] != '.' && !(core && s[n] == '-'))
		n++;
	return n;
}

static int
sign(int v)
{
	return (v > 0) - (v < 0);
}

static int
identifier_compare(const char *a, size_t na, const char *b, size_t nb)
{
	bool num_a = true, num_b = true;
	int c;

	for (size_t i = 0; i < na; i++)
		num_a = num_a && is_digit(a[i]);
	for (size_t i = 0; i < nb; i++)
		num_b = num_b && is_digit(b[i]);
	if (num_a != num_b)
		return num_a ? -1 : 1;
	if (num_a && na != nb)
		return na < nb ? -1 : 1;
	c = memcmp(a, b, na < nb ? na : nb);
	if (c != 0)
		return sign(c);
	return (na > nb) - (na < nb);
}

int
mfs_version_compare(const char *a, const char *b)
{
	for (int i = 0; i < 3; i++) {
		size_t na = identifier_length(a, true), nb = identifier_length(b, true);
		int c = identifier_compare(a, na, b, nb);

		if (c != 0)
			return c;
		a += na;
		b += nb;
		if (i < 2) {
			a += *a == '.';
			b += *b == '.';
		}
	}
	if (*a == '\0' || *b == '\0')
		return (*a == '\0') - (*b == '\0'); /* a release follows its pre-releases */
	while (*a != '\0' && *b != '\0') {
		size_t na = identifier_length(++a, false), nb = identifier_length(++b, false);
		int c = identifier_compare(a, na, b, nb);

		if (c != 0)
			return c;
		a += na;
		b += nb;
	}
	return (*a != '\0') - (*b != '\0');
}

/* One code point of well-formed UTF-8 (RFC 3629) at s; 0 when it is not. */
static size_t
utf8_decode(const char *s, size_t len, uint32_t *cp)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const uint8_t *p = (const uint8_t *)s;
	size_t n;

	if (p[0] < 0x80) {
		*cp = p[0];
		return 1;
	}
	n = p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : 0;
	if (n == 0 || n > len)
		return 0;
	*cp = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*cp = *cp << 6 | (p[i] & 0x3fu);
	}
	if (*cp < least[n] || *cp > 0x10ffff || (*cp >= 0xd800 && *cp <= 0xdfff))
		return 0;
	return n;
}

static bool
component_ok(const char *s, size_t len)
{
	if (len == 0 || len > MFS_COMPONENT_MAX)
		return false;
	if (s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')))
		return false;
	for (size_t i = 0; i < len;) {
		uint32_t cp;
		size_t n = utf8_decode(s + i, len - i, &cp);

		if (n == 0 || cp < 0x20 || (cp >= 0x7f && cp <= 0x9f))
			return false;
		i += n;
	}
	return true;
}

bool
mfs_file_name_ok(const char *s, size_t len)
{
	size_t start = 0, components = 0;

	if (len == 0 || len > MFS_NAME_MAX)
		return false;
	for (size_t i = 0; i <= len; i++) {
		if (i < len && s[i] != '/')
			continue;
		if (++components > MFS_COMPONENTS_MAX || !component_ok(s + start, i - start))
			return false;
		start = i + 1;
	}
	return true;
}
