/* SPDX-License-Identifier: Apache-2.0 */
#include "config_walk.h"

#include <limits.h>
#include <stdio.h>

const char *
mfs_walk_key(char buf[MFS_KEY_MAX], const char *parent, const char *child)
{
	char name[160];

	(void)snprintf(buf, MFS_KEY_MAX, "%s%s%s", parent, parent[0] != '\0' ? "." : "",
		mfs_escape(name, sizeof(name), child, strlen(child)));
	return buf;
}

/* ---- keys --------------------------------------------------------------------------------------- */

/* Levenshtein distance, capped by the length of names in the tables. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[32], n = strlen(b), m = strlen(a);

	if (n >= 32 || m >= 32)
		return 32;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; i <= m; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

static enum mfs_code
fail_unknown(struct mfs_walk *w, const struct mfs_yaml *name, const char *key, const struct mfs_field *fields)
{
	const char *nearest = NULL;
	size_t best = 4;
	char all[200] = "";
	size_t len = 0;

	for (const struct mfs_field *f = fields; f->key != NULL; f++) {
		size_t d = distance(name->text, f->key);

		if (d < best && d < strlen(f->key)) {
			best = d;
			nearest = f->key;
		}
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", f == fields ? "" : ", ", f->key);
		if (len >= sizeof(all))
			len = sizeof(all) - 1;
	}
	if (nearest != NULL)
		return mfs_yaml_fail(name, key, w->err, "unknown key; did you mean '%s'?", nearest);
	return mfs_yaml_fail(name, key, w->err, "unknown key; known here: %s", all);
}

enum mfs_code
mfs_walk_note(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const char *text)
{
	struct mfs_config *c = w->c;
	char name[256], **notes = reallocarray(c->notes, c->n_notes + 1, sizeof(*notes));

	if (notes == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	c->notes = notes;
	if (asprintf(&notes[c->n_notes], "%s:%u:%u: %s: %s", mfs_escape(name, sizeof(name), y->file, strlen(y->file)),
		    y->line, y->column, key, text) < 0)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	c->n_notes++;
	return MFS_OK;
}

enum mfs_code
mfs_walk_mapping(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *fields,
	void *obj)
{
	if (y->kind != MFS_YAML_MAPPING)
		return mfs_yaml_fail(y, key, w->err, "must be a mapping of keys, such as {%s: ...}", fields[0].key);
	for (size_t i = 0; i + 1 < y->n; i += 2) {
		const struct mfs_yaml *name = y->kids[i], *value = y->kids[i + 1];
		const struct mfs_field *f = fields;
		char buf[MFS_KEY_MAX];
		enum mfs_code code;
		void *dst;

		(void)mfs_walk_key(buf, key, name->text);
		while (f->key != NULL && strcmp(f->key, name->text) != 0)
			f++;
		if (f->key == NULL)
			return fail_unknown(w, name, buf, fields);
		dst = obj == NULL ? NULL : (char *)obj + f->offset;
		if ((code = f->read(w, value, buf, f, dst)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

enum mfs_code
mfs_read_mapping(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	return mfs_walk_mapping(w, y, key, f->arg, dst);
}

enum mfs_code
mfs_walk_fact(struct mfs_walk *w, const char *name, const struct mfs_config_source **out)
{
	*out = NULL;
	for (int again = 0; again < 2; again++) {
		enum mfs_code code;

		for (size_t i = 0; i < w->s->n; i++) {
			const struct mfs_config_source *s = &w->s->sources[i];

			if (s->fact && strcmp(s->path, name) == 0) {
				*out = s->len > 0 ? s : NULL;
				return MFS_OK;
			}
		}
		if (again > 0 || w->lookup == NULL)
			break;
		if ((code = w->lookup(w, name)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- texts and paths ---------------------------------------------------------------------------- */

static enum mfs_code
want_text(struct mfs_walk *w, const struct mfs_yaml *y, const char *key)
{
	if (y->kind != MFS_YAML_SCALAR)
		return mfs_yaml_fail(y, key, w->err, "must be one value, not a %s",
			y->kind == MFS_YAML_SEQUENCE ? "list" : "mapping");
	if (mfs_yaml_is_null(y) || y->text[0] == '\0')
		return mfs_yaml_fail(y, key, w->err, "has no value; give one or remove the key");
	return MFS_OK;
}

