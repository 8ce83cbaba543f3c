/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: against vectors made without this code, and the property that no nonce covers two contents. */
#define MFS_IN_VERIFIER
#include "internal.h"
#include "verify_help.h"
#include "../vectors/vectors.h"

static struct mfs_key
key_of(const uint8_t b[32])
{
	struct mfs_key k;

	memcpy(k.b, b, MFS_KEY_LEN);
	return k;
}

Test(derive, hkdf_rfc5869)
{
	uint8_t okm[82];

	expect(MFS_OK, mfs_hkdf(BYTES(vec_hkdf1_ikm), BYTES(vec_hkdf1_salt), BYTES(vec_hkdf1_info), okm, 42, err));
	cr_assert_arr_eq(okm, vec_hkdf1_okm, 42);
	expect(MFS_OK, mfs_hkdf(BYTES(vec_hkdf2_ikm), BYTES(vec_hkdf2_salt), BYTES(vec_hkdf2_info), okm, 82, err));
	cr_assert_arr_eq(okm, vec_hkdf2_okm, 82);
	expect(MFS_OK, mfs_hkdf(BYTES(vec_hkdf3_ikm), MFS_SPAN(NULL, 0), MFS_SPAN(NULL, 0), okm, 42, err));
	cr_assert_arr_eq(okm, vec_hkdf3_okm, 42);
}

Test(derive, key_ids)
{
	struct mfs_key k = key_of(vec_content_key);
	struct mfs_sha256 id;

	expect(MFS_OK, mfs_content_key_id(&k, &id, err));
	cr_assert_arr_eq(id.b, vec_content_key_id, 32);
	k = key_of(vec_model_key);
	expect(MFS_OK, mfs_model_key_id(&k, &id, err));
	cr_assert_arr_eq(id.b, vec_model_key_id, 32);
}

Test(derive, salt_and_file_key)
{
	const struct mfs_key k = key_of(vec_content_key);
	struct mfs_sha256 plain, salt;
	struct mfs_key file;

	memcpy(plain.b, vec_plain_sha256, 32);
	expect(MFS_OK, mfs_file_salt(&k, MFS_CIPHER_AES_256_GCM, "det", "sub/model.onnx", 131072, &plain, &salt, err));
	cr_assert_arr_eq(salt.b, vec_salt_aes, 32);
	expect(MFS_OK, mfs_file_key(&k, &salt, MFS_CIPHER_AES_256_GCM, "det", "sub/model.onnx", 131072, &file, err));
	cr_assert_arr_eq(file.b, vec_file_key_aes, 32);
	expect(MFS_OK, mfs_file_salt(&k, MFS_CIPHER_CHACHA20_POLY1305, "det", "sub/model.onnx", 131072, &plain, &salt, err));
	cr_assert_arr_eq(salt.b, vec_salt_chacha, 32);
	expect(MFS_OK,
		mfs_file_key(&k, &salt, MFS_CIPHER_CHACHA20_POLY1305, "det", "sub/model.onnx", 131072, &file, err));
	cr_assert_arr_eq(file.b, vec_file_key_chacha, 32);
}

/* Everything that one packing can differ in from another under the same content key. */
struct packing {
	enum mfs_cipher cipher;
	const char *model_id, *name;
	uint32_t chunk_size;
	const char *plaintext;
};

static struct mfs_key
file_key(const struct packing *p)
{
	const struct mfs_key k = key_of(vec_content_key);
	struct mfs_sha256 plain, salt;
	struct mfs_key file;

	expect(MFS_OK, mfs_sha256(TEXT(p->plaintext), &plain, err));
	expect(MFS_OK, mfs_file_salt(&k, p->cipher, p->model_id, p->name, p->chunk_size, &plain, &salt, err));
	expect(MFS_OK, mfs_file_key(&k, &salt, p->cipher, p->model_id, p->name, p->chunk_size, &file, err));
	return file;
}

