/* SPDX-License-Identifier: Apache-2.0 */
/* The onnx parser over any bytes: a verdict, never a read outside of the file, never much work. */
#define FUZZ_MEDIA MFS_MEDIA_ONNX
#include "fuzz_probe.h"
