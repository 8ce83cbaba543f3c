/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OLPC canonical JSON, the form that TUF signs: keys sorted by code point, no white space, integers
 * only, and of a string only '"' and '\' escaped: every other byte stands raw, control characters too.
 */
#include "tuf_internal.h"

#include <inttypes.h>

struct out {
	char *p;
	size_t len, cap;
};

static bool
out_bytes(struct out *o, const char *p, size_t n)
{
	if (n >= o->cap - o->len) {
		size_t cap = o->cap;
		char *q;

		while (cap - o->len <= n) {
			if (cap > SIZE_MAX / 2)
				return false;
			cap *= 2;
		}
		if ((q = realloc(o->p, cap)) == NULL)
			return false;
		o->p = q;
		o->cap = cap;
	}
	if (n > 0)
		memcpy(o->p + o->len, p, n);
	o->len += n;
	return true;
}

static bool
out_string(struct out *o, const char *s, size_t len)
{
	size_t from = 0;

	if (!out_bytes(o, "\"", 1))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '"' && s[i] != '\\')
			continue;
		if (!out_bytes(o, s + from, i - from) || !out_bytes(o, "\\", 1))
			return false;
		from = i;
	}
	return out_bytes(o, s + from, len - from) && out_bytes(o, "\"", 1);
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum mfs_code out_value(struct out *o, const json_t *v, unsigned depth, struct mfs_err *err);

static enum mfs_code
out_object(struct out *o, const json_t *v, unsigned depth, struct mfs_err *err)
{
	json_t *mutable_v = (json_t *)(uintptr_t)v; /* jansson's iterators take no const */
	const size_t n = json_object_size(v);
	mfs_autofree const char **keys = calloc(n + 1, sizeof(*keys));
	size_t at = 0;
	bool good;

	if (keys == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON: %zu keys", n);
	for (void *it = json_object_iter(mutable_v); it != NULL && at < n; it = json_object_iter_next(mutable_v, it))
		keys[at++] = json_object_iter_key(it);
	qsort(keys, at, sizeof(*keys), compare_keys);
	good = out_bytes(o, "{", 1);
	for (size_t i = 0; good && i < at; i++) {
		enum mfs_code code;

		good = (i == 0 || out_bytes(o, ",", 1)) && out_string(o, keys[i], strlen(keys[i])) && out_bytes(o, ":", 1);
		if (good && (code = out_value(o, json_object_get(v, keys[i]), depth + 1, err)) != MFS_OK)
			return code;
	}
	if (!good || !out_bytes(o, "}", 1))
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	return MFS_OK;
}

static enum mfs_code
out_array(struct out *o, const json_t *v, unsigned depth, struct mfs_err *err)
{
	bool good = out_bytes(o, "[", 1);

	for (size_t i = 0; good && i < json_array_size(v); i++) {
		enum mfs_code code;

		good = i == 0 || out_bytes(o, ",", 1);
		if (good && (code = out_value(o, json_array_get(v, i), depth + 1, err)) != MFS_OK)
			return code;
	}
	if (!good || !out_bytes(o, "]", 1))
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	return MFS_OK;
}

static enum mfs_code
out_value(struct out *o, const json_t *v, unsigned depth, struct mfs_err *err)
{
	char number[32];
	bool good = false;

	if (depth > MFS_JSON_DEPTH_MAX)
		return mfs_fail(err, MFS_MALFORMED, "canonical JSON: nested deeper than %u levels", MFS_JSON_DEPTH_MAX);
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return out_object(o, v, depth, err);
	case JSON_ARRAY:
		return out_array(o, v, depth, err);
	case JSON_STRING:
		good = out_string(o, json_string_value(v), json_string_length(v));
		break;
	case JSON_INTEGER:
		(void)snprintf(number, sizeof(number), "%" PRId64, (int64_t)json_integer_value(v));
		good = out_bytes(o, number, strlen(number));
		break;
	case JSON_TRUE:
		good = out_bytes(o, "true", 4);
		break;
	case JSON_FALSE:
		good = out_bytes(o, "false", 5);
		break;
	case JSON_NULL:
		good = out_bytes(o, "null", 4);
		break;
	case JSON_REAL:
		return mfs_fail(err, MFS_MALFORMED, "canonical JSON: a number that is not an integer");
	}
	return good ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
}

enum mfs_code
mfs_tuf_encode(const json_t *v, char **out, size_t *len, struct mfs_err *err)
{
	struct out o = { .p = malloc(4096), .cap = 4096 };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if (o.p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "canonical JSON");
	if ((code = out_value(&o, v, 0, err)) != MFS_OK) {
		free(o.p);
		return code;
	}
	o.p[o.len] = '\0'; /* out_bytes keeps one byte spare */
	*out = o.p;
	*len = o.len;
	return MFS_OK;
}

enum mfs_code
mfs_tuf_canonical(struct mfs_span in, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autojson json_t *v = NULL;
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if ((code = mfs_json_parse_any_text("JSON", in, MFS_TUF_TARGETS_MAX, &v, err)) != MFS_OK)
		return code;
	return mfs_tuf_encode(v, out, len, err);
}

enum mfs_code
mfs_tuf_signed(struct mfs_span metadata, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autojson json_t *v = NULL;
	const json_t *body;
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if ((code = mfs_json_parse_any_text("metadata", metadata, MFS_TUF_TARGETS_MAX, &v, err)) != MFS_OK)
		return code;
	if ((body = json_object_get(v, "signed")) == NULL)
		return mfs_fail(err, MFS_MALFORMED, "metadata: signed: missing");
	return mfs_tuf_encode(body, out, len, err);
}
