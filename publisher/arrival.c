/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival.c - is a change that comes back whole? It has travelled, by stick, mail or git: a bit of it may be wrong, a
 * file missing. What the repository would be with it is verified as a device will, before a byte of it is written.
 */
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "change.h"
#include "io.h"
#include "repo_internal.h"

#define BRING_AGAIN "; it was damaged or cut short on its way: bring it again"

/* One target: its file comes with the change, and is what is signed, or the repository has it. */
static enum mfs_code
target_there(int from, const char *what, const char *path, const json_t *target, const struct mfs_repo *r,
	struct mfs_err *err)
{
	const char *hex = json_string_value(json_object_get(json_object_get(target, "hashes"), "sha256"));
	const json_int_t length = json_integer_value(json_object_get(target, "length"));
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autofree char *file = NULL;
	struct mfs_sha256 want, got;
	struct stat st;
	enum mfs_code code;
	size_t len;

	if (hex == NULL || !mfs_hex_decode(want.b, MFS_SHA256_LEN, hex, strlen(hex)))
		return mfs_fail(err, MFS_MALFORMED, "%s: target %s has no SHA-256", MFS_ESC(what), MFS_ESC(path));
	if ((file = mfs_repo_target_path(path, &want)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	code = from < 0 ? MFS_IO : mfs_file_read(from, file, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err);
	if (code == MFS_OK) {
		if ((code = mfs_sha256(MFS_SPAN(bytes, len), &got, err)) != MFS_OK)
			return code;
		if (mfs_sha256_equal(&got, &want) && (json_int_t)len == length)
			return MFS_OK;
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s: %s: not the bytes that are signed" BRING_AGAIN, MFS_ESC(what), MFS_ESC(file));
	}
	if (fstatat(r->fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == length)
		return MFS_OK;
	return mfs_fail(err, MFS_HASH_MISMATCH, "%s: %s: is missing" BRING_AGAIN, MFS_ESC(what), MFS_ESC(file));
}

enum mfs_code
mfs_change_targets(int from, const char *what, const json_t *doc, const json_t *old, const struct mfs_repo *r,
	struct mfs_err *err)
{
	json_t *targets = json_object_get(mfs_md_signed(doc), "targets"), *target;
	const json_t *before = json_object_get(mfs_md_signed(old), "targets");
	const char *path;
	enum mfs_code code;

	json_object_foreach(targets, path, target) {
		if (json_equal(target, json_object_get(before, path)))
			continue;
		if ((code = target_there(from, what, path, target, r, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- an upload folder ------------------------------------------------------------------------------- */

struct arrival { /* what the top-level roles will be; owned, but for those that stay */
	const struct mfs_upload *u;
	struct mfs_repo *r;
	json_t *root, *targets, *snapshot;
	bool root_last; /* the new root is in step 4: clients of the present one read on until it comes */
	int files; /* of step 2; -1 without */
};

static void
arrival_clear(struct arrival *a)
{
	json_decref(a->root);
	json_decref(a->targets);
	json_decref(a->snapshot);
	mfs_cleanup_close(&a->files);
}

/* STEP/metadata/FILE. *out NULL: it is not there. */
static enum mfs_code
role_read(const struct arrival *a, enum mfs_step step, const char *role, int64_t version, uint8_t **out, size_t *len,
	struct mfs_err *err)
{
	char file[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 48];
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_tuf_file_name(role, version, file, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "%s/metadata/%s", mfs_step_names[step], file);
	code = mfs_file_read(a->u->fd, path, MFS_TUF_TARGETS_MAX, out, len, err);
	if (code == MFS_IO && err->sys_errno == ENOENT)
		return MFS_OK;
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s/", MFS_ESC(a->u->path));
}

static enum mfs_code
damaged(const struct arrival *a, const char *role, struct mfs_err *err)
{
	(void)mfs_err_context(err, "%s: %s: ", MFS_ESC(a->u->path), MFS_ESC(role));
	return mfs_err_hint(err, BRING_AGAIN);
}

/* The next root, in step 3 or 4: by the keys of the present one and its own. */
static enum mfs_code
root_arrives(struct arrival *a, struct mfs_err *err)
{
	for (int step = MFS_STEP_METADATA; step <= MFS_STEP_TIMESTAMP; step++) {
		mfs_autofree uint8_t *bytes = NULL;
		enum mfs_code code;
		size_t len;

		if ((code = role_read(a, (enum mfs_step)step, "root", a->r->root.version + 1, &bytes, &len, err)) != MFS_OK)
			return code;
		if (bytes == NULL)
			continue;
		a->root_last = step == MFS_STEP_TIMESTAMP;
		json_decref(a->root);
		a->root = NULL;
		if ((code = mfs_md_parse("root", MFS_SPAN(bytes, len), MFS_TUF_ROOT_MAX, &a->root, err)) != MFS_OK ||
			(code = mfs_repo_signed_check(a->r->root.doc, "root", MFS_SPAN(bytes, len), err)) != MFS_OK ||
			(code = mfs_repo_signed_check(a->root, "root", MFS_SPAN(bytes, len), err)) != MFS_OK)
			return damaged(a, "root", err);
		if (mfs_md_version(a->root) != a->r->root.version + 1) {
			(void)mfs_fail(err, MFS_MALFORMED, "version %lld inside", (long long)mfs_md_version(a->root));
			return damaged(a, "root", err);
		}
	}
	if (mfs_md_version(a->root) >= a->u->root_version)
		return MFS_OK;
	(void)mfs_fail(err, MFS_HASH_MISMATCH, "version %lld is missing", (long long)a->u->root_version);
	return damaged(a, "root", err);
}

/* A role as meta (of timestamp or snapshot) names it, signed as delegator has it. *out: new reference, or NULL. */
static enum mfs_code
role_arrives(struct arrival *a, const char *role, const json_t *meta, const json_t *delegator, json_t **out,
	struct mfs_err *err)
{
	const char *hash = json_string_value(json_object_get(json_object_get(meta, "hashes"), "sha256"));
	const int64_t version = json_integer_value(json_object_get(meta, "version"));
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_sha256 got;
	enum mfs_code code;
	size_t len = 0;

	*out = NULL;
	if ((code = role_read(a, MFS_STEP_METADATA, role, version, &bytes, &len, err)) != MFS_OK)
		return code;
	if (bytes == NULL)
		code = mfs_fail(err, MFS_HASH_MISMATCH, "version %lld is missing", (long long)version);
	else if ((code = mfs_sha256(MFS_SPAN(bytes, len), &got, err)) == MFS_OK &&
		(hash == NULL || strcmp(hash, MFS_HEX(&got)) != 0))
		code = mfs_fail(err, MFS_HASH_MISMATCH, "not the bytes that are signed");
	if (code == MFS_OK && (code = mfs_repo_signed_check(delegator, role, MFS_SPAN(bytes, len), err)) == MFS_OK)
		code = mfs_md_parse(role, MFS_SPAN(bytes, len), MFS_TUF_TARGETS_MAX, out, err);
	return code == MFS_OK ? MFS_OK : damaged(a, role, err);
}

/* Every role of the snapshot that is another one than now: it, and the targets that it names. */
static enum mfs_code
roles_arrive(struct arrival *a, bool top, struct mfs_err *err)
{
	json_t *metas = json_object_get(mfs_md_signed(a->snapshot), "meta"), *meta;
	const json_t *before = json_object_get(mfs_md_signed(a->r->snapshot.doc), "meta");
	const char *key;
	enum mfs_code code;

	json_object_foreach(metas, key, meta) {
		const size_t len = strlen(key);
		mfs_autofree char *role = len > 5 ? strndup(key, len - 5) : NULL;
		struct mfs_repo_role *present = NULL;
		mfs_autojson json_t *doc = NULL;

		if (role == NULL || (strcmp(role, "targets") == 0) != top || json_equal(meta, json_object_get(before, key)))
			continue;
		if ((code = role_arrives(a, role, meta, top ? a->root : a->targets, &doc, err)) != MFS_OK)
			return code;
		/* One that cannot be read is no reason to refuse what replaces it: then all of its targets are looked at. */
		if (top || (mfs_repo_delegates(a->r, role) && mfs_repo_role_made(a->r, role)))
			(void)mfs_repo_role(a->r, role, &present, NULL);
		if ((code = mfs_change_targets(a->files, a->u->path, doc, present != NULL ? present->doc : NULL, a->r, err)) != MFS_OK)
			return code;
		if (top) {
			json_decref(a->targets);
			a->targets = mfs_steal(&doc);
		}
	}
	return MFS_OK;
}

static enum mfs_code
online_arrive(struct arrival *a, struct mfs_span timestamp, struct mfs_err *err)
{
	mfs_autojson json_t *doc = NULL;
	const json_t *meta, *before = json_object_get(mfs_md_signed(a->r->timestamp.doc), "meta");
	enum mfs_code code;

	if ((code = mfs_repo_signed_check(a->root, "timestamp", timestamp, err)) != MFS_OK ||
		(a->root_last && (code = mfs_repo_signed_check(a->r->root.doc, "timestamp", timestamp, err)) != MFS_OK) ||
		(code = mfs_md_parse("timestamp.json", timestamp, MFS_TUF_TIMESTAMP_MAX, &doc, err)) != MFS_OK)
		return damaged(a, "timestamp", err);
	meta = json_object_get(json_object_get(mfs_md_signed(doc), "meta"), "snapshot.json");
	if (json_equal(meta, json_object_get(before, "snapshot.json")))
		return MFS_OK;
	json_decref(a->snapshot);
	a->snapshot = NULL;
	return role_arrives(a, "snapshot", meta, a->root, &a->snapshot, err);
}

/* Nothing but the two folders of a step, and of them what has a place there. */
static enum mfs_code
names_check(const struct arrival *a, enum mfs_step step, const char *folder, struct mfs_err *err)
{
	mfs_autofree char *path = NULL;
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;

	if (asprintf(&path, "%s/%s", a->u->path, mfs_step_names[step]) < 0) {
		path = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(a->u->path));
	}
	if ((d = opendir(path)) == NULL)
		return errno == ENOENT ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && strcmp(e->d_name, folder) != 0)
			return mfs_fail(err, MFS_MALFORMED, "%s/%s: is no part of an upload; remove it, if it is yours", MFS_ESC(path),
				MFS_ESC(e->d_name));
	return MFS_OK;
}

enum mfs_code
mfs_upload_check(const struct mfs_upload *u, struct mfs_repo *r, struct mfs_span timestamp, struct mfs_err *err)
{
	MFS_CLEANUP(arrival_clear) struct arrival a = { .u = u, .r = r, .root = json_incref(r->root.doc),
		.targets = json_incref(r->targets.doc), .snapshot = json_incref(r->snapshot.doc),
		.files = openat(u->fd, mfs_step_names[MFS_STEP_TARGETS], O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	enum mfs_code code;

	if ((code = names_check(&a, MFS_STEP_TARGETS, "targets", err)) != MFS_OK ||
		(code = names_check(&a, MFS_STEP_METADATA, "metadata", err)) != MFS_OK ||
		(code = names_check(&a, MFS_STEP_TIMESTAMP, "metadata", err)) != MFS_OK ||
		(code = root_arrives(&a, err)) != MFS_OK || (code = online_arrive(&a, timestamp, err)) != MFS_OK ||
		(code = roles_arrive(&a, true, err)) != MFS_OK)
		return code;
	return roles_arrive(&a, false, err);
}
