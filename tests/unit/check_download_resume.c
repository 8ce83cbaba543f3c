/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads: cancelled, resumed, and what the device has already. */
#include "download_help.h"

TestSuite(download_resume, .init = setup, .fini = teardown, .timeout = 60);

/* ---- cancel, resume ------------------------------------------------------------------------------------------- */

static void *
cancel_soon(void *arg)
{
	(void)nanosleep(arg, NULL);
	atomic_store(&cancel, 1);
	return NULL;
}

Test(download_resume, a_cancelled_one_goes_on_where_it_was)
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

Test(download_resume, a_hanging_source_can_be_cancelled)
{
	const struct timespec before = { 0, 50000000 };
	pthread_t t;

	dl_fault_add(&repo, (struct dl_fault){ .nth = DL_EVERY, .kind = DL_HANG });
	cr_assert_eq(pthread_create(&t, NULL, cancel_soon, (void *)(uintptr_t)&before), 0);
	cr_assert_eq(run(), MFS_CONDITION_UNMET);
	(void)pthread_join(t, NULL);
	nothing();
}

Test(download_resume, what_was_damaged_in_staging_is_fetched_again_and_no_more)
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

Test(download_resume, a_journal_that_lies_costs_bytes_alone)
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

Test(download_resume, a_damaged_journal_begins_anew)
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

Test(download_resume, links_and_folders_in_staging_are_not_followed)
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

Test(download_resume, ranges_that_the_device_has_are_copied)
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

Test(download_resume, chunks_that_the_device_has_are_copied_wherever_they_lie)
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

Test(download_resume, a_damaged_blob_that_stands_is_mended_by_its_bad_chunks)
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

Test(download_resume, a_payload_that_does_not_fit_its_table_is_the_versions_fault)
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
