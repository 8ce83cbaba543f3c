/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: no input may crash it; what it accepts is shown as YAML that it accepts again and
 * shows the same; what it refuses is refused with a place.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mfs_config *
parse(const char *text, size_t len, struct mfs_err *err)
{
	struct mfs_config_snapshot *s = NULL;
	struct mfs_config *c = NULL;

	if (mfs_config_text("/f/m.yaml", text, len, &s, err) != MFS_OK)
		abort();
	(void)mfs_config_parse(s, &c, err);
	mfs_config_snapshot_free(s);
	return c;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_config *c = parse((const char *)data, size, &err), *again;
	char *first = NULL, *second = NULL;
	size_t n, m;

	if (c == NULL) {
		if (err.code != MFS_NO_MEMORY &&
			(err.code != MFS_CONFIG_INVALID || strncmp(err.msg, "/f/m.yaml:", 10) != 0))
			abort();
		return 0;
	}
	if (mfs_config_show(c, &first, &n, &err) != MFS_OK)
		abort();
	if ((again = parse(first, n, &err)) == NULL || mfs_config_show(again, &second, &m, &err) != MFS_OK || n != m ||
		memcmp(first, second, n) != 0)
		abort();
	free(first);
	free(second);
	mfs_config_free(c);
	mfs_config_free(again);
	return 0;
}
