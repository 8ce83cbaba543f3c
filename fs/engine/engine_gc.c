/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting what nobody needs, and checking what is kept. */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

/* ---- gc --------------------------------------------------------------------------------------------- */

struct hashes {
	struct mfs_sha256 *list;
	size_t n, cap;
};

static bool
hashes_add(struct hashes *h, const struct mfs_sha256 *id)
{
	if (h->n == h->cap) {
		size_t cap = h->cap > 0 ? 2 * h->cap : 64;
		struct mfs_sha256 *grown = reallocarray(h->list, cap, sizeof(*grown));

		if (grown == NULL)
			return false;
		h->list = grown;
		h->cap = cap;
	}
	h->list[h->n++] = *id;
	return true;
}

static bool
hashes_have(const struct hashes *h, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < h->n; i++)
		if (mfs_sha256_equal(&h->list[i], id))
			return true;
	return false;
}

static int
hash_order(const void *a, const void *b)
{
	return memcmp(a, b, MFS_SHA256_LEN);
}

static void
hashes_sort(struct hashes *h)
{
	if (h->n > 0)
		qsort(h->list, h->n, sizeof(*h->list), hash_order);
}

static void
hashes_free(struct hashes *h)
{
	free(h->list);
}

/* What is kept of a version besides its manifest: blobs, and wraps of its content key. */
struct kept {
	struct hashes blobs, keys;
};

static void
kept_free(struct kept *k)
{
	free(k->blobs.list);
	free(k->keys.list);
}

static bool
manifest_keep(const struct mfs_manifest *m, struct kept *k)
{
	struct hashes *keep = &k->blobs;
	bool ok = m->cipher == MFS_CIPHER_NONE || hashes_have(&k->keys, &m->content_key_id) ||
		hashes_add(&k->keys, &m->content_key_id);

	for (size_t i = 0; ok && i < m->n_files; i++)
		ok = hashes_add(keep, &m->files[i].sha256) &&
			(m->files[i].chunks <= 1 || hashes_add(keep, &m->files[i].chunks_sha256));
	return ok;
}

/* Not known now, and known again in a moment: no reason to remove what cannot be brought back. */
static bool
passes(const struct mfs_err *why)
{
	return why->code == MFS_NO_MEMORY || why->sys_errno == EMFILE || why->sys_errno == ENFILE || why->sys_errno == ENOMEM ||
		why->sys_errno == EIO;
}

/*
 * The blobs that version `id` names, from either copy of its manifest. The hash is the identity:
 * no signature is needed to know what may not be removed. Of two failures, err has one that passes.
 */
static enum mfs_code
version_keep(struct mfs_engine *e, const struct mfs_sha256 *id, struct kept *keep, struct mfs_err *err)
{
	const int dirs[2] = { e->args.state_dirfd, mfs_store_dirfd(e->args.store) };

	*err = (struct mfs_err)MFS_ERR_INIT;
	for (int i = 0; i < 2; i++) {
		MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
		struct mfs_err why = MFS_ERR_INIT;
		struct mfs_signed s;
		enum mfs_code code;

		if ((code = mfs_signed_get(dirs[i], id, &s, &why)) == MFS_OK)
			code = mfs_manifest_parse(MFS_SPAN(s.manifest, s.manifest_len), &m, &why);
		mfs_signed_free(&s);
		if (code == MFS_OK)
			return manifest_keep(m, keep) ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "gc");
		if (!passes(err))
			*err = why;
	}
	return err->code;
}

/* Active and retained versions of every model of the anchor, configured or not. */
static enum mfs_code
anchor_keep(struct mfs_engine *e, struct hashes *versions, struct kept *keep, struct mfs_err *err)
{
	const struct mfs_anchor *a = mfs_trusted_anchor(e->trusted);

	for (size_t i = 0; i < a->n_models; i++) {
		const struct mfs_anchor_model *st = &a->models[i];

		for (size_t k = 0; k <= st->n_retained; k++) {
			const struct mfs_vref *v = k == 0 ? &st->active : &st->retained[k - 1];

			if (mfs_sha256_is_zero(&v->manifest))
				continue;
			if (!hashes_add(versions, &v->manifest))
				return mfs_fail(err, MFS_NO_MEMORY, "gc");
			if (version_keep(e, &v->manifest, keep, err) == MFS_OK)
				continue;
			/* Guessing could remove the blobs of a model in use, or of the version to go back to. */
			if (k == 0 || passes(err))
				return mfs_err_context(err, "gc: model %s: the manifest of version %s cannot be read, so its "
					"blobs are not known (install that version again): ", st->id, v->version);
			*err = (struct mfs_err)MFS_ERR_INIT;
		}
	}
	return MFS_OK;
}

