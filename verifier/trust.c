/* SPDX-License-Identifier: Apache-2.0 */
/* The trust list: public keys with the epoch and the models that they may sign for. */
#include "internal.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdatomic.h>

/*
 * SubjectPublicKeyInfo has one accepted encoding per key type, so that a key has one id and
 * cannot count twice towards a threshold: the prefixes up to the key's own bytes (RFC 8410,
 * RFC 5480 with a named curve and an uncompressed point).
 */
static const uint8_t spki_ed25519[] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00 };
static const uint8_t spki_p256[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04 };
#define SPKI_ED25519_LEN (sizeof(spki_ed25519) + 32)
#define SPKI_P256_LEN    (sizeof(spki_p256) + 64)

bool
mfs_spki_type(struct mfs_span der, enum mfs_key_type *type)
{
	if (der.p == NULL)
		return false;
	if (der.len == SPKI_ED25519_LEN && memcmp(der.p, spki_ed25519, sizeof(spki_ed25519)) == 0) {
		*type = MFS_KEY_ED25519;
		return true;
	}
	if (der.len == SPKI_P256_LEN && memcmp(der.p, spki_p256, sizeof(spki_p256)) == 0) {
		*type = MFS_KEY_P256;
		return true;
	}
	return false;
}

static void
pem_block_free(char *name, char *header, unsigned char *data, long len)
{
	if (data != NULL)
		OPENSSL_cleanse(data, (size_t)len);
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_free(data);
}

