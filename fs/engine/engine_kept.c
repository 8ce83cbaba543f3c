/* SPDX-License-Identifier: Apache-2.0 */
/* What was signed of the versions that are kept, when this host has lost it. */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

/* Hold lock. The k-th version of model i: 0 the active one, then those that are retained; NULL: there is none, nor any after it. */
static const struct mfs_vref *
kept(struct mfs_engine *e, size_t i, size_t k)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);

	if (st == NULL || k > st->n_retained || strcmp(st->model_id, e->args.config->models[i].model_id) != 0)
		return NULL;
	return k == 0 ? &st->active : &st->retained[k - 1];
}

bool
mfs_kept_lost(enum mfs_code code)
{
	return code == MFS_IO || code == MFS_HASH_MISMATCH || code == MFS_SIGNATURE_INVALID;
}

bool
mfs_engine_kept(struct mfs_engine *e, size_t i, size_t k, struct mfs_vref *out)
{
	const struct mfs_vref *ref;

	*out = (struct mfs_vref){ 0 };
	if (i >= e->args.config->n_models)
		return false;
	(void)pthread_mutex_lock(&e->lock);
	if ((ref = kept(e, i, k)) != NULL)
		*out = *ref;
	(void)pthread_mutex_unlock(&e->lock);
	return !mfs_sha256_is_zero(&out->manifest);
}

enum mfs_code
mfs_engine_signed_restore(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const struct mfs_signed *s,
	struct mfs_err *err)
{
	const struct mfs_vref *ref;
	bool named = false;
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	for (size_t k = 0; !named && (ref = kept(e, i, k)) != NULL; k++)
		named = mfs_sha256_equal(&ref->manifest, id);
	code = named ? mfs_engine_signed_put(e, id, s, err)
		: mfs_fail(err, MFS_CONDITION_UNMET, "model %s: manifest %s is not kept any more", e->args.config->models[i].id,
			MFS_HEX(id));
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- for status ------------------------------------------------------------------------------------------------- */

void
mfs_engine_gone_note(struct mfs_engine_gone *g, const struct mfs_vref *ref, bool previous, const struct mfs_err *why)
{
	if (g->version[0] != '\0' && !previous) /* where a rollback would go says more */
		return;
	*g = (struct mfs_engine_gone){ .previous = previous, .why = why->code };
	mfs_engine_version_copy(g->version, ref);
	(void)snprintf(g->detail, sizeof(g->detail), "%.250s", why->msg);
}
