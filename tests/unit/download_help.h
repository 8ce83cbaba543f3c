/* SPDX-License-Identifier: Apache-2.0 */
/* download_help.h - a repository, a store and a download between them, for the tests of downloads. */
#ifndef DOWNLOAD_HELP_H
#define DOWNLOAD_HELP_H

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
static _Atomic uint64_t best_rate; /* that was told */

static const struct mk_file files[] = {
	{ "big.bin", LARGE, 11 }, { "config.json", 300, 3 }, { "empty", 0, 0 }, { "small/weights.bin", 3 * 65536 + 17, 4 },
};
#define FILES .files = files, .n_files = 4
static uint64_t everything; /* bytes of all payloads and tables */

static inline void
progress(void *user, const struct mfs_download_progress *p)
{
	(void)user;
	cr_assert_leq(p->done, p->total);
	last = *p;
	if (p->rate > atomic_load(&best_rate))
		atomic_store(&best_rate, p->rate);
}

/* A bundle in the repository; m is its manifest. */
static inline void
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

static inline void
download_make(void)
{
	mfs_download_free(dl);
	cr_assert_eq(mfs_download_new(&args, &dl, &err), MFS_OK, "%s", err.msg);
	dl->backoff_ms = 4;
	dl->patience_ms = 300;
}

static inline void
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

static inline void
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

static inline enum mfs_code
run_with(const struct mfs_manifest *const *have, size_t n_have)
{
	const struct mfs_download_version v = { .id = "det", .m = m, .have = have, .n_have = n_have, .progress = progress,
		.cancel = &cancel };

	err = (struct mfs_err)MFS_ERR_INIT;
	return mfs_download_version(dl, &v, &res, &err);
}

static inline enum mfs_code
run(void)
{
	return run_with(NULL, 0);
}

static inline void
run_ok(void)
{
	enum mfs_code code = run();

	cr_assert_eq(code, MFS_OK, "%s: %s", mfs_code_name(code), err.msg);
}

static inline const struct dl_blob *
blob_of(const struct mfs_sha256 *hash)
{
	for (size_t i = 0; i < repo.n; i++)
		if (mfs_sha256_equal(&repo.blobs[i].hash, hash))
			return &repo.blobs[i];
	cr_assert(false, "no blob %s", MFS_HEX(hash));
	return NULL;
}

static inline bool
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
static inline void
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
static inline void
nothing(void)
{
	for (size_t i = 0; i < m->n_files; i++)
		cr_assert(!mfs_store_blob_has(store, &m->files[i].sha256, m->files[i].size), "%s is there", m->files[i].name);
}

static inline void
staged_name(char out[200], size_t file, const char *suffix)
{
	(void)snprintf(out, 200, "staging/dl-det/%s.%s", MFS_HEX(&m->files[file].sha256), suffix);
}

static inline void
cancel_at(void *user, uint64_t sent)
{
	if (sent >= *(uint64_t *)user)
		atomic_store(&cancel, 1);
}

static inline void
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

#endif
