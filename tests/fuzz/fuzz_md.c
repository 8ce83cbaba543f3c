/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata as a publisher reads it, out of a clone that anybody may have written to: what parses is
 * changed, stamped and written, and parses again to what was meant.
 */
#include <stdlib.h>

#include "md.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	mfs_autojson json_t *doc = NULL, *again = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	if (mfs_md_parse("fuzz.json", MFS_SPAN(data, size), 64u << 10, &doc, &err) != MFS_OK) {
		check(doc == NULL && err.code != MFS_OK && err.msg[0] != '\0');
		return 0;
	}
	check(mfs_md_version(doc) >= 1 && mfs_md_expires(doc) != 0 && mfs_md_signed(doc) != NULL);
	if (mfs_md_stamp(doc, mfs_md_version(doc) + 1, 1795230245, &err) != MFS_OK) {
		check(err.code == MFS_LIMIT_EXCEEDED);
		return 0;
	}
	check(mfs_md_bytes(doc, &bytes, &len, &err) == MFS_OK);
	/* An escape may be longer than what it stands for. */
	check(mfs_md_parse("again.json", MFS_SPAN(bytes, len), 6 * (64u << 10) + 256, &again, &err) == MFS_OK);
	check(json_equal(doc, again) == 1 && mfs_md_expires(again) == 1795230245);
	return 0;
}
