/* SPDX-License-Identifier: Apache-2.0 */
#include "running.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

#define SNAPSHOT     "config"
#define SNAPSHOT_NEW ".config.new"
#define FOLDER       "modelfs/running"

/* ---- names ---------------------------------------------------------------------------------------------------- */

static void
name_add(struct mfs_running_names *out, const char *path)
{
	struct mfs_sha256 d;
	char hex[65];

	if (mfs_sha256(MFS_SPAN(path, strlen(path)), &d, NULL) != MFS_OK)
		return;
	(void)mfs_sha256_hex(hex, &d);
	hex[32] = '\0';
	if (out->n > 0 && strcmp(out->name[0], hex) == 0)
		return;
	memcpy(out->name[out->n++], hex, 33);
}

void
mfs_running_names(const char *path, struct mfs_running_names *out)
{
	mfs_autofree char *folder = NULL, *real = NULL, *copy = NULL, *whole = NULL;
	const char *base;
	char *slash;

	*out = (struct mfs_running_names){ 0 };
	if (path == NULL) {
		(void)snprintf(out->name[out->n++], sizeof(out->name[0]), "default");
		return;
	}
	/* The folder without links, the file as it was named: that may be a link to nothing by now, or gone. */
	if ((copy = strdup(path)) == NULL)
		return;
	slash = strrchr(copy, '/');
	base = slash != NULL ? path + (slash - copy) + 1 : path;
	if (slash != NULL)
		slash[slash == copy ? 1 : 0] = '\0';
	folder = realpath(slash != NULL ? copy : ".", NULL);
	if (folder != NULL && asprintf(&whole, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, base) < 0)
		whole = NULL;
	if (whole != NULL)
		name_add(out, whole);
	if ((real = realpath(path, NULL)) != NULL)
		name_add(out, real);
}

/* ---- folders ------------------------------------------------------------------------------------------------------ */

/* Where links lie: of root, or of this user. false: this user has no such place. */
static bool
folder_path(uid_t uid, char out[PATH_MAX])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (uid == 0)
		n = snprintf(out, PATH_MAX, "/run/" FOLDER);
	else if (xdg == NULL || xdg[0] != '/')
		return false;
	else
		n = snprintf(out, PATH_MAX, "%s/" FOLDER, xdg);
	return n > 0 && n < PATH_MAX;
}

/* Could nobody else but this user, or root, have made or changed it? */
static bool
is_own(int fd, uid_t uid)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_uid == uid || st.st_uid == 0) && (st.st_mode & 022) == 0;
}

/* ---- keeper --------------------------------------------------------------------------------------------------------- */

/* Who may not read the files may not read what was read of them. */
static mode_t
snapshot_mode(const struct mfs_config_snapshot *s)
{
	struct stat st;

	for (size_t i = 0; i < s->n; i++)
		if (!s->sources[i].fact && stat(s->sources[i].path, &st) == 0 && (st.st_mode & S_IROTH) == 0)
			return 0600;
	return 0644;
}

static enum mfs_code
snapshot_put(int run_dirfd, const struct mfs_config_snapshot *s, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;

	(void)unlinkat(run_dirfd, SNAPSHOT_NEW, 0);
	fd = openat(run_dirfd, SNAPSHOT_NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, SNAPSHOT);
	if (mfs_config_snapshot_write(s, fd, err) != MFS_OK)
		return err != NULL ? err->code : MFS_IO;
	if (fchmod(fd, snapshot_mode(s)) != 0 || renameat(run_dirfd, SNAPSHOT_NEW, run_dirfd, SNAPSHOT) != 0)
		return mfs_fail_sys(err, MFS_IO, SNAPSHOT);
	return MFS_OK;
}

