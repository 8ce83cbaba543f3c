/* SPDX-License-Identifier: Apache-2.0 */
/* What two threads do with a model: the turns of refresher and worker, and what one begins while the other ends. */
#include <sys/socket.h>
#include <unistd.h>

#include "remote.h"
#include "update_help.h"

TestSuite(update_turns, .init = setup, .fini = teardown);

static void
with_command(void)
{
	static char *command[] = { (char *)"/bin/true", NULL };

	d.config->models[0].health.command = command;
	d.config->models[0].health.interval_ms = 60000;
}

static void
without_command(void)
{
	d.config->models[0].health.command = NULL; /* not the configuration's to free */
}

static void
updated_to_two(void)
{
	installed(1);
	publish(2, "two");
	cr_assert_eq(offer(false), MFS_OK);
	cr_assert_eq(run_steps(), MFS_CYCLE_IDLE);
	active_is("1.2.0", 1);
}

static enum mfs_code
by_hand(int64_t release, struct mfs_err *err)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_sha256 id;
	bool same;

	bundle(release, "by-hand", &id);
	cr_assert_eq(device_copy(&d, "by-hand", &id, err), MFS_OK, "%s", err->msg);
	device_unbundle(&d, "by-hand");
	return mfs_cycle_install(&r, 0, &id, NULL, &same, from, to, err);
}

/* A look of the probation takes its time: the fix may become active meanwhile, or the operator decide. */
static void
three_comes(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	f.looking = NULL;
	cr_assert_eq(by_hand(3, &err), MFS_OK, "%s", err.msg);
}

static void
marked_good(void)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	cr_assert_eq(mfs_engine_mark(d.engine, 0, "active", true, &moved, from, to, &err), MFS_OK, "%s", err.msg);
}

Test(update_turns, the_end_of_a_look_leaves_the_next_observation_alone)
{
	with_command();
	updated_to_two();
	f.looking = three_comes;
	cr_assert_gt(mfs_cycle_observe(&r, 0, 100, NULL), 0);
	active_is("1.3.0", 1);
	cr_assert(observed(), "its probation is forgotten");
	cr_assert_str_eq(state().observation.v.version, "1.3.0");
	cr_assert(state().observation.by_hand, "it is another one's");
	f.looking = marked_good;
	cr_assert_gt(mfs_cycle_observe(&r, 0, 100, NULL), 0);
	cr_assert(!observed(), "what was marked good is on probation again");
	active_is("1.3.0", 3);
	without_command();
}

/* ---- the turns of the two threads ------------------------------------------------------------------------------------------------- */

static struct mfs_update *u;

static enum mfs_code
fake_refresh(void *user, size_t repo, struct mfs_remote *via, const _Atomic int *cancel, int64_t *retry_after_s, bool *news,
	struct mfs_err *err)
{
	(void)user, (void)repo, (void)via, (void)cancel;
	f.refreshes++;
	*retry_after_s = 0;
	*news = true;
	return f.refresh == MFS_OK ? MFS_OK : mfs_fail(err, f.refresh, "the fake says %s", mfs_code_name(f.refresh));
}

static int64_t fake_tick(void *user) { (void)user; return 60; }
static int64_t fake_boot(void *user) { (void)user; return f.boot_ms; }

static void
turns_begin(void)
{
	const struct mfs_update_args args = { .run = r, .refresh = fake_refresh, .tick = fake_tick, .boot_ms = fake_boot };

	cr_assert_eq(mfs_update_new(&args, &u, NULL), MFS_OK);
}

/* Turns of the refresher until it has nothing to do; never more than it could need. */
static void
refreshed(void)
{
	for (int k = 0; k < 10 && mfs_update_turn_refresher(u) == 0; k++)
		;
}

static void
worked(void)
{
	for (int k = 0; k < 20 && mfs_update_turn_worker(u) == 0; k++)
		;
}

static void
refreshed_to_three(void)
{
	f.refusing = NULL;
	f.health = MFS_OK;
	publish(3, "three");
	mfs_update_kick(u, 0, true);
	refreshed();
	cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
}

