/* SPDX-License-Identifier: Apache-2.0 */
#include "trustfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

enum mfs_code
mfs_trustfile_load(struct mfs_repo *r, struct mfs_trustlist **out, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if (mfs_repo_target(&r->targets, MFS_TRUSTFILE_PATH) == NULL)
		return mfs_trustlist_new(out, err);
	code = mfs_repo_target_read(r, "targets", MFS_TRUSTFILE_PATH, MFS_TRUSTLIST_BYTES_MAX, &bytes, &len, err);
	return code == MFS_OK ? mfs_trustlist_parse(MFS_SPAN(bytes, len), out, err) : code;
}

enum mfs_code
mfs_trustfile_store(struct mfs_repo *r, const struct mfs_trustlist *list, struct mfs_err *err)
{
	mfs_autofree char *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_trustlist_json(list, &bytes, &len, err)) != MFS_OK)
		return code;
	return mfs_repo_target_put(r, "targets", MFS_TRUSTFILE_PATH, MFS_SPAN(bytes, len), err);
}

enum mfs_code
mfs_trustfile_add(struct mfs_trustlist *list, const char *path, int64_t epoch, const char *const *models,
	struct mfs_err *err)
{
	mfs_autofree uint8_t *pem = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_file_read(AT_FDCWD, path, 64u << 10, &pem, &len, err)) != MFS_OK)
		return code;
	return mfs_trustlist_add_pem(list, MFS_ESC(path), MFS_SPAN(pem, len), epoch, models, err);
}

static bool
is_model_key(const char *file)
{
	static const char *const roles[] = { "root", "targets", "policy", "snapshot", "timestamp" };
	const size_t len = strlen(file);

	if (file[0] == '.' || len < 9 || strcmp(file + len - 8, ".pub.pem") != 0)
		return false;
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		const size_t n = strlen(roles[i]);

		if (strncmp(file, roles[i], n) == 0 && (file[n] == '.' || file[n] == '-'))
			return false;
	}
	return true;
}

enum mfs_code
mfs_trustfile_folder(struct mfs_trustlist *list, const char *dir, struct mfs_err *err)
{
	mfs_autodir DIR *d = dir != NULL ? opendir(dir) : NULL;
	const struct dirent *e;

	if (d == NULL)
		return dir == NULL || errno == ENOENT ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(dir));
	while ((e = readdir(d)) != NULL) {
		mfs_autofree char *path = NULL;
		enum mfs_code code;

		if (!is_model_key(e->d_name))
			continue;
		if (asprintf(&path, "%s/%s", dir, e->d_name) < 0)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(dir));
		if ((code = mfs_trustfile_add(list, path, 1, NULL, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}
