/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thresholds: how many distinct public keys of a role have signed? Keys are compared by what they
 * are, not by the ids that metadata gives them, so that one key under two ids counts once. A key of a
 * type that this client does not know, one that is damaged, and a signature that is empty or wrong
 * simply do not count: other signers may still meet the threshold.
 */
#include "tuf_internal.h"

#include <openssl/rsa.h>
#include <openssl/x509.h>

/* Hex in either case, at most cap bytes; -1 when it is none. */
static ssize_t
hex_bytes(const char *s, uint8_t *out, size_t cap)
{
	const size_t len = strlen(s);

	if (len == 0 || len % 2 != 0 || len / 2 > cap)
		return -1;
	for (size_t i = 0; i < len; i++) {
		const char c = s[i];
		const int v = c >= '0' && c <= '9' ? c - '0'
			: c >= 'a' && c <= 'f'     ? c - 'a' + 10
			: c >= 'A' && c <= 'F'     ? c - 'A' + 10
						   : -1;

		if (v < 0)
			return -1;
		out[i / 2] = (uint8_t)(i % 2 == 0 ? v << 4 : out[i / 2] | v);
	}
	return (ssize_t)(len / 2);
}

static EVP_PKEY *
key_ed25519(const char *public)
{
	uint8_t raw[32];

	if (hex_bytes(public, raw, sizeof(raw)) != (ssize_t)sizeof(raw))
		return NULL;
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, sizeof(raw));
}

static EVP_PKEY *
key_pem(const char *public, bool rsa)
{
	mfs_autofree uint8_t *der = NULL;
	enum mfs_key_type type;
	const unsigned char *p;
	EVP_PKEY *pkey;
	size_t len = 0;
	bool good;

	if (mfs_pem_public("key", MFS_SPAN(public, strlen(public)), &der, &len, NULL) != MFS_OK || len > 8192)
		return NULL;
	if (!rsa && (!mfs_spki_type(MFS_SPAN(der, len), &type) || type != MFS_KEY_P256))
		return NULL;
	p = der;
	if ((pkey = d2i_PUBKEY(NULL, &p, (long)len)) == NULL)
		return NULL;
	good = p == der + len;
	if (good && rsa)
		good = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA && EVP_PKEY_get_bits(pkey) >= MFS_TUF_RSA_BITS_MIN &&
			EVP_PKEY_get_bits(pkey) <= MFS_TUF_RSA_BITS_MAX;
	if (!good) {
		EVP_PKEY_free(pkey);
		return NULL;
	}
	return pkey;
}

/* NULL: a key that this client cannot use. */
static EVP_PKEY *
key_load(const json_t *key)
{
	const char *type = json_string_value(json_object_get(key, "keytype"));
	const char *scheme = json_string_value(json_object_get(key, "scheme"));
	const char *public = json_string_value(json_object_get(json_object_get(key, "keyval"), "public"));
	EVP_PKEY *pkey = NULL;

	if (type == NULL || scheme == NULL || public == NULL)
		return NULL;
	if (strcmp(type, "ed25519") == 0 && strcmp(scheme, "ed25519") == 0)
		pkey = key_ed25519(public);
	else if ((strcmp(type, "ecdsa") == 0 || strcmp(type, "ecdsa-sha2-nistp256") == 0) &&
		strcmp(scheme, "ecdsa-sha2-nistp256") == 0)
		pkey = key_pem(public, false);
	else if (strcmp(type, "rsa") == 0 && strcmp(scheme, "rsassa-pss-sha256") == 0)
		pkey = key_pem(public, true);
	ERR_clear_error();
	return pkey;
}

static bool
verify(EVP_PKEY *pkey, const uint8_t *sig, size_t sig_len, struct mfs_span bytes)
{
	const bool ed25519 = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519;
	const bool rsa = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	bool good = false;

	if (ctx != NULL && EVP_DigestVerifyInit(ctx, &pctx, ed25519 ? NULL : EVP_sha256(), NULL, pkey) == 1 &&
		(!rsa || (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
				 EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1)))
		good = EVP_DigestVerify(ctx, sig, sig_len, bytes.p, bytes.len) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return good;
}

static const char *
signature_by(const json_t *signatures, const char *keyid)
{
	for (size_t i = 0; i < json_array_size(signatures); i++) {
		const json_t *s = json_array_get(signatures, i);

		if (strcmp(json_string_value(json_object_get(s, "keyid")), keyid) == 0)
			return json_string_value(json_object_get(s, "sig"));
	}
	return NULL;
}

struct keys {
	EVP_PKEY *v[MFS_TUF_KEYS_MAX];
	unsigned n;
};

static void
keys_clear(struct keys *k)
{
	for (unsigned i = 0; i < k->n; i++)
		EVP_PKEY_free(k->v[i]);
	k->n = 0;
}

static bool
keys_have(const struct keys *k, const EVP_PKEY *pkey)
{
	for (unsigned i = 0; i < k->n; i++)
		if (EVP_PKEY_eq(k->v[i], pkey) == 1)
			return true;
	return false;
}

/* Takes pkey. */
static void
keys_add(struct keys *k, EVP_PKEY *pkey)
{
	if (k->n == MFS_TUF_KEYS_MAX || keys_have(k, pkey))
		EVP_PKEY_free(pkey);
	else
		k->v[k->n++] = pkey;
	ERR_clear_error();
}

enum mfs_code
mfs_tuf_signers_count(const struct mfs_tuf_signers *s, const json_t *signatures, struct mfs_span bytes,
	unsigned *valid, struct mfs_err *err)
{
	struct keys good = { .n = 0 };

	*valid = 0;
	if (json_array_size(s->keyids) > MFS_TUF_KEYS_MAX || json_array_size(signatures) > MFS_TUF_SIGNATURES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "signatures: too many");
	for (size_t i = 0; i < json_array_size(s->keyids); i++) {
		const char *id = json_string_value(json_array_get(s->keyids, i));
		const char *hex = signature_by(signatures, id);
		uint8_t sig[MFS_TUF_SIGNATURE_MAX];
		ssize_t sig_len;
		EVP_PKEY *pkey;

		if (hex == NULL || (sig_len = hex_bytes(hex, sig, sizeof(sig))) <= 0)
			continue;
		if ((pkey = key_load(json_object_get(s->keys, id))) == NULL)
			continue;
		if (verify(pkey, sig, (size_t)sig_len, bytes))
			keys_add(&good, pkey);
		else
			EVP_PKEY_free(pkey);
	}
	*valid = good.n;
	keys_clear(&good);
	return MFS_OK;
}

static void
keys_of(const struct mfs_tuf_signers *s, struct keys *out)
{
	for (size_t i = 0; i < json_array_size(s->keyids); i++) {
		EVP_PKEY *pkey = key_load(json_object_get(s->keys, json_string_value(json_array_get(s->keyids, i))));

		if (pkey != NULL)
			keys_add(out, pkey);
	}
}

enum mfs_code
mfs_tuf_signers_lost(const struct mfs_tuf_signers *before, const struct mfs_tuf_signers *now, bool *lost,
	struct mfs_err *err)
{
	struct keys old = { .n = 0 }, new = { .n = 0 };

	*lost = false;
	if (json_array_size(before->keyids) > MFS_TUF_KEYS_MAX || json_array_size(now->keyids) > MFS_TUF_KEYS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "root: too many keys");
	keys_of(before, &old);
	keys_of(now, &new);
	for (unsigned i = 0; i < old.n; i++)
		*lost |= !keys_have(&new, old.v[i]);
	keys_clear(&old);
	keys_clear(&new);
	ERR_clear_error();
	return MFS_OK;
}
