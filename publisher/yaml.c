/* SPDX-License-Identifier: Apache-2.0 */
#include "yaml.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "io.h"

#define YAML_BYTES_MAX (4u << 20)
#define YAML_DEPTH_MAX 12 /* the manifest allows 16 levels around it */
#define YAML_NODES_MAX 200000u

struct reader {
	const char *path;
	yaml_parser_t parser;
	size_t nodes;
};

static void
node_free(struct mfs_yaml *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; i < (n->kind == MFS_YAML_MAP ? 2 * n->n : n->n); i++)
		node_free(n->items[i]);
	free(n->items);
	free(n->text);
	free(n);
}

MFS_DEFINE_CLEANUP(node, struct mfs_yaml, node_free)

void
mfs_yaml_free(struct mfs_yaml_file *f)
{
	if (f == NULL)
		return;
	node_free(f->root);
	free(f->path);
	*f = (struct mfs_yaml_file){ 0 };
}

enum mfs_code
mfs_yaml_bad(const struct mfs_yaml_file *f, const struct mfs_yaml *node, struct mfs_err *err, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(why, sizeof(why), fmt, ap) < 0)
		why[0] = '\0';
	va_end(ap);
	return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%u:%u: %s", MFS_ESC(f->path), node->line, node->column, why);
}

static enum mfs_code
bad_at(const struct reader *r, yaml_mark_t mark, struct mfs_err *err, const char *why)
{
	return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%zu:%zu: %s", MFS_ESC(r->path), mark.line + 1, mark.column + 1, why);
}

static enum mfs_code
event_next(struct reader *r, yaml_event_t *e, struct mfs_err *err)
{
	if (yaml_parser_parse(&r->parser, e) == 1)
		return MFS_OK;
	memset(e, 0, sizeof(*e));
	if (r->parser.error == YAML_MEMORY_ERROR)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->path));
	return bad_at(r, r->parser.problem_mark, err, r->parser.problem != NULL ? r->parser.problem : "not YAML");
}

static enum mfs_code
items_push(const struct reader *r, struct mfs_yaml *n, size_t at, struct mfs_yaml **child, struct mfs_err *err)
{
	if ((at & (at - 1)) == 0) { /* powers of two and 0: grow */
		struct mfs_yaml **items = reallocarray(n->items, at == 0 ? 1 : at * 2, sizeof(*items));

		if (items == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->path));
		n->items = items;
	}
	n->items[at] = mfs_steal(child);
	return MFS_OK;
}

static enum mfs_code node_read(struct reader *r, yaml_event_t *e, unsigned depth, struct mfs_yaml **out,
	struct mfs_err *err);

/* Items of a list up to its end event. */
static enum mfs_code
list_read(struct reader *r, unsigned depth, struct mfs_yaml *list, struct mfs_err *err)
{
	for (;;) {
		MFS_CLEANUP(mfs_cleanup_node) struct mfs_yaml *child = NULL;
		MFS_CLEANUP(yaml_event_delete) yaml_event_t e = { 0 };
		enum mfs_code code;

		if ((code = event_next(r, &e, err)) != MFS_OK || e.type == YAML_SEQUENCE_END_EVENT)
			return code;
		if ((code = node_read(r, &e, depth + 1, &child, err)) != MFS_OK ||
			(code = items_push(r, list, list->n, &child, err)) != MFS_OK)
			return code;
		list->n++;
	}
}

