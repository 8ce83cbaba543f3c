/* SPDX-License-Identifier: Apache-2.0 */
/* Signing and writing a change, in the order that keeps every moment readable. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "modes.h"
#include "outdir.h"
#include "record.h"
#include "repo_internal.h"

const char *const mfs_step_names[MFS_STEP_N] = { "1-blobs", "2-targets", "3-metadata", "4-timestamp" };

struct sealed { /* a role as it will be written */
	uint8_t *bytes;
	size_t len;
	struct mfs_sha256 sha256;
	char file[MFS_TUF_FILE_MAX + 1];
	bool by_old_root; /* the keys that the root on disk lists have signed too */
};

static void
sealed_clear(struct sealed *s)
{
	free(s->bytes);
	*s = (struct sealed){ 0 };
}

static bool
top_level(const char *role)
{
	return strchr(role, '.') == NULL;
}

static const json_t *
delegator_of(const struct mfs_repo *r, const char *role)
{
	return top_level(role) ? r->root.doc : r->targets.doc;
}

/* Does an array of key ids hold this one? */
static bool
listed(const json_t *ids, const char *id)
{
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *s = json_string_value(json_array_get(ids, i));

		if (s != NULL && strcmp(s, id) == 0)
			return true;
	}
	return false;
}

/*
 * Sign with every key at hand that the role lists now, or listed in the root on disk: while a key of
 * timestamp, snapshot or targets is changed, clients of the old root and of the new one both read on.
 */
