/* SPDX-License-Identifier: Apache-2.0 */
/* engine_help.h - a device, for the tests of the engine. */
#ifndef ENGINE_HELP_H
#define ENGINE_HELP_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cut.h"
#include "device.h"

static struct device d;

static inline void
setup(void)
{
	device_make(&d, "");
}

static inline void
teardown(void)
{
	device_free(&d);
}

/* Version 1.RELEASE.0 with files of its own. */
static inline struct mk_bundle
bundle_of(int64_t release, const char *version, struct mk_file *file)
{
	*file = (struct mk_file){ "model.bin", 100000, (unsigned)release };
	return (struct mk_bundle){ .version = version, .release = release, .files = file, .n_files = 1,
		.model_key = &d.model_key };
}

static inline struct mfs_sha256
install(int64_t release)
{
	char version[32];
	struct mk_file file;
	struct mk_bundle b;
	struct mfs_sha256 id;

	(void)snprintf(version, sizeof(version), "1.%d.0", (int)release);
	b = bundle_of(release, version, &file);
	device_install(&d, &b, &id);
	return id;
}

/* Copy only: the manifest and its blobs stand in the store. */
static inline struct mfs_sha256
copied(const struct mk_bundle *b)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	device_bundle(&d, b, "copied", NULL);
	cr_assert_eq(device_copy(&d, "copied", &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "copied");
	return id;
}

static inline struct mfs_sha256
copied_release(int64_t release, const char *version)
{
	struct mk_file file;
	struct mk_bundle b = bundle_of(release, version, &file);

	return copied(&b);
}

/* "1.2.0" of the active version, "" without one; the model's view into *m. */
static inline const char *
active(struct mfs_engine_model *m)
{
	static char version[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, m, &err), MFS_OK, "%s", err.msg);
	version[0] = '\0';
	for (size_t i = 0; i < m->n; i++)
		if (m->versions[i].active)
			(void)snprintf(version, sizeof(version), "%s", m->versions[i].v->m->version);
	return version;
}

static inline void
active_is(const char *version)
{
	struct mfs_engine_model m;

	cr_assert_str_eq(active(&m), version);
	mfs_engine_model_free(&m);
}

static inline void
refused(const struct mfs_sha256 *id, enum mfs_code code, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code got = device_activate(&d, id, &err);

	cr_assert_eq(got, code, "%s: %s", mfs_code_name(got), err.msg);
	cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
}

static inline void
manifest_path(char *out, size_t cap, const struct mfs_sha256 *id, const char *file)
{
	(void)snprintf(out, cap, "manifests/%s/%s", MFS_HEX(id), file);
}

#endif
