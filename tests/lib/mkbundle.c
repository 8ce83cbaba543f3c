/* SPDX-License-Identifier: Apache-2.0 */
#include "mkbundle.h"

#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"

static struct mfs_err must_err;
#define ERR (&must_err)
#define MUST(call)                                                                                  \
	do {                                                                                        \
		if ((call) != MFS_OK) {                                                             \
			fprintf(stderr, "fixture: %s: %s\n", #call, must_err.msg);                  \
			abort();                                                                    \
		}                                                                                   \
	} while (0)
#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			perror("fixture: " #condition);                                             \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

/* ---- signing ------------------------------------------------------------------------------------------- */

struct mk_signer {
	EVP_PKEY *pkey;
	char *pem;
	struct mfs_sha256 id;
};

struct mk_signer *
mk_signer_new(void)
{
	struct mk_signer *s = calloc(1, sizeof(*s));
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long len;

	REQUIRE(s != NULL && bio != NULL);
	REQUIRE((s->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) != NULL);
	REQUIRE(PEM_write_bio_PUBKEY(bio, s->pkey) == 1);
	len = BIO_get_mem_data(bio, &text);
	REQUIRE((s->pem = strndup(text, (size_t)len)) != NULL);
	BIO_free(bio);
	MUST(mfs_key_id_pem(MFS_SPAN(s->pem, strlen(s->pem)), &s->id, ERR));
	return s;
}

void
mk_signer_free(struct mk_signer *s)
{
	EVP_PKEY_free(s->pkey);
	free(s->pem);
	free(s);
}

const char *
mk_signer_pem(const struct mk_signer *s)
{
	return s->pem;
}

const struct mfs_sha256 *
mk_signer_id(const struct mk_signer *s)
{
	return &s->id;
}

static void
sign(const struct mk_signer *s, const char *text, size_t len, uint8_t out[64])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = 64;

	REQUIRE(ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->pkey) == 1);
	REQUIRE(EVP_DigestSign(ctx, out, &n, (const unsigned char *)text, len) == 1 && n == 64);
	EVP_MD_CTX_free(ctx);
}

/* ---- files --------------------------------------------------------------------------------------------- */

void
mk_fill(uint8_t *out, uint64_t n, unsigned seed)
{
	uint64_t x = 0x9e3779b97f4a7c15u * (seed + 1u);

	for (uint64_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = i / 8192 % 4 == 3 ? 0 : (uint8_t)(x >> 24);
	}
}

void
mk_flip(int dirfd, const char *path, int64_t off)
{
	size_t n, at;
	uint8_t *bytes = scratch_read(dirfd, path, &n);

	REQUIRE(bytes != NULL && n > 0);
	at = off >= 0 ? (size_t)off : n - (size_t)-off;
	REQUIRE(at < n);
	bytes[at] ^= 0x10;
	scratch_write(dirfd, path, bytes, n);
	free(bytes);
}

static void
put(int dirfd, const char *part, const char *name, const void *bytes, size_t n)
{
	char path[600];

	(void)snprintf(path, sizeof(path), "%s/%s", part, name);
	*strrchr(path, '/') = '\0';
	MUST(mfs_mkdirs(dirfd, path, 0755, ERR));
	(void)snprintf(path, sizeof(path), "%s/%s", part, name);
	scratch_write(dirfd, path, bytes, n);
}

static json_t *
hex(const void *p, size_t n)
{
	char text[2 * 64 + 1];

	REQUIRE(n <= 64);
	mfs_hex_encode(text, p, n);
	return json_string(text);
}