Test(derive, repacking_with_the_same_content_key_never_repeats_a_nonce_over_other_bytes)
{
	/* Nonces are chunk indexes, so the file key must differ whenever any ciphertext could. The
	 * length prefixes matter too: "ab"+"c" is not "a"+"bc". */
	static const struct packing t[] = {
		{ MFS_CIPHER_AES_256_GCM, "det", "model.onnx", 131072, "one" },
		{ MFS_CIPHER_CHACHA20_POLY1305, "det", "model.onnx", 131072, "one" },
		{ MFS_CIPHER_AES_256_GCM, "det2", "model.onnx", 131072, "one" },
		{ MFS_CIPHER_AES_256_GCM, "det", "other.onnx", 131072, "one" },
		{ MFS_CIPHER_AES_256_GCM, "det", "model.onnx", 65536, "one" },
		{ MFS_CIPHER_AES_256_GCM, "det", "model.onnx", 131072, "two" },
		{ MFS_CIPHER_AES_256_GCM, "ab", "c", 131072, "one" },
		{ MFS_CIPHER_AES_256_GCM, "a", "bc", 131072, "one" },
	};
	const size_t n = sizeof(t) / sizeof(t[0]);

	for (size_t i = 0; i < n; i++) {
		const struct mfs_key a = file_key(&t[i]);

		for (size_t k = 0; k < n; k++) {
			const struct mfs_key b = file_key(&t[k]);

			cr_assert_eq(memcmp(a.b, b.b, 32) == 0, i == k, "packings %zu and %zu", i, k);
		}
	}
}

Test(derive, file_key_depends_on_the_salt_of_the_manifest)
{
	const struct mfs_key k = key_of(vec_content_key);
	struct mfs_sha256 salt = { { 1 } };
	struct mfs_key a, b;

	expect(MFS_OK, mfs_file_key(&k, &salt, MFS_CIPHER_AES_256_GCM, "det", "m", 65536, &a, err));
	salt.b[31] = 1;
	expect(MFS_OK, mfs_file_key(&k, &salt, MFS_CIPHER_AES_256_GCM, "det", "m", 65536, &b, err));
	cr_assert_neq(memcmp(a.b, b.b, 32), 0);
	expect(MFS_INTERNAL, mfs_file_key(&k, &salt, MFS_CIPHER_NONE, "det", "m", 65536, &b, err));
}

Test(derive, kwp)
{
	const struct mfs_key model = key_of(vec_model_key), content = key_of(vec_content_key);
	uint8_t wrapped[40];
	struct mfs_key out;

	expect(MFS_OK, mfs_kwp_wrap(&model, &content, wrapped, err));
	cr_assert_arr_eq(wrapped, vec_wrapped, 40);
	expect(MFS_OK, mfs_kwp_unwrap(&model, wrapped, &out, err));
	cr_assert_arr_eq(out.b, vec_content_key, 32);
	for (size_t i = 0; i < sizeof(wrapped); i++) {
		wrapped[i] ^= 0x10;
		expect(MFS_DECRYPT_FAILED, mfs_kwp_unwrap(&model, wrapped, &out, err));
		wrapped[i] ^= 0x10;
	}
	expect(MFS_DECRYPT_FAILED, mfs_kwp_unwrap(&content, wrapped, &out, err));
}

Test(derive, content_key_of_a_manifest)
{
	const struct mfs_key model = key_of(vec_model_key), other = key_of(vec_content_key);
	char id[] = "det", version[] = "1.0.0";
	struct mfs_wrap wraps[2] = { { { { 9 } }, { 0 } } };
	struct mfs_manifest m = { .model_id = id, .version = version, .cipher = MFS_CIPHER_AES_256_GCM, .wraps = wraps,
		.n_wraps = 2 };
	struct mfs_key out;

	memcpy(m.content_key_id.b, vec_content_key_id, 32);
	memcpy(wraps[1].model_key_id.b, vec_model_key_id, 32);
	memcpy(wraps[1].wrapped, vec_wrapped, 40);
	expect(MFS_OK, mfs_content_key_unwrap(&m, &model, &out, err));
	cr_assert_arr_eq(out.b, vec_content_key, 32);
	expect_says(MFS_KEY_UNAVAILABLE, "no content key for model key", mfs_content_key_unwrap(&m, &other, &out, err));
	wraps[1].wrapped[3] ^= 1;
	expect_says(MFS_DECRYPT_FAILED, "encryption.wraps[1]", mfs_content_key_unwrap(&m, &model, &out, err));
	wraps[1].wrapped[3] ^= 1;
	m.content_key_id.b[0] ^= 1;
	expect_says(MFS_DECRYPT_FAILED, "content_key_id", mfs_content_key_unwrap(&m, &model, &out, err));
	for (size_t i = 0; i < sizeof(out.b); i++)
		cr_assert_eq(out.b[i], 0, "a key that was refused stays behind");
	m.cipher = MFS_CIPHER_NONE;
	expect(MFS_KEY_UNAVAILABLE, mfs_content_key_unwrap(&m, &model, &out, err));
}

