/* SPDX-License-Identifier: Apache-2.0 */
#include "config_yaml.h"

#include <stdio.h>
#include <yaml.h>

void
mfs_yaml_free(struct mfs_yaml *y)
{
	if (y == NULL)
		return;
	for (size_t i = 0; i < y->n; i++)
		mfs_yaml_free(y->kids[i]);
	free(y->kids);
	free(y->text);
	free(y);
}

bool
mfs_yaml_is_null(const struct mfs_yaml *y)
{
	return y->kind == MFS_YAML_SCALAR && y->plain &&
		(y->text[0] == '\0' || strcmp(y->text, "~") == 0 || strcmp(y->text, "null") == 0);
}

static enum mfs_code
fail_at(const char *file, size_t line, size_t column, struct mfs_err *err, const char *text)
{
	char name[256];

	return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%zu:%zu: %s",
		mfs_escape(name, sizeof(name), file, strlen(file)), line, column, text);
}

enum mfs_code
mfs_yaml_fail(const struct mfs_yaml *y, const char *key, struct mfs_err *err, const char *fmt, ...)
{
	char text[400], what[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)snprintf(text, sizeof(text), "%s%s%s", key, key[0] != '\0' ? ": " : "", what);
	return fail_at(y->file, y->line, y->column, err, text);
}

/* ---- events to tree ------------------------------------------------------------------------- */

struct compose {
	const char *file, *text;
	size_t len;
	struct mfs_yaml *root;
	struct mfs_yaml *open[MFS_YAML_DEPTH_MAX];
	size_t depth, nodes;
	bool documents;
	struct mfs_err *err;
};

static enum mfs_code
fail_mark(struct compose *c, const yaml_mark_t *m, const char *text)
{
	return fail_at(c->file, m->line + 1, m->column + 1, c->err, text);
}

/* The reader knows only the offset of a bad byte. */
static enum mfs_code
fail_parser(struct compose *c, const yaml_parser_t *p)
{
	char text[200];
	size_t line = p->problem_mark.line + 1, column = p->problem_mark.column + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return mfs_fail(c->err, MFS_NO_MEMORY, "configuration: no memory");
	if (p->error == YAML_READER_ERROR) {
		line = column = 1;
		for (size_t i = 0; i < p->problem_offset && i < c->len; i++) {
			if (c->text[i] == '\n') {
				line++;
				column = 1;
			} else if (((unsigned char)c->text[i] & 0xc0) != 0x80) {
				column++;
			}
		}
	}
	(void)snprintf(text, sizeof(text), "not valid YAML: %s%s%s", p->problem != NULL ? p->problem : "unknown error",
		p->context != NULL ? " " : "", p->context != NULL ? p->context : "");
	return fail_at(c->file, line, column, c->err, text);
}

static enum mfs_code
check_text(struct compose *c, const yaml_event_t *e)
{
	for (size_t i = 0; i < e->data.scalar.length; i++) {
		unsigned char ch = e->data.scalar.value[i];

		if (ch < 0x20 || ch == 0x7f)
			return fail_mark(c, &e->start_mark, "control character in a value");
	}
	return MFS_OK;
}

static enum mfs_code
push(struct compose *c, struct mfs_yaml *parent, struct mfs_yaml *y)
{
	if (parent->n == parent->cap) {
		size_t cap = parent->cap > 0 ? 2 * parent->cap : 8;
		struct mfs_yaml **kids = reallocarray(parent->kids, cap, sizeof(*kids));

		if (kids == NULL)
			return mfs_fail(c->err, MFS_NO_MEMORY, "configuration: no memory");
		parent->kids = kids;
		parent->cap = cap;
	}
	parent->kids[parent->n++] = y;
	return MFS_OK;
}

/* A key: scalar, not empty, not seen before in this mapping. */
static enum mfs_code
check_key(struct compose *c, const struct mfs_yaml *map, const struct mfs_yaml *key)
{
	if (key->kind != MFS_YAML_SCALAR)
		return mfs_yaml_fail(key, "", c->err, "a key must be a name, not a list or mapping");
	if (map->n >= 2 * MFS_YAML_KEYS_MAX)
		return mfs_yaml_fail(key, "", c->err, "more than %u keys in one mapping", MFS_YAML_KEYS_MAX);
	for (size_t i = 0; i + 1 < map->n; i += 2)
		if (strcmp(map->kids[i]->text, key->text) == 0)
			return mfs_yaml_fail(key, MFS_ESC(key->text), c->err, "given twice, first in line %u; remove one",
				map->kids[i]->line);
	return MFS_OK;
}

static enum mfs_code
add(struct compose *c, const yaml_event_t *e, enum mfs_yaml_kind kind, struct mfs_yaml **out)
{
	struct mfs_yaml *y, *parent = c->depth > 0 ? c->open[c->depth - 1] : NULL;
	enum mfs_code code;

	if (++c->nodes > MFS_YAML_NODES_MAX)
		return fail_mark(c, &e->start_mark, "too many values");
	if ((y = calloc(1, sizeof(*y))) == NULL)
		return mfs_fail(c->err, MFS_NO_MEMORY, "configuration: no memory");
	y->kind = kind;
	y->file = c->file;
	y->line = (unsigned)e->start_mark.line + 1;
	y->column = (unsigned)e->start_mark.column + 1;
	if (kind == MFS_YAML_SCALAR) {
		y->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
		y->text = strndup((const char *)e->data.scalar.value, e->data.scalar.length);
		if (y->text == NULL) {
			free(y);
			return mfs_fail(c->err, MFS_NO_MEMORY, "configuration: no memory");
		}
	}
	if (parent != NULL && parent->kind == MFS_YAML_MAPPING && parent->n % 2 == 0 &&
		(code = check_key(c, parent, y)) != MFS_OK) {
		mfs_yaml_free(y);
		return code;
	}
	if (parent == NULL) {
		c->root = y;
	} else if ((code = push(c, parent, y)) != MFS_OK) {
		mfs_yaml_free(y);
		return code;
	}
	*out = y;
	return MFS_OK;
}

