/* SPDX-License-Identifier: Apache-2.0 */
/* What a run of the TUF client is given of earlier ones, and what it leaves to be stored. */
#include "tuf_internal.h"

bool
mfs_tuf_lost_online_key(const struct mfs_tuf *t)
{
	return t->lost[MFS_TUF_TIMESTAMP] || t->lost[MFS_TUF_SNAPSHOT];
}

/* ---- what is stored --------------------------------------------------------------------------------------- */

static void
local_free(struct mfs_tuf_local *l)
{
	free(l->file);
	free(l->bytes);
	free(l);
}

static bool
file_name_ok(const char *file)
{
	const size_t len = strlen(file);

	return len > 5 && len <= MFS_TUF_FILE_MAX && strcmp(file + len - 5, ".json") == 0 && strchr(file, '/') == NULL;
}

enum mfs_code
mfs_tuf_local(struct mfs_tuf *t, const char *file, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_tuf_local *l;
	uint8_t *old = NULL;
	size_t old_len;
	bool top = false;

	if (!file_name_ok(file))
		return mfs_fail(err, MFS_CONFIG_INVALID, "'%s' is no name of a metadata file", MFS_ESC(file));
	if (bytes.len > MFS_TUF_TARGETS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %u", MFS_ESC(file), bytes.len,
			MFS_TUF_TARGETS_MAX);
	if (strcmp(file, "root.json") == 0)
		return MFS_OK;
	for (enum mfs_tuf_type i = MFS_TUF_TIMESTAMP; i <= MFS_TUF_TARGETS; i++)
		if (strncmp(file, mfs_tuf_type_name(i), strlen(file) - 5) == 0 && mfs_tuf_type_name(i)[strlen(file) - 5] == '\0')
			top = t->had_local[i] = true;
	if (top && (t->state != MFS_TUF_AT_ROOT || t->entered))
		return mfs_fail(err, MFS_INTERNAL, "%s: given after the run began", MFS_ESC(file));
	if (mfs_tuf_local_take(t, file, &old, &old_len))
		free(old);
	if ((l = calloc(1, sizeof(*l))) == NULL || (l->file = strdup(file)) == NULL ||
		(l->bytes = malloc(bytes.len + 1)) == NULL) {
		if (l != NULL)
			local_free(l);
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu bytes", MFS_ESC(file), bytes.len);
	}
	if (bytes.len > 0)
		memcpy(l->bytes, bytes.p, bytes.len);
	l->len = bytes.len;
	l->next = t->local;
	t->local = l;
	return MFS_OK;
}

bool
mfs_tuf_local_take(struct mfs_tuf *t, const char *file, uint8_t **bytes, size_t *len)
{
	for (struct mfs_tuf_local **p = &t->local; *p != NULL; p = &(*p)->next) {
		struct mfs_tuf_local *l = *p;

		if (strcmp(l->file, file) != 0)
			continue;
		*p = l->next;
		*bytes = mfs_steal(&l->bytes);
		*len = l->len;
		local_free(l);
		return true;
	}
	return false;
}

void
mfs_tuf_local_clear(struct mfs_tuf *t)
{
	for (struct mfs_tuf_local *l = t->local, *next; l != NULL; l = next) {
		next = l->next;
		local_free(l);
	}
	t->local = NULL;
}

/* ---- what to store and what to show -------------------------------------------------------------------------- */

/* Is there a least version of the role that the caller has to forget? */
static bool
recorded(const struct mfs_tuf_options *o, enum mfs_tuf_type type)
{
	return (type == MFS_TUF_TIMESTAMP ? o->floor_timestamp
		       : type == MFS_TUF_SNAPSHOT ? o->floor_snapshot
						  : o->floor_targets) > 0;
}

static bool
top_role(const struct mfs_tuf *t, enum mfs_tuf_type type, struct mfs_tuf_role *out)
{
	static const char *const files[] = { "root.json", "timestamp.json", "snapshot.json", "targets.json" };
	const struct mfs_tuf_doc *d = t->role[type];
	const bool drop = d == NULL && type != MFS_TUF_ROOT && mfs_tuf_lost_online_key(t) &&
		(t->had_local[type] || recorded(&t->opt, type));

	*out = (struct mfs_tuf_role){ .name = mfs_tuf_type_name(type), .file = files[type], .drop = drop };
	if (d == NULL)
		return drop;
	out->bytes = MFS_SPAN(d->bytes, d->len);
	out->version = d->version;
	out->expires = d->expires;
	out->sha256 = d->sha256;
	out->changed = t->changed[type];
	return true;
}

bool
mfs_tuf_role(const struct mfs_tuf *t, size_t i, struct mfs_tuf_role *out)
{
	for (enum mfs_tuf_type type = MFS_TUF_ROOT; type <= MFS_TUF_TARGETS; type++)
		if (top_role(t, type, out) && i-- == 0)
			return true;
	for (const struct mfs_tuf_delegated *d = t->delegated; d != NULL; d = d->next) {
		if (i-- > 0)
			continue;
		*out = (struct mfs_tuf_role){ .name = d->name, .file = d->file, .bytes = MFS_SPAN(d->doc->bytes, d->doc->len),
			.version = d->doc->version, .expires = d->doc->expires, .sha256 = d->doc->sha256, .changed = d->changed };
		return true;
	}
	return false;
}

bool
mfs_tuf_role_find(const struct mfs_tuf *t, const char *name, struct mfs_tuf_role *out)
{
	for (size_t i = 0; mfs_tuf_role(t, i, out); i++)
		if (strcmp(out->name, name) == 0)
			return true;
	return false;
}

bool
mfs_tuf_rotated(const struct mfs_tuf *t, const char *name)
{
	for (enum mfs_tuf_type i = MFS_TUF_TIMESTAMP; i <= MFS_TUF_TARGETS; i++)
		if (strcmp(name, mfs_tuf_type_name(i)) == 0)
			return t->lost[i];
	return false;
}
