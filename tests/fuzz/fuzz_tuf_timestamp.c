/* SPDX-License-Identifier: Apache-2.0 */
/* A timestamp from anywhere: what it names can be asked for, or it is refused. */
#include "tuf_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_meta(MFS_TUF_TIMESTAMP, "snapshot.json", data, size);
	return 0;
}
