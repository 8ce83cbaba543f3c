/* SPDX-License-Identifier: Apache-2.0 */
/* What refresh keeps in state: TUF metadata and policies, valid only as far as the anchor names them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "refresh_int.h"
#include "reserve.h"

#define CACHED_MAX   8192u       /* files of delegated roles; what is beyond that is fetched again */
#define CACHED_BYTES (64u << 20) /* of them: some 2,000 models; whoever can sign roles must not fill disk or memory */

/* ---- folders ------------------------------------------------------------------------------------------- */

static int
folder_open(struct mfs_refresh *r, const char *path, bool create, struct mfs_err *err)
{
	int fd;

	if (create && mfs_mkdirs(r->args.state_dirfd, path, 0700, err) != MFS_OK)
		return -1;
	fd = mfs_open_beneath(r->args.state_dirfd, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		(void)mfs_fail_sys(err, MFS_IO, "state/%s", path);
	return fd;
}

static const char *
tuf_path(struct mfs_refresh *r, size_t repo, char out[96])
{
	(void)snprintf(out, 96, MFS_TUF_FOLDER "/%s", r->args.config->repos[repo].name);
	return out;
}

static enum mfs_code
put_new(struct mfs_refresh *r, int dirfd, const char *name, struct mfs_span bytes, struct mfs_err *err)
{
	char path[MFS_TUF_FILE_MAX + 8];

	(void)snprintf(path, sizeof(path), "%s" MFS_REFRESH_NEW, name);
	return mfs_reserve_replace(mfs_engine_reserve(r->args.engine), dirfd, path, bytes.p, bytes.len, 0600, err);
}

static void
settle(int dirfd, const char *name)
{
	char path[MFS_TUF_FILE_MAX + 8];

	(void)snprintf(path, sizeof(path), "%s" MFS_REFRESH_NEW, name);
	if (renameat(dirfd, path, dirfd, name) != 0 && errno != ENOENT)
		mfs_log(MFS_LOG_WARN, "state: %s: %s", name, strerror(errno)); /* it is found under the new name too */
}

/* Of a file under its new name: is it the one with this hash? */
static void
sweep(int dirfd, const char *name, const struct mfs_sha256 *in_force, size_t cap)
{
	mfs_autofree uint8_t *bytes = NULL;
	char path[MFS_TUF_FILE_MAX + 8];
	struct mfs_sha256 is;
	enum mfs_code code;
	struct stat st;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s" MFS_REFRESH_NEW, name);
	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	code = mfs_file_read(dirfd, path, cap, &bytes, &len, NULL);
	if (code == MFS_OK)
		code = mfs_sha256(MFS_SPAN(bytes, len), &is, NULL);
	if (code == MFS_OK && mfs_sha256_equal(&is, in_force))
		settle(dirfd, name);
	else if (code != MFS_IO && code != MFS_NO_MEMORY) /* what cannot be read now may be the one */
		(void)unlinkat(dirfd, path, 0);
	(void)mfs_dir_sync(dirfd, ".", NULL);
}

/* The file, under either name, whose bytes have this hash. */
static enum mfs_code
load_named(int dirfd, const char *name, const struct mfs_sha256 *want, size_t cap, uint8_t **out, size_t *len,
	struct mfs_err *err)
{
	static const char *const ends[] = { "", MFS_REFRESH_NEW };

	for (size_t k = 0; k < 2; k++) {
		mfs_autofree uint8_t *bytes = NULL;
		char path[MFS_TUF_FILE_MAX + 8];
		struct mfs_sha256 is;

		(void)snprintf(path, sizeof(path), "%s%s", name, ends[k]);
		if (mfs_file_read(dirfd, path, cap, &bytes, len, NULL) != MFS_OK ||
			mfs_sha256(MFS_SPAN(bytes, *len), &is, NULL) != MFS_OK || !mfs_sha256_equal(&is, want))
			continue;
		*out = mfs_steal(&bytes);
		return MFS_OK;
	}
	errno = ENOENT;
	return mfs_fail_sys(err, MFS_IO, "state: %s: missing, or not the one that the anchor names", name);
}

/* ---- what the anchor says ---------------------------------------------------------------------------------- */

struct known {
	const char *name;
	struct mfs_refresh_known *out;
	enum mfs_code code;
};

static void
known_anchor(void *user, const struct mfs_anchor *a)
{
	struct known *k = user;
	const struct mfs_anchor_repo *repo = mfs_anchor_repo_find(a, k->name);

	if (repo == NULL)
		return;
	k->out->root = repo->root;
	k->out->snapshot = repo->snapshot;
	k->out->targets = repo->targets;
	if (repo->trust_json != NULL)
		k->code = mfs_sha256(MFS_SPAN(repo->trust_json, strlen(repo->trust_json)), &k->out->trust, NULL);
}

static bool
known_cycle(void *user, struct mfs_cycle *c)
{
	struct known *k = user;

	for (size_t i = 0; i < c->n_repos; i++) {
		if (strcmp(c->repos[i].name, k->name) != 0)
			continue;
		k->out->timestamp_version = c->repos[i].timestamp_version;
		memcpy(k->out->etag, c->repos[i].etag, sizeof(k->out->etag));
	}
	return false;
}

enum mfs_code
mfs_refresh_known_get(struct mfs_refresh *r, size_t repo, struct mfs_refresh_known *out, struct mfs_err *err)
{
	struct known k = { .name = r->args.config->repos[repo].name, .out = out };

	*out = (struct mfs_refresh_known){ 0 };
	mfs_engine_anchor_read(r->args.engine, known_anchor, &k);
	if (k.code != MFS_OK)
		return mfs_fail(err, k.code, "repository %s", k.name);
	return mfs_engine_cycle_update(r->args.engine, known_cycle, &k, err);
}

/* ---- TUF metadata ------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_root_load(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known, uint8_t **out,
	size_t *len, struct mfs_err *err)
{
	mfs_autoclose int dir = -1;
	char path[96];

	*out = NULL;
	if ((dir = folder_open(r, tuf_path(r, repo, path), false, err)) < 0)
		return MFS_IO;
	return load_named(dir, "root.json", &known->root.sha256, MFS_TUF_ROOT_MAX, out, len, err);
}

/* Absent, damaged or another one than the anchor names: not given to the client, which fetches it. */
static void
local_anchored(int dir, struct mfs_tuf *t, const char *file, const struct mfs_anchor_role *role, size_t cap)
{
	mfs_autofree uint8_t *bytes = NULL;
	size_t len;

	if (role->version > 0 && load_named(dir, file, &role->sha256, cap, &bytes, &len, NULL) == MFS_OK)
		(void)mfs_tuf_local(t, file, MFS_SPAN(bytes, len), NULL);
}

bool
mfs_refresh_tuf_local(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known, struct mfs_tuf *t)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autoclose int dir = -1;
	char path[96];
	size_t len;

	if ((dir = folder_open(r, tuf_path(r, repo, path), false, NULL)) < 0)
		return false;
	local_anchored(dir, t, "snapshot.json", &known->snapshot, MFS_TUF_SNAPSHOT_MAX);
	local_anchored(dir, t, "targets.json", &known->targets, MFS_TUF_TARGETS_MAX);
	return mfs_file_read(dir, "timestamp.json", MFS_TUF_TIMESTAMP_MAX, &bytes, &len, NULL) == MFS_OK &&
		mfs_tuf_local(t, "timestamp.json", MFS_SPAN(bytes, len), NULL) == MFS_OK;
}