Test(derive, model_key_files)
{
	static const char hex[] = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f\n\n";
	struct mfs_key k;

	expect(MFS_OK, mfs_model_key_parse("mk", BYTES(vec_model_key), &k, err));
	cr_assert_arr_eq(k.b, vec_model_key, 32);
	memset(&k, 0, sizeof(k));
	expect(MFS_OK, mfs_model_key_parse("mk", MFS_SPAN(hex, 64), &k, err));
	expect(MFS_OK, mfs_model_key_parse("mk", MFS_SPAN(hex, 65), &k, err));
	cr_assert_arr_eq(k.b, vec_model_key, 32);
	expect_says(MFS_CONFIG_INVALID, "mk: 66 bytes", mfs_model_key_parse("mk", MFS_SPAN(hex, 66), &k, err));
	expect(MFS_CONFIG_INVALID, mfs_model_key_parse("mk", MFS_SPAN(hex, 63), &k, err));
	expect(MFS_CONFIG_INVALID, mfs_model_key_parse("mk", MFS_SPAN(NULL, 0), &k, err));
	expect(MFS_CONFIG_INVALID, mfs_model_key_parse("mk", MFS_SPAN(vec_model_key, 31), &k, err));
}

/* Nobody signed it: whatever it is, the content key of the manifest comes out, or none. */
Test(derive, content_key_from_beside_the_manifest)
{
	const struct mfs_key model = key_of(vec_model_key), content = key_of(vec_content_key);
	struct mfs_key other = content, out;
	char id[] = "det", version[] = "1.0.0";
	struct mfs_manifest m = { .model_id = id, .version = version, .cipher = MFS_CIPHER_AES_256_GCM };
	uint8_t buf[2 * MFS_WRAP_LEN] = { 0 };

	memcpy(m.content_key_id.b, vec_content_key_id, 32);
	memcpy(buf, vec_wrapped, MFS_WRAP_LEN);
	for (size_t n = 0; n <= sizeof(buf); n++) {
		memset(&out, 0x5a, sizeof(out));
		expect(n == MFS_WRAP_LEN ? MFS_OK : MFS_KEY_UNAVAILABLE,
			mfs_content_key_unwrap_grant(&m, &model, MFS_SPAN(buf, n), &out, err));
		for (size_t k = 0; k < sizeof(out.b); k++)
			cr_assert_eq(out.b[k], n == MFS_WRAP_LEN ? vec_content_key[k] : 0, "%zu bytes", n);
	}
	for (size_t bit = 0; bit < 8 * (size_t)MFS_WRAP_LEN; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		expect(MFS_KEY_UNAVAILABLE, mfs_content_key_unwrap_grant(&m, &model, MFS_SPAN(buf, MFS_WRAP_LEN), &out, err));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	expect(MFS_KEY_UNAVAILABLE, mfs_content_key_unwrap_grant(&m, &content, MFS_SPAN(buf, MFS_WRAP_LEN), &out, err));
	/* One that opens well, to the key of another version. */
	other.b[0] ^= 1;
	expect(MFS_OK, mfs_kwp_wrap(&model, &other, buf, err));
	expect_says(MFS_KEY_UNAVAILABLE, "content_key_id",
		mfs_content_key_unwrap_grant(&m, &model, MFS_SPAN(buf, MFS_WRAP_LEN), &out, err));
	for (size_t k = 0; k < sizeof(out.b); k++)
		cr_assert_eq(out.b[k], 0, "a key that was refused stays behind");
	m.cipher = MFS_CIPHER_NONE;
	expect_says(MFS_KEY_UNAVAILABLE, "not encrypted",
		mfs_content_key_unwrap_grant(&m, &model, MFS_SPAN(vec_wrapped, MFS_WRAP_LEN), &out, err));
}

Test(derive, who_has_no_wrap_is_told_who_has)
{
	const struct mfs_key other = key_of(vec_content_key);
	char id[] = "det", version[] = "1.0.0";
	struct mfs_wrap wraps[5] = { { { { 0x11 } }, { 0 } }, { { { 0x22 } }, { 0 } }, { { { 0x33 } }, { 0 } },
		{ { { 0x44 } }, { 0 } }, { { { 0x55 } }, { 0 } } };
	struct mfs_manifest m = { .model_id = id, .version = version, .cipher = MFS_CIPHER_AES_256_GCM, .wraps = wraps,
		.n_wraps = 5 };
	struct mfs_key out;

	expect_says(MFS_KEY_UNAVAILABLE, "only for 1100000000000000, 2200000000000000, 3300000000000000 and 2 more:",
		mfs_content_key_unwrap(&m, &other, &out, err));
	m.n_wraps = 1;
	expect_says(MFS_KEY_UNAVAILABLE, "only for 1100000000000000:", mfs_content_key_unwrap(&m, &other, &out, err));
}
