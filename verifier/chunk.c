/* SPDX-License-Identifier: Apache-2.0 */
/* Chunk tables and chunks: hash first, then the cipher. modelfs-bundle(5), CHUNK TABLE. */
#include "internal.h"

#include <openssl/crypto.h>

#define NONCE_LEN 12
#define MAGIC     "MFCHUNK1"
#define MAGIC_LEN 8

void
mfs_table_header(uint8_t out[MFS_TABLE_HEADER], uint32_t chunk_size, uint64_t size, uint64_t chunks)
{
	memcpy(out, MAGIC, MAGIC_LEN);
	mfs_put_u32le(out + 8, chunk_size);
	mfs_put_u32le(out + 12, 0);
	mfs_put_u64le(out + 16, size);
	mfs_put_u64le(out + 24, chunks);
}

uint32_t
mfs_chunk_length(const struct mfs_file *f, uint64_t i)
{
	uint64_t rest;

	if (i >= f->chunks)
		return 0;
	rest = f->size - i * f->chunk_size;
	return rest < f->chunk_size ? (uint32_t)rest : f->chunk_size;
}

static const uint8_t *
entry_at(const struct mfs_table *t, uint64_t i)
{
	return t->entries + i * MFS_TABLE_ENTRY;
}

static bool
tag_is_zero(const uint8_t *entry)
{
	static const uint8_t zero[MFS_TAG_LEN];

	return memcmp(entry + MFS_SHA256_LEN, zero, MFS_TAG_LEN) == 0;
}

static enum mfs_code
header_check(const struct mfs_file *f, struct mfs_span *in, struct mfs_err *err)
{
	const char *name = f->name;
	uint32_t chunk_size, reserved;
	uint64_t size, count;
	struct mfs_span magic;

	if (!mfs_span_take(in, MAGIC_LEN, &magic) || !mfs_span_u32le(in, &chunk_size) || !mfs_span_u32le(in, &reserved) ||
		!mfs_span_u64le(in, &size) || !mfs_span_u64le(in, &count))
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: shorter than its header of %u bytes", MFS_ESC(name),
			MFS_TABLE_HEADER);
	if (memcmp(magic.p, MAGIC, MAGIC_LEN) != 0)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: offset 0: no MFCHUNK1", MFS_ESC(name));
	if (chunk_size != f->chunk_size)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: offset 8: chunk size %u, manifest says %u", MFS_ESC(name),
			chunk_size, f->chunk_size);
	if (reserved != 0)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: offset 12: not zero", MFS_ESC(name));
	if (size != f->size)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: offset 16: file size %llu, manifest says %llu",
			MFS_ESC(name), (unsigned long long)size, (unsigned long long)f->size);
	if (count != f->chunks)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: offset 24: %llu chunks, %llu expected", MFS_ESC(name),
			(unsigned long long)count, (unsigned long long)f->chunks);
	if (in->len / MFS_TABLE_ENTRY != f->chunks || in->len % MFS_TABLE_ENTRY != 0)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: %zu bytes of entries, not %u for each of %llu chunks",
			MFS_ESC(name), in->len, MFS_TABLE_ENTRY, (unsigned long long)f->chunks);
	return MFS_OK;
}

