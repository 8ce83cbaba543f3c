/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of a payload under way: which chunks were on disk. It needs no authentication: what it claims is read
 * and verified, what it does not claim is fetched, so a damaged or forged one costs time and bytes, never a wrong one.
 * modelfs-state(5), DOWNLOAD JOURNAL.
 */
#include <string.h>

#include "download_io.h"

#define MAGIC "MFJRNL01"

uint64_t
mfs_journal_length(const struct mfs_file *f)
{
	return MFS_JOURNAL_HEADER + (f->chunks + 7) / 8;
}

void
mfs_journal_header(uint8_t out[MFS_JOURNAL_HEADER], const struct mfs_file *f)
{
	memcpy(out, MAGIC, 8);
	mfs_put_u32le(out + 8, f->chunk_size);
	mfs_put_u32le(out + 12, 0);
	mfs_put_u64le(out + 16, f->size);
	mfs_put_u64le(out + 24, f->chunks);
	memcpy(out + 32, f->sha256.b, MFS_SHA256_LEN);
	memcpy(out + 64, f->chunks_sha256.b, MFS_SHA256_LEN);
}

enum mfs_code
mfs_journal_parse(struct mfs_span in, const struct mfs_file *f, uint8_t *bits, struct mfs_err *err)
{
	const size_t n = (size_t)((f->chunks + 7) / 8);
	uint8_t header[MFS_JOURNAL_HEADER];
	struct mfs_span head;

	memset(bits, 0, n);
	mfs_journal_header(header, f);
	if (!mfs_span_take(&in, sizeof(header), &head))
		return mfs_fail(err, MFS_MALFORMED, "journal: ends within its header of %u bytes", MFS_JOURNAL_HEADER);
	if (memcmp(head.p, header, sizeof(header)) != 0)
		return mfs_fail(err, MFS_MALFORMED, "journal: of another payload");
	if (in.len != n)
		return mfs_fail(err, MFS_MALFORMED, "journal: %zu bytes of marks, not %zu", in.len, n);
	if (f->chunks % 8 != 0 && in.p[n - 1] >> (f->chunks % 8) != 0)
		return mfs_fail(err, MFS_MALFORMED, "journal: marks beyond chunk %llu", (unsigned long long)f->chunks - 1);
	if (n > 0)
		memcpy(bits, in.p, n);
	return MFS_OK;
}
