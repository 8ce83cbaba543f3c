/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles in seed folders, used in place: a map from blob hashes to their files. The manifests are
 * read for this map alone and prove nothing: whoever reads a blob verifies its bytes, wherever
 * they come from.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bundledir.h"
#include "io.h"
#include "log.h"
#include "store_io.h"

#define SEED_BUNDLES_MAX 256u

struct seed_blob {
	struct mfs_sha256 hash;
	uint64_t size;
	int dirfd;  /* of its bundle, borrowed from bundles[] */
	char *path; /* "payload/<name>" or "chunks/<name>" */
};

struct mfs_seeds {
	int bundles[SEED_BUNDLES_MAX];
	size_t n_bundles;
	struct seed_blob *blobs; /* sorted by hash */
	size_t n, cap;
};

void
mfs_seeds_free(struct mfs_seeds *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++)
		free(s->blobs[i].path);
	for (size_t i = 0; i < s->n_bundles; i++)
		(void)close(s->bundles[i]);
	free(s->blobs);
	free(s);
}

static bool
blob_add(struct mfs_seeds *s, int dirfd, const char *part, const char *name, const struct mfs_sha256 *hash,
	uint64_t size)
{
	struct seed_blob *b;

	if (s->n == s->cap) {
		size_t cap = s->cap > 0 ? 2 * s->cap : 64;

		if ((b = reallocarray(s->blobs, cap, sizeof(*b))) == NULL)
			return false;
		s->blobs = b;
		s->cap = cap;
	}
	b = &s->blobs[s->n];
	*b = (struct seed_blob){ .hash = *hash, .size = size, .dirfd = dirfd };
	if (asprintf(&b->path, "%s/%s", part, name) < 0)
		return false;
	s->n++;
	return true;
}

/* A folder that is no bundle, or a damaged one, is passed over: it has nothing to offer. Owns dirfd. */
static enum mfs_code
bundle_add(struct mfs_seeds *s, int dirfd_, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autoclose int dirfd = dirfd_, fd = -1;
	mfs_autofree uint8_t *text = NULL;
	size_t len;
	bool ok = true;

	if (s->n_bundles == SEED_BUNDLES_MAX ||
		(fd = mfs_open_beneath(dirfd, "manifest.json", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)) < 0 ||
		mfs_fd_read(fd, "manifest.json", MFS_MANIFEST_BYTES_MAX, &text, &len, NULL) != MFS_OK ||
		mfs_manifest_parse(MFS_SPAN(text, len), &m, NULL) != MFS_OK)
		return MFS_OK;
	for (size_t i = 0; ok && i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		ok = blob_add(s, dirfd, "payload", f->name, &f->sha256, f->size) &&
			(f->chunks <= 1 ||
				blob_add(s, dirfd, "chunks", f->name, &f->chunks_sha256, mfs_table_length(f->chunks)));
	}
	s->bundles[s->n_bundles++] = mfs_steal_fd(&dirfd);
	return ok ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "seed: %zu files", m->n_files);
}

static int
blob_order(const void *a, const void *b)
{
	return memcmp(((const struct seed_blob *)a)->hash.b, ((const struct seed_blob *)b)->hash.b, MFS_SHA256_LEN);
}

/* The folder itself, and each folder directly in it. */
static enum mfs_code
folder_scan(struct mfs_seeds *s, int seed, struct mfs_err *err)
{
	int self = openat(seed, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int list = openat(seed, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mfs_autodir DIR *d = NULL;
	enum mfs_code code;

	if (self < 0 || list < 0 || (d = fdopendir(list)) == NULL) {
		struct mfs_err why = MFS_ERR_INIT;

		/* What a seed cannot give is no reason to serve nothing. */
		(void)mfs_fail_sys(&why, MFS_IO, "cannot be listed by this user, its bundles are not used");
		mfs_log_err("seed", &why);
		if (self >= 0)
			(void)close(self);
		if (list >= 0)
			(void)close(list);
		return MFS_OK;
	}
	code = bundle_add(s, self, err);
	for (struct dirent *e; code == MFS_OK && (e = readdir(d)) != NULL;) {
		int fd;

		if (e->d_name[0] != '.' &&
			(fd = mfs_open_beneath(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) >= 0)
			code = bundle_add(s, fd, err);
	}
	return code;
}

enum mfs_code
mfs_seeds_open(const int *seeds, size_t n, struct mfs_seeds **out, struct mfs_err *err)
{
	struct mfs_seeds *s = calloc(1, sizeof(*s));
	enum mfs_code code = MFS_OK;

	*out = NULL;
	if (s == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "seed");
	for (size_t i = 0; i < n && code == MFS_OK; i++)
		code = folder_scan(s, seeds[i], err);
	if (code != MFS_OK) {
		mfs_seeds_free(s);
		return code;
	}
	if (s->n > 1)
		qsort(s->blobs, s->n, sizeof(*s->blobs), blob_order);
	*out = s;
	return MFS_OK;
}

int
mfs_seeds_bundle(const struct mfs_seeds *s, size_t i)
{
	return i < s->n_bundles ? s->bundles[i] : -1;
}

int
mfs_seeds_blob_open(const struct mfs_seeds *s, const struct mfs_sha256 *hash, int flags)
{
	const struct seed_blob key = { .hash = *hash }, *b;
	mfs_autoclose int fd = -1;
	struct stat st;

	if (s->n == 0 || (b = bsearch(&key, s->blobs, s->n, sizeof(*b), blob_order)) == NULL) {
		errno = ENOENT;
		return -1;
	}
	fd = mfs_open_beneath(b->dirfd, b->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | flags, 0);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != b->size) {
		errno = EINVAL;
		return -1;
	}
	return mfs_steal_fd(&fd);
}
