/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of a JSON object: type, range, and a message that says where. */
#include "internal.h"

#include <inttypes.h>

struct mfs_at
mfs_at_top(const char *doc)
{
	return (struct mfs_at){ .doc = doc };
}

struct mfs_at
mfs_at_object(const struct mfs_at *at, const char *key)
{
	struct mfs_at sub = { .doc = at->doc };

	(void)snprintf(sub.path, sizeof(sub.path), "%.100s%.80s.", at->path,
		mfs_escape((char[81]){ 0 }, 81, key, strlen(key)));
	return sub;
}

struct mfs_at
mfs_at_item(const struct mfs_at *at, const char *key, size_t i)
{
	struct mfs_at sub = { .doc = at->doc };

	(void)snprintf(sub.path, sizeof(sub.path), "%.100s%.60s[%zu].", at->path, key, i);
	return sub;
}

enum mfs_code
mfs_field_bad(const struct mfs_at *at, const char *key, struct mfs_err *err, const char *fmt, ...)
{
	size_t path_len = strlen(at->path);
	char why[320], place[160];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(why, sizeof(why), fmt, ap) < 0)
		why[0] = '\0';
	va_end(ap);
	if (key[0] == '\0' && path_len > 0)
		path_len--; /* the item itself: no trailing dot */
	(void)mfs_escape(place, sizeof(place), key, strlen(key));
	return mfs_fail(err, MFS_MALFORMED, "%s: %.*s%s: %s", at->doc, (int)path_len, at->path, place, why);
}

/* The value, or NULL: then *code says whether that is an error. */
static json_t *
field_get(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, json_type type,
	enum mfs_code *code, struct mfs_err *err)
{
	static const char *const names[] = { "an object", "an array", "a string", "an integer", "a number", "true or false",
		"true or false", "null" };
	json_t *v = json_object_get(o, key);

	*code = MFS_OK;
	if (v == NULL) {
		if (need == MFS_REQUIRED)
			*code = mfs_field_bad(at, key, err, "missing");
		return NULL;
	}
	if (type == JSON_TRUE ? !json_is_boolean(v) : json_typeof(v) != type) {
		*code = mfs_field_bad(at, key, err, "not %s", names[type]);
		return NULL;
	}
	return v;
}

enum mfs_code
mfs_field_int(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, int64_t min, int64_t max,
	int64_t *out, struct mfs_err *err)
{
	enum mfs_code code;
	const json_t *v = field_get(o, at, key, need, JSON_INTEGER, &code, err);
	int64_t n;

	if (v == NULL)
		return code;
	n = json_integer_value(v);
	if (n < min || n > max)
		return mfs_field_bad(at, key, err, "%" PRId64 " is not within %" PRId64 " to %" PRId64, n, min, max);
	*out = n;
	return MFS_OK;
}

enum mfs_code
mfs_field_bool(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, bool *out,
	struct mfs_err *err)
{
	enum mfs_code code;
	const json_t *v = field_get(o, at, key, need, JSON_TRUE, &code, err);

	if (v != NULL)
		*out = json_is_true(v);
	return code;
}

enum mfs_code
mfs_field_string(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, size_t max,
	const char **out, struct mfs_err *err)
{
	enum mfs_code code;
	const json_t *v = field_get(o, at, key, need, JSON_STRING, &code, err);

	*out = NULL;
	if (v == NULL)
		return code;
	if (json_string_length(v) == 0 || json_string_length(v) > max)
		return mfs_field_bad(at, key, err, "%zu bytes; 1 to %zu are allowed", json_string_length(v), max);
	*out = json_string_value(v);
	return MFS_OK;
}

enum mfs_code
mfs_field_hex(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, uint8_t *out, size_t n,
	struct mfs_err *err)
{
	enum mfs_code code;
	const json_t *v = field_get(o, at, key, need, JSON_STRING, &code, err);

	if (v == NULL)
		return code;
	if (!mfs_hex_decode(out, n, json_string_value(v), json_string_length(v)))
		return mfs_field_bad(at, key, err, "not %zu lower-case hex digits", 2 * n);
	return MFS_OK;
}

enum mfs_code
mfs_field_array(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, size_t min, size_t max,
	json_t **out, struct mfs_err *err)
{
	enum mfs_code code;

	*out = field_get(o, at, key, need, JSON_ARRAY, &code, err);
	if (*out == NULL)
		return code;
	if (json_array_size(*out) < min || json_array_size(*out) > max)
		return mfs_field_bad(at, key, err, "%zu entries; %zu to %zu are allowed", json_array_size(*out), min, max);
	return MFS_OK;
}

enum mfs_code
mfs_field_object(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, json_t **out,
	struct mfs_err *err)
{
	enum mfs_code code;

	*out = field_get(o, at, key, need, JSON_OBJECT, &code, err);
	return code;
}

enum mfs_code
mfs_field_sha256_list(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, size_t min,
	size_t max, struct mfs_sha256 **out, size_t *n, struct mfs_err *err)
{
	mfs_autofree struct mfs_sha256 *list = NULL;
	enum mfs_code code;
	json_t *a;
	size_t count;

	*out = NULL;
	*n = 0;
	if ((code = mfs_field_array(o, at, key, need, min, max, &a, err)) != MFS_OK || a == NULL)
		return code;
	if ((count = json_array_size(a)) == 0)
		return MFS_OK;
	if ((list = calloc(count, sizeof(*list))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %s", at->doc, key);
	for (size_t i = 0; i < count; i++) {
		const json_t *v = json_array_get(a, i);
		const struct mfs_at item = mfs_at_item(at, key, i);

		if (!json_is_string(v) ||
			!mfs_hex_decode(list[i].b, MFS_SHA256_LEN, json_string_value(v), json_string_length(v)))
			return mfs_field_bad(&item, "", err, "not %d lower-case hex digits", 2 * MFS_SHA256_LEN);
		for (size_t k = 0; k < i; k++)
			if (mfs_sha256_equal(&list[k], &list[i]))
				return mfs_field_bad(&item, "", err, "the same as %s[%zu]", key, k);
	}
	*out = mfs_steal(&list);
	*n = count;
	return MFS_OK;
}

enum mfs_code
mfs_field_text(const json_t *o, const struct mfs_at *at, const char *key, char **out, struct mfs_err *err)
{
	const json_t *v = json_object_get(o, key);
	size_t len;

	(void)at;
	*out = NULL;
	return v == NULL ? MFS_OK : mfs_json_canonical(v, out, &len, err);
}

enum mfs_code
mfs_strdup(const char *s, char **out, struct mfs_err *err)
{
	if ((*out = strdup(s)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu bytes of text", strlen(s));
	return MFS_OK;
}

enum mfs_code
mfs_critical_check(const json_t *root, const struct mfs_at *at, const char *const *known, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(root, at, "critical", MFS_OPTIONAL, 0, 64, &a, err)) != MFS_OK || a == NULL)
		return code;
	for (size_t i = 0; i < json_array_size(a); i++) {
		const struct mfs_at item = mfs_at_item(at, "critical", i);
		const char *name = json_string_value(json_array_get(a, i));
		size_t k = 0;

		if (name == NULL)
			return mfs_field_bad(&item, "", err, "not a string");
		while (known[k] != NULL && strcmp(name, known[k]) != 0)
			k++;
		if (known[k] == NULL)
			return mfs_field_bad(&item, "", err, "the publisher demands a reader that knows '%s': upgrade modelfs",
				MFS_ESC(name));
	}
	return MFS_OK;
}
