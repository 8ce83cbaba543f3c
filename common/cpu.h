/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - what this processor can do. */
#ifndef MFS_CPU_H
#define MFS_CPU_H

#include <stdbool.h>

/* SHA-256 by instruction, on x86-64 (SHA, and the SSE4.1 that goes with it). Asked once a process; any thread. */
bool mfs_cpu_sha(void);

#endif
