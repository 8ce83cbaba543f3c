/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Downloads: whatever sources send and whatever a crash left, the store gets the signed bytes or nothing, a fault
 * costs one chunk, and what is there is not fetched.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>

#include "dlfix.h"
#include "download_io.h"
#include "log.h"
#include "mkbundle.h"
#include "scratch.h"

#define CHUNK ((uint64_t)MFS_CHUNK_MIN)
#define FLIGHT 50000u /* bytes that a source has sent before it hears that they are not wanted */
#define LARGE (9 * (uint64_t)(1 << 20) + 17)

static char root[256];
static int root_fd = -1, store_fd = -1;
static struct mfs_store *store;
static struct mk_signer *signer;
static struct dl_repo repo;
static struct mfs_download *dl;
static struct mfs_manifest *m;
static struct mfs_download_args args;
static struct mfs_download_result res;
static struct mfs_err err;
static _Atomic int cancel;
static struct mfs_download_progress last;

static const struct mk_file files[] = {
	{ "big.bin", LARGE, 11 }, { "config.json", 300, 3 }, { "empty", 0, 0 }, { "small/weights.bin", 3 * 65536 + 17, 4 },
};
#define FILES .files = files, .n_files = 4
static uint64_t everything; /* bytes of all payloads and tables */

static void
progress(void *user, const struct mfs_download_progress *p)
{
	(void)user;
	cr_assert_leq(p->done, p->total);
	last = *p;
}

/* A bundle in the repository; m is its manifest. */
static void
bundle(const struct mk_bundle *b, const char *name)
{
	int fd;

	mk_bundle(signer, b, root_fd, name, NULL);
	fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	mfs_manifest_free(m);
	m = dl_manifest(fd);
	dl_repo_bundle(&repo, fd, m);
	(void)close(fd);
	everything = m->total_size;
	for (size_t i = 0; i < m->n_files; i++)
		everything += mfs_table_length(m->files[i].chunks);
}

static void
download_make(void)
{
	mfs_download_free(dl);
	cr_assert_eq(mfs_download_new(&args, &dl, &err), MFS_OK, "%s", err.msg);
	dl->backoff_ms = 4;
	dl->patience_ms = 300;
}

static void
setup(void)
{
	mfs_log_open("check", MFS_LOG_ERR);
	root_fd = scratch_make(root, "check-download");
	store_fd = scratch_folder(root_fd, "store");
	cr_assert_eq(mfs_store_open(store_fd, NULL, 0, &store, &err), MFS_OK, "%s", err.msg);
	signer = mk_signer_new();
	args = (struct mfs_download_args){ .store = store, .get = dl_get, .get_user = &repo, .batch = 1 << 20 };
	bundle(&(struct mk_bundle){ FILES }, "b");
	download_make();
}

static void
teardown(void)
{
	mfs_download_free(dl);
	mfs_manifest_free(m);
	dl_repo_clear(&repo);
	mk_signer_free(signer);
	mfs_store_close(store);
	(void)close(store_fd);
	(void)close(root_fd);
	scratch_remove(root);
}

TestSuite(download, .init = setup, .fini = teardown, .timeout = 60);

static enum mfs_code
run_with(const struct mfs_manifest *const *have, size_t n_have)
{
	const struct mfs_download_version v = { .id = "det", .m = m, .have = have, .n_have = n_have, .progress = progress,
		.cancel = &cancel };

	err = (struct mfs_err)MFS_ERR_INIT;
	return mfs_download_version(dl, &v, &res, &err);
}

static enum mfs_code
run(void)
{
	return run_with(NULL, 0);
}

static void
run_ok(void)
{
	enum mfs_code code = run();

	cr_assert_eq(code, MFS_OK, "%s: %s", mfs_code_name(code), err.msg);
}

static const struct dl_blob *
blob_of(const struct mfs_sha256 *hash)
{
	for (size_t i = 0; i < repo.n; i++)
		if (mfs_sha256_equal(&repo.blobs[i].hash, hash))
			return &repo.blobs[i];
	cr_assert(false, "no blob %s", MFS_HEX(hash));
	return NULL;
}

static bool
blob_right(const struct mfs_sha256 *hash)
{
	const struct dl_blob *b = blob_of(hash);
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autoclose int fd = mfs_store_blob_open(store, hash, 0);
	size_t n;

	return fd >= 0 && mfs_fd_read(fd, "blob", b->len, &bytes, &n, NULL) == MFS_OK && n == b->len &&
		memcmp(bytes, b->bytes, n) == 0;
}

