/* SPDX-License-Identifier: Apache-2.0 */
/* meta.yaml: any bytes give an object of known keys, or one error with a place. */
#include <stdint.h>
#include <stdlib.h>

#include "meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	mfs_autometa struct mfs_meta m = { 0 };
	mfs_autofree char *json = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_meta_parse("meta.yaml", MFS_SPAN(data, size), &m, &err);
	size_t len;

	if (code != MFS_OK) {
		if (err.code != code || err.msg[0] == '\0' || m.fields != NULL || m.files != NULL)
			abort();
		return 0;
	}
	/* What was accepted can be signed, but for the length of its strings and the like. */
	if (m.fields == NULL)
		abort();
	(void)mfs_json_canonical(m.fields, &json, &len, &err);
	return 0;
}
