/* SPDX-License-Identifier: Apache-2.0 */
/* The kill switch and its kin: what signed policy, key trust and staleness do to what is shown. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "device.h"
#include "mfs_policy.h"

static struct device d;

static void
setup(void)
{
	device_make(&d, "");
}

static void
teardown(void)
{
	device_free(&d);
}

TestSuite(engine_policy, .init = setup, .fini = teardown);

static struct mk_bundle
bundle_of(int64_t release, char version[32], struct mk_file *file)
{
	(void)snprintf(version, 32, "1.%d.0", (int)release);
	*file = (struct mk_file){ "model.bin", 100000, (unsigned)release };
	return (struct mk_bundle){ .version = version, .release = release, .files = file, .n_files = 1 };
}

static struct mfs_sha256
install(int64_t release)
{
	char version[32];
	struct mk_file file;
	struct mk_bundle b = bundle_of(release, version, &file);
	struct mfs_sha256 id;

	device_install(&d, &b, &id);
	return id;
}

static struct mfs_sha256
copied(int64_t release)
{
	char version[32];
	struct mk_file file;
	struct mk_bundle b = bundle_of(release, version, &file);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	device_bundle(&d, &b, "copied", NULL);
	cr_assert_eq(device_copy(&d, "copied", &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "copied");
	return id;
}

static struct mfs_engine_model
model(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, &err), MFS_OK, "%s", err.msg);
	return m;
}

static void
active_is(const char *version)
{
	struct mfs_engine_model m = model();
	bool any = m.n > 0 && m.versions[0].active;

	cr_assert_str_eq(any ? m.versions[0].v->m->version : "", version, "%s", m.absent_detail);
	mfs_engine_model_free(&m);
}

static void
absent_is(enum mfs_code code, const char *word)
{
	struct mfs_engine_model m = model();

	cr_assert(m.n == 0 || !m.versions[0].active);
	cr_assert_eq(m.absent, code, "%s: %s", mfs_code_name(m.absent), m.absent_detail);
	cr_assert_not_null(strstr(m.absent_detail, word), "'%s' not in: %s", word, m.absent_detail);
	mfs_engine_model_free(&m);
}

/* ---- policies, as a refresh brings them ---------------------------------------------------------------- */

struct policy {
	struct mfs_revocation revoked;
	int64_t min_release;
	bool withdraw;
};

static enum mfs_code
policy_write(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	struct mfs_anchor_model *st = mfs_anchor_find(a, "det");
	const struct policy *want = user;

	cr_assert_not_null(st);
	cr_assert_eq(mfs_policy_new("det", &p, err), MFS_OK);
	p->sequence = st->policy_sequence + 1;
	p->issued = 1;
	p->min_release = want->min_release;
	p->withdraw_below = want->withdraw;
	if (want->revoked.action != MFS_ACTION_NONE)
		cr_assert_eq(mfs_policy_revoke(p, &want->revoked, err), MFS_OK);
	*write = true;
	return mfs_anchor_policy_set(st, p, err);
}

static void
policy_set(const struct policy *p)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_engine_anchor_update(d.engine, policy_write, (void *)(uintptr_t)p, &err), MFS_OK, "%s", err.msg);
}

static struct policy
revocation(const char *version, enum mfs_action action)
{
	struct policy p = { .revoked = { .action = action, .reason = "bad weights" } };

	(void)snprintf(p.revoked.version, sizeof(p.revoked.version), "%s", version);
	return p;
}

static bool
enforce(struct mfs_policy_entry *fetch)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool changed;

	cr_assert_eq(mfs_engine_enforce(d.engine, 0, &changed, fetch, &err), MFS_OK, "%s", err.msg);
	return changed;
}

/* ---- stop, withdraw --------------------------------------------------------------------------------------- */

Test(engine_policy, stop_leaves_what_is_active_and_lets_nothing_become_it)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_STOP);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	(void)install(1);
	device_open(&d);
	policy_set(&p);
	cr_assert(!enforce(NULL));
	active_is("1.1.0");
	id = copied(2);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_REVOKED, "%s", err.msg);
	device_close(&d);
	/* The active one itself. */
	device_open(&d);
	p = revocation("1.1.0", MFS_ACTION_STOP);
	policy_set(&p);
	cr_assert(!enforce(NULL));
	active_is("1.1.0");
	device_close(&d);
	device_open(&d);
	active_is("1.1.0");
}

