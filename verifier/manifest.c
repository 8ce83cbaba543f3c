/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: modelfs-bundle(5), MANIFEST. Every field is checked before any is used. */
#include "internal.h"

#include <inttypes.h>

static const char *const ciphers[] = { NULL, "AES-256-GCM", "ChaCha20-Poly1305" };
static const char *const medias[] = { "other", "gguf", "onnx", "safetensors", "tflite", "text" };
#define N_MEDIAS (sizeof(medias) / sizeof(medias[0]))

const char *
mfs_cipher_name(enum mfs_cipher c)
{
	return (unsigned)c < sizeof(ciphers) / sizeof(ciphers[0]) ? ciphers[c] : NULL;
}

const char *
mfs_media_name(enum mfs_media m)
{
	return (unsigned)m < N_MEDIAS ? medias[m] : medias[0];
}

bool
mfs_media_from_name(const char *s, enum mfs_media *out)
{
	for (unsigned i = 0; i < N_MEDIAS; i++)
		if (strcmp(s, medias[i]) == 0) {
			*out = (enum mfs_media)i;
			return true;
		}
	return false;
}

uint64_t
mfs_table_length(uint64_t chunks)
{
	return chunks <= 1 ? 0 : MFS_TABLE_HEADER + MFS_TABLE_ENTRY * chunks;
}

void
mfs_manifest_free(struct mfs_manifest *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n_files; i++)
		free(m->files[i].name);
	free(m->files);
	mfs_compat_clear(&m->compat);
	free(m->model_id);
	free(m->variant);
	free(m->version);
	free(m->wraps);
	free(m->delta_bases);
	free(m->health_json);
	free(m->preprocess_json);
	free(m->quantization_json);
	free(m);
}

ssize_t
mfs_manifest_find(const struct mfs_manifest *m, const char *name)
{
	size_t lo = 0, hi = m->n_files;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name, m->files[mid].name);

		if (c == 0)
			return (ssize_t)mid;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}

/* ---- one file ---------------------------------------------------------------------------- */

static enum mfs_code
file_sizes(const json_t *o, const struct mfs_at *at, struct mfs_file *f, struct mfs_err *err)
{
	enum mfs_code code;
	int64_t size, chunk = 0;

	if ((code = mfs_field_int(o, at, "size", MFS_REQUIRED, 0, (int64_t)MFS_FILE_SIZE_MAX, &size, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "chunk_size", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &chunk, err)) != MFS_OK)
		return code;
	if (chunk < MFS_CHUNK_MIN || chunk > MFS_CHUNK_MAX || (chunk & (chunk - 1)) != 0)
		return mfs_field_bad(at, "chunk_size", err, "%" PRId64 " is not a power of two from %u to %u", chunk,
			MFS_CHUNK_MIN, MFS_CHUNK_MAX);
	f->size = (uint64_t)size;
	f->chunk_size = (uint32_t)chunk;
	f->chunks = f->size / f->chunk_size + (f->size % f->chunk_size != 0);
	return MFS_OK;
}

/* Absent: fine. Present: refused with the reason. */
static enum mfs_code
surplus(const json_t *o, const struct mfs_at *at, const char *key, const char *why, struct mfs_err *err)
{
	return json_object_get(o, key) == NULL ? MFS_OK : mfs_field_bad(at, key, err, "surplus: %s", why);
}

/* chunks_sha256 for many chunks, tag for one, neither for an empty file; salt when encrypted. */
static enum mfs_code
file_proofs(const json_t *o, const struct mfs_at *at, bool encrypted, struct mfs_file *f, struct mfs_err *err)
{
	static const uint8_t zero[MFS_TAG_LEN];
	enum mfs_code code;

	if (f->chunks > 1) {
		if ((code = surplus(o, at, "tag", "a file of several chunks has its tags in the chunk table", err)) != MFS_OK)
			return code;
		code = mfs_field_hex(o, at, "chunks_sha256", MFS_REQUIRED, f->chunks_sha256.b, MFS_SHA256_LEN, err);
	} else {
		if ((code = surplus(o, at, "chunks_sha256", "a file of at most one chunk has no table", err)) != MFS_OK)
			return code;
		code = f->chunks == 1 ? mfs_field_hex(o, at, "tag", MFS_REQUIRED, f->tag, MFS_TAG_LEN, err)
				      : surplus(o, at, "tag", "an empty file has no tag", err);
	}
	if (code != MFS_OK)
		return code;
	if (!encrypted) {
		if (memcmp(f->tag, zero, MFS_TAG_LEN) != 0)
			return mfs_field_bad(at, "tag", err, "not zero although the manifest has no encryption");
		return surplus(o, at, "salt", "the manifest has no encryption", err);
	}
	if ((code = mfs_field_hex(o, at, "salt", MFS_REQUIRED, f->salt.b, MFS_SHA256_LEN, err)) != MFS_OK)
		return code;
	if (mfs_sha256_is_zero(&f->salt))
		return mfs_field_bad(at, "salt", err, "all zero");
	return MFS_OK;
}

