/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: ids, HKDF, AES-KWP, and the key of one file. modelfs-bundle(5), ENCRYPTION. */
#include "internal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>

#define LABEL_MAX 32

void
mfs_key_wipe(struct mfs_key *k)
{
	OPENSSL_cleanse(k, sizeof(*k));
}

static enum mfs_code
labelled_id(const char *label, const struct mfs_key *k, struct mfs_sha256 *out, struct mfs_err *err)
{
	uint8_t buf[LABEL_MAX + MFS_KEY_LEN];
	const size_t n = strlen(label);
	enum mfs_code code;

	memcpy(buf, label, n);
	memcpy(buf + n, k->b, MFS_KEY_LEN);
	code = mfs_sha256(MFS_SPAN(buf, n + MFS_KEY_LEN), out, err);
	OPENSSL_cleanse(buf, sizeof(buf));
	return code;
}

enum mfs_code
mfs_content_key_id(const struct mfs_key *k, struct mfs_sha256 *out, struct mfs_err *err)
{
	return labelled_id("modelfs content key", k, out, err);
}

enum mfs_code
mfs_model_key_id(const struct mfs_key *k, struct mfs_sha256 *out, struct mfs_err *err)
{
	return labelled_id("modelfs model key", k, out, err);
}

enum mfs_code
mfs_model_key_parse(const char *what, struct mfs_span in, struct mfs_key *out, struct mfs_err *err)
{
	size_t len = in.len;

	if (len == MFS_KEY_LEN) {
		memcpy(out->b, in.p, MFS_KEY_LEN);
		return MFS_OK;
	}
	if (len == 2 * MFS_KEY_LEN + 1 && in.p[len - 1] == '\n')
		len--;
	if (len == 2 * MFS_KEY_LEN && mfs_hex_decode(out->b, MFS_KEY_LEN, (const char *)in.p, len))
		return MFS_OK;
	mfs_key_wipe(out);
	return mfs_fail(err, MFS_CONFIG_INVALID,
		"%s: %zu bytes: a model key is 32 raw bytes or 64 lower-case hex digits with an optional newline", what,
		in.len);
}

/* ---- HMAC and HKDF ------------------------------------------------------------------------------ */

enum mfs_code
mfs_hmac(const struct mfs_key *key, struct mfs_span in, struct mfs_sha256 *out, struct mfs_err *err)
{
	if (HMAC(EVP_sha256(), key->b, MFS_KEY_LEN, in.p, in.len, out->b, NULL) == NULL) {
		ERR_clear_error();
		return mfs_fail(err, MFS_INTERNAL, "HMAC-SHA256 failed");
	}
	return MFS_OK;
}

enum mfs_code
mfs_hkdf(struct mfs_span key, struct mfs_span salt, struct mfs_span info, uint8_t *out, size_t out_len,
	struct mfs_err *err)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[5], *p = params;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	int rc = 0;

	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key.p, key.len);
	if (salt.len > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.p, salt.len);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info.p, info.len);
	*p = OSSL_PARAM_construct_end();
	if (ctx != NULL)
		rc = EVP_KDF_derive(ctx, out, out_len, params);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	ERR_clear_error();
	if (rc != 1) {
		OPENSSL_cleanse(out, out_len);
		return mfs_fail(err, MFS_INTERNAL, "HKDF-SHA256 failed");
	}
	return MFS_OK;
}

/* ---- AES-256-KWP (RFC 5649) ------------------------------------------------------------------------ */

static bool
kwp(const struct mfs_key *kek, int encrypt, const uint8_t *in, int in_len, uint8_t *out, int *out_len)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int tail = 0;
	bool ok;

	if (ctx == NULL)
		return false;
	EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	ok = EVP_CipherInit_ex(ctx, EVP_aes_256_wrap_pad(), NULL, kek->b, NULL, encrypt) == 1 &&
		EVP_CipherUpdate(ctx, out, out_len, in, in_len) == 1 &&
		EVP_CipherFinal_ex(ctx, out + *out_len, &tail) == 1;
	*out_len += tail;
	EVP_CIPHER_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