Test(engine_policy, withdraw_acts_at_once_stays_after_a_restart_and_can_be_lifted)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_WITHDRAW);
	const struct policy none = { 0 };
	struct mfs_engine_model m;
	uint64_t generation;

	(void)install(1);
	(void)install(2);
	device_open(&d);
	m = model();
	generation = m.generation;
	mfs_engine_model_free(&m);
	policy_set(&p);
	cr_assert(enforce(NULL));
	absent_is(MFS_REVOKED, "bad weights");
	m = model();
	cr_assert_gt(m.generation, generation, "who watches it sees the withdrawal");
	cr_assert_eq(m.last_outcome, MFS_REVOKED);
	mfs_engine_model_free(&m);
	cr_assert(!enforce(NULL), "once");
	device_close(&d);
	device_open(&d);
	absent_is(MFS_REVOKED, "withdrawn");
	policy_set(&none);
	cr_assert(enforce(NULL));
	active_is("1.2.0");
}

Test(engine_policy, what_was_revoked_while_the_host_was_off_acts_at_the_mount)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_ROLLBACK);

	(void)install(1);
	(void)install(2);
	device_open(&d);
	policy_set(&p); /* and the power goes before anything acts on it */
	device_close(&d);
	device_open(&d);
	active_is("1.1.0");
}

Test(engine_policy, a_status_that_only_reads_shows_nothing_revoked_either)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_ROLLBACK);
	struct mfs_err err = MFS_ERR_INIT;

	(void)install(1);
	(void)install(2);
	device_open(&d);
	policy_set(&p);
	device_close(&d);
	cr_assert_eq(device_try_open(&d, MFS_TRUSTED_READ, &err), MFS_OK, "%s", err.msg);
	absent_is(MFS_REVOKED, "withdrawn");
}

/* ---- rollback ------------------------------------------------------------------------------------------------ */

Test(engine_policy, rollback_goes_to_the_newest_good_version_that_is_kept_and_lifts_a_hold)
{
	struct policy p = revocation("1.3.0", MFS_ACTION_ROLLBACK);
	struct mfs_err err = MFS_ERR_INIT;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_engine_model m;
	bool moved;

	(void)install(1);
	(void)install(2);
	(void)install(3);
	device_open(&d);
	cr_assert_eq(mfs_engine_pin(d.engine, 0, "1.3.0", &moved, from, to, &err), MFS_OK, "%s", err.msg);
	policy_set(&p);
	cr_assert(enforce(NULL));
	active_is("1.2.0");
	m = model();
	cr_assert_str_eq(m.update.pin, "", "a pin ends with its version");
	cr_assert(!m.held);
	cr_assert_eq(m.floor_release, 3, "the floor stays");
	cr_assert_eq(m.last_outcome, MFS_REVOKED);
	mfs_engine_model_free(&m);
}

Test(engine_policy, rollback_with_nothing_to_go_back_to_keeps_or_withdraws_as_its_publisher_says)
{
	struct policy p = revocation("1.1.0", MFS_ACTION_ROLLBACK);

	(void)install(1);
	device_open(&d);
	policy_set(&p);
	cr_assert(!enforce(NULL));
	active_is("1.1.0");
	p.revoked.otherwise_withdraw = true;
	policy_set(&p);
	cr_assert(enforce(NULL));
	absent_is(MFS_REVOKED, "withdrawn");
}