/* Every blob of m stands in the store, byte for byte, and nothing else is left. */
static void
whole(void)
{
	for (size_t i = 0; i < m->n_files; i++) {
		cr_assert(blob_right(&m->files[i].sha256), "%s differs", m->files[i].name);
		cr_assert(m->files[i].chunks <= 1 || blob_right(&m->files[i].chunks_sha256), "table of %s differs",
			m->files[i].name);
	}
	cr_assert_eq(scratch_count(store_fd, "staging"), 0);
}

/* Nothing in blobs/: no version that is not whole leaves a blob. */
static void
nothing(void)
{
	for (size_t i = 0; i < m->n_files; i++)
		cr_assert(!mfs_store_blob_has(store, &m->files[i].sha256, m->files[i].size), "%s is there", m->files[i].name);
}

static void
staged_name(char out[200], size_t file, const char *suffix)
{
	(void)snprintf(out, 200, "staging/dl-det/%s.%s", MFS_HEX(&m->files[file].sha256), suffix);
}

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
}

/* ---- cancel, resume ------------------------------------------------------------------------------------------- */

static void
cancel_at(void *user, uint64_t sent)
{
	if (sent >= *(uint64_t *)user)
		atomic_store(&cancel, 1);
}

static void *
cancel_soon(void *arg)
{
	(void)nanosleep(arg, NULL);
	atomic_store(&cancel, 1);
	return NULL;
}

static void
half(void)
{
	uint64_t at = LARGE / 2;

	repo.each = cancel_at;
	repo.user = &at;
	repo.pause_us = 2000;
	cr_assert_eq(run(), MFS_CONDITION_UNMET, "%s", err.msg);
	nothing();
	repo.each = NULL;
	repo.pause_us = 0;
	atomic_store(&cancel, 0);
}

Test(download, a_cancelled_one_goes_on_where_it_was)
{
	uint64_t missing;

	half();
	missing = mfs_download_missing(store, "det", m);
	cr_assert_lt(missing, everything - LARGE / 3);
	download_make();
	run_ok();
	whole();
	/* The chunks under way when it was cancelled, one per thread, come again. */
	cr_assert_leq(dl_sent(&repo), everything + 8 * CHUNK, "%llu", (unsigned long long)dl_sent(&repo));
	cr_assert_geq(res.resumed, LARGE / 3);
}

Test(download, a_hanging_source_can_be_cancelled)
{
	const struct timespec before = { 0, 50000000 };
	pthread_t t;

	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_HANG });
	cr_assert_eq(pthread_create(&t, NULL, cancel_soon, (void *)(uintptr_t)&before), 0);
	cr_assert_eq(run(), MFS_CONDITION_UNMET);
	(void)pthread_join(t, NULL);
	nothing();
}

Test(download, what_was_damaged_in_staging_is_fetched_again_and_no_more)
{
	char name[200];
	uint64_t before;

	half();
	staged_name(name, 0, "data");
	mk_flip(store_fd, name, 100);
	before = dl_sent(&repo);
	download_make();
	run_ok();
	whole();
	cr_assert_leq(dl_sent(&repo) - before, everything - res.resumed);
	cr_assert_gt(res.resumed, 0);
}

Test(download, a_journal_that_lies_costs_bytes_alone)
{
	uint8_t all[(LARGE / MFS_CHUNK_MIN + 8) / 8 + MFS_JOURNAL_HEADER];
	char name[200];
	int fd;

	half();
	/* Everything is there, it says, and the file is as long as it should be. */
	staged_name(name, 0, "data");
	fd = openat(store_fd, name, O_RDWR | O_CLOEXEC);
	cr_assert(fd >= 0 && ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)LARGE) == 0);
	(void)close(fd);
	memset(all, 0xff, sizeof(all));
	mfs_journal_header(all, &m->files[0]);
	all[mfs_journal_length(&m->files[0]) - 1] = (uint8_t)((1u << (m->files[0].chunks % 8)) - 1);
	staged_name(name, 0, "journal");
	scratch_write(store_fd, name, all, (size_t)mfs_journal_length(&m->files[0]));
	download_make();
	run_ok();
	whole();
}

