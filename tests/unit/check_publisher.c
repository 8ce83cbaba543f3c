/* SPDX-License-Identifier: Apache-2.0 */
/* publisher: what only a library test can arrange, above all files that change while they are packed. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate.h"
#include "inputs.h"
#include "io.h"
#include "lanes.h"
#include "meta.h"
#include "pack.h"
#include "seal.h"

static char root[64];

static void
setup(void)
{
	strcpy(root, "/tmp/check-publisher-XXXXXX");
	cr_assert_not_null(mkdtemp(root));
	cr_assert_eq(chdir(root), 0);
}

static void
teardown(void)
{
	char *const roots[] = { root, NULL };
	FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const FTSENT *e;

	if (chdir("/") != 0)
		perror("chdir");
	while (f != NULL && (e = fts_read(f)) != NULL)
		if (e->fts_info != FTS_D)
			(void)remove(e->fts_accpath);
	if (f != NULL)
		(void)fts_close(f);
}

TestSuite(publisher, .init = setup, .fini = teardown, .timeout = 60);

/* n bytes that differ everywhere, in a file. */
static void
file_make(const char *path, size_t n, unsigned seed)
{
	mfs_autofree uint8_t *buf = malloc(n + 1);
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	FILE *f = fopen(path, "we");

	cr_assert(buf != NULL && f != NULL);
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = (uint8_t)(x >> 32);
	}
	cr_assert_eq(fwrite(buf, 1, n, f), n);
	cr_assert_eq(fclose(f), 0);
}

/* Entries in the current folder. */
static size_t
entries(void)
{
	DIR *d = opendir(".");
	size_t n = 0;

	cr_assert_not_null(d);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n - 2;
}

static const struct mfs_key model_key = { { 1, 2, 3 } };
static const struct mfs_key content_key = { { 9, 8, 7 } };

/* Pack file "f" as model m into "out". */
static enum mfs_code
pack_with(bool encrypt, void (*between)(void *arg, const char *path), void *arg, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *s = NULL;
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autoinputs struct mfs_inputs in = { 0 };
	char *args[] = { (char[]){ "f" } };
	struct mfs_pack p = {
		.model_id = "m", .version = "1.0.0", .variant = "default", .release = 1, .key_epoch = 1,
		.n_keys = 1, .sign = true, .model_keys = &model_key, .n_model_keys = encrypt ? 1 : 0,
		.inputs = &in, .out = "out", .quiet = true, .between = between, .arg = arg,
	};

	cr_assert_eq(mfs_signer_generate(MFS_SIGNER_ED25519, "test key", &s, err), MFS_OK, "%s", err->msg);
	cr_assert_eq(mfs_inputs_gather(args, 1, NULL, NULL, &in, err), MFS_OK, "%s", err->msg);
	p.keys = &s;
	return mfs_pack(&p, &m, err);
}

/* ---- files that change -------------------------------------------------------------------- */

struct change {
	off_t at;      /* byte to change, or -1 */
	off_t size;    /* new size, or -1 */
	int calls;
};

/* Changes the file behind the packer's back and puts its times back, so that only the bytes tell. */
static void
change_file(void *arg, const char *path)
{
	struct change *c = arg;
	struct timespec times[2];
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t b;

	c->calls++;
	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	if (c->at >= 0) {
		cr_assert_eq(pread(fd, &b, 1, c->at), 1);
		b ^= 0x40;
		cr_assert_eq(pwrite(fd, &b, 1, c->at), 1);
	}
	if (c->size >= 0)
		cr_assert_eq(ftruncate(fd, c->size), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	cr_assert_eq(futimens(fd, times), 0);
	(void)close(fd);
}

Test(publisher, other_bytes_between_the_passes_are_noticed_and_nothing_is_left)
{
	static const off_t where[] = { 0, 131071, 1048575, 1048576, 3000000, 5242879 };

	file_make("f", 5242880, 1);
	for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		struct change c = { where[i], -1, 0 };
		struct mfs_err err = MFS_ERR_INIT;

		cr_assert_eq(pack_with(true, change_file, &c, &err), MFS_IO);
		cr_assert_eq(c.calls, 1);
		cr_assert_not_null(strstr(err.msg, "two readings differ"), "%s", err.msg);
		cr_assert_eq(entries(), 1, "something besides the input is left");
	}
}

