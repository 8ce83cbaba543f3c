/* SPDX-License-Identifier: Apache-2.0 */
/* The time floor with two repositories: the recovery of one takes back nothing that the other one has signed. */
#include "refresh_help.h"

static struct mk_repo *two[2]; /* default, of det; other, of seg */
static struct mfs_policy *policies[2];
static size_t roles[2]; /* of the policies */

static enum mfs_code
get_either(void *user, const struct mfs_remote_request *q, uint8_t **out, size_t *len, struct mfs_remote_result *res,
	struct mfs_err *err)
{
	(void)user;
	return mk_repo_get(two[q->repo], q, out, len, res, err);
}

static void
start_two(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_args args = { .config = d.config, .keys = d.keys, .events = d.events, .state_dirfd = d.state_fd,
		.get = get_either, .clock = clock_of };

	device_open(&d);
	args.engine = d.engine;
	cr_assert_eq(mfs_refresh_new(&args, &refresh, &err), MFS_OK, "%s", err.msg);
}

/* The policy of one of them, issued at that time, and what leads to it, good for so long. */
static void
issue(int k, int64_t issued, int64_t lifetime)
{
	static const char *const paths[] = { "det/policy.json", "seg/policy.json" };
	char *json;
	size_t len;

	policies[k]->sequence++;
	policies[k]->issued = issued;
	cr_assert_eq(mfs_policy_json(policies[k], &json, &len, NULL), MFS_OK);
	mk_repo_target(two[k], roles[k], paths[k], json, len);
	free(json);
	two[k]->now = now;
	two[k]->lifetime = lifetime;
	for (size_t i = MK_TARGETS; i < two[k]->n_roles; i++)
		two[k]->roles[i].changed = true;
	mk_repo_commit(two[k]);
}

static enum mfs_code
run_of(size_t k)
{
	struct mfs_err err = MFS_ERR_INIT;

	return mfs_refresh_run(refresh, k, NULL, NULL, NULL, &err);
}

static void
setup_two(void)
{
	static const char *const ids[] = { "det", "seg" }, *const files[] = { "root.json", "other.json" };
	struct mfs_span root;

	now = NOW;
	device_make(&d, "repositories: {default: {url: \"file:///r\", root: root.json}, other: {url: \"file:///o\", root: other.json}}\n"
		"device: {id: dev-1}\n");
	d.config->models[1].repo = 1; /* seg follows the other one */
	for (int k = 0; k < 2; k++) {
		two[k] = mk_repo_new(NOW);
		roles[k] = mk_repo_model(two[k], ids[k]) + 1;
		cr_assert_eq(mfs_policy_new(ids[k], &policies[k], NULL), MFS_OK);
		two[k]->roles[MK_ROOT].changed = true;
		issue(k, NOW, DAY);
		cr_assert(mk_repo_file(two[k], "metadata/1.root.json", &root));
		scratch_write(d.root_fd, files[k], root.p, root.len);
	}
	keys_load();
	start_two();
}

static void
teardown_two(void)
{
	stop();
	for (int k = 0; k < 2; k++) {
		mfs_policy_free(policies[k]);
		mk_repo_free(two[k]);
	}
	device_free(&d);
}

TestSuite(refresh_floor, .init = setup_two, .fini = teardown_two);

static void
time_is(int64_t least, const char *what)
{
	const int64_t is = mfs_refresh_now(refresh);

	cr_assert(is >= least && is < least + DAY / 2, "%s: %lld s from the first day", what, (long long)(is - NOW));
}

/* Who stole the keys of one repository pushed the time; its new timestamp key takes that back. */
Test(refresh_floor, one_repositorys_recovery_leaves_the_floor_of_another_one)
{
	now = NOW + 10 * DAY;
	issue(1, now, DAY);
	cr_assert_eq(run_of(1), MFS_OK);
	issue(0, NOW + 4999LL * DAY, 5000LL * DAY);
	cr_assert_eq(run_of(0), MFS_CLOCK_UNSET);
	time_is(NOW + 4999LL * DAY, "stolen");
	mk_repo_rotate(two[0], MK_TIMESTAMP);
	issue(0, NOW + 2 * DAY, DAY);
	cr_assert_eq(run_of(0), MFS_OK);
	now = NOW; /* the battery of the clock is empty */
	time_is(NOW + 10 * DAY, "the other one's");
	stop();
	start_two();
	time_is(NOW + 10 * DAY, "after a restart");
	/* And what is left of the first one's counts when the other one begins anew. */
	now = NOW + 10 * DAY;
	mk_repo_rotate(two[1], MK_TIMESTAMP);
	issue(1, NOW + DAY, DAY);
	cr_assert_eq(run_of(1), MFS_OK);
	now = NOW;
	time_is(NOW + 2 * DAY, "the first one's");
	stop();
	start_two();
	time_is(NOW + 2 * DAY, "after a restart");
}

/* What the other one has signed counts for the root that takes a key away, too. */
Test(refresh_floor, a_recovery_is_no_way_behind_the_time_of_another_repository)
{
	const int64_t late = NOW + 4000LL * DAY;

	cr_assert_eq(run_of(0), MFS_OK);
	now = late;
	issue(1, late, DAY);
	cr_assert_eq(run_of(1), MFS_METADATA_EXPIRED, "its root has expired");
	two[1]->roles[MK_ROOT].changed = true;
	issue(1, late, DAY);
	cr_assert_eq(run_of(1), MFS_OK);
	now = NOW;
	mk_repo_rotate(two[0], MK_TIMESTAMP);
	issue(0, NOW, DAY); /* expired, says the other one */
	cr_assert_eq(run_of(0), MFS_METADATA_EXPIRED);
	time_is(late, "the other one's");
}