static bool
is_delegated(const char *name)
{
	static const char *const top[] = { "root.json", "timestamp.json", "snapshot.json", "targets.json" };
	size_t n = strlen(name);

	if (name[0] == '.' || n < 6 || strcmp(name + n - 5, ".json") != 0)
		return false;
	for (size_t i = 0; i < sizeof(top) / sizeof(top[0]); i++)
		if (strcmp(name, top[i]) == 0)
			return false;
	return true;
}

void
mfs_refresh_tuf_local_delegated(struct mfs_refresh *r, size_t repo, struct mfs_tuf *t)
{
	mfs_autodir DIR *d = NULL;
	char path[96];
	size_t n = 0, bytes_all = 0;
	int fd = folder_open(r, tuf_path(r, repo, path), false, NULL);

	if (fd < 0)
		return;
	if ((d = fdopendir(fd)) == NULL) {
		(void)close(fd);
		return;
	}
	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		mfs_autofree uint8_t *bytes = NULL;
		struct stat st;
		size_t len;

		if (!is_delegated(e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (++n > CACHED_MAX || (uint64_t)st.st_size > MFS_TUF_TARGETS_MAX ||
			(bytes_all += (size_t)st.st_size) > CACHED_BYTES)
			(void)unlinkat(dirfd(d), e->d_name, 0);
		else if (mfs_file_read(dirfd(d), e->d_name, MFS_TUF_TARGETS_MAX, &bytes, &len, NULL) == MFS_OK)
			(void)mfs_tuf_local(t, e->d_name, MFS_SPAN(bytes, len), NULL);
	}
}

/* A file that may be lost: verified like anything that is fetched, and fetched if it is not whole. */
static void
put_cached(int dirfd, const char *name, struct mfs_span bytes)
{
	static const char temporary[] = ".role.new";
	mfs_autoclose int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || mfs_write_full(fd, bytes.p, bytes.len) != 0 || renameat(dirfd, temporary, dirfd, name) != 0)
		mfs_log(MFS_LOG_WARN, "state: %s: %s: fetched again next time", MFS_ESC(name), strerror(errno));
}

