/* SPDX-License-Identifier: Apache-2.0 */
/* Trust list and signatures, on keys and signatures made by the openssl command. */
#include "verify_help.h"
#include "../vectors/vectors.h"

#define MANIFEST MFS_SPAN(vec_manifest, sizeof(vec_manifest) - 1)

static struct mfs_trust *
trust_of(const char *pem, int64_t epoch, const char *const *models, const char *second)
{
	struct mfs_trust *t;

	expect(MFS_OK, mfs_trust_new(&t, err));
	expect(MFS_OK, mfs_trust_add_pem(t, "first.pem", TEXT(pem), epoch, models, err));
	if (second != NULL)
		expect(MFS_OK, mfs_trust_add_pem(t, "second.pem", TEXT(second), epoch, models, err));
	return t;
}

static struct mfs_signature
signature(const uint8_t *id, const uint8_t *p, size_t n)
{
	struct mfs_signature s = { .bytes = MFS_SPAN(p, n) };

	if (id != NULL)
		memcpy(s.key_id.b, id, 32);
	return s;
}

static struct mfs_manifest *
verify(struct mfs_span manifest, const struct mfs_signature *s, size_t n, const struct mfs_trust *t, unsigned threshold,
	enum mfs_code *code, struct mfs_sha256 *by, struct mfs_err *err)
{
	struct mfs_manifest *m;

	*code = mfs_bundle_verify(manifest, s, n, t, threshold, &m, by, err);
	cr_assert((*code == MFS_OK) == (m != NULL));
	return m;
}

static enum mfs_code
verdict(struct mfs_span manifest, const struct mfs_signature *s, size_t n, const struct mfs_trust *t, unsigned threshold,
	struct mfs_err *err)
{
	enum mfs_code code;

	mfs_manifest_free(verify(manifest, s, n, t, threshold, &code, NULL, err));
	return code;
}

Test(sig, ed25519_and_p256)
{
	struct mfs_signature ed = signature(NULL, vec_sig_ed, sizeof(vec_sig_ed));
	struct mfs_signature p256 = signature(vec_p256_id, vec_sig_p256, sizeof(vec_sig_p256));
	struct mfs_signature both[2] = { ed, p256 };
	struct mfs_trust *t_ed = trust_of(vec_ed_pem, 1, NULL, NULL), *t_p = trust_of(vec_p256_pem, 1, NULL, NULL);
	struct mfs_trust *t_both = trust_of(vec_ed_pem, 1, NULL, vec_p256_pem);
	struct mfs_err why = MFS_ERR_INIT;
	struct mfs_manifest *m;
	struct mfs_sha256 by;
	enum mfs_code code;

	m = verify(MANIFEST, &ed, 1, t_ed, 1, &code, &by, &why);
	cr_assert_eq(code, MFS_OK, "%s", why.msg);
	cr_assert_arr_eq(by.b, vec_ed_id, 32);
	cr_assert_arr_eq(m->id.b, vec_manifest_id, 32);
	cr_assert_str_eq(m->model_id, "det");
	mfs_manifest_free(m);
	m = verify(MANIFEST, both, 2, t_p, 1, &code, &by, &why);
	cr_assert_eq(code, MFS_OK, "%s", why.msg);
	cr_assert_arr_eq(by.b, vec_p256_id, 32);
	mfs_manifest_free(m);
	expect(MFS_OK, verdict(MANIFEST, both, 2, t_both, 2, err));
	expect_says(MFS_KEY_UNTRUSTED, "1 of 2", verdict(MANIFEST, both, 1, t_both, 2, err));
	both[1] = ed; /* one key twice is one key */
	expect(MFS_KEY_UNTRUSTED, verdict(MANIFEST, both, 2, t_both, 2, err));
	mfs_trust_free(t_ed);
	mfs_trust_free(t_p);
	mfs_trust_free(t_both);
}

Test(sig, one_flipped_bit_of_the_manifest_is_refused_at_every_offset)
{
	struct mfs_signature ed = signature(vec_ed_id, vec_sig_ed, sizeof(vec_sig_ed));
	struct mfs_trust *t = trust_of(vec_ed_pem, 1, NULL, NULL);
	char copy[sizeof(vec_manifest) - 1];

	memcpy(copy, vec_manifest, sizeof(copy));
	for (size_t i = 0; i < sizeof(copy); i++) {
		struct mfs_err err = MFS_ERR_INIT;
		enum mfs_code code;

		copy[i] ^= 1;
		code = verdict(BYTES(copy), &ed, 1, t, 1, &err);
		/* Where the list of keys itself is hit, no signature is by one of its keys. */
		cr_assert(code == MFS_SIGNATURE_INVALID || code == MFS_MALFORMED, "offset %zu: %s: %s", i,
			mfs_code_name(code), err.msg);
		copy[i] ^= 1;
	}
	mfs_trust_free(t);
}

