/* SPDX-License-Identifier: Apache-2.0 */
/* Installing bundles: every byte is verified as it is copied, and a refusal leaves nothing behind. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

static struct device d;

static void
setup(void)
{
	device_make(&d, "");
}

static void
teardown(void)
{
	device_free(&d);
}

TestSuite(install, .init = setup, .fini = teardown);

static const struct mk_file three[] = {
	{ "config.json", 300, 3 }, { "empty", 0, 0 }, { "weights/model.bin", 3 * 65536 + 17, 4 },
};
#define THREE .files = three, .n_files = 3

/* A refused installation leaves no manifest, no temporary, and no activation. */
static void
refused(enum mfs_code code, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;
	enum mfs_code got = device_copy(&d, "b", &id, &err);

	cr_assert_eq(got, code, "%s: %s", mfs_code_name(got), err.msg);
	cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
	cr_assert_not_null(strstr(err.msg, "b: "), "the bundle is not named: %s", err.msg);
	cr_assert(mfs_sha256_is_zero(&id));
	cr_assert_eq(scratch_count(d.store_fd, "manifests"), 0);
	cr_assert_eq(scratch_count(d.store_fd, "staging"), 0);
}

static void
bundle(const struct mk_bundle *b)
{
	device_bundle(&d, b, "b", NULL);
}

/* Replace text in a file of the bundle. */
static void
edit(const char *path, const char *from, const char *to)
{
	size_t n;
	uint8_t *bytes = scratch_read(d.root_fd, path, &n);
	char *at = strstr((char *)bytes, from);
	mfs_autofree char *out = NULL;
	int len;

	cr_assert_not_null(at, "%s not in %s", from, path);
	len = asprintf(&out, "%.*s%s%s", (int)(at - (char *)bytes), bytes, to, at + strlen(from));
	scratch_write(d.root_fd, path, out, (size_t)len);
	free(bytes);
}

static void
truncate_to(const char *path, off_t n)
{
	int fd = openat(d.root_fd, path, O_WRONLY | O_CLOEXEC);

	cr_assert(fd >= 0 && ftruncate(fd, n) == 0);
	(void)close(fd);
}

Test(install, plain_and_encrypted_bundles_arrive_whole)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		struct mk_bundle b = { THREE, .version = encrypted ? "2.0.0" : "1.0.0", .release = encrypted + 1,
			.model_key = encrypted ? &d.model_key : NULL };
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_sha256 want, id;

		device_bundle(&d, &b, encrypted ? "enc" : "plain", &want);
		cr_assert_eq(device_copy(&d, encrypted ? "enc" : "plain", &id, &err), MFS_OK, "%s", err.msg);
		cr_assert(mfs_sha256_equal(&want, &id));
		cr_assert_eq(scratch_count(d.store_fd, "staging"), 0);
		device_open(&d);
		cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
		cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_OK, "%s", err.msg);
		device_close(&d);
	}
}

Test(install, a_flipped_bit_anywhere_is_refused)
{
	static const struct {
		const char *path;
		int64_t off;
		enum mfs_code code;
		const char *word;
	} cases[] = {
		{ "b/payload/weights/model.bin", 0, MFS_HASH_MISMATCH, "payload/weights/model.bin: " },
		{ "b/payload/weights/model.bin", 65536, MFS_HASH_MISMATCH, "chunk 1" },
		{ "b/payload/weights/model.bin", -1, MFS_HASH_MISMATCH, "chunk 3" },
		{ "b/payload/config.json", 299, MFS_HASH_MISMATCH, "payload/config.json" },
		{ "b/chunks/weights/model.bin", 0, MFS_HASH_MISMATCH, "chunks/weights/model.bin" },
		{ "b/chunks/weights/model.bin", 40, MFS_HASH_MISMATCH, "chunks/weights/model.bin" },
		{ "b/chunks/weights/model.bin", -1, MFS_HASH_MISMATCH, "chunks/weights/model.bin" },
		{ "b/manifest.json", 0, MFS_SIGNATURE_INVALID, "" },
		{ "b/manifest.json", -20, MFS_SIGNATURE_INVALID, "" },
		{ "b/signature.sig", 0, MFS_SIGNATURE_INVALID, "" },
		{ "b/signature.sig", 63, MFS_SIGNATURE_INVALID, "" },
	};

	for (int encrypted = 0; encrypted < 2; encrypted++) {
		struct mk_bundle b = { THREE, .model_key = encrypted ? &d.model_key : NULL };

		bundle(&b);
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct mfs_err err = MFS_ERR_INIT;
			struct mfs_sha256 id;
			enum mfs_code got;

			mk_flip(d.root_fd, cases[i].path, cases[i].off);
			got = device_copy(&d, "b", &id, &err);
			/* A manifest that is no JSON any more has no key ids: that is malformed. */
			cr_assert(got == cases[i].code || (cases[i].code == MFS_SIGNATURE_INVALID && got == MFS_MALFORMED),
				"%s %lld: %s: %s", cases[i].path, (long long)cases[i].off, mfs_code_name(got), err.msg);
			cr_assert_not_null(strstr(err.msg, cases[i].word), "%s", err.msg);
			cr_assert_eq(scratch_count(d.store_fd, "manifests"), 0);
			cr_assert_eq(scratch_count(d.store_fd, "staging"), 0);
			mk_flip(d.root_fd, cases[i].path, cases[i].off);
		}
		device_unbundle(&d, "b");
	}
}