enum mfs_code
mfs_refresh_tuf_store(struct mfs_refresh *r, size_t repo, const struct mfs_tuf *t, bool root, struct mfs_err *err)
{
	mfs_autoclose int dir = -1;
	struct mfs_tuf_role role;
	enum mfs_code code;
	char path[96];

	if ((dir = folder_open(r, tuf_path(r, repo, path), true, err)) < 0)
		return MFS_IO;
	/* Removals first: a file that is missing is fetched again. */
	for (size_t i = 0; mfs_tuf_role(t, i, &role); i++) {
		char name[MFS_TUF_FILE_MAX + 8];

		if (!role.drop)
			continue;
		(void)snprintf(name, sizeof(name), "%s" MFS_REFRESH_NEW, role.file);
		if ((unlinkat(dir, name, 0) != 0 && errno != ENOENT) || (unlinkat(dir, role.file, 0) != 0 && errno != ENOENT))
			return mfs_fail_sys(err, MFS_IO, "state/%s/%s", path, role.file);
	}
	for (size_t i = 0; mfs_tuf_role(t, i, &role); i++) {
		if ((!role.changed && !(root && strcmp(role.file, "root.json") == 0)) || role.drop || is_delegated(role.file))
			continue;
		code = strcmp(role.file, "timestamp.json") == 0 ?
			mfs_reserve_replace(mfs_engine_reserve(r->args.engine), dir, role.file, role.bytes.p, role.bytes.len,
				0600, err) :
			put_new(r, dir, role.file, role.bytes, err);
		if (code != MFS_OK)
			return mfs_err_context(err, "state/%s/", path);
	}
	return MFS_OK;
}

void
mfs_refresh_tuf_store_delegated(struct mfs_refresh *r, size_t repo, const struct mfs_tuf *t)
{
	mfs_autoclose int dir = -1;
	struct mfs_tuf_role role;
	char path[96];

	if ((dir = folder_open(r, tuf_path(r, repo, path), true, NULL)) < 0)
		return;
	for (size_t i = 0; mfs_tuf_role(t, i, &role); i++)
		if (role.changed && !role.drop && is_delegated(role.file))
			put_cached(dir, role.file, role.bytes);
}

void
mfs_refresh_tuf_settle(struct mfs_refresh *r, size_t repo)
{
	static const char *const names[] = { "root.json", "snapshot.json", "targets.json" };
	mfs_autoclose int dir = -1;
	char path[96];

	if ((dir = folder_open(r, tuf_path(r, repo, path), false, NULL)) < 0)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		settle(dir, names[i]);
	(void)mfs_dir_sync(dir, ".", NULL);
}

void
mfs_refresh_tuf_sweep(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_known *known)
{
	mfs_autoclose int dir = -1;
	char path[96];

	if ((dir = folder_open(r, tuf_path(r, repo, path), false, NULL)) < 0)
		return;
	sweep(dir, "root.json", &known->root.sha256, MFS_TUF_ROOT_MAX);
	sweep(dir, "snapshot.json", &known->snapshot.sha256, MFS_TUF_SNAPSHOT_MAX);
	sweep(dir, "targets.json", &known->targets.sha256, MFS_TUF_TARGETS_MAX);
}

/* ---- policies ------------------------------------------------------------------------------------------------- */

static const char *
policy_name(struct mfs_refresh *r, size_t i, char out[MFS_ID_MAX + 8])
{
	(void)snprintf(out, MFS_ID_MAX + 8, "%s.json", r->args.config->models[i].id);
	return out;
}

enum mfs_code
mfs_refresh_policy_put(struct mfs_refresh *r, size_t i, struct mfs_span bytes, struct mfs_err *err)
{
	mfs_autoclose int dir = folder_open(r, MFS_POLICY_FOLDER, true, err);
	char name[MFS_ID_MAX + 8];

	if (dir < 0)
		return MFS_IO;
	return put_new(r, dir, policy_name(r, i, name), bytes, err);
}

void
mfs_refresh_policy_settle(struct mfs_refresh *r, size_t i)
{
	mfs_autoclose int dir = folder_open(r, MFS_POLICY_FOLDER, false, NULL);
	char name[MFS_ID_MAX + 8];

	if (dir >= 0)
		settle(dir, policy_name(r, i, name));
}

void
mfs_refresh_policy_sweep(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *in_force)
{
	mfs_autoclose int dir = folder_open(r, MFS_POLICY_FOLDER, false, NULL);
	char name[MFS_ID_MAX + 8];

	if (dir >= 0)
		sweep(dir, policy_name(r, i, name), in_force, MFS_POLICY_BYTES_MAX);
}

enum mfs_code
mfs_refresh_policy_load(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *want, uint8_t **out, size_t *len,
	struct mfs_err *err)
{
	mfs_autoclose int dir = folder_open(r, MFS_POLICY_FOLDER, false, err);
	char name[MFS_ID_MAX + 8];

	*out = NULL;
	if (dir < 0)
		return MFS_IO;
	return load_named(dir, policy_name(r, i, name), want, MFS_POLICY_BYTES_MAX, out, len, err);
}
