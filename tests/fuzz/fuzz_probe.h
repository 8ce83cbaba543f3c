/* SPDX-License-Identifier: Apache-2.0 */
/* The body of the fuzz targets of model formats: one media each, so that their corpora stay apart. */
#ifndef FUZZ_PROBE_H
#define FUZZ_PROBE_H

#include <stdlib.h>

#include "probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum mfs_code
fuzz_read(void *user, size_t file, void *buf, size_t len, uint64_t off, struct mfs_err *err)
{
	const struct mfs_span *in = user;

	(void)file, (void)err;
	if (off > in->len || len > in->len - off)
		abort();
	memcpy(buf, in->p + off, len);
	return MFS_OK;
}

/* External data lies in the file itself. */
static bool
fuzz_find(void *user, const char *name, size_t *file, uint64_t *size)
{
	const struct mfs_span *in = user;

	*file = 0;
	*size = in->len;
	return name[0] != 'x';
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_span in = { data, size };
	struct mfs_probe p = { .read = fuzz_read, .find = fuzz_find, .user = &in, .total = size };
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_probe_file(&p, FUZZ_MEDIA, 0, "dir/model", size, &err);

	if (code != MFS_OK && code != MFS_HEALTH_CHECK_FAILED)
		abort();
	if (code != err.code || p.scanned > MFS_PROBE_SCANS * size || p.steps > MFS_PROBE_STEPS + 1u)
		abort();
	mfs_probe_end(&p);
	return 0;
}

#endif
