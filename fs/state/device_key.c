/* SPDX-License-Identifier: Apache-2.0 */
#include "device_key.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

#define FILE_BYTES_MAX (16u << 10)

MFS_DEFINE_CLEANUP(pkey, EVP_PKEY, EVP_PKEY_free)
MFS_DEFINE_CLEANUP(bio, BIO, BIO_free_all)
MFS_DEFINE_CLEANUP(store, OSSL_STORE_CTX, OSSL_STORE_close)

/* Why OpenSSL failed, in its last words. Empties the queue. */
static const char *
openssl_reason(void)
{
	const char *reason = NULL;
	unsigned long e;

	while ((e = ERR_get_error()) != 0)
		reason = ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
	return reason != NULL ? reason : "no reason given";
}

/* ---- reading ----------------------------------------------------------------------------------------- */

/* The public half of a key that is one for HPKE (RFC 9180, 7.1). */
static enum mfs_code
describe(const char *what, EVP_PKEY *key, struct mfs_device_key *out, struct mfs_err *err)
{
	struct mfs_device_key k = { .type = "X25519" };
	uint8_t *der = NULL;
	char group[64] = { 0 };
	int n;

	if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
		(strcmp(group, SN_X9_62_prime256v1) == 0 || strcmp(group, "P-256") == 0)) {
		k.type = "P-256";
		/* The id is of one form of a point, whatever form the key came in. */
		(void)EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
			OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED);
	} else if (!EVP_PKEY_is_a(key, "X25519")) {
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: a device key is one of P-256 or X25519", MFS_ESC(what));
	}
	n = i2d_PUBKEY(key, &der);
	if (n <= 0 || (size_t)n > sizeof(k.spki)) {
		OPENSSL_free(der);
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: has no public half that can be shown: %s", MFS_ESC(what),
			openssl_reason());
	}
	memcpy(k.spki, der, (size_t)n);
	k.spki_len = (size_t)n;
	OPENSSL_free(der);
	if (mfs_sha256(MFS_SPAN(k.spki, k.spki_len), &k.id, err) != MFS_OK)
		return err->code;
	*out = k;
	return MFS_OK;
}

static int
no_pass_phrase(char *buf, int size, int rw, void *user)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)user;
	return -1;
}

static enum mfs_code
load_file(const char *path, struct mfs_device_key *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_bio) BIO *b = NULL;
	MFS_CLEANUP(mfs_cleanup_pkey) EVP_PKEY *key = NULL;
	mfs_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	uint8_t *bytes = NULL;
	struct stat st;
	size_t len;

	if (fd < 0 || fstat(fd, &st) != 0) {
		(void)mfs_fail_sys(err, MFS_KEY_UNAVAILABLE, "device key %s", MFS_ESC(path));
		return err->sys_errno == EACCES && geteuid() != 0 ? mfs_err_hint(err, "; run it as root") : err->code;
	}
	if (!S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_CONFIG_INVALID, "device key %s: not a regular file", MFS_ESC(path));
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"device key %s: others can replace it (uid %u, mode %04o); run: chown root %s; chmod 0600 %s",
			MFS_ESC(path), (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777), MFS_ESC(path), MFS_ESC(path));
	if ((st.st_mode & (S_IRGRP | S_IROTH)) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"device key %s: mode %04o lets others read it; make a new one, or run: chmod 0600 %s", MFS_ESC(path),
			(unsigned)(st.st_mode & 07777), MFS_ESC(path));
	if (mfs_fd_read(fd, path, FILE_BYTES_MAX, &bytes, &len, err) != MFS_OK)
		return mfs_err_context(err, "device key ");
	b = BIO_new_mem_buf(bytes, (int)len);
	key = b == NULL ? NULL : len > 0 && bytes[0] == 0x30 ? d2i_PrivateKey_bio(b, NULL) :
		PEM_read_bio_PrivateKey(b, NULL, no_pass_phrase, NULL);
	OPENSSL_cleanse(bytes, len);
	free(bytes);
	if (key == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "device key %s: holds no private key that can be read without a pass "
			"phrase: %s", MFS_ESC(path), openssl_reason());
	return describe(path, key, out, err);
}

