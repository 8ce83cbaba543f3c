/* SPDX-License-Identifier: Apache-2.0 */
#include "signer.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

#define PASS_MAX_BYTES 1024

struct mfs_signer {
	char *name;
	EVP_PKEY *key;
	bool private_key;
	enum mfs_signer_type type;
	struct mfs_sha256 id;
	char *pem;
	size_t pem_len;
};

MFS_DEFINE_CLEANUP(pkey, EVP_PKEY, EVP_PKEY_free)
MFS_DEFINE_CLEANUP(pkey_ctx, EVP_PKEY_CTX, EVP_PKEY_CTX_free)
MFS_DEFINE_CLEANUP(md_ctx, EVP_MD_CTX, EVP_MD_CTX_free)
MFS_DEFINE_CLEANUP(bio, BIO, BIO_free_all)
MFS_DEFINE_CLEANUP(ui_method, UI_METHOD, UI_destroy_method)
MFS_DEFINE_CLEANUP(ecdsa, ECDSA_SIG, ECDSA_SIG_free)
MFS_DEFINE_CLEANUP(store, OSSL_STORE_CTX, OSSL_STORE_close)

/* Why OpenSSL failed: the system's first reason if it gave one, else its own last. Empties the queue. */
static const char *
openssl_reason(void)
{
	const char *reason = NULL;
	unsigned long e;
	int sys = 0;

	while ((e = ERR_get_error()) != 0) {
		if (ERR_SYSTEM_ERROR(e) && sys == 0)
			sys = ERR_GET_REASON(e);
		reason = ERR_reason_error_string(e);
	}
	if (sys != 0)
		return strerror(sys);
	return reason != NULL ? reason : "no reason given";
}

void
mfs_signer_free(struct mfs_signer *s)
{
	if (s == NULL)
		return;
	EVP_PKEY_free(s->key);
	free(s->name);
	free(s->pem);
	free(s);
}

void
mfs_secret_free(char *p, size_t len)
{
	if (p != NULL)
		OPENSSL_cleanse(p, len);
	free(p);
}

/* Copy a memory BIO's bytes. */
static char *
bio_copy(BIO *b, size_t *len)
{
	char *p = NULL, *copy;
	long n = BIO_get_mem_data(b, &p);

	if (n <= 0 || (copy = malloc((size_t)n + 1)) == NULL)
		return NULL;
	memcpy(copy, p, (size_t)n);
	copy[n] = '\0';
	*len = (size_t)n;
	return copy;
}

bool
mfs_signer_type_from_name(const char *name, enum mfs_signer_type *out)
{
	*out = strcmp(name, "ecdsa-p256") == 0 ? MFS_SIGNER_P256 : MFS_SIGNER_ED25519;
	return *out == MFS_SIGNER_P256 || strcmp(name, "ed25519") == 0;
}

static bool
key_type(const EVP_PKEY *key, enum mfs_signer_type *type)
{
	char group[64] = { 0 };

	if (EVP_PKEY_is_a(key, "ED25519")) {
		*type = MFS_SIGNER_ED25519;
		return true;
	}
	*type = MFS_SIGNER_P256;
	return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
		(strcmp(group, SN_X9_62_prime256v1) == 0 || strcmp(group, "P-256") == 0);
}