/* Keys and values of a map up to its end event. */
static enum mfs_code
map_read(struct reader *r, unsigned depth, struct mfs_yaml *map, struct mfs_err *err)
{
	for (;;) {
		MFS_CLEANUP(mfs_cleanup_node) struct mfs_yaml *key = NULL, *value = NULL;
		MFS_CLEANUP(yaml_event_delete) yaml_event_t k = { 0 }, v = { 0 };
		enum mfs_code code;

		if ((code = event_next(r, &k, err)) != MFS_OK || k.type == YAML_MAPPING_END_EVENT)
			return code;
		if (k.type != YAML_SCALAR_EVENT)
			return bad_at(r, k.start_mark, err, "a key must be a plain word");
		if ((code = node_read(r, &k, depth + 1, &key, err)) != MFS_OK)
			return code;
		for (size_t i = 0; i < map->n; i++)
			if (strcmp(map->items[2 * i]->text, key->text) == 0)
				return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%u:%u: '%s' is already in line %u",
					MFS_ESC(r->path), key->line, key->column, MFS_ESC(key->text),
					map->items[2 * i]->line);
		if ((code = event_next(r, &v, err)) != MFS_OK ||
			(code = node_read(r, &v, depth + 1, &value, err)) != MFS_OK)
			return code;
		/* Make room for both before either counts, so that a failure leaks nothing. */
		if ((code = items_push(r, map, 2 * map->n, &key, err)) != MFS_OK)
			return code;
		if ((code = items_push(r, map, 2 * map->n + 1, &value, err)) != MFS_OK) {
			node_free(map->items[2 * map->n]);
			return code;
		}
		map->n++;
	}
}

static enum mfs_code
node_read(struct reader *r, yaml_event_t *e, unsigned depth, struct mfs_yaml **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_node) struct mfs_yaml *n = NULL;
	enum mfs_code code = MFS_OK;

	if (depth > YAML_DEPTH_MAX)
		return bad_at(r, e->start_mark, err, "nested too deeply");
	if (++r->nodes > YAML_NODES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %u values", MFS_ESC(r->path), YAML_NODES_MAX);
	if ((n = calloc(1, sizeof(*n))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->path));
	n->line = (unsigned)e->start_mark.line + 1;
	n->column = (unsigned)e->start_mark.column + 1;
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		if (e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL)
			return bad_at(r, e->start_mark, err, "anchors and tags are not taken here");
		if (memchr(e->data.scalar.value, 0, e->data.scalar.length) != NULL)
			return bad_at(r, e->start_mark, err, "a NUL character");
		n->kind = MFS_YAML_SCALAR;
		n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
		if ((n->text = strdup((const char *)e->data.scalar.value)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->path));
		break;
	case YAML_SEQUENCE_START_EVENT:
		if (e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL)
			return bad_at(r, e->start_mark, err, "anchors and tags are not taken here");
		n->kind = MFS_YAML_LIST;
		code = list_read(r, depth, n, err);
		break;
	case YAML_MAPPING_START_EVENT:
		if (e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL)
			return bad_at(r, e->start_mark, err, "anchors and tags are not taken here");
		n->kind = MFS_YAML_MAP;
		code = map_read(r, depth, n, err);
		break;
	case YAML_ALIAS_EVENT:
		return bad_at(r, e->start_mark, err, "aliases are not taken here");
	default:
		return bad_at(r, e->start_mark, err, "a value is missing");
	}
	if (code == MFS_OK)
		*out = mfs_steal(&n);
	return code;
}

static enum mfs_code
stream_read(struct reader *r, struct mfs_yaml **root, struct mfs_err *err)
{
	bool documents = false;

	for (;;) {
		MFS_CLEANUP(yaml_event_delete) yaml_event_t e = { 0 };
		enum mfs_code code;

		if ((code = event_next(r, &e, err)) != MFS_OK || e.type == YAML_STREAM_END_EVENT)
			return code;
		if (e.type == YAML_DOCUMENT_START_EVENT && documents)
			return bad_at(r, e.start_mark, err, "a second document");
		if (e.type == YAML_DOCUMENT_START_EVENT)
			documents = true;
		else if (e.type != YAML_STREAM_START_EVENT && e.type != YAML_DOCUMENT_END_EVENT &&
			(code = node_read(r, &e, 0, root, err)) != MFS_OK)
			return code;
	}
}

