/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted state from the disk: the frame and the anchor in it, and the cycle document. What is
 * accepted must survive being written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "trusted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
cycle_check(struct mfs_span in)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle *c, *again;
	char *text, *text2;
	size_t len, len2;

	if (mfs_cycle_parse(in, &c, &err) != MFS_OK)
		return;
	if (mfs_cycle_json(c, &text, &len, &err) != MFS_OK ||
		mfs_cycle_parse(MFS_SPAN(text, len), &again, &err) != MFS_OK ||
		mfs_cycle_json(again, &text2, &len2, &err) != MFS_OK || len != len2 || memcmp(text, text2, len) != 0)
		abort();
	free(text);
	free(text2);
	mfs_cycle_free(c);
	mfs_cycle_free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mfs_key key = { { 1 } };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_anchor *a;
	struct mfs_span json;
	uint64_t generation;
	uint8_t *doc;
	size_t len;

	cycle_check(MFS_SPAN(data, size));
	/* The bytes as a document found on the disk, and as the body of an authentic frame. */
	if (mfs_state_open(MFS_STATE_CYCLE, MFS_SPAN(data, size), &key, &generation, &json, &err) == MFS_OK)
		cycle_check(json);
	if (mfs_state_seal(MFS_STATE_ANCHOR, 7, MFS_SPAN(data, size), &key, &doc, &len, &err) == MFS_OK) {
		if (mfs_state_open(MFS_STATE_ANCHOR, MFS_SPAN(doc, len), &key, &generation, &json, &err) != MFS_OK ||
			generation != 7 || json.len != size)
			abort();
		if (mfs_anchor_parse(json, &a, &err) == MFS_OK)
			mfs_anchor_free(a);
		free(doc);
	}
	return 0;
}
