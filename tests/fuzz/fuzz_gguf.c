/* SPDX-License-Identifier: Apache-2.0 */
/* The gguf parser over any bytes: a verdict, never a read outside of the file, never much work. */
#define FUZZ_MEDIA MFS_MEDIA_GGUF
#include "fuzz_probe.h"