Test(download, a_damaged_journal_begins_anew)
{
	char name[200];

	for (int i = 0; i < 3; i++) {
		half();
		staged_name(name, 0, "journal");
		if (i == 0)
			mk_flip(store_fd, name, 20);
		else if (i == 1)
			scratch_write(store_fd, name, "x", 1);
		else
			cr_assert_eq(unlinkat(store_fd, name, 0), 0);
		download_make();
		run_ok();
		whole();
		for (size_t k = 0; k < m->n_files; k++)
			mfs_store_blob_drop(store, &m->files[k].sha256);
		repo.sent[0] = 0;
	}
}

Test(download, links_and_folders_in_staging_are_not_followed)
{
	char name[200];
	struct stat st;

	half();
	staged_name(name, 0, "data");
	cr_assert_eq(unlinkat(store_fd, name, 0), 0);
	scratch_write(root_fd, "outside", "precious", 8);
	cr_assert_eq(symlinkat("../../../outside", store_fd, name), 0);
	staged_name(name, 0, "journal");
	cr_assert(unlinkat(store_fd, name, 0) == 0 && mkdirat(store_fd, name, 0700) == 0);
	download_make();
	run_ok();
	whole();
	cr_assert(fstatat(root_fd, "outside", &st, 0) == 0 && st.st_size == 8);
}

/* ---- what the device has ---------------------------------------------------------------------------------------- */