/* Seal one file into the bundle; its entry of the manifest. */
static json_t *
file_make(int dirfd, const char *model_id, const struct mk_file *in, uint32_t chunk, const struct mfs_key *content_key)
{
	enum mfs_cipher cipher = content_key != NULL ? MFS_CIPHER_AES_256_GCM : MFS_CIPHER_NONE;
	struct mfs_file f = { .size = in->size, .chunk_size = chunk, .chunks = (in->size + chunk - 1) / chunk };
	size_t table_len = (size_t)(MFS_TABLE_HEADER + MFS_TABLE_ENTRY * f.chunks);
	uint8_t *plain = malloc(in->size + 1), *stored = malloc(in->size + 1), *table = calloc(1, table_len);
	json_t *o = json_object();
	struct mfs_opener *opener;
	struct mfs_sha256 digest;
	struct mfs_key key;

	REQUIRE(plain != NULL && stored != NULL && table != NULL);
	mk_fill(plain, in->size, in->seed);
	if (content_key != NULL) {
		MUST(mfs_sha256(MFS_SPAN(plain, in->size), &digest, ERR));
		MUST(mfs_file_salt(content_key, cipher, model_id, in->name, chunk, &digest, &f.salt, ERR));
		MUST(mfs_file_key(content_key, &f.salt, cipher, model_id, in->name, chunk, &key, ERR));
		json_object_set_new(o, "salt", hex(f.salt.b, 32));
	}
	MUST(mfs_opener_new(cipher, content_key != NULL ? &key : NULL, &opener, ERR));
	mfs_table_header(table, chunk, f.size, f.chunks);
	for (uint64_t i = 0; i < f.chunks; i++)
		MUST(mfs_chunk_seal(opener, i, MFS_SPAN(plain + i * chunk, mfs_chunk_length(&f, i)), stored + i * chunk,
			table + MFS_TABLE_HEADER + i * MFS_TABLE_ENTRY, ERR));
	mfs_opener_free(opener);
	put(dirfd, "payload", in->name, stored, in->size);
	if (f.chunks > 1) {
		put(dirfd, "chunks", in->name, table, table_len);
		MUST(mfs_sha256(MFS_SPAN(table, table_len), &digest, ERR));
		json_object_set_new(o, "chunks_sha256", hex(digest.b, 32));
	} else if (f.chunks == 1) {
		json_object_set_new(o, "tag", hex(table + MFS_TABLE_HEADER + 32, MFS_TAG_LEN));
	}
	MUST(mfs_sha256(MFS_SPAN(stored, in->size), &digest, ERR));
	json_object_set_new(o, "name", json_string(in->name));
	json_object_set_new(o, "size", json_integer((json_int_t)in->size));
	json_object_set_new(o, "sha256", hex(digest.b, 32));
	json_object_set_new(o, "chunk_size", json_integer(chunk));
	json_object_set_new(o, "media", json_string("other"));
	json_object_set_new(o, "executable", json_false());
	free(plain);
	free(stored);
	free(table);
	return o;
}

static json_t *
encryption_make(const struct mfs_key *model_key, const struct mfs_key *content_key)
{
	struct mfs_sha256 content_id, model_id;
	uint8_t wrapped[40];
	json_t *wrap = json_object(), *o = json_object();

	MUST(mfs_content_key_id(content_key, &content_id, ERR));
	MUST(mfs_model_key_id(model_key, &model_id, ERR));
	MUST(mfs_kwp_wrap(model_key, content_key, wrapped, ERR));
	json_object_set_new(wrap, "model_key_id", hex(model_id.b, 32));
	json_object_set_new(wrap, "wrapped", hex(wrapped, sizeof(wrapped)));
	json_object_set_new(o, "cipher", json_string("AES-256-GCM"));
	json_object_set_new(o, "content_key_id", hex(content_id.b, 32));
	json_object_set_new(o, "wraps", json_pack("[o]", wrap));
	return o;
}

void
mk_bundle(const struct mk_signer *s, const struct mk_bundle *b, int dirfd, const char *name, struct mfs_sha256 *id)
{
	static const struct mk_file one = { "model.bin", 200000, 1 };
	const char *model_id = b->model_id != NULL ? b->model_id : "det";
	const char *version = b->version != NULL ? b->version : "1.0.0";
	const struct mk_file *files = b->files != NULL ? b->files : &one;
	size_t n_files = b->files != NULL ? b->n_files : 1, len;
	struct mfs_key derived, *key = NULL;
	json_t *root = json_object(), *list = json_array();
	int fd = scratch_folder(dirfd, name);
	uint8_t sig[64];
	char *text;

	if (b->model_key != NULL) {
		struct mfs_sha256 h;

		MUST(mfs_sha256(MFS_SPAN(version, strlen(version)), &h, ERR));
		memcpy(derived.b, b->content_key != NULL ? b->content_key->b : h.b, MFS_KEY_LEN);
		key = &derived;
		json_object_set_new(root, "encryption", encryption_make(b->model_key, key));
	}
	for (size_t i = 0; i < n_files; i++)
		json_array_append_new(list,
			file_make(fd, model_id, &files[i], b->chunk_size != 0 ? b->chunk_size : MFS_CHUNK_MIN, key));
	json_object_set_new(root, "files", list);
	json_object_set_new(root, "format", json_string("modelfs-manifest/1"));
	json_object_set_new(root, "model_id", json_string(model_id));
	json_object_set_new(root, "version", json_string(version));
	json_object_set_new(root, "variant", json_string(b->variant != NULL ? b->variant : "default"));
	json_object_set_new(root, "release", json_integer(b->release != 0 ? b->release : 1));
	json_object_set_new(root, "build_time", json_integer(1700000000));
	json_object_set_new(root, "key_epoch", json_integer(b->epoch != 0 ? b->epoch : 1));
	json_object_set_new(root, "key_ids", json_pack("[o]", hex(s->id.b, 32)));
	if (b->compat != NULL)
		json_object_set_new(root, "compat", json_loads(b->compat, 0, NULL));
	MUST(mfs_json_canonical(root, &text, &len, ERR));
	sign(s, text, len, sig);
	scratch_write(fd, "manifest.json", text, len);
	scratch_write(fd, "signature.sig", sig, sizeof(sig));
	if (id != NULL)
		MUST(mfs_sha256(MFS_SPAN(text, len), id, ERR));
	free(text);
	json_decref(root);
	(void)close(fd);
}
