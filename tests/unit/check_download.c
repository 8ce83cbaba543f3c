/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads: what reaches the disk, faults of sources, several sources. */
#include "download_help.h"

TestSuite(download, .init = setup, .fini = teardown, .timeout = 60);

/* ---- what reaches the disk in which order ----------------------------------------------------------------- */

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t order_now, order_synced;         /* calls so far; up to which one data is on disk */
static uint64_t order_written[LARGE / CHUNK + 8]; /* when each chunk of the large payload was written last */
static unsigned order_journals, order_wrong;

static bool
fd_is(int fd, const char *suffix)
{
	char link[64], path[600];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return strstr(path, MFS_HEX(&m->files[0].sha256)) != NULL && strlen(path) > strlen(suffix) &&
		strcmp(path + n - strlen(suffix), suffix) == 0;
}

/* Instead of libc's: a power cut keeps of the data only what a sync that had begun after the write has finished with. */
ssize_t
pwrite(int fd, const void *buf, size_t n, off_t off)
{
	if (fd_is(fd, ".data")) {
		(void)pthread_mutex_lock(&order_lock);
		order_written[(uint64_t)off / CHUNK] = ++order_now;
		(void)pthread_mutex_unlock(&order_lock);
	} else if (fd_is(fd, ".journal") && off == MFS_JOURNAL_HEADER) {
		const uint8_t *bits = buf;

		(void)pthread_mutex_lock(&order_lock);
		order_journals++;
		for (uint64_t i = 0; i < 8 * n && i < m->files[0].chunks; i++)
			if ((bits[i / 8] >> (i % 8) & 1) != 0 && order_written[i] > order_synced)
				order_wrong++;
		(void)pthread_mutex_unlock(&order_lock);
	}
	return syscall(SYS_pwrite64, fd, buf, n, off);
}

int
fdatasync(int fd)
{
	uint64_t at;
	int rc;

	(void)pthread_mutex_lock(&order_lock);
	at = order_now;
	(void)pthread_mutex_unlock(&order_lock);
	rc = (int)syscall(SYS_fdatasync, fd);
	if (rc == 0 && fd_is(fd, ".data")) {
		(void)pthread_mutex_lock(&order_lock);
		order_synced = at;
		(void)pthread_mutex_unlock(&order_lock);
	}
	return rc;
}

Test(download, the_journal_claims_only_what_is_on_disk)
{
	run_ok();
	whole();
	cr_assert_geq(order_journals, 3);
	cr_assert_eq(order_wrong, 0);
}

/* ---- the good case ------------------------------------------------------------------------------------ */

Test(download, everything_arrives_and_not_one_byte_twice)
{
	run_ok();
	whole();
	cr_assert_eq(res.fetched, everything, "%llu of %llu", (unsigned long long)res.fetched, (unsigned long long)everything);
	cr_assert_eq(res.wasted, 0);
	cr_assert_eq(dl_sent(&repo), everything);
	cr_assert_eq(last.done, everything);
	cr_assert_eq(last.total, everything);
	cr_assert_eq(mfs_download_missing(store, "det", m), 0);
	/* Again: everything stands; it is read once and nothing is fetched. */
	run_ok();
	cr_assert_eq(dl_sent(&repo), everything);
}

/* A source that stops in the middle of each long answer until a rate is told that only its beginning can explain. */
static enum mfs_code
halting_sink(void *user, const void *p, size_t n, struct mfs_err *e)
{
	const struct mfs_download_get *q = user;
	const size_t half = n / 2;
	enum mfs_code code = MFS_OK;

	if (half > 0)
		code = q->sink(q->user, p, half, e);
	for (unsigned i = 0; i < 3000 && n >= 10000 && atomic_load(&best_rate) < 20000; i++)
		(void)usleep(10000);
	return code == MFS_OK ? q->sink(q->user, (const uint8_t *)p + half, n - half, e) : code;
}

