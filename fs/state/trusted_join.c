/* SPDX-License-Identifier: Apache-2.0 */
/* Joining two authentic anchors for `recover`: whatever forbids something is kept from both. */
#include <stdio.h>
#include <string.h>

#include "trusted_io.h"

/* Append n elements of `size` bytes; *list stays valid on failure. */
static bool
list_append(void *listp, size_t *n, const void *element, size_t size)
{
	void *old, *grown;

	memcpy(&old, listp, sizeof(old));
	if ((grown = reallocarray(old, *n + 1, size)) == NULL)
		return false;
	memcpy((uint8_t *)grown + *n * size, element, size);
	memcpy(listp, &grown, sizeof(grown));
	(*n)++;
	return true;
}

static bool
join_lists(struct mfs_anchor_model *to, const struct mfs_anchor_model *from)
{
	bool ok = true;

	for (size_t i = 0; ok && i < from->n_bad && to->n_bad < MFS_BAD_MAX; i++) {
		bool have = false;

		for (size_t j = 0; j < to->n_bad; j++)
			have = have || mfs_sha256_equal(&to->bad[j].manifest, &from->bad[i].manifest);
		ok = have || list_append(&to->bad, &to->n_bad, &from->bad[i], sizeof(from->bad[i]));
	}
	for (size_t i = 0; ok && i < from->n_revoked && to->n_revoked < MFS_REVOKED_MAX; i++) {
		bool have = false;

		for (size_t j = 0; j < to->n_revoked; j++)
			have = have || (mfs_sha256_equal(&to->revoked[j].manifest, &from->revoked[i].manifest) &&
					       strcmp(to->revoked[j].version, from->revoked[i].version) == 0);
		ok = have || list_append(&to->revoked, &to->n_revoked, &from->revoked[i], sizeof(from->revoked[i]));
	}
	for (size_t i = 0; ok && i < from->n_known && to->n_known < MFS_KNOWN_MAX; i++) {
		bool have = false;

		for (size_t j = 0; j < to->n_known; j++)
			have = have || mfs_sha256_equal(&to->known[j].manifest, &from->known[i].manifest);
		ok = have || list_append(&to->known, &to->n_known, &from->known[i], sizeof(from->known[i]));
	}
	return ok;
}

static bool
join_model(struct mfs_anchor_model *to, const struct mfs_anchor_model *from)
{
	if (from->floor_epoch > to->floor_epoch ||
		(from->floor_epoch == to->floor_epoch && from->floor_release > to->floor_release)) {
		to->floor_epoch = from->floor_epoch;
		to->floor_release = from->floor_release;
		to->floor_manifest = from->floor_manifest;
	}
	if (from->min_release > to->min_release)
		to->min_release = from->min_release;
	if (from->min_key_epoch > to->min_key_epoch)
		to->min_key_epoch = from->min_key_epoch;
	if (from->high_epoch > to->high_epoch ||
		(from->high_epoch == to->high_epoch && from->high_release > to->high_release)) {
		to->high_epoch = from->high_epoch;
		to->high_release = from->high_release;
	}
	to->withdraw_below = to->withdraw_below || from->withdraw_below;
	if (from->policy_sequence > to->policy_sequence) {
		to->policy_sequence = from->policy_sequence;
		to->policy_sha256 = from->policy_sha256;
		to->policy_issued = from->policy_issued;
	}
	return join_lists(to, from);
}

static void
join_role(struct mfs_anchor_role *to, const struct mfs_anchor_role *from)
{
	if (from->version > to->version)
		*to = *from;
}

/* A trust list goes with the targets that it was a target of. */
static bool
join_repo(struct mfs_anchor_repo *to, const struct mfs_anchor_repo *from)
{
	if (from->targets.version > to->targets.version) {
		char *trust = from->trust_json != NULL ? strdup(from->trust_json) : NULL;

		if (trust == NULL && from->trust_json != NULL)
			return false;
		free(to->trust_json);
		to->trust_json = trust;
	}
	join_role(&to->root, &from->root);
	join_role(&to->snapshot, &from->snapshot);
	join_role(&to->targets, &from->targets);
	return true;
}

enum mfs_code
mfs_anchor_join(const struct mfs_anchor *newer, const struct mfs_anchor *older, struct mfs_anchor **out,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	enum mfs_code code;

	*out = NULL;
	if (newer == NULL) {
		newer = older;
		older = NULL;
	}
	if (newer == NULL && (a = calloc(1, sizeof(*a))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "state");
	if (newer != NULL && (code = mfs_anchor_copy(newer, &a, err)) != MFS_OK)
		return code;
	for (size_t i = 0; older != NULL && i < older->n_models; i++) {
		const struct mfs_anchor_model *from = &older->models[i];
		struct mfs_anchor_model *to = mfs_anchor_find(a, from->id);

		if (to == NULL && (code = mfs_anchor_add(a, from->id, from->model_id, &to, err)) != MFS_OK)
			return code;
		if (!join_model(to, from))
			return mfs_fail(err, MFS_NO_MEMORY, "state: model '%s'", from->id);
	}
	for (size_t i = 0; older != NULL && i < older->n_repos; i++) {
		const struct mfs_anchor_repo *from = &older->repos[i];
		struct mfs_anchor_repo *to;

		if ((code = mfs_anchor_repo_add(a, from->name, &to, err)) != MFS_OK)
			return code;
		if (!join_repo(to, from))
			return mfs_fail(err, MFS_NO_MEMORY, "state: repository '%s'", from->name);
	}
	*out = mfs_steal(&a);
	return MFS_OK;
}