static enum mfs_code
file_parse(const json_t *o, const struct mfs_at *at, bool encrypted, struct mfs_file *f, struct mfs_err *err)
{
	const char *name, *media;
	struct mfs_sha256 empty;
	enum mfs_code code;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_string(o, at, "name", MFS_REQUIRED, MFS_NAME_MAX, &name, err)) != MFS_OK)
		return code;
	if (!mfs_file_name_ok(name, strlen(name)))
		return mfs_field_bad(at, "name", err, "'%s' is not a safe relative path", MFS_ESC(name));
	if ((code = mfs_strdup(name, &f->name, err)) != MFS_OK || (code = file_sizes(o, at, f, err)) != MFS_OK ||
		(code = mfs_field_hex(o, at, "sha256", MFS_REQUIRED, f->sha256.b, MFS_SHA256_LEN, err)) != MFS_OK ||
		(code = file_proofs(o, at, encrypted, f, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "media", MFS_OPTIONAL, 32, &media, err)) != MFS_OK ||
		(code = mfs_field_bool(o, at, "executable", MFS_OPTIONAL, &f->executable, err)) != MFS_OK)
		return code;
	if (media != NULL && !mfs_media_from_name(media, &f->media))
		return mfs_field_bad(at, "media", err, "'%s' is none of gguf, onnx, safetensors, tflite, text, other",
			MFS_ESC(media));
	if (f->size == 0) {
		if ((code = mfs_sha256((struct mfs_span){ NULL, 0 }, &empty, err)) != MFS_OK)
			return code;
		if (!mfs_sha256_equal(&empty, &f->sha256))
			return mfs_field_bad(at, "sha256", err, "not that of an empty file although size is 0");
	}
	return MFS_OK;
}

/* ---- all files ---------------------------------------------------------------------------- */

static int
file_order(const void *a, const void *b)
{
	return strcmp(((const struct mfs_file *)a)->name, ((const struct mfs_file *)b)->name);
}

struct folded {
	char *key;        /* lower-cased, '/' as 0x01, so that what is inside a folder follows its name */
	const char *name; /* borrowed */
};

static int
folded_order(const void *a, const void *b)
{
	return strcmp(((const struct folded *)a)->key, ((const struct folded *)b)->key);
}

static enum mfs_code
names_compare(const struct mfs_at *at, const struct folded *a, const struct folded *b, struct mfs_err *err)
{
	size_t n = strlen(a->key);

	if (strcmp(a->key, b->key) == 0)
		return mfs_field_bad(at, "files", err, "'%s' and '%s' are %s", MFS_ESC(a->name), MFS_ESC(b->name),
			strcmp(a->name, b->name) == 0 ? "one name, used twice" : "one name where case is ignored");
	if (strncmp(a->key, b->key, n) == 0 && b->key[n] == '\x01')
		return mfs_field_bad(at, "files", err, "'%s' is a file and, for '%s', also a folder", MFS_ESC(a->name),
			MFS_ESC(b->name));
	return MFS_OK;
}

static enum mfs_code
names_distinct(const struct mfs_manifest *m, const struct mfs_at *at, struct mfs_err *err)
{
	struct folded *f = calloc(m->n_files, sizeof(*f));
	enum mfs_code code = MFS_OK;

	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu file names", m->n_files);
	for (size_t i = 0; i < m->n_files && code == MFS_OK; i++) {
		f[i].name = m->files[i].name;
		code = mfs_strdup(f[i].name, &f[i].key, err);
		for (char *p = f[i].key; code == MFS_OK && *p != '\0'; p++)
			*p = *p == '/' ? '\x01' : *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
	}
	if (code == MFS_OK)
		qsort(f, m->n_files, sizeof(*f), folded_order);
	for (size_t i = 1; i < m->n_files && code == MFS_OK; i++)
		code = names_compare(at, &f[i - 1], &f[i], err);
	for (size_t i = 0; i < m->n_files; i++)
		free(f[i].key);
	free(f);
	return code;
}