Test(engine_policy, rollback_passes_over_versions_that_are_not_whole)
{
	struct policy p = revocation("1.3.0", MFS_ACTION_ROLLBACK);
	char blobs[2][64];
	struct mfs_engine_model m;

	(void)install(1);
	(void)install(2);
	(void)install(3);
	device_open(&d);
	m = model();
	cr_assert_eq(m.n, 3);
	for (size_t k = 0; k < 2; k++) {
		const char *hex = MFS_HEX(&m.versions[k + 1].v->m->files[0].sha256);

		(void)snprintf(blobs[k], sizeof(blobs[k]), "blobs/sha256/%.2s/", hex);
		cr_assert_str_eq(m.versions[k + 1].v->m->version, k == 0 ? "1.2.0" : "1.1.0");
	}
	{
		char path[128];

		(void)snprintf(path, sizeof(path), "%s%s", blobs[0], MFS_HEX(&m.versions[1].v->m->files[0].sha256));
		cr_assert_eq(unlinkat(d.store_fd, path, 0), 0);
	}
	mfs_engine_model_free(&m);
	policy_set(&p);
	cr_assert(enforce(NULL));
	active_is("1.1.0");
}

Test(engine_policy, a_version_that_is_not_here_is_fetched_and_may_lie_below_the_floor)
{
	struct policy p = revocation("1.3.0", MFS_ACTION_ROLLBACK);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_policy_entry fetch;
	struct mfs_engine_model m;
	struct mfs_sha256 old = copied(1), other = copied(2);
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];

	(void)install(3);
	old = copied(1); /* its blobs went with an earlier collection, and were fetched */
	other = copied(2);
	device_open(&d);
	p.revoked.rollback_to = (struct mfs_policy_entry){ .manifest = old, .version = "1.1.0", .variant = "default",
		.release = 1 };
	cr_assert_eq(mfs_engine_rollback_to(d.engine, 0, &old, from, to, &err), MFS_ROLLBACK_ATTEMPT, "%s", err.msg);
	policy_set(&p);
	cr_assert(!enforce(&fetch), "kept until it is here");
	cr_assert(mfs_sha256_equal(&fetch.manifest, &old));
	cr_assert_eq(mfs_engine_rollback_to(d.engine, 0, &other, from, to, &err), MFS_ROLLBACK_ATTEMPT,
		"nobody leads there: %s", err.msg);
	active_is("1.3.0");
	err = (struct mfs_err)MFS_ERR_INIT;
	cr_assert_eq(mfs_engine_rollback_to(d.engine, 0, &old, from, to, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(from, "1.3.0");
	cr_assert_str_eq(to, "1.1.0");
	active_is("1.1.0");
	m = model();
	cr_assert_eq(m.floor_release, 3, "the floor stays");
	mfs_engine_model_free(&m);
	cr_assert(!enforce(&fetch));
	cr_assert(mfs_sha256_is_zero(&fetch.manifest), "nothing more is wanted");
	device_close(&d);
	device_open(&d);
	active_is("1.1.0");
}

/* ---- what a revocation wants and cannot have yet ------------------------------------------------------------ */

/* The blob of the version that is kept beside the active one goes, and comes back. */
static void
kept_lose(bool lose)
{
	static char path[128];
	struct mfs_engine_model m;

	if (lose) {
		const char *hex;

		m = model();
		cr_assert_eq(m.n, 2);
		hex = MFS_HEX(&m.versions[1].v->m->files[0].sha256);
		(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s", hex, hex);
		mfs_engine_model_free(&m);
	}
	cr_assert_eq(renameat(d.store_fd, lose ? path : "away", d.store_fd, lose ? "away" : path), 0);
}

static bool
restored(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool changed;

	cr_assert_eq(mfs_engine_restored(d.engine, 0, &changed, &err), MFS_OK, "%s", err.msg);
	return changed;
}

Test(engine_policy, rollback_to_a_version_whose_blobs_were_lost_happens_when_they_are_there_again)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_ROLLBACK);
	struct mfs_err err = MFS_ERR_INIT;
	bool changed;

	(void)install(1);
	(void)install(2);
	device_open(&d);
	kept_lose(true);
	p.revoked.otherwise_withdraw = true;
	policy_set(&p);
	cr_assert_eq(mfs_engine_enforce(d.engine, 0, &changed, NULL, &err), MFS_REVOKED, "%s", err.msg);
	cr_assert(changed);
	absent_is(MFS_REVOKED, "withdrawn");
	kept_lose(false);
	cr_assert(restored());
	active_is("1.1.0");
	cr_assert(!restored(), "once");
}

