/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in checks of a version: its files through mfs_content, so that every byte was verified. */
#include "health.h"
#include "probe.h"

static enum mfs_code
content_read(void *user, size_t file, void *buf, size_t len, uint64_t off, struct mfs_err *err)
{
	struct mfs_version *v = user;
	uint8_t *to = buf;

	while (len > 0) {
		size_t got = 0;
		enum mfs_code code = mfs_content_read(v->files[file], to, len, off, &got, err);

		if (code != MFS_OK)
			return mfs_err_context(err, "%s: ", MFS_ESC(v->m->files[file].name));
		if (got == 0)
			return mfs_fail(err, MFS_IO, "%s: ends early", MFS_ESC(v->m->files[file].name));
		to += got;
		off += got;
		len -= got;
	}
	return MFS_OK;
}

static bool
file_find(void *user, const char *name, size_t *file, uint64_t *size)
{
	const struct mfs_version *v = user;
	ssize_t i = mfs_manifest_find(v->m, name);

	if (i < 0)
		return false;
	*file = (size_t)i;
	*size = v->m->files[i].size;
	return true;
}

enum mfs_code
mfs_health_builtin(struct mfs_version *v, const _Atomic int *cancel, struct mfs_err *err)
{
	struct mfs_probe p = { .read = content_read, .find = file_find, .user = v, .cancel = cancel,
		.total = v->m->total_size };
	enum mfs_code code = MFS_OK;

	if (v->key_code != MFS_OK || v->files == NULL)
		return mfs_fail(err, v->key_code != MFS_OK ? v->key_code : MFS_KEY_UNAVAILABLE,
			"%s %s: its content cannot be opened, so it cannot be checked", v->m->model_id, v->m->version);
	for (size_t i = 0; code == MFS_OK && i < v->m->n_files; i++) {
		const struct mfs_file *f = &v->m->files[i];

		code = mfs_probe_file(&p, f->media, i, f->name, f->size, err);
	}
	mfs_probe_end(&p);
	return code;
}
