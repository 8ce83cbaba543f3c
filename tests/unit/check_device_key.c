/* SPDX-License-Identifier: Apache-2.0 */
/* The device's key: made once, never replaced, read only where nobody else could have put it. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "device_key.h"
#include "scratch.h"

static char root[256], uri[300];
static int dir = -1;

static void
setup(void)
{
	dir = scratch_make(root, "check-device-key");
	(void)snprintf(uri, sizeof(uri), "file:%s/device-key", root);
}

static void
teardown(void)
{
	(void)close(dir);
	scratch_remove(root);
}

TestSuite(device_key, .init = setup, .fini = teardown);

static void
refused(enum mfs_code code, const char *what)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_device_key k = { .spki_len = 7 };

	cr_assert_eq(mfs_device_key_load(uri, &k, &err), code, "%s: %s", what, err.msg);
	cr_assert(strstr(err.msg, "device key") != NULL, "%s", err.msg);
	cr_assert_eq(k.spki_len, 0, "%s", what);
}

static void
pem_write(const char *name, EVP_PKEY *key, const char *pass, bool private_key)
{
	char path[300];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	(void)unlink(path);
	cr_assert_not_null(f = fopen(path, "w"));
	cr_assert_eq(fchmod(fileno(f), 0600), 0);
	if (private_key)
		cr_assert_eq(PEM_write_PKCS8PrivateKey(f, key, pass != NULL ? EVP_aes_256_cbc() : NULL, pass,
			pass != NULL ? (int)strlen(pass) : 0, NULL, NULL), 1);
	else
		cr_assert_eq(PEM_write_PUBKEY(f, key), 1);
	cr_assert_eq(fclose(f), 0);
}

Test(device_key, one_is_made_once_and_never_replaced)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_device_key a, b;
	struct mfs_sha256 id;
	const uint8_t *p;
	EVP_PKEY *key;
	struct stat st;
	bool made;

	refused(MFS_KEY_UNAVAILABLE, "nothing there");
	cr_assert_eq(mfs_device_key_create(uri, &made, &err), MFS_OK, "%s", err.msg);
	cr_assert(made);
	cr_assert_eq(fstatat(dir, "device-key", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_nlink, 1);
	cr_assert_eq(scratch_count(dir, "."), 1, "nothing is left beside it");
	cr_assert_eq(mfs_device_key_load(uri, &a, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(a.type, "P-256");
	cr_assert_eq(mfs_sha256(MFS_SPAN(a.spki, a.spki_len), &id, NULL), MFS_OK);
	cr_assert_arr_eq(&a.id, &id, sizeof(id));
	p = a.spki;
	key = d2i_PUBKEY(NULL, &p, (long)a.spki_len);
	cr_assert(key != NULL && p == a.spki + a.spki_len);
	EVP_PKEY_free(key);
	cr_assert_eq(mfs_device_key_create(uri, &made, &err), MFS_OK, "%s", err.msg);
	cr_assert(!made);
	cr_assert_eq(mfs_device_key_load(uri, &b, &err), MFS_OK, "%s", err.msg);
	cr_assert_arr_eq(&a.id, &b.id, sizeof(a.id));
}

Test(device_key, what_stands_there_is_left_alone)
{
	struct mfs_err err = MFS_ERR_INIT;
	uint8_t *bytes;
	bool made;
	size_t n;

	scratch_write(dir, "device-key", "x", 1);
	cr_assert_eq(mfs_device_key_create(uri, &made, &err), MFS_OK, "%s", err.msg);
	cr_assert(!made);
	bytes = scratch_read(dir, "device-key", &n);
	cr_assert(bytes != NULL && n == 1 && bytes[0] == 'x');
	free(bytes);
	refused(MFS_CONFIG_INVALID, "no key");
	cr_assert_eq(unlinkat(dir, "device-key", 0), 0);
	cr_assert_eq(symlinkat("nowhere", dir, "device-key"), 0);
	cr_assert_eq(mfs_device_key_create(uri, &made, &err), MFS_OK, "%s", err.msg);
	cr_assert(!made && !scratch_has(dir, "nowhere"), "nothing is made through a link");
}

Test(device_key, forms_and_types)
{
	struct mfs_err err = MFS_ERR_INIT;
	EVP_PKEY *x = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
		*wide = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), *p = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	struct mfs_device_key k, again;
	uint8_t *der = NULL;
	int n;

	pem_write("device-key", x, NULL, true);
	cr_assert_eq(mfs_device_key_load(uri, &k, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(k.type, "X25519");
	cr_assert_eq(k.spki_len, 44);
	pem_write("device-key", p, NULL, true);
	cr_assert_eq(mfs_device_key_load(uri, &k, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(k.spki_len, 91);
	cr_assert((n = i2d_PrivateKey(p, &der)) > 0);
	scratch_write(dir, "device-key", der, (size_t)n);
	OPENSSL_free(der);
	cr_assert_eq(mfs_device_key_load(uri, &again, &err), MFS_OK, "%s", err.msg);
	cr_assert_arr_eq(&k.id, &again.id, sizeof(k.id), "DER and PEM are one key");
	(void)EVP_PKEY_set_utf8_string_param(p, "point-format", "compressed");
	pem_write("device-key", p, NULL, true);
	cr_assert_eq(mfs_device_key_load(uri, &again, &err), MFS_OK, "%s", err.msg);
	cr_assert_arr_eq(&k.id, &again.id, sizeof(k.id), "one form of a point");
	pem_write("device-key", ed, NULL, true);
	refused(MFS_CONFIG_INVALID, "a key that signs");
	pem_write("device-key", wide, NULL, true);
	refused(MFS_CONFIG_INVALID, "another curve");
	pem_write("device-key", p, "secret", true);
	refused(MFS_CONFIG_INVALID, "a pass phrase");
	pem_write("device-key", p, NULL, false);
	refused(MFS_CONFIG_INVALID, "a public key");
	EVP_PKEY_free(x);
	EVP_PKEY_free(ed);
	EVP_PKEY_free(wide);
	EVP_PKEY_free(p);
}

Test(device_key, others_may_neither_replace_nor_read_it)
{
	static const mode_t modes[] = { 0620, 0602, 0640, 0604 };
	struct mfs_err err = MFS_ERR_INIT;
	bool made;

	cr_assert_eq(mfs_device_key_create(uri, &made, &err), MFS_OK, "%s", err.msg);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		cr_assert_eq(fchmodat(dir, "device-key", modes[i], 0), 0);
		refused(MFS_CONFIG_INVALID, "mode");
	}
	cr_assert_eq(fchmodat(dir, "device-key", 0600, 0), 0);
	if (geteuid() == 0) {
		cr_assert_eq(fchownat(dir, "device-key", 65534, 65534, 0), 0);
		refused(MFS_CONFIG_INVALID, "owner");
	}
	cr_assert_eq(unlinkat(dir, "device-key", 0), 0);
	cr_assert_eq(mkfifoat(dir, "device-key", 0600), 0);
	refused(MFS_CONFIG_INVALID, "a pipe is not waited for");
}

Test(device_key, other_stores)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_device_key k;
	bool made = true;

	cr_assert_eq(mfs_device_key_load("handle:0x81000001", &k, &err), MFS_KEY_UNAVAILABLE);
	cr_assert(strstr(err.msg, "handle:0x81000001") != NULL && strstr(err.msg, "provider") != NULL, "%s", err.msg);
	cr_assert_eq(mfs_device_key_create("handle:0x81000001", &made, &err), MFS_CONFIG_INVALID);
	cr_assert(!made);
	cr_assert_eq(mfs_device_key_create("file:/nowhere/at/all", &made, &err), MFS_IO);
	cr_assert_eq(err.sys_errno, ENOENT);
}
