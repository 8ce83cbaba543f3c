/* SPDX-License-Identifier: Apache-2.0 */
#include "walk.h"

#include <stdlib.h>
#include <string.h>

enum mfs_code
mfs_walk_roles(struct mfs_repo *r, mfs_walk_role_fn *fn, void *arg, struct mfs_err *err)
{
	const json_t *roles = json_object_get(json_object_get(mfs_md_signed(r->targets.doc), "delegations"), "roles");
	struct mfs_repo_role *role;
	enum mfs_code code;

	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));

		if (name == NULL)
			continue;
		if ((code = mfs_repo_role(r, name, &role, err)) != MFS_OK)
			return code;
		if (role->version > 0 && (code = fn(arg, role, err)) != MFS_OK)
			return code;
	}
	if ((code = fn(arg, &r->targets, err)) != MFS_OK)
		return code;
	return fn(arg, &r->snapshot, err);
}

struct targets_walk {
	struct mfs_repo *r;
	mfs_walk_target_fn *fn;
	void *arg;
};

static enum mfs_code
targets_of(void *arg, struct mfs_repo_role *role, struct mfs_err *err)
{
	struct targets_walk *w = arg;
	json_t *targets = json_object_get(mfs_md_signed(role->doc), "targets"), *target;
	const char *path;

	json_object_foreach(targets, path, target) {
		const char *hash = json_string_value(json_object_get(json_object_get(target, "hashes"), "sha256"));
		mfs_autofree char *file = NULL;
		struct mfs_sha256 sha256;
		enum mfs_code code;

		if (hash == NULL || !mfs_hex_decode(sha256.b, MFS_SHA256_LEN, hash, strlen(hash)))
			return mfs_fail(err, MFS_MALFORMED, "%s: %s: no SHA-256", MFS_ESC(role->name), MFS_ESC(path));
		if ((file = mfs_repo_target_path(path, &sha256)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
		code = w->fn(w->arg, role, path, file, (size_t)json_integer_value(json_object_get(target, "length")), err);
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

enum mfs_code
mfs_walk_targets(struct mfs_repo *r, mfs_walk_target_fn *fn, void *arg, struct mfs_err *err)
{
	struct targets_walk w = { r, fn, arg };

	return mfs_walk_roles(r, targets_of, &w, err);
}

struct manifests_walk {
	struct mfs_repo *r;
	mfs_walk_manifest_fn *fn;
	void *arg;
};

static enum mfs_code
manifest_of(void *arg, const struct mfs_repo_role *role, const char *path, const char *file, size_t len,
	struct mfs_err *err)
{
	static const char tail[] = "/manifest.json";
	const size_t n = strlen(path);
	struct manifests_walk *w = arg;
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;

	(void)file;
	if (n < sizeof(tail) || strcmp(path + n - (sizeof(tail) - 1), tail) != 0)
		return MFS_OK;
	if ((code = mfs_repo_target_read(w->r, role->name, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
		return code;
	if ((code = mfs_manifest_parse(MFS_SPAN(bytes, len), &m, err)) != MFS_OK)
		return mfs_err_context(err, "%s: ", MFS_ESC(path));
	return w->fn(w->arg, role, path, m, err);
}

enum mfs_code
mfs_walk_manifests(struct mfs_repo *r, mfs_walk_manifest_fn *fn, void *arg, struct mfs_err *err)
{
	struct manifests_walk w = { r, fn, arg };

	return mfs_walk_targets(r, manifest_of, &w, err);
}

enum mfs_code
mfs_walk_blobs(const struct mfs_manifest *m, mfs_walk_blob_fn *fn, void *arg, struct mfs_err *err)
{
	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];
		enum mfs_code code;

		if (f->size > 0 && (code = fn(arg, &f->sha256, f->size, err)) != MFS_OK)
			return code;
		if (f->chunks > 1 && (code = fn(arg, &f->chunks_sha256, mfs_table_length(f->chunks), err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}
