/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Installing a bundle into a store: what is signed first, then room, then every byte verified as
 * it is copied (install_copy.c). Nothing here decides what becomes active.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "bundledir.h"
#include "install_io.h"
#include "io.h"

/* Signatures as the verifier wants them, borrowed from docs. */
static enum mfs_code
signatures_make(const struct mfs_bundle_docs *docs, struct mfs_signature sigs[MFS_KEY_IDS_MAX + 1], size_t *n,
	struct mfs_err *err)
{
	*n = 0;
	for (size_t i = 0; i < docs->n_sigs && *n < MFS_KEY_IDS_MAX + 1; i++) {
		const struct mfs_bundle_sig *s = &docs->sigs[i];
		struct mfs_signature *out = &sigs[(*n)++];

		*out = (struct mfs_signature){ .bytes = MFS_SPAN(s->bytes, s->len) };
		if (s->key_id[0] != '\0' &&
			!mfs_hex_decode(out->key_id.b, MFS_SHA256_LEN, s->key_id, strlen(s->key_id)))
			return mfs_fail(err, MFS_MALFORMED, "signature.%s.sig: no key id", MFS_ESC(s->key_id));
	}
	return MFS_OK;
}

static bool
key_listed(const struct mfs_manifest *m, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < m->n_key_ids; i++)
		if (mfs_sha256_equal(&m->key_ids[i], id))
			return true;
	return false;
}

/*
 * The signed files as mfs_signed_put stores them; takes the bytes out of docs. Signatures by keys
 * that the manifest does not list prove nothing and could crowd out those that do.
 */
