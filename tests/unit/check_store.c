/* SPDX-License-Identifier: Apache-2.0 */
/* The store: a blob is there whole or not at all; nothing foreign is opened; gc keeps what it is told. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>

#include "cut.h"
#include "log.h"
#include "scratch.h"
#include "store.h"

static char root[256];
static int dir = -1;
static struct mfs_store *store;

static void
setup(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	mfs_log_open("check", MFS_LOG_ERR);
	dir = scratch_make(root, "check-store");
	cr_assert_eq(mfs_store_open(dir, NULL, 0, &store, &err), MFS_OK, "%s", err.msg);
}

static void
teardown(void)
{
	mfs_store_close(store);
	(void)close(dir);
	scratch_remove(root);
}

TestSuite(store, .init = setup, .fini = teardown);

static struct mfs_sha256
hash_of(const void *p, size_t n)
{
	struct mfs_sha256 h;

	cr_assert_eq(mfs_sha256(MFS_SPAN(p, n), &h, NULL), MFS_OK);
	return h;
}

static enum mfs_code
put_blob(const struct mfs_sha256 *hash, uint64_t size, const void *bytes, size_t n, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_put) struct mfs_put *p = NULL;
	enum mfs_code code;

	if ((code = mfs_put_begin(store, hash, size, &p, err)) != MFS_OK)
		return code;
	/* In odd pieces, so that holes are found across borders of writes. */
	for (size_t at = 0; at < n;) {
		size_t step = n - at < 5000 ? n - at : 5000;

		if ((code = mfs_put_write(p, (const uint8_t *)bytes + at, step, err)) != MFS_OK)
			return code;
		at += step;
	}
	return mfs_put_commit(p, err);
}

static struct mfs_sha256
put_ok(const void *bytes, size_t n)
{
	struct mfs_sha256 h = hash_of(bytes, n);
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(put_blob(&h, n, bytes, n, &err), MFS_OK, "%s", err.msg);
	return h;
}

static char *
path_of(const struct mfs_sha256 *h)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", MFS_HEX(h), MFS_HEX(h));
	return path;
}

Test(store, what_is_put_is_read_back)
{
	const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 300000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		mfs_autofree uint8_t *bytes = malloc(sizes[i] + 1), *back = malloc(sizes[i] + 1);
		struct mfs_sha256 h;
		struct stat st;
		int fd;

		for (size_t k = 0; k < sizes[i]; k++)
			bytes[k] = (uint8_t)(k * 7 + k / 4096);
		h = put_ok(bytes, sizes[i]);
		cr_assert(mfs_store_blob_has(store, &h, sizes[i]));
		cr_assert(!mfs_store_blob_has(store, &h, sizes[i] + 1));
		fd = mfs_store_blob_open(store, &h, 0);
		cr_assert(fd >= 0);
		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq(st.st_mode & 07777, 0640);
		cr_assert_eq((size_t)st.st_size, sizes[i]);
		cr_assert_eq(mfs_pread_full(fd, back, sizes[i], 0), 0);
		cr_assert_eq(memcmp(bytes, back, sizes[i]), 0);
		(void)close(fd);
	}
	cr_assert_eq(scratch_count(dir, "staging"), 0);
}

