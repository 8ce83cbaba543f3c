/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tuf-client - the verifier's TUF client on the command line, for tests; never installed.
 *
 *	tuf-client --metadata-dir DIR init ROOTFILE
 *	tuf-client --metadata-url URL --metadata-dir DIR refresh
 *	tuf-client --metadata-url URL --metadata-dir DIR --target-name NAME... --target-dir TDIR
 *		--target-base-url TURL download
 *
 * Options in any order. 0: all of it succeeded; 1: anything else, said on standard error. DIR holds
 * the trusted metadata as received; nothing else there ends in ".json". An unchanged target that is in
 * TDIR is not fetched again. http, https and file URLs.
 */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mfs_tuf.h"

#define TARGETS_MAX     64
#define TARGET_BYTES_MAX (256u << 20) /* held in memory */

struct options {
	const char *metadata_dir, *metadata_url, *target_dir, *target_url;
	const char *target[TARGETS_MAX];
	size_t n_targets;
	const char *verb, *file;
};

static int
complain(const struct mfs_err *err)
{
	(void)fprintf(stderr, "tuf-client: %s: %s\n", mfs_code_name(err->code), err->msg);
	return 1;
}

/* ---- files ------------------------------------------------------------------------------------------------ */

struct bytes {
	uint8_t *p;
	size_t len, cap; /* cap: more is an error */
	bool too_long;
};

static void
bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){ 0 };
}

static bool
bytes_add(struct bytes *b, const void *p, size_t n)
{
	uint8_t *q;

	if (n > b->cap - b->len) {
		b->too_long = true;
		return false;
	}
	if (n == 0)
		return true;
	if ((q = realloc(b->p, b->len + n)) == NULL)
		return false;
	memcpy(q + b->len, p, n);
	b->p = q;
	b->len += n;
	return true;
}

static enum mfs_code
file_read(const char *path, size_t cap, struct bytes *out, struct mfs_err *err)
{
	mfs_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t block[65536];
	ssize_t n = 0;

	*out = (struct bytes){ .cap = cap };
	if (fd < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	while ((n = read(fd, block, sizeof(block))) > 0)
		if (!bytes_add(out, block, (size_t)n))
			return mfs_fail(err, out->too_long ? MFS_LIMIT_EXCEEDED : MFS_NO_MEMORY, "%s: more than %zu bytes",
				MFS_ESC(path), cap);
	return n < 0 ? mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path)) : MFS_OK;
}

