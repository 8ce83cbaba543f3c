/* SPDX-License-Identifier: Apache-2.0 */
#include "inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jsonline.h"

struct mfs_inventory {
	pthread_mutex_t lock; /* over all of it */
	char *path;
	int fd;
	char *carry; /* the beginning of a line whose end was not read yet; MFS_INVENTORY_BLOCK bytes */
	size_t n_carry;
	uint64_t blocks, line;
	bool end;
};

enum mfs_code
mfs_inventory_open(const char *path, struct mfs_inventory **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_inventory) struct mfs_inventory *v = calloc(1, sizeof(*v));

	*out = NULL;
	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "--devices");
	v->fd = -1;
	(void)pthread_mutex_init(&v->lock, NULL);
	v->line = 1;
	if ((v->carry = malloc(MFS_INVENTORY_BLOCK)) == NULL || (v->path = strdup(path)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "--devices");
	v->fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
	if (v->fd < 0)
		return mfs_fail_sys(err, MFS_IO, "--devices %s", MFS_ESC(path));
	*out = mfs_steal(&v);
	return MFS_OK;
}

void
mfs_inventory_free(struct mfs_inventory *v)
{
	if (v == NULL)
		return;
	mfs_cleanup_close(&v->fd);
	(void)pthread_mutex_destroy(&v->lock);
	free(v->carry);
	free(v->path);
	free(v);
}

/* As much as there is up to MFS_INVENTORY_BLOCK bytes. */
static enum mfs_code
block_fill(struct mfs_inventory *v, struct mfs_inventory_block *b, struct mfs_err *err)
{
	memcpy(b->text, v->carry, v->n_carry);
	b->len = v->n_carry;
	v->n_carry = 0;
	while (!v->end && b->len < MFS_INVENTORY_BLOCK) {
		const ssize_t n = read(v->fd, b->text + b->len, MFS_INVENTORY_BLOCK - b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return mfs_fail_sys(err, MFS_IO, "--devices %s", MFS_ESC(v->path));
		v->end = n == 0;
		b->len += (size_t)n;
	}
	return MFS_OK;
}

static enum mfs_code
block_next(struct mfs_inventory *v, struct mfs_inventory_block *b, struct mfs_err *err)
{
	const char *last;
	enum mfs_code code;
	size_t whole;

	if ((code = block_fill(v, b, err)) != MFS_OK)
		return code;
	b->number = v->blocks++;
	b->line = v->line;
	if (!v->end) {
		if ((last = memrchr(b->text, '\n', b->len)) == NULL)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "--devices %s: line %llu: longer than %u bytes: one device per line is "
				"wanted, as 'modelfs device --json' prints it", MFS_ESC(v->path), (unsigned long long)v->line,
				MFS_INVENTORY_BLOCK);
		whole = (size_t)(last - b->text) + 1;
		v->n_carry = b->len - whole;
		memcpy(v->carry, b->text + whole, v->n_carry);
		b->len = whole;
	}
	for (const char *p = b->text; (p = memchr(p, '\n', b->len - (size_t)(p - b->text))) != NULL; p++)
		v->line++;
	return MFS_OK;
}

enum mfs_code
mfs_inventory_next(struct mfs_inventory *v, struct mfs_inventory_block *b, struct mfs_err *err)
{
	enum mfs_code code;

	b->len = 0;
	if (b->text == NULL && (b->text = malloc(MFS_INVENTORY_BLOCK)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "--devices");
	(void)pthread_mutex_lock(&v->lock);
	code = v->end && v->n_carry == 0 ? MFS_OK : block_next(v, b, err);
	if (code != MFS_OK)
		b->len = 0;
	(void)pthread_mutex_unlock(&v->lock);
	return code;
}

/* ---- one device ------------------------------------------------------------------------------------ */

/* Where a message lies: at the field, or at the byte where the line is no JSON. */
static enum mfs_code
line_bad(const struct mfs_jsonline *j, const char *key, const char *why, struct mfs_err *err)
{
	if (j->bad != NULL)
		return mfs_fail(err, MFS_MALFORMED, "byte %zu: not JSON: %s", j->bad_at, j->bad);
	return mfs_fail(err, MFS_MALFORMED, "%s: %s", key, why);
}

/* null is as good as absent. */
static bool
is_null(struct mfs_jsonline *j)
{
	return mfs_jsonline_kind(j) == 'n' && mfs_jsonline_skip(j);
}

static enum mfs_code
text_get(struct mfs_jsonline *j, const char *key, const char **out, struct mfs_err *err)
{
	char *s;

	*out = NULL;
	if (is_null(j))
		return MFS_OK;
	if (mfs_jsonline_kind(j) != '"' || !mfs_jsonline_string(j, &s))
		return line_bad(j, key, "not a string", err);
	*out = s;
	return MFS_OK;
}

static enum mfs_code
size_get(struct mfs_jsonline *j, const char *key, uint64_t *out, struct mfs_err *err)
{
	int64_t n = 0;

	if (is_null(j))
		return MFS_OK;
	if (mfs_jsonline_kind(j) != '0' || !mfs_jsonline_integer(j, &n) || n < 0)
		return line_bad(j, key, "not a number of bytes", err);
	*out = (uint64_t)n;
	return MFS_OK;
}

/* {name: text} */
static enum mfs_code
pairs_get(struct mfs_jsonline *j, const char *key, struct mfs_range *list, size_t *n, struct mfs_err *err)
{
	char *name, *value;

	if (is_null(j))
		return MFS_OK;
	if (mfs_jsonline_kind(j) != '{')
		return line_bad(j, key, "not an object", err);
	for (bool first = true; mfs_jsonline_member(j, &first, &name);) {
		if (*n == MFS_INVENTORY_ENTRIES)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %u entries", key, MFS_INVENTORY_ENTRIES);
		for (size_t i = 0; i < *n; i++)
			if (strcmp(list[i].name, name) == 0)
				return mfs_fail(err, MFS_MALFORMED, "%s.%s: twice", key, MFS_ESC(name));
		if (mfs_jsonline_kind(j) != '"' || !mfs_jsonline_string(j, &value))
			return j->bad != NULL ? line_bad(j, key, "", err)
					      : mfs_fail(err, MFS_MALFORMED, "%s.%s: not a string", key, MFS_ESC(name));
		list[(*n)++] = (struct mfs_range){ .name = name, .min = value };
	}
	return j->bad == NULL ? MFS_OK : line_bad(j, key, "", err);
}

static enum mfs_code
models_get(struct mfs_jsonline *j, struct mfs_inventory_device *d, struct mfs_err *err)
{
	char *s;

	if (is_null(j))
		return MFS_OK;
	if (mfs_jsonline_kind(j) != '[')
		return line_bad(j, "models", "not a list of model ids", err);
	d->some_models = true;
	for (bool first = true; mfs_jsonline_item(j, &first);) {
		if (mfs_jsonline_kind(j) != '"' || !mfs_jsonline_string(j, &s))
			return line_bad(j, "models", "not a list of model ids", err);
		if (d->n_models == MFS_INVENTORY_ENTRIES)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "models: more than %u", MFS_INVENTORY_ENTRIES);
		d->models[d->n_models++] = s;
	}
	return j->bad == NULL ? MFS_OK : line_bad(j, "models", "", err);
}

