/* SPDX-License-Identifier: Apache-2.0 */
#include "pack.h"

#include <fcntl.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "io.h"
#include "meta.h"
#include "outdir.h"
#include "progress.h"
#include "seal.h"

MFS_DEFINE_CLEANUP(json, json_t, json_decref)
#define mfs_autojson MFS_CLEANUP(mfs_cleanup_json)

/* What one run of pack knows. */
struct work {
	const struct mfs_pack *p;
	struct mfs_meta meta;
	struct mfs_manifest *base;
	enum mfs_cipher cipher;
	struct mfs_key content_key; /* only with a cipher; wiped at the end */
	struct mfs_file *files;     /* as many as inputs; names borrowed from them */
};

static void
work_clear(struct work *w)
{
	mfs_meta_free(&w->meta);
	mfs_manifest_free(w->base);
	mfs_key_wipe(&w->content_key);
	free(w->files);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static enum mfs_code
trust_add(struct mfs_trust *t, struct mfs_signer *const *keys, size_t n, int64_t epoch, struct mfs_err *err)
{
	for (size_t i = 0; i < n; i++) {
		enum mfs_code code;
		size_t k = 0;

		while (k < mfs_trust_count(t) && !mfs_sha256_equal(mfs_trust_key_id(t, k), mfs_signer_key_id(keys[i])))
			k++;
		if (k < mfs_trust_count(t))
			continue;
		code = mfs_trust_add_pem(t, mfs_signer_name(keys[i]), mfs_signer_public_pem(keys[i]), epoch, NULL, err);
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/*
 * Read the base and check its signature. Whoever could put another manifest there would choose
 * the content key of this bundle: an old one that has leaked, for example.
 */
static enum mfs_code
base_read(struct work *w, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *said = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	const struct mfs_pack *p = w->p;
	enum mfs_code code;

	if ((code = mfs_gate_read(p->base, &docs, &said, err)) == MFS_OK && (code = mfs_trust_new(&trust, err)) == MFS_OK &&
		(code = trust_add(trust, p->keys, p->n_keys, said->key_epoch, err)) == MFS_OK &&
		(code = trust_add(trust, p->base_keys, p->n_base_keys, said->key_epoch, err)) == MFS_OK)
		code = mfs_gate_signatures(&docs, trust, 1, &w->base, NULL, err);
	if (code != MFS_OK)
		(void)mfs_err_context(err, "--base %s: ", MFS_ESC(p->base));
	if (code == MFS_KEY_UNTRUSTED)
		(void)mfs_err_hint(err, "; if an earlier key signed it, name that with --base-pub");
	return code;
}

/* The base must be an earlier release of the same model, under a name of its own. */
static enum mfs_code
base_compare(const struct mfs_pack *p, const struct mfs_manifest *b, struct mfs_err *err)
{
	const bool same_version = strcmp(b->version, p->version) == 0;

	if (strcmp(b->model_id, p->model_id) != 0)
		return mfs_fail(err, MFS_POLICY_REJECTED, "--base %s: a bundle of model %s, not of %s", MFS_ESC(p->base),
			b->model_id, p->model_id);
	if (same_version && strcmp(b->variant, p->variant) == 0)
		return mfs_fail(err, MFS_POLICY_REJECTED, "--base %s: is %s %s (%s) already; a version never names two "
			"manifests, choose a new --version", MFS_ESC(p->base), b->model_id, b->version, b->variant);
	if (p->key_epoch < b->key_epoch ||
		(p->key_epoch == b->key_epoch && (p->release < b->release || (p->release == b->release && !same_version))))
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "--release %lld: not above release %lld of the base %s; devices "
			"would refuse it as a rollback", (long long)p->release, (long long)b->release, MFS_ESC(p->base));
	return MFS_OK;
}

/* Open the base with whichever model key fits. */
static enum mfs_code
base_key(const struct work *w, struct mfs_key *out, struct mfs_err *err)
{
	const struct mfs_pack *p = w->p;
	enum mfs_code code = MFS_KEY_UNAVAILABLE;

	for (size_t i = 0; i < p->n_model_keys && code == MFS_KEY_UNAVAILABLE; i++)
		code = mfs_content_key_unwrap(w->base, &p->model_keys[i], out, err);
	if (code == MFS_OK)
		return MFS_OK;
	if (p->n_model_keys == 0)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "--base %s: encrypted; give the --model-key that opens it",
			MFS_ESC(p->base));
	return mfs_err_context(err, "--base %s: ", MFS_ESC(p->base));
}

static enum mfs_code
keys_prepare(struct work *w, struct mfs_err *err)
{
	const struct mfs_pack *p = w->p;
	const bool base_encrypted = w->base != NULL && w->base->cipher != MFS_CIPHER_NONE;
	struct mfs_key of_base = { { 0 } };
	enum mfs_code code;

	if (p->n_model_keys == 0 && !base_encrypted)
		return MFS_OK;
	if (w->base != NULL && !base_encrypted)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "--base %s: not encrypted, so it has no content key to keep; "
			"leave --base out", MFS_ESC(p->base));
	w->cipher = p->cipher != MFS_CIPHER_NONE ? p->cipher :
		    base_encrypted		 ? w->base->cipher :
						   MFS_CIPHER_AES_256_GCM;
	if (p->content_key != NULL) {
		w->content_key = *p->content_key;
		return MFS_OK;
	}
	if (base_encrypted) {
		if ((code = base_key(w, &of_base, err)) == MFS_OK)
			w->content_key = of_base;
		mfs_key_wipe(&of_base);
		return code;
	}
	if (RAND_priv_bytes(w->content_key.b, MFS_KEY_LEN) != 1)
		return mfs_fail(err, MFS_INTERNAL, "no random bytes for the content key");
	return MFS_OK;
}

