/* SPDX-License-Identifier: Apache-2.0 */
/* What was signed, kept as it was received: manifests/<hash>/ in the state and in the store. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "store.h"
#include "store_io.h"

#define SIGNED_PATH 80 /* bytes of "manifests/<64 digits>" with its end */
#define SIG_NAME    80 /* bytes of "signature.<64 digits>.sig" with its end */

void
mfs_signed_free(struct mfs_signed *s)
{
	if (s == NULL)
		return;
	free(s->manifest);
	free(s->sig);
	for (size_t i = 0; i < s->n_extra; i++)
		free(s->extra[i].bytes);
	free(s->extra);
	*s = (struct mfs_signed){ 0 };
}

static bool
bytes_equal(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	if (a == NULL || b == NULL)
		return a == b;
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

bool
mfs_signed_equal(const struct mfs_signed *a, const struct mfs_signed *b)
{
	if (!bytes_equal(a->manifest, a->manifest_len, b->manifest, b->manifest_len) ||
		!bytes_equal(a->sig, a->sig_len, b->sig, b->sig_len) || a->n_extra != b->n_extra)
		return false;
	for (size_t i = 0; i < a->n_extra; i++) {
		bool found = false;

		for (size_t k = 0; k < b->n_extra; k++)
			found = found || (mfs_sha256_equal(&a->extra[i].key_id, &b->extra[k].key_id) &&
				bytes_equal(a->extra[i].bytes, a->extra[i].len, b->extra[k].bytes, b->extra[k].len));
		if (!found)
			return false;
	}
	return true;
}

static void
signed_path(char out[SIGNED_PATH], const struct mfs_sha256 *id)
{
	(void)snprintf(out, SIGNED_PATH, "manifests/%s", MFS_HEX(id));
}

static void
sig_name(char out[SIG_NAME], const struct mfs_sha256 *key_id)
{
	(void)snprintf(out, SIG_NAME, "signature.%s.sig", MFS_HEX(key_id));
}

/* "signature.<64 digits>.sig" -> key id */
static bool
sig_name_parse(const char *name, struct mfs_sha256 *key_id)
{
	static const char head[] = "signature.", tail[] = ".sig";
	const size_t h = sizeof(head) - 1, t = sizeof(tail) - 1;

	return strlen(name) == h + 64 + t && memcmp(name, head, h) == 0 && strcmp(name + h + 64, tail) == 0 &&
		mfs_hex_decode(key_id->b, MFS_SHA256_LEN, name + h, 64);
}

static enum mfs_code
file_get(int dirfd, const char *name, size_t cap, uint8_t **out, size_t *len, struct mfs_err *err)
{
	mfs_autoclose int fd = mfs_open_beneath(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);

	*out = NULL;
	*len = 0;
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", name);
	return mfs_fd_read(fd, name, cap, out, len, err);
}

/* Write a file unless it already holds exactly these bytes (saves its fsyncs). */
static enum mfs_code
file_put(int dirfd, const char *name, const uint8_t *bytes, size_t len, struct mfs_err *err)
{
	mfs_autofree uint8_t *have = NULL;
	size_t n;

	if (file_get(dirfd, name, len, &have, &n, NULL) == MFS_OK && n == len && memcmp(have, bytes, len) == 0)
		return MFS_OK;
	return mfs_file_replace(dirfd, name, bytes, len, 0640, err);
}

static bool
is_folder(int dirfd_, const char *name)
{
	struct stat st;

	return fstatat(dirfd_, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/*
 * Remove whatever else stands in the folder. First only what is in the way (a folder where a file
 * must go); after the files stand, also another signature of the same manifest that is not valid.
 */
static enum mfs_code
drop_others(int dirfd_, const struct mfs_signed *s, bool after, struct mfs_err *err)
{
	mfs_autodir DIR *d = NULL;
	int fd = openat(dirfd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		enum mfs_code code = mfs_fail_sys(err, MFS_IO, "manifests: list");

		if (fd >= 0)
			(void)close(fd);
		return code;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct mfs_sha256 key_id;
		bool mine = strcmp(e->d_name, "manifest.json") == 0 || strcmp(e->d_name, ".") == 0 ||
			strcmp(e->d_name, "..") == 0 || (strcmp(e->d_name, "signature.sig") == 0 && s->sig != NULL);

		if (!mine && sig_name_parse(e->d_name, &key_id))
			for (size_t i = 0; i < s->n_extra; i++)
				mine = mine || mfs_sha256_equal(&key_id, &s->extra[i].key_id);
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			((!mine && after) || is_folder(dirfd(d), e->d_name)) && mfs_remove_all(dirfd(d), e->d_name) != 0)
			return mfs_fail_sys(err, MFS_IO, "manifests: %s: remove", MFS_ESC(e->d_name));
	}
	return MFS_OK;
}

enum mfs_code
mfs_signed_put(int dirfd, const struct mfs_sha256 *id, const struct mfs_signed *s, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	char path[SIGNED_PATH];
	enum mfs_code code;

	signed_path(path, id);
	if ((code = mfs_store_folder(dirfd, path, err)) != MFS_OK)
		return code;
	if ((fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	if ((code = drop_others(fd, s, false, err)) != MFS_OK)
		return code;
	if (s->sig != NULL && (code = file_put(fd, "signature.sig", s->sig, s->sig_len, err)) != MFS_OK)
		return mfs_err_context(err, "%s/", path);
	for (size_t i = 0; i < s->n_extra; i++) {
		char name[SIG_NAME];

		sig_name(name, &s->extra[i].key_id);
		if ((code = file_put(fd, name, s->extra[i].bytes, s->extra[i].len, err)) != MFS_OK)
			return mfs_err_context(err, "%s/", path);
	}
	if ((code = file_put(fd, "manifest.json", s->manifest, s->manifest_len, err)) != MFS_OK)
		return mfs_err_context(err, "%s/", path);
	if ((code = mfs_dir_sync(dirfd, "manifests", err)) != MFS_OK || (code = mfs_dir_sync(dirfd, NULL, err)) != MFS_OK)
		return code;
	return drop_others(fd, s, true, err);
}

static enum mfs_code
extras_get(int fd, struct mfs_signed *out, struct mfs_err *err)
{
	mfs_autodir DIR *d = NULL;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum mfs_code code;

	if (copy < 0 || (d = fdopendir(copy)) == NULL) {
		code = mfs_fail_sys(err, MFS_IO, "list");
		if (copy >= 0)
			(void)close(copy);
		return code;
	}
	if ((out->extra = calloc(MFS_KEY_IDS_MAX, sizeof(*out->extra))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signatures");
	for (struct dirent *e; (e = readdir(d)) != NULL && out->n_extra < MFS_KEY_IDS_MAX;) {
		struct mfs_signed_extra *x = &out->extra[out->n_extra];

		if (!sig_name_parse(e->d_name, &x->key_id))
			continue;
		if ((code = file_get(fd, e->d_name, MFS_SIGNATURE_BYTES_MAX, &x->bytes, &x->len, err)) != MFS_OK)
			return code;
		out->n_extra++;
	}
	return MFS_OK;
}

enum mfs_code
mfs_signed_get(int dirfd, const struct mfs_sha256 *id, struct mfs_signed *out, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	struct mfs_err sig_err = MFS_ERR_INIT;
	struct mfs_sha256 got;
	char path[SIGNED_PATH];
	enum mfs_code code;

	*out = (struct mfs_signed){ 0 };
	signed_path(path, id);
	if ((fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", path);
	if ((code = file_get(fd, "manifest.json", MFS_MANIFEST_BYTES_MAX, &out->manifest, &out->manifest_len, err)) !=
		MFS_OK)
		goto fail;
	if ((code = mfs_sha256(MFS_SPAN(out->manifest, out->manifest_len), &got, err)) != MFS_OK)
		goto fail;
	if (!mfs_sha256_equal(&got, id)) {
		code = mfs_fail(err, MFS_HASH_MISMATCH, "manifest.json: its bytes hash to %s", MFS_HEX(&got));
		goto fail;
	}
	/* signature.sig may be absent when further keys signed: the verifier decides. */
	code = file_get(fd, "signature.sig", MFS_SIGNATURE_BYTES_MAX, &out->sig, &out->sig_len, &sig_err);
	if (code != MFS_OK && sig_err.sys_errno != ENOENT) {
		if (err != NULL)
			*err = sig_err;
		goto fail;
	}
	if ((code = extras_get(fd, out, err)) != MFS_OK)
		goto fail;
	return MFS_OK;
fail:
	mfs_signed_free(out);
	(void)mfs_err_context(err, "%s/", path);
	return code;
}

enum mfs_code
mfs_signed_remove(int dirfd_, const struct mfs_sha256 *id, struct mfs_err *err)
{
	mfs_autoclose int fd = mfs_open_beneath(dirfd_, "manifests", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0 && errno == ENOENT)
		return MFS_OK;
	if (fd < 0 || mfs_remove_all(fd, MFS_HEX(id)) != 0)
		return mfs_fail_sys(err, MFS_IO, "manifests/%s: remove", MFS_HEX(id));
	return MFS_OK;
}

enum mfs_code
mfs_signed_list(int dirfd_, struct mfs_sha256 **out, size_t *n, struct mfs_err *err)
{
	mfs_autofree struct mfs_sha256 *list = NULL;
	mfs_autodir DIR *d = NULL;
	size_t used = 0;
	int fd = mfs_open_beneath(dirfd_, "manifests", O_RDONLY | O_DIRECTORY, 0);

	*out = NULL;
	*n = 0;
	if (fd < 0 && errno == ENOENT)
		return MFS_OK;
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		enum mfs_code code = mfs_fail_sys(err, MFS_IO, "manifests");

		if (fd >= 0)
			(void)close(fd);
		return code;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct mfs_sha256 id, *grown;

		if (!mfs_hex_decode(id.b, MFS_SHA256_LEN, e->d_name, strlen(e->d_name)))
			continue;
		if ((grown = reallocarray(list, used + 1, sizeof(*list))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "manifests: %zu", used);
		list = grown;
		list[used++] = id;
	}
	*out = mfs_steal(&list);
	*n = used;
	return MFS_OK;
}
