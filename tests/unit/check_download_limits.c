/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads: room, byte budget, staging, repair of what stands. */
#include "download_help.h"

TestSuite(download_limits, .init = setup, .fini = teardown, .timeout = 60);

/* ---- room, budget ------------------------------------------------------------------------------------------------ */

static unsigned rooms;

static void
make_room(void *user, uint64_t need)
{
	(void)user;
	cr_assert_geq(need, everything);
	rooms++;
}

Test(download_limits, without_room_nothing_is_fetched)
{
	args.min_free = UINT64_MAX / 2;
	args.make_room = make_room;
	download_make();
	cr_assert_eq(run(), MFS_INSUFFICIENT_STORAGE);
	cr_assert_eq(rooms, 1);
	cr_assert_eq(dl_sent(&repo), 0);
	cr_assert_geq(res.needed, everything);
}

/* Somebody else takes the rest of the disk, once. */
static void
fill_disk(void *user, uint64_t sent)
{
	static _Atomic int done;
	static uint8_t mib[1 << 20];
	int fd;

	if (sent < *(uint64_t *)user || atomic_exchange(&done, 1) != 0)
		return;
	fd = open(getenv("CHECK_BALLAST"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	memset(mib, 1, sizeof(mib));
	while (fd >= 0 && write(fd, mib, sizeof(mib)) > 0)
		;
	(void)close(fd);
}

Test(download_limits, a_disk_that_fills_meanwhile_ends_the_call_and_it_goes_on_later)
{
	char path[300];
	int fd, small;

	(void)snprintf(path, sizeof(path), "%s/small", root);
	cr_assert_eq(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") != 0)
		cr_skip_test("no mounts here");
	cr_assert_geq(small = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
	mfs_store_close(store);
	cr_assert_eq(mfs_store_open(small, NULL, 0, &store, &err), MFS_OK);
	args.store = store;
	args.batch = 64 << 20; /* so that the disk itself says so */
	download_make();
	uint64_t at = 2 << 20;
	repo.each = fill_disk;
	repo.user = &at;
	(void)snprintf(path, sizeof(path), "%s/small/ballast", root);
	setenv("CHECK_BALLAST", path, 1);
	cr_assert_eq(run(), MFS_INSUFFICIENT_STORAGE, "%s", err.msg);
	nothing();
	repo.each = NULL;
	cr_assert_eq(unlink(path), 0);
	fd = store_fd;
	store_fd = small;
	run_ok();
	whole();
	store_fd = fd;
	mfs_store_close(store);
	store = NULL;
	(void)close(small);
	(void)snprintf(path, sizeof(path), "%s/small", root);
	cr_assert_eq(umount2(path, MNT_DETACH), 0);
}


static _Atomic uint64_t budget, most;

static uint64_t
budget_take(void *user, uint64_t want)
{
	uint64_t have = atomic_load(&budget), give;

	(void)user;
	do {
		give = want < have ? want : have;
	} while (!atomic_compare_exchange_weak(&budget, &have, have - give));
	return give;
}

static void
budget_give(void *user, uint64_t unused)
{
	(void)user;
	(void)atomic_fetch_add(&budget, unused);
}

Test(download_limits, the_byte_budget_holds_in_a_loop_of_bad_downloads)
{
	atomic_store(&budget, 3 << 20);
	most = 3 << 20;
	args.budget_take = budget_take;
	args.budget_give = budget_give;
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_CORRUPT, .after = 40000 });
	for (int i = 0; i < 200; i++) {
		download_make();
		dl->patience_ms = 20;
		cr_assert_neq(run(), MFS_OK);
	}
	cr_assert_leq(dl_sent(&repo), most);
	nothing();
	/* What was left of it is used to the end, the next day brings the rest. */
	repo.n_faults = 0;
	for (int days = 0; days < 20; days++) {
		enum mfs_code code;

		download_make();
		code = run();
		if (code == MFS_OK)
			break;
		cr_assert_eq(code, MFS_RATE_LIMITED, "%s", err.msg);
		most += 2 << 20;
		(void)atomic_fetch_add(&budget, 2 << 20);
	}
	whole();
	cr_assert_leq(dl_sent(&repo), most);
}

/* ---- staging ------------------------------------------------------------------------------------------------------- */

Test(download_limits, what_is_staged_survives_an_installation_and_goes_when_superseded)
{
	static const struct mk_file other[] = { { "other.bin", 200000, 77 } };
	static const char *const ids[] = { "other", "det" };

	half();
	cr_assert_eq(mfs_store_clean(store, &err), MFS_OK);
	cr_assert_gt(scratch_count(store_fd, "staging/dl-det"), 0);
	mfs_download_collect(store, ids, 2);
	cr_assert_gt(scratch_count(store_fd, "staging/dl-det"), 0);
	bundle(&(struct mk_bundle){ .files = other, .n_files = 1, .version = "3.0.0", .release = 9 }, "o");
	repo.pause_us = 0;
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_STATUS, .http = 500 });
	cr_assert_neq(run(), MFS_OK);
	/* Only the new version's files may lie there now. */
	cr_assert_leq(scratch_count(store_fd, "staging/dl-det"), 1);
	mfs_download_collect(store, ids, 1);
	cr_assert_eq(scratch_count(store_fd, "staging"), 0);
}