Test(store, zeros_become_holes)
{
	const size_t n = 8u << 20;
	uint8_t *bytes = calloc(1, n), *back = malloc(n);
	struct mfs_sha256 h;
	struct stat st;
	int fd;

	bytes[3u << 20] = 1; /* data between two holes, and a hole at the end */
	h = put_ok(bytes, n);
	fd = mfs_store_blob_open(store, &h, 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq((size_t)st.st_size, n);
	cr_assert((uint64_t)st.st_blocks * 512 < 1u << 20, "%lld blocks", (long long)st.st_blocks);
	cr_assert_eq(mfs_pread_full(fd, back, n, 0), 0);
	cr_assert_eq(memcmp(bytes, back, n), 0);
	(void)close(fd);
	free(bytes);
	free(back);
}

Test(store, wrong_bytes_leave_nothing)
{
	struct mfs_sha256 h = hash_of("right", 5);
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(put_blob(&h, 5, "wrong", 5, &err), MFS_HASH_MISMATCH);
	cr_assert_not_null(strstr(err.msg, MFS_HEX(&h)), "%s", err.msg);
	cr_assert_eq(put_blob(&h, 5, "righ", 4, &err), MFS_HASH_MISMATCH);
	cr_assert_eq(put_blob(&h, 4, "right", 5, &err), MFS_HASH_MISMATCH);
	cr_assert_eq(put_blob(&h, 6, "right", 5, &err), MFS_HASH_MISMATCH);
	cr_assert(!mfs_store_blob_has(store, &h, 5));
	cr_assert_eq(scratch_count(dir, "staging"), 0);
	cr_assert_eq(mfs_store_blob_open(store, &h, 0), -1);
	cr_assert_eq(errno, ENOENT);
}

Test(store, a_bad_blob_is_replaced)
{
	struct mfs_sha256 h = put_ok("right", 5);
	struct mfs_err err = MFS_ERR_INIT;
	uint8_t *back;
	size_t n;

	scratch_write(dir, path_of(&h), "wrong", 5);
	cr_assert_eq(put_blob(&h, 5, "right", 5, &err), MFS_OK, "%s", err.msg);
	back = scratch_read(dir, path_of(&h), &n);
	cr_assert_eq(memcmp(back, "right", 5), 0);
	free(back);
}

/* ---- power cuts ----------------------------------------------------------------------------------------- */

static int
put_one(void *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 h;

	(void)arg;
	return mfs_sha256(MFS_SPAN("power", 5), &h, NULL) != MFS_OK || put_blob(&h, 5, "power", 5, &err) != MFS_OK;
}

Test(store, a_cut_at_any_step_of_a_put_leaves_the_blob_whole_or_absent)
{
	struct mfs_sha256 h = hash_of("power", 5);
	struct mfs_err err = MFS_ERR_INIT;

	for (unsigned n = 1; n < 500; n++) {
		enum cut_result r;

		(void)unlinkat(dir, path_of(&h), 0);
		r = cut_run(put_one, NULL, n);
		if (r == CUT_UNAVAILABLE)
			cr_skip("ptrace is not permitted: power cuts cannot be made");
		cr_assert_neq(r, CUT_FAILED, "cut %u", n);
		if (mfs_store_blob_has(store, &h, 5)) {
			size_t len;
			mfs_autofree uint8_t *back = scratch_read(dir, path_of(&h), &len);

			cr_assert(len == 5 && memcmp(back, "power", 5) == 0, "cut %u", n);
		} else {
			cr_assert(!scratch_has(dir, path_of(&h)), "cut %u: neither whole nor absent", n);
		}
		/* The next holder of the lock clears away what was left. */
		cr_assert_eq(mfs_store_clean(store, &err), MFS_OK, "%s", err.msg);
		cr_assert_eq(scratch_count(dir, "staging"), 0);
		if (r == CUT_FINISHED) {
			cr_assert(n > 8, "only %u cuts", n);
			return;
		}
	}
	cr_assert_fail("it never finished");
}

Test(store, a_blob_is_on_disk_before_it_has_its_name)
{
	struct cut_steps s = { { 0 }, 0 };

	(void)put_ok("another of the same folder", 26);
	if (cut_trace(put_one, NULL, cut_step, &s) == CUT_UNAVAILABLE)
		cr_skip("ptrace is not permitted: the order of writes cannot be seen");
	/* Between the file and its name: the new folder of its first two digits, in its parent. */
	cr_assert_str_eq(s.text, "pffrf");
}

/* ---- a full disk ---------------------------------------------------------------------------------------- */

Test(store, a_full_disk_is_said_and_leaves_nothing)
{
	const size_t n = 3u << 20;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_store *small, *keep = store;
	mfs_autofree uint8_t *bytes = malloc(n);
	struct mfs_sha256 h;
	struct statvfs before, after;
	char path[300];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/small", root);
	cr_assert_eq(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=1m") != 0)
		cr_skip("mounting a tmpfs needs root: a full disk cannot be made");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(mfs_store_open(fd, NULL, 0, &small, &err), MFS_OK, "%s", err.msg);
	memset(bytes, 0x5a, n);
	h = hash_of(bytes, n);
	cr_assert_eq(statvfs(path, &before), 0);
	store = small;
	cr_expect_eq(put_blob(&h, n, bytes, n, &err), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	store = keep;
	cr_expect_eq(mfs_store_room(small, n, 0, &err), MFS_INSUFFICIENT_STORAGE);
	cr_expect_not_null(strstr(err.msg, "3.1 MiB needed"), "%s", err.msg);
	cr_expect_eq(mfs_store_room(small, 1000, 0, &err), MFS_OK, "%s", err.msg);
	cr_expect_eq(mfs_store_room(small, 1000, 100, &err), MFS_INSUFFICIENT_STORAGE);
	cr_expect_eq(mfs_store_room(small, 1000, 1u << 20, &err), MFS_INSUFFICIENT_STORAGE);
	cr_expect_eq(statvfs(path, &after), 0);
	cr_expect_eq(before.f_bfree, after.f_bfree, "something was left");
	cr_expect(!mfs_store_blob_has(small, &h, n));
	mfs_store_close(small);
	(void)close(fd);
	cr_expect_eq(umount(path), 0);
}

/* ---- what is no blob ------------------------------------------------------------------------------------- */

Test(store, links_and_special_files_are_not_opened)
{
	struct mfs_sha256 h = put_ok("target", 6);
	char kept[128];

	(void)snprintf(kept, sizeof(kept), "%s", path_of(&h));
	cr_assert_eq(renameat(dir, kept, dir, "elsewhere"), 0);
	cr_assert_eq(symlinkat("../../../elsewhere", dir, kept), 0);
	cr_assert_eq(mfs_store_blob_open(store, &h, 0), -1);
	cr_assert(!mfs_store_blob_has(store, &h, 6));
	cr_assert_eq(unlinkat(dir, kept, 0), 0);
	cr_assert_eq(mkfifoat(dir, kept, 0600), 0);
	cr_assert_eq(mfs_store_blob_open(store, &h, 0), -1);
	cr_assert_eq(unlinkat(dir, kept, 0), 0);
	cr_assert_eq(mkdirat(dir, kept, 0700), 0);
	cr_assert_eq(mfs_store_blob_open(store, &h, 0), -1);
	cr_assert(!mfs_store_blob_has(store, &h, 6));
}

Test(store, a_link_in_the_place_of_a_folder_is_not_followed)
{
	struct mfs_sha256 h = put_ok("target", 6);

	cr_assert_eq(renameat(dir, "blobs/sha256", dir, "moved"), 0);
	cr_assert_eq(symlinkat("../moved", dir, "blobs/sha256"), 0);
	cr_assert_eq(mfs_store_blob_open(store, &h, 0), -1);
	cr_assert_eq(errno, ELOOP);
}

Test(store, a_seed_is_asked_after_the_store)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 h = put_ok("seeded", 6);
	struct mfs_store *s;
	int fd, empty;

	empty = scratch_folder(dir, "empty");
	cr_assert_eq(mfs_store_open(empty, &dir, 1, &s, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_store_blob_has(s, &h, 6));
	fd = mfs_store_blob_open(s, &h, 0);
	cr_assert(fd >= 0);
	(void)close(fd);
	mfs_store_close(s);
	(void)close(empty);
}

/* ---- lock, gc, usage ---------------------------------------------------------------------------------------- */

Test(store, the_lock_is_held_by_one)
{
	struct mfs_err err = MFS_ERR_INIT;
	int a, b;

	cr_assert_eq(mfs_store_lock(store, &a, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_store_lock(store, &b, &err), MFS_CONDITION_UNMET);
	cr_assert_eq(b, -1);
	(void)close(a);
	cr_assert_eq(mfs_store_lock(store, &b, &err), MFS_OK, "%s", err.msg);
	(void)close(b);
}

static int
order(const void *a, const void *b)
{
	return memcmp(a, b, MFS_SHA256_LEN);
}

/* Files are stamped with the coarse clock: wait until it has moved past what was written. */
static void
tick(void)
{
	struct timespec a, b;

	/* Newer kernels stamp what was looked at with the fine one: the coarse one must have come that far. */
	(void)clock_gettime(CLOCK_REALTIME, &a);
	do
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &b);
	while (b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec <= a.tv_nsec));
}

Test(store, gc_removes_what_is_not_kept_and_nothing_else)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 h[20], keep[10];
	uint64_t freed, usage;
	size_t removed;

	for (int i = 0; i < 20; i++) {
		uint8_t bytes[5000];

		memset(bytes, i + 1, sizeof(bytes));
		h[i] = put_ok(bytes, sizeof(bytes));
	}
	for (int i = 0; i < 10; i++)
		keep[i] = h[2 * i];
	qsort(keep, 10, sizeof(keep[0]), order);
	scratch_write(dir, "blobs/sha256/notes", "mine", 4);
	tick();
	cr_assert_eq(mfs_store_gc(store, keep, 10, &freed, &removed, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(removed, 10);
	cr_assert(freed >= 10 * 5000);
	for (int i = 0; i < 20; i++)
		cr_assert_eq(mfs_store_blob_has(store, &h[i], 5000), i % 2 == 0, "blob %d", i);
	cr_assert(scratch_has(dir, "blobs/sha256/notes"));
	cr_assert_eq(mfs_store_usage(store, &usage, &err), MFS_OK);
	cr_assert_eq(usage, freed, "what is left is as large as what went");
	cr_assert_eq(mfs_store_gc(store, NULL, 0, &freed, &removed, &err), MFS_OK);
	cr_assert_eq(removed, 10);
}

/* ---- what was signed ------------------------------------------------------------------------------------------ */

static struct mfs_signed
signed_make(const char *manifest, const char *sig, unsigned extras)
{
	struct mfs_signed s = { .manifest = (uint8_t *)strdup(manifest), .manifest_len = strlen(manifest) };

	s.sig = (uint8_t *)strdup(sig);
	s.sig_len = strlen(sig);
	s.extra = calloc(extras + 1, sizeof(*s.extra));
	for (; s.n_extra < extras; s.n_extra++) {
		s.extra[s.n_extra].key_id.b[0] = (uint8_t)(s.n_extra + 1);
		s.extra[s.n_extra].bytes = (uint8_t *)strdup("extra");
		s.extra[s.n_extra].len = 5;
	}
	return s;
}

Test(store, what_was_signed_is_kept_as_received)
{
	struct mfs_signed s = signed_make("{\"a\":1}", "sig", 3), less = signed_make("{\"a\":1}", "other sig", 1), back;
	struct mfs_sha256 id = hash_of("{\"a\":1}", 7), none = { { 1 } }, *list;
	struct mfs_err err = MFS_ERR_INIT;
	size_t n;

	cr_assert_eq(mfs_signed_put(dir, &id, &s, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_signed_get(dir, &id, &back, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_signed_equal(&s, &back));
	cr_assert(!mfs_signed_equal(&less, &back));
	mfs_signed_free(&back);
	/* Put again with fewer signatures: the old ones do not stay. */
	cr_assert_eq(mfs_signed_put(dir, &id, &less, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_signed_get(dir, &id, &back, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_signed_equal(&less, &back));
	mfs_signed_free(&back);
	cr_assert_eq(mfs_signed_list(dir, &list, &n, &err), MFS_OK);
	cr_assert_eq(n, 1);
	cr_assert(mfs_sha256_equal(&list[0], &id));
	free(list);
	cr_assert_eq(mfs_signed_get(dir, &none, &back, &err), MFS_IO);
	cr_assert_eq(err.sys_errno, ENOENT);
	cr_assert_eq(mfs_signed_remove(dir, &none, &err), MFS_OK);
	cr_assert_eq(mfs_signed_remove(dir, &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(scratch_count(dir, "manifests"), 0);
	mfs_signed_free(&s);
	mfs_signed_free(&less);
}

Test(store, another_manifest_under_a_name_is_refused)
{
	struct mfs_signed s = signed_make("{\"a\":1}", "sig", 0), back;
	struct mfs_sha256 id = hash_of("{\"a\":1}", 7);
	struct mfs_err err = MFS_ERR_INIT;
	char path[128];

	cr_assert_eq(mfs_signed_put(dir, &id, &s, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(path, sizeof(path), "manifests/%s/manifest.json", MFS_HEX(&id));
	scratch_write(dir, path, "{\"a\":2}", 7);
	cr_assert_eq(mfs_signed_get(dir, &id, &back, &err), MFS_HASH_MISMATCH);
	cr_assert_null(back.manifest);
	cr_assert_eq(unlinkat(dir, path, 0), 0);
	cr_assert_eq(symlinkat("/etc/passwd", dir, path), 0);
	cr_assert_eq(mfs_signed_get(dir, &id, &back, &err), MFS_IO);
	/* Put again repairs either. */
	cr_assert_eq(mfs_signed_put(dir, &id, &s, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_signed_get(dir, &id, &back, &err), MFS_OK, "%s", err.msg);
	mfs_signed_free(&back);
	mfs_signed_free(&s);
}

/* ---- wrapped keys beside manifests ------------------------------------------------------------------------- */

static const struct mfs_sha256 mk = { { 0xa1 } }, ck = { { 0xc1 } }, ck2 = { { 0xc2 } };

static void
wrap_file(const char *path, size_t n)
{
	static const uint8_t bytes[64] = { 7 };
	mfs_autoclose int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && write(fd, bytes, n) == (ssize_t)n, "%s", path);
}

static size_t
wraps_found(uint8_t out[MFS_WRAP_LEN])
{
	size_t n = 0;

	for (size_t place = 0; mfs_store_wrap_next(store, &mk, &ck, &place, out); n++)
		;
	return n;
}

/* What an attacker with write access to the store may have left under that name. */
static void
stand(int kind, const char *folder, const char *path)
{
	cr_assert_eq(mfs_remove_all(dir, "grants"), 0);
	if (kind == 1)
		cr_assert_eq(symlinkat("staging", dir, "grants"), 0);
	if (kind > 1)
		cr_assert_eq(mkdirat(dir, "grants", 0700), 0);
	if (kind == 2)
		cr_assert_eq(symlinkat("../staging", dir, folder), 0);
	if (kind > 2)
		cr_assert_eq(mkdirat(dir, folder, 0700), 0);
	if (kind == 3)
		cr_assert_eq(symlinkat("/dev/zero", dir, path), 0);
	if (kind == 4)
		cr_assert_eq(mkfifoat(dir, path, 0600), 0);
	if (kind == 5)
		cr_assert_eq(mkdirat(dir, path, 0700), 0);
	if (kind == 6 || kind == 7)
		wrap_file(path, kind == 6 ? MFS_WRAP_LEN - 1 : MFS_WRAP_LEN + 1);
	if (kind == 8)
		wrap_file(path, MFS_WRAP_LEN); /* of the right length: the verifier says what it is worth */
}

Test(store, a_wrap_takes_the_place_of_whatever_stands_there)
{
	const uint8_t wrap[MFS_WRAP_LEN] = { 1, 2, 3 };
	char name[MFS_WRAP_PATH], path[MFS_WRAP_PATH + 8], folder[80];
	struct mfs_err err = MFS_ERR_INIT;
	uint8_t out[MFS_WRAP_LEN];

	mfs_wrap_path(name, &mk, &ck);
	cr_assert_eq(strlen(name), 64 + 1 + 64 + 4);
	(void)snprintf(path, sizeof(path), "grants/%s", name);
	(void)snprintf(folder, sizeof(folder), "%.71s", path);
	for (int kind = 0; kind < 9; kind++) {
		stand(kind, folder, path);
		cr_assert_eq(wraps_found(out), kind == 8 ? 1 : 0, "kind %d", kind);
		cr_assert_eq(mfs_store_wrap_put(store, &mk, &ck, wrap, &err), MFS_OK, "kind %d: %s", kind, err.msg);
		cr_assert_eq(wraps_found(out), 1, "kind %d", kind);
		cr_assert_arr_eq(out, wrap, MFS_WRAP_LEN);
	}
	cr_assert_eq(mfs_store_wrap_put(store, &mk, &ck, wrap, &err), MFS_OK, "again: %s", err.msg);
}

Test(store, wraps_of_what_is_kept_stay_and_the_rest_goes)
{
	const uint8_t wrap[MFS_WRAP_LEN] = { 1, 2, 3 };
	const struct mfs_sha256 keep[2] = { { { 0x01 } }, ck };
	struct mfs_err err = MFS_ERR_INIT;
	char name[MFS_WRAP_PATH], path[MFS_WRAP_PATH + 16];
	uint8_t out[MFS_WRAP_LEN];
	struct stat st;

	mfs_store_wrap_gc(store, keep, 2); /* without a folder */
	cr_assert_eq(mfs_store_wrap_put(store, &mk, &ck, wrap, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_store_wrap_put(store, &mk, &ck2, wrap, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_store_wrap_put(store, &ck2, &ck2, wrap, &err), MFS_OK, "%s", err.msg);
	mfs_wrap_path(name, &mk, &ck);
	(void)snprintf(path, sizeof(path), "grants/%s.new", name);
	wrap_file(path, 40);
	wrap_file("grants/README", 40);
	cr_assert_eq(mkdirat(dir, "grants/x", 0700), 0);
	wrap_file("grants/x/y", 40);
	wrap_file("elsewhere", 40);
	cr_assert_eq(symlinkat("..", dir, "grants/up"), 0);
	mfs_store_wrap_gc(store, keep, 2);
	cr_assert_eq(wraps_found(out), 1);
	cr_assert_eq(fstatat(dir, path, &st, 0), -1, "a leftover stays");
	cr_assert_eq(fstatat(dir, "grants/README", &st, 0), -1);
	cr_assert_eq(fstatat(dir, "grants/x", &st, 0), -1);
	cr_assert_eq(fstatat(dir, "grants/up", &st, AT_SYMLINK_NOFOLLOW), -1);
	cr_assert_eq(fstatat(dir, "elsewhere", &st, 0), 0, "a link was followed");
	mfs_wrap_path(name, &mk, &ck2);
	(void)snprintf(path, sizeof(path), "grants/%s", name);
	cr_assert_eq(fstatat(dir, path, &st, 0), -1, "nobody's wrap stays");
	(void)snprintf(path, sizeof(path), "grants/%s", MFS_HEX(&ck2));
	cr_assert_eq(fstatat(dir, path, &st, 0), -1, "an empty folder stays");
	mfs_store_wrap_gc(store, NULL, 0);
	cr_assert_eq(wraps_found(out), 0);
}