static enum mfs_code
halting_get(void *user, const struct mfs_download_get *q, struct mfs_download_got *got, struct mfs_err *e)
{
	struct mfs_download_get own = *q;

	own.room = NULL;
	own.sink = halting_sink;
	own.user = (void *)(uintptr_t)q;
	return dl_get(user, &own, got, e);
}

Test(download, the_rate_is_of_what_arrives_not_of_what_is_complete)
{
	bundle(&(struct mk_bundle){ .files = files, .n_files = 1 }, "large");
	args.get = halting_get;
	download_make();
	dl->patience_ms = 60000;
	run_ok();
	whole();
	cr_assert_geq(atomic_load(&best_rate), 20000, "%llu", (unsigned long long)atomic_load(&best_rate));
}

/* One payload under several names and cut up in two ways, and a file that is another one's chunk table. */
Test(download, what_several_files_share_arrives_for_all)
{
	static const struct mk_file same[] = { { "a", 3 * 65536 + 17, 4 } };
	struct mfs_file four[4] = { m->files[3], { 0 }, m->files[3], { 0 } };
	struct mfs_manifest odd = { 0 };
	const struct mfs_download_version v = { .id = "det", .m = &odd, .cancel = &cancel };
	struct mfs_manifest *first = mfs_steal(&m);

	bundle(&(struct mk_bundle){ .files = same, .n_files = 1, .chunk_size = 2 * MFS_CHUNK_MIN }, "other");
	four[1] = m->files[0];
	four[3] = (struct mfs_file){ .name = four[0].name, .size = mfs_table_length(four[0].chunks), .sha256 = four[0].chunks_sha256,
		.chunk_size = MFS_CHUNK_MIN, .chunks = 1 };
	odd = *m;
	odd.files = four;
	odd.n_files = 4;
	odd.total_size = 3 * four[0].size + four[3].size;
	err = (struct mfs_err)MFS_ERR_INIT;
	cr_assert_eq(mfs_download_version(dl, &v, &res, &err), MFS_OK, "%s", err.msg);
	for (size_t i = 0; i < 4; i++)
		cr_assert(blob_right(&four[i].sha256) && (four[i].chunks == 1 || blob_right(&four[i].chunks_sha256)), "%zu", i);
	mfs_manifest_free(first);
}

Test(download, an_encrypted_version_and_odd_pieces)
{
	static const struct mfs_key key = { { 7 } };
	static const size_t pieces[] = { 1021, 65536, 65537, 1 << 20 };

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		char name[8], version[16];

		(void)snprintf(name, sizeof(name), "e%zu", i);
		(void)snprintf(version, sizeof(version), "2.%zu.0", i);
		bundle(&(struct mk_bundle){ FILES, .version = version, .release = (int64_t)i + 2, .model_key = &key }, name);
		repo.piece = pieces[i];
		run_ok();
		whole();
		cr_assert_eq(res.wasted, 0);
	}
}

Test(download, the_manifest_comes_last_and_with_its_blobs)
{
	struct mfs_signed s = { 0 }, got;
	struct mfs_download_version v = { .id = "det", .m = m, .signed_bytes = &s };

	s.manifest = scratch_read(root_fd, "b/manifest.json", &s.manifest_len);
	s.sig = scratch_read(root_fd, "b/signature.sig", &s.sig_len);
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_STATUS, .http = 500 });
	cr_assert_eq(mfs_download_version(dl, &v, &res, &err), MFS_NET_HTTP);
	cr_assert_eq(scratch_count(store_fd, "manifests"), 0);
	repo.n_faults = 0;
	download_make();
	cr_assert_eq(mfs_download_version(dl, &v, &res, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_signed_get(store_fd, &m->id, &got, &err), MFS_OK, "%s", err.msg);
	cr_assert(mfs_signed_equal(&s, &got));
	mfs_signed_free(&got);
	mfs_signed_free(&s);
}

/* ---- faults of sources ---------------------------------------------------------------------------------- */

