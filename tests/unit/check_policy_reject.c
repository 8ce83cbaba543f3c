/* SPDX-License-Identifier: Apache-2.0 */
/* tests/reject/policy/<code>/<name>.json and tests/reject/trust/<code>/<name>.json: one rule each. */
#include "reject_help.h"

#include "mfs_policy.h"

static enum mfs_code
policy(void *user, struct mfs_span in, struct mfs_err *err)
{
	struct mfs_policy *p;
	enum mfs_code code = mfs_policy_parse(in, "det", &p, err);

	(void)user;
	cr_assert((p != NULL) == (code == MFS_OK));
	mfs_policy_free(p);
	return code;
}

static enum mfs_code
trust(void *user, struct mfs_span in, struct mfs_err *err)
{
	struct mfs_trustlist *l;
	enum mfs_code code = mfs_trustlist_parse(in, &l, err);

	(void)user;
	cr_assert((l != NULL) == (code == MFS_OK));
	mfs_trustlist_free(l);
	return code;
}

Test(policy_reject, policies)
{
	reject_folder("policy/malformed", MFS_MALFORMED, 120, policy, NULL);
	reject_folder("policy/limit_exceeded", MFS_LIMIT_EXCEEDED, 2, policy, NULL);
	reject_folder("policy/ok", MFS_OK, 4, policy, NULL);
}

Test(policy_reject, trust_lists)
{
	reject_folder("trust/malformed", MFS_MALFORMED, 25, trust, NULL);
	reject_folder("trust/limit_exceeded", MFS_LIMIT_EXCEEDED, 1, trust, NULL);
	reject_folder("trust/ok", MFS_OK, 3, trust, NULL);
}