Test(engine_policy, what_its_publisher_lets_stay_stays_after_a_restart_too_until_there_is_somewhere_to_go)
{
	struct policy p = revocation("1.2.0", MFS_ACTION_ROLLBACK);

	(void)install(1);
	(void)install(2);
	device_open(&d);
	kept_lose(true);
	policy_set(&p);
	cr_assert(!enforce(NULL));
	active_is("1.2.0");
	device_close(&d);
	device_open(&d);
	active_is("1.2.0");
	kept_lose(false);
	cr_assert(restored());
	active_is("1.1.0");
}

/* Nothing can be written, as on a full disk. */
static void
disk_full(bool full)
{
	struct rlimit r;

	(void)signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = full ? 0 : r.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
}

Test(engine_policy, a_kill_switch_that_cannot_be_written_down_acts_from_memory_until_it_is)
{
	for (int withdraw = 0; withdraw < 2; withdraw++) {
		struct policy p = revocation("1.2.0", MFS_ACTION_ROLLBACK);
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_engine_state state;
		bool changed;

		if (withdraw) {
			teardown();
			setup();
		}
		(void)install(1);
		(void)install(2);
		device_open(&d);
		p.revoked.otherwise_withdraw = withdraw != 0;
		policy_set(&p);
		disk_full(true);
		cr_assert_eq(mfs_engine_enforce(d.engine, 0, &changed, NULL, &err), MFS_OK, "%s", err.msg);
		cr_assert(changed);
		active_is("1.1.0");
		cr_assert(!mfs_engine_written(d.engine));
		mfs_engine_state_facts(d.engine, &state);
		cr_assert_neq(state.unwritten[0], '\0');
		cr_assert_eq(mfs_engine_room(d.engine, 0, &err), MFS_IO, "%s", err.msg);
		disk_full(false);
		cr_assert(mfs_engine_written(d.engine));
		mfs_engine_state_facts(d.engine, &state);
		cr_assert_eq(state.unwritten[0], '\0');
		cr_assert_eq(mfs_engine_room(d.engine, 0, &err), MFS_OK, "%s", err.msg);
		active_is("1.1.0");
		device_close(&d);
		device_open(&d);
		active_is("1.1.0");
		cr_assert_eq(mfs_engine_enforce_again(d.engine, 0, &changed, &err), MFS_OK);
		cr_assert(!changed, "nothing is left to do");
	}
}

/* ---- minima ------------------------------------------------------------------------------------------------- */

Test(engine_policy, below_a_minimum_the_active_version_stays_unless_it_is_enforced)
{
	struct policy p = { .min_release = 5 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	(void)install(2);
	device_open(&d);
	policy_set(&p);
	cr_assert(!enforce(NULL));
	active_is("1.2.0");
	id = copied(3);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_POLICY_REJECTED, "%s", err.msg);
	p.withdraw = true;
	policy_set(&p);
	cr_assert(enforce(NULL));
	absent_is(MFS_POLICY_REJECTED, "below the minimum of the policy (release 5");
	id = copied(5);
	err = (struct mfs_err)MFS_ERR_INIT;
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	active_is("1.5.0");
}

/* ---- freshness ------------------------------------------------------------------------------------------------- */

Test(engine_policy, a_stopped_model_shows_nothing_until_it_is_let_go)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_model m;
	bool changed;

	(void)install(1);
	(void)install(2);
	device_open(&d);
	cr_assert_eq(mfs_engine_stop(d.engine, 0, MFS_METADATA_EXPIRED, "timestamp expired", &changed, &err), MFS_OK);
	cr_assert(changed);
	absent_is(MFS_METADATA_EXPIRED, "timestamp expired");
	m = model();
	cr_assert_eq(m.n, 0, "no retained one either");
	mfs_engine_model_free(&m);
	cr_assert_eq(mfs_engine_stop(d.engine, 0, MFS_METADATA_EXPIRED, "again", &changed, &err), MFS_OK);
	cr_assert(!changed);
	cr_assert_eq(mfs_engine_stop(d.engine, 0, MFS_OK, NULL, &changed, &err), MFS_OK);
	cr_assert(changed);
	active_is("1.2.0");
}