/* Files of at most one chunk: the manifest's own hash and tag stand for the table. */
static enum mfs_code
table_synthetic(struct mfs_table *t, const struct mfs_file *f, struct mfs_span in, struct mfs_err *err)
{
	if (in.len != 0)
		return mfs_fail(err, MFS_MALFORMED, "chunks/%s: surplus: a file of at most one chunk has no table",
			MFS_ESC(f->name));
	if (f->chunks == 0)
		return MFS_OK;
	if ((t->entries = malloc(MFS_TABLE_ENTRY)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "chunk table");
	memcpy(t->entries, f->sha256.b, MFS_SHA256_LEN);
	memcpy(t->entries + MFS_SHA256_LEN, f->tag, MFS_TAG_LEN);
	return MFS_OK;
}

static enum mfs_code
table_stored(struct mfs_table *t, const struct mfs_file *f, struct mfs_span in, struct mfs_err *err)
{
	struct mfs_sha256 sum;
	enum mfs_code code;

	if ((code = mfs_sha256(in, &sum, err)) != MFS_OK)
		return code;
	if (!mfs_sha256_equal(&sum, &f->chunks_sha256))
		return mfs_fail(err, MFS_HASH_MISMATCH, "chunks/%s: SHA-256 is %s, the manifest says %s (%zu bytes)",
			MFS_ESC(f->name), MFS_HEX(&sum), MFS_HEX(&f->chunks_sha256), in.len);
	if ((code = header_check(f, &in, err)) != MFS_OK)
		return code;
	if ((t->entries = malloc(in.len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "chunks/%s: %zu bytes", MFS_ESC(f->name), in.len);
	memcpy(t->entries, in.p, in.len);
	if (!mfs_sha256_is_zero(&f->salt))
		return MFS_OK;
	for (uint64_t i = 0; i < t->chunks; i++)
		if (!tag_is_zero(entry_at(t, i)))
			return mfs_fail(err, MFS_MALFORMED, "chunks/%s: chunk %llu has a tag although the file is plain",
				MFS_ESC(f->name), (unsigned long long)i);
	return MFS_OK;
}

enum mfs_code
mfs_table_load(const struct mfs_file *f, struct mfs_span in, struct mfs_table **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = calloc(1, sizeof(*t));
	enum mfs_code code;

	*out = NULL;
	if (t == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "chunk table");
	t->file = f;
	t->chunks = f->chunks;
	code = f->chunks <= 1 ? table_synthetic(t, f, in, err) : table_stored(t, f, in, err);
	if (code != MFS_OK)
		return code;
	*out = mfs_steal(&t);
	return MFS_OK;
}

void
mfs_table_free(struct mfs_table *t)
{
	if (t == NULL)
		return;
	free(t->entries);
	free(t);
}

/* ---- openers ------------------------------------------------------------------------------------ */

struct mfs_opener {
	EVP_MD *sha256;
	EVP_MD_CTX *hash;
	EVP_CIPHER *fetched; /* of `cipher`; NULL when plain */
	EVP_CIPHER_CTX *open, *seal;
	enum mfs_cipher cipher;
	bool open_keyed, seal_keyed; /* the schedule of `key` is in the context */
	struct mfs_key key;
};

void
mfs_opener_free(struct mfs_opener *o)
{
	if (o == NULL)
		return;
	EVP_CIPHER_CTX_free(o->open); /* wipes the key schedule */
	EVP_CIPHER_CTX_free(o->seal);
	EVP_CIPHER_free(o->fetched);
	EVP_MD_CTX_free(o->hash);
	EVP_MD_free(o->sha256);
	mfs_key_wipe(&o->key);
	free(o);
}

enum mfs_code
mfs_opener_rekey(struct mfs_opener *o, enum mfs_cipher cipher, const struct mfs_key *file_key, struct mfs_err *err)
{
	if ((cipher == MFS_CIPHER_NONE) != (file_key == NULL) ||
		(cipher != MFS_CIPHER_NONE && mfs_cipher_name(cipher) == NULL))
		return mfs_fail(err, MFS_INTERNAL, "opener: cipher and key do not fit together");
	if (o->open_keyed)
		(void)EVP_CIPHER_CTX_reset(o->open);
	if (o->seal_keyed)
		(void)EVP_CIPHER_CTX_reset(o->seal);
	o->open_keyed = o->seal_keyed = false;
	mfs_key_wipe(&o->key);
	if (cipher != o->cipher) {
		EVP_CIPHER_free(o->fetched);
		o->fetched = NULL;
		o->cipher = MFS_CIPHER_NONE;
	}
	if (cipher == MFS_CIPHER_NONE)
		return MFS_OK;
	if (o->fetched == NULL &&
		(o->fetched = EVP_CIPHER_fetch(NULL, mfs_cipher_name(cipher), NULL)) == NULL) {
		ERR_clear_error();
		return mfs_fail(err, MFS_INTERNAL, "OpenSSL has no %s", mfs_cipher_name(cipher));
	}
	o->cipher = cipher;
	o->key = *file_key;
	return MFS_OK;
}

enum mfs_code
mfs_opener_new(enum mfs_cipher cipher, const struct mfs_key *file_key, struct mfs_opener **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *o = calloc(1, sizeof(*o));
	enum mfs_code code;

	*out = NULL;
	if (o == NULL || (o->hash = EVP_MD_CTX_new()) == NULL || (o->open = EVP_CIPHER_CTX_new()) == NULL ||
		(o->seal = EVP_CIPHER_CTX_new()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "opener");
	if ((o->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL)) == NULL)
		return mfs_fail(err, MFS_INTERNAL, "OpenSSL has no SHA-256");
	if ((code = mfs_opener_rekey(o, cipher, file_key, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&o);
	return MFS_OK;
}

/* The nonce of chunk i: its index as a 96-bit big-endian number. */
static void
nonce_make(uint8_t nonce[NONCE_LEN], uint64_t i)
{
	mfs_put_u32be(nonce, 0);
	mfs_put_u32be(nonce + 4, (uint32_t)(i >> 32));
	mfs_put_u32be(nonce + 8, (uint32_t)i);
}

static bool
opener_hash(struct mfs_opener *o, struct mfs_span in, uint8_t out[MFS_SHA256_LEN])
{
	return EVP_DigestInit_ex(o->hash, o->sha256, NULL) == 1 && EVP_DigestUpdate(o->hash, in.p, in.len) == 1 &&
		EVP_DigestFinal_ex(o->hash, out, NULL) == 1;
}

/* ---- one chunk ------------------------------------------------------------------------------------ */

/* Is this as many bytes as chunk i has? */
static enum mfs_code
length_check(const struct mfs_table *t, uint64_t i, struct mfs_span stored, struct mfs_err *err)
{
	const uint32_t want = mfs_chunk_length(t->file, i);

	if (i >= t->chunks)
		return mfs_fail(err, MFS_INTERNAL, "%s: chunk %llu of %llu", MFS_ESC(t->file->name), (unsigned long long)i,
			(unsigned long long)t->chunks);
	if (stored.len != want)
		return mfs_fail(err, MFS_HASH_MISMATCH, "payload/%s: chunk %llu has %zu bytes, not %u: truncated or grown",
			MFS_ESC(t->file->name), (unsigned long long)i, stored.len, want);
	return MFS_OK;
}

static enum mfs_code
sum_check(const struct mfs_table *t, uint64_t i, const uint8_t sum[MFS_SHA256_LEN], struct mfs_err *err)
{
	if (memcmp(sum, entry_at(t, i), MFS_SHA256_LEN) != 0)
		return mfs_fail(err, MFS_HASH_MISMATCH, "payload/%s: chunk %llu (offset %llu, %u bytes): SHA-256 differs",
			MFS_ESC(t->file->name), (unsigned long long)i,
			(unsigned long long)(i * t->file->chunk_size), mfs_chunk_length(t->file, i));
	return MFS_OK;
}

enum mfs_code
mfs_chunk_verify(struct mfs_opener *o, const struct mfs_table *t, uint64_t i, struct mfs_span stored, struct mfs_err *err)
{
	uint8_t sum[MFS_SHA256_LEN];
	enum mfs_code code = length_check(t, i, stored, err);

	if (code != MFS_OK)
		return code;
	if (!opener_hash(o, stored, sum)) {
		ERR_clear_error();
		return mfs_fail(err, MFS_INTERNAL, "SHA-256 failed");
	}
	return sum_check(t, i, sum, err);
}

static bool
aead_open(struct mfs_opener *o, uint64_t i, const uint8_t *tag, struct mfs_span stored, uint8_t *plaintext)
{
	uint8_t nonce[NONCE_LEN], want[MFS_TAG_LEN];
	int n = 0, tail = 0;

	if (!o->open_keyed) {
		if (EVP_DecryptInit_ex2(o->open, o->fetched, o->key.b, NULL, NULL) != 1)
			return false;
		o->open_keyed = true;
	}
	nonce_make(nonce, i);
	memcpy(want, tag, MFS_TAG_LEN);
	return EVP_DecryptInit_ex2(o->open, NULL, NULL, nonce, NULL) == 1 &&
		EVP_DecryptUpdate(o->open, plaintext, &n, stored.p, (int)stored.len) == 1 && (size_t)n == stored.len &&
		EVP_CIPHER_CTX_ctrl(o->open, EVP_CTRL_AEAD_SET_TAG, MFS_TAG_LEN, want) == 1 &&
		EVP_DecryptFinal_ex(o->open, plaintext + n, &tail) == 1 && tail == 0;
}

/* The rest of opening a chunk: `code` says how its verification ended. */
static enum mfs_code
verified_open(struct mfs_opener *o, const struct mfs_table *t, uint64_t i, struct mfs_span stored, uint8_t *plaintext,
	enum mfs_code code, struct mfs_err *err)
{
	const uint32_t len = mfs_chunk_length(t->file, i);

	if (code == MFS_OK && o->cipher != MFS_CIPHER_NONE &&
		!aead_open(o, i, entry_at(t, i) + MFS_SHA256_LEN, stored, plaintext)) {
		ERR_clear_error();
		code = mfs_fail(err, MFS_DECRYPT_FAILED,
			"payload/%s: chunk %llu: the stored bytes are the signed ones but do not decrypt: wrong content key or tag",
			MFS_ESC(t->file->name), (unsigned long long)i);
	}
	if (code != MFS_OK) {
		OPENSSL_cleanse(plaintext, len);
		return code;
	}
	if (o->cipher == MFS_CIPHER_NONE && plaintext != stored.p)
		memcpy(plaintext, stored.p, len);
	return MFS_OK;
}

enum mfs_code
mfs_chunk_open(struct mfs_opener *o, const struct mfs_table *t, uint64_t i, struct mfs_span stored, uint8_t *plaintext,
	struct mfs_err *err)
{
	return verified_open(o, t, i, stored, plaintext, mfs_chunk_verify(o, t, i, stored, err), err);
}

/* Chunks i and i + 1 hashed side by side. False: not here, or not these two. */
static bool
pair_verify(const struct mfs_table *t, uint64_t i, struct mfs_chunk_io io[2])
{
	uint8_t sum[2][MFS_SHA256_LEN];

	if (io[0].stored.len != io[1].stored.len || length_check(t, i, io[0].stored, NULL) != MFS_OK ||
		length_check(t, i + 1, io[1].stored, NULL) != MFS_OK ||
		!mfs_sha256_pair(io[0].stored.p, io[1].stored.p, io[0].stored.len, sum[0], sum[1]))
		return false;
	for (size_t k = 0; k < 2; k++)
		io[k].code = sum_check(t, i + k, sum[k], &io[k].err);
	return true;
}

void
mfs_chunks_open(struct mfs_opener *o, const struct mfs_table *t, uint64_t first, struct mfs_chunk_io *io, size_t n)
{
	for (size_t at = 0, count; at < n; at += count) {
		count = n - at < 2 ? 1 : 2;
		for (size_t k = at; k < at + count; k++)
			io[k].err = (struct mfs_err)MFS_ERR_INIT;
		if (count == 1 || !pair_verify(t, first + at, io + at))
			for (size_t k = at; k < at + count; k++)
				io[k].code = mfs_chunk_verify(o, t, first + k, io[k].stored, &io[k].err);
		for (size_t k = at; k < at + count; k++)
			if (io[k].plaintext != NULL)
				io[k].code = verified_open(o, t, first + k, io[k].stored, io[k].plaintext, io[k].code, &io[k].err);
	}
}

static bool
aead_seal(struct mfs_opener *o, uint64_t i, struct mfs_span plaintext, uint8_t *stored, uint8_t *tag)
{
	uint8_t nonce[NONCE_LEN];
	int n = 0, tail = 0;

	if (!o->seal_keyed) {
		if (EVP_EncryptInit_ex2(o->seal, o->fetched, o->key.b, NULL, NULL) != 1)
			return false;
		o->seal_keyed = true;
	}
	nonce_make(nonce, i);
	return EVP_EncryptInit_ex2(o->seal, NULL, NULL, nonce, NULL) == 1 &&
		EVP_EncryptUpdate(o->seal, stored, &n, plaintext.p, (int)plaintext.len) == 1 &&
		(size_t)n == plaintext.len && EVP_EncryptFinal_ex(o->seal, stored + n, &tail) == 1 && tail == 0 &&
		EVP_CIPHER_CTX_ctrl(o->seal, EVP_CTRL_AEAD_GET_TAG, MFS_TAG_LEN, tag) == 1;
}

enum mfs_code
mfs_chunk_seal(struct mfs_opener *o, uint64_t i, struct mfs_span plaintext, uint8_t *stored,
	uint8_t entry[MFS_TABLE_ENTRY], struct mfs_err *err)
{
	bool ok = true;

	memset(entry, 0, MFS_TABLE_ENTRY);
	if (plaintext.len == 0 || plaintext.len > MFS_CHUNK_MAX)
		return mfs_fail(err, MFS_INTERNAL, "chunk %llu: %zu bytes, 1 to %u are allowed", (unsigned long long)i,
			plaintext.len, MFS_CHUNK_MAX);
	if (o->cipher != MFS_CIPHER_NONE)
		ok = aead_seal(o, i, plaintext, stored, entry + MFS_SHA256_LEN);
	else if (stored != plaintext.p)
		memcpy(stored, plaintext.p, plaintext.len);
	if (!ok || !opener_hash(o, MFS_SPAN(stored, plaintext.len), entry)) {
		ERR_clear_error();
		memset(entry, 0, MFS_TABLE_ENTRY);
		return mfs_fail(err, MFS_INTERNAL, "chunk %llu: sealing failed", (unsigned long long)i);
	}
	return MFS_OK;
}
