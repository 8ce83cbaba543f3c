/* SPDX-License-Identifier: Apache-2.0 */
#include "dlfix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io.h"

#define CHECK(x)                                                                             \
	do {                                                                                 \
		if (!(x)) {                                                                  \
			fprintf(stderr, "%s:%d: fixture: %s\n", __FILE__, __LINE__, #x);     \
			abort();                                                             \
		}                                                                            \
	} while (0)

void
dl_repo_add(struct dl_repo *r, const void *bytes, size_t len)
{
	struct dl_blob b = { .bytes = malloc(len + 1), .len = len };

	CHECK(b.bytes != NULL && mfs_sha256(MFS_SPAN(bytes, len), &b.hash, NULL) == MFS_OK);
	memcpy(b.bytes, bytes, len);
	CHECK((r->blobs = reallocarray(r->blobs, r->n + 1, sizeof(b))) != NULL);
	r->blobs[r->n++] = b;
}

static void
file_add(struct dl_repo *r, int bundle_fd, const char *folder, const char *name, uint64_t cap)
{
	mfs_autofree uint8_t *bytes = NULL;
	char path[1100];
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	CHECK(mfs_file_read(bundle_fd, path, (size_t)cap, &bytes, &len, NULL) == MFS_OK);
	dl_repo_add(r, bytes, len);
}

void
dl_repo_bundle(struct dl_repo *r, int bundle_fd, const struct mfs_manifest *m)
{
	for (size_t i = 0; i < m->n_files; i++) {
		file_add(r, bundle_fd, "payload", m->files[i].name, m->files[i].size);
		if (m->files[i].chunks > 1)
			file_add(r, bundle_fd, "chunks", m->files[i].name, mfs_table_length(m->files[i].chunks));
	}
}

struct mfs_manifest *
dl_manifest(int bundle_fd)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_manifest *m = NULL;
	size_t len;

	CHECK(mfs_file_read(bundle_fd, "manifest.json", MFS_MANIFEST_BYTES_MAX, &bytes, &len, NULL) == MFS_OK);
	CHECK(mfs_manifest_parse(MFS_SPAN(bytes, len), &m, NULL) == MFS_OK);
	return m;
}

void
dl_repo_clear(struct dl_repo *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->blobs[i].bytes);
	free(r->blobs);
	memset(r, 0, sizeof(*r));
}

void
dl_fault_add(struct dl_repo *r, struct dl_fault f)
{
	CHECK(r->n_faults < DL_FAULTS && f.source < DL_SOURCES);
	r->faults[r->n_faults++] = f;
}

uint64_t
dl_sent(struct dl_repo *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < DL_SOURCES; i++)
		n += r->sent[i];
	return n;
}

static const struct dl_fault *
fault_find(const struct dl_repo *r, unsigned source, uint64_t nth)
{
	for (size_t i = 0; i < r->n_faults; i++)
		if (r->faults[i].source == source && (r->faults[i].nth == nth || r->faults[i].nth == DL_EVERY ||
						      (r->faults[i].onwards && r->faults[i].nth < nth)))
			return &r->faults[i];
	return NULL;
}

/* len bytes of the blob from off on to the sink; the byte at `flip` wrong. */
static enum mfs_code
give(struct dl_repo *r, const struct mfs_download_get *q, const uint8_t *bytes, uint64_t len, uint64_t flip,
	struct mfs_download_got *got, struct mfs_err *err)
{
	const size_t piece = r->piece > 0 ? r->piece : 50000;
	mfs_autofree uint8_t *buf = malloc(piece);
	enum mfs_code code = MFS_OK;

