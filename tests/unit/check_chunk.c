/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_help.h"
#include "../vectors/vectors.h"

#define CHUNK MFS_CHUNK_MIN

/* One file sealed in memory, as a publisher would write it. */
struct sealed {
	struct mfs_file file;
	uint8_t *plain, *stored, *table;
	size_t table_len;
	struct mfs_opener *opener;
	struct mfs_table *t;
};

static const struct mfs_key *
key_for(enum mfs_cipher cipher)
{
	static const struct mfs_key key = { { 1, 2, 3 } };

	return cipher == MFS_CIPHER_NONE ? NULL : &key;
}

static void
seal(struct sealed *s, enum mfs_cipher cipher, uint64_t size)
{
	static char name[] = "model.bin";
	uint8_t entry[MFS_TABLE_ENTRY];

	*s = (struct sealed){ .file = { .name = name, .size = size, .chunk_size = CHUNK,
				      .chunks = (size + CHUNK - 1) / CHUNK } };
	s->plain = malloc(size + 1);
	s->stored = malloc(size + 1);
	s->table_len = MFS_TABLE_HEADER + MFS_TABLE_ENTRY * s->file.chunks;
	s->table = calloc(1, s->table_len);
	for (uint64_t i = 0; i < size; i++)
		s->plain[i] = (uint8_t)(i * 31 + i / 251);
	if (cipher != MFS_CIPHER_NONE)
		s->file.salt.b[0] = 1;
	expect(MFS_OK, mfs_opener_new(cipher, key_for(cipher), &s->opener, err));
	mfs_table_header(s->table, CHUNK, size, s->file.chunks);
	for (uint64_t i = 0; i < s->file.chunks; i++) {
		expect(MFS_OK, mfs_chunk_seal(s->opener, i, MFS_SPAN(s->plain + i * CHUNK, mfs_chunk_length(&s->file, i)),
				       s->stored + i * CHUNK, entry, err));
		memcpy(s->table + MFS_TABLE_HEADER + i * MFS_TABLE_ENTRY, entry, sizeof(entry));
	}
	expect(MFS_OK, mfs_sha256(MFS_SPAN(s->stored, size), &s->file.sha256, err));
	if (s->file.chunks <= 1) {
		memcpy(s->file.tag, s->file.chunks == 1 ? entry + 32 : s->file.tag, MFS_TAG_LEN);
		s->table_len = 0;
	}
	expect(MFS_OK, mfs_sha256(MFS_SPAN(s->table, s->table_len), &s->file.chunks_sha256, err));
	expect(MFS_OK, mfs_table_load(&s->file, MFS_SPAN(s->table, s->table_len), &s->t, err));
}

static void
unseal(struct sealed *s)
{
	mfs_table_free(s->t);
	mfs_opener_free(s->opener);
	free(s->plain);
	free(s->stored);
	free(s->table);
}

static struct mfs_span
stored_chunk(const struct sealed *s, uint64_t i)
{
	return MFS_SPAN(s->stored + i * CHUNK, mfs_chunk_length(&s->file, i));
}

static const uint64_t sizes[] = { 0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7 };

Test(chunk, every_size_and_cipher_comes_back)
{
	for (int c = MFS_CIPHER_NONE; c <= MFS_CIPHER_CHACHA20_POLY1305; c++)
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			uint8_t out[CHUNK];
			struct sealed s;

			seal(&s, (enum mfs_cipher)c, sizes[k]);
			cr_assert_eq(mfs_table_length(s.file.chunks), s.table_len);
			for (uint64_t i = s.file.chunks; i-- > 0;) { /* any order */
				expect(MFS_OK, mfs_chunk_verify(s.opener, s.t, i, stored_chunk(&s, i), err));
				expect(MFS_OK, mfs_chunk_open(s.opener, s.t, i, stored_chunk(&s, i), out, err));
				cr_assert_arr_eq(out, s.plain + i * CHUNK, mfs_chunk_length(&s.file, i));
				if (c != MFS_CIPHER_NONE && mfs_chunk_length(&s.file, i) >= 16)
					cr_assert_neq(memcmp(s.stored + i * CHUNK, out, 16), 0);
			}
			expect(MFS_INTERNAL,
				mfs_chunk_open(s.opener, s.t, s.file.chunks, MFS_SPAN(s.stored, 1), out, err));
			unseal(&s);
		}
}

