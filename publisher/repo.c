/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a repository: root chain, top-level roles, delegated roles and targets, each verified before it is used. */
#include "repo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "repo_internal.h"

#define ROOT_PIN_HINT ", or give the root.json that you trust with --root FILE"

void
mfs_repo_role_clear(struct mfs_repo_role *role)
{
	free(role->name);
	json_decref(role->doc);
	*role = (struct mfs_repo_role){ 0 };
}

void
mfs_repo_free(struct mfs_repo *r)
{
	if (r == NULL)
		return;
	mfs_repo_role_clear(&r->root);
	mfs_repo_role_clear(&r->targets);
	mfs_repo_role_clear(&r->snapshot);
	mfs_repo_role_clear(&r->timestamp);
	json_decref(r->old_root);
	json_decref(r->record);
	for (size_t i = 0; i < r->n_roles; i++) {
		mfs_repo_role_clear(r->roles[i]);
		free(r->roles[i]);
	}
	for (size_t i = 0; i < r->n_files; i++) {
		free(r->files[i].path);
		free(r->files[i].bytes);
	}
	for (size_t i = 0; i < r->n_gone; i++)
		free(r->gone[i]);
	free(r->roles);
	free(r->gone);
	free(r->files);
	free(r->path);
	mfs_cleanup_close(&r->fd); /* the lock goes with it */
	free(r);
}

/* metadata/NAME */
static enum mfs_code
metadata_read(const struct mfs_repo *r, const char *name, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	char path[MFS_TUF_FILE_MAX + 16];
	enum mfs_code code;

	(void)snprintf(path, sizeof(path), "metadata/%s", name);
	if ((code = mfs_file_read(r->fd, path, cap, out, len, err)) != MFS_OK)
		(void)mfs_err_context(err, "%s/", MFS_ESC(r->path));
	return code;
}

static size_t
cap_of(const char *role)
{
	if (strcmp(role, "root") == 0)
		return MFS_TUF_ROOT_MAX;
	if (strcmp(role, "timestamp") == 0)
		return MFS_TUF_TIMESTAMP_MAX;
	return strcmp(role, "snapshot") == 0 ? MFS_TUF_SNAPSHOT_MAX : MFS_TUF_TARGETS_MAX;
}

/*
 * A targets document with nothing but one delegation and its keys: one of thousands is looked at,
 * and every look would go through all of them. Anything but targets is taken as it is.
 */
static json_t *
delegator_slim(const json_t *delegator, const char *role)
{
	const json_t *body = mfs_md_signed(delegator), *delegations = json_object_get(body, "delegations");
	const json_t *list = json_object_get(delegations, "roles"), *all = json_object_get(delegations, "keys"), *ids;
	json_t *entry = NULL, *keys;

	for (size_t i = 0; i < json_array_size(list) && entry == NULL; i++) {
		const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));

		if (name != NULL && strcmp(name, role) == 0)
			entry = json_array_get(list, i);
	}
	if (entry == NULL)
		return json_incref((json_t *)(uintptr_t)delegator);
	keys = json_object();
	ids = json_object_get(entry, "keyids");
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *id = json_string_value(json_array_get(ids, i));

		if (id != NULL && json_object_get(all, id) != NULL)
			(void)json_object_set(keys, id, json_object_get(all, id));
	}
	return json_pack("{s:[], s:{s:O, s:O, s:O, s:O, s:{}, s:{s:o, s:[O]}}}", "signatures", "signed", "_type",
		json_object_get(body, "_type"), "expires", json_object_get(body, "expires"), "spec_version",
		json_object_get(body, "spec_version"), "version", json_object_get(body, "version"), "targets", "delegations", "keys",
		keys, "roles", entry);
}