static enum mfs_code
signed_take(struct mfs_bundle_docs *docs, const struct mfs_manifest *m, struct mfs_signed *out, struct mfs_err *err)
{
	*out = (struct mfs_signed){ 0 };
	if ((out->extra = calloc(docs->n_sigs + 1, sizeof(*out->extra))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signatures");
	out->manifest = mfs_steal(&docs->manifest);
	out->manifest_len = docs->manifest_len;
	for (size_t i = 0; i < docs->n_sigs; i++) {
		struct mfs_bundle_sig *s = &docs->sigs[i];

		if (s->key_id[0] == '\0') {
			out->sig = mfs_steal(&s->bytes);
			out->sig_len = s->len;
			continue;
		}
		if (!mfs_hex_decode(out->extra[out->n_extra].key_id.b, MFS_SHA256_LEN, s->key_id, strlen(s->key_id)) ||
			!key_listed(m, &out->extra[out->n_extra].key_id))
			continue;
		out->extra[out->n_extra].bytes = mfs_steal(&s->bytes);
		out->extra[out->n_extra++].len = s->len;
	}
	return MFS_OK;
}

/* Which configured model is this for? */
static enum mfs_code
model_find(struct mfs_install_args *args, const struct mfs_manifest *m, struct mfs_err *err)
{
	const struct mfs_config *c = args->config;
	ssize_t found = -1;

	if (args->model >= 0) {
		if ((size_t)args->model < c->n_models && strcmp(c->models[args->model].model_id, m->model_id) == 0)
			return MFS_OK;
		return mfs_fail(err, MFS_NOT_SELECTED, "the bundle is for model '%s', not for '%s'", m->model_id,
			(size_t)args->model < c->n_models ? c->models[args->model].model_id : "");
	}
	for (size_t i = 0; i < c->n_models; i++) {
		if (strcmp(c->models[i].model_id, m->model_id) != 0)
			continue;
		if (found >= 0)
			return mfs_fail(err, MFS_NOT_SELECTED, "model '%s' is configured as '%s' and as '%s': say which one "
				"('modelfs install BUNDLE %s')", m->model_id, c->models[found].id, c->models[i].id, c->models[i].id);
		found = (ssize_t)i;
	}
	if (found < 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "model '%s' is not configured on this host: add it under 'models:' in "
			"%s", m->model_id, c->path != NULL ? MFS_ESC(c->path) : "the configuration");
	args->model = found;
	return MFS_OK;
}

/* Nothing may lie in payload/, chunks/ or index/ that the manifest does not name. */
static enum mfs_code
surplus_check(int dirfd, const struct mfs_manifest *m, struct mfs_err *err)
{
	mfs_autofree const char **all = calloc(m->n_files + 1, sizeof(*all));
	mfs_autofree const char **tables = calloc(m->n_files + 1, sizeof(*tables));
	size_t n = 0;
	enum mfs_code code;

	if (all == NULL || tables == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", m->n_files);
	for (size_t i = 0; i < m->n_files; i++) {
		all[i] = m->files[i].name;
		if (m->files[i].chunks > 1)
			tables[n++] = m->files[i].name;
	}
	if ((code = mfs_bundledir_surplus(dirfd, "payload", all, m->n_files, err)) != MFS_OK ||
		(code = mfs_bundledir_surplus(dirfd, "chunks", tables, n, err)) != MFS_OK)
		return code;
	return mfs_bundledir_surplus(dirfd, "index", all, m->n_files, err);
}

/* What the store lacked of each file before this installation. */
struct lacking {
	bool payload, table;
};

/* Bytes that the store does not have yet. A blob that turns out bad is replaced file by file. */
static uint64_t
bytes_missing(struct mfs_store *s, const struct mfs_manifest *m, struct lacking *lacking)
{
	uint64_t need = 0;

	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		lacking[i].payload = !mfs_store_blob_has(s, &f->sha256, f->size);
		lacking[i].table = f->chunks > 1 &&
			!mfs_store_blob_has(s, &f->chunks_sha256, mfs_table_length(f->chunks));
		need += lacking[i].payload ? f->size : 0;
		need += lacking[i].table ? mfs_table_length(f->chunks) : 0;
	}
	return need;
}

/* A refused bundle leaves nothing: its good files would fill a small disk until the next gc. */
static void
blobs_drop(struct mfs_store *s, const struct mfs_manifest *m, const struct lacking *lacking)
{
	for (size_t i = 0; i < m->n_files; i++) {
		if (lacking[i].payload)
			mfs_store_blob_drop(s, &m->files[i].sha256);
		if (lacking[i].table)
			mfs_store_blob_drop(s, &m->files[i].chunks_sha256);
	}
}

/* A wrapped content key that came in the bundle's grants/, for this host's model key. */
struct grant {
	bool here;
	struct mfs_sha256 model_key;
	uint8_t wrapped[MFS_WRAP_LEN];
};

/* What the bundle has in grants/ for this host's model key. Nobody signed it: whatever is wrong with it, there is none. */
static enum mfs_code
grant_read(const struct mfs_install_args *args, const struct mfs_manifest *m, const struct mfs_sha256 *id,
	struct mfs_key *key, uint8_t wrapped[MFS_WRAP_LEN], struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;
	char name[MFS_WRAP_PATH], path[sizeof("grants/") + MFS_WRAP_PATH];
	mfs_autoclose int fd = -1, look = -1;
	enum mfs_code code;

	mfs_wrap_path(name, id, &m->content_key_id);
	(void)snprintf(path, sizeof(path), "grants/%s", name);
	if ((look = mfs_open_beneath(args->bundle_fd, path, O_PATH | O_NOFOLLOW, 0)) < 0 && (errno == ENOENT || errno == ENOTDIR))
		return MFS_KEY_UNAVAILABLE; /* the usual case */
	if ((code = mfs_bundledir_file(args->bundle_fd, "grants", name, MFS_WRAP_LEN, &fd, &why)) == MFS_OK)
		code = mfs_pread_full(fd, wrapped, MFS_WRAP_LEN, 0) == 0 ? MFS_OK : mfs_fail_sys(&why, MFS_IO, "read");
	if (code == MFS_OK)
		code = mfs_keys_content_grant(args->keys, (size_t)args->model, m, MFS_SPAN(wrapped, MFS_WRAP_LEN), key, &why);
	if (code != MFS_OK)
		(void)mfs_err_hint(err, "; the one in the bundle's grants/ is of no use: %s",
			code == MFS_KEY_UNAVAILABLE ? "it does not open to the content key" : code == MFS_HASH_MISMATCH
			? "it has another length" : code == MFS_MALFORMED ? "a link or special file" : "it cannot be read");
	return code;
}

/*
 * The content key; a wrap that the bundle brought goes into the store, where whoever loads the version finds it.
 * Without its key a version could not be served: refused before anything is copied.
 */
static enum mfs_code
key_get(const struct mfs_install_args *args, const struct mfs_manifest *m, struct mfs_key *key, struct grant *g,
	struct mfs_err *err)
{
	enum mfs_code code = mfs_version_key(args->store, args->keys, (size_t)args->model, m, key, err);

	mfs_keys_model_id(args->keys, (size_t)args->model, &g->model_key);
	if (code != MFS_KEY_UNAVAILABLE || mfs_sha256_is_zero(&g->model_key))
		return code;
	g->here = grant_read(args, m, &g->model_key, key, g->wrapped, err) == MFS_OK;
	return g->here ? MFS_OK : code;
}

static enum mfs_code
copy_all(struct mfs_install_args *args, const struct mfs_manifest *m, struct lacking *lacking, struct mfs_err *err)
{
	struct mfs_install_run r = { .args = args, .m = m, .total = m->total_size };
	struct grant grant = { .here = false };
	struct mfs_key key = { { 0 } };
	enum mfs_code code = MFS_OK;

	if (m->cipher != MFS_CIPHER_NONE) {
		if ((code = key_get(args, m, &key, &grant, err)) != MFS_OK)
			goto out;
		r.content_key = &key;
	}
	if ((code = surplus_check(args->bundle_fd, m, err)) != MFS_OK ||
		(code = mfs_store_room(args->store, bytes_missing(args->store, m, lacking), args->config->min_free,
			 err)) != MFS_OK)
		goto out;
	for (size_t k = 0; k < m->n_files && code == MFS_OK; k++)
		code = mfs_install_file(&r, k, err);
	if (code == MFS_OK && grant.here)
		code = mfs_store_wrap_put(args->store, &grant.model_key, &m->content_key_id, grant.wrapped, err);
out:
	mfs_key_wipe(&key);
	return code;
}

static enum mfs_code
verify_by(const struct mfs_install_args *args, size_t model, const struct mfs_bundle_docs *docs,
	const struct mfs_signature *sigs, size_t n, struct mfs_manifest **m, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = mfs_keys_trust(args->keys, model);

	return mfs_bundle_verify(MFS_SPAN(docs->manifest, docs->manifest_len), sigs, n, trust, args->config->threshold, m,
		NULL, err);
}

/*
 * By the trust list of the model asked for. Not asked for one, the manifest says which it is, and no
 * byte of it counts before a signature does: the lists of all models are tried, then the one of the
 * model found must verify it as well.
 */
static enum mfs_code
bundle_verify(struct mfs_install_args *args, const struct mfs_bundle_docs *docs, const struct mfs_signature *sigs,
	size_t n, struct mfs_manifest **m, struct mfs_err *err)
{
	const struct mfs_config *c = args->config;
	struct mfs_err first = MFS_ERR_INIT;
	size_t by = 0;
	enum mfs_code code;

	if (args->model >= 0) {
		code = verify_by(args, (size_t)args->model, docs, sigs, n, m, err);
		return code != MFS_OK ? code : model_find(args, *m, err);
	}
	for (size_t i = 0; *m == NULL && (i == 0 || i < c->n_models); i++) {
		struct mfs_err own = MFS_ERR_INIT;
		bool seen = false;

		for (size_t k = 0; k < i; k++)
			seen = seen || c->models[k].repo == c->models[i].repo;
		if (!seen && verify_by(args, by = i, docs, sigs, n, m, &own) != MFS_OK &&
			(first.code == MFS_OK || first.code == MFS_KEY_UNTRUSTED))
			first = own;
	}
	if (*m == NULL) {
		*err = first;
		return first.code;
	}
	if ((code = model_find(args, *m, err)) != MFS_OK || c->models[args->model].repo == c->models[by].repo)
		return code;
	mfs_manifest_free(*m);
	*m = NULL;
	return verify_by(args, (size_t)args->model, docs, sigs, n, m, err);
}

static enum mfs_code
install(struct mfs_install_args *args, struct mfs_bundle_docs *docs, struct mfs_sha256 *id, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	struct mfs_signature sigs[MFS_KEY_IDS_MAX + 1];
	mfs_autofree struct lacking *lacking = NULL;
	struct mfs_signed signed_bytes;
	size_t n;
	enum mfs_code code;

	if ((code = signatures_make(docs, sigs, &n, err)) != MFS_OK ||
		(code = bundle_verify(args, docs, sigs, n, &m, err)) != MFS_OK)
		return code;
	if (args->decide != NULL && (code = args->decide(args->user, (size_t)args->model, m, err)) != MFS_OK)
		return code;
	if ((code = mfs_engine_compat_check(args->config, (size_t)args->model, m, err)) != MFS_OK)
		return code;
	if ((lacking = calloc(m->n_files + 1, sizeof(*lacking))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", m->n_files);
	if ((code = copy_all(args, m, lacking, err)) == MFS_OK &&
		(code = signed_take(docs, m, &signed_bytes, err)) == MFS_OK) {
		/* Last, so that a manifest in the store means: its blobs arrived. */
		if ((code = mfs_signed_put(mfs_store_dirfd(args->store), &m->id, &signed_bytes, err)) == MFS_OK)
			*id = m->id;
		mfs_signed_free(&signed_bytes);
	}
	if (code != MFS_OK)
		blobs_drop(args->store, m, lacking);
	return code;
}

enum mfs_code
mfs_install_bundle(struct mfs_install_args *args, struct mfs_sha256 *id, struct mfs_err *err)
{
	const struct mfs_bundle_caps caps = { MFS_MANIFEST_BYTES_MAX, MFS_SIGNATURE_BYTES_MAX, MFS_KEY_IDS_MAX + 1 };
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code;

	*id = (struct mfs_sha256){ { 0 } };
	if ((code = mfs_store_clean(args->store, &own)) == MFS_OK &&
		(code = mfs_bundledir_docs(args->bundle_fd, &caps, &docs, &own)) == MFS_OK)
		code = install(args, &docs, id, &own);
	if (code != MFS_OK) {
		(void)mfs_err_context(&own, "%s: ", MFS_ESC(args->bundle_name != NULL ? args->bundle_name : "bundle"));
		if (err != NULL)
			*err = own;
	}
	return code;
}
