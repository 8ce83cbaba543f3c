/* SPDX-License-Identifier: Apache-2.0 */
/* trust.json: the repository's list of model-signing keys. */
#include "verify_help.h"

#include "mfs_policy.h"

/* openssl genpkey -algorithm ed25519 | openssl pkey -pubout; key id: openssl pkey -pubin -outform DER | sha256sum */
static const char pem_a[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MCowBQYDK2VwAyEAON4huzrzua7OJlGW/UUu7qnLlsvkYe1AYktUw/l91IM=\n"
	"-----END PUBLIC KEY-----\n";
#define ID_A  "43d17c590744341a60efe28c279a3cd802018d17e309a1489111595084a22e00"
#define DER_A "302a300506032b657003210038de21bb3af3b9aece265196fd452eeea9cb96cbe461ed40624b54c3f97dd483"
/* The same for P-256. */
static const char pem_b[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEN4XmzyH09qnZvbZmOFwDkoRyH1pC\n"
	"hgfOIAXAhRJRZpkIIZk3JznRQAXcDMgfSY/y7WbbVXidKf0U5lpjX799Tg==\n"
	"-----END PUBLIC KEY-----\n";
#define ID_B  "100c68d279d4c4bc127ea69954854b5da5512bd4b6013b43bbbb5b4d500e5e8c"
#define DER_B \
	"3059301306072a8648ce3d020106082a8648ce3d030107034200043785e6cf21f4f6a9d9bdb666385c039284721f" \
	"5a428607ce2005c08512516699082199372739d14005dc0cc81f498ff2ed66db55789d29fd14e65a635fbf7d4e"

#define ENTRY(id, der, models) "{\"epoch\":2,\"key_id\":\"" id "\",\"models\":" models ",\"public_key\":\"" der "\"}"

static struct mfs_sha256
id_of(const char *hex)
{
	struct mfs_sha256 id;

	cr_assert(mfs_hex_decode(id.b, MFS_SHA256_LEN, hex, strlen(hex)));
	return id;
}

Test(trustlist, read_written_and_applied)
{
	static const char text[] = "[" ENTRY(ID_A, DER_A, "[\"*\"]") "," ENTRY(ID_B, DER_B, "[\"det\",\"seg\"]") "]";
	struct mfs_trustlist *l;
	struct mfs_trust *t;
	char *out;
	size_t len;

	expect(MFS_OK, mfs_trustlist_parse(TEXT(text), &l, err));
	cr_assert_eq(l->n_keys, 2);
	cr_assert_null(l->keys[0].models);
	cr_assert_str_eq(l->keys[1].models[1], "seg");
	expect(MFS_OK, mfs_trustlist_json(l, &out, &len, err));
	cr_assert_str_eq(out, text);
	free(out);
	expect(MFS_OK, mfs_trust_new(&t, err));
	expect(MFS_OK, mfs_trustlist_apply(l, t, err));
	cr_assert_eq(mfs_trust_count(t), 2);
	cr_assert_eq(mfs_trust_epoch(t, 0), 2);
	cr_assert(mfs_sha256_equal(mfs_trust_key_id(t, 1), &l->keys[1].key_id));
	expect(MFS_OK, mfs_trustlist_apply(l, t, err));
	cr_assert_eq(mfs_trust_count(t), 2);
	mfs_trust_free(t);
	mfs_trustlist_free(l);
}

Test(trustlist, the_configuration_has_the_last_word_on_its_keys)
{
	static const char text[] = "[" ENTRY(ID_A, DER_A, "[\"*\"]") "]";
	static const char *const only[] = { "det", NULL };
	struct mfs_trustlist *l;
	struct mfs_trust *t;

	expect(MFS_OK, mfs_trustlist_parse(TEXT(text), &l, err));
	expect(MFS_OK, mfs_trust_new(&t, err));
	expect(MFS_OK, mfs_trust_add_pem(t, "a.pub.pem", TEXT(pem_a), 1, only, err));
	expect(MFS_OK, mfs_trustlist_apply(l, t, err));
	cr_assert_eq(mfs_trust_count(t), 1);
	cr_assert_eq(mfs_trust_epoch(t, 0), 1);
	mfs_trust_free(t);
	mfs_trustlist_free(l);
}

Test(trustlist, keys_are_added_replaced_and_removed)
{
	static const char *const det[] = { "det", NULL }, *const none[] = { NULL }, *const bad[] = { "../x", NULL };
	const struct mfs_sha256 a = id_of(ID_A), b = id_of(ID_B);
	struct mfs_trustlist *l;
	char *out;
	size_t len;

	expect(MFS_OK, mfs_trustlist_new(&l, err));
	expect(MFS_OK, mfs_trustlist_json(l, &out, &len, err));
	cr_assert_str_eq(out, "[]");
	free(out);
	expect(MFS_OK, mfs_trustlist_add_pem(l, "a", TEXT(pem_a), 1, NULL, err));
	cr_assert(mfs_sha256_equal(&l->keys[0].key_id, &a));
	expect(MFS_OK, mfs_trustlist_add_pem(l, "b", TEXT(pem_b), 1, NULL, err));
	expect(MFS_OK, mfs_trustlist_add_pem(l, "a", TEXT(pem_a), 2, det, err));
	cr_assert_eq(l->n_keys, 2);
	expect(MFS_OK, mfs_trustlist_json(l, &out, &len, err));
	cr_assert_not_null(strstr(out, ENTRY(ID_A, DER_A, "[\"det\"]")), "%s", out);
	free(out);
	expect(MFS_CONFIG_INVALID, mfs_trustlist_add_pem(l, "a", TEXT(pem_a), 0, NULL, err));
	expect(MFS_CONFIG_INVALID, mfs_trustlist_add_pem(l, "a", TEXT(pem_a), 1, none, err));
	expect(MFS_CONFIG_INVALID, mfs_trustlist_add_pem(l, "a", TEXT(pem_a), 1, bad, err));
	expect(MFS_CONFIG_INVALID, mfs_trustlist_add_pem(l, "a", TEXT("x"), 1, NULL, err));
	cr_assert_eq(l->keys[0].epoch, 2); /* as it was */
	cr_assert(mfs_trustlist_remove(l, &a));
	cr_assert_not(mfs_trustlist_remove(l, &a));
	cr_assert(mfs_sha256_equal(&l->keys[0].key_id, &b));
	cr_assert_eq(l->n_keys, 1);
	mfs_trustlist_free(l);
}
