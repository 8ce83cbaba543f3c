/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chunk table whose hash is right, so that the parser behind the hash is reached. Input: u8
 * (bit 0: encrypted, bits 1-2: chunk size), u64le file size, then the table.
 */
#include "mfs_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char name[] = "f";
	struct mfs_span in = MFS_SPAN(data, size);
	struct mfs_file f = { .name = name };
	struct mfs_table *t;
	uint8_t flags;

	if (!mfs_span_copy(&in, &flags, 1) || !mfs_span_u64le(&in, &f.size) || f.size > MFS_FILE_SIZE_MAX)
		return 0;
	f.chunk_size = MFS_CHUNK_MIN << (flags >> 1 & 3);
	f.chunks = f.size / f.chunk_size + (f.size % f.chunk_size != 0);
	f.salt.b[0] = flags & 1;
	if (mfs_sha256(in, &f.chunks_sha256, NULL) != MFS_OK)
		return 0;
	if (mfs_table_load(&f, in, &t, NULL) != MFS_OK)
		return 0;
	if (mfs_table_length(f.chunks) != in.len)
		abort();
	for (uint64_t i = 0; i < f.chunks; i++) {
		uint8_t copy[MFS_TABLE_ENTRY];

		memcpy(copy, t->entries + i * MFS_TABLE_ENTRY, sizeof(copy));
		if (f.chunks > 1 && memcmp(copy, in.p + MFS_TABLE_HEADER + i * MFS_TABLE_ENTRY, sizeof(copy)) != 0)
			abort();
	}
	mfs_table_free(t);
	return 0;
}
