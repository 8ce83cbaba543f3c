/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

int
main(void)
{
	return MFS_EXIT_USAGE;
}
