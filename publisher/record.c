/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "offer.h"

#define RECORD_FORMAT "modelpub-seen/1"
#define RECORD_CAP    (MFS_TUF_SNAPSHOT_MAX + 65536u)
#define ID_DIGITS     16

/* KEYDIR/seen.<ID>.json; "" when the repository has no first root, by which it is known. */
static enum mfs_code
record_name(const struct mfs_repo *r, char out[64], struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_sha256 id;
	enum mfs_code code;
	size_t len;

	out[0] = '\0';
	if ((code = mfs_file_read(r->fd, "metadata/1.root.json", MFS_TUF_ROOT_MAX, &bytes, &len, err)) != MFS_OK)
		return code == MFS_IO && err->sys_errno == ENOENT ? MFS_OK : mfs_err_context(err, "%s/", MFS_ESC(r->path));
	if ((code = mfs_sha256(MFS_SPAN(bytes, len), &id, err)) == MFS_OK)
		(void)snprintf(out, 64, "seen.%.*s.json", ID_DIGITS, MFS_HEX(&id));
	return code;
}

static bool
record_ok(const json_t *doc)
{
	const char *format = json_string_value(json_object_get(doc, "format"));
	const json_t *timestamp = json_object_get(doc, "timestamp");

	return format != NULL && strcmp(format, RECORD_FORMAT) == 0 && json_is_integer(json_object_get(doc, "root")) &&
		json_is_integer(json_object_get(timestamp, "version")) && json_is_string(json_object_get(timestamp, "sha256")) &&
		json_is_object(json_object_get(doc, "snapshot")) && json_is_object(json_object_get(doc, "meta"));
}

/* The record of this repository; *out NULL when there is none. name: what it is called. */
static enum mfs_code
record_read(const struct mfs_repo *r, const char *keys, char name[64], json_t **out, struct mfs_err *err)
{
	mfs_autofree char *path = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autojson json_t *doc = NULL;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if ((code = record_name(r, name, err)) != MFS_OK || name[0] == '\0')
		return code;
	if (asprintf(&path, "%s/%s", keys, name) < 0) {
		path = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", name);
	}
	if ((code = mfs_file_read(AT_FDCWD, path, RECORD_CAP, &bytes, &len, err)) != MFS_OK)
		return code == MFS_IO && err->sys_errno == ENOENT ? MFS_OK : code;
	code = mfs_json_parse(path, MFS_SPAN(bytes, len), RECORD_CAP, &doc, err);
	if (code == MFS_OK && !record_ok(doc))
		code = mfs_fail(err, MFS_MALFORMED, "%s: not a record of modelpub", MFS_ESC(path));
	if (code != MFS_OK)
		return code == MFS_MALFORMED ? mfs_err_hint(err, "; look whether the repository is as it should be, then remove "
				"this file") : code;
	*out = mfs_steal(&doc);
	return MFS_OK;
}

static int64_t
version_of(const json_t *o)
{
	return json_integer_value(json_object_get(o, "version"));
}

enum mfs_code
mfs_record_check(struct mfs_repo *r, const char *keys, bool restored, struct mfs_err *err)
{
	mfs_autojson json_t *doc = NULL;
	const json_t *timestamp;
	const char *sha256;
	char name[64];
	enum mfs_code code;
	bool same;

	if ((code = record_read(r, keys, name, &doc, err)) != MFS_OK || doc == NULL)
		return code;
	timestamp = json_object_get(doc, "timestamp");
	sha256 = json_string_value(json_object_get(timestamp, "sha256"));
	same = strcmp(sha256, MFS_HEX(&r->timestamp.sha256)) == 0;
	if (r->root.version >= json_integer_value(json_object_get(doc, "root")) &&
		(r->timestamp.version > version_of(timestamp) || (r->timestamp.version == version_of(timestamp) && same)))
		return MFS_OK;
	if (restored) {
		r->record = mfs_steal(&doc);
		return MFS_OK;
	}
	return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
		"%s: timestamp version %lld, but %s/%s has seen %s: an older or another copy lies here (a backup, or a "
		"sync the wrong way), and devices that know the newer one refuse what is signed upon it; bring metadata/ and "
		"targets/ of the newest state back, from the server or a mirror, or, if there is none any more, go on from here with "
		"'modelpub refresh %s --restored --keys %s'",
		MFS_ESC(r->path), (long long)r->timestamp.version, MFS_ESC(keys), name,
		r->timestamp.version < version_of(timestamp) ? "a newer one" :
		same ? "a newer root" : "another one of that version",
		MFS_ESC(r->path), MFS_ESC(keys));
}

/* ---- going on from an older state ------------------------------------------------------------------ */

/* What snapshot or timestamp, or the record of them, says of a role. */
static const json_t *
meta_of(const json_t *metas, const char *role)
{
	char key[MFS_TUF_FILE_MAX + 1];

	return mfs_tuf_file_name(role, 0, key, NULL) == MFS_OK ? json_object_get(metas, key) : NULL;
}

int64_t
mfs_record_version(const struct mfs_repo *r, const char *role)
{
	if (r->record == NULL)
		return 0;
	if (strcmp(role, "timestamp") == 0 || strcmp(role, "snapshot") == 0)
		return version_of(json_object_get(r->record, role));
	return version_of(meta_of(json_object_get(r->record, "meta"), role));
}