Test(chunk, in_place)
{
	for (int c = MFS_CIPHER_NONE; c <= MFS_CIPHER_CHACHA20_POLY1305; c++) {
		struct sealed s;

		seal(&s, (enum mfs_cipher)c, CHUNK + 1);
		for (uint64_t i = 0; i < 2; i++) {
			expect(MFS_OK,
				mfs_chunk_open(s.opener, s.t, i, stored_chunk(&s, i), s.stored + i * CHUNK, err));
			cr_assert_arr_eq(s.stored + i * CHUNK, s.plain + i * CHUNK, mfs_chunk_length(&s.file, i));
		}
		unseal(&s);
	}
}

Test(chunk, one_flipped_bit_anywhere_is_refused_and_leaves_no_plaintext)
{
	static const size_t offsets[] = { 0, 1, 15, 16, 4095, CHUNK / 2, CHUNK - 1 };
	static const uint8_t zero[CHUNK];
	uint8_t out[CHUNK];

	for (int c = MFS_CIPHER_NONE; c <= MFS_CIPHER_CHACHA20_POLY1305; c++) {
		struct sealed s;

		seal(&s, (enum mfs_cipher)c, 2 * CHUNK);
		for (size_t k = 0; k < sizeof(offsets) / sizeof(offsets[0]); k++) {
			s.stored[CHUNK + offsets[k]] ^= 0x40;
			memset(out, 0xee, sizeof(out));
			expect_says(MFS_HASH_MISMATCH, "chunk 1",
				mfs_chunk_open(s.opener, s.t, 1, stored_chunk(&s, 1), out, err));
			cr_assert_arr_eq(out, zero, CHUNK);
			expect(MFS_HASH_MISMATCH, mfs_chunk_verify(s.opener, s.t, 1, stored_chunk(&s, 1), err));
			s.stored[CHUNK + offsets[k]] ^= 0x40;
		}
		expect(MFS_HASH_MISMATCH, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 1), out, err));
		expect(MFS_HASH_MISMATCH, mfs_chunk_open(s.opener, s.t, 0, MFS_SPAN(s.stored, CHUNK - 1), out, err));
		expect(MFS_HASH_MISMATCH, mfs_chunk_open(s.opener, s.t, 0, MFS_SPAN(s.stored, 0), out, err));
		expect(MFS_OK, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 0), out, err));
		unseal(&s);
	}
}

Test(chunk, wrong_key_tag_or_position_does_not_decrypt)
{
	const struct mfs_key wrong = { { 7 } };
	static const uint8_t zero[CHUNK];
	uint8_t out[CHUNK];

	for (int c = MFS_CIPHER_AES_256_GCM; c <= MFS_CIPHER_CHACHA20_POLY1305; c++) {
		struct sealed s;
		uint8_t *entries;

		seal(&s, (enum mfs_cipher)c, 2 * CHUNK);
		entries = s.t->entries;
		expect(MFS_OK, mfs_opener_rekey(s.opener, (enum mfs_cipher)c, &wrong, err));
		expect(MFS_DECRYPT_FAILED, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 0), out, err));
		cr_assert_arr_eq(out, zero, CHUNK);
		expect(MFS_OK, mfs_opener_rekey(s.opener, (enum mfs_cipher)c, key_for((enum mfs_cipher)c), err));
		expect(MFS_OK, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 0), out, err));
		for (int b = 0; b < 16; b++) {
			entries[32 + b] ^= 1;
			expect(MFS_DECRYPT_FAILED, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 0), out, err));
			cr_assert_arr_eq(out, zero, CHUNK);
			entries[32 + b] ^= 1;
		}
		/* Entry and bytes of chunk 1 together at index 0: only the nonce differs. */
		memcpy(entries, entries + MFS_TABLE_ENTRY, MFS_TABLE_ENTRY);
		expect(MFS_DECRYPT_FAILED, mfs_chunk_open(s.opener, s.t, 0, stored_chunk(&s, 1), out, err));
		unseal(&s);
	}
}

/* What mfs_chunks_open() is to make of chunk i: damaged bytes, a wrong tag, or a wrong length. */
enum harm { HARM_NONE, HARM_BYTE, HARM_TAG, HARM_LENGTH, HARMS };

