/* SPDX-License-Identifier: Apache-2.0 */
/* What a manifest gives; what is refused is tests/reject and check_reject.c. */
#include "verify_help.h"
#include "../vectors/vectors.h"

#define HASH  "1111111111111111111111111111111111111111111111111111111111111111"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct mfs_manifest *
parse(const char *text)
{
	struct mfs_manifest *m;

	expect(MFS_OK, mfs_manifest_parse(TEXT(text), &m, err));
	return m;
}

/* A plain manifest with these files (JSON). */
static char *
plain(const char *files)
{
	static const char fmt[] = "{\"build_time\":1700000000,\"files\":[%s],\"format\":\"modelfs-manifest/1\","
				  "\"key_epoch\":2,\"key_ids\":[\"" HASH "\"],\"model_id\":\"det\",\"release\":7,"
				  "\"variant\":\"default\",\"version\":\"1.0.0\"}";
	size_t n = sizeof(fmt) + strlen(files);
	char *out = malloc(n);

	cr_assert_not_null(out);
	snprintf(out, n, fmt, files);
	return out;
}

Test(manifest, fields_of_a_signed_one)
{
	struct mfs_manifest *m = parse(vec_manifest);

	cr_assert_str_eq(m->model_id, "det");
	cr_assert_str_eq(m->variant, "default");
	cr_assert_str_eq(m->version, "1.0.0");
	cr_assert_eq(m->release, 1);
	cr_assert_eq(m->key_epoch, 1);
	cr_assert_eq(m->build_time, 1700000000);
	cr_assert_eq(m->n_key_ids, 3);
	cr_assert_arr_eq(m->key_ids[1].b, vec_p256_id, 32);
	cr_assert_eq(m->n_files, 1);
	cr_assert_str_eq(m->files[0].name, "model.onnx");
	cr_assert_eq(m->files[0].media, MFS_MEDIA_ONNX);
	cr_assert_eq(m->total_size, sizeof(vec_plain));
	cr_assert_eq(m->cipher, MFS_CIPHER_NONE);
	cr_assert_null(m->health_json);
	mfs_manifest_free(m);
}

/* Its nanoseconds are counted in 63 bits. */
Test(manifest, a_build_time_beyond_2262_is_refused)
{
	static const struct { const char *time; enum mfs_code code; } cases[] = { { "9223372035", MFS_OK },
		{ "9223372036", MFS_MALFORMED } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = strdup(vec_manifest), *at = strstr(text, "1700000000");
		struct mfs_manifest *m;

		cr_assert_not_null(at);
		memcpy(at, cases[i].time, 10);
		expect(cases[i].code, mfs_manifest_parse(TEXT(text), &m, err));
		mfs_manifest_free(m);
		free(text);
	}
}

Test(manifest, chunks_by_size)
{
	static const uint64_t sizes[] = { 0, 1, 65535, 65536, 65537, 131072, 131073, 1ull << 46 };
	static const uint64_t chunks[] = { 0, 1, 1, 1, 2, 2, 3, 1ull << 30 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char file[512], *text;
		struct mfs_manifest *m;

		snprintf(file, sizeof(file), "{\"chunk_size\":65536,%s\"name\":\"a\",\"sha256\":\"%s\",\"size\":%llu%s}",
			chunks[i] > 1 ? "\"chunks_sha256\":\"" HASH "\"," : "", sizes[i] == 0 ? EMPTY : HASH,
			(unsigned long long)sizes[i],
			chunks[i] == 1 ? ",\"tag\":\"00000000000000000000000000000000\"" : "");
		text = plain(file);
		m = parse(text);
		cr_assert_eq(m->files[0].chunks, chunks[i], "size %llu", (unsigned long long)sizes[i]);
		cr_assert_eq(m->files[0].size, sizes[i]);
		cr_assert_eq(mfs_sha256_is_zero(&m->files[0].chunks_sha256), chunks[i] <= 1);
		mfs_manifest_free(m);
		free(text);
	}
}

Test(manifest, files_are_sorted_and_found)
{
	char files[2048] = "", *text;
	static const char *const names[] = { "z", "a/b", "a.b", "a-b", "B", "a0" };
	static const char *const sorted[] = { "B", "a-b", "a.b", "a/b", "a0", "z" };
	struct mfs_manifest *m;

	for (size_t i = 0; i < 6; i++)
		snprintf(files + strlen(files), sizeof(files) - strlen(files),
			"%s{\"chunk_size\":65536,\"executable\":true,\"name\":\"%s\",\"sha256\":\"" EMPTY "\",\"size\":0}",
			i > 0 ? "," : "", names[i]);
	text = plain(files);
	m = parse(text);
	for (size_t i = 0; i < 6; i++) {
		cr_assert_str_eq(m->files[i].name, sorted[i]);
		cr_assert_eq(mfs_manifest_find(m, sorted[i]), (ssize_t)i);
		cr_assert(m->files[i].executable);
		cr_assert_eq(m->files[i].media, MFS_MEDIA_OTHER);
	}
	cr_assert_eq(mfs_manifest_find(m, "a"), -1);
	cr_assert_eq(mfs_manifest_find(m, ""), -1);
	cr_assert_eq(mfs_manifest_find(m, "zz"), -1);
	mfs_manifest_free(m);
	free(text);
}

/* n empty files named 00000000, 00000001, ... */
static enum mfs_code
many(size_t n, struct mfs_err *err)
{
	const size_t each = 200;
	char *files = malloc(n * each + 1), *p = files, *text;
	struct mfs_manifest *m;
	enum mfs_code code;

	cr_assert_not_null(files);
	for (size_t i = 0; i < n; i++)
		p += sprintf(p, "%s{\"chunk_size\":65536,\"name\":\"%08zx\",\"sha256\":\"" EMPTY "\",\"size\":0}",
			i > 0 ? "," : "", i);
	text = plain(files);
	free(files);
	code = mfs_manifest_parse(TEXT(text), &m, err);
	if (code == MFS_OK)
		cr_assert_eq(m->n_files, n);
	mfs_manifest_free(m);
	free(text);
	return code;
}

