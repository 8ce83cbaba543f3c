/* SPDX-License-Identifier: Apache-2.0 */
/* tests/reject/<code>/<name>.json: manifests, one rule each. */
#include "reject_help.h"

static enum mfs_code
manifest(void *user, struct mfs_span in, struct mfs_err *err)
{
	struct mfs_manifest *m;
	enum mfs_code code = mfs_manifest_parse(in, &m, err);

	(void)user;
	cr_assert((m != NULL) == (code == MFS_OK));
	mfs_manifest_free(m);
	return code;
}

Test(reject, malformed)
{
	reject_folder("malformed", MFS_MALFORMED, 110, manifest, NULL);
}

Test(reject, the_manifests_that_these_were_made_from_are_good)
{
	reject_folder("ok", MFS_OK, 4, manifest, NULL);
}