/* Chunks 0 ... n - 1 of a file in one call, each harmed as told: each must end as by itself. */
static void
opened_together(struct sealed *s, enum mfs_cipher cipher, size_t n, const enum harm *harm, bool key)
{
	struct mfs_chunk_io io[5];
	static uint8_t out[5 * CHUNK];
	static const uint8_t zero[CHUNK];

	memset(out, 0xee, sizeof(out));
	for (size_t i = 0; i < n; i++) {
		io[i] = (struct mfs_chunk_io){ .stored = stored_chunk(s, i), .plaintext = key ? out + i * CHUNK : NULL };
		if (harm[i] == HARM_BYTE)
			s->stored[i * CHUNK + 9] ^= 1;
		if (harm[i] == HARM_TAG)
			s->t->entries[i * MFS_TABLE_ENTRY + 40] ^= 1;
		if (harm[i] == HARM_LENGTH)
			io[i].stored.len--;
	}
	mfs_chunks_open(s->opener, s->t, 0, io, n);
	for (size_t i = 0; i < n; i++) {
		uint32_t len = mfs_chunk_length(&s->file, i);
		enum mfs_code want = MFS_OK;

		if (harm[i] == HARM_BYTE || harm[i] == HARM_LENGTH)
			want = MFS_HASH_MISMATCH;
		else if (harm[i] == HARM_TAG && key && cipher != MFS_CIPHER_NONE)
			want = MFS_DECRYPT_FAILED;
		cr_assert_eq(io[i].code, want, "chunk %zu of %zu: %s: %s", i, n, mfs_code_name(io[i].code), io[i].err.msg);
		cr_assert_eq(io[i].err.code, want);
		if (want != MFS_OK)
			cr_assert_not_null(strstr(io[i].err.msg, i == 0 ? "chunk 0" : i == 1 ? "chunk 1" : "chunk"), "%s", io[i].err.msg);
		if (key)
			cr_assert_arr_eq(out + i * CHUNK, want == MFS_OK ? s->plain + i * CHUNK : zero, len);
		else
			cr_assert_eq(out[i * CHUNK], 0xee);
		if (harm[i] == HARM_BYTE)
			s->stored[i * CHUNK + 9] ^= 1;
		if (harm[i] == HARM_TAG)
			s->t->entries[i * MFS_TABLE_ENTRY + 40] ^= 1;
	}
}

Test(chunk, several_at_once_end_as_one_by_one)
{
	for (int c = MFS_CIPHER_NONE; c <= MFS_CIPHER_CHACHA20_POLY1305; c++) {
		struct sealed s;

		seal(&s, (enum mfs_cipher)c, 4 * CHUNK + 777); /* the last one is short */
		for (size_t n = 0; n <= 5; n++)
			for (int first = 0; first < HARMS; first++)
				for (int second = 0; second < HARMS; second++)
					for (int key = 0; key < 2; key++) {
						const enum harm harm[5] = { (enum harm)first, (enum harm)second, HARM_NONE,
							(enum harm)second, (enum harm)first };

						opened_together(&s, (enum mfs_cipher)c, n, harm, key == 1);
					}
		unseal(&s);
	}
}

Test(chunk, several_at_once_in_place_and_beyond_the_end)
{
	for (int c = MFS_CIPHER_NONE; c <= MFS_CIPHER_CHACHA20_POLY1305; c++) {
		struct mfs_chunk_io io[3];
		struct sealed s;

		seal(&s, (enum mfs_cipher)c, 2 * CHUNK);
		for (size_t i = 0; i < 3; i++)
			io[i] = (struct mfs_chunk_io){ .stored = MFS_SPAN(s.stored + (i % 2) * CHUNK, CHUNK),
				.plaintext = i < 2 ? s.stored + i * CHUNK : NULL };
		mfs_chunks_open(s.opener, s.t, 0, io, 3);
		cr_assert_eq(io[0].code, MFS_OK);
		cr_assert_eq(io[1].code, MFS_OK);
		cr_assert_eq(io[2].code, MFS_INTERNAL);
		cr_assert_arr_eq(s.stored, s.plain, 2 * CHUNK);
		unseal(&s);
	}
}

