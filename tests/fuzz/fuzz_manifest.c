/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest, and the same bytes as an unverified bundle: nothing may come out of that. */
#include "mfs_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t sig[64];
	const struct mfs_signature s = { .bytes = MFS_SPAN(sig, sizeof(sig)) };
	struct mfs_trust *t;
	struct mfs_manifest *m;

	if (mfs_manifest_parse(MFS_SPAN(data, size), &m, NULL) == MFS_OK) {
		const struct mfs_device none = { 0 };
		uint64_t sum = 0;

		for (size_t i = 0; i < m->n_files; i++) {
			const struct mfs_file *f = &m->files[i];

			sum += f->size;
			if (mfs_manifest_find(m, f->name) != (ssize_t)i || !mfs_file_name_ok(f->name, strlen(f->name)) ||
				(f->chunks > 0 && mfs_chunk_length(f, f->chunks - 1) == 0) ||
				mfs_chunk_length(f, f->chunks) != 0)
				abort();
		}
		if (sum != m->total_size)
			abort();
		(void)mfs_compat_check(m, &none, NULL);
		mfs_manifest_free(m);
	}
	if (mfs_trust_new(&t, NULL) == MFS_OK) {
		if (mfs_bundle_verify(MFS_SPAN(data, size), &s, 1, t, 1, &m, NULL, NULL) == MFS_OK || m != NULL)
			abort();
		mfs_trust_free(t);
	}
	return 0;
}