/* ---- manifest ---------------------------------------------------------------------------------- */

static json_t *
hex_json(const uint8_t *p, size_t n)
{
	char hex[2 * 64 + 1];

	if (n > 64)
		return NULL;
	mfs_hex_encode(hex, p, n);
	return json_string(hex);
}

static json_t *
file_json(const struct mfs_file *f, bool encrypted)
{
	json_t *o = json_object();
	int bad = 0;

	if (o == NULL)
		return NULL;
	bad |= json_object_set_new(o, "name", json_string(f->name));
	bad |= json_object_set_new(o, "size", json_integer((json_int_t)f->size));
	bad |= json_object_set_new(o, "sha256", hex_json(f->sha256.b, MFS_SHA256_LEN));
	bad |= json_object_set_new(o, "chunk_size", json_integer(f->chunk_size));
	if (f->chunks > 1)
		bad |= json_object_set_new(o, "chunks_sha256", hex_json(f->chunks_sha256.b, MFS_SHA256_LEN));
	else if (f->chunks == 1)
		bad |= json_object_set_new(o, "tag", hex_json(f->tag, MFS_TAG_LEN));
	if (encrypted)
		bad |= json_object_set_new(o, "salt", hex_json(f->salt.b, MFS_SHA256_LEN));
	bad |= json_object_set_new(o, "media", json_string(mfs_media_name(f->media)));
	if (f->executable)
		bad |= json_object_set_new(o, "executable", json_true());
	if (bad == 0)
		return o;
	json_decref(o);
	return NULL;
}

