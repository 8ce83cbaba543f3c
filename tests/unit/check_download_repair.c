/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs that go wrong themselves: disks that keep nothing, sources that hang, what is left open. */
#include <fcntl.h>
#include <pthread.h>

#include "download_help.h"

TestSuite(download_repair, .init = setup, .fini = teardown);

static void
blob_path(char out[200], const struct mfs_sha256 *hash)
{
	(void)snprintf(out, 200, "blobs/sha256/%.2s/%s", MFS_HEX(hash), MFS_HEX(hash));
}

static void
damage(uint64_t chunk)
{
	char path[200];

	blob_path(path, &m->files[0].sha256);
	mk_flip(store_fd, path, (int64_t)(chunk * CHUNK) + 3);
}

static void
table_lose(void)
{
	char path[200];

	blob_path(path, &m->files[0].chunks_sha256);
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
}

static void
requests_forget(void)
{
	for (size_t i = 0; i < DL_SOURCES; i++)
		atomic_store(&repo.requests[i], 0);
}

/* ---- a disk that does not keep what it is given ---------------------------------------------------------- */

static bool rots; /* what was written is another byte as soon as it has left the page cache */

int __wrap_posix_fadvise(int fd, off_t off, off_t len, int advice);
int __wrap_posix_fadvise64(int fd, off_t off, off_t len, int advice);

int
__wrap_posix_fadvise(int fd, off_t off, off_t len, int advice)
{
	if (rots && advice == POSIX_FADV_DONTNEED && len > 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR) {
		uint8_t byte;

		cr_assert(pread(fd, &byte, 1, off) == 1);
		byte ^= 1;
		cr_assert(pwrite(fd, &byte, 1, off) == 1);
	}
	return 0;
}

int
__wrap_posix_fadvise64(int fd, off_t off, off_t len, int advice)
{
	return __wrap_posix_fadvise(fd, off, len, advice);
}

Test(download_repair, a_chunk_that_does_not_stay_as_it_is_written_was_not_repaired)
{
	uint64_t repaired = 7;

	run_ok();
	damage(40);
	rots = true;
	cr_assert_eq(mfs_download_repair(dl, m, 0, 40, 1, NULL, &repaired, &err), MFS_IO, "%s", err.msg);
	cr_assert_not_null(strstr(err.msg, "a faulty disk?"), "%s", err.msg);
	cr_assert_eq(repaired, 0);
	rots = false;
	cr_assert_eq(mfs_download_repair(dl, m, 0, 40, 1, NULL, &repaired, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(repaired, 1);
	whole();
}

/* ---- what is left open ------------------------------------------------------------------------------------ */

Test(download_repair, a_second_try_leaves_no_descriptor_of_the_first_open)
{
	struct mfs_dl_run r;
	int before;

	run_ok();
	before = scratch_count(AT_FDCWD, "/proc/self/fd");
	mfs_dl_run_init(&r, dl, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		table_lose();
		cr_assert_eq(mfs_dl_file_bring(&r, m, 0, false, &err), MFS_OK, "%s", err.msg);
	}
	mfs_dl_run_end(&r);
	cr_assert_eq(scratch_count(AT_FDCWD, "/proc/self/fd"), before);
	whole();
}

/* ---- ending ------------------------------------------------------------------------------------------------- */

static void *
cancel_soon(void *arg)
{
	(void)arg;
	while (atomic_load(&repo.hit) == 0)
		(void)usleep(1000);
	atomic_store(&cancel, 1);
	return NULL;
}

Test(download_repair, a_table_from_a_source_that_hangs_can_be_cancelled, .timeout = 60)
{
	pthread_t t;

	run_ok();
	table_lose();
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_HANG });
	cr_assert_eq(pthread_create(&t, NULL, cancel_soon, NULL), 0);
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 0, &cancel, NULL, &err), MFS_CONDITION_UNMET, "%s", err.msg);
	cr_assert_eq(pthread_join(t, NULL), 0);
}

Test(download_repair, reading_what_stands_can_be_cancelled)
{
	const struct mfs_download_version v = { .id = "det", .m = m, .cancel = &cancel };
	struct mfs_dl_run r;
	int fd;

	run_ok();
	fd = mfs_store_blob_open(store, &m->files[0].sha256, 0);
	cr_assert_geq(fd, 0);
	mfs_dl_run_init(&r, dl, &v, &cancel);
	cr_assert_eq(mfs_dl_verify(&r, fd, &m->files[0].sha256, m->files[0].size, NULL, &err), MFS_OK, "%s", err.msg);
	atomic_store(&cancel, 1);
	cr_assert_eq(mfs_dl_verify(&r, fd, &m->files[0].sha256, m->files[0].size, NULL, &err), MFS_CONDITION_UNMET);
	mfs_dl_run_end(&r);
	(void)close(fd);
}

/* ---- patience ------------------------------------------------------------------------------------------------ */

Test(download_repair, patience_begins_anew_with_every_chunk_that_was_repaired, .timeout = 120)
{
	uint64_t repaired = 0;

	run_ok();
	for (uint64_t i = 0; i < 12; i++)
		damage(10 * i);
	dl->patience_ms = 1000;
	repo.pause_us = 100000; /* two pieces a chunk: eight of them take longer than that */
	requests_forget();
	dl_fault_add(&repo, (struct dl_fault){ .nth = 8, .kind = DL_TIMEOUT });
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, m->files[0].chunks, NULL, &repaired, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(repaired, 12);
	whole();
}
