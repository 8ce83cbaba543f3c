/* SPDX-License-Identifier: Apache-2.0 */
/* Test vectors and what was printed for them, divided by a NUL. */
#include <stdlib.h>

#include "mfs_vectors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = memchr(data, 0, size);
	size_t n = nul != NULL ? (size_t)(nul - data) : size;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_vectors *v;

	if (mfs_vectors_parse("fuzz", MFS_SPAN(data, n), &v, &err) != MFS_OK)
		return 0;
	if ((mfs_vectors_file(v) == NULL) != (mfs_vectors_count(v) > 0))
		abort();
	if (nul != NULL && mfs_vectors_check(v, MFS_SPAN(nul + 1, size - n - 1), &err) != MFS_OK &&
		err.code != MFS_HEALTH_CHECK_FAILED && err.code != MFS_NO_MEMORY)
		abort();
	mfs_vectors_free(v);
	return 0;
}
