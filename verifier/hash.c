/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/evp.h>

#include "mfs_verify.h"

struct mfs_hash {
	EVP_MD_CTX *ctx;
};

enum mfs_code
mfs_sha256(struct mfs_span in, struct mfs_sha256 *out, struct mfs_err *err)
{
	if (EVP_Digest(in.p, in.len, out->b, NULL, EVP_sha256(), NULL) != 1)
		return mfs_fail(err, MFS_INTERNAL, "SHA-256 failed");
	return MFS_OK;
}

enum mfs_code
mfs_hash_new(struct mfs_hash **out, struct mfs_err *err)
{
	struct mfs_hash *h = calloc(1, sizeof(*h));

	*out = NULL;
	if (h == NULL || (h->ctx = EVP_MD_CTX_new()) == NULL ||
		EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
		mfs_hash_free(h);
		return mfs_fail(err, MFS_NO_MEMORY, "SHA-256 context");
	}
	*out = h;
	return MFS_OK;
}

enum mfs_code
mfs_hash_update(struct mfs_hash *h, const void *p, size_t n, struct mfs_err *err)
{
	if (EVP_DigestUpdate(h->ctx, p, n) != 1)
		return mfs_fail(err, MFS_INTERNAL, "SHA-256 failed");
	return MFS_OK;
}

enum mfs_code
mfs_hash_final(struct mfs_hash *h, struct mfs_sha256 *out, struct mfs_err *err)
{
	if (EVP_DigestFinal_ex(h->ctx, out->b, NULL) != 1 || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
		return mfs_fail(err, MFS_INTERNAL, "SHA-256 failed");
	return MFS_OK;
}

void
mfs_hash_free(struct mfs_hash *h)
{
	if (h == NULL)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}
