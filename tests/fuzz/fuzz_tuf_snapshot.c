/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot from anywhere: what it names can be asked for, or it is refused. */
#include "tuf_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_meta(MFS_TUF_SNAPSHOT, "targets.json", data, size);
	return 0;
}
