/* SPDX-License-Identifier: Apache-2.0 */
/* What the strict parser accepts, the canonical writer gives back, and once more. */
#include <jansson.h>

#include "mfs_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *v = NULL, *again = NULL;
	char *out = NULL;
	size_t len;

	if (mfs_json_parse("input", MFS_SPAN(data, size), 1 << 20, &v, NULL) == MFS_OK) {
		if (mfs_json_canonical(v, &out, &len, NULL) != MFS_OK ||
			mfs_json_parse_canonical("output", MFS_SPAN(out, len), 1 << 20, &again, NULL) != MFS_OK ||
			!json_equal(v, again))
			abort();
		json_decref(again);
		json_decref(v);
	}
	if (mfs_json_parse_canonical("input", MFS_SPAN(data, size), 1 << 20, &v, NULL) == MFS_OK) {
		if (out == NULL || len != size || memcmp(out, data, size) != 0)
			abort();
		json_decref(v);
	}
	free(out);
	return 0;
}
