/* SPDX-License-Identifier: Apache-2.0 */
/* A frame as found on disk; and the input as an anchor document behind a right frame. */
#include "mfs_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
anchor_round_trip(struct mfs_span json)
{
	struct mfs_anchor *a, *b;
	char *out = NULL;
	size_t len;

	if (mfs_anchor_parse(json, &a, NULL) != MFS_OK)
		return;
	/* The order of keys is the writer's; what is accepted comes back byte for byte, unless an
	 * outcome of the future was mapped to known_bad. */
	if (mfs_anchor_json(a, &out, &len, NULL) != MFS_OK || mfs_anchor_copy(a, &b, NULL) != MFS_OK)
		abort();
	for (size_t i = 0; i < a->n_models; i++)
		if (mfs_anchor_find(b, a->models[i].id) == NULL)
			abort();
	mfs_anchor_free(b);
	for (size_t i = 0; i < a->n_models; i++)
		(void)mfs_anchor_rollback(&a->models[i], NULL, NULL);
	free(out);
	mfs_anchor_free(a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mfs_key key = { { 1, 2, 3 } };
	struct mfs_span json;
	uint64_t generation;
	uint8_t *frame;
	size_t len;

	if (mfs_state_open(MFS_STATE_ANCHOR, MFS_SPAN(data, size), &key, &generation, &json, NULL) == MFS_OK)
		anchor_round_trip(json);
	if (mfs_state_seal(MFS_STATE_ANCHOR, size, MFS_SPAN(data, size), &key, &frame, &len, NULL) != MFS_OK)
		return 0;
	if (mfs_state_open(MFS_STATE_ANCHOR, MFS_SPAN(frame, len), &key, &generation, &json, NULL) != MFS_OK ||
		generation != size || !mfs_span_equal(json, MFS_SPAN(data, size)))
		abort();
	anchor_round_trip(json);
	free(frame);
	return 0;
}
