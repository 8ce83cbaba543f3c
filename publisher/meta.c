/* SPDX-License-Identifier: Apache-2.0 */
#include "meta.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io.h"
#include "mfs_vectors.h"

/* How one key's value becomes JSON. */
typedef enum mfs_code (*convert_fn)(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out,
	struct mfs_err *err);

struct key {
	const char *name;
	convert_fn convert;
};

static enum mfs_code
to_text(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	if (n->kind != MFS_YAML_SCALAR || n->text[0] == '\0')
		return mfs_yaml_bad(f, n, err, "want a word or text");
	if ((*out = json_string(n->text)) == NULL)
		return mfs_yaml_bad(f, n, err, "not UTF-8");
	return MFS_OK;
}

static enum mfs_code
to_integer(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	long long v;
	char *end;

	if (n->kind != MFS_YAML_SCALAR || n->text[0] < '0' || n->text[0] > '9')
		return mfs_yaml_bad(f, n, err, "want an integer");
	errno = 0;
	v = strtoll(n->text, &end, 10);
	if (errno != 0 || *end != '\0' || v > MFS_JSON_INT_MAX)
		return mfs_yaml_bad(f, n, err, "want an integer of at most 2^53-1");
	*out = json_integer(v);
	return MFS_OK;
}

/* 8589934592, 8GiB, 8 GB */
static enum mfs_code
to_bytes(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	static const struct {
		const char *name;
		long long factor;
	} units[] = { { "", 1 }, { "B", 1 }, { "KiB", 1LL << 10 }, { "MiB", 1LL << 20 }, { "GiB", 1LL << 30 },
		{ "TiB", 1LL << 40 }, { "KB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", 1000000000000 } };
	long long v;
	char *end;

	if (n->kind != MFS_YAML_SCALAR || n->text[0] < '0' || n->text[0] > '9')
		return mfs_yaml_bad(f, n, err, "want a size, for example 8GiB");
	errno = 0;
	v = strtoll(n->text, &end, 10);
	end += strspn(end, " ");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && errno == 0; i++)
		if (strcmp(end, units[i].name) == 0) {
			if (__builtin_mul_overflow(v, units[i].factor, &v) || v > MFS_JSON_INT_MAX)
				break;
			*out = json_integer(v);
			return MFS_OK;
		}
	return mfs_yaml_bad(f, n, err, "want a size, for example 8GiB, of at most 2^53-1 bytes");
}

static enum mfs_code
to_sha256(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	struct mfs_sha256 d;

	if (n->kind != MFS_YAML_SCALAR || !mfs_hex_decode(d.b, MFS_SHA256_LEN, n->text, strlen(n->text)))
		return mfs_yaml_bad(f, n, err, "want a SHA-256: 64 lower-case hex digits");
	return to_text(f, n, out, err);
}