static enum mfs_code
link_put(int dirfd, const char *name, const char *run, struct mfs_err *err)
{
	char new[64];

	(void)snprintf(new, sizeof(new), ".%s.new", name);
	(void)unlinkat(dirfd, new, 0);
	if (symlinkat(run, dirfd, new) != 0 || renameat(dirfd, new, dirfd, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", name);
	return MFS_OK;
}

enum mfs_code
mfs_running_note(int run_dirfd, const char *run, const struct mfs_running_names *names,
	const struct mfs_config_snapshot *s, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	mfs_autoclose int dir = -1;
	char path[PATH_MAX];

	err = err != NULL ? err : &own;
	if (snapshot_put(run_dirfd, s, err) != MFS_OK)
		return mfs_err_context(err, "%s: ", MFS_ESC(run));
	if (names == NULL || !folder_path(geteuid(), path))
		return MFS_OK;
	if (mfs_mkdirs(AT_FDCWD, path, 0755, err) != MFS_OK)
		return err->code;
	if ((dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	for (unsigned i = 0; i < names->n; i++)
		if (link_put(dir, names->name[i], run, err) != MFS_OK)
			return mfs_err_context(err, "%s: ", MFS_ESC(path));
	return MFS_OK;
}

void
mfs_running_forget(int run_dirfd, const char *run, const struct mfs_running_names *names)
{
	mfs_autoclose int dir = -1;
	char path[PATH_MAX], target[PATH_MAX];

	(void)unlinkat(run_dirfd, SNAPSHOT, 0);
	(void)unlinkat(run_dirfd, SNAPSHOT_NEW, 0);
	if (!folder_path(geteuid(), path) || (dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return;
	for (unsigned i = 0; i < names->n; i++) {
		ssize_t len = readlinkat(dir, names->name[i], target, sizeof(target) - 1);

		target[len > 0 ? len : 0] = '\0';
		if (strcmp(target, run) == 0)
			(void)unlinkat(dir, names->name[i], 0);
	}
}

/* ---- commands --------------------------------------------------------------------------------------------------------- */

/* The run folder that a link of this user's (or root's) leads to; -1: none that can be believed. */
static int
run_open(uid_t uid, const char *name, char run[PATH_MAX])
{
	mfs_autoclose int dir = -1, fd = -1;
	char path[PATH_MAX];
	ssize_t len;

	if (!folder_path(uid, path) || (dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 || !is_own(dir, uid))
		return -1;
	len = readlinkat(dir, name, run, PATH_MAX - 1);
	run[len > 0 ? len : 0] = '\0';
	if (run[0] != '/' || (fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0 || !is_own(fd, uid))
		return -1;
	return mfs_steal_fd(&fd);
}

static enum mfs_code
snapshot_get(int run_dirfd, const char *run, uid_t uid, struct mfs_config_snapshot **snapshot, struct mfs_config **out,
	struct mfs_err *err)
{
	mfs_autoclose int fd = openat(run_dirfd, SNAPSHOT, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || !is_own(fd, uid))
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s/" SNAPSHOT ": absent, or not to be believed", MFS_ESC(run));
	if (mfs_config_snapshot_load(fd, snapshot, err) != MFS_OK || mfs_config_parse(*snapshot, out, err) != MFS_OK)
		return mfs_err_context(err, "%s/" SNAPSHOT ": ", MFS_ESC(run));
	if (strcmp((*out)->run, run) != 0)
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s/" SNAPSHOT ": is of another run folder", MFS_ESC(run));
	return MFS_OK;
}

enum mfs_code
mfs_running_find(const struct mfs_running_names *names, struct mfs_config_snapshot **snapshot, struct mfs_config **out,
	struct mfs_err *err)
{
	const uid_t users[2] = { geteuid(), 0 };
	struct mfs_err own = MFS_ERR_INIT;
	char run[PATH_MAX];

	err = err != NULL ? err : &own;
	*snapshot = NULL;
	*out = NULL;
	for (unsigned u = 0; u < (users[0] == 0 ? 1u : 2u); u++)
		for (unsigned i = 0; i < names->n; i++) {
			mfs_autoclose int fd = run_open(users[u], names->name[i], run);

			if (fd >= 0 && snapshot_get(fd, run, users[u], snapshot, out, err) == MFS_OK)
				return MFS_OK;
			mfs_config_free(*out);
			mfs_config_snapshot_free(*snapshot);
			*out = NULL;
			*snapshot = NULL;
		}
	return err->code != MFS_OK ? err->code : mfs_fail(err, MFS_CONDITION_UNMET, "nothing is mounted by this configuration");
}