enum mfs_code
mfs_yaml_parse(const char *path, struct mfs_span in, struct mfs_yaml_file *out, struct mfs_err *err)
{
	mfs_autoyaml struct mfs_yaml_file f = { .path = strdup(path) };
	struct reader r = { .path = path };
	enum mfs_code code;

	*out = (struct mfs_yaml_file){ 0 };
	if (in.len > YAML_BYTES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %u", MFS_ESC(path), in.len, YAML_BYTES_MAX);
	if (f.path == NULL || yaml_parser_initialize(&r.parser) != 1)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	yaml_parser_set_input_string(&r.parser, in.p, in.len);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	code = stream_read(&r, &f.root, err);
	yaml_parser_delete(&r.parser);
	if (code != MFS_OK)
		return code;
	out->path = mfs_steal(&f.path);
	out->root = mfs_steal(&f.root);
	return MFS_OK;
}

enum mfs_code
mfs_yaml_load(const char *path, struct mfs_yaml_file *out, struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = NULL;
	enum mfs_code code;
	size_t len;

	*out = (struct mfs_yaml_file){ 0 };
	if ((code = mfs_file_read(AT_FDCWD, path, YAML_BYTES_MAX, &buf, &len, err)) != MFS_OK)
		return code;
	return mfs_yaml_parse(path, MFS_SPAN(buf, len), out, err);
}

/* -?[0-9]+ in plain style */
static bool
looks_integer(const struct mfs_yaml *n)
{
	const char *s = n->text;

	if (!n->plain)
		return false;
	s += *s == '-';
	return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

static enum mfs_code
scalar_json(const struct mfs_yaml_file *f, const struct mfs_yaml *n, json_t **out, struct mfs_err *err)
{
	if (n->plain && (strcmp(n->text, "null") == 0 || strcmp(n->text, "~") == 0 || n->text[0] == '\0')) {
		*out = json_null();
	} else if (n->plain && (strcmp(n->text, "true") == 0 || strcmp(n->text, "false") == 0)) {
		*out = json_boolean(n->text[0] == 't');
	} else if (looks_integer(n)) {
		long long v;

		errno = 0;
		v = strtoll(n->text, NULL, 10);
		if (errno != 0 || v > MFS_JSON_INT_MAX || v < -MFS_JSON_INT_MAX)
			return mfs_yaml_bad(f, n, err, "an integer beyond 2^53-1; quote it");
		*out = json_integer(v);
	} else {
		for (const char *s = n->text; *s != '\0'; s++)
			if ((unsigned char)*s < 0x20 || *s == 0x7f)
				return mfs_yaml_bad(f, n, err, "a control character or line break in the text");
		*out = json_string(n->text);
		if (*out == NULL)
			return mfs_yaml_bad(f, n, err, "not UTF-8");
	}
	return MFS_OK;
}

enum mfs_code
mfs_yaml_json(const struct mfs_yaml_file *f, const struct mfs_yaml *node, json_t **out, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	json_t *v;

	*out = NULL;
	if (node->kind == MFS_YAML_SCALAR)
		return scalar_json(f, node, out, err);
	if ((v = node->kind == MFS_YAML_LIST ? json_array() : json_object()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
	for (size_t i = 0; i < node->n && code == MFS_OK; i++) {
		const bool map = node->kind == MFS_YAML_MAP;
		json_t *item;

		if ((code = mfs_yaml_json(f, node->items[map ? 2 * i + 1 : i], &item, err)) != MFS_OK)
			break;
		if (map && strspn(node->items[2 * i]->text,
				   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@ ") !=
				strlen(node->items[2 * i]->text)) {
			json_decref(item);
			code = mfs_yaml_bad(f, node->items[2 * i], err, "a key must be ASCII letters, digits or one of _-./:@");
		} else if ((map ? json_object_set_new(v, node->items[2 * i]->text, item) :
				  json_array_append_new(v, item)) != 0) {
			code = mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->path));
		}
	}
	if (code != MFS_OK)
		json_decref(v);
	else
		*out = v;
	return code;
}