Test(install, a_field_replaced_is_refused)
{
	bundle(&(struct mk_bundle){ THREE });
	edit("b/manifest.json", "\"release\":1", "\"release\":2");
	refused(MFS_SIGNATURE_INVALID, "");
}

Test(install, unsigned_and_foreign_bundles_are_refused)
{
	struct mk_signer *thief = mk_signer_new();

	bundle(&(struct mk_bundle){ THREE });
	cr_assert_eq(unlinkat(d.root_fd, "b/signature.sig", 0), 0);
	refused(MFS_SIGNATURE_INVALID, "");
	device_unbundle(&d, "b");
	mk_bundle(thief, &(struct mk_bundle){ THREE }, d.root_fd, "b", NULL);
	refused(MFS_KEY_UNTRUSTED, "");
	device_unbundle(&d, "b");
	/* A trusted key, but another epoch than the configuration gives it. */
	bundle(&(struct mk_bundle){ THREE, .epoch = 2 });
	refused(MFS_KEY_UNTRUSTED, "");
	mk_signer_free(thief);
}

Test(install, files_cut_grown_missing_surplus_or_swapped_are_refused)
{
	static const struct mk_file other[] = { { "weights/model.bin", 3 * 65536 + 17, 99 } };

	bundle(&(struct mk_bundle){ THREE });
	truncate_to("b/payload/weights/model.bin", 3 * 65536 + 16);
	refused(MFS_HASH_MISMATCH, "model.bin");
	truncate_to("b/payload/weights/model.bin", 3 * 65536 + 18);
	refused(MFS_HASH_MISMATCH, "model.bin");
	device_unbundle(&d, "b");

	bundle(&(struct mk_bundle){ THREE });
	cr_assert_eq(unlinkat(d.root_fd, "b/payload/config.json", 0), 0);
	refused(MFS_HASH_MISMATCH, "config.json");
	device_unbundle(&d, "b");

	bundle(&(struct mk_bundle){ THREE });
	cr_assert_eq(unlinkat(d.root_fd, "b/chunks/weights/model.bin", 0), 0);
	refused(MFS_HASH_MISMATCH, "model.bin");
	device_unbundle(&d, "b");

	bundle(&(struct mk_bundle){ THREE });
	scratch_write(d.root_fd, "b/payload/extra", "x", 1);
	refused(MFS_MALFORMED, "extra");
	cr_assert_eq(renameat(d.root_fd, "b/payload/extra", d.root_fd, "b/chunks/config.json"), 0);
	refused(MFS_MALFORMED, "config.json");
	device_unbundle(&d, "b");

	bundle(&(struct mk_bundle){ THREE });
	device_bundle(&d, &(struct mk_bundle){ .files = other, .n_files = 1, .version = "9.0.0" }, "other", NULL);
	cr_assert_eq(renameat(d.root_fd, "other/payload/weights/model.bin", d.root_fd, "b/payload/weights/model.bin"), 0);
	refused(MFS_HASH_MISMATCH, "chunk 0");
	cr_assert_eq(renameat(d.root_fd, "other/chunks/weights/model.bin", d.root_fd, "b/chunks/weights/model.bin"), 0);
	refused(MFS_HASH_MISMATCH, "chunks/weights/model.bin");
}

Test(install, links_and_special_files_are_refused)
{
	bundle(&(struct mk_bundle){ THREE });
	cr_assert_eq(renameat(d.root_fd, "b/payload/config.json", d.root_fd, "config.json"), 0);
	cr_assert_eq(symlinkat("../../config.json", d.root_fd, "b/payload/config.json"), 0);
	refused(MFS_MALFORMED, "config.json");
	cr_assert_eq(unlinkat(d.root_fd, "b/payload/config.json", 0), 0);
	cr_assert_eq(mkfifoat(d.root_fd, "b/payload/config.json", 0600), 0);
	refused(MFS_MALFORMED, "config.json");
	cr_assert_eq(unlinkat(d.root_fd, "b/payload/config.json", 0), 0);
	cr_assert_eq(mkdirat(d.root_fd, "b/payload/config.json", 0700), 0);
	refused(MFS_MALFORMED, "config.json");
}