static enum mfs_code
attempt_keep(struct mfs_engine *e, const struct mfs_sha256 *id, struct hashes *versions, struct kept *keep,
	struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;

	if (mfs_sha256_is_zero(id) || hashes_have(versions, id))
		return MFS_OK;
	/* Without its manifest it begins anew, whatever is here. */
	if (!hashes_add(versions, id))
		return mfs_fail(err, MFS_NO_MEMORY, "gc");
	return version_keep(e, id, keep, &own) == MFS_OK || !passes(&own) ? MFS_OK : mfs_fail(err, own.code, "gc: %s", own.msg);
}

/* What is on its way: about to be, downloaded, or waiting, verified, for its window. It would all be fetched again. */
static enum mfs_code
attempts_keep(struct mfs_engine *e, struct hashes *versions, struct kept *keep, struct mfs_err *err)
{
	enum mfs_code code;

	for (size_t i = 0; i < e->args.config->n_models; i++) {
		const struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

		if ((code = attempt_keep(e, &e->bringing[i], versions, keep, err)) != MFS_OK ||
			(cm != NULL && cm->attempt.step != MFS_STEP_IDLE &&
				(code = attempt_keep(e, &cm->attempt.v.manifest, versions, keep, err)) != MFS_OK))
			return code;
	}
	return MFS_OK;
}

/* Manifests on disk that the anchor does not name: busy ones are kept with their blobs, the others go. */
static enum mfs_code
manifests_sort(struct mfs_engine *e, int dirfd, bool (*busy)(void *user, const struct mfs_sha256 *id), void *user,
	struct hashes *versions, struct kept *keep, struct hashes *drop, struct mfs_err *err)
{
	mfs_autofree struct mfs_sha256 *list = NULL;
	size_t n;
	enum mfs_code code = mfs_signed_list(dirfd, &list, &n, err);

	for (size_t i = 0; code == MFS_OK && i < n; i++) {
		if (hashes_have(versions, &list[i]) || hashes_have(drop, &list[i]))
			continue;
		if (busy != NULL && busy(user, &list[i])) {
			if (!hashes_add(versions, &list[i]))
				return mfs_fail(err, MFS_NO_MEMORY, "gc");
			code = version_keep(e, &list[i], keep, err);
		} else if (!hashes_add(drop, &list[i])) {
			return mfs_fail(err, MFS_NO_MEMORY, "gc");
		}
	}
	return code;
}

struct repairs {
	const struct mfs_config *config;
	const struct hashes *blobs; /* sorted */
};

/* What a repair staged of a payload that it could not finish is of use as long as a version that is kept names it. */
static bool
repair_keep(void *user, const char *id)
{
	const struct repairs *r = user;
	struct mfs_sha256 hash = { { 0 } };

	if (!mfs_hex_decode(hash.b, MFS_SHA256_LEN, id, strlen(id)) || mfs_config_find(r->config, id) >= 0)
		return true; /* a model's download */
	return r->blobs->n > 0 && bsearch(&hash, r->blobs->list, r->blobs->n, sizeof(*r->blobs->list), hash_order) != NULL;
}

