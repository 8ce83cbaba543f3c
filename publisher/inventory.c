/* SPDX-License-Identifier: Apache-2.0 */
#include "inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID_MAX 255 /* bytes of a device's id */

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

static enum mfs_code
text_get(const json_t *doc, const char *key, const char **out, struct mfs_err *err)
{
	const json_t *v = json_object_get(doc, key);

	*out = NULL;
	if (v == NULL || json_is_null(v))
		return MFS_OK;
	if (!json_is_string(v))
		return mfs_fail(err, MFS_MALFORMED, "%s: not a string", key);
	*out = json_string_value(v);
	return MFS_OK;
}

static enum mfs_code
size_get(const json_t *doc, const char *key, uint64_t *out, struct mfs_err *err)
{
	const json_t *v = json_object_get(doc, key);

	*out = 0;
	if (v == NULL || json_is_null(v))
		return MFS_OK;
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: not a number of bytes", key);
	*out = (uint64_t)json_integer_value(v);
	return MFS_OK;
}

/* {name: text}; the text stays the document's. */
static enum mfs_code
pairs_get(const json_t *doc, const char *key, struct mfs_range *list, size_t *n, struct mfs_err *err)
{
	json_t *o = json_object_get(doc, key);

	*n = 0;
	if (o == NULL || json_is_null(o))
		return MFS_OK;
	if (!json_is_object(o))
		return mfs_fail(err, MFS_MALFORMED, "%s: not an object", key);
	if (json_object_size(o) > MFS_INVENTORY_ENTRIES)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu entries, limit %u", key, json_object_size(o),
			MFS_INVENTORY_ENTRIES);
	for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
		const char *value = json_string_value(json_object_iter_value(it));

		if (value == NULL)
			return mfs_fail(err, MFS_MALFORMED, "%s.%s: not a string", key, MFS_ESC(json_object_iter_key(it)));
		list[(*n)++] = (struct mfs_range){ .name = (char *)(uintptr_t)json_object_iter_key(it),
			.min = (char *)(uintptr_t)value };
	}
	return MFS_OK;
}

static enum mfs_code
fields_get(struct mfs_inventory_device *d, struct mfs_err *err)
{
	struct mfs_policy_device *f = &d->facts;
	struct mfs_device *c = &d->compat;
	enum mfs_code code;

	if ((code = text_get(d->doc, "id", &f->id, err)) != MFS_OK)
		return code;
	if (f->id == NULL || f->id[0] == '\0' || strlen(f->id) > ID_MAX)
		return mfs_fail(err, MFS_MALFORMED, "id: wanted, 1 to %d bytes", ID_MAX);
	if ((code = text_get(d->doc, "class", &f->class, err)) != MFS_OK ||
		(code = text_get(d->doc, "region", &f->region, err)) != MFS_OK ||
		(code = text_get(d->doc, "channel", &f->channel, err)) != MFS_OK ||
		(code = text_get(d->doc, "platform", &c->platform, err)) != MFS_OK ||
		(code = size_get(d->doc, "memory", &c->memory, err)) != MFS_OK ||
		(code = size_get(d->doc, "page_size", &c->page_size, err)) != MFS_OK ||
		(code = pairs_get(d->doc, "labels", d->labels, &f->n_labels, err)) != MFS_OK ||
		(code = pairs_get(d->doc, "apps", d->apps, &f->n_apps, err)) != MFS_OK ||
		(code = pairs_get(d->doc, "runtimes", d->runtimes, &c->n_runtimes, err)) != MFS_OK)
		return code;
	f->labels = c->labels = d->labels;
	f->apps = c->apps = d->apps;
	c->runtimes = d->runtimes;
	c->n_labels = f->n_labels;
	c->n_apps = f->n_apps;
	d->models = json_object_get(d->doc, "models");
	if (d->models != NULL && !json_is_array(d->models))
		return mfs_fail(err, MFS_MALFORMED, "models: not a list of model ids");
	return MFS_OK;
}

enum mfs_code
mfs_inventory_device(struct mfs_span line, struct mfs_inventory_device *out, struct mfs_err *err)
{
	json_error_t je;

	mfs_inventory_device_clear(out);
	out->facts = (struct mfs_policy_device){ 0 };
	out->compat = (struct mfs_device){ 0 };
	if ((out->doc = json_loadb((const char *)line.p, line.len, JSON_REJECT_DUPLICATES, &je)) == NULL) {
		if (json_error_code(&je) == json_error_out_of_memory)
			return mfs_fail(err, MFS_NO_MEMORY, "a device");
		return mfs_fail(err, MFS_MALFORMED, "byte %d: not JSON: %s", je.position, MFS_ESC(je.text));
	}
	if (!json_is_object(out->doc))
		return mfs_fail(err, MFS_MALFORMED, "not a JSON object: one device per line is wanted (jq -c '.[]' makes that of a list)");
	return fields_get(out, err);
}

void
mfs_inventory_device_clear(struct mfs_inventory_device *d)
{
	json_decref(d->doc);
	d->doc = d->models = NULL;
}