static enum mfs_code
store_text(struct mfs_walk *w, const char *text, void *dst)
{
	char **p = dst;
	char *copy;

	if (p == NULL)
		return MFS_OK;
	if ((copy = strdup(text)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	free(*p);
	*p = copy;
	return MFS_OK;
}

enum mfs_code
mfs_read_text(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code = want_text(w, y, key);

	(void)f;
	return code != MFS_OK ? code : store_text(w, y->text, dst);
}

enum mfs_code
mfs_read_path(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const char *slash = strrchr(y->file, '/'), *p;
	char path[PATH_MAX];
	enum mfs_code code;
	int n;

	(void)f;
	if ((code = want_text(w, y, key)) != MFS_OK)
		return code;
	p = y->text;
	while (strncmp(p, "./", 2) == 0)
		p += 2;
	if (p[0] == '/' || slash == NULL)
		n = snprintf(path, sizeof(path), "%s", p);
	else
		n = snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - y->file), y->file, p);
	if (n < 0 || (size_t)n >= sizeof(path))
		return mfs_yaml_fail(y, key, w->err, "path longer than %d bytes", PATH_MAX - 1);
	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
	return store_text(w, path, dst);
}

/* Each item by fn, a reader of a char *, into a list of the length of y. */
static enum mfs_code
each(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, mfs_read_fn *fn, void *dst)
{
	char ***out = dst, **list = NULL;
	enum mfs_code code = MFS_OK;

	if (y->kind != MFS_YAML_SEQUENCE)
		return mfs_yaml_fail(y, key, w->err, "must be a list, such as [a, b]");
	if (out != NULL && (list = calloc(y->n + 1, sizeof(*list))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; code == MFS_OK && i < y->n; i++)
		code = fn(w, y->kids[i], key, NULL, list != NULL ? &list[i] : NULL);
	if (out == NULL)
		return code;
	for (size_t i = 0; *out != NULL && (*out)[i] != NULL; i++)
		free((*out)[i]);
	free(*out);
	*out = list; /* also on failure: the configuration owns it */
	return code;
}

enum mfs_code
mfs_read_file_uri(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_yaml rest = { .kind = MFS_YAML_SCALAR, .file = y->file, .line = y->line, .column = y->column,
		.text = y->text + strlen("file:") };
	mfs_autofree char *path = NULL;
	char uri[PATH_MAX + 8];
	enum mfs_code code;

	if ((code = mfs_read_path(w, &rest, key, f, &path)) != MFS_OK)
		return code;
	(void)snprintf(uri, sizeof(uri), "file:%s", path);
	return store_text(w, uri, dst);
}

enum mfs_code
mfs_read_paths(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	return each(w, y, key, mfs_read_path, dst);
}

enum mfs_code
mfs_read_texts(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	return each(w, y, key, mfs_read_text, dst);
}

enum mfs_code
mfs_read_command(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code = mfs_read_texts(w, y, key, f, dst);

	if (code != MFS_OK)
		return code;
	if (y->n == 0 || y->kids[0]->text[0] != '/')
		return mfs_yaml_fail(y, key, w->err, "must start with an absolute program, such as [/usr/bin/true]");
	return MFS_OK;
}

/* ---- numbers ------------------------------------------------------------------------------------ */

enum mfs_code
mfs_read_bool(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	bool v;

	(void)f;
	if (y->kind == MFS_YAML_SCALAR && y->plain && strcmp(y->text, "true") == 0)
		v = true;
	else if (y->kind == MFS_YAML_SCALAR && y->plain && strcmp(y->text, "false") == 0)
		v = false;
	else
		return mfs_yaml_fail(y, key, w->err, "must be true or false");
	if (dst != NULL)
		*(bool *)dst = v;
	return MFS_OK;
}

/* Decimal digits at *s; advances. false: none, or too large. */
static bool
take_digits(const char **s, uint64_t *out)
{
	const char *p = *s;
	uint64_t v = 0;

	while (*p >= '0' && *p <= '9') {
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
		p++;
	}
	if (p == *s)
		return false;
	*s = p;
	*out = v;
	return true;
}

enum mfs_code
mfs_read_unsigned(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const unsigned *range = f->arg;
	const char *p;
	uint64_t v;

	if (y->kind != MFS_YAML_SCALAR || !y->plain || (p = y->text, !take_digits(&p, &v)) || *p != '\0' ||
		v < range[0] || v > range[1])
		return mfs_yaml_fail(y, key, w->err, "must be a whole number from %u to %u", range[0], range[1]);
	if (dst != NULL)
		*(unsigned *)dst = (unsigned)v;
	return MFS_OK;
}

enum mfs_code
mfs_read_release(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const char *p;
	uint64_t v;

	(void)f;
	if (y->kind != MFS_YAML_SCALAR || !y->plain || (p = y->text, !take_digits(&p, &v)) || *p != '\0' || v < 1 ||
		v > (uint64_t)MFS_JSON_INT_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be a whole number from 1 to %lld", MFS_JSON_INT_MAX);
	if (dst != NULL)
		*(int64_t *)dst = (int64_t)v;
	return MFS_OK;
}

struct unit {
	const char *name;
	uint64_t factor;
};

/* Digits and one of the units, nothing else. */
static bool
take_unit(const struct mfs_yaml *y, const struct unit *units, uint64_t *out)
{
	const char *p = y->text;

	if (y->kind != MFS_YAML_SCALAR || !take_digits(&p, out))
		return false;
	for (; units->name != NULL; units++)
		if (strcmp(p, units->name) == 0)
			return !__builtin_mul_overflow(*out, units->factor, out) && *out <= INT64_MAX;
	return false;
}

enum mfs_code
mfs_read_duration(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	static const struct unit units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 },
		{ "d", 86400000 }, { "w", 604800000 }, { NULL, 0 } };
	uint64_t v = 0;

	(void)f;
	if (!(y->kind == MFS_YAML_SCALAR && strcmp(y->text, "0") == 0) && !take_unit(y, units, &v))
		return mfs_yaml_fail(y, key, w->err, "must be a time with a unit (ms, s, m, h, d, w), such as 10s");
	if (dst != NULL)
		*(int64_t *)dst = (int64_t)v;
	return MFS_OK;
}

