/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest's compat object: modelfs-bundle(5), COMPAT. */
#include "internal.h"

#define TEXT_MAX 255 /* bytes of a label, a value, an application's or a runtime's name */

static void
strings_free(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

static void
ranges_free(struct mfs_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(r[i].name);
		free(r[i].min);
		free(r[i].max);
	}
	free(r);
}

void
mfs_compat_clear(struct mfs_compat *c)
{
	strings_free(c->platforms);
	for (size_t i = 0; i < c->n_labels; i++) {
		free(c->labels[i].name);
		strings_free(c->labels[i].values);
	}
	free(c->labels);
	ranges_free(c->apps, c->n_apps);
	ranges_free(c->runtimes, c->n_runtimes);
	for (size_t i = 0; i < c->n_depends; i++)
		free(c->depends[i].model_id);
	free(c->depends);
	*c = (struct mfs_compat){ 0 };
}

/* A list of distinct strings of 1 to TEXT_MAX bytes, NULL-terminated. */
static enum mfs_code
strings_parse(const json_t *o, const struct mfs_at *at, const char *key, char ***out, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, key, MFS_OPTIONAL, 1, MFS_COMPAT_ENTRIES_MAX, &a, err)) != MFS_OK || a == NULL)
		return code;
	if ((*out = calloc(json_array_size(a) + 1, sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %s", at->doc, key);
	for (size_t i = 0; i < json_array_size(a); i++) {
		const struct mfs_at item = mfs_at_item(at, key, i);
		const json_t *v = json_array_get(a, i);

		if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > TEXT_MAX)
			return mfs_field_bad(&item, "", err, "not a string of 1 to %d bytes", TEXT_MAX);
		for (size_t k = 0; k < i; k++)
			if (strcmp((*out)[k], json_string_value(v)) == 0)
				return mfs_field_bad(&item, "", err, "the same as %s[%zu]", key, k);
		if ((code = mfs_strdup(json_string_value(v), &(*out)[i], err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* "linux/amd64", "linux/arm/v7" */
static bool
platform_ok(const char *s)
{
	int slashes = 0;
	size_t len = 0;

	for (;; s++) {
		if (*s == '/' || *s == '\0') {
			if (len == 0)
				return false;
			if (*s == '\0')
				return slashes == 1 || slashes == 2;
			slashes++;
			len = 0;
		} else if ((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_') {
			len++;
		} else {
			return false;
		}
	}
}

static enum mfs_code
platforms_parse(const json_t *o, const struct mfs_at *at, struct mfs_compat *c, struct mfs_err *err)
{
	enum mfs_code code = strings_parse(o, at, "platforms", &c->platforms, err);

	if (code != MFS_OK || c->platforms == NULL)
		return code;
	for (size_t i = 0; c->platforms[i] != NULL; i++) {
		const struct mfs_at item = mfs_at_item(at, "platforms", i);

		if (!platform_ok(c->platforms[i]))
			return mfs_field_bad(&item, "", err, "'%s' is not of the form \"linux/amd64\"",
				MFS_ESC(c->platforms[i]));
	}
	return MFS_OK;
}

static enum mfs_code
labels_parse(const json_t *o, const struct mfs_at *at, struct mfs_compat *c, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "labels");
	enum mfs_code code;
	json_t *labels;

	if ((code = mfs_field_object(o, at, "labels", MFS_OPTIONAL, &labels, err)) != MFS_OK || labels == NULL)
		return code;
	if (json_object_size(labels) > MFS_COMPAT_ENTRIES_MAX)
		return mfs_field_bad(at, "labels", err, "%zu labels, limit %u", json_object_size(labels),
			MFS_COMPAT_ENTRIES_MAX);
	if (json_object_size(labels) == 0)
		return MFS_OK;
	if ((c->labels = calloc(json_object_size(labels), sizeof(*c->labels))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "labels");
	for (void *it = json_object_iter(labels); it != NULL; it = json_object_iter_next(labels, it)) {
		const char *name = json_object_iter_key(it);
		struct mfs_label *l = &c->labels[c->n_labels++];
		char **values = NULL;

		if (strlen(name) == 0 || strlen(name) > TEXT_MAX)
			return mfs_field_bad(&sub, MFS_ESC(name), err, "a label's name has 1 to %d bytes", TEXT_MAX);
		if ((code = mfs_strdup(name, &l->name, err)) != MFS_OK)
			return code;
		code = strings_parse(labels, &sub, name, &values, err);
		l->values = values; /* as far as it came: released with the manifest */
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
range_bound(const json_t *o, const struct mfs_at *at, const char *key, char **out, struct mfs_err *err)
{
	enum mfs_code code;
	const char *s;

	if ((code = mfs_field_string(o, at, key, MFS_OPTIONAL, MFS_VERSION_MAX, &s, err)) != MFS_OK || s == NULL)
		return code;
	if (!mfs_version_ok(s, strlen(s)))
		return mfs_field_bad(at, key, err, "'%s' is not a semantic version without build metadata", MFS_ESC(s));
	return mfs_strdup(s, out, err);
}

static enum mfs_code
ranges_parse(const json_t *o, const struct mfs_at *at, const char *key, struct mfs_range **out, size_t *n,
	struct mfs_err *err)
{
	enum mfs_code code;
	const char *name;
	json_t *a;

	if ((code = mfs_field_array(o, at, key, MFS_OPTIONAL, 0, MFS_COMPAT_ENTRIES_MAX, &a, err)) != MFS_OK || a == NULL ||
		json_array_size(a) == 0)
		return code;
	if ((*out = calloc(json_array_size(a), sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %s", at->doc, key);
	*n = json_array_size(a);
	for (size_t i = 0; i < *n; i++) {
		const struct mfs_at item = mfs_at_item(at, key, i);
		const json_t *v = json_array_get(a, i);
		struct mfs_range *r = &(*out)[i];

		if (!json_is_object(v))
			return mfs_field_bad(&item, "", err, "not an object");
		if ((code = mfs_field_string(v, &item, "name", MFS_REQUIRED, TEXT_MAX, &name, err)) != MFS_OK ||
			(code = mfs_strdup(name, &r->name, err)) != MFS_OK ||
			(code = range_bound(v, &item, "min", &r->min, err)) != MFS_OK ||
			(code = range_bound(v, &item, "max", &r->max, err)) != MFS_OK)
			return code;
		if (r->min != NULL && r->max != NULL && mfs_version_compare(r->min, r->max) > 0)
			return mfs_field_bad(&item, "min", err, "%s is above max %s", r->min, r->max);
	}
	return MFS_OK;
}

static enum mfs_code
depends_parse(const json_t *o, const struct mfs_at *at, const struct mfs_manifest *m, struct mfs_compat *c,
	struct mfs_err *err)
{
	enum mfs_code code;
	const char *id;
	json_t *a;

	if ((code = mfs_field_array(o, at, "depends", MFS_OPTIONAL, 0, MFS_COMPAT_ENTRIES_MAX, &a, err)) != MFS_OK ||
		a == NULL || json_array_size(a) == 0)
		return code;
	if ((c->depends = calloc(json_array_size(a), sizeof(*c->depends))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "depends");
	c->n_depends = json_array_size(a);
	for (size_t i = 0; i < c->n_depends; i++) {
		const struct mfs_at item = mfs_at_item(at, "depends", i);
		const json_t *v = json_array_get(a, i);
		struct mfs_depend *d = &c->depends[i];

		d->min_release = d->max_release = -1;
		if (!json_is_object(v))
			return mfs_field_bad(&item, "", err, "not an object");
		if ((code = mfs_field_string(v, &item, "model_id", MFS_REQUIRED, MFS_ID_MAX, &id, err)) != MFS_OK)
			return code;
		if (!mfs_model_id_ok(id, strlen(id)) || strcmp(id, m->model_id) == 0)
			return mfs_field_bad(&item, "model_id", err, "'%s' is not the id of another model", MFS_ESC(id));
		if ((code = mfs_strdup(id, &d->model_id, err)) != MFS_OK ||
			(code = mfs_field_int(v, &item, "min_release", MFS_OPTIONAL, 1, MFS_JSON_INT_MAX, &d->min_release,
				 err)) != MFS_OK ||
			(code = mfs_field_int(v, &item, "max_release", MFS_OPTIONAL, 1, MFS_JSON_INT_MAX, &d->max_release,
				 err)) != MFS_OK)
			return code;
		if (d->max_release != -1 && d->min_release > d->max_release)
			return mfs_field_bad(&item, "min_release", err, "above max_release");
	}
	return MFS_OK;
}

static enum mfs_code
sizes_parse(const json_t *o, const struct mfs_at *at, struct mfs_compat *c, struct mfs_err *err)
{
	int64_t memory = 0, page = 0;
	enum mfs_code code;

	if ((code = mfs_field_int(o, at, "memory", MFS_OPTIONAL, 1, MFS_JSON_INT_MAX, &memory, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "page_size", MFS_OPTIONAL, 4096, MFS_CHUNK_MAX, &page, err)) != MFS_OK)
		return code;
	if ((page & (page - 1)) != 0)
		return mfs_field_bad(at, "page_size", err, "not a power of two");
	c->memory = (uint64_t)memory;
	c->page_size = (uint64_t)page;
	return MFS_OK;
}

enum mfs_code
mfs_compat_parse(const json_t *root, const struct mfs_at *at, struct mfs_manifest *m, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "compat");
	struct mfs_compat *c = &m->compat;
	enum mfs_code code;
	json_t *o;

	if ((code = mfs_field_object(root, at, "compat", MFS_OPTIONAL, &o, err)) != MFS_OK || o == NULL)
		return code;
	if ((code = platforms_parse(o, &sub, c, err)) != MFS_OK || (code = labels_parse(o, &sub, c, err)) != MFS_OK ||
		(code = ranges_parse(o, &sub, "apps", &c->apps, &c->n_apps, err)) != MFS_OK ||
		(code = ranges_parse(o, &sub, "runtimes", &c->runtimes, &c->n_runtimes, err)) != MFS_OK ||
		(code = depends_parse(o, &sub, m, c, err)) != MFS_OK || (code = sizes_parse(o, &sub, c, err)) != MFS_OK ||
		(code = mfs_field_hex(o, &sub, "input_schema_sha256", MFS_OPTIONAL, c->input_schema.b, MFS_SHA256_LEN,
			 err)) != MFS_OK ||
		(code = mfs_field_hex(o, &sub, "output_schema_sha256", MFS_OPTIONAL, c->output_schema.b, MFS_SHA256_LEN,
			 err)) != MFS_OK)
		return code;
	return mfs_field_hex(o, &sub, "preprocess_sha256", MFS_OPTIONAL, c->preprocess.b, MFS_SHA256_LEN, err);
}