Test(chunk, rekey_changes_file_cipher_and_back)
{
	struct sealed plain, aes, chacha;
	uint8_t out[CHUNK];

	seal(&plain, MFS_CIPHER_NONE, 10);
	seal(&aes, MFS_CIPHER_AES_256_GCM, 10);
	seal(&chacha, MFS_CIPHER_CHACHA20_POLY1305, 10);
	for (int round = 0; round < 2; round++) {
		struct mfs_opener *o = aes.opener;

		expect(MFS_OK, mfs_opener_rekey(o, MFS_CIPHER_NONE, NULL, err));
		expect(MFS_OK, mfs_chunk_open(o, plain.t, 0, stored_chunk(&plain, 0), out, err));
		expect(MFS_OK, mfs_opener_rekey(o, MFS_CIPHER_CHACHA20_POLY1305, key_for(MFS_CIPHER_CHACHA20_POLY1305), err));
		expect(MFS_OK, mfs_chunk_open(o, chacha.t, 0, stored_chunk(&chacha, 0), out, err));
		expect(MFS_OK, mfs_opener_rekey(o, MFS_CIPHER_AES_256_GCM, key_for(MFS_CIPHER_AES_256_GCM), err));
		expect(MFS_OK, mfs_chunk_open(o, aes.t, 0, stored_chunk(&aes, 0), out, err));
		cr_assert_arr_eq(out, aes.plain, 10);
	}
	expect(MFS_INTERNAL, mfs_opener_rekey(aes.opener, MFS_CIPHER_NONE, key_for(MFS_CIPHER_AES_256_GCM), err));
	expect(MFS_INTERNAL, mfs_opener_rekey(aes.opener, MFS_CIPHER_AES_256_GCM, NULL, err));
	unseal(&plain);
	unseal(&aes);
	unseal(&chacha);
}

static void
known_answer(enum mfs_cipher cipher, const uint8_t *key, uint64_t index, const uint8_t *stored, const uint8_t *tag)
{
	uint8_t out[sizeof(vec_plain)], entry[MFS_TABLE_ENTRY];
	struct mfs_sha256 sum;
	struct mfs_opener *o;
	struct mfs_key k;

	memcpy(k.b, key, 32);
	expect(MFS_OK, mfs_opener_new(cipher, &k, &o, err));
	expect(MFS_OK, mfs_chunk_seal(o, index, BYTES(vec_plain), out, entry, err));
	cr_assert_arr_eq(out, stored, sizeof(out));
	cr_assert_arr_eq(entry + 32, tag, 16);
	expect(MFS_OK, mfs_sha256(MFS_SPAN(stored, sizeof(out)), &sum, err));
	cr_assert_arr_eq(entry, sum.b, 32);
	mfs_opener_free(o);
}

Test(chunk, known_answers)
{
	static const uint8_t zero[16], gcm14[16] = { 0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3,
					       0xba, 0xf3, 0x9d, 0x18 };
	const struct mfs_key zero_key = { { 0 } };
	uint8_t out[16], entry[MFS_TABLE_ENTRY];
	struct mfs_opener *o;

	known_answer(MFS_CIPHER_AES_256_GCM, vec_file_key_aes, 0, vec_chunk_aes_0, vec_tag_aes_0);
	known_answer(MFS_CIPHER_AES_256_GCM, vec_file_key_aes, 1, vec_chunk_aes_1, vec_tag_aes_1);
	known_answer(MFS_CIPHER_AES_256_GCM, vec_file_key_aes, (1ull << 32) + 5, vec_chunk_aes_far, vec_tag_aes_far);
	known_answer(MFS_CIPHER_CHACHA20_POLY1305, vec_file_key_chacha, 0, vec_chunk_chacha_0, vec_tag_chacha_0);
	known_answer(MFS_CIPHER_CHACHA20_POLY1305, vec_file_key_chacha, 1, vec_chunk_chacha_1, vec_tag_chacha_1);
	known_answer(MFS_CIPHER_CHACHA20_POLY1305, vec_file_key_chacha, (1ull << 32) + 5, vec_chunk_chacha_far,
		vec_tag_chacha_far);
	/* Test case 14 of the GCM specification is chunk 0 under the zero key. */
	expect(MFS_OK, mfs_opener_new(MFS_CIPHER_AES_256_GCM, &zero_key, &o, err));
	expect(MFS_OK, mfs_chunk_seal(o, 0, BYTES(zero), out, entry, err));
	cr_assert_arr_eq(out, gcm14, 16);
	mfs_opener_free(o);
}

Test(chunk, table_with_another_hash)
{
	struct mfs_table *t;
	struct sealed s;

	seal(&s, MFS_CIPHER_NONE, 3 * CHUNK);
	for (size_t i = 0; i < s.table_len; i++) {
		s.table[i] ^= 0x20;
		expect(MFS_HASH_MISMATCH, mfs_table_load(&s.file, MFS_SPAN(s.table, s.table_len), &t, err));
		cr_assert_null(t);
		s.table[i] ^= 0x20;
	}
	for (size_t n = 0; n < s.table_len; n++)
		expect(MFS_HASH_MISMATCH, mfs_table_load(&s.file, MFS_SPAN(s.table, n), &t, err));
	unseal(&s);
}

