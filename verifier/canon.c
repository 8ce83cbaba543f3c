/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical JSON for writers: what cannot be represented is refused here, not by the reader. */
#include "internal.h"

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

struct grow {
	char *p;
	size_t len, cap;
};

static int
grow_bytes(const char *p, size_t n, void *arg)
{
	struct grow *g = arg;

	if (n >= g->cap - g->len) {
		size_t cap = g->cap;
		char *q;

		while (cap - g->len <= n) {
			if (cap > SIZE_MAX / 2)
				return -1;
			cap *= 2;
		}
		if ((q = realloc(g->p, cap)) == NULL)
			return -1;
		g->p = q;
		g->cap = cap;
	}
	memcpy(g->p + g->len, p, n);
	g->len += n;
	return 0;
}

enum mfs_code
mfs_json_canonical(const json_t *v, char **out, size_t *len, struct mfs_err *err)
{
	struct grow g = { .p = malloc(4096), .cap = 4096 };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if (g.p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	if ((code = check_value(v, 0, err)) != MFS_OK) {
		free(g.p);
		return code;
	}
	if (json_dump_callback(v, grow_bytes, &g, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0) {
		free(g.p);
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	}
	g.p[g.len] = '\0';
	*out = g.p;
	*len = g.len;
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
