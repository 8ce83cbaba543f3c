/* SPDX-License-Identifier: Apache-2.0 */
/* A trust list: what is accepted can be applied, and written as it was read. */
#include "mfs_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_trustlist *l;
	struct mfs_trust *t;
	char *text;
	size_t n;

	if (mfs_trustlist_parse(MFS_SPAN(data, size), &l, NULL) != MFS_OK)
		return 0;
	if (mfs_trust_new(&t, NULL) == MFS_OK) {
		if (mfs_trustlist_apply(l, t, NULL) != MFS_OK || mfs_trust_count(t) != l->n_keys)
			abort();
		for (size_t i = 0; i < l->n_keys; i++)
			if (!mfs_sha256_equal(mfs_trust_key_id(t, i), &l->keys[i].key_id))
				abort();
		mfs_trust_free(t);
	}
	if (mfs_trustlist_json(l, &text, &n, NULL) != MFS_OK) /* unknown fields are not kept: it only gets shorter */
		abort();
	free(text);
	mfs_trustlist_free(l);
	return 0;
}