static const struct unit sizes[] = { { "B", 1 }, { "kB", 1000 }, { "KB", 1000 }, { "MB", 1000000 },
	{ "GB", 1000000000 }, { "TB", 1000000000000 }, { "KiB", 1u << 10 }, { "MiB", 1u << 20 }, { "GiB", 1u << 30 },
	{ "TiB", 1ull << 40 }, { NULL, 0 } };

enum mfs_code
mfs_read_size(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	uint64_t v = 0;

	(void)f;
	if (!take_unit(y, sizes, &v))
		return mfs_yaml_fail(y, key, w->err, "must be a size with a unit (B, kB, MB, GB, KiB, MiB, GiB), such as 2GB");
	if (dst != NULL)
		*(uint64_t *)dst = v;
	return MFS_OK;
}

enum mfs_code
mfs_read_rate(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	static const struct unit rates[] = { { "B/s", 1 }, { "kB/s", 1000 }, { "KB/s", 1000 }, { "MB/s", 1000000 },
		{ "GB/s", 1000000000 }, { "KiB/s", 1u << 10 }, { "MiB/s", 1u << 20 }, { "GiB/s", 1u << 30 }, { NULL, 0 } };
	uint64_t v = 0;

	(void)f;
	if (!take_unit(y, rates, &v))
		return mfs_yaml_fail(y, key, w->err, "must be a rate, such as 10MB/s");
	if (dst != NULL)
		*(uint64_t *)dst = v;
	return MFS_OK;
}

enum mfs_code
mfs_read_share(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	static const struct unit percent[] = { { "%", 1 }, { NULL, 0 } };
	uint64_t v = 0;

	(void)f;
	if (!(take_unit(y, percent, &v) && v <= 100) && !(take_unit(y, sizes, &v) && v > 100))
		return mfs_yaml_fail(y, key, w->err, "must be a share from 0%% to 100%% or a size, such as 25%% or 2GB");
	if (dst != NULL)
		*(uint64_t *)dst = v;
	return MFS_OK;
}

/* 0 to 1 in millionths. */
enum mfs_code
mfs_read_fraction(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const char *p = y->kind == MFS_YAML_SCALAR ? y->text : "", *point;
	uint64_t whole = 0, part = 0;
	bool ok = take_digits(&p, &whole);

	(void)f;
	if (ok && *p == '.') {
		point = ++p;
		ok = take_digits(&p, &part) && p - point <= 6;
		for (ptrdiff_t i = p - point; ok && i < 6; i++)
			part *= 10;
	}
	if (!ok || *p != '\0' || whole > 1 || (whole == 1 && part > 0))
		return mfs_yaml_fail(y, key, w->err, "must be a number from 0 to 1, such as 0.1");
	if (dst != NULL)
		*(unsigned *)dst = (unsigned)(whole * 1000000 + part);
	return MFS_OK;
}

enum mfs_code
mfs_read_choice(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const char *const *choices = f->arg;
	char all[160] = "";
	size_t len = 0;

	for (int i = 0; choices[i] != NULL; i++) {
		if (y->kind == MFS_YAML_SCALAR && strcmp(y->text, choices[i]) == 0) {
			if (dst != NULL)
				*(int *)dst = i;
			return MFS_OK;
		}
		if (len < sizeof(all))
			len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i > 0 ? ", " : "", choices[i]);
	}
	return mfs_yaml_fail(y, key, w->err, "must be one of: %s", all);
}

enum mfs_code
mfs_read_sha256(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_sha256 v;

	(void)f;
	if (y->kind != MFS_YAML_SCALAR || !mfs_hex_decode(v.b, sizeof(v.b), y->text, strlen(y->text)))
		return mfs_yaml_fail(y, key, w->err, "must be a SHA-256: 64 lower-case hex digits");
	if (dst != NULL)
		*(struct mfs_sha256 *)dst = v;
	return MFS_OK;
}
