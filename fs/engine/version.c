/* SPDX-License-Identifier: Apache-2.0 */
/* Loading one version: either copy of what was signed, verified anew every time. */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

static void
version_free(struct mfs_version *v)
{
	/* Contents point into the manifest: they go first. */
	for (size_t i = 0; v->files != NULL && i < v->m->n_files; i++)
		if (v->files[i] != NULL)
			mfs_content_free(v->files[i]);
	free(v->files);
	free(v->key_why);
	mfs_manifest_free(v->m);
	mfs_signed_free(&v->signed_bytes);
	free(v);
}
MFS_DEFINE_CLEANUP(version, struct mfs_version, version_free)

struct mfs_version *
mfs_version_ref(struct mfs_version *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

void
mfs_version_unref(struct mfs_version *v)
{
	if (v != NULL && atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1)
		version_free(v);
}

enum mfs_code
mfs_signed_verify(const struct mfs_signed *s, const struct mfs_trust *trust, unsigned threshold,
	struct mfs_manifest **m, struct mfs_sha256 *key_id, struct mfs_err *err)
{
	struct mfs_signature sigs[MFS_KEY_IDS_MAX + 1] = { 0 };
	size_t n = 0;

	*m = NULL;
	if (s->sig != NULL)
		sigs[n++].bytes = MFS_SPAN(s->sig, s->sig_len);
	for (size_t i = 0; i < s->n_extra && n < MFS_KEY_IDS_MAX + 1; i++)
		sigs[n++] = (struct mfs_signature){ s->extra[i].key_id, MFS_SPAN(s->extra[i].bytes, s->extra[i].len) };
	return mfs_bundle_verify(MFS_SPAN(s->manifest, s->manifest_len), sigs, n, trust, threshold, m, key_id, err);
}

/* One copy: read, verify, compare with the identity asked for. out is zero on failure. */
static enum mfs_code
copy_load(int dirfd, const char *where, const struct mfs_config *c, const struct mfs_keys *keys, size_t model,
	const struct mfs_sha256 *id, struct mfs_version *v, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = mfs_keys_trust(keys, model);
	enum mfs_code code = mfs_signed_get(dirfd, id, &v->signed_bytes, err);

	if (code == MFS_OK)
		code = mfs_signed_verify(&v->signed_bytes, trust, c->threshold, &v->m, &v->key_id, err);
	if (code == MFS_OK && !mfs_sha256_equal(&v->m->id, id))
		code = mfs_fail(err, MFS_MALFORMED, "manifest %s: the bytes are those of %s", MFS_HEX(id),
			MFS_HEX(&v->m->id));
	if (code == MFS_OK)
		return code;
	mfs_manifest_free(v->m);
	v->m = NULL;
	mfs_signed_free(&v->signed_bytes);
	(void)mfs_err_context(err, "%s/", where);
	return code;
}

static enum mfs_code
contents_make(struct mfs_store *s, struct mfs_cache *cache, struct mfs_version *v, const struct mfs_key *key,
	struct mfs_err *err)
{
	struct mfs_content **files = calloc(v->m->n_files + 1, sizeof(*files));
	enum mfs_code code = MFS_OK;

	if (files == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", v->m->n_files);
	for (size_t i = 0; i < v->m->n_files && code == MFS_OK; i++)
		code = mfs_content_new(s, cache, v->m, i, key, &files[i], err);
	if (code == MFS_OK) { /* all of them, or none: who shares it may be looking */
		v->files = files;
		return MFS_OK;
	}
	for (size_t i = 0; i < v->m->n_files; i++)
		if (files[i] != NULL)
			mfs_content_free(files[i]);
	free(files);
	return code;
}

/* By the store's wraps, then those of the seeds: a damaged one is no reason not to try the next. */
static enum mfs_code
key_beside(struct mfs_store *s, const struct mfs_keys *keys, size_t model, const struct mfs_manifest *m,
	struct mfs_key *out, unsigned *bad)
{
	struct mfs_sha256 id;
	uint8_t wrapped[MFS_WRAP_LEN];

	mfs_keys_model_id(keys, model, &id);
	for (size_t place = 0; mfs_store_wrap_next(s, &id, &m->content_key_id, &place, wrapped); (*bad)++)
		if (mfs_keys_content_grant(keys, model, m, MFS_SPAN(wrapped, sizeof(wrapped)), out, NULL) == MFS_OK)
			return MFS_OK;
	return MFS_KEY_UNAVAILABLE;
}

enum mfs_code
mfs_version_key(struct mfs_store *s, const struct mfs_keys *keys, size_t model, const struct mfs_manifest *m,
	struct mfs_key *out, struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code = mfs_keys_content(keys, model, m, out, &why);
	unsigned bad = 0;

	if (code == MFS_KEY_UNAVAILABLE && m->cipher != MFS_CIPHER_NONE && key_beside(s, keys, model, m, out, &bad) == MFS_OK)
		return MFS_OK;
	if (code != MFS_OK && bad > 0)
		(void)mfs_err_hint(&why, "; %u beside it %s not open", bad, bad == 1 ? "does" : "do");
	if (code != MFS_OK && err != NULL)
		*err = why;
	return code;
}

/* The key, and with a cache the contents. A missing or wrong key is kept as the version's outcome. */
static enum mfs_code
version_open(struct mfs_store *s, struct mfs_cache *cache, const struct mfs_keys *keys, size_t model,
	struct mfs_version *v, struct mfs_err *err)
{
	struct mfs_key key = { { 0 } };
	struct mfs_err key_err = MFS_ERR_INIT;
	bool encrypted = v->m->cipher != MFS_CIPHER_NONE;
	enum mfs_code code = MFS_OK;

	if (encrypted && (code = mfs_version_key(s, keys, model, v->m, &key, &key_err)) != MFS_OK) {
		v->key_code = code;
		v->key_why = strdup(key_err.msg);
		return MFS_OK;
	}
	if (cache != NULL)
		code = contents_make(s, cache, v, encrypted ? &key : NULL, err);
	mfs_key_wipe(&key);
	return code;
}

/* One copy of what was signed, from what is at hand. */
static void
copy_mend(int dirfd, const char *where, const char *from, const struct mfs_version *v)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_signed other;
	bool same = mfs_signed_get(dirfd, &v->m->id, &other, &err) == MFS_OK && mfs_signed_equal(&other, &v->signed_bytes);

	mfs_signed_free(&other);
	if (same)
		return;
	mfs_log(MFS_LOG_WARN, "%s/manifests/%s: missing or damaged: written again from %s", where, MFS_HEX(&v->m->id), from);
	if (mfs_signed_put(dirfd, &v->m->id, &v->signed_bytes, &err) != MFS_OK)
		mfs_log_err(where, &err);
}

void
mfs_version_mend(int state_dirfd, struct mfs_store *s, const struct mfs_version *v)
{
	copy_mend(state_dirfd, "state", "memory", v);
	copy_mend(mfs_store_dirfd(s), "store", "memory", v);
}

enum mfs_code
mfs_version_open_again(struct mfs_store *s, struct mfs_cache *cache, const struct mfs_keys *keys, size_t model,
	struct mfs_version *v, struct mfs_err *err)
{
	struct mfs_key key = { { 0 } };
	enum mfs_code code;

	if (v->key_code == MFS_OK)
		return MFS_OK;
	if ((code = mfs_version_key(s, keys, model, v->m, &key, err)) == MFS_OK && cache != NULL)
		code = contents_make(s, cache, v, &key, err);
	mfs_key_wipe(&key);
	if (code == MFS_OK)
		v->key_code = MFS_OK; /* last: who sees it finds the files */
	return code;
}

enum mfs_code
mfs_version_load_repair(int state_dirfd, struct mfs_store *s, struct mfs_cache *cache, const struct mfs_config *c,
	const struct mfs_keys *keys, size_t model, const struct mfs_sha256 *id, bool repair, struct mfs_version **out,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_version) struct mfs_version *v = calloc(1, sizeof(*v));
	struct mfs_err bad[2] = { MFS_ERR_INIT, MFS_ERR_INIT };
	const int dirs[2] = { state_dirfd, mfs_store_dirfd(s) };
	static const char *const names[2] = { "state", "store" };
	enum mfs_code code;
	int good = -1;

	*out = NULL;
	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "version");
	v->refs = 1;
	for (int i = 0; i < 2 && good < 0; i++)
		if (copy_load(dirs[i], names[i], c, keys, model, id, v, &bad[i]) == MFS_OK)
			good = i;
	if (good < 0) {
		/* A refusal says more than a missing file. */
		const struct mfs_err *say = bad[0].code != MFS_IO || bad[1].code == MFS_IO ? &bad[0] : &bad[1];

		if (err != NULL)
			*err = *say;
		if (bad[0].sys_errno == ENOENT && bad[1].sys_errno == ENOENT)
			(void)mfs_err_hint(err, "; it is fetched again where a repository offers it, else install its bundle again");
		return say->code;
	}
	if (repair)
		copy_mend(dirs[1 - good], names[1 - good], names[good], v);
	if ((code = version_open(s, cache, keys, model, v, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&v);
	return MFS_OK;
}

enum mfs_code
mfs_version_load(int state_dirfd, struct mfs_store *s, struct mfs_cache *cache, const struct mfs_config *c,
	const struct mfs_keys *keys, size_t model, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err)
{
	return mfs_version_load_repair(state_dirfd, s, cache, c, keys, model, id, false, out, err);
}