Test(install, another_model_is_not_selected)
{
	bundle(&(struct mk_bundle){ THREE, .model_id = "unknown" });
	refused(MFS_NOT_SELECTED, "unknown");
}

Test(install, the_wrong_model_key_copies_nothing)
{
	struct mfs_key foreign = { { 7 } }, content = { { 8 } };

	bundle(&(struct mk_bundle){ THREE, .model_key = &foreign, .content_key = &content });
	refused(MFS_KEY_UNAVAILABLE, "");
	cr_assert_eq(device_blobs(&d), 0, "something was copied");
	device_unbundle(&d, "b");
}

static enum mfs_code
decide_no(void *user, size_t model, const struct mfs_manifest *m, struct mfs_err *err)
{
	(void)user;
	(void)model;
	return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "version %s refused", m->version);
}

Test(install, a_refusal_by_the_engine_copies_nothing)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	bundle(&(struct mk_bundle){ THREE });
	d.decide = decide_no;
	cr_assert_eq(device_copy(&d, "b", &id, &err), MFS_ROLLBACK_ATTEMPT, "%s", err.msg);
	cr_assert_eq(device_blobs(&d), 0, "something was copied");
}

Test(install, an_incompatible_version_copies_nothing)
{
	bundle(&(struct mk_bundle){ THREE, .compat = "{\"platforms\":[\"plan9/mips\"]}" });
	refused(MFS_INCOMPATIBLE_RUNTIME, "platforms");
	cr_assert_eq(device_blobs(&d), 0, "something was copied");
}

Test(install, a_damaged_blob_in_the_store_is_replaced)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;
	char path[200];

	device_bundle(&d, &(struct mk_bundle){ THREE, .model_key = &d.model_key }, "b", NULL);
	cr_assert_eq(device_copy(&d, "b", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_blobs(&d), 4);
	for (unsigned i = 0; i < 4; i++) {
		device_blob_path(&d, i, path, sizeof(path));
		if (device_blob_size(&d, path) == 0)
			continue;
		mk_flip(d.store_fd, path, -1);
	}
	device_open(&d);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_HASH_MISMATCH, "%s", err.msg);
	device_close(&d);
	cr_assert_eq(device_copy(&d, "b", &id, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	device_close(&d);
}

Test(install, a_bundle_in_a_seed_folder_is_used_in_place)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;
	int seed = scratch_folder(d.root_fd, "seed");

	device_bundle(&d, &(struct mk_bundle){ THREE, .model_key = &d.model_key }, "seed/det", NULL);
	scratch_write(seed, "notes", "no bundle", 9);
	mfs_store_close(d.store);
	cr_assert_eq(mfs_store_open(d.store_fd, &seed, 1, &d.store, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_copy(&d, "seed/det", &id, &err), MFS_OK, "%s", err.msg);
	device_open(&d);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	device_close(&d);
	cr_assert_eq(device_blobs(&d), 0, "something was copied");
	/* Bytes of a seed are trusted as little as any others. */
	mk_flip(d.root_fd, "seed/det/payload/weights/model.bin", 70000);
	device_open(&d);
	cr_assert_eq(mfs_engine_verify(d.engine, 0, NULL, NULL, &err), MFS_HASH_MISMATCH, "%s", err.msg);
	device_close(&d);
	(void)close(seed);
}

Test(install, equal_files_are_stored_once)
{
	static const struct mk_file same[] = { { "a", 70000, 5 }, { "b", 70000, 5 } };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	device_bundle(&d, &(struct mk_bundle){ .files = same, .n_files = 2 }, "b", NULL);
	cr_assert_eq(device_copy(&d, "b", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_blobs(&d), 2, "a payload and a table");
}

Test(install, a_full_disk_leaves_nothing_half_installed)
{
	static const struct mk_file large[] = { { "model.bin", 3u << 20, 6 } };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	if (!device_small_store(&d, "size=1m"))
		cr_skip("mounting a tmpfs needs root: a full disk cannot be made");
	device_bundle(&d, &(struct mk_bundle){ .files = large, .n_files = 1 }, "b", NULL);
	cr_expect_eq(device_copy(&d, "b", &id, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	cr_expect_eq(scratch_count(d.store_fd, "staging"), 0);
	cr_expect_eq(scratch_count(d.store_fd, "manifests"), 0);
	cr_expect_eq(device_blobs(&d), 0);
	device_small_store_end(&d);
}
