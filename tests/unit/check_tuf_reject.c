/* SPDX-License-Identifier: Apache-2.0 */
/* tests/reject/tuf/<role>/<name>.json: one rule each; ok-*.json is accepted, everything else malformed. */
#define MFS_IN_VERIFIER
#include "tuf_internal.h"
#include "reject_help.h"

static enum mfs_code
role(void *user, struct mfs_span in, struct mfs_err *err)
{
	const enum mfs_tuf_type *type = user;
	struct mfs_tuf_doc *d;
	enum mfs_code code = mfs_tuf_doc_parse("file", *type, in, &d, err);

	cr_assert_eq(d != NULL, code == MFS_OK);
	mfs_tuf_doc_free(d);
	return code;
}

static void
replay_role(enum mfs_tuf_type type, size_t at_least)
{
	reject_folder(mfs_tuf_type_name(type), MFS_MALFORMED, at_least, role, &type);
}

Test(tuf_reject, root)
{
	replay_role(MFS_TUF_ROOT, 65);
}

Test(tuf_reject, timestamp)
{
	replay_role(MFS_TUF_TIMESTAMP, 60);
}

Test(tuf_reject, snapshot)
{
	replay_role(MFS_TUF_SNAPSHOT, 60);
}

Test(tuf_reject, targets)
{
	replay_role(MFS_TUF_TARGETS, 100);
}