enum field { ID, CLASS, REGION, CHANNEL, PLATFORM, LABELS, APPS, RUNTIMES, CHANNELS, MEMORY, PAGE_SIZE, MODELS, OTHER };

static enum field
field_of(const char *key)
{
	static const char *const names[] = { "id", "class", "region", "channel", "platform", "labels", "apps", "runtimes",
		"channels", "memory", "page_size", "models" };
	unsigned i = 0;

	while (i < OTHER && strcmp(names[i], key) != 0)
		i++;
	return (enum field)i;
}

static enum mfs_code
field_get(struct mfs_jsonline *j, const char *key, enum field field, struct mfs_inventory_device *d, struct mfs_err *err)
{
	switch (field) {
	case ID:
		return text_get(j, key, &d->facts.id, err);
	case CLASS:
		return text_get(j, key, &d->facts.class, err);
	case REGION:
		return text_get(j, key, &d->facts.region, err);
	case CHANNEL:
		return text_get(j, key, &d->facts.channel, err);
	case PLATFORM:
		return text_get(j, key, &d->compat.platform, err);
	case LABELS:
		return pairs_get(j, key, d->labels, &d->facts.n_labels, err);
	case APPS:
		return pairs_get(j, key, d->apps, &d->facts.n_apps, err);
	case RUNTIMES:
		return pairs_get(j, key, d->runtimes, &d->compat.n_runtimes, err);
	case CHANNELS:
		return pairs_get(j, key, d->channels, &d->n_channels, err);
	case MEMORY:
		return size_get(j, key, &d->compat.memory, err);
	case PAGE_SIZE:
		return size_get(j, key, &d->compat.page_size, err);
	case MODELS:
		return models_get(j, d, err);
	case OTHER:
		break;
	}
	return mfs_jsonline_skip(j) ? MFS_OK : line_bad(j, key, "", err);
}

enum mfs_code
mfs_inventory_device(char *line, size_t len, struct mfs_inventory_device *out, struct mfs_err *err)
{
	unsigned seen = 0;
	struct mfs_jsonline j;
	enum mfs_code code;
	char *key;

	mfs_jsonline_init(&j, line, len);
	out->facts = (struct mfs_policy_device){ 0 };
	out->compat = (struct mfs_device){ 0 };
	out->n_models = out->n_channels = 0;
	out->some_models = false;
	if (mfs_jsonline_kind(&j) != '{')
		return mfs_fail(err, MFS_MALFORMED, "not a JSON object: one device per line is wanted (jq -c '.[]' makes that of a list)");
	for (bool first = true; mfs_jsonline_member(&j, &first, &key);) {
		const enum field field = field_of(key);

		if (field != OTHER && (seen & 1u << field) != 0)
			return mfs_fail(err, MFS_MALFORMED, "%s: twice", key);
		seen |= 1u << field;
		if ((code = field_get(&j, key, field, out, err)) != MFS_OK)
			return code;
	}
	if (!mfs_jsonline_end(&j))
		return line_bad(&j, "", "", err);
	if (out->facts.id == NULL || out->facts.id[0] == '\0' || strlen(out->facts.id) > MFS_INVENTORY_ID_MAX)
		return mfs_fail(err, MFS_MALFORMED, "id: wanted, 1 to %u bytes", MFS_INVENTORY_ID_MAX);
	out->facts.labels = out->compat.labels = out->labels;
	out->facts.apps = out->compat.apps = out->apps;
	out->compat.runtimes = out->runtimes;
	out->compat.n_labels = out->facts.n_labels;
	out->compat.n_apps = out->facts.n_apps;
	return MFS_OK;
}