/* Whole or not at all: DIR/NAME.new becomes DIR/NAME. */
static enum mfs_code
file_write(const char *dir, const char *name, struct mfs_span bytes, struct mfs_err *err)
{
	mfs_autofree char *path = NULL, *fresh = NULL;
	mfs_autoclose int fd = -1;
	size_t done = 0;

	if (asprintf(&path, "%s/%s", dir, name) < 0 || asprintf(&fresh, "%s/%.200s.new", dir, name) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	if ((fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(fresh));
	while (done < bytes.len) {
		const ssize_t n = write(fd, bytes.p + done, bytes.len - done);

		if (n < 0) {
			(void)unlink(fresh);
			return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(fresh));
		}
		done += (size_t)n;
	}
	if (fsync(fd) != 0 || rename(fresh, path) != 0) {
		(void)unlink(fresh);
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	}
	return MFS_OK;
}

/* ---- network ------------------------------------------------------------------------------------------------ */

static size_t
on_bytes(char *p, size_t size, size_t n, void *user)
{
	return bytes_add(user, p, size * n) ? size * n : 0;
}

static CURL *
curl_start(void)
{
	CURL *c;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (c = curl_easy_init()) == NULL)
		return NULL;
	(void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https,file");
	(void)curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L);
	(void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	(void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 20L);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
	return c;
}

/* BASE/NAME with exactly one slash between; *found false for 403, 404 and a file that is not there. */
static enum mfs_code
get(CURL *c, const char *base, const char *name, size_t cap, struct bytes *out, bool *found, struct mfs_err *err)
{
	size_t base_len = strlen(base);
	mfs_autofree char *url = NULL;
	long status = 0;
	CURLcode rc;

	*out = (struct bytes){ .cap = cap };
	*found = false;
	while (base_len > 0 && base[base_len - 1] == '/')
		base_len--;
	if (asprintf(&url, "%.*s/%s", (int)base_len, base, name) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(name));
	(void)curl_easy_setopt(c, CURLOPT_URL, url);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
	rc = curl_easy_perform(c);
	if (rc == CURLE_FILE_COULDNT_READ_FILE)
		return MFS_OK;
	(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	if (status == 403 || status == 404)
		return MFS_OK;
	if (out->too_long && (status == 0 || status == 200))
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %zu bytes", MFS_ESC(url), cap);
	if (rc != CURLE_OK)
		return mfs_fail(err, MFS_NET_PROTOCOL, "%s: %s", MFS_ESC(url), curl_easy_strerror(rc));
	if (status != 0 && status != 200)
		return mfs_fail(err, MFS_NET_HTTP, "%s: status %ld", MFS_ESC(url), status);
	*found = true;
	return MFS_OK;
}

/* ---- the run ------------------------------------------------------------------------------------------------- */

/* Fetch whatever the client wants, until it is done. */
static enum mfs_code
loop(CURL *c, const char *base, struct mfs_tuf *t, struct mfs_err *err)
{
	for (;;) {
		struct mfs_tuf_want want;
		struct bytes b = { 0 };
		enum mfs_code code;
		bool found;

		if ((code = mfs_tuf_next(t, &want, err)) != MFS_OK || want.name == NULL)
			return code;
		if ((code = get(c, base, want.name, want.cap, &b, &found, err)) == MFS_OK)
			code = mfs_tuf_feed(t, found ? MFS_TUF_BYTES : MFS_TUF_NOT_FOUND, MFS_SPAN(b.p, b.len), err);
		bytes_free(&b);
		if (code != MFS_OK)
			return code;
	}
}

static enum mfs_code
load(const char *dir, struct mfs_tuf **out, struct mfs_err *err)
{
	const struct mfs_tuf_options opt = { .now = (int64_t)time(NULL) };
	mfs_autofree char *path = NULL;
	mfs_autodir DIR *d = NULL;
	struct bytes b;
	enum mfs_code code;

	*out = NULL;
	if (asprintf(&path, "%s/root.json", dir) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", dir);
	if ((code = file_read(path, MFS_TUF_ROOT_MAX, &b, err)) == MFS_OK)
		code = mfs_tuf_new(MFS_SPAN(b.p, b.len), &opt, out, err);
	bytes_free(&b);
	if (code != MFS_OK)
		return code;
	if ((d = opendir(dir)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(dir));
	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		const size_t len = strlen(e->d_name);
		mfs_autofree char *file = NULL;

		if (len <= 5 || strcmp(e->d_name + len - 5, ".json") != 0)
			continue;
		if (asprintf(&file, "%s/%s", dir, e->d_name) < 0)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(e->d_name));
		if (file_read(file, MFS_TUF_TARGETS_MAX, &b, err) == MFS_OK)
			code = mfs_tuf_local(*out, e->d_name, MFS_SPAN(b.p, b.len), err);
		bytes_free(&b);
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* Removals, then root (the first role), then the others. */
static enum mfs_code
store(const char *dir, const struct mfs_tuf *t, struct mfs_err *err)
{
	struct mfs_tuf_role r;
	enum mfs_code code;

	for (size_t i = 0; mfs_tuf_role(t, i, &r); i++) {
		mfs_autofree char *path = NULL;

		if (!r.drop)
			continue;
		if (asprintf(&path, "%s/%s", dir, r.file) < 0)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", r.file);
		if (unlink(path) != 0 && errno != ENOENT)
			return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	}
	for (size_t i = 0; mfs_tuf_role(t, i, &r); i++)
		if (r.changed && (code = file_write(dir, r.file, r.bytes, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

/* One file per target, named by its path, '/' encoded as well. */
static enum mfs_code
target_file(const char *path, char out[MFS_TUF_FILE_MAX + 1], struct mfs_err *err)
{
	enum mfs_code code = mfs_tuf_file_name(path, 0, out, err);

	if (code == MFS_OK)
		out[strlen(out) - strlen(".json")] = '\0';
	return code;
}

static enum mfs_code
target_get(const struct options *o, CURL *c, struct mfs_tuf *t, const char *path, struct mfs_err *err)
{
	char file[MFS_TUF_FILE_MAX + 1];
	mfs_autofree char *have = NULL;
	struct mfs_tuf_target target;
	struct bytes b = { 0 };
	enum mfs_code code;
	bool found;

	if ((code = target_file(path, file, err)) != MFS_OK || (code = mfs_tuf_find(t, path, err)) != MFS_OK ||
		(code = loop(c, o->metadata_url, t, err)) != MFS_OK)
		return code;
	if (!mfs_tuf_found(t, &target))
		return mfs_fail(err, MFS_NOT_SELECTED, "'%s': no role names this target", MFS_ESC(path));
	if (target.length > TARGET_BYTES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "'%s': too large for this program", MFS_ESC(path));
	if (asprintf(&have, "%s/%s", o->target_dir, file) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	code = file_read(have, (size_t)target.length, &b, err);
	if (code == MFS_OK && mfs_tuf_target_check(&target, MFS_SPAN(b.p, b.len), err) == MFS_OK) {
		bytes_free(&b);
		return MFS_OK;
	}
	bytes_free(&b);
	if ((code = get(c, o->target_url, target.name, (size_t)target.length, &b, &found, err)) == MFS_OK && !found)
		code = mfs_fail(err, MFS_NET_HTTP, "'%s': not in the repository", MFS_ESC(path));
	if (code == MFS_OK && (code = mfs_tuf_target_check(&target, MFS_SPAN(b.p, b.len), err)) == MFS_OK)
		code = file_write(o->target_dir, file, MFS_SPAN(b.p, b.len), err);
	bytes_free(&b);
	return code;
}

static int
update(const struct options *o)
{
	MFS_CLEANUP(mfs_cleanup_tuf) struct mfs_tuf *t = NULL;
	struct mfs_err err = MFS_ERR_INIT, store_err = MFS_ERR_INIT;
	enum mfs_code code, stored = MFS_OK;
	CURL *c = curl_start();

	if (c == NULL)
		return 1;
	if ((code = load(o->metadata_dir, &t, &err)) == MFS_OK) {
		code = loop(c, o->metadata_url, t, &err);
		for (size_t i = 0; i < o->n_targets && code == MFS_OK; i++)
			code = target_get(o, c, t, o->target[i], &err);
		stored = store(o->metadata_dir, t, &store_err);
	}
	curl_easy_cleanup(c);
	curl_global_cleanup();
	if (code != MFS_OK)
		(void)complain(&err);
	if (stored != MFS_OK)
		(void)complain(&store_err);
	return code == MFS_OK && stored == MFS_OK ? 0 : 1;
}

static int
init(const struct options *o)
{
	const struct mfs_tuf_options opt = { .now = (int64_t)time(NULL) };
	MFS_CLEANUP(mfs_cleanup_tuf) struct mfs_tuf *t = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;
	struct bytes b;

	if ((code = file_read(o->file, MFS_TUF_ROOT_MAX, &b, &err)) == MFS_OK &&
		(code = mfs_tuf_new(MFS_SPAN(b.p, b.len), &opt, &t, &err)) == MFS_OK)
		code = file_write(o->metadata_dir, "root.json", MFS_SPAN(b.p, b.len), &err);
	bytes_free(&b);
	return code == MFS_OK ? 0 : complain(&err);
}

/* ---- command line --------------------------------------------------------------------------------------------- */

static bool
option(struct options *o, const char *name, const char *value)
{
	const struct {
		const char *name;
		const char **to;
	} table[] = { { "--metadata-dir", &o->metadata_dir }, { "--metadata-url", &o->metadata_url },
		{ "--target-dir", &o->target_dir }, { "--target-base-url", &o->target_url } };

	if (strcmp(name, "--target-name") == 0 && o->n_targets < TARGETS_MAX) {
		o->target[o->n_targets++] = value;
		return true;
	}
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(name, table[i].name) == 0) {
			*table[i].to = value;
			return true;
		}
	return false;
}

static bool
parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--", 2) == 0) {
			if (i + 1 == argc || !option(o, argv[i], argv[i + 1]))
				return false;
			i++;
		} else if (o->verb == NULL) {
			o->verb = argv[i];
		} else if (o->file == NULL) {
			o->file = argv[i];
		} else {
			return false;
		}
	}
	if (o->verb == NULL || o->metadata_dir == NULL)
		return false;
	if (strcmp(o->verb, "init") == 0)
		return o->file != NULL;
	if (o->file != NULL || o->metadata_url == NULL)
		return false;
	if (strcmp(o->verb, "download") == 0)
		return o->n_targets > 0 && o->target_dir != NULL && o->target_url != NULL;
	return strcmp(o->verb, "refresh") == 0 && o->n_targets == 0;
}

int
main(int argc, char **argv)
{
	struct options o = { 0 };

	if (!parse(argc, argv, &o)) {
		(void)fprintf(stderr, "tuf-client: usage: see the head of tests/lib/tufclient.c\n");
		return 1;
	}
	return strcmp(o.verb, "init") == 0 ? init(&o) : update(&o);
}
