/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical JSON for writers: what cannot be represented is refused here, not by the reader. */
#include "internal.h"

#include "memo.h"

static enum mfs_code
check_text(const char *s, size_t len, bool ascii, struct mfs_err *err)
{
	for (size_t i = 0; i < len; i++) {
		const uint8_t c = (uint8_t)s[i];

		if (c < 0x20 || c == 0x7f)
			return mfs_fail(err, MFS_MALFORMED, "JSON string '%s': control character at byte %zu",
				MFS_ESC(s), i);
		if (ascii && c >= 0x80)
			return mfs_fail(err, MFS_MALFORMED, "JSON key '%s': not ASCII", MFS_ESC(s));
	}
	return MFS_OK;
}

static enum mfs_code
check_value(const json_t *v, unsigned depth, struct mfs_err *err)
{
	enum mfs_code code;
	const char *key;
	const json_t *item;
	json_t *mutable_v = (json_t *)(uintptr_t)v; /* jansson's iterators take no const */
	size_t i;

	switch (json_typeof(v)) {
	case JSON_NULL:
	case JSON_TRUE:
	case JSON_FALSE:
		return MFS_OK;
	case JSON_STRING:
		return check_text(json_string_value(v), json_string_length(v), false, err);
	case JSON_INTEGER:
		if (json_integer_value(v) > MFS_JSON_INT_MAX || json_integer_value(v) < -MFS_JSON_INT_MAX)
			return mfs_fail(err, MFS_MALFORMED, "JSON number beyond 2^53-1");
		return MFS_OK;
	case JSON_REAL:
		return mfs_fail(err, MFS_MALFORMED, "JSON number that is not an integer");
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	if (depth >= MFS_JSON_DEPTH_MAX)
		return mfs_fail(err, MFS_MALFORMED, "JSON nested deeper than %u levels", MFS_JSON_DEPTH_MAX);
	if (json_is_array(v)) {
		for (i = 0; i < json_array_size(v); i++)
			if ((code = check_value(json_array_get(v, i), depth + 1, err)) != MFS_OK)
				return code;
		return MFS_OK;
	}
	for (void *it = json_object_iter(mutable_v); it != NULL; it = json_object_iter_next(mutable_v, it)) {
		key = json_object_iter_key(it);
		item = json_object_iter_value(it);
		if ((code = check_text(key, strlen(key), true, err)) != MFS_OK ||
			(code = check_value(item, depth + 1, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static int
dump_bytes(const char *p, size_t n, void *arg)
{
	return mfs_text_add(arg, p, n) ? 0 : -1;
}

enum mfs_code
mfs_json_canonical_at(const json_t *v, unsigned depth, char **out, size_t *len, struct mfs_err *err)
{
	struct mfs_text t = { 0 };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if ((code = check_value(v, depth, err)) != MFS_OK)
		return code;
	if (json_dump_callback(v, dump_bytes, &t, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0) {
		free(t.p);
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	}
	*out = t.p;
	*len = t.len;
	return MFS_OK;
}

enum mfs_code
mfs_json_canonical(const json_t *v, char **out, size_t *len, struct mfs_err *err)
{
	return mfs_json_canonical_at(v, 0, out, len, err);
}

/* The members of o that sort before or after key, as they stand in the text: without braces. */
static enum mfs_code
members(json_t *o, const char *key, bool before, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autojson json_t *part = json_object();
	mfs_autofree char *text = NULL;
	enum mfs_code code;
	const char *k;
	json_t *v;

	if (part == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	json_object_foreach(o, k, v) {
		const int order = strcmp(k, key);

		if (order == 0)
			return mfs_fail(err, MFS_INTERNAL, "canonical JSON: '%s' twice", MFS_ESC(k));
		if ((order < 0) == before && json_object_set(part, k, v) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	}
	if ((code = mfs_json_canonical(part, &text, len, err)) != MFS_OK)
		return code;
	*len -= 2;
	memmove(text, text + 1, *len);
	text[*len] = '\0';
	*out = mfs_steal(&text);
	return MFS_OK;
}

enum mfs_code
mfs_json_canonical_with(json_t *o, const char *key, struct mfs_span value, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autofree char *before = NULL, *after = NULL;
	size_t n_before = 0, n_after = 0;
	struct mfs_text t = { 0 };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if ((code = members(o, key, true, &before, &n_before, err)) != MFS_OK ||
		(code = members(o, key, false, &after, &n_after, err)) != MFS_OK)
		return code;
	if (!mfs_text_add(&t, "{", 1) || !mfs_text_add(&t, before, n_before) ||
		!mfs_text_add(&t, ",", n_before > 0 ? 1 : 0) || !mfs_text_add(&t, "\"", 1) ||
		!mfs_text_add(&t, key, strlen(key)) || !mfs_text_add(&t, "\":", 2) ||
		!mfs_text_add(&t, value.p, value.len) || !mfs_text_add(&t, ",", n_after > 0 ? 1 : 0) ||
		!mfs_text_add(&t, after, n_after) || !mfs_text_add(&t, "}", 1)) {
		free(t.p);
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	}
	*out = t.p;
	*len = t.len;
	return MFS_OK;
}

bool
mfs_json_set(json_t *o, const char *key, json_t *v)
{
	return v != NULL && json_object_set_new(o, key, v) == 0;
}

enum mfs_code
mfs_extra_take(const json_t *o, const char *const *known, char **out, struct mfs_err *err)
{
	mfs_autojson json_t *rest = json_copy((json_t *)(uintptr_t)o);
	size_t len;

	*out = NULL;
	if (rest == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "unknown fields");
	for (size_t i = 0; known[i] != NULL; i++)
		(void)json_object_del(rest, known[i]);
	return json_object_size(rest) == 0 ? MFS_OK : mfs_json_canonical(rest, out, &len, err);
}

enum mfs_code
mfs_text_json(const char *what, const char *text, json_t **out, struct mfs_err *err)
{
	if (text != NULL)
		return mfs_json_parse(what, MFS_SPAN(text, strlen(text)), MFS_STATE_BYTES_MAX, out, err);
	if ((*out = json_object()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	return MFS_OK;
}