/* Signed and wrong: what a broken or hostile publisher could make. */
static enum mfs_code
load_signed(struct mfs_file *f, const uint8_t *p, size_t n, struct mfs_err *err)
{
	struct mfs_table *t;
	enum mfs_code code;

	cr_assert_eq(mfs_sha256(MFS_SPAN(p, n), &f->chunks_sha256, err), MFS_OK);
	code = mfs_table_load(f, MFS_SPAN(p, n), &t, err);
	cr_assert((code == MFS_OK) == (t != NULL));
	mfs_table_free(t);
	return code;
}

Test(chunk, table_that_is_signed_and_wrong)
{
	static const struct {
		size_t at;
		const char *says;
	} t[] = { { 0, "MFCHUNK1" }, { 8, "offset 8" }, { 12, "offset 12" }, { 16, "offset 16" }, { 23, "offset 16" },
		{ 24, "offset 24" }, { 31, "offset 24" }, { 32 + 32, "chunk 0 has a tag" },
		{ 32 + 2 * 48 + 47, "chunk 2 has a tag" } };
	struct sealed s;
	uint8_t *longer;

	seal(&s, MFS_CIPHER_NONE, 3 * CHUNK);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		s.table[t[i].at] ^= 0x80;
		expect_says(MFS_MALFORMED, t[i].says, load_signed(&s.file, s.table, s.table_len, err));
		s.table[t[i].at] ^= 0x80;
	}
	expect(MFS_OK, load_signed(&s.file, s.table, s.table_len, err));
	for (size_t n = 0; n < s.table_len; n++)
		expect(MFS_MALFORMED, load_signed(&s.file, s.table, n, err));
	longer = calloc(1, s.table_len + MFS_TABLE_ENTRY);
	memcpy(longer, s.table, s.table_len);
	expect(MFS_MALFORMED, load_signed(&s.file, longer, s.table_len + 1, err));
	expect(MFS_MALFORMED, load_signed(&s.file, longer, s.table_len + MFS_TABLE_ENTRY, err));
	s.file.salt.b[0] = 1; /* tags are for encrypted files */
	s.table[32 + 40] = 9;
	expect(MFS_OK, load_signed(&s.file, s.table, s.table_len, err));
	free(longer);
	unseal(&s);
}

Test(chunk, small_files_have_no_table)
{
	struct mfs_table *t;
	struct sealed s;

	for (uint64_t size = 0; size < 2; size++) {
		seal(&s, MFS_CIPHER_NONE, size);
		expect_says(MFS_MALFORMED, "surplus", mfs_table_load(&s.file, MFS_SPAN(s.table, 32), &t, err));
		unseal(&s);
	}
}

Test(hash, in_pieces_and_again)
{
	static const char *const abc = "abc";
	struct mfs_sha256 whole, pieces;
	struct mfs_hash *h;

	expect(MFS_OK, mfs_sha256(TEXT(abc), &whole, err));
	cr_assert_str_eq(MFS_HEX(&whole), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	expect(MFS_OK, mfs_hash_new(&h, err));
	for (int round = 0; round < 2; round++) {
		expect(MFS_OK, mfs_hash_update(h, abc, 1, err));
		expect(MFS_OK, mfs_hash_update(h, abc, 0, err));
		expect(MFS_OK, mfs_hash_update(h, abc + 1, 2, err));
		expect(MFS_OK, mfs_hash_final(h, &pieces, err));
		cr_assert(mfs_sha256_equal(&whole, &pieces));
	}
	expect(MFS_OK, mfs_hash_final(h, &pieces, err));
	cr_assert_str_eq(MFS_HEX(&pieces), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	mfs_hash_free(h);
	mfs_hash_free(NULL);
}

Test(chunk, lengths_are_64_bit)
{
	struct mfs_file f = { .size = (5ull << 32) + 3, .chunk_size = MFS_CHUNK_MAX, .chunks = 20481 };
	uint8_t h[MFS_TABLE_HEADER];

	cr_assert_eq(mfs_chunk_length(&f, 20480), 3);
	cr_assert_eq(mfs_chunk_length(&f, 20479), MFS_CHUNK_MAX);
	cr_assert_eq(mfs_chunk_length(&f, 20481), 0);
	cr_assert_eq(mfs_table_length(1ull << 30), 32 + 48 * (1ull << 30));
	mfs_table_header(h, MFS_CHUNK_MAX, f.size, f.chunks);
	cr_assert_arr_eq(h, "MFCHUNK1\0\0\x10\0\0\0\0\0\x03\0\0\0\x05\0\0\0\x01\x50\0\0\0\0\0\0", 32);
}