Test(manifest, caps)
{
	static char big[MFS_MANIFEST_BYTES_MAX + 1];
	struct mfs_manifest *m;

	expect(MFS_OK, many(MFS_FILES_MAX, err));
	expect_says(MFS_LIMIT_EXCEEDED, "limit 65536", many(MFS_FILES_MAX + 1, err));
	memset(big, ' ', sizeof(big));
	expect_says(MFS_LIMIT_EXCEEDED, "limit 16777216", mfs_manifest_parse(BYTES(big), &m, err));
	cr_assert_null(m);
}

Test(manifest, full_one)
{
	static const char text[] =
		"{\"build_time\":0,\"compat\":{\"apps\":[{\"max\":\"3.0.0\",\"min\":\"2.0.0\",\"name\":\"vision\"}],"
		"\"depends\":[{\"min_release\":4,\"model_id\":\"tok\"}],\"input_schema_sha256\":\"" HASH "\","
		"\"labels\":{\"site\":[\"x\",\"y\"]},\"memory\":1024,\"page_size\":16384,\"platforms\":[\"linux/amd64\","
		"\"linux/arm/v7\"],\"runtimes\":[{\"name\":\"onnxruntime\"}]},\"critical\":[\"encryption\"],"
		"\"delta_bases\":[\"" HASH "\"],\"encryption\":{\"cipher\":\"ChaCha20-Poly1305\",\"content_key_id\":\"" HASH
		"\",\"wraps\":[{\"model_key_id\":\"" HASH "\",\"wrapped\":\"" HASH "2222222222222222\"}]},"
		"\"files\":[{\"chunk_size\":1048576,\"media\":\"gguf\",\"name\":\"m\",\"salt\":\"" HASH "\",\"sha256\":\"" HASH
		"\",\"size\":5,\"tag\":\"22222222222222222222222222222222\"}],\"format\":\"modelfs-manifest/1\","
		"\"health\":{\"b\":[1,{}],\"z\":\"\xc3\xa4\"},\"key_epoch\":9007199254740991,\"key_ids\":[\"" HASH "\"],"
		"\"later\":{\"anything\":[]},\"model_id\":\"det\",\"preprocess\":{\"a\":1},\"quantization\":\"int8\","
		"\"release\":9007199254740991,\"variant\":\"gpu\",\"version\":\"1.0.0-rc.1\"}";
	struct mfs_manifest *m = parse(text);
	const struct mfs_compat *c = &m->compat;

	cr_assert_str_eq(c->apps[0].name, "vision");
	cr_assert_str_eq(c->apps[0].min, "2.0.0");
	cr_assert_str_eq(c->apps[0].max, "3.0.0");
	cr_assert_null(c->runtimes[0].min);
	cr_assert_eq(c->depends[0].min_release, 4);
	cr_assert_eq(c->depends[0].max_release, -1);
	cr_assert_eq(c->input_schema.b[31], 0x11);
	cr_assert(mfs_sha256_is_zero(&c->output_schema));
	cr_assert_str_eq(c->labels[0].values[1], "y");
	cr_assert_null(c->labels[0].values[2]);
	cr_assert_eq(c->memory, 1024);
	cr_assert_eq(c->page_size, 16384);
	cr_assert_str_eq(c->platforms[1], "linux/arm/v7");
	cr_assert_null(c->platforms[2]);
	cr_assert_eq(m->cipher, MFS_CIPHER_CHACHA20_POLY1305);
	cr_assert_eq(m->n_wraps, 1);
	cr_assert_eq(m->wraps[0].wrapped[39], 0x22);
	cr_assert_eq(m->n_delta_bases, 1);
	cr_assert_eq(m->files[0].salt.b[0], 0x11);
	cr_assert_eq(m->files[0].tag[15], 0x22);
	cr_assert_eq(m->files[0].media, MFS_MEDIA_GGUF);
	cr_assert_str_eq(m->health_json, "{\"b\":[1,{}],\"z\":\"\xc3\xa4\"}");
	cr_assert_str_eq(m->preprocess_json, "{\"a\":1}");
	cr_assert_str_eq(m->quantization_json, "\"int8\"");
	cr_assert_eq(m->key_epoch, MFS_JSON_INT_MAX);
	mfs_manifest_free(m);
}

Test(manifest, truncated_anywhere)
{
	for (size_t n = 0; n < sizeof(vec_manifest) - 1; n++) {
		char *copy = malloc(n + 1);
		struct mfs_manifest *m;

		memcpy(copy, vec_manifest, n);
		expect(MFS_MALFORMED, mfs_manifest_parse(MFS_SPAN(copy, n), &m, err));
		cr_assert_null(m);
		free(copy);
	}
}

Test(manifest, names_of_enumerations)
{
	enum mfs_media media;

	cr_assert_str_eq(mfs_cipher_name(MFS_CIPHER_AES_256_GCM), "AES-256-GCM");
	cr_assert_null(mfs_cipher_name(MFS_CIPHER_NONE));
	cr_assert(mfs_media_from_name("safetensors", &media));
	cr_assert_eq(media, MFS_MEDIA_SAFETENSORS);
	cr_assert_str_eq(mfs_media_name(MFS_MEDIA_TFLITE), "tflite");
	cr_assert_not(mfs_media_from_name("GGUF", &media));
}