/* Devices may have any sequence up to this: each policy that was signed took one version of its role. */
static enum mfs_code
policy_resume(struct mfs_repo *r, const char *role, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	enum mfs_code code = mfs_offer_load(r, role + strlen("policy."), &p, err);

	if (code != MFS_OK)
		return code;
	if (p->sequence > MFS_JSON_INT_MAX - mfs_record_version(r, role) - 1)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: sequence %lld: there is none above it", MFS_ESC(role),
			(long long)p->sequence);
	p->sequence += mfs_record_version(r, role);
	return mfs_offer_store(r, p, err);
}

/* A role that the record has. */
static enum mfs_code
role_resume(struct mfs_repo *r, struct mfs_keyring *ring, const char *role, const json_t *was, struct mfs_err *err)
{
	const json_t *is = meta_of(json_object_get(mfs_md_signed(r->snapshot.doc), "meta"), role);
	const char *id = strchr(role, '.');
	enum mfs_code code;

	if (version_of(was) < version_of(is) || json_equal(was, is))
		return MFS_OK;
	if (id != NULL && !mfs_repo_delegates(r, role)) {
		if (strncmp(role, "release.", 8) != 0 && strncmp(role, "policy.", 7) != 0)
			return MFS_OK; /* of another tool, and its delegator is not there to say whose keys count */
		if ((code = mfs_repo_keys_check(r, ring, "targets", err)) != MFS_OK ||
			(code = mfs_repo_delegate(r, ring, id + 1, err)) != MFS_OK)
			return code;
	}
	if ((code = mfs_repo_keys_check(r, ring, role, err)) != MFS_OK || (code = mfs_repo_touch(r, role, err)) != MFS_OK)
		return code;
	(void)printf("above version %lld: %s\n", (long long)version_of(was), MFS_ESC(role));
	return strncmp(role, "policy.", 7) == 0 ? policy_resume(r, role, err) : MFS_OK;
}

enum mfs_code
mfs_record_resume(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_err *err)
{
	json_t *metas = json_object_get(r->record, "meta"), *was;
	const int64_t root = json_integer_value(json_object_get(r->record, "root"));
	const char *key;
	enum mfs_code code;

	if (r->record == NULL)
		return MFS_OK;
	if (r->root.version < root)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "%s: the root is version %lld, and there was version %lld, whose keys count "
			"for devices: bring metadata/%lld.root.json back first, from the server, a mirror or a stick",
			MFS_ESC(r->path), (long long)r->root.version, (long long)root, (long long)root);
	if ((code = mfs_repo_keys_check(r, ring, "snapshot", err)) != MFS_OK ||
		(code = mfs_repo_touch(r, "snapshot", err)) != MFS_OK)
		return code;
	json_object_foreach(metas, key, was) {
		const size_t len = strlen(key);
		mfs_autofree char *role = len > 5 && strcmp(key + len - 5, ".json") == 0 ? strndup(key, len - 5) : NULL;

		if (role != NULL && (code = role_resume(r, ring, role, was, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- what is there now ------------------------------------------------------------------------------- */

static enum mfs_code
record_make(const struct mfs_repo *r, json_t **out, struct mfs_err *err)
{
	const json_t *timestamp = mfs_md_signed(r->timestamp.doc), *snapshot = mfs_md_signed(r->snapshot.doc);
	struct mfs_sha256 sha256 = r->timestamp.sha256;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	/* As it was read, or as it was written. */
	if (r->timestamp.changed && ((code = mfs_md_bytes(r->timestamp.doc, &bytes, &len, err)) != MFS_OK ||
					    (code = mfs_sha256(MFS_SPAN(bytes, len), &sha256, err)) != MFS_OK))
		return code;
	*out = json_pack("{s:s, s:I, s:{s:I, s:s}, s:O, s:O}", "format", RECORD_FORMAT, "root",
		(json_int_t)mfs_md_version(r->root.doc), "timestamp", "version", (json_int_t)mfs_md_version(r->timestamp.doc), "sha256",
		MFS_HEX(&sha256), "snapshot", meta_of(json_object_get(timestamp, "meta"), "snapshot"), "meta",
		json_object_get(snapshot, "meta"));
	return *out != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(r->path));
}

enum mfs_code
mfs_record_write(const struct mfs_repo *r, const char *keys, struct mfs_err *err)
{
	mfs_autojson json_t *old = NULL, *new = NULL;
	mfs_autofree char *text = NULL;
	mfs_autoclose int dir = -1;
	char name[64];
	enum mfs_code code;

	/* One that cannot be read was refused when the repository was opened. */
	if ((code = record_read(r, keys, name, &old, err)) != MFS_OK || name[0] == '\0' ||
		(code = record_make(r, &new, err)) != MFS_OK)
		return code;
	if (old != NULL && json_equal(old, new))
		return MFS_OK;
	if ((text = json_dumps(new, JSON_COMPACT | JSON_SORT_KEYS)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", name);
	if ((dir = open(keys, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(keys));
	code = mfs_file_replace(dir, name, text, strlen(text), 0644, err);
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s/", MFS_ESC(keys));
}