/* One source, one fault at the nth request: it costs one chunk at most, and the version arrives. */
static void
fault_costs_a_chunk(struct dl_fault f)
{
	for (f.nth = 0; f.nth < 9; f.nth++) {
		const uint64_t hit = repo.hit;

		repo.n_faults = 0;
		for (unsigned i = 0; i < DL_SOURCES; i++)
			repo.requests[i] = 0;
		dl_fault_add(&repo, f);
		download_make();
		run_ok();
		whole();
		cr_assert(f.nth > 6 || repo.hit == hit + 1, "request %d: the fault did not happen", (int)f.nth);
		/* Of a source that knows no ranges all of a part is read, once. */
		cr_assert(res.wasted <= CHUNK + FLIGHT, "fault %d at request %d: %llu bytes wasted", f.kind, (int)f.nth,
			(unsigned long long)res.wasted);
		for (size_t i = 0; i < m->n_files; i++) {
			mfs_store_blob_drop(store, &m->files[i].sha256);
			mfs_store_blob_drop(store, &m->files[i].chunks_sha256);
		}
	}
}

Test(download, a_flipped_byte_costs_a_chunk)
{
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_CORRUPT, .after = 70 });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_CORRUPT, .after = 200 });
}

Test(download, a_truncated_answer_costs_a_chunk)
{
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_TRUNCATE, .after = 0 });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_TRUNCATE, .after = 100001 });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_SHORT, .after = 100001 });
}

Test(download, statuses_cost_nothing)
{
	static const unsigned http[] = { 404, 408, 416, 429, 500, 503 };

	for (size_t i = 0; i < sizeof(http) / sizeof(http[0]); i++)
		fault_costs_a_chunk((struct dl_fault){ .kind = DL_STATUS, .http = http[i] });
}

Test(download, timeouts_portals_and_endless_bodies_cost_a_chunk)
{
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_TIMEOUT, .after = 3 * 65536 + 1000 });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_PORTAL });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_ENDLESS });
	fault_costs_a_chunk((struct dl_fault){ .kind = DL_NO_RANGE });
}

Test(download, a_source_without_ranges_is_read_over)
{
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_NO_RANGE });
	args.threads = 2;
	download_make();
	run_ok();
	whole();
}

Test(download, every_other_answer_is_cut_off_and_it_still_arrives)
{
	for (uint64_t i = 0; i < DL_FAULTS; i++)
		dl_fault_add(&repo, (struct dl_fault){ .nth = 2 * i, .kind = DL_TRUNCATE, .after = 90000 + i * 7777 });
	run_ok();
	whole();
	cr_assert_leq(res.wasted, (CHUNK + FLIGHT) * repo.hit);
}

/* ---- several sources ------------------------------------------------------------------------------------- */

static void
mirrors(unsigned n, uint32_t only)
{
	args.n_mirrors = n;
	args.only = only;
	download_make();
}

Test(download, a_wrong_mirror_is_left_for_another)
{
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = DL_EVERY, .kind = DL_CORRUPT, .after = 5 });
	mirrors(1, 0);
	dl->backoff_ms = 1000;
	run_ok();
	whole();
	/* Some requests are under way together before the first is known to be wrong. */
	cr_assert_leq(res.wasted, 8 * (CHUNK + FLIGHT), "%llu", (unsigned long long)res.wasted);
	cr_assert_geq(repo.sent[1], LARGE - 8 * CHUNK);
}

Test(download, a_dead_mirror_is_left_for_another)
{
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = DL_EVERY, .kind = DL_STATUS, .http = 404 });
	dl_fault_add(&repo, (struct dl_fault){ .source = 1, .nth = DL_EVERY, .kind = DL_PORTAL });
	mirrors(2, 0);
	run_ok();
	whole();
	cr_assert_eq(repo.sent[2], everything);
}

Test(download, the_repository_is_not_asked_beside_an_only_mirror)
{
	mirrors(2, 2); /* two mirrors, the second is `only` */
	run_ok();
	whole();
	cr_assert_eq(repo.requests[0] + repo.requests[2], 0);
	for (size_t i = 0; i < m->n_files; i++)
		mfs_store_blob_drop(store, &m->files[i].sha256);
	dl_fault_add(&repo, (struct dl_fault){ .source = 1, .nth = DL_EVERY, .kind = DL_STATUS, .http = 500 });
	download_make();
	cr_assert_eq(run(), MFS_NET_HTTP);
	cr_assert_eq(repo.requests[0] + repo.requests[2], 0);
}