Test(sig, flipped_short_long_and_foreign_signatures)
{
	struct mfs_trust *t = trust_of(vec_ed_pem, 1, NULL, vec_p256_pem);
	uint8_t ed[sizeof(vec_sig_ed)], p256[sizeof(vec_sig_p256)], big[1025] = { 0 };
	struct mfs_signature s;

	memcpy(ed, vec_sig_ed, sizeof(ed));
	memcpy(p256, vec_sig_p256, sizeof(p256));
	for (size_t i = 0; i < sizeof(ed); i++) {
		ed[i] ^= 2;
		s = signature(NULL, ed, sizeof(ed));
		expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, &s, 1, t, 1, err));
		ed[i] ^= 2;
		s = signature(NULL, ed, i);
		expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, &s, 1, t, 1, err));
	}
	for (size_t i = 0; i < sizeof(p256); i++) {
		p256[i] ^= 2;
		s = signature(vec_p256_id, p256, sizeof(p256));
		expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, &s, 1, t, 1, err));
		p256[i] ^= 2;
	}
	s = signature(NULL, vec_sig_p256, sizeof(vec_sig_p256)); /* as if by key_ids[0], the Ed25519 one */
	expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, &s, 1, t, 1, err));
	s = signature(NULL, big, sizeof(big));
	expect(MFS_LIMIT_EXCEEDED, verdict(MANIFEST, &s, 1, t, 1, err));
	expect_says(MFS_SIGNATURE_INVALID, "not signed; fetch it again", verdict(MANIFEST, NULL, 0, t, 1, err));
	/* A wrong signature by a trusted key is not outvoted by a good one. */
	{
		struct mfs_signature two[2] = { signature(NULL, vec_sig_ed, sizeof(vec_sig_ed)),
			signature(vec_p256_id, vec_sig_ed, sizeof(vec_sig_ed)) };

		expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, two, 2, t, 1, err));
	}
	mfs_trust_free(t);
}

Test(sig, unknown_key_epoch_and_scope)
{
	static const char *const det[] = { "other", "det", NULL };
	static const char *const others[] = { "other", "det2", NULL };
	struct mfs_signature ed = signature(NULL, vec_sig_ed, sizeof(vec_sig_ed));
	struct mfs_signature foreign = signature(vec_foreign_id, vec_sig_foreign, sizeof(vec_sig_foreign));
	struct mfs_signature unlisted = signature(vec_rsa_id, vec_sig_ed, sizeof(vec_sig_ed));
	struct mfs_signature two[2] = { foreign, ed };
	struct mfs_trust *t;

	t = trust_of(vec_p256_pem, 1, NULL, NULL);
	expect_says(MFS_KEY_UNTRUSTED, "not in the trust list", verdict(MANIFEST, &ed, 1, t, 1, err));
	expect_says(MFS_KEY_UNTRUSTED, "not in the trust list", verdict(MANIFEST, &foreign, 1, t, 1, err));
	expect(MFS_SIGNATURE_INVALID, verdict(MANIFEST, &unlisted, 1, t, 1, err));
	mfs_trust_free(t);
	t = trust_of(vec_ed_pem, 2, NULL, NULL);
	expect_says(MFS_KEY_UNTRUSTED, "key_epoch: 1", verdict(MANIFEST, &ed, 1, t, 1, err));
	mfs_trust_free(t);
	t = trust_of(vec_ed_pem, 1, others, NULL);
	expect_says(MFS_KEY_UNTRUSTED, "model_id", verdict(MANIFEST, &ed, 1, t, 1, err));
	mfs_trust_free(t);
	t = trust_of(vec_ed_pem, 1, det, NULL);
	expect(MFS_OK, verdict(MANIFEST, &ed, 1, t, 1, err));
	expect(MFS_OK, verdict(MANIFEST, two, 2, t, 1, err)); /* strangers' signatures do no harm */
	mfs_trust_free(t);
	expect(MFS_OK, mfs_trust_new(&t, err));
	expect(MFS_KEY_UNTRUSTED, verdict(MANIFEST, &ed, 1, t, 1, err));
	expect(MFS_CONFIG_INVALID, verdict(MANIFEST, &ed, 1, t, 0, err));
	expect(MFS_CONFIG_INVALID, verdict(MANIFEST, &ed, 1, t, 65, err));
	mfs_trust_free(t);
}