/* The refresher begins the next attempt after the worker wrote the end of its own, and before its step returned. */
Test(update_turns, an_attempt_that_begins_at_the_end_of_another_is_not_lost)
{
	installed(1);
	publish(2, "two");
	turns_begin();
	refreshed();
	f.health = MFS_HEALTH_CHECK_FAILED;
	f.refusing = refreshed_to_three;
	worked();
	active_is("1.3.0", 1);
	mfs_update_free(u);
}

static void
not_written_as_made(void)
{
	struct mfs_engine_repo repo;

	mfs_engine_repo_get(d.engine, 0, &repo);
	cr_assert_eq(repo.next_check, 0, "serve may die here: who was not asked yet would wait for the next interval");
}

/* Of a thousand models the last is asked minutes after the first. */
Test(update_turns, a_check_is_made_when_every_model_was_asked)
{
	struct mfs_engine_repo repo;

	installed(1);
	publish(2, "two");
	turns_begin();
	f.asking = not_written_as_made;
	refreshed();
	cr_assert_gt(f.targets, 0);
	mfs_engine_repo_get(d.engine, 0, &repo);
	cr_assert_gt(repo.next_check, f.now);
	mfs_update_free(u);
}

static struct mfs_remote *
stick(void)
{
	struct mfs_remote *remote;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	(void)close(pair[0]); /* its fetch is gone already */
	cr_assert_eq(mfs_remote_adopt(pair[1], &remote, NULL), MFS_OK);
	return remote;
}

Test(update_turns, what_a_stick_began_goes_on_without_it)
{
	struct mfs_remote *remote;
	uint64_t ticket;

	installed(1);
	publish(2, "two");
	turns_begin();
	refreshed();
	worked(); /* what the first look finds */
	active_is("1.2.0", 1);
	publish(3, "three");
	f.download = MFS_NET_TIMEOUT;
	remote = stick();
	cr_assert_eq(mfs_update_ask(u, 0, true, remote, &ticket, NULL), MFS_OK);
	refreshed();
	worked();
	cr_assert_eq(f.via, remote);
	cr_assert_eq(state().step, MFS_STEP_DOWNLOAD);
	mfs_update_forget(u, ticket); /* the command was interrupted, or told that it pauses */
	f.download = MFS_OK;
	f.now += 86400;
	f.boot_ms += INT64_C(86400000);
	worked();
	cr_assert_null(f.via, "it asks a fetch that went with the command");
	active_is("1.3.0", 1);
	mfs_update_free(u);
}

Test(update_turns, what_the_repository_offers_does_not_come_from_a_stick)
{
	struct mfs_remote *remote;
	uint64_t ticket;

	installed(1);
	publish(2, "two");
	f.download = MFS_NET_TIMEOUT;
	turns_begin();
	remote = stick();
	cr_assert_eq(mfs_update_ask(u, 0, true, remote, &ticket, NULL), MFS_OK);
	refreshed();
	worked();
	cr_assert_eq(f.via, remote);
	publish(3, "three");
	mfs_update_kick(u, 0, true);
	refreshed();
	f.download = MFS_OK;
	worked();
	cr_assert_null(f.via);
	active_is("1.3.0", 1);
	mfs_update_free(u);
}

static void look_takes_long(void) { f.boot_ms += 600000; }

/* A check that is due brings revocations: looks that take longer than the time between them do not keep it away. */
Test(update_turns, a_slow_probation_does_not_keep_checks_away)
{
	with_command();
	updated_to_two();
	turns_begin();
	f.looking = look_takes_long;
	d.config->update.probation_ms = INT64_C(86400000);
	cr_assert_eq(mfs_engine_observation(d.engine, 0, &(struct mfs_cycle_observation){ .v = state().observation.v,
		.total = 86400 }, NULL), MFS_OK);
	for (int k = 0; k < 8; k++)
		(void)mfs_update_turn_refresher(u);
	cr_assert_gt(f.refreshes, 2u, "%u checks in 4 looks of ten minutes each", f.refreshes);
	cr_assert_gt(f.healths, 2u);
	mfs_update_free(u);
	without_command();
}

/* The probation of what became active during the last look of another is not forgotten. */
static void
three_comes_by_worker(void)
{
	f.looking = NULL;
	publish(3, "three");
	cr_assert_eq(offer(false), MFS_OK);
	mfs_update_kick(u, 0, false);
	worked();
	f.probation = MFS_OK;
}

