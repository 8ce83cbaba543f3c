/* SPDX-License-Identifier: Apache-2.0 */
/* Names of TUF: file names of roles, path patterns, hash bins, where a target lies, points in time. */
#include "tuf_internal.h"

#include <inttypes.h>

/* ---- percent-encoding ----------------------------------------------------------------------------- */

static bool
is_unreserved(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		c == '_' || c == '~';
}

/* What may stand as it is in the path of a URL (RFC 3986), slashes included. */
static bool
is_path(uint8_t c)
{
	return is_unreserved(c) || (c != 0 && strchr("/!$&'()*+,;=:@", c) != NULL);
}

/* Encoded form of s, at most cap bytes and a NUL; false when it does not fit. */
static bool
percent(const char *s, bool (*plain)(uint8_t), char *out, size_t cap)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (; *s != '\0'; s++) {
		const uint8_t c = (uint8_t)*s;

		if (plain(c)) {
			if (n + 1 > cap)
				return false;
			out[n++] = (char)c;
			continue;
		}
		if (n + 3 > cap)
			return false;
		out[n++] = '%';
		out[n++] = digits[c >> 4];
		out[n++] = digits[c & 15];
	}
	out[n] = '\0';
	return true;
}

enum mfs_code
mfs_tuf_file_name(const char *role, int64_t version, char out[MFS_TUF_FILE_MAX + 1], struct mfs_err *err)
{
	char number[24] = "", name[MFS_TUF_FILE_MAX + 1];
	size_t room = MFS_TUF_FILE_MAX - strlen(".json");

	if (version > 0) {
		(void)snprintf(number, sizeof(number), "%" PRId64 ".", version);
		room -= strlen(number);
	}
	if (role[0] == '\0' || !percent(role, is_unreserved, name, room))
		return mfs_fail(err, MFS_CONFIG_INVALID, "role '%s': empty, or its file name is longer than %u bytes",
			MFS_ESC(role), MFS_TUF_FILE_MAX);
	(void)snprintf(out, MFS_TUF_FILE_MAX + 1, "%s%.*s.json", number, (int)room, name);
	return MFS_OK;
}

bool
mfs_tuf_role_name_ok(const char *name)
{
	char file[MFS_TUF_FILE_MAX + 1];

	for (enum mfs_tuf_type i = MFS_TUF_ROOT; i <= MFS_TUF_TARGETS; i++)
		if (strcmp(name, mfs_tuf_type_name(i)) == 0)
			return false;
	return mfs_tuf_file_name(name, MFS_JSON_INT_MAX, file, NULL) == MFS_OK;
}

enum mfs_code
mfs_tuf_target_name(const char *path, const char *hash, char **out, struct mfs_err *err)
{
	const size_t cap = 3 * strlen(path) + (hash != NULL ? strlen(hash) + 1 : 0);
	const char *slash = strrchr(path, '/');
	const size_t dir = slash != NULL ? (size_t)(slash - path) + 1 : 0;
	mfs_autofree char *plain = NULL;
	char *name;

	*out = NULL;
	if (strlen(path) > MFS_TUF_PATH_MAX || (hash != NULL && strlen(hash) > 128))
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "target path of %zu bytes", strlen(path));
	plain = malloc(strlen(path) + 160);
	name = malloc(cap + 1);
	if (plain == NULL || name == NULL) {
		free(name);
		return mfs_fail(err, MFS_NO_MEMORY, "name of a target");
	}
	(void)snprintf(plain, strlen(path) + 160, "%.*s%s%s%s", (int)dir, path, hash != NULL ? hash : "",
		hash != NULL ? "." : "", path + dir);
	(void)percent(plain, is_path, name, cap);
	*out = name;
	return MFS_OK;
}

/* ---- patterns --------------------------------------------------------------------------------------- */

/* The character of UTF-8 text at p (which jansson has checked); its length in *n. */
static uint32_t
utf8_at(const char *p, size_t *n)
{
	const uint8_t c = (uint8_t)p[0];
	uint32_t v;

	*n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (*n == 1)
		return c;
	v = c & (0x7fu >> *n);
	for (size_t i = 1; i < *n; i++) {
		if (((uint8_t)p[i] & 0xc0) != 0x80) { /* not UTF-8 after all: one byte at a time */
			*n = 1;
			return c;
		}
		v = v << 6 | ((uint8_t)p[i] & 0x3f);
	}
	return v;
}

/*
 * "[a-z]", "[!abc]" at p: does it match c? *end is behind the bracket. False with *end NULL when
 * there is no closing bracket in the component: then '[' is an ordinary character.
 */