Test(sig, key_ids_are_found_without_a_parser_and_must_be_there)
{
	static const char *const t[] = { "", "{", "{}", "\"key_ids\":", "{\"key_ids\":", "{\"key_ids\":[", "{\"key_ids\":[]}",
		"{\"key_ids\":[\"ab\"]}", "{\"a\":{\"key_ids\":[]}}", "{\"a\":\"\\", "]]]]", "{\"key_ids\":[\"" };
	struct mfs_signature ed = signature(NULL, vec_sig_ed, sizeof(vec_sig_ed));
	struct mfs_trust *trust = trust_of(vec_ed_pem, 1, NULL, NULL);
	struct mfs_span huge = { (const uint8_t *)vec_manifest, MFS_MANIFEST_BYTES_MAX + 1 };

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		expect_says(MFS_MALFORMED, "key_ids", verdict(TEXT(t[i]), &ed, 1, trust, 1, err));
	expect(MFS_LIMIT_EXCEEDED, verdict(huge, &ed, 1, trust, 1, err)); /* before a byte is read */
	mfs_trust_free(trust);
}

static enum mfs_code
add(const char *pem, int64_t epoch, const char *const *models, struct mfs_err *err)
{
	struct mfs_trust *t;
	enum mfs_code code;

	cr_assert_eq(mfs_trust_new(&t, err), MFS_OK);
	code = mfs_trust_add_pem(t, "key.pem", TEXT(pem), epoch, models, err);
	cr_assert_eq(mfs_trust_count(t), code == MFS_OK ? 1 : 0);
	mfs_trust_free(t);
	return code;
}

Test(trust, only_ed25519_and_p256_in_their_one_encoding)
{
	static const char *const bad_scope[] = { "det", "../x", NULL };

	expect(MFS_OK, add(vec_ed_pem, 1, NULL, err));
	expect(MFS_OK, add(vec_p256_pem, 1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "key.pem: neither", add(vec_rsa_pem, 1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "neither", add(vec_p384_pem, 1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "neither", add(vec_compressed_pem, 1, NULL, err));
	expect(MFS_CONFIG_INVALID, add("", 1, NULL, err));
	expect(MFS_CONFIG_INVALID, add("not a key", 1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "private key",
		add("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "PUBLIC KEY",
		add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 1, NULL, err));
	/* An encrypted block must not ask anybody for a passphrase. */
	expect(MFS_CONFIG_INVALID, add("-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\n"
				       "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
				       "-----END PUBLIC KEY-----\n", 1, NULL, err));
	{
		char two[sizeof(vec_ed_pem) + sizeof(vec_p256_pem)];

		snprintf(two, sizeof(two), "%s%s", vec_ed_pem, vec_p256_pem);
		expect_says(MFS_CONFIG_INVALID, "more than one", add(two, 1, NULL, err));
	}
	expect(MFS_CONFIG_INVALID, add(vec_ed_pem, 0, NULL, err));
	expect(MFS_CONFIG_INVALID, add(vec_ed_pem, -1, NULL, err));
	expect_says(MFS_CONFIG_INVALID, "not a model id", add(vec_ed_pem, 1, bad_scope, err));
}

Test(trust, list)
{
	struct mfs_trust *t = trust_of(vec_ed_pem, 3, NULL, NULL);
	struct mfs_sha256 id;

	expect_says(MFS_CONFIG_INVALID, "listed twice", mfs_trust_add_pem(t, "again", TEXT(vec_ed_pem), 4, NULL, err));
	cr_assert_eq(mfs_trust_count(t), 1);
	cr_assert_eq(mfs_trust_epoch(t, 0), 3);
	cr_assert_arr_eq(mfs_trust_key_id(t, 0)->b, vec_ed_id, 32);
	cr_assert_null(mfs_trust_key_id(t, 1));
	expect(MFS_OK, mfs_key_id_pem(TEXT(vec_p256_pem), &id, err));
	cr_assert_arr_eq(id.b, vec_p256_id, 32);
	mfs_trust_free(t);
}
