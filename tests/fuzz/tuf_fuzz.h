/* SPDX-License-Identifier: Apache-2.0 */
/* tuf_fuzz.h - what the fuzz targets of TUF metadata have in common. */
#ifndef TUF_FUZZ_H
#define TUF_FUZZ_H

#define MFS_IN_VERIFIER
#include "tuf_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The canonical form is canonical, and no longer than what it was made from. */
static inline void
fuzz_canonical(const struct mfs_tuf_doc *d)
{
	char *once, *twice;
	size_t n, m;

	if (mfs_tuf_encode(d->body, &once, &n, NULL) != MFS_OK)
		abort();
	if (n > d->len)
		abort();
	if (mfs_tuf_signed(MFS_SPAN(d->bytes, d->len), &twice, &m, NULL) != MFS_OK || n != m || memcmp(once, twice, n) != 0)
		abort();
	free(once);
	free(twice);
}

/* Any bytes as one role, and as a client's first root: parsed or refused, never verified by chance. */
static inline struct mfs_tuf_doc *
fuzz_doc(enum mfs_tuf_type type, const uint8_t *data, size_t size)
{
	struct mfs_tuf_doc *d;

	if (mfs_tuf_doc_parse("input", type, MFS_SPAN(data, size), &d, NULL) != MFS_OK) {
		if (d != NULL)
			abort();
		return NULL;
	}
	if (d->type != type || d->version < 1 || d->len != size || memcmp(d->bytes, data, size) != 0)
		abort();
	fuzz_canonical(d);
	return d;
}

static inline void
fuzz_signers(const struct mfs_tuf_doc *d, const struct mfs_tuf_signers *s)
{
	unsigned valid;

	if (s->threshold < 1 || json_array_size(s->keyids) > MFS_TUF_KEYS_MAX)
		abort();
	if (mfs_tuf_signers_count(s, json_object_get(d->json, "signatures"), MFS_SPAN(d->bytes, d->len), &valid, NULL) == MFS_OK &&
		valid > json_array_size(s->keyids))
		abort();
}

/* A role that lists other metadata: what it must name is there, and each entry is a fair demand. */
static inline void
fuzz_meta(enum mfs_tuf_type type, const char *must, const uint8_t *data, size_t size)
{
	struct mfs_tuf_doc *d = fuzz_doc(type, data, size);
	struct mfs_tuf_fileinfo f;
	json_t *meta;

	if (d == NULL)
		return;
	if (!mfs_tuf_meta(d, must, &f))
		abort();
	meta = (json_t *)(uintptr_t)d->meta;
	for (void *it = json_object_iter(meta); it != NULL; it = json_object_iter_next(meta, it)) {
		if (!mfs_tuf_meta(d, json_object_iter_key(it), &f) || f.version < 1 || (f.has_length && f.length < 1))
			abort();
		if (mfs_tuf_fileinfo_check(&f, "input", MFS_SPAN(data, size), NULL) == MFS_OK && f.has_length &&
			(uint64_t)f.length != size)
			abort();
	}
	mfs_tuf_doc_free(d);
}

#endif
