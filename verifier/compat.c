/* SPDX-License-Identifier: Apache-2.0 */
/* Does this host fit the manifest's compat object? What the host does not say counts as no. */
#include "internal.h"

#include <inttypes.h>

static enum mfs_code
platform_check(const struct mfs_compat *c, const struct mfs_device *d, struct mfs_err *err)
{
	if (c->platforms == NULL)
		return MFS_OK;
	for (size_t i = 0; d->platform != NULL && c->platforms[i] != NULL; i++)
		if (strcmp(c->platforms[i], d->platform) == 0)
			return MFS_OK;
	return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME, "compat.platforms: '%s'%s wanted, this host is '%s'",
		MFS_ESC(c->platforms[0]), c->platforms[1] != NULL ? " or others" : "",
		d->platform != NULL ? MFS_ESC(d->platform) : "unknown");
}

static enum mfs_code
size_check(const struct mfs_compat *c, const struct mfs_device *d, struct mfs_err *err)
{
	if (c->memory > d->memory)
		return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME,
			"compat.memory: %" PRIu64 " bytes wanted, this host has %" PRIu64, c->memory, d->memory);
	if (c->page_size != 0 && (d->page_size == 0 || d->page_size > c->page_size))
		return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME,
			"compat.page_size: at most %" PRIu64 " bytes wanted, this host has %" PRIu64, c->page_size,
			d->page_size);
	return MFS_OK;
}

static const char *
value_of(const struct mfs_range *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return list[i].min;
	return NULL;
}

static enum mfs_code
labels_check(const struct mfs_compat *c, const struct mfs_device *d, struct mfs_err *err)
{
	for (size_t i = 0; i < c->n_labels; i++) {
		const struct mfs_label *l = &c->labels[i];
		const char *have = value_of(d->labels, d->n_labels, l->name);
		bool found = false;

		for (size_t k = 0; have != NULL && !found && l->values[k] != NULL; k++)
			found = strcmp(l->values[k], have) == 0;
		if (!found)
			return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME,
				"compat.labels.%s: '%s'%s wanted, this host has %s'%s' (device.labels)", MFS_ESC(l->name),
				MFS_ESC(l->values[0]), l->values[1] != NULL ? " or others" : "", have != NULL ? "" : "no ",
				have != NULL ? MFS_ESC(have) : MFS_ESC(l->name));
	}
	return MFS_OK;
}

static bool
range_holds(const struct mfs_range *r, const char *have)
{
	if (have == NULL || !mfs_version_ok(have, strlen(have)))
		return have != NULL && r->min == NULL && r->max == NULL;
	return (r->min == NULL || mfs_version_compare(have, r->min) >= 0) &&
		(r->max == NULL || mfs_version_compare(have, r->max) <= 0);
}

static enum mfs_code
range_fail(const char *field, const struct mfs_range *r, const char *have, struct mfs_err *err)
{
	return mfs_fail(err, MFS_INCOMPATIBLE_RUNTIME, "compat.%s: '%s' from %s to %s wanted, this host has %s (device.%s)",
		field, MFS_ESC(r->name), r->min != NULL ? r->min : "any", r->max != NULL ? r->max : "any",
		have != NULL ? MFS_ESC(have) : "none", field);
}

static enum mfs_code
software_check(const struct mfs_compat *c, const struct mfs_device *d, struct mfs_err *err)
{
	for (size_t i = 0; i < c->n_apps; i++) {
		const char *have = value_of(d->apps, d->n_apps, c->apps[i].name);

		if (!range_holds(&c->apps[i], have))
			return range_fail("apps", &c->apps[i], have, err);
	}
	for (size_t i = 0; i < c->n_runtimes; i++)
		if (range_holds(&c->runtimes[i], value_of(d->runtimes, d->n_runtimes, c->runtimes[i].name)))
			return MFS_OK;
	if (c->n_runtimes == 0)
		return MFS_OK;
	return range_fail("runtimes", &c->runtimes[0], value_of(d->runtimes, d->n_runtimes, c->runtimes[0].name), err);
}

static enum mfs_code
schema_check(const char *field, const struct mfs_sha256 *model, const struct mfs_sha256 *device, struct mfs_err *err)
{
	if (mfs_sha256_is_zero(device) || mfs_sha256_equal(model, device))
		return MFS_OK;
	return mfs_fail(err, MFS_INCOMPATIBLE_SCHEMA, "compat.%s: %s wanted by the application, the model has %s", field,
		MFS_HEX(device), mfs_sha256_is_zero(model) ? "none" : MFS_HEX(model));
}

enum mfs_code
mfs_compat_check(const struct mfs_manifest *m, const struct mfs_device *d, struct mfs_err *err)
{
	const struct mfs_compat *c = &m->compat;
	enum mfs_code code;

	if ((code = platform_check(c, d, err)) != MFS_OK || (code = size_check(c, d, err)) != MFS_OK ||
		(code = labels_check(c, d, err)) != MFS_OK || (code = software_check(c, d, err)) != MFS_OK ||
		(code = schema_check("input_schema_sha256", &c->input_schema, &d->input_schema, err)) != MFS_OK ||
		(code = schema_check("output_schema_sha256", &c->output_schema, &d->output_schema, err)) != MFS_OK)
		return code;
	return schema_check("preprocess_sha256", &c->preprocess, &d->preprocess, err);
}