Test(download, a_table_of_several_sources_that_is_wrong_comes_from_one)
{
	/* Both cut the table up: its first bytes are wrong, and nobody knows whose. */
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = 0, .kind = DL_CORRUPT, .after = 3 });
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = 1, .kind = DL_TRUNCATE, .after = 1000 });
	mirrors(1, 0);
	run_ok();
	whole();
}

Test(download, what_no_source_has_right_ends_the_call_and_never_reaches_the_store)
{
	const struct dl_blob *b = blob_of(&m->files[0].sha256);

	b->bytes[5 * CHUNK + 9] ^= 1; /* the mirror's copy is damaged in one place */
	cr_assert_eq(run(), MFS_HASH_MISMATCH, "%s", err.msg);
	nothing();
	/* The rest was staged: everything but that chunk. */
	cr_assert_leq(res.wasted, (MFS_DL_MISMATCHES + 2) * (CHUNK + FLIGHT), "%llu in %llu requests",
		(unsigned long long)res.wasted, (unsigned long long)repo.requests[0]);
	b->bytes[5 * CHUNK + 9] ^= 1;
	const uint64_t before = dl_sent(&repo);
	download_make();
	run_ok();
	whole();
	cr_assert_leq(dl_sent(&repo) - before, CHUNK, "%llu", (unsigned long long)(dl_sent(&repo) - before));
}

Test(download, garbage_from_every_source_is_bounded)
{
	dl_fault_add(&repo, (struct dl_fault){ .source = 0, .nth = DL_EVERY, .kind = DL_CORRUPT, .after = 5 });
	dl_fault_add(&repo, (struct dl_fault){ .source = 1, .nth = DL_EVERY, .kind = DL_CORRUPT, .after = 5 });
	mirrors(1, 0);
	cr_assert_eq(run(), MFS_HASH_MISMATCH, "%s", err.msg);
	nothing();
	cr_assert_leq(dl_sent(&repo), 2 * everything);
}

Test(download, retry_after_is_told_and_kept)
{
	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_STATUS, .http = 429, .retry_after_s = 3600 });
	args.threads = 1;
	download_make();
	cr_assert_eq(run(), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(res.retry_after_s, 3600);
	cr_assert_eq(repo.requests[0], 1);
	/* The next call knows it still. */
	cr_assert_neq(run(), MFS_OK);
	cr_assert_eq(repo.requests[0], 1);
	cr_assert_geq(res.retry_after_s, 3590);
	/* Who asks by hand does not overrule what the server said. */
	mfs_download_awake(dl);
	cr_assert_neq(run(), MFS_OK);
	cr_assert_eq(repo.requests[0], 1);
}

Test(download, who_asks_does_not_wait_for_a_source_that_rests_after_faults)
{
	dl_fault_add(&repo, (struct dl_fault){ .nth = 0, .kind = DL_STATUS, .http = 503 });
	args.threads = 1;
	download_make();
	dl->backoff_ms = 3600 * 1000;
	cr_assert_eq(run(), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(repo.requests[0], 1);
	repo.n_faults = 0;
	cr_assert_eq(run(), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_eq(repo.requests[0], 1);
	mfs_download_awake(dl);
	run_ok();
	whole();
}

Test(download, retry_after_counts_for_no_longer_than_the_longest_interval)
{
	dl_fault_add(&repo, (struct dl_fault){ .kind = DL_STATUS, .http = 503, .retry_after_s = 86400 });
	args.threads = 1;
	args.retry_most_s = 1;
	download_make();
	cr_assert_eq(run(), MFS_NET_HTTP, "%s", err.msg);
	cr_assert_leq(res.retry_after_s, 1);
	dl->patience_ms = 5000;
	run_ok(); /* asked again within the same day */
	whole();
}
