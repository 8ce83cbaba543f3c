/* SPDX-License-Identifier: Apache-2.0 */
/* A line from a peer on the control socket, read as a request and as a reply. */
#include <stdlib.h>
#include <string.h>

#include "ctlmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_ctl_request r, back;
	struct mfs_ctl_reply reply;
	struct mfs_err err = MFS_ERR_INIT;
	char *line;
	size_t len;

	if (mfs_ctl_request_parse(MFS_SPAN(data, size), &r, &err) == MFS_OK) {
		/* What was accepted can be said again and means the same. */
		if (mfs_ctl_request_line(&r, &line, &len, &err) != MFS_OK ||
			mfs_ctl_request_parse(MFS_SPAN((uint8_t *)line, len - 1), &back, &err) != MFS_OK ||
			back.command != r.command || strcmp(back.model, r.model) != 0 || back.after != r.after ||
			back.timeout_ms != r.timeout_ms || !mfs_sha256_equal(&back.manifest, &r.manifest))
			abort();
		free(line);
	} else if (err.code != MFS_MALFORMED && err.code != MFS_LIMIT_EXCEEDED && err.code != MFS_NO_MEMORY) {
		abort();
	}
	if (mfs_ctl_reply_parse(MFS_SPAN(data, size), &reply, &err) == MFS_OK) {
		for (const char *p = reply.detail; *p != '\0'; p++)
			if (*p < 0x20 || *p > 0x7e)
				abort();
		json_decref(reply.body);
	}
	return 0;
}