enum mfs_code
mfs_kwp_wrap(const struct mfs_key *model_key, const struct mfs_key *content_key, uint8_t out[40], struct mfs_err *err)
{
	uint8_t buf[64] = { 0 };
	int n = 0;

	if (!kwp(model_key, 1, content_key->b, MFS_KEY_LEN, buf, &n) || n != 40)
		return mfs_fail(err, MFS_INTERNAL, "AES-256-KWP failed");
	memcpy(out, buf, 40);
	return MFS_OK;
}

enum mfs_code
mfs_kwp_unwrap(const struct mfs_key *kek, const uint8_t wrapped[40], struct mfs_key *out, struct mfs_err *err)
{
	uint8_t buf[64] = { 0 };
	enum mfs_code code = MFS_OK;
	int n = 0;

	if (kwp(kek, 0, wrapped, 40, buf, &n) && n == MFS_KEY_LEN)
		memcpy(out->b, buf, MFS_KEY_LEN);
	else {
		mfs_key_wipe(out);
		code = mfs_fail(err, MFS_DECRYPT_FAILED, "the wrapped content key does not open");
	}
	OPENSSL_cleanse(buf, sizeof(buf));
	return code;
}

/* Open one wrap; out is the key that content_key_id names, or wiped. errors DECRYPT_FAILED */
static enum mfs_code
wrap_open(const struct mfs_manifest *m, const struct mfs_key *model_key, const uint8_t wrapped[MFS_WRAP_LEN],
	struct mfs_key *out, struct mfs_err *err)
{
	struct mfs_sha256 opened;
	enum mfs_code code;

	if ((code = mfs_kwp_unwrap(model_key, wrapped, out, err)) == MFS_OK &&
		(code = mfs_content_key_id(out, &opened, err)) == MFS_OK && !mfs_sha256_equal(&opened, &m->content_key_id))
		code = mfs_fail(err, MFS_DECRYPT_FAILED, "the unwrapped key is not the one that content_key_id names");
	if (code != MFS_OK)
		mfs_key_wipe(out);
	return code;
}

#define WRAPS_NAMED 3u

/* For which model keys the manifest has wraps, for a message: "0123456789abcdef, ... and 2 more". */
static void
wraps_name(const struct mfs_manifest *m, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < m->n_wraps && i < WRAPS_NAMED && n < cap; i++)
		n += (size_t)snprintf(out + n, cap - n, "%s%.16s", i > 0 ? ", " : "", MFS_HEX(&m->wraps[i].model_key_id));
	if (m->n_wraps > WRAPS_NAMED && n < cap)
		(void)snprintf(out + n, cap - n, " and %zu more", m->n_wraps - WRAPS_NAMED);
}

enum mfs_code
mfs_content_key_unwrap(const struct mfs_manifest *m, const struct mfs_key *model_key, struct mfs_key *out,
	struct mfs_err *err)
{
	char named[WRAPS_NAMED * 20 + 32];
	struct mfs_sha256 id;
	enum mfs_code code;

