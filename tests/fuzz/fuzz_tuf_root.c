/* SPDX-License-Identifier: Apache-2.0 */
/* A root from anywhere: as a file, as the trusted one, as the next in the chain of itself. */
#include "tuf_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mfs_tuf_options opt = { .now = 1800000000 };
	struct mfs_tuf_doc *d = fuzz_doc(MFS_TUF_ROOT, data, size);
	struct mfs_tuf *t;

	if (d != NULL) {
		for (enum mfs_tuf_type i = MFS_TUF_ROOT; i <= MFS_TUF_TARGETS; i++) {
			const struct mfs_tuf_signers s = mfs_tuf_root_signers(d, i);
			bool lost;

			fuzz_signers(d, &s);
			if (mfs_tuf_signers_lost(&s, &s, &lost, NULL) != MFS_OK || lost)
				abort();
		}
		mfs_tuf_doc_free(d);
	}
	if (mfs_tuf_new(MFS_SPAN(data, size), &opt, &t, NULL) == MFS_OK) {
		struct mfs_tuf_want want;

		if (mfs_tuf_next(t, &want, NULL) != MFS_OK || want.name == NULL ||
			mfs_tuf_feed(t, MFS_TUF_BYTES, MFS_SPAN(data, size), NULL) == MFS_OK) /* its own version again */
			abort();
		mfs_tuf_free(t);
	}
	return 0;
}