static enum mfs_code
gc_locked(struct mfs_engine *e, bool (*busy)(void *user, const struct mfs_sha256 *id), void *user, uint64_t *freed,
	size_t *removed, struct mfs_err *err)
{
	MFS_CLEANUP(hashes_free) struct hashes versions = { 0 }, drop = { 0 };
	MFS_CLEANUP(kept_free) struct kept keep = { 0 };
	mfs_autoclose int lock = -1;
	const int dirs[2] = { e->args.state_dirfd, mfs_store_dirfd(e->args.store) };
	enum mfs_code code;

	if ((code = mfs_store_lock(e->args.store, &lock, err)) != MFS_OK ||
		(code = mfs_store_clean(e->args.store, err)) != MFS_OK ||
		(code = anchor_keep(e, &versions, &keep, err)) != MFS_OK ||
		(code = attempts_keep(e, &versions, &keep, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < e->args.config->n_models; i++) { /* what is being checked */
		const struct mfs_version *c = e->candidates[i];

		if (c != NULL && (!hashes_add(&versions, &c->m->id) || !manifest_keep(c->m, &keep)))
			return mfs_fail(err, MFS_NO_MEMORY, "gc");
	}
	for (int i = 0; i < 2; i++)
		if ((code = manifests_sort(e, dirs[i], busy, user, &versions, &keep, &drop, err)) != MFS_OK)
			return code;
	hashes_sort(&keep.blobs);
	hashes_sort(&keep.keys);
	if ((code = mfs_store_gc(e->args.store, keep.blobs.list, keep.blobs.n, freed, removed, err)) != MFS_OK)
		return code;
	mfs_store_wrap_gc(e->args.store, keep.keys.list, keep.keys.n);
	mfs_stage_filter(e->args.store, repair_keep, &(struct repairs){ e->args.config, &keep.blobs });
	/* Manifests last: a collection cut off here is simply repeated. */
	for (size_t i = 0; i < drop.n; i++)
		for (int d = 0; d < 2; d++)
			if ((code = mfs_signed_remove(dirs[d], &drop.list[i], err)) != MFS_OK)
				return code;
	return MFS_OK;
}

enum mfs_code
mfs_engine_gc(struct mfs_engine *e, bool (*busy)(void *user, const struct mfs_sha256 *id), void *user, uint64_t *freed,
	size_t *removed, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	char detail[96];
	enum mfs_code code;

	err = err != NULL ? err : &own;
	*freed = 0;
	*removed = 0;
	(void)pthread_mutex_lock(&e->lock);
	code = gc_locked(e, busy, user, freed, removed, err);
	(void)pthread_mutex_unlock(&e->lock);
	if (code == MFS_OK && *removed > 0) {
		(void)snprintf(detail, sizeof(detail), "%zu blobs removed, %llu bytes freed", *removed,
			(unsigned long long)*freed);
		mfs_event(e->args.events, &(struct mfs_event){ .code = MFS_OK, .source = "gc", .detail = detail });
	}
	return code;
}

/* ---- verify --------------------------------------------------------------------------------------------- */

#define CHECK_CACHE (8u << 20) /* bytes, when the caller brought no cache */

static enum mfs_code
version_check(struct mfs_engine *e, struct mfs_cache *cache, struct mfs_version *v, _Atomic int *cancel,
	_Atomic uint64_t *done, struct mfs_err *err)
{
	for (size_t k = 0; k < v->m->n_files; k++) {
		struct mfs_content *c = v->files != NULL ? v->files[k] : NULL;
		_Atomic uint64_t part = 0;
		enum mfs_code code = MFS_OK;

		/* Without a key the signed hashes can be checked all the same. */
		if (c == NULL && (code = mfs_content_new(e->args.store, cache, v->m, k, NULL, &c, err)) != MFS_OK)
			return code;
		code = mfs_content_check(c, 0, cancel, &part, err);
		if (v->files == NULL)
			mfs_content_free(c);
		if (done != NULL)
			*done += part;
		if (code != MFS_OK)
			return mfs_err_context(err, "%s %s: %s: ", v->m->model_id, v->m->version,
				MFS_ESC(v->m->files[k].name));
	}
	return MFS_OK;
}

enum mfs_code
mfs_engine_verify(struct mfs_engine *e, size_t i, _Atomic int *cancel, _Atomic uint64_t *done, struct mfs_err *err)
{
	struct mfs_cache *own = NULL;
	struct mfs_engine_model m;
	struct mfs_err first = MFS_ERR_INIT;
	enum mfs_code code = mfs_engine_model_get(e, i, &m, err);

	if (code != MFS_OK)
		return code;
	if (m.absent != MFS_OK)
		code = mfs_fail(err, m.absent, "%s", m.absent_detail);
	if (code == MFS_OK && e->args.cache == NULL)
		code = mfs_cache_new(CHECK_CACHE, -1, &own, err);
	/* All versions, also after a bad one; the first failure is the one reported. */
	for (size_t k = 0; code == MFS_OK && k < m.n; k++) {
		struct mfs_err one = MFS_ERR_INIT;

		if (version_check(e, own != NULL ? own : e->args.cache, m.versions[k].v, cancel, done, &one) != MFS_OK &&
			first.code == MFS_OK)
			first = one;
		if (first.code == MFS_CONDITION_UNMET)
			break;
	}
	if (code == MFS_OK && first.code != MFS_OK) {
		code = first.code;
		if (err != NULL)
			*err = first;
	}
	mfs_cache_free(own);
	mfs_engine_model_free(&m);
	return code;
}