static enum mfs_code
files_parse(const json_t *root, const struct mfs_at *at, struct mfs_manifest *m, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;
	size_t n;

	if ((code = mfs_field_array(root, at, "files", MFS_REQUIRED, 0, SIZE_MAX, &a, err)) != MFS_OK)
		return code;
	n = json_array_size(a);
	if (n == 0)
		return mfs_field_bad(at, "files", err, "0 entries; 1 to %u are allowed", MFS_FILES_MAX);
	if (n > MFS_FILES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: files: %zu files, limit %u", at->doc, n, MFS_FILES_MAX);
	if ((m->files = calloc(n, sizeof(*m->files))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", n);
	m->n_files = n;
	for (size_t i = 0; i < n; i++) {
		const struct mfs_at item = mfs_at_item(at, "files", i);

		if ((code = file_parse(json_array_get(a, i), &item, m->cipher != MFS_CIPHER_NONE, &m->files[i], err)) !=
			MFS_OK)
			return code;
		if (__builtin_add_overflow(m->total_size, m->files[i].size, &m->total_size) ||
			m->total_size > (uint64_t)INT64_MAX)
			return mfs_field_bad(&item, "size", err, "the sizes of all files add up beyond 2^63-1");
	}
	if ((code = names_distinct(m, at, err)) != MFS_OK)
		return code;
	qsort(m->files, n, sizeof(*m->files), file_order);
	return MFS_OK;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static enum mfs_code
identity_parse(const json_t *root, const struct mfs_at *at, struct mfs_manifest *m, struct mfs_err *err)
{
	const char *format, *id, *variant, *version;
	struct mfs_sha256 *ids = NULL;
	enum mfs_code code;

	if ((code = mfs_field_string(root, at, "format", MFS_REQUIRED, 64, &format, err)) != MFS_OK)
		return code;
	if (strcmp(format, "modelfs-manifest/1") != 0)
		return mfs_field_bad(at, "format", err, "'%s' is not \"modelfs-manifest/1\"", MFS_ESC(format));
	if ((code = mfs_field_string(root, at, "model_id", MFS_REQUIRED, MFS_ID_MAX, &id, err)) != MFS_OK ||
		(code = mfs_field_string(root, at, "variant", MFS_REQUIRED, MFS_VARIANT_MAX, &variant, err)) != MFS_OK ||
		(code = mfs_field_string(root, at, "version", MFS_REQUIRED, MFS_VERSION_MAX, &version, err)) != MFS_OK)
		return code;
	if (!mfs_model_id_ok(id, strlen(id)))
		return mfs_field_bad(at, "model_id", err, "'%s' is not [A-Za-z0-9][A-Za-z0-9._-]*", MFS_ESC(id));
	if (!mfs_variant_ok(variant, strlen(variant)))
		return mfs_field_bad(at, "variant", err, "'%s' is not [A-Za-z0-9][A-Za-z0-9._-]*", MFS_ESC(variant));
	if (!mfs_version_ok(version, strlen(version)))
		return mfs_field_bad(at, "version", err, "'%s' is not a semantic version without build metadata",
			MFS_ESC(version));
	if ((code = mfs_strdup(id, &m->model_id, err)) != MFS_OK ||
		(code = mfs_strdup(variant, &m->variant, err)) != MFS_OK ||
		(code = mfs_strdup(version, &m->version, err)) != MFS_OK ||
		(code = mfs_field_int(root, at, "release", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &m->release, err)) != MFS_OK ||
		(code = mfs_field_int(root, at, "build_time", MFS_REQUIRED, 0, MFS_BUILD_TIME_MAX, &m->build_time, err)) !=
			MFS_OK ||
		(code = mfs_field_int(root, at, "key_epoch", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &m->key_epoch, err)) !=
			MFS_OK ||
		(code = mfs_field_sha256_list(root, at, "key_ids", MFS_REQUIRED, 1, MFS_KEY_IDS_MAX, &ids, &m->n_key_ids,
			 err)) != MFS_OK)
		return code;
	memcpy(m->key_ids, ids, m->n_key_ids * sizeof(*ids));
	free(ids);
	return MFS_OK;
}

static enum mfs_code
wraps_parse(const json_t *o, const struct mfs_at *at, struct mfs_manifest *m, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, "wraps", MFS_REQUIRED, 1, MFS_WRAPS_MAX, &a, err)) != MFS_OK)
		return code;
	if ((m->wraps = calloc(json_array_size(a), sizeof(*m->wraps))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu wrapped keys", json_array_size(a));
	m->n_wraps = json_array_size(a);
	for (size_t i = 0; i < m->n_wraps; i++) {
		const struct mfs_at item = mfs_at_item(at, "wraps", i);
		const json_t *w = json_array_get(a, i);

		if (!json_is_object(w))
			return mfs_field_bad(&item, "", err, "not an object");
		if ((code = mfs_field_hex(w, &item, "model_key_id", MFS_REQUIRED, m->wraps[i].model_key_id.b,
			     MFS_SHA256_LEN, err)) != MFS_OK ||
			(code = mfs_field_hex(w, &item, "wrapped", MFS_REQUIRED, m->wraps[i].wrapped,
				 sizeof(m->wraps[i].wrapped), err)) != MFS_OK)
			return code;
		for (size_t k = 0; k < i; k++)
			if (mfs_sha256_equal(&m->wraps[k].model_key_id, &m->wraps[i].model_key_id))
				return mfs_field_bad(&item, "model_key_id", err, "the same as in wraps[%zu]", k);
	}
	return MFS_OK;
}

static enum mfs_code
encryption_parse(const json_t *root, const struct mfs_at *at, struct mfs_manifest *m, struct mfs_err *err)
{
	struct mfs_at sub = mfs_at_object(at, "encryption");
	const char *cipher;
	enum mfs_code code;
	json_t *o;

	if ((code = mfs_field_object(root, at, "encryption", MFS_OPTIONAL, &o, err)) != MFS_OK || o == NULL)
		return code;
	if ((code = mfs_field_string(o, &sub, "cipher", MFS_REQUIRED, 32, &cipher, err)) != MFS_OK)
		return code;
	if (strcmp(cipher, ciphers[MFS_CIPHER_AES_256_GCM]) == 0)
		m->cipher = MFS_CIPHER_AES_256_GCM;
	else if (strcmp(cipher, ciphers[MFS_CIPHER_CHACHA20_POLY1305]) == 0)
		m->cipher = MFS_CIPHER_CHACHA20_POLY1305;
	else
		return mfs_field_bad(&sub, "cipher", err, "'%s' is neither \"AES-256-GCM\" nor \"ChaCha20-Poly1305\"",
			MFS_ESC(cipher));
	if ((code = mfs_field_hex(o, &sub, "content_key_id", MFS_REQUIRED, m->content_key_id.b, MFS_SHA256_LEN, err)) !=
		MFS_OK)
		return code;
	return wraps_parse(o, &sub, m, err);
}

static const char *const known_keys[] = { "format", "model_id", "variant", "version", "release", "build_time", "key_ids",
	"key_epoch", "compat", "preprocess", "quantization", "files", "encryption", "delta_bases", "health", "critical",
	NULL };

static enum mfs_code
manifest_fields(const json_t *root, struct mfs_manifest *m, struct mfs_err *err)
{
	const struct mfs_at at = mfs_at_top("manifest.json");
	enum mfs_code code;
	json_t *health;

	if ((code = mfs_critical_check(root, &at, known_keys, err)) != MFS_OK || (code = identity_parse(root, &at, m, err)) != MFS_OK ||
		(code = mfs_compat_parse(root, &at, m, err)) != MFS_OK ||
		(code = encryption_parse(root, &at, m, err)) != MFS_OK || (code = files_parse(root, &at, m, err)) != MFS_OK ||
		(code = mfs_field_sha256_list(root, &at, "delta_bases", MFS_OPTIONAL, 0, MFS_DELTA_BASES_MAX,
			 &m->delta_bases, &m->n_delta_bases, err)) != MFS_OK ||
		(code = mfs_field_object(root, &at, "health", MFS_OPTIONAL, &health, err)) != MFS_OK)
		return code;
	if ((code = mfs_field_text(root, &at, "health", &m->health_json, err)) != MFS_OK ||
		(code = mfs_field_text(root, &at, "preprocess", &m->preprocess_json, err)) != MFS_OK)
		return code;
	return mfs_field_text(root, &at, "quantization", &m->quantization_json, err);
}

enum mfs_code
mfs_manifest_parse(struct mfs_span in, struct mfs_manifest **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autojson json_t *root = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_json_parse_canonical("manifest.json", in, MFS_MANIFEST_BYTES_MAX, &root, err)) != MFS_OK)
		return code;
	if ((m = calloc(1, sizeof(*m))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	if ((code = mfs_sha256(in, &m->id, err)) != MFS_OK || (code = manifest_fields(root, m, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&m);
	return MFS_OK;
}
