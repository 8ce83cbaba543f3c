/* SPDX-License-Identifier: Apache-2.0 */
/* The reserve of the state's folder on a disk that others fill: bytes, inodes, what is left, what comes back. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mount.h>

#include "log.h"
#include "reserve.h"
#include "scratch.h"

#define DISK "size=2m,nr_inodes=64"

static char root[256], state_path[300];
static int rootfd, state;
static struct mfs_reserve *r;

static void
setup(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	mfs_log_open("check", MFS_LOG_ERR);
	rootfd = scratch_make(root, "check-reserve");
	(void)close(scratch_folder(rootfd, "state"));
	(void)snprintf(state_path, sizeof(state_path), "%s/state", root);
	if (mount("none", state_path, "tmpfs", 0, DISK) != 0)
		cr_skip("mounting a tmpfs needs root: a full disk cannot be made");
	state = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(mfs_reserve_open(state, &r, &err), MFS_OK, "%s", err.msg);
}

static void
teardown(void)
{
	mfs_reserve_close(r);
	(void)close(state);
	(void)umount2(state_path, MNT_DETACH);
	(void)close(rootfd);
	scratch_remove(root);
}

TestSuite(reserve, .init = setup, .fini = teardown);

/* To the last byte. */
static void
disk_fill(void)
{
	static const char zeros[4096];
	int fd = openat(state, "filler", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	cr_assert_eq(errno, ENOSPC);
	(void)close(fd);
}

static struct mfs_reserve_facts
facts(void)
{
	struct mfs_reserve_facts f;

	mfs_reserve_facts(r, &f);
	return f;
}

static enum mfs_code
put(struct mfs_reserve *from, const char *name, size_t len, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = malloc(len);

	memset(bytes, name[0], len);
	return mfs_reserve_replace(from, state, name, bytes, len, 0600, err);
}

static uint64_t
space(void)
{
	struct stat st;

	return fstatat(state, "reserve/space", &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

Test(reserve, is_made_where_it_is_wanted_and_takes_its_room)
{
	cr_assert(mfs_reserve_fill(r, false), "without one nothing is missing");
	cr_assert(!facts().kept);
	cr_assert(!scratch_has(state, "reserve"));
	cr_assert(mfs_reserve_fill(r, true));
	cr_assert(facts().kept && facts().whole);
	cr_assert_eq(facts().bytes, MFS_RESERVE_LEAST);
	cr_assert_eq(space(), MFS_RESERVE_LEAST, "it has holes");
	cr_assert_eq(scratch_count(state, "reserve"), MFS_RESERVE_INODES + 1);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
}

Test(reserve, follows_what_the_documents_take)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mkdirat(state, "tuf", 0700), 0);
	cr_assert_eq(mkdirat(state, "tuf/default", 0700), 0);
	cr_assert_eq(put(NULL, "anchor.0", 200000, &err), MFS_OK, "%s", err.msg);
	scratch_write(state, "tuf/default/targets.json", state_path, 10);
	cr_assert(mfs_reserve_fill(r, true));
	cr_assert_eq(space(), 448u << 10, "twice 49 and 1 blocks, in steps of 64 KiB: %llu", (unsigned long long)space());
	cr_assert_eq(put(NULL, "anchor.0", 10, &err), MFS_OK);
	cr_assert(mfs_reserve_fill(r, true));
	cr_assert_eq(space(), MFS_RESERVE_LEAST, "what is too much goes back");
}

Test(reserve, gives_what_a_full_disk_lacks_and_takes_it_back)
{
	struct mfs_err err = MFS_ERR_INIT;
	size_t n;

	cr_assert(mfs_reserve_fill(r, true));
	cr_assert_eq(put(r, "anchor.0", 40000, &err), MFS_OK);
	cr_assert(facts().whole, "nobody needed it");
	disk_fill();
	cr_assert_eq(put(NULL, "anchor.0", 40000, &err), MFS_INSUFFICIENT_STORAGE);
	cr_assert(!scratch_has(state, ".anchor.0.new"));
	cr_assert(facts().whole);
	err = (struct mfs_err)MFS_ERR_INIT;
	cr_assert_eq(put(r, "anchor.0", 40000, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(err.code, MFS_OK, "words of a try that failed are left");
	free(scratch_read(state, "anchor.0", &n));
	cr_assert_eq(n, 40000);
	cr_assert(!facts().whole);
	cr_assert_lt(facts().bytes, MFS_RESERVE_LEAST);
	cr_assert_gt(facts().bytes, 0, "more than was needed");
	/* What was replaced gave its room back: it is taken before anybody else has it, and all of it is there again. */
	cr_assert(!mfs_reserve_fill(r, false), "there is no room beside it");
	cr_assert(facts().whole && facts().full);
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
	cr_assert_eq(put(NULL, "other", 1, &err), MFS_INSUFFICIENT_STORAGE, "the disk is as full as it was");
	cr_assert_eq(unlinkat(state, "filler", 0), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert(!facts().full);
}

Test(reserve, ends_and_is_filled_once_there_is_room)
{
	struct mfs_err err = MFS_ERR_INIT;
	char name[16];
	unsigned n = 0;

	cr_assert(mfs_reserve_fill(r, true));
	disk_fill();
	for (; n < 100; n++) {
		(void)snprintf(name, sizeof(name), "new-%u", n);
		if (put(r, name, 50000, &err) != MFS_OK)
			break;
	}
	cr_assert_eq(err.code, MFS_INSUFFICIENT_STORAGE);
	cr_assert(n >= 4 && n < 6, "%u files of 50000 bytes out of 256 KiB", n);
	cr_assert_eq(facts().bytes, 0);
	cr_assert(!mfs_reserve_fill(r, false), "there is nothing to take");
	cr_assert(!facts().whole && facts().kept);
	cr_assert_eq(unlinkat(state, "new-0", 0), 0);
	cr_assert(!mfs_reserve_fill(r, false), "a part");
	cr_assert_gt(facts().bytes, 0);
	cr_assert_eq(unlinkat(state, "filler", 0), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
}

Test(reserve, has_inodes_too)
{
	struct mfs_err err = MFS_ERR_INIT;
	char name[16];
	unsigned n = 0;

	cr_assert(mfs_reserve_fill(r, true));
	cr_assert_eq(put(r, "anchor.0", 100, &err), MFS_OK);
	for (int fd; n < 100; n++) {
		(void)snprintf(name, sizeof(name), "empty-%u", n);
		if ((fd = openat(state, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0)
			break;
		(void)close(fd);
	}
	cr_assert(n < 100 && errno == ENOSPC);
	cr_assert_eq(put(NULL, "anchor.0", 100, &err), MFS_INSUFFICIENT_STORAGE);
	cr_assert_eq(put(r, "anchor.0", 100, &err), MFS_OK, "%s", err.msg);
	cr_assert(!facts().whole);
	cr_assert(!mfs_reserve_fill(r, false), "no inode is free beside it");
	cr_assert(facts().whole);
	cr_assert_eq(scratch_count(state, "reserve"), MFS_RESERVE_INODES + 1);
}

Test(reserve, is_made_again_whatever_stands_in_its_place)
{
	static const char keep[] = "not ours";
	char path[320];
	uint8_t *bytes;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/reserve/space", state_path);
	cr_assert(mfs_reserve_fill(r, true));
	/* A copy with holes takes no room. */
	cr_assert_eq(unlinkat(state, "reserve/space", 0), 0);
	scratch_write(state, "reserve/space", "", 0);
	cr_assert_eq(truncate(path, MFS_RESERVE_LEAST), 0);
	cr_assert_eq(space(), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
	/* A link leads nowhere, a second name is not written through. */
	scratch_write(state, "precious", keep, sizeof(keep));
	cr_assert_eq(unlinkat(state, "reserve/space", 0), 0);
	cr_assert_eq(symlinkat("../precious", state, "reserve/space"), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(unlinkat(state, "reserve/space", 0), 0);
	cr_assert_eq(linkat(state, "precious", state, "reserve/space", 0), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
	bytes = scratch_read(state, "precious", &n);
	cr_assert(n == sizeof(keep) && memcmp(bytes, keep, n) == 0, "written through");
	free(bytes);
	cr_assert_eq(unlinkat(state, "reserve/space", 0), 0);
	cr_assert_eq(mkdirat(state, "reserve/space", 0700), 0);
	cr_assert(mfs_reserve_fill(r, false));
	/* Gone as a whole: who made it makes it again. */
	cr_assert_eq(mfs_remove_all(state, "reserve"), 0);
	cr_assert(!mfs_reserve_release(r, 1));
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert_eq(space(), MFS_RESERVE_LEAST);
}

Test(reserve, a_disk_that_takes_nothing_is_no_reason_to_wait)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert(mfs_reserve_fill(r, true));
	cr_assert_eq(mount("none", state_path, NULL, MS_REMOUNT | MS_RDONLY, DISK), 0);
	cr_assert_eq(unlinkat(state, "reserve/1", 0) != 0 && errno == EROFS, 1);
	cr_assert(mfs_reserve_fill(r, true), "each write says so itself");
	cr_assert_eq(put(r, "anchor.0", 100, &err), MFS_IO);
	cr_assert_eq(mount("none", state_path, NULL, MS_REMOUNT, DISK), 0);
	cr_assert(mfs_reserve_fill(r, false));
	cr_assert(facts().kept);
}

Test(reserve, there_may_be_none)
{
	struct mfs_reserve_facts f;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert(mfs_reserve_fill(NULL, true));
	cr_assert(!mfs_reserve_release(NULL, 1));
	mfs_reserve_facts(NULL, &f);
	cr_assert(!f.kept && f.whole);
	disk_fill();
	cr_assert_eq(put(NULL, "anchor.0", 1, &err), MFS_INSUFFICIENT_STORAGE);
	mfs_reserve_close(NULL);
}