Test(download, ranges_that_the_device_has_are_copied)
{
	const struct mfs_manifest *have;
	struct mfs_manifest *old;
	const struct dl_blob *b;
	uint64_t before;
	mfs_autofree uint8_t *changed = NULL;
	int fd;

	run_ok();
	old = m;
	m = NULL;
	have = old;
	/* The same file with 100 bytes changed in one chunk, and one more chunk of data at its end. */
	b = blob_of(&old->files[0].sha256);
	cr_assert_not_null(changed = malloc(b->len));
	memcpy(changed, b->bytes, b->len);
	static const struct mk_file next[] = { { "big.bin", LARGE, 11 }, { "config.json", 301, 5 } };
	mk_bundle(signer, &(struct mk_bundle){ .files = next, .n_files = 2, .version = "1.1.0", .release = 2 }, root_fd, "n", NULL);
	fd = openat(root_fd, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m = dl_manifest(fd);
	dl_repo_bundle(&repo, fd, m);
	(void)close(fd);
	/* Unchanged: neither fetched nor read. */
	before = dl_sent(&repo);
	cr_assert_eq(run_with(&have, 1), MFS_OK, "%s", err.msg);
	whole();
	cr_assert_eq(dl_sent(&repo) - before, 301);
	mfs_manifest_free(old);
}

/* A payload with the chunks of files[0], but for those changed, as a manifest of its own. */
static void
variant_of_big(struct mfs_manifest **out, struct mfs_file *file, const uint8_t *bytes, uint64_t size)
{
	const uint64_t chunks = (size + CHUNK - 1) / CHUNK;
	size_t len = (size_t)mfs_table_length(chunks);
	mfs_autofree uint8_t *table = calloc(1, len);
	struct mfs_sha256 h;

	*out = calloc(1, sizeof(**out));
	*file = (struct mfs_file){ .name = m->files[0].name, .size = size, .chunk_size = MFS_CHUNK_MIN, .chunks = chunks };
	mfs_table_header(table, MFS_CHUNK_MIN, size, chunks);
	for (uint64_t i = 0; i < chunks; i++) {
		cr_assert_eq(mfs_sha256(MFS_SPAN(bytes + i * CHUNK, mfs_chunk_length(file, i)), &h, NULL), MFS_OK);
		memcpy(table + MFS_TABLE_HEADER + i * MFS_TABLE_ENTRY, h.b, MFS_SHA256_LEN);
	}
	cr_assert(mfs_sha256(MFS_SPAN(bytes, size), &file->sha256, NULL) == MFS_OK &&
		mfs_sha256(MFS_SPAN(table, len), &file->chunks_sha256, NULL) == MFS_OK);
	(*out)->files = file;
	(*out)->n_files = 1;
	(*out)->total_size = size;
	dl_repo_add(&repo, bytes, size);
	dl_repo_add(&repo, table, len);
}

Test(download, chunks_that_the_device_has_are_copied_wherever_they_lie)
{
	const struct mfs_manifest *have;
	struct mfs_manifest *old, *new;
	struct mfs_file file;
	mfs_autofree uint8_t *bytes = malloc(LARGE + 2 * CHUNK);
	uint64_t before;

	run_ok();
	/* Two chunks put in front, one changed: all others are the installed version's, elsewhere. */
	mk_fill(bytes, 2 * CHUNK, 99);
	memcpy(bytes + 2 * CHUNK, blob_of(&m->files[0].sha256)->bytes, LARGE);
	bytes[20 * CHUNK + 5] ^= 1;
	variant_of_big(&new, &file, bytes, LARGE + 2 * CHUNK);
	old = m;
	have = old;
	m = new;
	before = dl_sent(&repo);
	cr_assert_eq(run_with(&have, 1), MFS_OK, "%s", err.msg);
	whole();
	cr_assert_eq(dl_sent(&repo) - before, 3 * CHUNK + mfs_table_length(file.chunks), "%llu",
		(unsigned long long)(dl_sent(&repo) - before));
	cr_assert_geq(res.reused, LARGE - 2 * CHUNK);
	/* The installed version's blob is damaged: its bad chunk is fetched, the rest copied. */
	mfs_store_blob_drop(store, &file.sha256);
	char path[200];
	(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", MFS_HEX(&old->files[0].sha256), MFS_HEX(&old->files[0].sha256));
	mk_flip(store_fd, path, 30 * (int64_t)CHUNK);
	before = dl_sent(&repo);
	cr_assert_eq(run_with(&have, 1), MFS_OK, "%s", err.msg);
	whole();
	cr_assert_eq(dl_sent(&repo) - before, 4 * CHUNK);
	m = old;
	free(new);
}

Test(download, a_damaged_blob_that_stands_is_mended_by_its_bad_chunks)
{
	char path[200];
	uint64_t before;

	run_ok();
	(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", MFS_HEX(&m->files[0].sha256), MFS_HEX(&m->files[0].sha256));
	mk_flip(store_fd, path, 7);
	mk_flip(store_fd, path, 90 * (int64_t)CHUNK);
	before = dl_sent(&repo);
	run_ok();
	whole();
	cr_assert_eq(dl_sent(&repo) - before, 2 * CHUNK);
}

Test(download, a_payload_that_does_not_fit_its_table_is_the_versions_fault)
{
	struct mfs_manifest *new, *old = m;
	struct mfs_file file;
	mfs_autofree uint8_t *bytes = malloc(LARGE);

	mk_fill(bytes, LARGE, 5);
	variant_of_big(&new, &file, bytes, LARGE);
	/* Signed like this: chunks of one content, the hash of another. */
	bytes[0] ^= 1;
	cr_assert_eq(mfs_sha256(MFS_SPAN(bytes, LARGE), &file.sha256, NULL), MFS_OK);
	bytes[0] ^= 1;
	dl_repo_add(&repo, bytes, LARGE);
	repo.blobs[repo.n - 1].hash = file.sha256;
	m = new;
	cr_assert_eq(run(), MFS_MALFORMED, "%s", err.msg);
	nothing();
	m = old;
	free(new);
}

/* ---- room, budget ------------------------------------------------------------------------------------------------ */

static unsigned rooms;

static void
make_room(void *user, uint64_t need)
{
	(void)user;
	cr_assert_geq(need, everything);
	rooms++;
}

Test(download, without_room_nothing_is_fetched)
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

Test(download, a_disk_that_fills_meanwhile_ends_the_call_and_it_goes_on_later)
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

Test(download, the_byte_budget_holds_in_a_loop_of_bad_downloads)
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

Test(download, what_is_staged_survives_an_installation_and_goes_when_superseded)
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

Test(download, an_installation_under_way_is_waited_for)
{
	pthread_t t;
	int lock;

	cr_assert_eq(mfs_store_lock(store, &lock, &err), MFS_OK);
	cr_assert_eq(pthread_create(&t, NULL, unlock_soon, &lock), 0);
	run_ok();
	whole();
	(void)pthread_join(t, NULL);
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

Test(download, a_chunk_is_repaired_for_a_chunk)
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

Test(download, tables_and_whole_blobs_are_repaired)
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

Test(download, a_repair_is_never_wrong_and_holds_the_budget)
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

Test(download, a_chunk_of_several_truncated_answers_and_mirrors_is_repaired)
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
