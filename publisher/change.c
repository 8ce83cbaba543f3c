/* SPDX-License-Identifier: Apache-2.0 */
#include "change.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "repo_internal.h"

#define STAGE_FORMAT "modelpub-stage/1"
#define STAGE_CAP    (4u << 20)

/* ---- change.json -------------------------------------------------------------------------------- */

/* Options whose value belongs to this machine or this moment, not to the change; also as getopt_long lets one shorten them. */
static bool
is_private(const char *arg)
{
	static const char *const names[] = { "--keys", "--key", "--passin", "--root", "--out", "--stage", "--reuse" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(arg) > 2 && strncmp(names[i], arg, strlen(arg)) == 0)
			return true;
	return false;
}

static bool
is_private_pair(const char *arg)
{
	const char *equals = strchr(arg, '=');
	mfs_autofree char *name = equals != NULL ? strndup(arg, (size_t)(equals - arg)) : NULL;

	return name != NULL && is_private(name);
}

/* A copy of an argument without the PIN that a PKCS#11 URI may carry. */
static char *
without_pin(const char *arg)
{
	char *copy = strdup(arg), *pin = copy;

	while (copy != NULL && (pin = strstr(copy, "pin-value=")) != NULL) {
		const char *rest = pin + strcspn(pin, "&;");

		rest += *rest != '\0';
		memmove(pin, rest, strlen(rest) + 1);
	}
	return copy;
}

