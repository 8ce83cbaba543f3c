/* SPDX-License-Identifier: Apache-2.0 */
#include "bundledir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

static const char sig_first[] = "signature.sig";
static const char sig_prefix[] = "signature.";
static const char sig_suffix[] = ".sig";

enum mfs_code
mfs_bundledir_open(const char *path, int *fd, struct mfs_err *err)
{
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0) {
		(void)mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
		return mfs_err_hint(err, "; name a bundle's folder, the one that holds manifest.json");
	}
	return MFS_OK;
}

static enum mfs_code
open_failed(const char *path, struct mfs_err *err)
{
	(void)mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if (errno == EACCES || errno == EPERM)
		(void)mfs_err_hint(err, "; the bundle must be readable for uid %u, which checks it", (unsigned)geteuid());
	return MFS_IO;
}

/* Open a regular file below dirfd, or say why not. *st is of the opened file. */
static enum mfs_code
file_open(int dirfd, const char *path, int *out, struct stat *st, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;

	*out = -1;
	/* O_PATH has no side effects on devices and never waits for a FIFO's other end. */
	fd = mfs_open_beneath(dirfd, path, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0 && (errno == ELOOP || errno == EXDEV))
		return mfs_fail(err, MFS_MALFORMED, "%s: leads through a link; a bundle holds only files and folders",
			MFS_ESC(path));
	if (fd < 0)
		return open_failed(path, err);
	if (fstat(fd, st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if (S_ISREG(st->st_mode)) {
		(void)close(mfs_steal_fd(&fd));
		fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
		if (fd < 0 || fstat(fd, st) != 0)
			return open_failed(path, err);
	}
	if (!S_ISREG(st->st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: %s, not a regular file; a bundle holds only files and folders",
			MFS_ESC(path),
			S_ISLNK(st->st_mode) ? "a link" : S_ISDIR(st->st_mode) ? "a folder" : "a special file");
	*out = mfs_steal_fd(&fd);
	return MFS_OK;
}

static enum mfs_code
doc_read(int dirfd, const char *name, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code;
	struct stat st;

	if ((code = file_open(dirfd, name, &fd, &st, err)) != MFS_OK)
		return code;
	return mfs_fd_read(fd, name, cap, out, len, err);
}

/* "signature.<64 hex>.sig": copies the digits. */
static bool
sig_name_key(const char *name, char key_id[MFS_BUNDLE_KEY_HEX + 1])
{
	const size_t pre = sizeof(sig_prefix) - 1;

	if (strlen(name) != pre + MFS_BUNDLE_KEY_HEX + sizeof(sig_suffix) - 1 ||
		strncmp(name, sig_prefix, pre) != 0 || strcmp(name + pre + MFS_BUNDLE_KEY_HEX, sig_suffix) != 0 ||
		strspn(name + pre, "0123456789abcdef") != MFS_BUNDLE_KEY_HEX)
		return false;
	memcpy(key_id, name + pre, MFS_BUNDLE_KEY_HEX);
	key_id[MFS_BUNDLE_KEY_HEX] = '\0';
	return true;
}

/* A stream over path below dirfd with its own file position. */
static DIR *
dir_open(int dirfd, const char *path)
{
	int fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *d;

	if (fd < 0)
		return NULL;
	if ((d = fdopendir(fd)) == NULL)
		mfs_cleanup_close(&fd);
	return d;
}

/* Next entry without "." and ".."; NULL at the end (errno 0) or on failure. */
static const struct dirent *
dir_next(DIR *d)
{
	const struct dirent *e;

	do {
		errno = 0;
		e = readdir(d);
	} while (e != NULL && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
	return e;
}

static int
sig_compare(const void *a, const void *b)
{
	const struct mfs_bundle_sig *x = a, *y = b;

	return strcmp(x->key_id, y->key_id); /* the empty one comes first */
}

static enum mfs_code
sigs_read(int dirfd, const struct mfs_bundle_caps *caps, struct mfs_bundle_docs *docs, struct mfs_err *err)
{
	mfs_autodir DIR *d = dir_open(dirfd, ".");
	const struct dirent *e;
	enum mfs_code code;

	if (d == NULL)
		return open_failed("bundle's folder", err);
	if ((docs->sigs = calloc(caps->signatures, sizeof(*docs->sigs))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signatures");
	while ((e = dir_next(d)) != NULL) {
		struct mfs_bundle_sig *s;
		char key_id[MFS_BUNDLE_KEY_HEX + 1] = { 0 };

		if (strcmp(e->d_name, sig_first) != 0 && !sig_name_key(e->d_name, key_id))
			continue;
		if (docs->n_sigs == caps->signatures)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "bundle: more than %zu signature files", caps->signatures);
		s = &docs->sigs[docs->n_sigs];
		if ((code = doc_read(dirfd, e->d_name, caps->signature_bytes, &s->bytes, &s->len, err)) != MFS_OK)
			return code;
		memcpy(s->key_id, key_id, sizeof(key_id));
		docs->n_sigs++;
	}
	if (errno != 0)
		return mfs_fail_sys(err, MFS_IO, "bundle's folder: read");
	qsort(docs->sigs, docs->n_sigs, sizeof(*docs->sigs), sig_compare);
	return MFS_OK;
}

enum mfs_code
mfs_bundledir_docs(int dirfd, const struct mfs_bundle_caps *caps, struct mfs_bundle_docs *out, struct mfs_err *err)
{
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	struct mfs_err local = MFS_ERR_INIT;
	enum mfs_code code;

	*out = (struct mfs_bundle_docs){ 0 };
	code = doc_read(dirfd, "manifest.json", caps->manifest_bytes, &docs.manifest, &docs.manifest_len, &local);
	if (code == MFS_IO && local.sys_errno == ENOENT)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: missing; this folder is not a bundle");
	if (code != MFS_OK) {
		if (err != NULL)
			*err = local;
		return code;
	}
	if ((code = sigs_read(dirfd, caps, &docs, err)) != MFS_OK)
		return code;
	*out = docs;
	docs = (struct mfs_bundle_docs){ 0 };
	return MFS_OK;
}

void
mfs_bundle_docs_free(struct mfs_bundle_docs *d)
{
	if (d == NULL)
		return;
	free(d->manifest);
	for (size_t i = 0; i < d->n_sigs; i++)
		free(d->sigs[i].bytes);
	free(d->sigs);
	*d = (struct mfs_bundle_docs){ 0 };
}

enum mfs_code
mfs_bundledir_file(int dirfd, const char *part, const char *name, uint64_t size, int *fd, struct mfs_err *err)
{
	struct mfs_err local = MFS_ERR_INIT;
	char path[1200];
	struct stat st = { 0 };
	enum mfs_code code;

	*fd = -1;
	if (snprintf(path, sizeof(path), "%s/%s", part, name) >= (int)sizeof(path))
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s/%s: name too long", part, MFS_ESC(name));
	code = file_open(dirfd, path, fd, &st, &local);
	if (code == MFS_IO && (local.sys_errno == ENOENT || local.sys_errno == ENOTDIR))
		return mfs_fail(err, MFS_HASH_MISMATCH, "%s: missing; copy the bundle again from its source", MFS_ESC(path));
	if (code != MFS_OK) {
		if (err != NULL)
			*err = local;
		return code;
	}
	if ((uint64_t)st.st_size != size) {
		mfs_cleanup_close(fd);
		return mfs_fail(err, MFS_HASH_MISMATCH,
			"%s: %llu bytes, signed are %llu; copy the bundle again from its source", MFS_ESC(path),
			(unsigned long long)st.st_size, (unsigned long long)size);
	}
	return MFS_OK;
}

struct scan {
	const char *part;
	const char *const *names;
	size_t n;
};

/* Index of the first name that is not below key. */
static size_t
name_lower_bound(const struct scan *s, const char *key)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(s->names[mid], key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Does an expected name equal path, or with a '/' at the end of path, begin with it? */
static bool
name_expected(const struct scan *s, const char *path, bool folder)
{
	size_t i = name_lower_bound(s, path);

	if (i == s->n)
		return false;
	return folder ? strncmp(s->names[i], path, strlen(path)) == 0 : strcmp(s->names[i], path) == 0;
}

/* prefix is "" or a path with a '/' at its end. Recursion is bounded by the expected names. */
static enum mfs_code
surplus_walk(int dirfd, const struct scan *s, const char *prefix, struct mfs_err *err)
{
	mfs_autodir DIR *d = dir_open(dirfd, ".");
	const struct dirent *e;

	if (d == NULL) {
		char path[1200];

		(void)snprintf(path, sizeof(path), "%s/%s", s->part, prefix);
		return open_failed(path, err);
	}
	while ((e = dir_next(d)) != NULL) {
		mfs_autofree char *path = NULL;
		mfs_autoclose int sub = -1;
		enum mfs_code code;
		struct stat st;
		bool folder;

		if (fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			return mfs_fail_sys(err, MFS_IO, "%s/%s%s", s->part, MFS_ESC(prefix), MFS_ESC(e->d_name));
		folder = S_ISDIR(st.st_mode);
		if (asprintf(&path, "%s%s%s", prefix, e->d_name, folder ? "/" : "") < 0) {
			path = NULL;
			return mfs_fail(err, MFS_NO_MEMORY, "%s", s->part);
		}
		if (!folder && !S_ISREG(st.st_mode))
			return mfs_fail(err, MFS_MALFORMED, "%s/%s: %s; a bundle holds only files and folders", s->part,
				MFS_ESC(path), S_ISLNK(st.st_mode) ? "a link" : "a special file");
		if (!name_expected(s, path, folder))
			return mfs_fail(err, MFS_MALFORMED, "%s/%s: surplus, the signed manifest does not name it; "
				"remove it or copy the bundle again", s->part, MFS_ESC(path));
		if (!folder)
			continue;
		sub = mfs_open_beneath(dirfd, e->d_name, O_RDONLY | O_DIRECTORY, 0);
		if (sub < 0)
			return mfs_fail_sys(err, MFS_IO, "%s/%s", s->part, MFS_ESC(path));
		if ((code = surplus_walk(sub, s, path, err)) != MFS_OK)
			return code;
	}
	if (errno != 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s: read", s->part, MFS_ESC(prefix));
	return MFS_OK;
}

enum mfs_code
mfs_bundledir_surplus(int dirfd, const char *part, const char *const *names, size_t n, struct mfs_err *err)
{
	const struct scan s = { part, names, n };
	mfs_autoclose int fd = mfs_open_beneath(dirfd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0 && errno == ENOENT)
		return MFS_OK;
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR || errno == EXDEV))
		return mfs_fail(err, MFS_MALFORMED, "%s: not a folder; a bundle holds only files and folders", part);
	if (fd < 0)
		return open_failed(part, err);
	return surplus_walk(fd, &s, "", err);
}

enum mfs_code
mfs_bundledir_others(int dirfd, void (*fn)(void *arg, const char *name), void *arg, struct mfs_err *err)
{
	static const char *const known[] = { "manifest.json", "signature.sig", "payload", "chunks", "index", "grants" };
	mfs_autodir DIR *d = dir_open(dirfd, ".");
	const struct dirent *e;

	if (d == NULL)
		return mfs_fail_sys(err, MFS_IO, "bundle's folder");
	while ((e = dir_next(d)) != NULL) {
		char key_id[MFS_BUNDLE_KEY_HEX + 1];
		bool found = sig_name_key(e->d_name, key_id);

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
			found = strcmp(e->d_name, known[i]) == 0;
		if (!found)
			fn(arg, e->d_name);
	}
	if (errno != 0)
		return mfs_fail_sys(err, MFS_IO, "bundle's folder: read");
	return MFS_OK;
}
