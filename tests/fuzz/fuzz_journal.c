/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of a download, as it lies on disk after a crash or an attack. The first byte chooses the payload that
 * it is read for; what is accepted claims no chunk that does not exist.
 */
#include <stdlib.h>
#include <string.h>

#include "download_io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_file f = { .chunk_size = MFS_CHUNK_MIN };
	struct mfs_err err = MFS_ERR_INIT;
	uint8_t header[MFS_JOURNAL_HEADER], *own;
	uint8_t bits[33];
	size_t n;

	if (size == 0)
		return 0;
	f.chunks = data[0] + 1u;
	f.size = (f.chunks - 1) * f.chunk_size + 1;
	n = (size_t)((f.chunks + 7) / 8);
	data++;
	size--;
	memset(bits, 0xa5, sizeof(bits));
	for (int with_header = 0; with_header < 2; with_header++) {
		const size_t lead = with_header ? sizeof(header) : 0;

		/* As it is, and behind the right header. */
		mfs_journal_header(header, &f);
		if ((own = malloc(lead + size + 1)) == NULL)
			return 0;
		memcpy(own, header, lead);
		memcpy(own + lead, data, size);
		if (mfs_journal_parse(MFS_SPAN(own, lead + size), &f, bits, &err) == MFS_OK) {
			if (lead + size != mfs_journal_length(&f) || (f.chunks % 8 != 0 && bits[n - 1] >> (f.chunks % 8) != 0))
				abort();
		} else {
			for (size_t i = 0; i < n; i++)
				if (bits[i] != 0)
					abort();
		}
		if (bits[n] != 0xa5)
			abort();
		free(own);
	}
	return 0;
}
