/* SPDX-License-Identifier: Apache-2.0 */
/* Who repairs a payload: one at a time, whatever models name it, and who ends waits for nobody. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "serve.h"

static struct mfs_config config = { .n_models = 2 };
static struct mfs_serve serve = { .config = &config };
static struct mfs_repairs *repairs;
static const struct mfs_sha256 A = { { 1 } }, B = { { 2 } };
static _Atomic int none, cancel;

static void
set_up(void)
{
	cr_assert_eq(mfs_repairs_new(&serve, &repairs, NULL), MFS_OK);
}

TestSuite(repairs, .init = set_up, .timeout = 60);

struct waiter {
	const _Atomic int *cancel;
	_Atomic bool asks;
	bool got;
};

static void *
wait_for_a(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->asks, true);
	w->got = mfs_repairs_begin(repairs, &A, w->cancel);
	return NULL;
}

static void
begin(struct waiter *w, pthread_t *t)
{
	cr_assert_eq(pthread_create(t, NULL, wait_for_a, w), 0);
	while (!atomic_load(&w->asks))
		(void)usleep(1000);
	(void)usleep(20000);
}

Test(repairs, a_payload_is_one_threads_at_a_time_and_others_are_not_held_up)
{
	struct waiter w = { .cancel = &none };
	uint64_t repaired, failed;
	pthread_t t;

	cr_assert(mfs_repairs_begin(repairs, &A, &none));
	cr_assert(mfs_repairs_begin(repairs, &B, &none));
	begin(&w, &t);
	cr_assert_eq(pthread_tryjoin_np(t, NULL), EBUSY, "the same payload, in two hands");
	mfs_repairs_end(repairs, &B, 3, true);
	cr_assert_eq(pthread_tryjoin_np(t, NULL), EBUSY);
	mfs_repairs_end(repairs, &A, 1, false);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(w.got);
	mfs_repairs_counts(repairs, &repaired, &failed);
	cr_assert(repaired == 4 && failed == 1);
}

Test(repairs, who_waits_hears_that_it_is_to_end)
{
	struct waiter w = { .cancel = &cancel }, at_end = { .cancel = &none };
	pthread_t t;

	cr_assert(mfs_repairs_begin(repairs, &A, &none));
	begin(&w, &t);
	atomic_store(&cancel, 1); /* the scrub's, which ends before repairs do */
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(!w.got);
	begin(&at_end, &t);
	mfs_repairs_stop(repairs);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(!at_end.got);
}