static void *
unlock_soon(void *arg)
{
	const struct timespec soon = { 0, 300000000 };

	(void)nanosleep(&soon, NULL);
	(void)close(*(int *)arg);
	return NULL;
}

Test(download_limits, an_installation_under_way_is_waited_for)
{
	pthread_t t;
	int lock;

	cr_assert_eq(mfs_store_lock(store, &lock, &err), MFS_OK);
	cr_assert_eq(pthread_create(&t, NULL, unlock_soon, &lock), 0);
	run_ok();
	whole();
	(void)pthread_join(t, NULL);
}

/* ---- patience --------------------------------------------------------------------------------------------------- */

static _Atomic unsigned longest_ms;

static enum mfs_code
deadline_get(void *user, const struct mfs_download_get *q, struct mfs_download_got *got, struct mfs_err *why)
{
	if (q->deadline_ms > atomic_load(&longest_ms))
		atomic_store(&longest_ms, q->deadline_ms);
	return dl_get(user, q, got, why);
}

/* Whoever sends a byte now and then must not have hours for one range. */
Test(download_limits, no_request_may_take_longer_than_ten_minutes)
{
	args.get = deadline_get;
	args.threads = 1;
	download_make();
	run_ok();
	whole();
	cr_assert_leq(longest_ms, 600000u);
	cr_assert_geq(longest_ms, 500000u, "%u ms for a range of megabytes", (unsigned)longest_ms);
}

/* ---- repair --------------------------------------------------------------------------------------------------------- */

static void
blob_path(char out[200], const struct mfs_sha256 *hash)
{
	(void)snprintf(out, 200, "blobs/sha256/%.2s/%s", MFS_HEX(hash), MFS_HEX(hash));
}