/* The first private key, else the first public one: some stores show only that. */
static EVP_PKEY *
store_key(OSSL_STORE_CTX *store)
{
	EVP_PKEY *key = NULL, *public_key = NULL;

	while (key == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info == NULL && OSSL_STORE_error(store))
			break;
		if (info == NULL)
			continue;
		if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		else if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PUBKEY && public_key == NULL)
			public_key = OSSL_STORE_INFO_get1_PUBKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	if (key == NULL)
		return public_key;
	EVP_PKEY_free(public_key);
	return key;
}

enum mfs_code
mfs_device_key_load(const char *uri, struct mfs_device_key *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_store) OSSL_STORE_CTX *store = NULL;
	MFS_CLEANUP(mfs_cleanup_pkey) EVP_PKEY *key = NULL;

	*out = (struct mfs_device_key){ 0 };
	ERR_clear_error();
	if (strncmp(uri, "file:", 5) == 0)
		return load_file(uri + 5, out, err);
	if ((store = OSSL_STORE_open(uri, UI_null(), NULL, NULL, NULL)) == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE,
			"device key %s: cannot be opened: %s; the provider for it must be in OpenSSL's configuration", MFS_ESC(uri),
			openssl_reason());
	if ((key = store_key(store)) == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "device key %s: no key is there: %s", MFS_ESC(uri), openssl_reason());
	return describe(uri, key, out, err);
}

/* ---- making ------------------------------------------------------------------------------------------ */

/* Written beside its name and linked there, which never replaces anything. */
static enum mfs_code
place(int dirfd, const char *path, const char *name, const char *pem, size_t len, bool *made, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code = MFS_OK;
	char tmp[64];

	(void)snprintf(tmp, sizeof(tmp), ".device-key.%ld.new", (long)getpid());
	(void)unlinkat(dirfd, tmp, 0);
	if ((fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
		return mfs_fail_sys(err, MFS_IO, "device key %s: cannot be made", MFS_ESC(path));
	if (mfs_write_full(fd, pem, len) != 0 || fsync(fd) != 0)
		code = mfs_fail_sys(err, MFS_IO, "device key %s: cannot be written", MFS_ESC(path));
	else if (linkat(dirfd, tmp, dirfd, name, 0) == 0)
		*made = true;
	else if (errno != EEXIST)
		code = mfs_fail_sys(err, MFS_IO, "device key %s: cannot be made", MFS_ESC(path));
	(void)unlinkat(dirfd, tmp, 0);
	if (*made && mfs_dir_sync(dirfd, NULL, err) != MFS_OK)
		code = mfs_err_context(err, "device key %s: ", MFS_ESC(path));
	return code;
}

enum mfs_code
mfs_device_key_create(const char *uri, bool *made, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_bio) BIO *b = NULL;
	MFS_CLEANUP(mfs_cleanup_pkey) EVP_PKEY *key = NULL;
	const char *path = uri + 5, *name = strrchr(uri, '/');
	mfs_autofree char *folder = NULL;
	mfs_autoclose int dirfd = -1;
	struct stat st;
	char *pem;
	long len;

	*made = false;
	if (strncmp(uri, "file:/", 6) != 0 || name == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "device key %s: only a file is made here; make it with the tools of "
			"that store", MFS_ESC(uri));
	if (lstat(path, &st) == 0)
		return MFS_OK;
	if ((folder = strndup(path, (size_t)(++name - path))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "device key: no memory");
	if ((dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "device key %s: its folder", MFS_ESC(path));
	ERR_clear_error();
	key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	/* The secure heap, where there is one: the text of the key is not left behind. */
	if (key == NULL || (b = BIO_new(BIO_s_secmem())) == NULL ||
		PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) != 1 || (len = BIO_get_mem_data(b, &pem)) <= 0)
		return mfs_fail(err, MFS_INTERNAL, "device key %s: OpenSSL makes none: %s", MFS_ESC(path), openssl_reason());
	return place(dirfd, path, name, pem, (size_t)len, made, err);
}
