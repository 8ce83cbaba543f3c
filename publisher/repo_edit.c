/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a repository in memory: roles, delegations, targets. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "modes.h"
#include "repo_internal.h"

enum mfs_code
mfs_repo_alloc(const char *path, struct mfs_repo **out, struct mfs_err *err)
{
	struct mfs_repo *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (r == NULL || (r->path = strdup(path)) == NULL) {
		free(r);
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	r->fd = -1;
	r->now = mfs_clock_wall();
	r->life = mfs_lifetimes_default;
	*out = r;
	return MFS_OK;
}

enum mfs_code
mfs_repo_lock(struct mfs_repo *r, struct mfs_err *err)
{
	if (flock(r->fd, LOCK_EX | LOCK_NB) == 0)
		return MFS_OK;
	if (errno == EWOULDBLOCK)
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: another modelpub is changing it; try again when it is done",
			MFS_ESC(r->path));
	return mfs_fail_sys(err, MFS_IO, "%s: lock", MFS_ESC(r->path));
}

enum mfs_code
mfs_repo_lock_blobs(struct mfs_repo *r, int *out, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;

	*out = -1;
	if (mkdirat(r->fd, "blobs", 0777) == 0)
		mfs_modes_like_at(r->fd, "blobs", r->fd);
	if ((fd = openat(r->fd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/blobs", MFS_ESC(r->path));
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno != EWOULDBLOCK ? mfs_fail_sys(err, MFS_IO, "%s/blobs: lock", MFS_ESC(r->path)) :
					      mfs_fail(err, MFS_CONDITION_UNMET,
						      "%s: another modelpub is copying into it or collecting; try again when it is done",
						      MFS_ESC(r->path));
	*out = mfs_steal_fd(&fd);
	return MFS_OK;
}

void
mfs_repo_unlock(struct mfs_repo *r)
{
	(void)flock(r->fd, LOCK_UN);
}

static enum mfs_code
role_new(struct mfs_repo_role *role, const char *name, json_t *doc, struct mfs_err *err)
{
	role->doc = doc;
	role->changed = true;
	role->name = strdup(name);
	return doc != NULL && role->name != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
}

static json_t *
doc_with(const char *type, json_t *(*fill)(void))
{
	json_t *doc = mfs_md_new(type), *fields = fill();

	if (doc == NULL || fields == NULL || json_object_update(mfs_md_signed(doc), fields) != 0) {
		json_decref(doc);
		doc = NULL;
	}
	json_decref(fields);
	return doc;
}

static json_t *
root_fields(void)
{
	return json_pack("{s:b, s:{}, s:{s:{s:[], s:i}, s:{s:[], s:i}, s:{s:[], s:i}, s:{s:[], s:i}}}", "consistent_snapshot", 1,
		"keys", "roles", "root", "keyids", "threshold", 1, "targets", "keyids", "threshold", 1, "snapshot", "keyids",
		"threshold", 1, "timestamp", "keyids", "threshold", 1);
}

static json_t *
meta_fields(void)
{
	return json_pack("{s:{}}", "meta");
}

static json_t *
targets_fields(void)
{
	return json_pack("{s:{}, s:{s:{}, s:[]}}", "targets", "delegations", "keys", "roles");
}

static json_t *
delegated_fields(void)
{
	return json_pack("{s:{}}", "targets");
}

/* Absent, or nothing in it but names that begin and end so, and names that begin with a dot. */
static bool
holds_only(const char *path, const char *sub, const char *begin, const char *end)
{
	mfs_autofree char *full = NULL;
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;

	if (asprintf(&full, "%s/%s", path, sub) < 0) {
		full = NULL;
		return false;
	}
	if ((d = opendir(full)) == NULL)
		return errno == ENOENT;
	while ((e = readdir(d)) != NULL) {
		const size_t n = strlen(e->d_name), k = strlen(end);

		if (e->d_name[0] != '.' &&
			(strncmp(e->d_name, begin, strlen(begin)) != 0 || n < k || strcmp(e->d_name + n - k, end) != 0))
			return false;
	}
	return true;
}

/* What an interrupted init left: first versions, and no timestamp by which anybody could have read them. */
static bool
only_begun(const char *path)
{
	mfs_autofree char *timestamp = NULL;

	if (asprintf(&timestamp, "%s/" MFS_REPO_TIMESTAMP, path) < 0) {
		timestamp = NULL;
		return false;
	}
	return faccessat(AT_FDCWD, timestamp, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
		holds_only(path, "metadata", "1.", ".json") && holds_only(path, "targets", "", ".trust.json");
}

/* Absent, or empty but for names that begin with a dot (".git", "lost+found" of a fresh disk), or only begun. */
static enum mfs_code
folder_free(const char *path, struct mfs_err *err)
{
	mfs_autodir DIR *d = opendir(path);
	const struct dirent *e;
	bool begun;

	if (d == NULL)
		return errno == ENOENT ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	begun = only_begun(path);
	while ((e = readdir(d)) != NULL) {
		if (begun && (strcmp(e->d_name, "metadata") == 0 || strcmp(e->d_name, "targets") == 0))
			continue;
		if (strcmp(e->d_name, "metadata") == 0)
			return mfs_fail(err, MFS_IO, "%s: is a repository already; nothing was changed (devices start from its "
				"metadata/1.root.json)", MFS_ESC(path));
		if (e->d_name[0] != '.' && strcmp(e->d_name, "lost+found") != 0)
			return mfs_fail(err, MFS_IO, "%s: is not empty ('%s'); choose another folder", MFS_ESC(path),
				MFS_ESC(e->d_name));
	}
	return MFS_OK;
}

enum mfs_code
mfs_repo_create(const char *path, struct mfs_repo **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_repo) struct mfs_repo *r = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_repo_alloc(path, &r, err)) != MFS_OK || (code = folder_free(path, err)) != MFS_OK)
		return code;
	if ((code = role_new(&r->root, "root", doc_with("root", root_fields), err)) != MFS_OK ||
		(code = role_new(&r->timestamp, "timestamp", doc_with("timestamp", meta_fields), err)) != MFS_OK ||
		(code = role_new(&r->snapshot, "snapshot", doc_with("snapshot", meta_fields), err)) != MFS_OK ||
		(code = role_new(&r->targets, "targets", doc_with("targets", targets_fields), err)) != MFS_OK)
		return code;
	if ((code = mfs_mkdirs(AT_FDCWD, path, 0777, err)) != MFS_OK)
		return code;
	if ((r->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	/* Once more under the lock: of two at a time the second finds a repository. */
	if ((code = mfs_repo_lock(r, err)) != MFS_OK || (code = folder_free(path, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&r);
	return MFS_OK;
}

/* ---- roles ------------------------------------------------------------------------------------ */

/* The delegation to a role in targets, borrowed; NULL without. */
static json_t *
delegation(const struct mfs_repo *r, const char *name)
{
	const json_t *roles = json_object_get(json_object_get(mfs_md_signed(r->targets.doc), "delegations"), "roles");

	for (size_t i = 0; i < json_array_size(roles); i++) {
		json_t *d = json_array_get(roles, i);
		const char *s = json_string_value(json_object_get(d, "name"));

		if (s != NULL && strcmp(s, name) == 0)
			return d;
	}
	return NULL;
}

bool
mfs_repo_delegates(const struct mfs_repo *r, const char *name)
{
	return delegation(r, name) != NULL;
}

/* Where a role's keys are listed. */
json_t *
mfs_repo_slot(const struct mfs_repo *r, const char *name, json_t **keys)
{
	json_t *root = mfs_md_signed(r->root.doc), *slot = json_object_get(json_object_get(root, "roles"), name);

	if (slot != NULL) {
		*keys = json_object_get(root, "keys");
		return slot;
	}
	*keys = json_object_get(json_object_get(mfs_md_signed(r->targets.doc), "delegations"), "keys");
	return delegation(r, name);
}

const json_t *
mfs_repo_keyids(const struct mfs_repo *r, const char *name, unsigned *threshold)
{
	json_t *keys;
	const json_t *slot = mfs_repo_slot(r, name, &keys);

	*threshold = (unsigned)json_integer_value(json_object_get(slot, "threshold"));
	return json_object_get(slot, "keyids");
}

enum mfs_code
mfs_repo_edit(struct mfs_repo *r, const char *name, json_t **body, struct mfs_err *err)
{
	struct mfs_repo_role *role;
	enum mfs_code code;

	*body = NULL;
	if ((code = mfs_repo_role(r, name, &role, err)) != MFS_OK)
		return code;
	if (role == &r->root && r->old_root == NULL && role->version > 0 && (r->old_root = json_deep_copy(role->doc)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "root");
	role->changed = true;
	*body = mfs_md_signed(role->doc);
	return MFS_OK;
}

enum mfs_code
mfs_repo_touch(struct mfs_repo *r, const char *name, struct mfs_err *err)
{
	json_t *body;

	return mfs_repo_edit(r, name, &body, err);
}

static bool
array_has(const json_t *a, const char *s)
{
	for (size_t i = 0; i < json_array_size(a); i++)
		if (strcmp(json_string_value(json_array_get(a, i)) != NULL ? json_string_value(json_array_get(a, i)) : "", s) == 0)
			return true;
	return false;
}

enum mfs_code
mfs_repo_key_add(struct mfs_repo *r, const char *name, const struct mfs_signer *key, struct mfs_err *err)
{
	mfs_autojson json_t *json = NULL;
	json_t *keys, *slot = mfs_repo_slot(r, name, &keys);
	struct mfs_repo_role *role;
	enum mfs_code code;
	char id[65];

	if (slot == NULL || keys == NULL)
		return mfs_fail(err, MFS_KEY_UNTRUSTED, "%s: there is no role %s", MFS_ESC(r->path), MFS_ESC(name));
	/* Read while the keys that signed it still count. */
	if ((code = mfs_repo_role(r, name, &role, err)) != MFS_OK)
		return code;
	if ((code = mfs_md_key(key, &json, id, err)) != MFS_OK)
		return code;
	if (json_object_set(keys, id, json) != 0 ||
		(!array_has(json_object_get(slot, "keyids"), id) &&
			json_array_append_new(json_object_get(slot, "keyids"), json_string(id)) != 0))
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	return MFS_OK;
}

/* Is a key still listed by any role of this object of roles (or array of delegations)? */
static bool
key_used(const json_t *roles, const char *id)
{
	json_t *item, *all = (json_t *)(uintptr_t)roles;
	const char *name;
	size_t i;

	if (json_is_array(roles)) {
		json_array_foreach(all, i, item)
			if (array_has(json_object_get(item, "keyids"), id))
				return true;
		return false;
	}
	json_object_foreach(all, name, item)
		if (array_has(json_object_get(item, "keyids"), id))
			return true;
	return false;
}

/* Keys that no role lists any more. */
static void
keys_sweep(json_t *keys, const json_t *roles)
{
	const char *id;
	json_t *item;
	void *next;

	json_object_foreach_safe(keys, next, id, item)
		if (!key_used(roles, id))
			(void)json_object_del(keys, id);
}

enum mfs_code
mfs_repo_key_remove(struct mfs_repo *r, const char *name, const char *id, struct mfs_err *err)
{
	json_t *keys, *slot = mfs_repo_slot(r, name, &keys), *ids = json_object_get(slot, "keyids");
	json_t *body = mfs_md_signed(strchr(name, '.') == NULL ? r->root.doc : r->targets.doc);
	struct mfs_repo_role *role;
	enum mfs_code code;
	bool found = false;

	if ((code = mfs_repo_role(r, name, &role, err)) != MFS_OK)
		return code;
	for (size_t i = json_array_size(ids); i-- > 0;)
		if (strcmp(json_string_value(json_array_get(ids, i)), id) == 0) {
			(void)json_array_remove(ids, i);
			found = true;
		}
	if (!found)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s has no key %s", MFS_ESC(name), MFS_ESC(id));
	keys_sweep(keys, strchr(name, '.') == NULL ? json_object_get(body, "roles") :
						     json_object_get(json_object_get(body, "delegations"), "roles"));
	return MFS_OK;
}

enum mfs_code
mfs_repo_keys_check(struct mfs_repo *r, struct mfs_keyring *ring, const char *name, struct mfs_err *err)
{
	struct mfs_signer *const *list;
	unsigned threshold, have = 0;
	const json_t *ids = mfs_repo_keyids(r, name, &threshold);
	enum mfs_code code;
	size_t n;

	if ((code = mfs_keyring_find(ring, name, &list, &n, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < n; i++) {
		char id[65];

		if ((code = mfs_md_key(list[i], NULL, id, err)) != MFS_OK)
			return code;
		have += array_has(ids, id);
	}
	if (have >= threshold && threshold > 0)
		return MFS_OK;
	return mfs_repo_keys_missing(ring, name, have, threshold, n, err);
}

enum mfs_code
mfs_repo_keys_missing(const struct mfs_keyring *ring, const char *name, unsigned have, unsigned threshold, size_t found,
	struct mfs_err *err)
{
	const char *dir = mfs_keyring_dir(ring);
	const char *of_model = strchr(name, '.');
	mfs_autofree char *file = of_model != NULL ? strndup(name, (size_t)(of_model - name)) : strdup(name);

	if (file == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	return mfs_fail(err, MFS_KEY_UNAVAILABLE,
		"role %s: %u of %u keys at hand%s; put %s.pem or %s.uri into %s, name one with --key %s=URI, or let its "
		"holders sign ('modelpub metadata stage')",
		MFS_ESC(name), have, threshold, found > have ? " (others are here, but the repository does not list them)" : "",
		file, file, dir != NULL ? MFS_ESC(dir) : "a folder given with --keys", file);
}

enum mfs_code
mfs_repo_role_new(struct mfs_repo *r, const char *name, struct mfs_repo_role **out, struct mfs_err *err)
{
	struct mfs_repo_role **roles;

	*out = NULL;
	for (size_t i = 0; i < r->n_roles; i++)
		if (strcmp(r->roles[i]->name, name) == 0) {
			*out = r->roles[i];
			return MFS_OK;
		}
	if ((roles = reallocarray(r->roles, r->n_roles + 1, sizeof(struct mfs_repo_role *))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	r->roles = roles;
	if ((*out = calloc(1, sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	r->roles[r->n_roles++] = *out;
	return role_new(*out, name, doc_with("targets", delegated_fields), err);
}

/* One delegation of a model: terminating, with the newest key at hand. */
static enum mfs_code
delegate(struct mfs_repo *r, struct mfs_keyring *ring, const char *kind, const char *model_id, const char *pattern,
	struct mfs_err *err)
{
	mfs_autofree char *name = NULL, *path = NULL;
	json_t *body, *entry, *delegations;
	struct mfs_repo_role *role;
	struct mfs_signer *const *keys;
	enum mfs_code code;
	size_t n;

	if (asprintf(&name, "%s.%s", kind, model_id) < 0 || asprintf(&path, "%s/%s", model_id, pattern) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(model_id));
	if ((code = mfs_keyring_find(ring, name, &keys, &n, err)) != MFS_OK ||
		(code = mfs_repo_edit(r, "targets", &body, err)) != MFS_OK)
		return code;
	if (n == 0)
		return mfs_repo_keys_missing(ring, name, 0, 1, 0, err);
	if (json_object_get(body, "delegations") == NULL) /* targets that another tool made */
		(void)json_object_set_new(body, "delegations", json_pack("{s:{}, s:[]}", "keys", "roles"));
	delegations = json_object_get(json_object_get(body, "delegations"), "roles");
	entry = json_pack("{s:s, s:[], s:i, s:b, s:[s]}", "name", name, "keyids", "threshold", 1, "terminating", 1, "paths", path);
	if (entry == NULL || json_array_append_new(delegations, entry) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	if ((code = mfs_repo_key_add(r, name, keys[0], err)) != MFS_OK)
		return code;
	return mfs_repo_role_new(r, name, &role, err);
}

enum mfs_code
mfs_repo_delegate(struct mfs_repo *r, struct mfs_keyring *ring, const char *model_id, struct mfs_err *err)
{
	const json_t *roles = json_object_get(json_object_get(mfs_md_signed(r->targets.doc), "delegations"), "roles");
	enum mfs_code code;

	/* Model ids are unique ignoring case: folders of clients on such filesystems would meet. */
	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *s = json_string_value(json_object_get(json_array_get(roles, i), "name"));
		const char *dot = s != NULL ? strchr(s, '.') : NULL;

		if (dot != NULL && strcasecmp(dot + 1, model_id) == 0)
			return mfs_fail(err, MFS_POLICY_REJECTED, "model id %s: the repository has %s, and ids are unique ignoring case",
				MFS_ESC(model_id), MFS_ESC(dot + 1));
	}
	if (json_array_size(roles) + 2 > MFS_REPO_ROLES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu delegations", MFS_ESC(r->path), json_array_size(roles));
	/* '*' does not cross '/' in TUF paths. */
	if ((code = delegate(r, ring, "release", model_id, "*/*/*", err)) != MFS_OK)
		return code;
	return delegate(r, ring, "policy", model_id, "policy.json", err);
}

/* ---- targets ------------------------------------------------------------------------------------ */

enum mfs_code
mfs_repo_file_put(struct mfs_repo *r, const char *path, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_repo_file *files = reallocarray(r->files, r->n_files + 1, sizeof(*files));
	struct mfs_repo_file f = { .len = bytes.len };

	if (files == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	r->files = files;
	if ((f.path = strdup(path)) == NULL || (f.bytes = malloc(bytes.len + 1)) == NULL) {
		free(f.path);
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	if (bytes.len > 0)
		memcpy(f.bytes, bytes.p, bytes.len);
	f.bytes[bytes.len] = 0;
	r->files[r->n_files++] = f;
	return MFS_OK;
}

enum mfs_code
mfs_repo_target_gone(struct mfs_repo *r, const json_t *target, const char *path, struct mfs_err *err)
{
	const char *hash = json_string_value(json_object_get(json_object_get(target, "hashes"), "sha256"));
	struct mfs_sha256 sha256;
	char **gone;

	if (hash == NULL || !mfs_hex_decode(sha256.b, MFS_SHA256_LEN, hash, strlen(hash)))
		return MFS_OK;
	if ((gone = reallocarray(r->gone, r->n_gone + 1, sizeof(*gone))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	r->gone = gone;
	if ((gone[r->n_gone] = mfs_repo_target_path(path, &sha256)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	r->n_gone++;
	return MFS_OK;
}

enum mfs_code
mfs_repo_target_put(struct mfs_repo *r, const char *role, const char *path, struct mfs_span bytes, struct mfs_err *err)
{
	mfs_autofree char *file = NULL;
	struct mfs_sha256 sha256;
	json_t *body, *entry;
	enum mfs_code code;

	if ((code = mfs_repo_edit(r, role, &body, err)) != MFS_OK || (code = mfs_sha256(bytes, &sha256, err)) != MFS_OK ||
		(code = mfs_repo_target_gone(r, json_object_get(json_object_get(body, "targets"), path), path, err)) != MFS_OK)
		return code;
	entry = json_pack("{s:I, s:{s:s}}", "length", (json_int_t)bytes.len, "hashes", "sha256", MFS_HEX(&sha256));
	if (entry == NULL || json_object_set_new(json_object_get(body, "targets"), path, entry) != 0 ||
		(file = mfs_repo_target_path(path, &sha256)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	return mfs_repo_file_put(r, file, bytes, err);
}