static uint64_t
repair_cost(size_t file, uint64_t chunk)
{
	const uint64_t before = dl_sent(&repo);

	cr_assert_eq(mfs_download_repair(dl, m, file, chunk == UINT64_MAX ? 0 : chunk, chunk != UINT64_MAX, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	whole();
	return dl_sent(&repo) - before;
}

Test(download_limits, a_chunk_is_repaired_for_a_chunk)
{
	char path[200];

	run_ok();
	blob_path(path, &m->files[0].sha256);
	mk_flip(store_fd, path, 40 * (int64_t)CHUNK + 3);
	cr_assert_eq(repair_cost(0, 40), CHUNK);
	/* The last one is short. */
	mk_flip(store_fd, path, -1);
	cr_assert_eq(repair_cost(0, m->files[0].chunks - 1), 17);
	/* A file of one chunk. */
	blob_path(path, &m->files[1].sha256);
	mk_flip(store_fd, path, 5);
	cr_assert_eq(repair_cost(1, 0), 300);
}

Test(download_limits, tables_and_whole_blobs_are_repaired)
{
	char path[200];
	int fd;

	run_ok();
	blob_path(path, &m->files[0].chunks_sha256);
	mk_flip(store_fd, path, 99);
	cr_assert_eq(repair_cost(0, UINT64_MAX), mfs_table_length(m->files[0].chunks));
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	cr_assert_eq(repair_cost(0, UINT64_MAX), mfs_table_length(m->files[0].chunks));
	/* Cut short: its chunks are reused as far as they go. */
	blob_path(path, &m->files[0].sha256);
	fd = openat(store_fd, path, O_RDWR | O_CLOEXEC);
	cr_assert(fd >= 0 && ftruncate(fd, (off_t)(LARGE - CHUNK)) == 0);
	(void)close(fd);
	cr_assert_leq(repair_cost(0, UINT64_MAX), LARGE);
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	cr_assert_eq(repair_cost(0, UINT64_MAX), LARGE);
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	cr_assert_eq(symlinkat("/etc/passwd", store_fd, path), 0);
	cr_assert_eq(repair_cost(0, 3), LARGE);
}

Test(download_limits, a_repair_is_never_wrong_and_holds_the_budget)
{
	char path[200];

	run_ok();
	blob_path(path, &m->files[0].sha256);
	mk_flip(store_fd, path, 3);
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_CORRUPT, .after = 70 });
	for (uint64_t i = 0; i < DL_SOURCES; i++)
		repo.requests[i] = 0;
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 1, NULL, NULL, &err), MFS_HASH_MISMATCH, "%s", err.msg);
	cr_assert_leq(repo.requests[0], MFS_DL_MISMATCHES);
	cr_assert(!blob_right(&m->files[0].sha256));
	atomic_store(&budget, CHUNK - 1);
	args.budget_take = budget_take;
	args.budget_give = budget_give;
	repo.n_faults = 0;
	download_make();
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 1, NULL, NULL, &err), MFS_RATE_LIMITED, "%s", err.msg);
	atomic_store(&cancel, 1);
	atomic_store(&budget, CHUNK);
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 1, &cancel, NULL, &err), MFS_CONDITION_UNMET, "%s", err.msg);
	cr_assert_eq(repair_cost(0, 0), CHUNK);
	cr_assert_eq(budget, 0);
}

Test(download_limits, a_repair_that_fails_leaves_only_what_the_next_one_goes_on_with)
{
	const struct dl_fault dead = { .nth = DL_EVERY, .kind = DL_STATUS, .http = 503 };
	char path[200];
	uint64_t before;

	run_ok();
	dl_fault_add(&repo, dead);
	blob_path(path, &m->files[0].chunks_sha256); /* a table */
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 1, NULL, NULL, &err), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(scratch_count(store_fd, "staging"), 0);
	blob_path(path, &m->files[1].sha256); /* a small payload */
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	cr_assert_eq(mfs_download_repair(dl, m, 1, 0, 1, NULL, NULL, &err), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(scratch_count(store_fd, "staging"), 0);
	repo.n_faults = 0;
	download_make();
	cr_assert_eq(mfs_download_repair(dl, m, 1, 0, 1, NULL, NULL, &err), MFS_OK, "%s", err.msg);
	(void)repair_cost(0, 0);
	/* A large one that comes in half today and in half tomorrow. */
	blob_path(path, &m->files[0].sha256);
	cr_assert_eq(unlinkat(store_fd, path, 0), 0);
	dl_fault_add(&repo, (struct dl_fault){ .nth = repo.requests[0] + 2, .onwards = true, .kind = DL_STATUS, .http = 503 });
	cr_assert_eq(mfs_download_repair(dl, m, 0, 0, 1, NULL, NULL, &err), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(scratch_count(store_fd, "staging"), 1);
	repo.n_faults = 0;
	before = dl_sent(&repo);
	download_make();
	(void)repair_cost(0, 0);
	cr_assert_lt(dl_sent(&repo) - before, LARGE);
}

Test(download_limits, a_chunk_of_several_truncated_answers_and_mirrors_is_repaired)
{
	char path[200];

	run_ok();
	blob_path(path, &m->files[0].sha256);
	mk_flip(store_fd, path, 3);
	args.n_mirrors = 1;
	download_make();
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = 0, .kind = DL_TRUNCATE, .after = 1000 });
	dl_fault_add(&repo, (struct dl_fault){ .source = 1, .nth = 0, .kind = DL_CORRUPT, .after = 2000 });
	for (uint64_t i = 0; i < DL_SOURCES; i++)
		repo.requests[i] = 0;
	cr_assert_leq(repair_cost(0, 0), 2 * CHUNK);
}