static bool
set_match(const char *p, uint32_t c, const char **end)
{
	const bool inverted = p[1] == '!';
	const char *q = p + 1 + inverted, *close = q;
	bool found = false;

	*end = NULL;
	if (*close == ']')
		close++;
	while (*close != '\0' && *close != '/' && *close != ']')
		close++;
	if (*close != ']')
		return false;
	while (q < close) {
		size_t n, m;
		const uint32_t low = utf8_at(q, &n);

		if (q + n < close && q[n] == '-' && q + n + 1 < close) {
			const uint32_t high = utf8_at(q + n + 1, &m);

			found |= low <= c && c <= high;
			q += n + 1 + m;
			continue;
		}
		found |= low == c;
		q += n;
	}
	*end = close + 1;
	return found != inverted;
}

/* One step of the pattern against the character at *path; advances both on success. */
static bool
step_match(const char **pattern, const char **path)
{
	const char *after;
	size_t n, m;
	uint32_t c;

	if (**path == '\0' || **path == '/')
		return false;
	c = utf8_at(*path, &n);
	if (**pattern == '?') {
		*pattern += 1;
		*path += n;
		return true;
	}
	if (**pattern == '[') {
		const bool in = set_match(*pattern, c, &after);

		if (after != NULL) {
			if (!in)
				return false;
			*pattern = after;
			*path += n;
			return true;
		}
	}
	if (**pattern == '\0' || **pattern == '/' || utf8_at(*pattern, &m) != c)
		return false;
	*pattern += m;
	*path += n;
	return true;
}

/* One component; both end at '/' or NUL. The last star alone needs to be tried again. */
static bool
component_match(const char *pattern, const char *path)
{
	const char *star = NULL, *retry = NULL;
	size_t n;

	while (*path != '\0' && *path != '/') {
		if (*pattern == '*') {
			star = ++pattern;
			retry = path;
			continue;
		}
		if (step_match(&pattern, &path))
			continue;
		if (star == NULL)
			return false;
		(void)utf8_at(retry, &n);
		retry += n;
		pattern = star;
		path = retry;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0' || *pattern == '/';
}

bool
mfs_tuf_pattern_match(const char *pattern, const char *path)
{
	for (;;) {
		const char *next_pattern = strchr(pattern, '/'), *next_path = strchr(path, '/');

		if (!component_match(pattern, path))
			return false;
		if (next_pattern == NULL || next_path == NULL)
			return next_pattern == NULL && next_path == NULL;
		pattern = next_pattern + 1;
		path = next_path + 1;
	}
}

bool
mfs_tuf_delegation_covers(const struct mfs_tuf_delegation *d, const char *path, const struct mfs_sha256 *hash)
{
	for (size_t i = 0; i < json_array_size(d->paths); i++)
		if (mfs_tuf_pattern_match(json_string_value(json_array_get(d->paths, i)), path))
			return true;
	for (size_t i = 0; i < json_array_size(d->prefixes); i++) {
		const char *prefix = json_string_value(json_array_get(d->prefixes, i));

		if (strncmp(prefix, MFS_HEX(hash), strlen(prefix)) == 0)
			return true;
	}
	return false;
}

enum mfs_code
mfs_tuf_bin_name(const struct mfs_tuf_doc *d, const struct mfs_sha256 *hash, char **out, struct mfs_err *err)
{
	const uint32_t top = (uint32_t)hash->b[0] << 24 | (uint32_t)hash->b[1] << 16 | (uint32_t)hash->b[2] << 8 | hash->b[3];
	const uint32_t bin = top >> (32 - d->bin_bits);
	const int digits = (int)(d->bin_bits + 3) / 4;
	const size_t cap = strlen(d->bin_prefix) + 16;

	if ((*out = malloc(cap)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "name of a hash bin");
	(void)snprintf(*out, cap, "%s-%0*" PRIx32, d->bin_prefix, digits, bin);
	return MFS_OK;
}

/* ---- time ------------------------------------------------------------------------------------------------ */

static bool
number(const char *s, unsigned n, unsigned min, unsigned max, unsigned *out)
{
	*out = 0;
	for (unsigned i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		*out = *out * 10 + (unsigned)(s[i] - '0');
	}
	return *out >= min && *out <= max;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar: years begin in March, eras have 400 years. */
static int64_t
days(unsigned year, unsigned month, unsigned day)
{
	const int64_t y = (int64_t)year - (month <= 2);
	const int64_t era = y / 400, of_era = y % 400;
	const int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

bool
mfs_tuf_time(const char *s, int64_t *out)
{
	static const unsigned lengths[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned year, month, day, hour, minute, second, longest;

	if (strlen(s) != 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z')
		return false;
	if (!number(s, 4, 1, 9999, &year) || !number(s + 5, 2, 1, 12, &month) || !number(s + 8, 2, 1, 31, &day) ||
		!number(s + 11, 2, 0, 23, &hour) || !number(s + 14, 2, 0, 59, &minute) || !number(s + 17, 2, 0, 59, &second))
		return false;
	longest = lengths[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
	if (day > longest)
		return false;
	*out = days(year, month, day) * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 + (int64_t)second;
	return true;
}
