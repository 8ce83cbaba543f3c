/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot from anywhere: what it names can be asked for, or it is refused. */
#include "tuf_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_tuf_doc *d = fuzz_doc(MFS_TUF_SNAPSHOT, data, size);
	struct mfs_tuf_fileinfo f;
	json_t *meta;

	if (d == NULL)
		return 0;
	if (!mfs_tuf_meta(d, "targets.json", &f))
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
	return 0;
}