/* Each item of a list by fn; a scalar alone is a list of one when lone is set. */
static enum mfs_code
list_of(const struct mfs_yaml_file *f, const struct mfs_yaml *n, convert_fn fn, bool lone, json_t **out,
	struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	json_t *list, *item = NULL;

	if (n->kind != MFS_YAML_LIST && !(lone && n->kind == MFS_YAML_SCALAR))
		return mfs_yaml_bad(f, n, err, "want a list");
	if ((list = json_array()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	if (n->kind == MFS_YAML_SCALAR && (code = fn(f, n, &item, err)) == MFS_OK)
		(void)json_array_append_new(list, item);
	for (size_t i = 0; n->kind == MFS_YAML_LIST && i < n->n && code == MFS_OK; i++)
		if ((code = fn(f, n->items[i], &item, err)) == MFS_OK)
			(void)json_array_append_new(list, item);
	if (code == MFS_OK)
		*out = list;
	else
		json_decref(list);
	return code;
}

static enum mfs_code
to_texts(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	return list_of(f, n, to_text, true, out, err);
}

/* A map with known keys only. */
static enum mfs_code
map_of(const struct mfs_yaml_file *f, const struct mfs_yaml *n, const struct key *keys, size_t n_keys, json_t **out,
	struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	json_t *map;

	if (n->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, n, err, "want keys and values");
	if ((map = json_object()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	for (size_t i = 0; i < n->n && code == MFS_OK; i++) {
		const struct mfs_yaml *name = n->items[2 * i];
		json_t *value = NULL;
		size_t k = 0;

		while (k < n_keys && strcmp(keys[k].name, name->text) != 0)
			k++;
		if (k == n_keys)
			code = mfs_yaml_bad(f, name, err, "unknown key '%s'", MFS_ESC(name->text));
		else if ((code = keys[k].convert(f, n->items[2 * i + 1], &value, err)) == MFS_OK &&
			json_object_set_new(map, name->text, value) != 0)
			code = mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	}
	if (code == MFS_OK)
		*out = map;
	else
		json_decref(map);
	return code;
}

static enum mfs_code
to_range(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	static const struct key keys[] = { { "name", to_text }, { "min", to_text }, { "max", to_text } };

	return map_of(f, n, keys, sizeof(keys) / sizeof(keys[0]), out, err);
}

static enum mfs_code
to_ranges(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	return list_of(f, n, to_range, false, out, err);
}

static enum mfs_code
to_depend(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	static const struct key keys[] = { { "model_id", to_text }, { "min_release", to_integer },
		{ "max_release", to_integer } };

	return map_of(f, n, keys, sizeof(keys) / sizeof(keys[0]), out, err);
}

static enum mfs_code
to_depends(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	return list_of(f, n, to_depend, false, out, err);
}

static enum mfs_code
to_labels(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	json_t *map;

	if (n->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, n, err, "want labels with their values");
	if ((map = json_object()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	for (size_t i = 0; i < n->n && code == MFS_OK; i++) {
		json_t *value = NULL;

		if ((code = to_texts(f, n->items[2 * i + 1], &value, err)) == MFS_OK &&
			json_object_set_new(map, n->items[2 * i]->text, value) != 0)
			code = mfs_yaml_bad(f, n->items[2 * i], err, "not UTF-8");
	}
	if (code == MFS_OK)
		*out = map;
	else
		json_decref(map);
	return code;
}

static enum mfs_code
to_compat(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	static const struct key keys[] = { { "platforms", to_texts }, { "labels", to_labels }, { "apps", to_ranges },
		{ "runtimes", to_ranges }, { "memory", to_bytes }, { "page_size", to_bytes }, { "depends", to_depends },
		{ "input_schema_sha256", to_sha256 }, { "output_schema_sha256", to_sha256 },
		{ "preprocess_sha256", to_sha256 } };

	return map_of(f, n, keys, sizeof(keys) / sizeof(keys[0]), out, err);
}

static enum mfs_code
to_health(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	mfs_autofree char *text = NULL;
	struct mfs_vectors *v = NULL;
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code;
	size_t len = 0;

	if (n->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, n, err, "want keys and values");
	if ((code = mfs_yaml_json(f, n, out, err)) != MFS_OK)
		return code;
	/* What a device would refuse is not published. */
	if ((code = mfs_json_canonical(*out, &text, &len, &own)) == MFS_OK)
		code = mfs_vectors_parse("health", MFS_SPAN(text, len), &v, &own);
	mfs_vectors_free(v);
	if (code == MFS_OK)
		return MFS_OK;
	json_decref(*out);
	*out = NULL;
	return mfs_yaml_bad(f, n, err, "%s", own.msg);
}

/* One entry below "files". */
static enum mfs_code
file_entry(const struct mfs_yaml_file *f, const struct mfs_yaml *name, const struct mfs_yaml *n,
	struct mfs_meta_file *out, struct mfs_err *err)
{
	out->line = name->line;
	out->column = name->column;
	if ((out->name = strdup(name->text)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	if (n->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, n, err, "want media or executable");
	for (size_t i = 0; i < n->n; i++) {
		const struct mfs_yaml *key = n->items[2 * i], *v = n->items[2 * i + 1];

		if (strcmp(key->text, "media") == 0) {
			out->has_media = true;
			if (v->kind != MFS_YAML_SCALAR || !mfs_media_from_name(v->text, &out->media))
				return mfs_yaml_bad(f, v, err, "want gguf, onnx, safetensors, tflite, text or other");
		} else if (strcmp(key->text, "executable") == 0) {
			if (v->kind != MFS_YAML_SCALAR || !v->plain ||
				(strcmp(v->text, "true") != 0 && strcmp(v->text, "false") != 0))
				return mfs_yaml_bad(f, v, err, "want true or false");
			out->executable = v->text[0] == 't';
		} else {
			return mfs_yaml_bad(f, key, err, "unknown key '%s'; files have media and executable",
				MFS_ESC(key->text));
		}
	}
	return MFS_OK;
}

static enum mfs_code
files_read(const struct mfs_yaml_file *f, const struct mfs_yaml *n, struct mfs_meta *m, struct mfs_err *err)
{
	if (n->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, n, err, "want file names with their values");
	if (n->n > 0 && (m->files = calloc(n->n, sizeof(*m->files))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	for (size_t i = 0; i < n->n; i++) {
		enum mfs_code code;

		m->n_files++;
		if ((code = file_entry(f, n->items[2 * i], n->items[2 * i + 1], &m->files[i], err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
meta_read(const struct mfs_yaml_file *f, struct mfs_meta *m, struct mfs_err *err)
{
	static const struct key keys[] = { { "compat", to_compat }, { "preprocess", mfs_yaml_json },
		{ "quantization", mfs_yaml_json }, { "health", to_health } };
	const struct mfs_yaml *root = f->root;

	if (root == NULL)
		return MFS_OK;
	if (root->kind != MFS_YAML_MAP)
		return mfs_yaml_bad(f, root, err, "want keys and values");
	for (size_t i = 0; i < root->n; i++) {
		const struct mfs_yaml *name = root->items[2 * i], *v = root->items[2 * i + 1];
		enum mfs_code code;
		json_t *value = NULL;
		size_t k = 0;

		if (strcmp(name->text, "files") == 0) {
			if ((code = files_read(f, v, m, err)) != MFS_OK)
				return code;
			continue;
		}
		while (k < sizeof(keys) / sizeof(keys[0]) && strcmp(keys[k].name, name->text) != 0)
			k++;
		if (k == sizeof(keys) / sizeof(keys[0]))
			return mfs_yaml_bad(f, name, err,
				"unknown key '%s'; known are compat, preprocess, quantization, health, files",
				MFS_ESC(name->text));
		if ((code = keys[k].convert(f, v, &value, err)) != MFS_OK)
			return code;
		if (json_object_set_new(m->fields, name->text, value) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	}
	return MFS_OK;
}

static enum mfs_code
meta_finish(const struct mfs_yaml_file *f, struct mfs_meta *out, struct mfs_err *err)
{
	mfs_autometa struct mfs_meta m = { .fields = json_object() };
	enum mfs_code code;

	if (m.fields == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "meta file");
	if ((code = meta_read(f, &m, err)) != MFS_OK)
		return code;
	*out = m;
	m = (struct mfs_meta){ 0 };
	return MFS_OK;
}

enum mfs_code
mfs_meta_parse(const char *path, struct mfs_span in, struct mfs_meta *out, struct mfs_err *err)
{
	mfs_autoyaml struct mfs_yaml_file f = { 0 };
	enum mfs_code code;

	*out = (struct mfs_meta){ 0 };
	if ((code = mfs_yaml_parse(path, in, &f, err)) != MFS_OK)
		return code;
	return meta_finish(&f, out, err);
}

enum mfs_code
mfs_meta_load(const char *path, struct mfs_meta *out, struct mfs_err *err)
{
	mfs_autoyaml struct mfs_yaml_file f = { 0 };
	enum mfs_code code;

	*out = (struct mfs_meta){ 0 };
	if (path != NULL && (code = mfs_yaml_load(path, &f, err)) != MFS_OK)
		return code;
	return meta_finish(&f, out, err);
}

void
mfs_meta_free(struct mfs_meta *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n_files; i++)
		free(m->files[i].name);
	free(m->files);
	json_decref(m->fields);
	*m = (struct mfs_meta){ 0 };
}

enum mfs_media
mfs_media_guess(const char *name, struct mfs_span head)
{
	static const struct {
		const char *extension;
		enum mfs_media media;
	} table[] = { { ".gguf", MFS_MEDIA_GGUF }, { ".onnx", MFS_MEDIA_ONNX }, { ".safetensors", MFS_MEDIA_SAFETENSORS },
		{ ".tflite", MFS_MEDIA_TFLITE }, { ".txt", MFS_MEDIA_TEXT }, { ".md", MFS_MEDIA_TEXT },
		{ ".json", MFS_MEDIA_TEXT }, { ".jsonl", MFS_MEDIA_TEXT }, { ".yaml", MFS_MEDIA_TEXT },
		{ ".yml", MFS_MEDIA_TEXT }, { ".csv", MFS_MEDIA_TEXT }, { ".jinja", MFS_MEDIA_TEXT },
		{ ".pbtxt", MFS_MEDIA_TEXT }, { ".toml", MFS_MEDIA_TEXT } };
	const char *base = strrchr(name, '/');
	const char *dot = strrchr(base != NULL ? base : name, '.');

	for (size_t i = 0; dot != NULL && i < sizeof(table) / sizeof(table[0]); i++)
		if (strcasecmp(dot, table[i].extension) == 0)
			return table[i].media;
	if (head.len >= 4 && memcmp(head.p, "GGUF", 4) == 0)
		return MFS_MEDIA_GGUF;
	if (head.len >= 8 && memcmp(head.p + 4, "TFL3", 4) == 0)
		return MFS_MEDIA_TFLITE;
	if (head.len >= 10 && head.p[5] == 0 && head.p[6] == 0 && head.p[7] == 0 && head.p[8] == '{' &&
		head.p[9] == '"')
		return MFS_MEDIA_SAFETENSORS; /* u64 length of a JSON header, then the header */
	return MFS_MEDIA_OTHER;
}

bool
mfs_media_fits(enum mfs_media media, struct mfs_span head, uint64_t size)
{
	/* ModelProto: its fields in the order of their numbers, the first of which are these; none is obligatory. */
	static const uint8_t onnx[] = { 0x08, 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72, 0xa2, 0xca };
	uint64_t header = 0;

	switch (media) {
	case MFS_MEDIA_GGUF:
		return head.len >= 4 && memcmp(head.p, "GGUF", 4) == 0;
	case MFS_MEDIA_TFLITE:
		return head.len >= 8 && memcmp(head.p + 4, "TFL3", 4) == 0;
	case MFS_MEDIA_SAFETENSORS:
		for (size_t i = 0; i < 8 && i < head.len; i++)
			header |= (uint64_t)head.p[i] << 8 * i;
		return head.len >= 10 && header <= size - 8 && head.p[8] == '{';
	case MFS_MEDIA_ONNX:
		return head.len > 0 && memchr(onnx, head.p[0], sizeof(onnx)) != NULL;
	default:
		return true;
	}
}