Test(update_turns, what_becomes_active_during_a_last_look_is_observed)
{
	with_command();
	updated_to_two();
	turns_begin();
	f.looking = three_comes_by_worker;
	f.probation = MFS_HEALTH_CHECK_FAILED; /* of what is not active any more when it is said */
	cr_assert_eq(mfs_update_turn_refresher(u), 0);
	active_is("1.3.0", 1);
	for (int k = 0; k < 30; k++) {
		f.boot_ms += 60000;
		refreshed();
	}
	active_is("1.3.0", 3);
	mfs_update_free(u);
	without_command();
}

/* The end of one command says nothing about another that waits for the same model: pauses end for it as for the first. */
Test(update_turns, the_end_of_one_command_leaves_the_other_waiting)
{
	uint64_t first, second, all;

	installed(1);
	publish(2, "two");
	f.download = MFS_NET_TIMEOUT;
	turns_begin();
	refreshed();
	worked();
	cr_assert_gt(state().not_before, f.now, "it pauses");
	cr_assert(!state().by_hand);
	cr_assert_eq(mfs_update_ask(u, 0, true, NULL, &first, NULL), MFS_OK);
	cr_assert_eq(mfs_update_ask(u, 0, true, NULL, &second, NULL), MFS_OK);
	mfs_update_forget(u, first); /* interrupted */
	f.download = MFS_OK;
	refreshed();
	cr_assert_eq(state().not_before, 0, "the second waits for the pause that the first would have ended");
	cr_assert(state().by_hand);
	worked();
	active_is("1.2.0", 1);
	/* Nor does that of one about a single model for one about all. */
	publish(3, "three");
	f.download = MFS_NET_TIMEOUT;
	mfs_update_kick(u, 0, true);
	refreshed();
	worked();
	mfs_update_forget(u, second);
	cr_assert_gt(state().not_before, f.now);
	cr_assert_eq(mfs_update_ask(u, d.config->n_models, true, NULL, &all, NULL), MFS_OK);
	cr_assert_eq(mfs_update_ask(u, 0, true, NULL, &first, NULL), MFS_OK);
	mfs_update_forget(u, first);
	refreshed();
	cr_assert_eq(state().not_before, 0);
	mfs_update_forget(u, all);
	publish(4, "four");
	mfs_update_kick(u, 0, true);
	refreshed();
	cr_assert(!state().by_hand, "nobody waits any more");
	mfs_update_free(u);
}

/* Why nothing newer comes is known after a restart, before the next check, which may be hours away. */
Test(update_turns, what_a_check_found_is_known_after_a_restart)
{
	struct mfs_update_facts facts = { 0 };

	installed(1);
	turns_begin();
	refreshed();
	cr_assert_eq(state().offer, MFS_NOT_SELECTED);
	mfs_update_free(u);
	crash();
	cr_assert_eq(state().offer, MFS_NOT_SELECTED, "only the next check would tell");
	cr_assert_str_eq(state().offer_detail, "no rollout includes this device");
	mfs_update_recalled(&facts, &(struct mfs_engine_update){ .offer = state().offer });
	cr_assert(facts.offered && facts.offer == MFS_NOT_SELECTED);
	/* What this start has found says more. */
	facts.offer = MFS_OK;
	mfs_update_recalled(&facts, &(struct mfs_engine_update){ .offer = MFS_REVOKED });
	cr_assert_eq(facts.offer, MFS_OK);
	publish(2, "two");
	turns_begin();
	mfs_update_kick(u, 0, true);
	refreshed();
	worked();
	active_is("1.2.0", 1);
	mfs_update_free(u);
	crash();
	cr_assert_eq(state().offer, MFS_OK, "there is nothing to say any more");
	cr_assert_eq(state().offer_detail[0], '\0');
}

/* By a stick, too, whose check says nothing about when the repository is asked next. */
Test(update_turns, what_a_stick_was_found_to_offer_is_known_after_a_restart)
{
	uint64_t ticket;

	installed(1);
	turns_begin();
	refreshed();
	f.target_code = MFS_REVOKED;
	cr_assert_eq(mfs_update_ask(u, 0, true, stick(), &ticket, NULL), MFS_OK);
	refreshed();
	mfs_update_forget(u, ticket);
	mfs_update_free(u);
	crash();
	cr_assert_eq(state().offer, MFS_REVOKED);
}