enum mfs_code
mfs_pem_public(const char *what, struct mfs_span pem, uint8_t **der, size_t *der_len, struct mfs_err *err)
{
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	enum mfs_code code = MFS_OK;
	long len = 0;
	BIO *bio;

	*der = NULL;
	if (pem.len == 0 || pem.len > 64u << 10)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: %zu bytes are not a PEM public key", what, pem.len);
	if ((bio = BIO_new_mem_buf(pem.p, (int)pem.len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	if (PEM_read_bio(bio, &name, &header, &data, &len) != 1) {
		code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: not a PEM public key (-----BEGIN PUBLIC KEY-----)", what);
	} else if (strstr(name, "PRIVATE KEY") != NULL) {
		code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: a private key: give the public one (.pub.pem)", what);
	} else if (strcmp(name, "PUBLIC KEY") != 0 || header[0] != '\0') {
		code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: PEM block '%s' is not a PUBLIC KEY", what, MFS_ESC(name));
	} else if ((*der = malloc((size_t)len + 1)) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	} else {
		memcpy(*der, data, (size_t)len);
		*der_len = (size_t)len;
	}
	pem_block_free(name, header, data, len);
	name = header = NULL;
	data = NULL;
	if (code == MFS_OK && PEM_read_bio(bio, &name, &header, &data, &len) == 1) {
		free(*der);
		*der = NULL;
		code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: more than one PEM block: one key per file", what);
		pem_block_free(name, header, data, len);
	}
	BIO_free(bio);
	ERR_clear_error();
	return code;
}

enum mfs_code
mfs_trust_key_der(const char *what, struct mfs_span der, struct mfs_trust_key *k, struct mfs_err *err)
{
	const unsigned char *p = der.p;
	enum mfs_code code;

	if (!mfs_spki_type(der, &k->type))
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"%s: neither an Ed25519 nor a P-256 public key (named curve, uncompressed)", what);
	if ((code = mfs_sha256(der, &k->id, err)) != MFS_OK)
		return code;
	k->pkey = d2i_PUBKEY(NULL, &p, (long)der.len);
	ERR_clear_error();
	if (k->pkey == NULL || p != der.p + der.len)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: not a valid public key", what);
	return MFS_OK;
}

enum mfs_code
mfs_pem_spki(const char *what, struct mfs_span pem, uint8_t out[MFS_SPKI_MAX], size_t *len, struct mfs_err *err)
{
	mfs_autofree uint8_t *der = NULL;
	struct mfs_trust_key k = { 0 };
	enum mfs_code code;
	size_t n = 0;

	if ((code = mfs_pem_public(what, pem, &der, &n, err)) != MFS_OK)
		return code;
	code = mfs_trust_key_der(what, MFS_SPAN(der, n), &k, err);
	mfs_trust_key_clear(&k);
	if (code != MFS_OK)
		return code;
	memcpy(out, der, n); /* spki_type() knows two lengths, both at most MFS_SPKI_MAX */
	*len = n;
	return MFS_OK;
}

static enum mfs_code
pem_key(const char *what, struct mfs_span pem, struct mfs_trust_key *k, struct mfs_err *err)
{
	mfs_autofree uint8_t *der = NULL;
	enum mfs_code code;
	size_t len = 0;

	if ((code = mfs_pem_public(what, pem, &der, &len, err)) != MFS_OK)
		return code;
	return mfs_trust_key_der(what, MFS_SPAN(der, len), k, err);
}

void
mfs_trust_key_clear(struct mfs_trust_key *k)
{
	EVP_PKEY_free(k->pkey);
	for (size_t i = 0; k->models != NULL && k->models[i] != NULL; i++)
		free(k->models[i]);
	free(k->models);
	*k = (struct mfs_trust_key){ 0 };
}

enum mfs_code
mfs_key_id_pem(struct mfs_span pem, struct mfs_sha256 *out, struct mfs_err *err)
{
	struct mfs_trust_key k = { 0 };
	enum mfs_code code = pem_key("public key", pem, &k, err);

	if (code == MFS_OK)
		*out = k.id;
	mfs_trust_key_clear(&k);
	return code;
}

enum mfs_code
mfs_trust_new(struct mfs_trust **out, struct mfs_err *err)
{
	if ((*out = calloc(1, sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "trust list");
	return MFS_OK;
}

struct mfs_trust *
mfs_trust_ref(struct mfs_trust *t)
{
	atomic_fetch_add_explicit(&t->more, 1, memory_order_relaxed);
	return t;
}

void
mfs_trust_free(struct mfs_trust *t)
{
	if (t == NULL)
		return;
	if (atomic_fetch_sub_explicit(&t->more, 1, memory_order_acq_rel) > 0)
		return;
	for (size_t i = 0; i < t->n; i++)
		mfs_trust_key_clear(&t->keys[i]);
	free(t);
}

enum mfs_code
mfs_models_copy(const char *what, const char *const *models, char ***out, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;
	char **list;
	size_t n = 0;

	if (models == NULL)
		return MFS_OK;
	while (models[n] != NULL)
		n++;
	if ((list = calloc(n + 1, sizeof(*list))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	for (size_t i = 0; code == MFS_OK && i < n; i++)
		code = mfs_model_id_ok(models[i], strlen(models[i]))
			? mfs_strdup(models[i], &list[i], err)
			: mfs_fail(err, MFS_CONFIG_INVALID, "%s: '%s' is not a model id", what, MFS_ESC(models[i]));
	*out = list; /* as far as it came: released with the key */
	return code;
}

enum mfs_code
mfs_trust_add_pem(struct mfs_trust *t, const char *what, struct mfs_span pem, int64_t epoch, const char *const *models,
	struct mfs_err *err)
{
	struct mfs_trust_key *k;
	enum mfs_code code;

	if (epoch < 1 || epoch > MFS_JSON_INT_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: epoch %lld is not 1 or more", what, (long long)epoch);
	if (t->n == MFS_TRUST_KEYS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %u trusted keys", what, MFS_TRUST_KEYS_MAX);
	k = &t->keys[t->n]; /* counts once everything is right */
	k->epoch = epoch;
	if ((code = pem_key(what, pem, k, err)) == MFS_OK)
		code = mfs_models_copy(what, models, &k->models, err);
	for (size_t i = 0; code == MFS_OK && i < t->n; i++)
		if (mfs_sha256_equal(&t->keys[i].id, &k->id))
			code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: key %s is listed twice", what, MFS_HEX(&k->id));
	if (code != MFS_OK) {
		mfs_trust_key_clear(k);
		return code;
	}
	t->n++;
	return MFS_OK;
}

size_t
mfs_trust_count(const struct mfs_trust *t)
{
	return t->n;
}

const struct mfs_sha256 *
mfs_trust_key_id(const struct mfs_trust *t, size_t i)
{
	return i < t->n ? &t->keys[i].id : NULL;
}

int64_t
mfs_trust_epoch(const struct mfs_trust *t, size_t i)
{
	return i < t->n ? t->keys[i].epoch : 0;
}

bool
mfs_trust_key_covers(const struct mfs_trust_key *k, const char *model_id)
{
	if (k->models == NULL)
		return true;
	for (size_t i = 0; k->models[i] != NULL; i++)
		if (strcmp(k->models[i], model_id) == 0)
			return true;
	return false;
}