static enum mfs_code
encryption_json(const struct work *w, json_t *root, struct mfs_err *err)
{
	mfs_autojson json_t *o = json_object();
	json_t *wraps = json_array();
	struct mfs_sha256 id;
	enum mfs_code code;
	int bad;

	if (json_object_set_new(o, "wraps", wraps) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	if ((code = mfs_content_key_id(&w->content_key, &id, err)) != MFS_OK)
		return code;
	bad = json_object_set_new(o, "cipher", json_string(mfs_cipher_name(w->cipher)));
	bad |= json_object_set_new(o, "content_key_id", hex_json(id.b, MFS_SHA256_LEN));
	for (size_t i = 0; i < w->p->n_model_keys && bad == 0; i++) {
		json_t *wrap = json_object();
		uint8_t wrapped[40];

		bad = json_array_append_new(wraps, wrap);
		if ((code = mfs_model_key_id(&w->p->model_keys[i], &id, err)) != MFS_OK ||
			(code = mfs_kwp_wrap(&w->p->model_keys[i], &w->content_key, wrapped, err)) != MFS_OK)
			return code;
		bad |= json_object_set_new(wrap, "model_key_id", hex_json(id.b, MFS_SHA256_LEN));
		bad |= json_object_set_new(wrap, "wrapped", hex_json(wrapped, sizeof(wrapped)));
	}
	if (bad != 0 || json_object_set(root, "encryption", o) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	return MFS_OK;
}

/* The manifest's canonical bytes from what is known now. */
static enum mfs_code
manifest_bytes(const struct work *w, char **out, size_t *len, struct mfs_err *err)
{
	const struct mfs_pack *p = w->p;
	mfs_autojson json_t *root = json_copy(w->meta.fields);
	json_t *keys = json_array(), *files = json_array(), *deltas;
	enum mfs_code code;
	int bad = json_object_set_new(root, "key_ids", keys);

	bad |= json_object_set_new(root, "files", files);
	bad |= json_object_set_new(root, "format", json_string("modelfs-manifest/1"));
	bad |= json_object_set_new(root, "model_id", json_string(p->model_id));
	bad |= json_object_set_new(root, "version", json_string(p->version));
	bad |= json_object_set_new(root, "variant", json_string(p->variant));
	bad |= json_object_set_new(root, "release", json_integer(p->release));
	bad |= json_object_set_new(root, "build_time", json_integer(p->build_time));
	bad |= json_object_set_new(root, "key_epoch", json_integer(p->key_epoch));
	for (size_t i = 0; i < p->n_keys && bad == 0; i++)
		bad = json_array_append_new(keys, hex_json(mfs_signer_key_id(p->keys[i])->b, MFS_SHA256_LEN));
	for (size_t i = 0; i < p->inputs->n && bad == 0; i++)
		bad = json_array_append_new(files, file_json(&w->files[i], w->cipher != MFS_CIPHER_NONE));
	if (p->n_delta_bases > 0) {
		bad |= json_object_set_new(root, "delta_bases", deltas = json_array());
		for (size_t i = 0; i < p->n_delta_bases && bad == 0; i++)
			bad = json_array_append_new(deltas, hex_json(p->delta_bases[i].b, MFS_SHA256_LEN));
	}
	if (bad != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest: a name is not UTF-8, or there is no memory");
	if (w->cipher != MFS_CIPHER_NONE && (code = encryption_json(w, root, err)) != MFS_OK)
		return code;
	return mfs_json_canonical(root, out, len, err);
}

/* Refuse what devices refuse, by their own parser. */
static enum mfs_code
manifest_check(const char *bytes, size_t len, struct mfs_manifest **out, struct mfs_err *err)
{
	enum mfs_code code = mfs_manifest_parse(MFS_SPAN(bytes, len), out, err);

	if (code != MFS_OK)
		(void)mfs_err_context(err, "devices would refuse this: ");
	return code;
}

/* ---- files --------------------------------------------------------------------------------------- */

static uint32_t
chunk_size_for(const struct work *w, const char *name, uint64_t size)
{
	ssize_t i;

	if (w->p->chunk_size != 0)
		return w->p->chunk_size;
	if (w->base != NULL && (i = mfs_manifest_find(w->base, name)) >= 0)
		return w->base->files[i].chunk_size;
	return size > MFS_CHUNK_LARGE_FROM ? MFS_CHUNK_LARGE : MFS_CHUNK_DEFAULT;
}

static enum mfs_code
file_describe(struct work *w, size_t i, enum mfs_media *odd, struct mfs_err *err)
{
	const struct mfs_input *in = &w->p->inputs->v[i];
	mfs_autoclose int fd = open(in->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct mfs_file *f = &w->files[i];
	uint8_t head[16];
	ssize_t got;

	if (fd < 0 || (got = pread(fd, head, sizeof(head), 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(in->path));
	f->name = in->name;
	f->size = in->size;
	f->chunk_size = chunk_size_for(w, in->name, in->size);
	f->media = mfs_media_guess(in->name, MFS_SPAN(head, (size_t)got));
	*odd = mfs_media_fits(f->media, MFS_SPAN(head, (size_t)got), f->size) ? MFS_MEDIA_OTHER : f->media;
	f->chunks = f->size / f->chunk_size + (f->size % f->chunk_size != 0);
	/* Stand-ins, so that the manifest's rules can be checked before anything long begins. */
	memset(f->chunks_sha256.b, 1, MFS_SHA256_LEN);
	memset(f->salt.b, 1, MFS_SHA256_LEN);
	return mfs_sha256(MFS_SPAN(NULL, 0), &f->sha256, err);
}

static int
file_compare(const void *a, const void *b)
{
	const struct mfs_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* What meta.yaml says of single files. */
static enum mfs_code
files_annotate(struct work *w, struct mfs_err *err)
{
	for (size_t i = 0; i < w->meta.n_files; i++) {
		const struct mfs_meta_file *said = &w->meta.files[i];
		const struct mfs_file key = { .name = said->name };
		struct mfs_file *f = bsearch(&key, w->files, w->p->inputs->n, sizeof(key), file_compare);

		if (f == NULL)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%u:%u: no file '%s' is being packed",
				MFS_ESC(w->p->meta), said->line, said->column, MFS_ESC(said->name));
		if (said->has_media)
			f->media = said->media;
		f->executable = said->executable;
	}
	return MFS_OK;
}

/* A model that cannot be what its name says is condemned by every device that gets it. */
static void
odd_note(const struct work *w, const struct mfs_file *f)
{
	char text[MFS_NAME_MAX + 256];

	if (w->p->note == NULL)
		return;
	(void)snprintf(text, sizeof(text), "%s: does not begin like %s: devices will refuse it as damaged, unless the meta file says "
		"'media: other'", MFS_ESC(f->name), mfs_media_name(f->media));
	w->p->note(w->p->note_arg, text);
}

static enum mfs_code
files_describe(struct work *w, struct mfs_err *err)
{
	const struct mfs_inputs *in = w->p->inputs;
	mfs_autofree enum mfs_media *odd = calloc(in->n, sizeof(*odd));
	enum mfs_code code;

	if (odd == NULL || (w->files = calloc(in->n, sizeof(*w->files))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", in->n);
	for (size_t i = 0; i < in->n; i++)
		if ((code = file_describe(w, i, &odd[i], err)) != MFS_OK)
			return code;
	if ((code = files_annotate(w, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < in->n; i++)
		if (odd[i] != MFS_MEDIA_OTHER && w->files[i].media == odd[i])
			odd_note(w, &w->files[i]);
	return MFS_OK;
}

/* Everything that can be refused before reading the files. */
static enum mfs_code
work_prepare(struct work *w, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *draft = NULL;
	const struct mfs_pack *p = w->p;
	mfs_autofree char *bytes = NULL;
	enum mfs_code code;
	size_t len = 0;

	if ((code = mfs_outdir_check(p->out, err)) != MFS_OK ||
		(code = mfs_meta_load(p->meta, &w->meta, err)) != MFS_OK)
		return code;
	if (p->base != NULL && ((code = base_read(w, err)) != MFS_OK || (code = base_compare(p, w->base, err)) != MFS_OK))
		return code;
	if ((code = keys_prepare(w, err)) != MFS_OK || (code = files_describe(w, err)) != MFS_OK ||
		(code = manifest_bytes(w, &bytes, &len, err)) != MFS_OK)
		return code;
	return manifest_check(bytes, len, &draft, err);
}

static enum mfs_code
files_seal(struct work *w, struct mfs_outdir *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_sealer) struct mfs_sealer *sealer = NULL;
	const struct mfs_pack *p = w->p;
	const bool encrypted = w->cipher != MFS_CIPHER_NONE;
	struct mfs_progress *progress;
	enum mfs_code code;

	if ((code = mfs_sealer_new(&sealer, err)) != MFS_OK)
		return code;
	progress = mfs_progress_new("packing", encrypted ? 2 * p->inputs->total : p->inputs->total, p->quiet);
	for (size_t i = 0; i < p->inputs->n && code == MFS_OK; i++) {
		struct mfs_file *f = &w->files[i];
		const struct mfs_seal_job job = {
			.path = p->inputs->v[i].path,
			.name = f->name,
			.model_id = p->model_id,
			.size = f->size,
			.chunk_size = f->chunk_size,
			.cipher = w->cipher,
			.content_key = encrypted ? &w->content_key : NULL,
			.out = out,
			.progress = progress,
			.between = p->between,
			.arg = p->arg,
		};
		struct mfs_file sealed;

		if ((code = mfs_seal_file(sealer, &job, &sealed, err)) != MFS_OK)
			break;
		sealed.name = f->name;
		sealed.media = f->media;
		sealed.executable = f->executable;
		*f = sealed;
	}
	mfs_progress_end(progress);
	return code;
}

/* ---- signatures ------------------------------------------------------------------------------------ */

enum mfs_code
mfs_signature_name(const struct mfs_manifest *m, const struct mfs_sha256 *key_id, char out[96], struct mfs_err *err)
{
	for (size_t i = 0; i < m->n_key_ids; i++)
		if (mfs_sha256_equal(&m->key_ids[i], key_id)) {
			if (i == 0)
				(void)snprintf(out, 96, "signature.sig");
			else
				(void)snprintf(out, 96, "signature.%s.sig", MFS_HEX(key_id));
			return MFS_OK;
		}
	return mfs_fail(err, MFS_KEY_UNTRUSTED, "manifest.json: key_ids does not list key %s; use a key that it lists, "
		"or --rekey", MFS_HEX(key_id));
}

enum mfs_code
mfs_signature_check(struct mfs_span manifest, const struct mfs_signer *key, struct mfs_span sig, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *parsed = NULL, *verified = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	struct mfs_signature s = { .key_id = *mfs_signer_key_id(key), .bytes = sig };
	enum mfs_code code;

	/* The epoch is the manifest's own: whether it is trusted is the device's to say. */
	if ((code = mfs_manifest_parse(manifest, &parsed, err)) != MFS_OK ||
		(code = mfs_trust_new(&trust, err)) != MFS_OK ||
		(code = mfs_trust_add_pem(trust, mfs_signer_name(key), mfs_signer_public_pem(key), parsed->key_epoch, NULL,
			 err)) != MFS_OK)
		return code;
	return mfs_bundle_verify(manifest, &s, 1, trust, 1, &verified, NULL, err);
}

enum mfs_code
mfs_manifest_rekey(struct mfs_span manifest, const struct mfs_sha256 *const *key_ids, size_t n, int64_t epoch,
	char **bytes, size_t *len, struct mfs_manifest **m, struct mfs_err *err)
{
	mfs_autojson json_t *root = NULL;
	mfs_autofree char *text = NULL;
	json_t *keys = json_array();
	enum mfs_code code;
	int bad = 0;

	*bytes = NULL;
	*m = NULL;
	code = mfs_json_parse_canonical("manifest.json", manifest, MFS_MANIFEST_BYTES_MAX, &root, err);
	if (code != MFS_OK) {
		json_decref(keys);
		return code;
	}
	bad = json_object_set_new(root, "key_ids", keys);
	for (size_t i = 0; i < n && bad == 0; i++)
		bad = json_array_append_new(keys, hex_json(key_ids[i]->b, MFS_SHA256_LEN));
	if (epoch != 0)
		bad |= json_object_set_new(root, "key_epoch", json_integer(epoch));
	if (bad != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	if ((code = mfs_json_canonical(root, &text, len, err)) != MFS_OK ||
		(code = manifest_check(text, *len, m, err)) != MFS_OK)
		return code;
	*bytes = mfs_steal(&text);
	return MFS_OK;
}

static enum mfs_code
signatures_write(const struct mfs_pack *p, const struct mfs_manifest *m, struct mfs_span manifest,
	struct mfs_outdir *out, struct mfs_err *err)
{
	for (size_t i = 0; i < p->n_keys; i++) {
		uint8_t sig[MFS_SIGNATURE_ROOM];
		enum mfs_code code;
		char name[96];
		size_t len;

		if ((code = mfs_signature_name(m, mfs_signer_key_id(p->keys[i]), name, err)) != MFS_OK ||
			(code = mfs_signer_sign(p->keys[i], manifest, sig, &len, err)) != MFS_OK ||
			(code = mfs_signature_check(manifest, p->keys[i], MFS_SPAN(sig, len), err)) != MFS_OK ||
			(code = mfs_outdir_write(out, name, sig, len, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

enum mfs_code
mfs_pack(const struct mfs_pack *p, struct mfs_manifest **out, struct mfs_err *err)
{
	MFS_CLEANUP(work_clear) struct work w = { .p = p };
	MFS_CLEANUP(mfs_cleanup_outdir) struct mfs_outdir *dir = NULL;
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree char *bytes = NULL;
	enum mfs_code code;
	size_t len = 0;

	*out = NULL;
	if ((code = work_prepare(&w, err)) != MFS_OK || (code = mfs_outdir_create(p->out, &dir, err)) != MFS_OK ||
		(code = files_seal(&w, dir, err)) != MFS_OK ||
		(code = manifest_bytes(&w, &bytes, &len, err)) != MFS_OK ||
		(code = manifest_check(bytes, len, &m, err)) != MFS_OK ||
		(code = mfs_outdir_write(dir, "manifest.json", bytes, len, err)) != MFS_OK)
		return code;
	if (p->sign && (code = signatures_write(p, m, MFS_SPAN(bytes, len), dir, err)) != MFS_OK)
		return code;
	if ((code = mfs_outdir_commit(dir, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&m);
	return MFS_OK;
}