enum mfs_code
mfs_repo_role_sign(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_repo_role *role, unsigned *now_out,
	size_t *found, struct mfs_err *err)
{
	const json_t *old = NULL, *ids;
	struct mfs_signer *const *keys;
	unsigned threshold;
	enum mfs_code code;

	*now_out = 0;
	ids = mfs_repo_keyids(r, role->name, &threshold);
	if (r->old_root != NULL && top_level(role->name))
		old = json_object_get(
			json_object_get(json_object_get(mfs_md_signed(r->old_root), "roles"), role->name), "keyids");
	if ((code = mfs_keyring_find(ring, role->name, &keys, found, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < *found; i++) {
		char id[65];

		if ((code = mfs_md_key(keys[i], NULL, id, err)) != MFS_OK)
			return code;
		if (!listed(ids, id) && !listed(old, id))
			continue;
		if ((code = mfs_md_sign(role->doc, keys[i], err)) != MFS_OK)
			return code;
		*now_out += listed(ids, id);
	}
	return MFS_OK;
}

/* A role's bytes, checked as any client will check them. */
static enum mfs_code
seal(struct mfs_repo *r, struct mfs_repo_role *role, struct sealed *out, struct mfs_err *err)
{
	const bool plain = strcmp(role->name, "timestamp") == 0;
	const size_t caps[MFS_LIFE_N] = { [MFS_LIFE_ROOT] = MFS_TUF_ROOT_MAX, [MFS_LIFE_TARGETS] = MFS_TUF_TARGETS_MAX,
		[MFS_LIFE_RELEASE] = MFS_TUF_TARGETS_MAX, [MFS_LIFE_POLICY] = MFS_TUF_TARGETS_MAX,
		[MFS_LIFE_SNAPSHOT] = MFS_TUF_SNAPSHOT_MAX, [MFS_LIFE_TIMESTAMP] = MFS_TUF_TIMESTAMP_MAX };
	enum mfs_code code;

	if ((code = mfs_md_bytes(role->doc, &out->bytes, &out->len, err)) != MFS_OK ||
		(code = mfs_tuf_file_name(role->name, plain ? 0 : mfs_md_version(role->doc), out->file, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(out->bytes, out->len), &out->sha256, err)) != MFS_OK)
		return code;
	if (out->len > caps[mfs_life_of(role->name)])
		return mfs_fail(err, MFS_LIMIT_EXCEEDED,
			"%s: %zu bytes, limit %zu: clients would refuse it; drop old versions with 'modelpub gc --keep'",
			MFS_ESC(out->file), out->len, caps[mfs_life_of(role->name)]);
	if ((code = mfs_repo_signed_check(delegator_of(r, role->name), role->name, MFS_SPAN(out->bytes, out->len), err)) !=
		MFS_OK)
		return code;
	if (role == &r->root && r->old_root != NULL &&
		(code = mfs_repo_signed_check(r->old_root, "root", MFS_SPAN(out->bytes, out->len), err)) != MFS_OK)
		return mfs_err_hint(err, " by keys of the root before it");
	out->by_old_root = r->old_root == NULL || !top_level(role->name) ||
		mfs_repo_signed_check(r->old_root, role->name, MFS_SPAN(out->bytes, out->len), NULL) == MFS_OK;
	return MFS_OK;
}

/*
 * The next number that no file has: what an interrupted change left under a number may lie in a cache for ever.
 * Roots follow one another without a gap, and each that is there counts; the timestamp's file has no number.
 */
int64_t
mfs_repo_version_next(const struct mfs_repo *r, const struct mfs_repo_role *role)
{
	char file[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 16];
	const int64_t seen = mfs_record_version(r, role->name);
	int64_t version = (role->version > seen ? role->version : seen) + 1;

	if (role == &r->root || role == &r->timestamp)
		return version;
	for (; version < MFS_JSON_INT_MAX && mfs_tuf_file_name(role->name, version, file, NULL) == MFS_OK; version++) {
		(void)snprintf(path, sizeof(path), "metadata/%s", file);
		if (faccessat(r->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			break;
	}
	return version;
}

/* The next version of a changed role, signed. */
static enum mfs_code
role_seal(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_repo_role *role, struct sealed *out,
	struct mfs_err *err)
{
	unsigned threshold, have;
	enum mfs_code code;
	size_t found;

	(void)mfs_repo_keyids(r, role->name, &threshold);
	if (!role->fixed) {
		if ((code = mfs_md_stamp(role->doc, mfs_repo_version_next(r, role), r->now + r->life.s[mfs_life_of(role->name)], err)) !=
				MFS_OK ||
			(code = mfs_repo_role_sign(r, ring, role, &have, &found, err)) != MFS_OK)
			return code;
		if (have < threshold)
			return mfs_repo_keys_missing(ring, role->name, have, threshold, found, err);
	}
	return seal(r, role, out, err);
}

/* {version, length, hashes} of a sealed role in snapshot or timestamp. */
static enum mfs_code
meta_put(struct mfs_repo_role *by, const struct mfs_repo_role *role, const struct sealed *s, struct mfs_err *err)
{
	char key[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;
	json_t *meta;

	if ((code = mfs_tuf_file_name(role->name, 0, key, err)) != MFS_OK)
		return code;
	meta = json_pack("{s:I, s:I, s:{s:s}}", "version", (json_int_t)mfs_md_version(role->doc), "length", (json_int_t)s->len,
		"hashes", "sha256", MFS_HEX(&s->sha256));
	if (meta == NULL || json_object_set_new(json_object_get(mfs_md_signed(by->doc), "meta"), key, meta) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", key);
	return MFS_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* mkdir -p below the repository; a new folder's name is durable before anything in it counts. */
static enum mfs_code
folders_make(int fd, char *path, struct mfs_err *err)
{
	for (char *p = path;; p++) {
		const char c = *p;
		char *up;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdirat(fd, path, 0777) == 0) {
			enum mfs_code code;

			mfs_modes_like_at(fd, path, fd);
			if ((up = strrchr(path, '/')) != NULL)
				*up = '\0';
			code = mfs_dir_sync(fd, up != NULL ? path : NULL, err);
			if (up != NULL)
				*up = '/';
			if (code != MFS_OK)
				return code;
		} else if (errno != EEXIST) {
			return mfs_fail_sys(err, MFS_IO, "%s: mkdir", MFS_ESC(path));
		}
		*p = c;
		if (c == '\0')
			return MFS_OK;
	}
}

/*
 * Many web servers make a file's ETag of its length and its time in seconds: of two timestamps that are published
 * within one second a device would take the second for the first, until the next one comes.
 */
static enum mfs_code
time_pass(int fd, const char *name, const struct stat *before, struct mfs_err *err)
{
	const struct timespec second = { .tv_sec = 1 };
	struct stat now;

	/* Times of a stick are even. */
	for (int tries = 1; tries < 6; tries++) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = before->st_mtim.tv_sec + tries } };

		if (fstat(fd, &now) != 0)
			break;
		if (now.st_mtim.tv_sec > before->st_mtim.tv_sec)
			return MFS_OK;
		if (futimens(fd, times) == 0)
			continue;
		/* Not ours to set, as on a network share: time passes by itself, unless the clock went back. */
		(void)nanosleep(&second, NULL);
		(void)futimens(fd, NULL);
	}
	return mfs_fail_sys(err, MFS_IO, "%s: its time cannot be set after that of the file it replaces", MFS_ESC(name));
}

struct writing { /* a file beside its place */
	char *folder;
	const char *name;
	int dir, fd;
};

static void
writing_clear(struct writing *w)
{
	free(w->folder);
	mfs_cleanup_close(&w->fd);
	mfs_cleanup_close(&w->dir);
}

/* Written and synced beside its place: as readable as the repository, and younger than what it will replace. */
static enum mfs_code
writing_prepare(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct writing *w, struct mfs_err *err)
{
	const char *slash = strrchr(path, '/');
	struct stat before;
	enum mfs_code code;

	if (slash == NULL || (w->folder = strndup(path, (size_t)(slash - path))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	w->name = slash + 1;
	if ((code = folders_make(r->fd, w->folder, err)) != MFS_OK)
		return code;
	if ((w->dir = openat(r->fd, w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(r->path), MFS_ESC(w->folder));
	code = mfs_file_prepare(w->dir, w->name, bytes.p, bytes.len, 0644, &w->fd, err);
	if (code == MFS_OK && fstatat(w->dir, w->name, &before, AT_SYMLINK_NOFOLLOW) == 0)
		code = time_pass(w->fd, w->name, &before, err);
	if (code != MFS_OK)
		return mfs_err_context(err, "%s/%s/", MFS_ESC(r->path), MFS_ESC(w->folder));
	mfs_modes_like(w->fd, r->fd);
	return MFS_OK;
}

static enum mfs_code
writing_finish(struct mfs_repo *r, struct writing *w, struct mfs_err *err)
{
	const enum mfs_code code = mfs_file_finish(w->dir, w->name, &w->fd, err);

	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s/%s/", MFS_ESC(r->path), MFS_ESC(w->folder));
}

enum mfs_code
mfs_repo_write(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct mfs_err *err)
{
	MFS_CLEANUP(writing_clear) struct writing w = { .dir = -1, .fd = -1 };
	enum mfs_code code = writing_prepare(r, path, bytes, &w, err);

	return code == MFS_OK ? writing_finish(r, &w, err) : code;
}

enum mfs_code
mfs_repo_write_root_first(struct mfs_repo *r, const char *root, struct mfs_span root_bytes, struct mfs_span timestamp,
	struct mfs_err *err)
{
	MFS_CLEANUP(writing_clear) struct writing w = { .dir = -1, .fd = -1 };
	enum mfs_code code;

	if ((code = writing_prepare(r, MFS_REPO_TIMESTAMP, timestamp, &w, err)) != MFS_OK ||
		(code = mfs_dir_sync(w.dir, NULL, err)) != MFS_OK ||
		(code = mfs_repo_write(r, root, root_bytes, err)) != MFS_OK)
		return code;
	return writing_finish(r, &w, err);
}

static enum mfs_code
put(struct mfs_repo *r, struct mfs_outdir *out, enum mfs_step step, const char *path, struct mfs_span bytes,
	struct mfs_err *err)
{
	mfs_autofree char *name = NULL;

	if (out == NULL)
		return mfs_repo_write(r, path, bytes, err);
	if (asprintf(&name, "%s/%s", mfs_step_names[step], path) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	return mfs_outdir_write(out, name, bytes.p, bytes.len, err);
}

static enum mfs_code
put_role(struct mfs_repo *r, struct mfs_outdir *out, enum mfs_step step, const struct sealed *s, struct mfs_err *err)
{
	char path[MFS_TUF_FILE_MAX + 16];

	(void)snprintf(path, sizeof(path), "metadata/%s", s->file);
	return put(r, out, step, path, MFS_SPAN(s->bytes, s->len), err);
}

/* Nobody else has published since we read it: the lock does not reach over every kind of filesystem. */
static enum mfs_code
parent_check(const struct mfs_repo *r, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_sha256 now;
	enum mfs_code code;
	size_t len;

	if (r->timestamp.version == 0)
		return MFS_OK;
	if ((code = mfs_file_read(r->fd, "metadata/timestamp.json", MFS_TUF_TIMESTAMP_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(bytes, len), &now, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&now, &r->timestamp.sha256))
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: changed while this change was made; run it again",
			MFS_ESC(r->path));
	return MFS_OK;
}

struct commit {
	struct sealed *roles; /* delegated and targets */
	size_t n_roles;
	struct sealed snapshot, timestamp, root;
};

static void
commit_clear(struct commit *c)
{
	for (size_t i = 0; i < c->n_roles; i++)
		sealed_clear(&c->roles[i]);
	free(c->roles);
	sealed_clear(&c->snapshot);
	sealed_clear(&c->timestamp);
	sealed_clear(&c->root);
}

static enum mfs_code
commit_seal(struct mfs_repo *r, struct mfs_keyring *ring, struct commit *c, struct mfs_err *err)
{
	enum mfs_code code;

	if ((c->roles = calloc(r->n_roles + 1, sizeof(*c->roles))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "roles");
	/* Those whose keys count for others come first. */
	if (r->root.changed && (code = role_seal(r, ring, &r->root, &c->root, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i <= r->n_roles; i++) {
		struct mfs_repo_role *role = i == 0 ? &r->targets : r->roles[i - 1];

		if (!role->changed)
			continue;
		if ((code = role_seal(r, ring, role, &c->roles[c->n_roles++], err)) != MFS_OK ||
			(code = meta_put(&r->snapshot, role, &c->roles[c->n_roles - 1], err)) != MFS_OK)
			return code;
		r->snapshot.changed = true;
	}
	if (r->snapshot.changed && ((code = role_seal(r, ring, &r->snapshot, &c->snapshot, err)) != MFS_OK ||
					   (code = meta_put(&r->timestamp, &r->snapshot, &c->snapshot, err)) != MFS_OK))
		return code;
	r->timestamp.changed = true;
	return role_seal(r, ring, &r->timestamp, &c->timestamp, err);
}

/*
 * Can the clients of the root on disk read what is written now? Then the new root comes last, and
 * there is no moment at which nobody can read; else first.
 */
static bool
root_last(const struct mfs_repo *r, const struct commit *c)
{
	bool last = r->old_root != NULL && c->timestamp.by_old_root && (!r->snapshot.changed || c->snapshot.by_old_root);

	for (size_t i = 0; i < c->n_roles; i++)
		last = last && c->roles[i].by_old_root;
	return last;
}

/* Its ctime is what remembers it: whoever copies or serves the file sees no difference. Best effort. */
void
mfs_repo_let_go(const struct mfs_repo *r, const char *path)
{
	struct stat st;

	if (fstatat(r->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode) &&
		fchmodat(r->fd, path, st.st_mode & 07777, 0) != 0)
		errno = 0; /* somebody else's file: its grace began when it was written */
}

/* What nobody is led to any more. */
static void
let_go(const struct mfs_repo *r)
{
	char file[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 16];

	for (size_t i = 0; i < r->n_roles + 2; i++) {
		const struct mfs_repo_role *role = i == 0 ? &r->targets : i == 1 ? &r->snapshot : r->roles[i - 2];

		if (!role->changed || role->version == 0 || mfs_tuf_file_name(role->name, role->version, file, NULL) != MFS_OK)
			continue;
		(void)snprintf(path, sizeof(path), "metadata/%s", file);
		mfs_repo_let_go(r, path);
	}
	for (size_t i = 0; i < r->n_gone; i++)
		mfs_repo_let_go(r, r->gone[i]);
}

/* Clients of the old root cannot read what comes now: between the two there is nothing that takes time. */
static enum mfs_code
put_root_first(struct mfs_repo *r, struct mfs_outdir *out, const struct commit *c, struct mfs_err *err)
{
	char path[MFS_TUF_FILE_MAX + 16];
	enum mfs_code code;

	(void)snprintf(path, sizeof(path), "metadata/%s", c->root.file);
	if (out == NULL)
		return mfs_repo_write_root_first(r, path, MFS_SPAN(c->root.bytes, c->root.len),
			MFS_SPAN(c->timestamp.bytes, c->timestamp.len), err);
	code = put_role(r, out, MFS_STEP_METADATA, &c->root, err);
	return code == MFS_OK ? put_role(r, out, MFS_STEP_TIMESTAMP, &c->timestamp, err) : code;
}

enum mfs_code
mfs_repo_commit(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_outdir *out, struct mfs_err *err)
{
	MFS_CLEANUP(commit_clear) struct commit c = { 0 };
	bool last;
	enum mfs_code code;

	if ((code = commit_seal(r, ring, &c, err)) != MFS_OK || (code = parent_check(r, err)) != MFS_OK)
		return code;
	last = root_last(r, &c);
	for (size_t i = 0; i < r->n_files; i++) {
		const struct mfs_repo_file *f = &r->files[i];

		if ((code = put(r, out, MFS_STEP_TARGETS, f->path, MFS_SPAN(f->bytes, f->len), err)) != MFS_OK)
			return code;
	}
	for (size_t i = 0; i < c.n_roles; i++)
		if ((code = put_role(r, out, MFS_STEP_METADATA, &c.roles[i], err)) != MFS_OK)
			return code;
	if (r->snapshot.changed && (code = put_role(r, out, MFS_STEP_METADATA, &c.snapshot, err)) != MFS_OK)
		return code;
	if (r->root.changed && !last)
		code = put_root_first(r, out, &c, err);
	else if ((code = put_role(r, out, MFS_STEP_TIMESTAMP, &c.timestamp, err)) == MFS_OK && r->root.changed)
		code = put_role(r, out, MFS_STEP_TIMESTAMP, &c.root, err);
	if (code == MFS_OK && out == NULL)
		let_go(r);
	return code;
}