	CHECK(buf != NULL);
	for (uint64_t at = 0; at < len && code == MFS_OK;) {
		size_t n = len - at < piece ? (size_t)(len - at) : piece;
		const struct timespec pause = { 0, (long)r->pause_us * 1000 };

		if (q->cancel != NULL && atomic_load(q->cancel) != 0)
			return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
		if (r->pause_us > 0)
			(void)nanosleep(&pause, NULL);
		if (r->each != NULL)
			r->each(r->user, dl_sent(r));
		memcpy(buf, bytes + at, n);
		if (flip >= at && flip < at + n)
			buf[flip - at] ^= 0x10;
		got->received += n;
		(void)atomic_fetch_add(&r->sent[q->source], n);
		code = q->sink(q->user, buf, n, err);
		at += n;
	}
	return code;
}

static enum mfs_code
misbehave(struct dl_repo *r, const struct dl_fault *f, const struct mfs_download_get *q, const struct dl_blob *b,
	uint64_t off, uint64_t len, struct mfs_download_got *got, struct mfs_err *err)
{
	const uint64_t some = f->after < len ? f->after : len;
	const struct timespec tick = { 0, 1000000 };
	enum mfs_code code;

	(void)atomic_fetch_add(&r->hit, 1);
	switch (f->kind) {
	case DL_CORRUPT:
		return give(r, q, b->bytes + off, len, f->after, got, err);
	case DL_TRUNCATE:
		code = give(r, q, b->bytes + off, some, UINT64_MAX, got, err);
		return code != MFS_OK ? code : mfs_fail(err, MFS_NET_PROTOCOL, "the connection ended");
	case DL_TIMEOUT:
		code = give(r, q, b->bytes + off, some, UINT64_MAX, got, err);
		return code != MFS_OK ? code : mfs_fail(err, MFS_NET_TIMEOUT, "too slow");
	case DL_SHORT:
		return give(r, q, b->bytes + off, some, UINT64_MAX, got, err);
	case DL_STATUS:
		got->http = f->http;
		got->retry_after_s = f->retry_after_s;
		return mfs_fail(err, MFS_NET_HTTP, "status %u", f->http);
	case DL_NO_RANGE:
		got->http = 200;
		if (q->from + q->length > q->discard)
			return mfs_fail(err, MFS_NET_PROTOCOL, "200 where a range was asked for");
		got->received = q->from;
		(void)atomic_fetch_add(&r->sent[q->source], q->from);
		return give(r, q, b->bytes + off, len, UINT64_MAX, got, err);
	case DL_HANG:
		while (q->cancel == NULL || atomic_load(q->cancel) == 0)
			(void)nanosleep(&tick, NULL);
		return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
	case DL_PORTAL:
		return mfs_fail(err, MFS_NET_PORTAL, "a login page");
	case DL_ENDLESS:
		code = give(r, q, b->bytes + off, len, UINT64_MAX, got, err);
		return code != MFS_OK ? code : mfs_fail(err, MFS_LIMIT_EXCEEDED, "more than was asked for");
	}
	abort();
}

enum mfs_code
dl_get(void *user, const struct mfs_download_get *q, struct mfs_download_got *got, struct mfs_err *err)
{
	struct dl_repo *r = user;
	const uint64_t nth = atomic_fetch_add(&r->requests[q->source], 1);
	const struct dl_fault *f = fault_find(r, q->source, nth);
	const struct dl_blob *b = NULL;
	uint64_t off = q->part * MFS_WIRE_PART + q->from, len;

	CHECK(q->source < DL_SOURCES && q->length > 0 && q->from + q->length <= MFS_WIRE_PART);
	for (size_t i = 0; i < r->n && b == NULL; i++)
		if (mfs_sha256_equal(&r->blobs[i].hash, q->hash))
			b = &r->blobs[i];
	if (b == NULL || off >= b->len) {
		got->http = b == NULL ? 404 : 416;
		return mfs_fail(err, MFS_NET_HTTP, "status %u", got->http);
	}
	len = q->length < b->len - off ? q->length : b->len - off;
	if (f != NULL)
		return misbehave(r, f, q, b, off, len, got, err);
	got->http = 206;
	return give(r, q, b->bytes + off, len, UINT64_MAX, got, err);
}
