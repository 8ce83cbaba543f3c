/* SPDX-License-Identifier: Apache-2.0 */
/* common/bundledir: what a hostile stick may hold. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bundledir.h"
#include "io.h"

#define KEY_HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char root[64];
static int dirfd_ = -1;
static const struct mfs_bundle_caps caps = { 1 << 20, 1024, 9 };

static void
put(const char *path, const char *text)
{
	mfs_autofree char *folder = strdup(path);
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;
	char *slash = strrchr(folder, '/');

	if (slash != NULL) {
		*slash = '\0';
		cr_assert_eq(mfs_mkdirs(dirfd_, folder, 0755, &err), MFS_OK, "%s", err.msg);
	}
	fd = openat(dirfd_, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert(fd >= 0);
	cr_assert_eq(mfs_write_full(fd, text, strlen(text)), 0);
}

static void
setup(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	strcpy(root, "/tmp/check-bundledir-XXXXXX");
	cr_assert_not_null(mkdtemp(root));
	cr_assert_eq(mfs_bundledir_open(root, &dirfd_, &err), MFS_OK, "%s", err.msg);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void
teardown(void)
{
	mfs_cleanup_close(&dirfd_);
	(void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(bundledir, .init = setup, .fini = teardown, .timeout = 20);

Test(bundledir, reads_manifest_and_signatures_in_order)
{
	mfs_autobundledocs struct mfs_bundle_docs d = { 0 };
	struct mfs_err err = MFS_ERR_INIT;

	put("manifest.json", "{}");
	put("signature." KEY_HEX ".sig", "two");
	put("signature.sig", "first");
	put("signature.short.sig", "not one");
	cr_assert_eq(mfs_bundledir_docs(dirfd_, &caps, &d, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(d.manifest_len, 2);
	cr_assert_eq(d.n_sigs, 2);
	cr_assert_str_eq(d.sigs[0].key_id, "");
	cr_assert_eq(memcmp(d.sigs[0].bytes, "first", 5), 0);
	cr_assert_str_eq(d.sigs[1].key_id, KEY_HEX);
	cr_assert_eq(d.sigs[1].len, 3);
}

Test(bundledir, missing_manifest_is_malformed)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_bundle_docs d;

	cr_assert_eq(mfs_bundledir_docs(dirfd_, &caps, &d, &err), MFS_MALFORMED);
	cr_assert_not_null(strstr(err.msg, "manifest.json"));
}

Test(bundledir, caps_are_enforced)
{
	const struct mfs_bundle_caps small = { 10, 4, 1 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_bundle_docs d;

	put("manifest.json", "{\"a\":123456}");
	cr_assert_eq(mfs_bundledir_docs(dirfd_, &small, &d, &err), MFS_LIMIT_EXCEEDED);
	put("manifest.json", "{}");
	put("signature.sig", "12345");
	cr_assert_eq(mfs_bundledir_docs(dirfd_, &small, &d, &err), MFS_LIMIT_EXCEEDED);
	put("signature.sig", "1234");
	put("signature." KEY_HEX ".sig", "1234");
	cr_assert_eq(mfs_bundledir_docs(dirfd_, &small, &d, &err), MFS_LIMIT_EXCEEDED);
	cr_assert_null(d.manifest);
}

Test(bundledir, links_and_special_files_are_refused_without_waiting)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_bundle_docs d;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = -1, s;

	put("outside", "{}");
	cr_assert_eq(symlinkat("outside", dirfd_, "manifest.json"), 0);
	cr_assert_eq(mfs_bundledir_docs(dirfd_, &caps, &d, &err), MFS_MALFORMED);
	put("payload/dir/real", "x");
	cr_assert_eq(symlinkat("dir/real", dirfd_, "payload/link"), 0);
	cr_assert_eq(symlinkat("dir", dirfd_, "payload/through"), 0);
	cr_assert_eq(mkfifoat(dirfd_, "payload/fifo", 0644), 0);
	cr_assert((size_t)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/payload/sock", root) < sizeof(sa.sun_path));
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "link", 1, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "through/real", 1, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "fifo", 0, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "sock", 0, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "dir", 0, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(fd, -1);
	(void)close(s);
}

Test(bundledir, whole_parts_as_links_are_refused)
{
	const char *const names[] = { "real" };
	struct mfs_err err = MFS_ERR_INIT;
	int fd = -1;

	put("elsewhere/real", "x");
	cr_assert_eq(symlinkat("elsewhere", dirfd_, "payload"), 0);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "real", 1, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", names, 1, &err), MFS_MALFORMED);
}

Test(bundledir, size_must_be_exact)
{
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;

	put("payload/a", "12345");
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "a", 4, &fd, &err), MFS_HASH_MISMATCH);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "a", 6, &fd, &err), MFS_HASH_MISMATCH);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "b", 5, &fd, &err), MFS_HASH_MISMATCH);
	cr_assert_not_null(strstr(err.msg, "missing"));
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "a/b", 5, &fd, &err), MFS_HASH_MISMATCH);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "../payload/../../x", 5, &fd, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_bundledir_file(dirfd_, "payload", "a", 5, &fd, &err), MFS_OK, "%s", err.msg);
	cr_assert(fd >= 0);
}

Test(bundledir, surplus_is_found_at_every_depth)
{
	const char *const names[] = { "a", "d/e/f", "d/e/g", "d.x" };
	const char *const sorted[] = { "a", "d.x", "d/e/f", "d/e/g" };
	static const char *const surplus[] = { "b", "d/b", "d/e/h", "d/e/f2", "e/f", "d/e/z/y" };
	struct mfs_err err = MFS_ERR_INIT;

	for (size_t i = 0; i < 4; i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "payload/%s", names[i]);
		put(path, "x");
	}
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", sorted, 4, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "chunks", sorted, 4, &err), MFS_OK, "%s", err.msg);
	for (size_t i = 0; i < sizeof(surplus) / sizeof(surplus[0]); i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "payload/%s", surplus[i]);
		put(path, "x");
		cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", sorted, 4, &err), MFS_MALFORMED, "%s", path);
		cr_assert_not_null(strstr(err.msg, "surplus"), "%s", err.msg);
		cr_assert_eq(unlinkat(dirfd_, path, 0), 0);
		if (strncmp(surplus[i], "e/", 2) == 0)
			cr_assert_eq(unlinkat(dirfd_, "payload/e", AT_REMOVEDIR), 0);
		if (strstr(surplus[i], "/z/") != NULL)
			cr_assert_eq(unlinkat(dirfd_, "payload/d/e/z", AT_REMOVEDIR), 0);
	}
	cr_assert_eq(mkdirat(dirfd_, "payload/empty", 0755), 0);
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", sorted, 4, &err), MFS_MALFORMED);
	cr_assert_eq(unlinkat(dirfd_, "payload/empty", AT_REMOVEDIR), 0);
	cr_assert_eq(unlinkat(dirfd_, "payload/a", 0), 0);
	cr_assert_eq(mkfifoat(dirfd_, "payload/a", 0644), 0);
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", sorted, 4, &err), MFS_MALFORMED);
	cr_assert_eq(unlinkat(dirfd_, "payload/a", 0), 0);
	cr_assert_eq(mkdirat(dirfd_, "payload/a", 0755), 0);
	cr_assert_eq(mfs_bundledir_surplus(dirfd_, "payload", sorted, 4, &err), MFS_MALFORMED);
}

static void
count_other(void *arg, const char *name)
{
	size_t *n = arg;

	cr_expect_str_eq(name, "notes.txt");
	++*n;
}

Test(bundledir, other_entries_are_named)
{
	struct mfs_err err = MFS_ERR_INIT;
	size_t n = 0;

	put("manifest.json", "{}");
	put("signature.sig", "s");
	put("signature." KEY_HEX ".sig", "s");
	put("grants/a/b", "g");
	put("payload/a", "x");
	put("notes.txt", "hello");
	cr_assert_eq(mfs_bundledir_others(dirfd_, count_other, &n, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(n, 1);
}