/* Is metadata signed by enough keys of a role that delegator names? */
enum mfs_code
mfs_repo_signed_check(const json_t *delegator, const char *role, struct mfs_span metadata, struct mfs_err *err)
{
	mfs_autojson json_t *slim = delegator_slim(delegator, role);
	mfs_autofree uint8_t *bytes = NULL;
	unsigned valid, threshold;
	enum mfs_code code;
	size_t len;

	if (slim == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(role));
	if ((code = mfs_md_bytes(slim, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_tuf_count(MFS_SPAN(bytes, len), role, metadata, &valid, &threshold, err)) != MFS_OK)
		return code;
	if (valid < threshold)
		return mfs_fail(err, MFS_METADATA_SIGNATURE_INVALID, "%s: %u of %u signatures", MFS_ESC(role), valid, threshold);
	return MFS_OK;
}

/* Take bytes that were verified as the role's present state. */
static enum mfs_code
role_take(struct mfs_repo_role *role, const char *name, struct mfs_span bytes, struct mfs_err *err)
{
	enum mfs_code code;

	if ((role->name = strdup(name)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	if ((code = mfs_md_parse(name, bytes, cap_of(name), &role->doc, err)) != MFS_OK ||
		(code = mfs_sha256(bytes, &role->sha256, err)) != MFS_OK)
		return code;
	role->version = mfs_md_version(role->doc);
	role->len = bytes.len;
	return MFS_OK;
}

/* ---- the chain of roots ------------------------------------------------------------------- */

/* The lowest N of the N.root.json in metadata/; 0 without any. */
static int64_t
oldest_root(const struct mfs_repo *r)
{
	const int fd = openat(r->fd, "metadata", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mfs_autodir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int64_t lowest = 0;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return 0;
	}
	while ((e = readdir(d)) != NULL) {
		char *end;
		const long long n = strtoll(e->d_name, &end, 10);

		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && strcmp(end, ".root.json") == 0 &&
			(lowest == 0 || n < lowest))
			lowest = n;
	}
	return lowest;
}

/* One step of the chain: N.root.json by the keys of the one before and its own. *found false: there is none. */
static enum mfs_code
root_step(struct mfs_repo *r, int64_t version, const json_t *before, bool *found, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_repo_role next = { 0 };
	char name[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;
	size_t len;

	*found = false;
	if ((code = mfs_tuf_file_name("root", version, name, err)) != MFS_OK)
		return code;
	if ((code = metadata_read(r, name, MFS_TUF_ROOT_MAX, &bytes, &len, err)) != MFS_OK)
		return code == MFS_IO && err->sys_errno == ENOENT ? MFS_OK : code;
	if ((code = role_take(&next, "root", MFS_SPAN(bytes, len), err)) == MFS_OK && next.version != version)
		code = mfs_fail(err, MFS_MALFORMED, "version %lld inside", (long long)next.version);
	if (code == MFS_OK)
		code = mfs_repo_signed_check(next.doc, "root", MFS_SPAN(bytes, len), err);
	if (code == MFS_OK && before != NULL)
		code = mfs_repo_signed_check(before, "root", MFS_SPAN(bytes, len), err);
	if (code != MFS_OK) {
		mfs_repo_role_clear(&next);
		return mfs_err_context(err, "%s/metadata/%s: ", MFS_ESC(r->path), name);
	}
	mfs_repo_role_clear(&r->root);
	r->root = next;
	*found = true;
	return MFS_OK;
}

static enum mfs_code
root_pinned(struct mfs_repo *r, const char *pin, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_file_read(AT_FDCWD, pin, MFS_TUF_ROOT_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = role_take(&r->root, "root", MFS_SPAN(bytes, len), err)) != MFS_OK ||
		(code = mfs_repo_signed_check(r->root.doc, "root", MFS_SPAN(bytes, len), err)) != MFS_OK)
		return mfs_err_context(err, "%s: ", MFS_ESC(pin));
	return MFS_OK;
}

static enum mfs_code
root_load(struct mfs_repo *r, const char *pin, struct mfs_err *err)
{
	enum mfs_code code;
	bool found;

	if (pin != NULL) {
		mfs_autojson json_t *trusted = NULL;

		if ((code = root_pinned(r, pin, err)) != MFS_OK)
			return code;
		/* The folder's own file of that version, signed by the pinned keys: the chain goes on from there. */
		trusted = json_incref(r->root.doc);
		if ((code = root_step(r, r->root.version, trusted, &found, err)) != MFS_OK)
			return mfs_err_hint(err, " that go with %s: are they another repository's keys? Use its own folder of keys"
				ROOT_PIN_HINT, MFS_ESC(pin));
		if (!found)
			return mfs_fail(err, MFS_METADATA_SIGNATURE_INVALID,
				"%s: %s is version %lld of the root, which is not in metadata/" ROOT_PIN_HINT, MFS_ESC(r->path),
				MFS_ESC(pin), (long long)r->root.version);
	} else {
		const int64_t first = oldest_root(r);

		if (first == 0)
			return mfs_fail(err, MFS_IO, "%s: no repository: metadata/1.root.json is missing; make one with "
				"'modelpub init'", MFS_ESC(r->path));
		if ((code = root_step(r, first, NULL, &found, err)) != MFS_OK)
			return code;
	}
	for (found = r->root.doc != NULL; found;)
		if ((code = root_step(r, r->root.version + 1, r->root.doc, &found, err)) != MFS_OK)
			return code;
	if (r->root.doc == NULL)
		return mfs_fail(err, MFS_IO, "%s: metadata/1.root.json vanished", MFS_ESC(r->path));
	return MFS_OK;
}

/* ---- the other roles ------------------------------------------------------------------------ */

/* What snapshot or timestamp says of FILE.json: version, and length and hash where it says them. */
static enum mfs_code
meta_check(const struct mfs_repo_role *by, const struct mfs_repo_role *role, struct mfs_err *err)
{
	char key[MFS_TUF_FILE_MAX + 1];
	const json_t *meta;
	const char *hash;
	json_int_t length;
	enum mfs_code code;

	if ((code = mfs_tuf_file_name(role->name, 0, key, err)) != MFS_OK)
		return code;
	meta = json_object_get(json_object_get(mfs_md_signed(by->doc), "meta"), key);
	hash = json_string_value(json_object_get(json_object_get(meta, "hashes"), "sha256"));
	length = json_integer_value(json_object_get(meta, "length"));
	if (json_integer_value(json_object_get(meta, "version")) != role->version)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "%s: version %lld, but %s names another", MFS_ESC(key),
			(long long)role->version, by->name);
	if ((hash != NULL && strcmp(hash, MFS_HEX(&role->sha256)) != 0) || (length != 0 && (size_t)length != role->len))
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s: not the bytes that %s names", MFS_ESC(key), by->name);
	return MFS_OK;
}

/* version 0: timestamp.json, which has none in its name. */
static enum mfs_code
role_load(struct mfs_repo *r, const char *name, int64_t version, const json_t *delegator,
	const struct mfs_repo_role *by, struct mfs_repo_role *out, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_repo_role role = { 0 };
	char file[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;
	size_t len;

	if ((code = mfs_tuf_file_name(name, version, file, err)) != MFS_OK ||
		(code = metadata_read(r, file, cap_of(name), &bytes, &len, err)) != MFS_OK)
		return code;
	if ((code = mfs_repo_signed_check(delegator, name, MFS_SPAN(bytes, len), err)) != MFS_OK ||
		(code = role_take(&role, name, MFS_SPAN(bytes, len), err)) != MFS_OK ||
		(by != NULL && (code = meta_check(by, &role, err)) != MFS_OK)) {
		mfs_repo_role_clear(&role);
		return mfs_err_context(err, "%s/metadata/%s: ", MFS_ESC(r->path), file);
	}
	*out = role;
	return MFS_OK;
}

/* The version that snapshot or timestamp names for a role; 0 for none. */
static int64_t
meta_version(const struct mfs_repo_role *by, const char *name)
{
	char key[MFS_TUF_FILE_MAX + 1];
	int64_t version;

	if (mfs_tuf_file_name(name, 0, key, NULL) != MFS_OK)
		return 0;
	version = json_integer_value(
		json_object_get(json_object_get(json_object_get(mfs_md_signed(by->doc), "meta"), key), "version"));
	return version > 0 ? version : 0;
}

bool
mfs_repo_role_made(const struct mfs_repo *r, const char *name)
{
	return strcmp(name, "snapshot") == 0 || meta_version(&r->snapshot, name) > 0;
}

/* timestamp.json, and what it leads to. */
static enum mfs_code
online_load(struct mfs_repo *r, struct mfs_err *err)
{
	enum mfs_code code;

	mfs_repo_role_clear(&r->timestamp);
	mfs_repo_role_clear(&r->snapshot);
	mfs_repo_role_clear(&r->targets);
	if ((code = role_load(r, "timestamp", 0, r->root.doc, NULL, &r->timestamp, err)) != MFS_OK ||
		(code = role_load(r, "snapshot", meta_version(&r->timestamp, "snapshot"), r->root.doc, &r->timestamp,
			 &r->snapshot, err)) != MFS_OK)
		return code;
	return role_load(r, "targets", meta_version(&r->snapshot, "targets"), r->root.doc, &r->snapshot, &r->targets, err);
}

/*
 * Is there a next timestamp, by the keys of the newest root, that stands ready beside its place? It does after a
 * change of keys that ended between its root and its timestamp.
 */
static bool
timestamp_ready(const struct mfs_repo *r)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autojson json_t *doc = NULL;
	size_t len;

	return metadata_read(r, ".timestamp.json.new", MFS_TUF_TIMESTAMP_MAX, &bytes, &len, NULL) == MFS_OK &&
		mfs_repo_signed_check(r->root.doc, "timestamp", MFS_SPAN(bytes, len), NULL) == MFS_OK &&
		mfs_md_parse("timestamp.json", MFS_SPAN(bytes, len), MFS_TUF_TIMESTAMP_MAX, &doc, NULL) == MFS_OK &&
		mfs_md_version(doc) > r->timestamp.version;
}

/* The online roles as they are; for writing also what an interrupted change of keys still has to do. */
static enum mfs_code
online_recover(struct mfs_repo *r, bool write, struct mfs_err *err)
{
	enum mfs_code code = online_load(r, err);
	mfs_autoclose int dir = -1;
	int none = -1;

	if ((code != MFS_METADATA_SIGNATURE_INVALID && (code != MFS_IO || err->sys_errno != ENOENT)) || !timestamp_ready(r))
		return code;
	if (!write)
		return mfs_err_hint(err, ": a change of keys was interrupted; any command that writes finishes it, for example "
			"'modelpub refresh'");
	if ((dir = openat(r->fd, "metadata", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/metadata", MFS_ESC(r->path));
	if ((code = mfs_file_finish(dir, "timestamp.json", &none, err)) != MFS_OK)
		return mfs_err_context(err, "%s/metadata/", MFS_ESC(r->path));
	return online_load(r, err);
}

enum mfs_code
mfs_repo_open(const char *path, bool write, const char *pin, struct mfs_repo **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_repo) struct mfs_repo *r = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_repo_alloc(path, &r, err)) != MFS_OK)
		return code;
	if ((r->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if ((write && (code = mfs_repo_lock(r, err)) != MFS_OK) || (code = root_load(r, pin, err)) != MFS_OK)
		return code;
	if ((code = online_recover(r, write, err)) != MFS_OK ||
		(code = mfs_lifetimes_recall(r, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&r);
	return MFS_OK;
}

enum mfs_code
mfs_repo_role(struct mfs_repo *r, const char *name, struct mfs_repo_role **out, struct mfs_err *err)
{
	struct mfs_repo_role *const top[] = { &r->root, &r->targets, &r->snapshot, &r->timestamp };
	struct mfs_repo_role **roles, *role;
	enum mfs_code code;

	*out = NULL;
	for (size_t i = 0; i < sizeof(top) / sizeof(top[0]); i++)
		if (top[i]->name != NULL && strcmp(top[i]->name, name) == 0) {
			*out = top[i];
			return MFS_OK;
		}
	for (size_t i = 0; i < r->n_roles; i++)
		if (strcmp(r->roles[i]->name, name) == 0) {
			*out = r->roles[i];
			return MFS_OK;
		}
	if (!mfs_repo_delegates(r, name))
		return mfs_fail(err, MFS_KEY_UNTRUSTED, "%s: targets delegates nothing to the role %s", MFS_ESC(r->path),
			MFS_ESC(name));
	if (meta_version(&r->snapshot, name) == 0) /* delegated with offline targets, and not made yet */
		return mfs_repo_role_new(r, name, out, err);
	if ((role = calloc(1, sizeof(*role))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	code = role_load(r, name, meta_version(&r->snapshot, name), r->targets.doc, &r->snapshot, role, err);
	if (code == MFS_OK && (roles = reallocarray(r->roles, r->n_roles + 1, sizeof(struct mfs_repo_role *))) != NULL) {
		r->roles = roles;
		*out = r->roles[r->n_roles++] = role;
		return MFS_OK;
	}
	mfs_repo_role_clear(role);
	free(role);
	return code != MFS_OK ? code : mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
}

/* ---- targets ----------------------------------------------------------------------------------- */

const json_t *
mfs_repo_target(const struct mfs_repo_role *role, const char *path)
{
	return json_object_get(json_object_get(mfs_md_signed(role->doc), "targets"), path);
}

char *
mfs_repo_target_path(const char *path, const struct mfs_sha256 *sha256)
{
	const char *slash = strrchr(path, '/');
	const int folder = slash != NULL ? (int)(slash - path + 1) : 0;
	char *out;

	return asprintf(&out, "targets/%.*s%s.%s", folder, path, MFS_HEX(sha256), path + folder) < 0 ? NULL : out;
}

enum mfs_code
mfs_repo_target_read(struct mfs_repo *r, const char *role, const char *path, size_t cap, uint8_t **out, size_t *len,
	struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autofree char *file = NULL;
	struct mfs_sha256 want, got;
	struct mfs_repo_role *by;
	const json_t *target;
	const char *hash;
	enum mfs_code code;
	size_t n;

	*out = NULL;
	*len = 0;
	if ((code = mfs_repo_role(r, role, &by, err)) != MFS_OK)
		return code;
	if ((target = mfs_repo_target(by, path)) == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s: %s names no %s", MFS_ESC(r->path), MFS_ESC(role), MFS_ESC(path));
	hash = json_string_value(json_object_get(json_object_get(target, "hashes"), "sha256"));
	if (hash == NULL || !mfs_hex_decode(want.b, MFS_SHA256_LEN, hash, strlen(hash)))
		return mfs_fail(err, MFS_MALFORMED, "%s: %s has no SHA-256 of %s", MFS_ESC(r->path), MFS_ESC(role),
			MFS_ESC(path));
	if ((file = mfs_repo_target_path(path, &want)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((code = mfs_file_read(r->fd, file, cap, &bytes, &n, err)) != MFS_OK)
		return mfs_err_context(err, "%s/", MFS_ESC(r->path));
	if ((code = mfs_sha256(MFS_SPAN(bytes, n), &got, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&got, &want) ||
		json_integer_value(json_object_get(target, "length")) != (json_int_t)n)
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s/%s: not the bytes that %s names; copy it again from its source",
			MFS_ESC(r->path), MFS_ESC(file), MFS_ESC(role));
	*out = mfs_steal(&bytes);
	*len = n;
	return MFS_OK;
}