	mfs_key_wipe(out);
	if (m->cipher == MFS_CIPHER_NONE)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s %s: not encrypted: it has no content key", m->model_id,
			m->version);
	if ((code = mfs_model_key_id(model_key, &id, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < m->n_wraps; i++) {
		if (!mfs_sha256_equal(&m->wraps[i].model_key_id, &id))
			continue;
		if ((code = wrap_open(m, model_key, m->wraps[i].wrapped, out, err)) != MFS_OK)
			(void)mfs_err_context(err, "%s %s: encryption.wraps[%zu]: ", m->model_id, m->version, i);
		return code;
	}
	wraps_name(m, named, sizeof(named));
	return mfs_fail(err, MFS_KEY_UNAVAILABLE,
		"%s %s: no content key for model key %s, only for %s: 'modelpub grant' makes one for it, or configure such a key",
		m->model_id, m->version, MFS_HEX(&id), named);
}

enum mfs_code
mfs_content_key_unwrap_grant(const struct mfs_manifest *m, const struct mfs_key *model_key, struct mfs_span wrap,
	struct mfs_key *out, struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;

	mfs_key_wipe(out);
	if (m->cipher == MFS_CIPHER_NONE)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s %s: not encrypted: it has no content key", m->model_id, m->version);
	if (wrap.len != MFS_WRAP_LEN)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%zu bytes: a wrapped content key has %u", wrap.len, MFS_WRAP_LEN);
	/* Nobody signed it: what is wrong with it says nothing about the version. */
	if (wrap_open(m, model_key, wrap.p, out, &why) != MFS_OK)
		return mfs_fail(err, why.code == MFS_DECRYPT_FAILED ? MFS_KEY_UNAVAILABLE : why.code, "%s", why.msg);
	return MFS_OK;
}

/* ---- the key of one file ----------------------------------------------------------------------------- */

struct info {
	uint8_t b[2 * 4 + 4 + LABEL_MAX + LABEL_MAX + MFS_ID_MAX + MFS_NAME_MAX + MFS_SHA256_LEN];
	size_t len;
};

static bool
info_lp(struct info *info, const char *s, size_t max)
{
	const size_t n = strlen(s);

	if (n > max)
		return false;
	mfs_put_u16be(info->b + info->len, (uint16_t)n);
	memcpy(info->b + info->len + 2, s, n);
	info->len += 2 + n;
	return true;
}

/* lp("modelfs/1 file") lp(cipher) lp(model_id) lp(name) u32be(chunk_size) */
static enum mfs_code
info_make(struct info *info, enum mfs_cipher cipher, const char *model_id, const char *name, uint32_t chunk_size,
	struct mfs_err *err)
{
	info->len = 0;
	if (mfs_cipher_name(cipher) == NULL || !info_lp(info, "modelfs/1 file", LABEL_MAX) ||
		!info_lp(info, mfs_cipher_name(cipher), LABEL_MAX) || !info_lp(info, model_id, MFS_ID_MAX) ||
		!info_lp(info, name, MFS_NAME_MAX))
		return mfs_fail(err, MFS_INTERNAL, "file key: cipher, model_id or name out of range");
	mfs_put_u32be(info->b + info->len, chunk_size);
	info->len += 4;
	return MFS_OK;
}

enum mfs_code
mfs_file_salt(const struct mfs_key *content_key, enum mfs_cipher cipher, const char *model_id, const char *name,
	uint32_t chunk_size, const struct mfs_sha256 *plaintext_sha256, struct mfs_sha256 *salt, struct mfs_err *err)
{
	static const char label[] = "modelfs/1 salt";
	struct mfs_key salt_key;
	struct info info;
	enum mfs_code code;

	if ((code = info_make(&info, cipher, model_id, name, chunk_size, err)) != MFS_OK)
		return code;
	memcpy(info.b + info.len, plaintext_sha256->b, MFS_SHA256_LEN);
	info.len += MFS_SHA256_LEN;
	if ((code = mfs_hkdf(MFS_SPAN(content_key->b, MFS_KEY_LEN), MFS_SPAN(NULL, 0), MFS_SPAN(label, sizeof(label) - 1),
		     salt_key.b, MFS_KEY_LEN, err)) == MFS_OK)
		code = mfs_hmac(&salt_key, MFS_SPAN(info.b, info.len), salt, err);
	mfs_key_wipe(&salt_key);
	return code;
}

enum mfs_code
mfs_file_key(const struct mfs_key *content_key, const struct mfs_sha256 *salt, enum mfs_cipher cipher,
	const char *model_id, const char *name, uint32_t chunk_size, struct mfs_key *out, struct mfs_err *err)
{
	struct info info;
	enum mfs_code code;

	if ((code = info_make(&info, cipher, model_id, name, chunk_size, err)) != MFS_OK)
		return code;
	return mfs_hkdf(MFS_SPAN(content_key->b, MFS_KEY_LEN), MFS_SPAN(salt->b, MFS_SHA256_LEN),
		MFS_SPAN(info.b, info.len), out->b, MFS_KEY_LEN, err);
}
