/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_repo.c - `modelfs mount --repository DIR --root FILE`: the configuration that it stands for.
 *
 * It is written where commands look for one last, and goes with the mount: `status`, `update` and `unmount` find it
 * without -c. Of the repository only names of folders are read here; what they hold is verified by serve as ever.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "io.h"
#include "shm.h"

#define FOLDER "/run/modelfs"
#define NAME   "modelfs.yaml"
#define MARK   "# Made by 'modelfs mount --repository'; it goes with the mount.\n"
#define TEXT_MAX (1u << 20)

/* Is the file at path one of ours? absent: there is none. */
static bool
is_ours(const char *path, bool *absent)
{
	mfs_autofree uint8_t *text = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len = 0;

	*absent = false;
	if (mfs_file_read(AT_FDCWD, path, TEXT_MAX, &text, &len, &err) != MFS_OK) {
		*absent = err.sys_errno == ENOENT;
		return false;
	}
	return len >= strlen(MARK) && memcmp(text, MARK, strlen(MARK)) == 0;
}

/* Nobody's configuration is to be hidden by ours, nor that of a mount that lives. */
static enum mfs_code
place_check(struct mfs_err *err)
{
	static const char *const others[] = { "/usr/lib/modelfs/" NAME, "/etc/modelfs/" NAME, FOLDER "/" NAME };
	struct mfs_err unused = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;
	bool absent;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!is_ours(others[i], &absent) && !absent)
			return mfs_fail(err, MFS_CONFIG_INVALID, "--repository: %s is there: put the repository into it, or use -c FILE",
				others[i]);
	if (mfs_client_connect(NULL, &fd, &unused) == MFS_OK)
		return mfs_fail(err, MFS_CONDITION_UNMET, "--repository: something is mounted already; 'modelfs unmount' ends that");
	return MFS_OK;
}

/* A path of this host, absolute and without links. malloc'd. */
static enum mfs_code
path_find(const char *option, const char *given, bool folder, char **out, struct mfs_err *err)
{
	struct stat st;

	*out = NULL;
	if (strstr(given, "://") != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s %s: must be a %s of this host; for a URL write a configuration", option,
			MFS_ESC(given), folder ? "folder" : "file");
	if ((*out = realpath(given, NULL)) == NULL || stat(*out, &st) != 0)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "%s %s", option, MFS_ESC(given));
	if (folder ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s %s: not a %s", option, MFS_ESC(given), folder ? "folder" : "regular file");
	for (const char *c = *out; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s %s: the path holds control characters", option, MFS_ESC(*out));
	return MFS_OK;
}

static void
url_put(FILE *f, const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._~-";

	for (const char *c = path; *c != '\0'; c++)
		if (strchr(plain, *c) != NULL)
			(void)fputc(*c, f);
		else
			fprintf(f, "%%%02X", (unsigned)(unsigned char)*c);
}

/* In double quotes of YAML. */
static void
quoted_put(FILE *f, const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			(void)fputc('\\', f);
		(void)fputc(*c, f);
	}
}

/* Every model that has a folder of targets. */
static enum mfs_code
models_put(FILE *f, const char *repository, struct mfs_err *err)
{
	mfs_autofree char *path = NULL;
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;
	struct stat st;
	size_t n = 0;

	if (asprintf(&path, "%s/targets", repository) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "--repository");
	if ((d = opendir(path)) == NULL)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "--repository: %s", MFS_ESC(path));
	while ((e = readdir(d)) != NULL) {
		if (!mfs_model_id_ok(e->d_name, strlen(e->d_name)) ||
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
			continue;
		if (++n > MFS_SHM_MODELS)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "--repository: %s: more than %u models", MFS_ESC(path), MFS_SHM_MODELS);
		fprintf(f, "  \"%s\": {}\n", e->d_name);
	}
	return n > 0 ? MFS_OK : mfs_fail(err, MFS_CONFIG_INVALID, "--repository: %s: no model is published there", MFS_ESC(path));
}

static enum mfs_code
text_make(const char *repository, const char *root, char **out, size_t *len, struct mfs_err *err)
{
	FILE *f = open_memstream(out, len);
	enum mfs_code code;

	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "--repository");
	fprintf(f, "%srepository: \"file://", MARK);
	url_put(f, repository);
	fprintf(f, "\"\ntrust: {root: \"");
	quoted_put(f, root);
	fprintf(f, "\"}\nmodels:\n");
	code = models_put(f, repository, err);
	if (fclose(f) != 0 && code == MFS_OK)
		code = mfs_fail(err, MFS_NO_MEMORY, "--repository");
	if (code == MFS_OK && *len > TEXT_MAX)
		code = mfs_fail(err, MFS_LIMIT_EXCEEDED, "--repository: too many models for one configuration");
	return code;
}

enum mfs_code
mfs_mount_implied(const char *repository, const char *root, struct mfs_err *err)
{
	mfs_autofree char *dir = NULL, *file = NULL, *text = NULL;
	mfs_autoclose int fd = -1;
	size_t len = 0;

	if (geteuid() != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--repository: needs root; without root write a configuration with folders of "
			"your own and use -c FILE");
	if (place_check(err) != MFS_OK || path_find("--repository", repository, true, &dir, err) != MFS_OK ||
		path_find("--root", root, false, &file, err) != MFS_OK || text_make(dir, file, &text, &len, err) != MFS_OK ||
		mfs_mkdirs(AT_FDCWD, FOLDER, 0755, err) != MFS_OK)
		return err->code;
	if ((fd = open(FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, FOLDER);
	return mfs_file_replace(fd, NAME, text, len, 0644, err);
}

void
mfs_mount_implied_stale(void)
{
	struct mfs_err unused = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;

	if (mfs_client_connect(NULL, &fd, &unused) != MFS_OK)
		mfs_mount_implied_forget();
}

void
mfs_mount_implied_forget(void)
{
	bool absent;

	if (is_ours(FOLDER "/" NAME, &absent))
		(void)unlink(FOLDER "/" NAME);
}