/* Takes ownership of key, also on failure. */
static enum mfs_code
signer_make(const char *name, EVP_PKEY *key, bool private_key, struct mfs_signer **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *s = calloc(1, sizeof(*s));
	MFS_CLEANUP(mfs_cleanup_bio) BIO *b = BIO_new(BIO_s_mem());
	enum mfs_code code;

	*out = NULL;
	if (s == NULL || b == NULL || (s->name = strdup(name)) == NULL) {
		EVP_PKEY_free(key);
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	}
	s->key = key;
	s->private_key = private_key;
	if (!key_type(key, &s->type))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: not an Ed25519 or ECDSA P-256 key; make one with "
			"'modelpub key'", MFS_ESC(name));
	if (PEM_write_bio_PUBKEY(b, key) != 1 || (s->pem = bio_copy(b, &s->pem_len)) == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: has no public part: %s", MFS_ESC(name), openssl_reason());
	if ((code = mfs_key_id_pem(MFS_SPAN(s->pem, s->pem_len), &s->id, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&s);
	return MFS_OK;
}

enum mfs_code
mfs_signer_generate(enum mfs_signer_type type, const char *name, struct mfs_signer **out, struct mfs_err *err)
{
	EVP_PKEY *key = type == MFS_SIGNER_ED25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : 
		EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");

	*out = NULL;
	if (key == NULL)
		return mfs_fail(err, MFS_INTERNAL, "%s: new key: %s", MFS_ESC(name), openssl_reason());
	return signer_make(name, key, true, out, err);
}

enum mfs_code
mfs_passin_read(const char *passin, char *out, size_t cap, struct mfs_err *err)
{
	if (strncmp(passin, "env:", 4) == 0) {
		const char *v = getenv(passin + 4);

		if (v == NULL || strlen(v) >= cap)
			return mfs_fail(err, MFS_CONFIG_INVALID, "--passin %s: not set, or too long", MFS_ESC(passin));
		memcpy(out, v, strlen(v) + 1);
		return MFS_OK;
	}
	if (strncmp(passin, "file:", 5) == 0) {
		uint8_t *buf;
		size_t len, line;
		enum mfs_code code = mfs_file_read(AT_FDCWD, passin + 5, PASS_MAX_BYTES * 4, &buf, &len, err);

		if (code != MFS_OK)
			return code;
		line = strcspn((char *)buf, "\r\n");
		if (line < cap) {
			memcpy(out, buf, line);
			out[line] = '\0';
		}
		mfs_secret_free((char *)buf, len);
		return line < cap ? MFS_OK : mfs_fail(err, MFS_CONFIG_INVALID, "--passin %s: first line too long",
			MFS_ESC(passin));
	}
	return mfs_fail(err, MFS_CONFIG_INVALID, "--passin %s: want file:PATH or env:NAME", MFS_ESC(passin));
}

struct pass {
	const char *passin;
	const char *uri;
	bool no_terminal;
	struct mfs_err err; /* of passin */
};

/* pem_password_cb behind a UI method: OpenSSL calls it only for an encrypted key. */
static int
pass_read(char *buf, int size, int rwflag, void *arg)
{
	struct pass *p = arg;
	char prompt[256];
	FILE *tty;

	(void)rwflag;
	if (size <= 0)
		return -1;
	if (p->passin != NULL)
		return mfs_passin_read(p->passin, buf, (size_t)size, &p->err) == MFS_OK ? (int)strlen(buf) : -1;
	if ((tty = fopen("/dev/tty", "re")) == NULL) {
		p->no_terminal = true;
		return -1;
	}
	(void)fclose(tty);
	(void)snprintf(prompt, sizeof(prompt), "Pass phrase for %s: ", MFS_ESC(p->uri));
	return EVP_read_pw_string_min(buf, 0, size, prompt, 0) == 0 ? (int)strlen(buf) : -1;
}

static EVP_PKEY *
store_key(OSSL_STORE_CTX *store)
{
	EVP_PKEY *key = NULL;

	while (key == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info == NULL) {
			/* Something unreadable, for example a pass phrase that is wrong: not another try. */
			if (OSSL_STORE_error(store))
				break;
			continue;
		}
		if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	return key;
}

enum mfs_code
mfs_signer_load(const char *uri, const char *passin, struct mfs_signer **out, struct mfs_err *err)
{
	struct pass pass = { .passin = passin, .uri = uri };
	MFS_CLEANUP(mfs_cleanup_ui_method) UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(pass_read, 0);
	MFS_CLEANUP(mfs_cleanup_store) OSSL_STORE_CTX *store = NULL;
	EVP_PKEY *key;

	*out = NULL;
	ERR_clear_error();
	if (ui == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(uri));
	if ((store = OSSL_STORE_open(uri, ui, &pass, NULL, NULL)) == NULL) {
		(void)mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: cannot be opened: %s", MFS_ESC(uri), openssl_reason());
		if (strchr(uri, ':') != NULL && strncmp(uri, "file:", 5) != 0)
			(void)mfs_err_hint(err, "; for a URI, OPENSSL_CONF must name the provider that serves it");
		return err->code;
	}
	if (OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY) != 1)
		ERR_clear_error(); /* only a hint */
	key = store_key(store);
	if (key == NULL && pass.no_terminal)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: encrypted, and there is no terminal to ask for the pass "
			"phrase; use --passin file:PATH or env:NAME", MFS_ESC(uri));
	if (key == NULL && pass.err.code != MFS_OK)
		return mfs_fail(err, pass.err.code, "%s", pass.err.msg);
	if (key == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: no private key in it: %s", MFS_ESC(uri), openssl_reason());
	ERR_clear_error();
	return signer_make(uri, key, true, out, err);
}

enum mfs_code
mfs_signer_load_public(const char *path, struct mfs_signer **out, struct mfs_err *err)
{
	mfs_autofree uint8_t *buf = NULL;
	MFS_CLEANUP(mfs_cleanup_bio) BIO *b = NULL;
	enum mfs_code code;
	EVP_PKEY *key;
	size_t len;

	*out = NULL;
	if ((code = mfs_file_read(AT_FDCWD, path, 64u << 10, &buf, &len, err)) != MFS_OK)
		return code;
	if ((b = BIO_new_mem_buf(buf, (int)len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((key = PEM_read_bio_PUBKEY(b, NULL, NULL, NULL)) == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: not a public key in PEM: %s", MFS_ESC(path),
			openssl_reason());
	return signer_make(path, key, false, out, err);
}

enum mfs_code
mfs_signers_load(const char *const *uris, size_t n_uris, const char *passin, const char *const *pubs, size_t n_pubs,
	struct mfs_signer **list, size_t *n, struct mfs_err *err)
{
	for (*n = 0; *n < n_uris + n_pubs; ++*n) {
		enum mfs_code code = *n < n_uris ? mfs_signer_load(uris[*n], passin, &list[*n], err) :
						   mfs_signer_load_public(pubs[*n - n_uris], &list[*n], err);

		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

const struct mfs_sha256 *
mfs_signer_key_id(const struct mfs_signer *s)
{
	return &s->id;
}

enum mfs_signer_type
mfs_signer_type(const struct mfs_signer *s)
{
	return s->type;
}

const char *
mfs_signer_name(const struct mfs_signer *s)
{
	return s->name;
}

struct mfs_span
mfs_signer_public_pem(const struct mfs_signer *s)
{
	return MFS_SPAN(s->pem, s->pem_len);
}

enum mfs_code
mfs_signer_public_raw(const struct mfs_signer *s, uint8_t out[32], struct mfs_err *err)
{
	size_t len = 32;

	if (s->type != MFS_SIGNER_ED25519 || EVP_PKEY_get_raw_public_key(s->key, out, &len) != 1 || len != 32)
		return mfs_fail(err, MFS_INTERNAL, "%s: no raw public key: %s", MFS_ESC(s->name), openssl_reason());
	return MFS_OK;
}

/* ECDSA: what is signed is hashed here, never by a token, which would take minutes for a manifest. */
static bool
digest_sign(EVP_PKEY *key, const char *properties, const struct mfs_sha256 *digest, uint8_t *sig, size_t *len)
{
	MFS_CLEANUP(mfs_cleanup_pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, properties);

	return ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
		EVP_PKEY_sign(ctx, sig, len, digest->b, sizeof(digest->b)) == 1;
}

enum mfs_code
mfs_signer_sign(const struct mfs_signer *s, struct mfs_span bytes, uint8_t *sig, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_md_ctx) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	const OSSL_PROVIDER *provider = EVP_PKEY_get0_provider(s->key);
	char properties[128] = "";
	struct mfs_sha256 digest;
	enum mfs_code code;
	bool ok;

	*len = MFS_SIGNATURE_ROOM;
	if (ctx == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signature");
	if (!s->private_key)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: a public key cannot sign", MFS_ESC(s->name));
	/* Where the key is, it signs: OpenSSL would rather export it to the default provider, without its private part. */
	if (provider != NULL)
		(void)snprintf(properties, sizeof(properties), "?provider=%s", OSSL_PROVIDER_get0_name(provider));
	if (s->type == MFS_SIGNER_ED25519)
		ok = EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, properties, s->key, NULL) == 1 &&
			EVP_DigestSign(ctx, sig, len, bytes.p, bytes.len) == 1;
	else if ((code = mfs_sha256(bytes, &digest, err)) != MFS_OK)
		return code;
	else
		ok = digest_sign(s->key, properties, &digest, sig, len);
	return ok ? MFS_OK
		  : mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: does not sign: %s", MFS_ESC(s->name), openssl_reason());
}

enum mfs_code
mfs_signer_private_pem(const struct mfs_signer *s, const char *pass, char **out, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_bio) BIO *b = BIO_new(BIO_s_secmem());

	*out = NULL;
	*len = 0;
	if (b == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "key");
	if (PEM_write_bio_PKCS8PrivateKey(b, s->key, pass != NULL ? EVP_aes_256_cbc() : NULL, pass,
		    pass != NULL ? (int)strlen(pass) : 0, NULL, NULL) != 1 ||
		(*out = bio_copy(b, len)) == NULL)
		return mfs_fail(err, MFS_INTERNAL, "key: %s", openssl_reason());
	return MFS_OK;
}

enum mfs_code
mfs_ecdsa_raw_to_der(const uint8_t raw[64], uint8_t *der, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_ecdsa) ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, 32, NULL), *s = BN_bin2bn(raw + 32, 32, NULL);
	int n;

	*len = 0;
	if (sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
		BN_free(r);
		BN_free(s);
		return mfs_fail(err, MFS_NO_MEMORY, "signature");
	}
	n = i2d_ECDSA_SIG(sig, NULL);
	if (n <= 0 || n > MFS_SIGNATURE_ROOM || i2d_ECDSA_SIG(sig, &der) != n)
		return mfs_fail(err, MFS_SIGNATURE_INVALID, "not an ECDSA signature");
	*len = (size_t)n;
	return MFS_OK;
}

static mode_t
mask_now(void)
{
	const mode_t mask = umask(0);

	(void)umask(mask);
	return mask;
}

/* tmp as path, if there is none of that name. 0, or -1 with errno. */
static int
name_give(const char *tmp, const char *path)
{
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A filesystem without that flag; one without hard links either is refused. */
	return link(tmp, path) == 0 ? unlink(tmp) : -1;
}

enum mfs_code
mfs_file_create(const char *path, const void *buf, size_t len, mode_t mode, struct mfs_err *err)
{
	mfs_autofree char *tmp = NULL;
	mfs_autoclose int fd = -1;
	enum mfs_code code = MFS_OK;
	struct stat st;

	if (lstat(path, &st) == 0) {
		errno = EEXIST;
		(void)mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
		return mfs_err_hint(err, "; it is never overwritten, choose another name");
	}
	/* Whole or not at all: half a key would stand in the way of the next one. */
	if (asprintf(&tmp, "%s.XXXXXX", path) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((fd = mkostemp(tmp, O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s: create", MFS_ESC(path));
	if ((fchmod(fd, mode & ~mask_now()) != 0 && errno != EPERM && errno != EOPNOTSUPP) || fstat(fd, &st) != 0)
		code = mfs_fail_sys(err, MFS_IO, "%s: set mode", MFS_ESC(path));
	else if ((mode & 077) == 0 && (st.st_mode & 077) != 0) /* before a secret is in it */
		code = mfs_fail(err, MFS_IO, "%s: others could read it (mode %04o): this filesystem keeps no modes; mount it with umask=077, "
			"or choose another place", MFS_ESC(path), (unsigned)(st.st_mode & 07777));
	else if (mfs_write_full(fd, buf, len) != 0 || fsync(fd) != 0)
		code = mfs_fail_sys(err, MFS_IO, "%s: write", MFS_ESC(path));
	else if (name_give(tmp, path) != 0)
		code = mfs_fail_sys(err, MFS_IO, "%s: create", MFS_ESC(path));
	if (code != MFS_OK)
		(void)unlink(tmp);
	return code;
}