static enum mfs_code
open_container(struct compose *c, const yaml_event_t *e, enum mfs_yaml_kind kind)
{
	struct mfs_yaml *y;
	enum mfs_code code;

	if (c->depth == MFS_YAML_DEPTH_MAX)
		return fail_mark(c, &e->start_mark, "nested too deeply");
	if ((code = add(c, e, kind, &y)) != MFS_OK)
		return code;
	c->open[c->depth++] = y;
	return MFS_OK;
}

static enum mfs_code
take_event(struct compose *c, const yaml_event_t *e)
{
	struct mfs_yaml *y;
	enum mfs_code code;

	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (c->documents)
			return fail_mark(c, &e->start_mark, "a second document; keep one per file");
		c->documents = true;
		return MFS_OK;
	case YAML_ALIAS_EVENT:
		return fail_mark(c, &e->start_mark, "aliases (*name) are not accepted; write the value out");
	case YAML_SCALAR_EVENT:
		if (e->data.scalar.anchor != NULL)
			return fail_mark(c, &e->start_mark, "anchors (&name) are not accepted; write the value out");
		if (e->data.scalar.tag != NULL)
			return fail_mark(c, &e->start_mark, "tags (!name) are not accepted");
		if ((code = check_text(c, e)) != MFS_OK)
			return code;
		return add(c, e, MFS_YAML_SCALAR, &y);
	case YAML_SEQUENCE_START_EVENT:
		if (e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL)
			return fail_mark(c, &e->start_mark, "anchors and tags are not accepted; write the value out");
		return open_container(c, e, MFS_YAML_SEQUENCE);
	case YAML_MAPPING_START_EVENT:
		if (e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL)
			return fail_mark(c, &e->start_mark, "anchors and tags are not accepted; write the value out");
		return open_container(c, e, MFS_YAML_MAPPING);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		c->depth--;
		return MFS_OK;
	default:
		return MFS_OK;
	}
}

static enum mfs_code
run(struct compose *c)
{
	enum mfs_code code = MFS_OK;
	const size_t bom = c->len >= 3 && memcmp(c->text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	bool end = false;
	yaml_parser_t p;

	if (!yaml_parser_initialize(&p))
		return mfs_fail(c->err, MFS_NO_MEMORY, "configuration: no memory");
	yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
	/* Some editors put a byte order mark first; libyaml would take it for the first column. */
	yaml_parser_set_input_string(&p, (const unsigned char *)c->text + bom, c->len - bom);
	while (code == MFS_OK && !end) {
		yaml_event_t e;

		if (!yaml_parser_parse(&p, &e)) {
			code = fail_parser(c, &p);
			break;
		}
		end = e.type == YAML_STREAM_END_EVENT;
		code = take_event(c, &e);
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&p);
	return code;
}

enum mfs_code
mfs_yaml_compose(const char *file, const char *text, size_t len, struct mfs_yaml **out, struct mfs_err *err)
{
	struct compose c = { .file = file, .text = text, .len = len, .err = err };
	enum mfs_code code;

	*out = NULL;
	if (len > MFS_CONFIG_BYTES_MAX)
		return fail_at(file, 1, 1, err, "larger than 1 MiB");
	code = run(&c);
	if (code == MFS_OK && (c.root == NULL || mfs_yaml_is_null(c.root))) {
		mfs_yaml_free(c.root);
		if ((c.root = calloc(1, sizeof(*c.root))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
		c.root->kind = MFS_YAML_MAPPING;
		c.root->file = file;
		c.root->line = c.root->column = 1;
	}
	if (code == MFS_OK && c.root->kind != MFS_YAML_MAPPING)
		code = mfs_yaml_fail(c.root, "", err, "not a mapping; write 'key: value' lines");
	if (code != MFS_OK) {
		mfs_yaml_free(c.root);
		return code;
	}
	*out = c.root;
	return MFS_OK;
}

enum mfs_code
mfs_yaml_merge(struct mfs_yaml *into, struct mfs_yaml *over, struct mfs_err *err)
{
	struct compose c = { .err = err };

	for (size_t i = 0; i + 1 < over->n; i += 2) {
		struct mfs_yaml **value = NULL;
		enum mfs_code code;

		for (size_t j = 0; j + 1 < into->n; j += 2)
			if (strcmp(into->kids[j]->text, over->kids[i]->text) == 0)
				value = &into->kids[j + 1];
		if (value == NULL) {
			for (size_t k = 0; k < 2; k++) {
				if ((code = push(&c, into, over->kids[i + k])) != MFS_OK) {
					/* A key without its value must not stay behind. */
					if (k == 1)
						mfs_yaml_free(into->kids[--into->n]);
					return code;
				}
				over->kids[i + k] = NULL;
			}
		} else if ((*value)->kind == MFS_YAML_MAPPING && over->kids[i + 1]->kind == MFS_YAML_MAPPING) {
			if ((code = mfs_yaml_merge(*value, over->kids[i + 1], err)) != MFS_OK)
				return code;
		} else {
			struct mfs_yaml *old = *value;

			*value = over->kids[i + 1];
			over->kids[i + 1] = old;
		}
	}
	return MFS_OK;
}