enum mfs_code
mfs_change_note(const struct mfs_repo *r, struct mfs_outdir *out, int argc, char **argv, struct mfs_err *err)
{
	mfs_autofree char *cwd = getcwd(NULL, 0), *text = NULL;
	mfs_autojson json_t *args = json_array(), *doc = NULL;
	const char *name = strchr(argv[0], ' '); /* "modelpub publish" */

	for (int i = 1; i < argc; i++) {
		mfs_autofree char *arg = without_pin(argv[i]);

		if (is_private(argv[i]))
			i++;
		else if (!is_private_pair(argv[i]) && json_array_append_new(args, json_string(arg)) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, "change.json");
	}
	doc = json_pack("{s:I, s:s, s:s, s:O, s:s, s:s, s:s, s:I}", "root_version", (json_int_t)mfs_md_version(r->root.doc), "format", MFS_CHANGE_FORMAT, "command", name != NULL ? name + 1 : argv[0],
		"arguments", args, "folder", cwd != NULL ? cwd : ".", "repository", r->path, "parent", MFS_HEX(&r->timestamp.sha256), "parent_version",
		(json_int_t)r->timestamp.version);
	if (doc == NULL || (text = json_dumps(doc, JSON_INDENT(2) | JSON_SORT_KEYS)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "change.json");
	return mfs_outdir_write(out, "change.json", text, strlen(text), err);
}

/* ---- staging --------------------------------------------------------------------------------------- */

static enum mfs_code
doc_write(struct mfs_outdir *out, const char *folder, const char *role, const json_t *doc, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	char file[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 32];
	enum mfs_code code;
	size_t len;

	if ((code = mfs_tuf_file_name(role, 0, file, err)) != MFS_OK || (code = mfs_md_bytes(doc, &bytes, &len, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "%s/%s", folder, file);
	return mfs_outdir_write(out, path, bytes, len, err);
}

static enum mfs_code
stage_role(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_repo_role *role, struct mfs_outdir *out, json_t *roles,
	struct mfs_err *err)
{
	json_t *entry;
	enum mfs_code code;
	unsigned have;
	size_t found;

	if (!role->changed)
		return MFS_OK;
	if ((code = mfs_md_stamp(role->doc, mfs_repo_version_next(r, role), r->now + r->life.s[mfs_life_of(role->name)], err)) != MFS_OK ||
		(code = mfs_repo_role_sign(r, ring, role, &have, &found, err)) != MFS_OK ||
		(code = doc_write(out, "metadata", role->name, role->doc, err)) != MFS_OK)
		return code;
	entry = json_pack("{s:I, s:s}", "version", (json_int_t)role->version, "sha256", MFS_HEX(&role->sha256));
	if (entry == NULL || json_object_set_new(roles, role->name, entry) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "stage.json");
	return MFS_OK;
}

enum mfs_code
mfs_change_stage(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_outdir *out, struct mfs_err *err)
{
	mfs_autojson json_t *roles = json_object(), *doc = NULL;
	const json_t *root = r->old_root != NULL ? r->old_root : r->root.doc;
	mfs_autofree char *text = NULL;
	enum mfs_code code;

	for (size_t i = 0; i < r->n_roles; i++)
		if ((code = stage_role(r, ring, r->roles[i], out, roles, err)) != MFS_OK)
			return code;
	if ((code = stage_role(r, ring, &r->targets, out, roles, err)) != MFS_OK ||
		(code = stage_role(r, ring, &r->root, out, roles, err)) != MFS_OK)
		return code;
	if (r->root.version > 0 && ((code = doc_write(out, "parent", "root", root, err)) != MFS_OK ||
					   (!r->targets.changed &&
						   (code = doc_write(out, "parent", "targets", r->targets.doc, err)) != MFS_OK)))
		return code;
	for (size_t i = 0; i < r->n_files; i++)
		if ((code = mfs_outdir_write(out, r->files[i].path, r->files[i].bytes, r->files[i].len, err)) != MFS_OK)
			return code;
	doc = json_pack("{s:s, s:O}", "format", STAGE_FORMAT, "roles", roles);
	if (doc == NULL || (text = json_dumps(doc, JSON_INDENT(2) | JSON_SORT_KEYS)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "stage.json");
	if ((code = mfs_outdir_write(out, "stage.json", text, strlen(text), err)) != MFS_OK)
		return code;
	return mfs_outdir_commit(out, err);
}

/* ---- coming back -------------------------------------------------------------------------------------- */

void
mfs_staged_free(struct mfs_staged *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n_roles; i++) {
		free(s->roles[i].name);
		json_decref(s->roles[i].doc);
	}
	free(s->roles);
	json_decref(s->root);
	json_decref(s->targets);
	mfs_cleanup_close(&s->fd);
	free(s->path);
	free(s);
}

/* folder/ROLE.json; absent is NULL when that is allowed. */
static enum mfs_code
doc_read(const struct mfs_staged *s, const char *folder, const char *role, bool optional, json_t **out, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	char file[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 32];
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if ((code = mfs_tuf_file_name(role, 0, file, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "%s/%s", folder, file);
	code = mfs_file_read(s->fd, path, MFS_TUF_TARGETS_MAX, &bytes, &len, err);
	if (code == MFS_IO && err->sys_errno == ENOENT && optional)
		return MFS_OK;
	if (code == MFS_OK)
		code = mfs_md_parse(path, MFS_SPAN(bytes, len), MFS_TUF_TARGETS_MAX, out, err);
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s/", MFS_ESC(s->path));
}

static enum mfs_code
stage_read(struct mfs_staged *s, json_t *doc, struct mfs_err *err)
{
	json_t *roles = json_object_get(doc, "roles"), *entry;
	const char *format = json_string_value(json_object_get(doc, "format")), *name;
	enum mfs_code code;

	if (format == NULL || strcmp(format, STAGE_FORMAT) != 0 || !json_is_object(roles) || json_object_size(roles) == 0)
		return mfs_fail(err, MFS_MALFORMED, "%s/stage.json: not a staged change of modelpub", MFS_ESC(s->path));
	if ((s->roles = calloc(json_object_size(roles), sizeof(*s->roles))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(s->path));
	json_object_foreach(roles, name, entry) {
		struct mfs_staged_role *role = &s->roles[s->n_roles++];
		const char *hex = json_string_value(json_object_get(entry, "sha256"));

		role->parent_version = json_integer_value(json_object_get(entry, "version"));
		if (hex == NULL || !mfs_hex_decode(role->parent_sha256.b, MFS_SHA256_LEN, hex, strlen(hex)))
			return mfs_fail(err, MFS_MALFORMED, "%s/stage.json: roles.%s.sha256: not a SHA-256", MFS_ESC(s->path),
				MFS_ESC(name));
		if ((role->name = strdup(name)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(s->path));
		if ((code = doc_read(s, "metadata", name, false, &role->doc, err)) != MFS_OK)
			return code;
	}
	if ((code = doc_read(s, "parent", "root", true, &s->root, err)) != MFS_OK)
		return code;
	return doc_read(s, "parent", "targets", true, &s->targets, err);
}

enum mfs_code
mfs_staged_load(const char *path, struct mfs_staged **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_staged) struct mfs_staged *s = calloc(1, sizeof(*s));
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autojson json_t *doc = NULL;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if (s == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	s->fd = -1;
	if ((s->path = strdup(path)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if ((code = mfs_file_read(s->fd, "stage.json", STAGE_CAP, &bytes, &len, err)) != MFS_OK) {
		if (code == MFS_IO && err->sys_errno == ENOENT)
			(void)mfs_err_hint(err, "; want a folder that 'modelpub metadata stage', --stage or --out has made");
		return mfs_err_context(err, "%s/", MFS_ESC(path));
	}
	if ((code = mfs_json_parse("stage.json", MFS_SPAN(bytes, len), STAGE_CAP, &doc, err)) != MFS_OK ||
		(code = stage_read(s, doc, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&s);
	return MFS_OK;
}

static const json_t *
staged_doc(const struct mfs_staged *s, const char *name)
{
	for (size_t i = 0; i < s->n_roles; i++)
		if (strcmp(s->roles[i].name, name) == 0)
			return s->roles[i].doc;
	return NULL;
}

/* Whose keys count for a role: the staged delegator, else the repository's. */
static const json_t *
staged_delegator(const struct mfs_staged *s, const char *role)
{
	const char *by = strchr(role, '.') == NULL ? "root" : "targets";
	const json_t *doc = staged_doc(s, by);

	if (doc != NULL)
		return doc;
	return strcmp(by, "root") == 0 ? s->root : s->targets;
}

static enum mfs_code
count(const json_t *delegator, const struct mfs_staged_role *role, unsigned *valid, unsigned *threshold,
	struct mfs_err *err)
{
	mfs_autofree uint8_t *by = NULL, *bytes = NULL;
	size_t by_len, len;
	enum mfs_code code;

	if (delegator == NULL)
		return mfs_fail(err, MFS_MALFORMED, "%s: whose keys count is not in the staged change", MFS_ESC(role->name));
	if ((code = mfs_md_bytes(delegator, &by, &by_len, err)) != MFS_OK ||
		(code = mfs_md_bytes(role->doc, &bytes, &len, err)) != MFS_OK)
		return code;
	return mfs_tuf_count(MFS_SPAN(by, by_len), role->name, MFS_SPAN(bytes, len), valid, threshold, err);
}

enum mfs_code
mfs_staged_count(const struct mfs_staged *s, size_t i, struct mfs_staged_count *out, struct mfs_err *err)
{
	const struct mfs_staged_role *role = &s->roles[i];
	enum mfs_code code;

	*out = (struct mfs_staged_count){ 0 };
	if ((code = count(staged_delegator(s, role->name), role, &out->valid, &out->threshold, err)) != MFS_OK)
		return code;
	if (strcmp(role->name, "root") == 0 && s->root != NULL)
		return count(s->root, role, &out->old_valid, &out->old_threshold, err);
	return MFS_OK;
}

/* The key ids of a role in a delegator. */
static const json_t *
keyids_of(const json_t *delegator, const char *role)
{
	const json_t *body = mfs_md_signed(delegator), *slot = json_object_get(json_object_get(body, "roles"), role);
	const json_t *list = json_object_get(json_object_get(body, "delegations"), "roles");

	for (size_t i = 0; slot == NULL && i < json_array_size(list); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));

		if (name != NULL && strcmp(name, role) == 0)
			slot = json_array_get(list, i);
	}
	return json_object_get(slot, "keyids");
}

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

static enum mfs_code
role_sign(struct mfs_staged *s, struct mfs_staged_role *role, struct mfs_keyring *ring, size_t *signed_n,
	struct mfs_err *err)
{
	const json_t *now = keyids_of(staged_delegator(s, role->name), role->name);
	const json_t *old = strchr(role->name, '.') == NULL ? keyids_of(s->root, role->name) : NULL;
	mfs_autofree uint8_t *bytes = NULL;
	char file[MFS_TUF_FILE_MAX + 1];
	struct mfs_signer *const *keys;
	mfs_autoclose int dir = -1;
	enum mfs_code code;
	size_t n, len, before = *signed_n;

	if ((code = mfs_keyring_find(ring, role->name, &keys, &n, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < n; i++) {
		char id[65];

		if ((code = mfs_md_key(keys[i], NULL, id, err)) != MFS_OK)
			return code;
		if (!listed(now, id) && !listed(old, id))
			continue;
		if ((code = mfs_md_sign(role->doc, keys[i], err)) != MFS_OK)
			return code;
		++*signed_n;
	}
	if (*signed_n == before)
		return MFS_OK;
	if ((code = mfs_tuf_file_name(role->name, 0, file, err)) != MFS_OK ||
		(code = mfs_md_bytes(role->doc, &bytes, &len, err)) != MFS_OK)
		return code;
	if ((dir = openat(s->fd, "metadata", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/metadata", MFS_ESC(s->path));
	return mfs_file_replace(dir, file, bytes, len, 0644, err);
}

enum mfs_code
mfs_staged_sign(struct mfs_staged *s, struct mfs_keyring *ring, size_t *signed_n, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	*signed_n = 0;
	for (size_t i = 0; i < s->n_roles && code == MFS_OK; i++)
		code = role_sign(s, &s->roles[i], ring, signed_n, err);
	return code;
}

/* ---- into the repository ---------------------------------------------------------------------------------- */

static enum mfs_code
role_fresh(const struct mfs_repo *r, const struct mfs_staged_role *staged, const struct mfs_repo_role *role,
	struct mfs_err *err)
{
	if (role->version != staged->parent_version ||
		(role->version > 0 && !mfs_sha256_equal(&role->sha256, &staged->parent_sha256)))
		return mfs_fail(err, MFS_CONDITION_UNMET,
			"%s: %s is at version %lld, the change was staged upon version %lld: stage it again", MFS_ESC(r->path),
			MFS_ESC(staged->name), (long long)role->version, (long long)staged->parent_version);
	if (mfs_md_version(staged->doc) <= role->version)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "%s: version %lld, and the repository has version %lld: stage it again",
			MFS_ESC(staged->name), (long long)mfs_md_version(staged->doc), (long long)role->version);
	return MFS_OK;
}

enum mfs_code
mfs_staged_fresh(const struct mfs_staged *s, struct mfs_repo *r, struct mfs_err *err)
{
	struct mfs_repo_role *role;
	enum mfs_code code;

	/* A new role has no parent; whether there is one of its name by now is seen when it is applied. */
	for (size_t i = 0; i < s->n_roles; i++)
		if (s->roles[i].parent_version > 0 && ((code = mfs_repo_role(r, s->roles[i].name, &role, err)) != MFS_OK ||
							      (code = role_fresh(r, &s->roles[i], role, err)) != MFS_OK))
			return code;
	return MFS_OK;
}

static enum mfs_code
role_apply(struct mfs_repo *r, const struct mfs_staged_role *staged, struct mfs_err *err)
{
	struct mfs_repo_role *role = NULL;
	json_t *body, *doc;
	enum mfs_code code;

	if (staged->parent_version == 0 && strchr(staged->name, '.') != NULL)
		code = mfs_repo_role_new(r, staged->name, &role, err);
	else if ((code = mfs_repo_edit(r, staged->name, &body, err)) == MFS_OK) /* keeps the old root */
		code = mfs_repo_role(r, staged->name, &role, err);
	if (code != MFS_OK)
		return code;
	if ((code = role_fresh(r, staged, role, err)) != MFS_OK)
		return code;
	if ((doc = json_deep_copy(staged->doc)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(staged->name));
	json_decref(role->doc);
	role->doc = doc;
	role->changed = true;
	role->fixed = true;
	return MFS_OK;
}

static enum mfs_code
file_apply(const struct mfs_staged *s, const char *path, struct mfs_repo *r, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_file_read(s->fd, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
		return mfs_err_context(err, "%s/", MFS_ESC(s->path));
	return mfs_repo_file_put(r, path, MFS_SPAN(bytes, len), err);
}

static void
fts_end(FTS **f)
{
	if (*f != NULL)
		(void)fts_close(*f);
}

static enum mfs_code
files_apply(const struct mfs_staged *s, struct mfs_repo *r, struct mfs_err *err)
{
	mfs_autofree char *top = NULL;
	MFS_CLEANUP(fts_end) FTS *f = NULL;
	const FTSENT *e;
	enum mfs_code code;

	if (faccessat(s->fd, "targets", F_OK, 0) != 0)
		return MFS_OK;
	if (asprintf(&top, "%s/targets", s->path) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(s->path));
	if ((f = fts_open((char *const[]){ top, NULL }, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(top));
	while ((e = fts_read(f)) != NULL)
		if (e->fts_info == FTS_F && (code = file_apply(s, e->fts_path + strlen(s->path) + 1, r, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

enum mfs_code
mfs_staged_apply(const struct mfs_staged *s, struct mfs_repo *r, struct mfs_err *err)
{
	/* Delegators first: a new delegation makes its roles known. */
	static const char *const first[] = { "root", "targets" };
	struct mfs_repo_role *present;
	enum mfs_code code;

	for (size_t i = 0; i < s->n_roles; i++) {
		const struct mfs_staged_role *role = &s->roles[i];

		/* Read while the keys that signed them still count. */
		present = NULL;
		if ((role->parent_version > 0 && (code = mfs_repo_role(r, role->name, &present, err)) != MFS_OK) ||
			(code = mfs_change_targets(s->fd, s->path, role->doc, present != NULL ? present->doc : NULL, r, err)) != MFS_OK)
			return code;
	}
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < s->n_roles; i++)
			if (strcmp(s->roles[i].name, first[k]) == 0 && (code = role_apply(r, &s->roles[i], err)) != MFS_OK)
				return code;
	for (size_t i = 0; i < s->n_roles; i++)
		if (strchr(s->roles[i].name, '.') != NULL && (code = role_apply(r, &s->roles[i], err)) != MFS_OK)
			return code;
	/* A new root may give snapshot new keys. */
	if (r->root.changed && (code = mfs_repo_touch(r, "snapshot", err)) != MFS_OK)
		return code;
	if ((code = mfs_change_blobs(s->fd, s->path, r, err)) != MFS_OK)
		return code;
	return files_apply(s, r, err);
}