Test(publisher, a_small_file_that_changes_is_noticed_too)
{
	struct change c = { 2, -1, 0 };
	struct mfs_err err = MFS_ERR_INIT;

	file_make("f", 5, 1);
	cr_assert_eq(pack_with(true, change_file, &c, &err), MFS_IO);
	cr_assert_eq(entries(), 1);
}

Test(publisher, another_size_between_the_passes_is_noticed)
{
	static const off_t sizes[] = { 0, 1, 2999999, 3000001, 9000000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct change c = { -1, sizes[i], 0 };
		struct mfs_err err = MFS_ERR_INIT;

		file_make("f", 3000000, 1);
		cr_assert_eq(pack_with(true, change_file, &c, &err), MFS_IO, "size %lld", (long long)sizes[i]);
		cr_assert_eq(entries(), 1);
	}
}

Test(publisher, an_unchanged_file_packs_after_the_same_hook)
{
	struct change c = { -1, -1, 0 };
	struct mfs_err err = MFS_ERR_INIT;

	file_make("f", 3000000, 1);
	cr_assert_eq(pack_with(true, change_file, &c, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(c.calls, 1);
	cr_assert_eq(entries(), 2);
}

Test(publisher, a_size_that_differs_from_the_walk_is_noticed)
{
	MFS_CLEANUP(mfs_cleanup_sealer) struct mfs_sealer *s = NULL;
	MFS_CLEANUP(mfs_cleanup_outdir) struct mfs_outdir *out = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_seal_job job = { .path = "f", .name = "f", .model_id = "m", .size = 11, .chunk_size = 65536 };
	struct mfs_file f;

	file_make("f", 10, 1);
	cr_assert_eq(mfs_sealer_new(&s, &err), MFS_OK);
	cr_assert_eq(mfs_outdir_create("out", &out, &err), MFS_OK, "%s", err.msg);
	job.out = out;
	cr_assert_eq(mfs_seal_file(s, &job, &f, &err), MFS_IO);
}

/* ---- sealing ---------------------------------------------------------------------------------- */

/* Seal "f" under the given names and return the table entry of its chunk 0 and the file's record. */
static void
seal_one(const char *model_id, const char *name, uint32_t chunk_size, enum mfs_cipher cipher, struct mfs_file *f,
	uint8_t stored[64])
{
	MFS_CLEANUP(mfs_cleanup_sealer) struct mfs_sealer *s = NULL;
	MFS_CLEANUP(mfs_cleanup_outdir) struct mfs_outdir *out = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_seal_job job = { .path = "f", .name = name, .model_id = model_id, .chunk_size = chunk_size,
		.cipher = cipher, .content_key = &content_key };
	mfs_autoclose int fd = -1;
	char path[128];
	struct stat st;

	cr_assert_eq(stat("f", &st), 0);
	job.size = (uint64_t)st.st_size;
	cr_assert_eq(mfs_sealer_new(&s, &err), MFS_OK);
	cr_assert_eq(mfs_outdir_create("sealed", &out, &err), MFS_OK, "%s", err.msg);
	job.out = out;
	cr_assert_eq(mfs_seal_file(s, &job, f, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(path, sizeof(path), "%s/payload/%s", out->tmp, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && mfs_pread_full(fd, stored, 64, 0) == 0);
}

/*
 * Formats 4: no (key, nonce) ever covers two contents, whoever packs what with the content key.
 * Every pair below differs in one of content, name, model, chunk size and cipher: file keys must
 * all differ. The same everything: the same bytes.
 */
Test(publisher, one_content_key_never_repeats_a_nonce_over_other_bytes)
{
	static const struct {
		const char *model, *name;
		uint32_t chunk;
		enum mfs_cipher cipher;
		unsigned content;
	} cases[] = {
		{ "m", "a", 65536, MFS_CIPHER_AES_256_GCM, 1 }, { "m", "a", 65536, MFS_CIPHER_AES_256_GCM, 2 },
		{ "m", "b", 65536, MFS_CIPHER_AES_256_GCM, 1 }, { "n", "a", 65536, MFS_CIPHER_AES_256_GCM, 1 },
		{ "m", "a", 131072, MFS_CIPHER_AES_256_GCM, 1 }, { "m", "a", 65536, MFS_CIPHER_CHACHA20_POLY1305, 1 },
		{ "m", "aa", 65536, MFS_CIPHER_AES_256_GCM, 1 }, { "ma", "a", 65536, MFS_CIPHER_AES_256_GCM, 1 },
	};
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	struct mfs_key keys[N];
	uint8_t stored[N][64], again[64];
	struct mfs_err err = MFS_ERR_INIT;

	for (size_t i = 0; i < N; i++) {
		struct mfs_file f, g;

		file_make("f", 200000, 7);
		if (cases[i].content == 2) { /* only the last byte differs: chunk 0 is the same plaintext */
			struct change c = { 199999, -1, 0 };

			change_file(&c, "f");
		}
		seal_one(cases[i].model, cases[i].name, cases[i].chunk, cases[i].cipher, &f, stored[i]);
		seal_one(cases[i].model, cases[i].name, cases[i].chunk, cases[i].cipher, &g, again);
		cr_assert_eq(memcmp(stored[i], again, 64), 0);
		cr_assert(mfs_sha256_equal(&f.sha256, &g.sha256) && mfs_sha256_equal(&f.salt, &g.salt));
		cr_assert_eq(mfs_file_key(&content_key, &f.salt, cases[i].cipher, cases[i].model, cases[i].name,
				     cases[i].chunk, &keys[i], &err),
			MFS_OK);
		for (size_t k = 0; k < i; k++) {
			cr_assert_neq(memcmp(keys[k].b, keys[i].b, MFS_KEY_LEN), 0, "%zu and %zu share a key", k, i);
			cr_assert_neq(memcmp(stored[k], stored[i], 64), 0, "%zu and %zu share ciphertext", k, i);
		}
	}
}

static void
open_again(const struct mfs_file *f, const char *payload, const char *table_path)
{
	MFS_CLEANUP(mfs_cleanup_table) struct mfs_table *t = NULL;
	MFS_CLEANUP(mfs_cleanup_opener) struct mfs_opener *o = NULL;
	mfs_autofree uint8_t *table = NULL, *buf = malloc(f->chunk_size), *plain = malloc(f->chunk_size);
	mfs_autoclose int fd = open(payload, O_RDONLY | O_CLOEXEC), in = open("f", O_RDONLY | O_CLOEXEC);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_key key;
	size_t len = 0;

	cr_assert(fd >= 0 && in >= 0 && buf != NULL && plain != NULL);
	if (f->chunks > 1)
		cr_assert_eq(mfs_file_read(AT_FDCWD, table_path, 1 << 20, &table, &len, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_table_load(f, MFS_SPAN(table, len), &t, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_file_key(&content_key, &f->salt, MFS_CIPHER_AES_256_GCM, "m", "f", f->chunk_size, &key, &err),
		MFS_OK);
	cr_assert_eq(mfs_opener_new(MFS_CIPHER_AES_256_GCM, &key, &o, &err), MFS_OK);
	for (uint64_t i = 0; i < f->chunks; i++) {
		const uint32_t n = mfs_chunk_length(f, i);
		const off_t at = (off_t)(i * f->chunk_size);

		cr_assert_eq(mfs_pread_full(fd, buf, n, at), 0);
		cr_assert_eq(mfs_chunk_open(o, t, i, MFS_SPAN(buf, n), buf, &err), MFS_OK, "%s", err.msg);
		cr_assert_eq(mfs_pread_full(in, plain, n, at), 0);
		cr_assert_eq(memcmp(buf, plain, n), 0, "chunk %llu", (unsigned long long)i);
	}
}

Test(publisher, what_is_sealed_opens_again_at_every_boundary)
{
	static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 1048575, 1048576, 1048577, 3 * 1048576 + 17 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		MFS_CLEANUP(mfs_cleanup_sealer) struct mfs_sealer *s = NULL;
		MFS_CLEANUP(mfs_cleanup_outdir) struct mfs_outdir *out = NULL;
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_seal_job job = { .path = "f", .name = "f", .model_id = "m", .size = sizes[i],
			.chunk_size = 65536, .cipher = MFS_CIPHER_AES_256_GCM, .content_key = &content_key };
		struct mfs_file f;
		char payload[128], table[128];

		file_make("f", sizes[i], (unsigned)i);
		cr_assert_eq(mfs_sealer_new(&s, &err), MFS_OK);
		cr_assert_eq(mfs_outdir_create("sealed", &out, &err), MFS_OK, "%s", err.msg);
		job.out = out;
		cr_assert_eq(mfs_seal_file(s, &job, &f, &err), MFS_OK, "%s", err.msg);
		(void)snprintf(payload, sizeof(payload), "%s/payload/f", out->tmp);
		(void)snprintf(table, sizeof(table), "%s/chunks/f", out->tmp);
		cr_assert_eq(access(table, F_OK) == 0, f.chunks > 1);
		open_again(&f, payload, table);
	}
}

/* ---- lanes -------------------------------------------------------------------------------------- */

struct lane_test {
	uint64_t order[2][200];
	size_t n[2];
	uint64_t fail_at, fail_also;
};

static enum mfs_code
lane_work(void *arg, struct mfs_lanes *l, unsigned worker, uint64_t batch, struct mfs_err *err)
{
	struct lane_test *t = arg;

	cr_assert_lt(worker, MFS_LANES_MAX);
	if (batch == t->fail_at || batch == t->fail_also)
		return mfs_fail(err, MFS_IO, "batch %llu", (unsigned long long)batch);
	for (int stage = 0; stage < MFS_STAGES; stage++) {
		if (!mfs_lane_turn(l, (enum mfs_lane_stage)stage, batch))
			return MFS_OK;
		t->order[stage][t->n[stage]++] = batch;
		mfs_lane_pass(l, (enum mfs_lane_stage)stage);
	}
	return MFS_OK;
}

Test(publisher, stages_run_in_order_on_many_threads)
{
	struct lane_test t = { .fail_at = UINT64_MAX, .fail_also = UINT64_MAX };
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_lanes_run(MFS_LANES_MAX, 200, lane_work, &t, &err), MFS_OK);
	for (int s = 0; s < 2; s++) {
		cr_assert_eq(t.n[s], 200);
		for (uint64_t i = 0; i < 200; i++)
			cr_assert_eq(t.order[s][i], i);
	}
}

Test(publisher, the_earliest_failure_stops_all_and_is_reported)
{
	for (unsigned workers = 1; workers <= MFS_LANES_MAX; workers++) {
		struct lane_test t = { .fail_at = 50, .fail_also = 51 };
		struct mfs_err err = MFS_ERR_INIT;

		cr_assert_eq(mfs_lanes_run(workers, 200, lane_work, &t, &err), MFS_IO);
		cr_assert_leq(t.n[1], 50);
		cr_assert_str_eq(err.msg, "batch 50");
	}
}

Test(publisher, a_signal_stops_packing_and_leaves_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;

	file_make("f", 3000000, 1);
	mfs_interrupt(15);
	cr_assert_eq(pack_with(true, NULL, NULL, &err), MFS_IO);
	cr_assert_eq(mfs_interrupted(), 15);
	cr_assert_eq(entries(), 1);
}

/* ---- meta files ----------------------------------------------------------------------------------- */

static void
meta_refused(const char *text, size_t len, const char *place, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_meta m;
	char want[64];

	(void)snprintf(want, sizeof(want), "meta.yaml:%s: ", place);
	cr_assert_neq(mfs_meta_parse("meta.yaml", MFS_SPAN(text, len), &m, &err), MFS_OK, "%s", text);
	cr_assert_eq(strncmp(err.msg, want, strlen(want)), 0, "wanted %s, got: %s", want, err.msg);
	cr_assert_not_null(strstr(err.msg, word), "no '%s' in: %s", word, err.msg);
	cr_assert_null(m.fields);
}

#define REFUSED(text, place, word) meta_refused(text, sizeof(text) - 1, place, word)

Test(publisher, meta_files_are_strict)
{
	char deep[64] = "health: ";

	REFUSED("surprise: 1\n", "1:1", "unknown key");
	REFUSED("compat: {memory: 1, memory: 2}\n", "1:21", "already in line 1");
	REFUSED("compat: {apps: {name: x}}\n", "1:16", "list");
	REFUSED("compat: {apps: [{nam: x}]}\n", "1:18", "unknown key");
	REFUSED("compat: {memory: -1}\n", "1:18", "size");
	REFUSED("compat: {memory: 99999999TiB}\n", "1:18", "size");
	REFUSED("compat: {memory: 99999999999999999999}\n", "1:18", "size");
	REFUSED("compat: {depends: [{model_id: a, min_release: x}]}\n", "1:47", "integer");
	REFUSED("compat: {input_schema_sha256: 00}\n", "1:31", "SHA-256");
	REFUSED("preprocess: {mean: 12345678901234567890}\n", "1:20", "2^53-1");
	REFUSED("preprocess: {\"a\\tb\": 1}\n", "1:14", "ASCII");
	REFUSED("preprocess: {a: \"x\\ty\"}\n", "1:17", "control");
	REFUSED("preprocess: \"a\\0b\"\n", "1:13", "NUL");
	REFUSED("preprocess: &x 1\n", "1:13", "anchors");
	REFUSED("preprocess: !!int 1\n", "1:13", "tags");
	REFUSED("preprocess: *x\n", "1:13", "alias");
	REFUSED("? [a]\n: b\n", "1:3", "key");
	REFUSED("health: {}\n---\nhealth: {}\n", "2:1", "second document");
	REFUSED("- a\n", "1:1", "keys and values");
	REFUSED("health: {x: 1}\n", "1:9", "either vectors or file");
	REFUSED("health: {vectors: [{name: a, output: {s: {value: x}}}]}\n", "1:9", "vectors[0].output.s.value");
	REFUSED("health: {a: \xff}\n", "1:1", "UTF-8");
	memset(deep + 8, '[', 40);
	meta_refused(deep, 48, "1:21", "deep");
}

Test(publisher, meta_files_mean_what_they_say)
{
	static const char text[] = "compat:\n  memory: 8 GB\n  labels: {a: x}\npreprocess: [1, 1.5, '1', true, null, yes]\n"
				   "files:\n  a/b: {executable: true}\n";
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autometa struct mfs_meta m = { 0 };
	mfs_autometa struct mfs_meta none = { 0 };
	mfs_autofree char *json = NULL;
	size_t len;

	cr_assert_eq(mfs_meta_parse("meta.yaml", MFS_SPAN(text, sizeof(text) - 1), &m, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_json_canonical(m.fields, &json, &len, &err), MFS_OK);
	cr_assert_str_eq(json, "{\"compat\":{\"labels\":{\"a\":[\"x\"]},\"memory\":8000000000},"
			       "\"preprocess\":[1,\"1.5\",\"1\",true,null,\"yes\"]}");
	cr_assert_eq(m.n_files, 1);
	cr_assert_str_eq(m.files[0].name, "a/b");
	cr_assert(m.files[0].executable && !m.files[0].has_media);
	cr_assert_eq(mfs_meta_parse("empty", MFS_SPAN("", 0), &none, &err), MFS_OK);
	cr_assert_not_null(none.fields);
}

Test(publisher, media_is_guessed_by_name_then_by_content)
{
	static const uint8_t st[] = { 60, 0, 0, 0, 0, 0, 0, 0, '{', '"' };

	cr_assert_eq(mfs_media_guess("a/b.ONNX", MFS_SPAN("GGUF", 4)), MFS_MEDIA_ONNX);
	cr_assert_eq(mfs_media_guess("a.gguf/model", MFS_SPAN("", 0)), MFS_MEDIA_OTHER);
	cr_assert_eq(mfs_media_guess("model", MFS_SPAN("GGUF\3\0", 6)), MFS_MEDIA_GGUF);
	cr_assert_eq(mfs_media_guess("model.bin", MFS_SPAN(st, sizeof(st))), MFS_MEDIA_SAFETENSORS);
	cr_assert_eq(mfs_media_guess("model.bin", MFS_SPAN("\34\0\0\0TFL3", 8)), MFS_MEDIA_TFLITE);
	cr_assert_eq(mfs_media_guess("model.bin", MFS_SPAN("GGU", 3)), MFS_MEDIA_OTHER);
}

Test(publisher, what_a_file_is_said_to_be_and_how_it_begins_are_compared)
{
	static const uint8_t st[] = { 60, 0, 0, 0, 0, 0, 0, 0, '{', '"' };
	static const uint8_t onnx[] = { 0x08, 7, 0x12, 2, 'm', 'f' }, other[] = { 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };

	cr_assert(mfs_media_fits(MFS_MEDIA_GGUF, MFS_SPAN("GGUF\3\0", 6), 100));
	cr_assert(!mfs_media_fits(MFS_MEDIA_GGUF, MFS_SPAN("GGU", 3), 3));
	cr_assert(mfs_media_fits(MFS_MEDIA_TFLITE, MFS_SPAN("\34\0\0\0TFL3", 8), 100));
	cr_assert(!mfs_media_fits(MFS_MEDIA_TFLITE, MFS_SPAN("\34\0\0\0TFL", 7), 7));
	cr_assert(mfs_media_fits(MFS_MEDIA_SAFETENSORS, MFS_SPAN(st, sizeof(st)), 68));
	cr_assert(!mfs_media_fits(MFS_MEDIA_SAFETENSORS, MFS_SPAN(st, sizeof(st)), 67));
	cr_assert(!mfs_media_fits(MFS_MEDIA_SAFETENSORS, MFS_SPAN(st, 7), 7));
	cr_assert(mfs_media_fits(MFS_MEDIA_ONNX, MFS_SPAN(onnx, sizeof(onnx)), 100));
	cr_assert(!mfs_media_fits(MFS_MEDIA_ONNX, MFS_SPAN(other, sizeof(other)), 100));
	cr_assert(!mfs_media_fits(MFS_MEDIA_ONNX, MFS_SPAN(NULL, 0), 0));
	cr_assert(mfs_media_fits(MFS_MEDIA_TEXT, MFS_SPAN(other, sizeof(other)), 100));
	cr_assert(mfs_media_fits(MFS_MEDIA_OTHER, MFS_SPAN(NULL, 0), 0));
}

/* ---- signatures -------------------------------------------------------------------------------------- */

Test(publisher, a_key_that_devices_cannot_use_is_refused)
{
	struct mfs_signer *s = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(system("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null && "
			    "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem && "
			    "openssl pkey -in p384.pem -pubout -out p384.pub.pem"),
		0);
	cr_assert_eq(mfs_signer_load("rsa.pem", NULL, &s, &err), MFS_CONFIG_INVALID);
	cr_assert_eq(mfs_signer_load("p384.pem", NULL, &s, &err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(err.msg, "P-256"), "%s", err.msg);
	cr_assert_eq(mfs_signer_load("p384.pub.pem", NULL, &s, &err), MFS_CONFIG_INVALID); /* not a private key */
	cr_assert_eq(mfs_signer_load_public("p384.pub.pem", &s, &err), MFS_CONFIG_INVALID);
	cr_assert_eq(mfs_signer_load("nowhere.pem", NULL, &s, &err), MFS_KEY_UNAVAILABLE);
	cr_assert_null(s);
}

Test(publisher, store_uris_name_keys_too)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *a = NULL, *b = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char *pem, uri[128];
	size_t len;

	cr_assert_eq(mfs_signer_generate(MFS_SIGNER_P256, "test key", &a, &err), MFS_OK);
	cr_assert_eq(mfs_signer_private_pem(a, NULL, &pem, &len, &err), MFS_OK);
	cr_assert_eq(mfs_file_create("k.pem", pem, len, 0600, &err), MFS_OK);
	mfs_secret_free(pem, len);
	(void)snprintf(uri, sizeof(uri), "file:%s/k.pem", root);
	cr_assert_eq(mfs_signer_load(uri, NULL, &b, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(a), mfs_signer_key_id(b)));
}
