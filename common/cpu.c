/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdatomic.h>

/* CPUID leaves the virtual machine, some 16 us a call: so it is remembered. */
bool
mfs_cpu_sha(void)
{
	static _Atomic int known; /* 0 not asked, 1 no, 2 yes */
	unsigned a, b, c, d;
	int k = atomic_load_explicit(&known, memory_order_relaxed);

	if (k == 0) {
		k = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSSE3) != 0 && (c & bit_SSE4_1) != 0 &&
				__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0 ? 2 : 1;
		atomic_store_explicit(&known, k, memory_order_relaxed);
	}
	return k == 2;
}

#else

bool
mfs_cpu_sha(void)
{
	return false;
}

#endif
