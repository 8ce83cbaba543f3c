/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock belongs to the attacker: who sets it back holds up no thread. Here every time of CLOCK_REALTIME is an hour
 * ahead of the kernel's, as if it had been set back by an hour just after it was read.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "tree_int.h"
#include "treefix.h"

#define PATIENCE_MS 60000 /* far below that hour, far above what a busy host needs */

static struct fix f;
static struct mfs_config_model model = { .pin_window_ms = 1000000 };
static struct mfs_config config = { .models = &model, .n_models = 1 };
static const struct mfs_sha256 V1 = { { 1 } };
static struct mfs_shm_pins shm_pins;

static _Atomic bool set_back;
static _Thread_local bool waits;  /* this thread */
static _Atomic bool about_to_wait; /* it asked when to look again */

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
	const int result = __real_clock_gettime(clock, out);

	if (atomic_load(&set_back) && clock == CLOCK_REALTIME)
		out->tv_sec += 3600;
	if (waits)
		atomic_store(&about_to_wait, true);
	return result;
}

static int64_t
still(void)
{
	return 1000000;
}

static bool
comes(_Atomic bool *what)
{
	const int64_t until = mfs_clock_mono_ms() + PATIENCE_MS;

	while (!atomic_load(what) && mfs_clock_mono_ms() < until)
		(void)usleep(1000);
	return atomic_load(what);
}

static _Atomic bool over;

static void *
wait_for_loads(void *arg)
{
	waits = true;
	mfs_pins_wait(arg, 0);
	atomic_store(&over, true);
	return NULL;
}

Test(waits, a_swap_waits_for_loaders_by_a_clock_that_nobody_sets, .timeout = 200)
{
	struct mfs_pins *p;
	pid_t loader = fork();
	pthread_t t;

	if (loader == 0)
		for (;;)
			(void)pause();
	cr_assert_gt(loader, 0);
	cr_assert_eq(mfs_pins_new(&config, &shm_pins, still, &p, NULL), MFS_OK);
	cr_assert_neq(mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0), 0);
	mfs_pins_swapped(p, 0, &V1);
	atomic_store(&set_back, true);
	cr_assert_eq(pthread_create(&t, NULL, wait_for_loads, p), 0);
	cr_assert(comes(&about_to_wait));
	cr_assert_eq(kill(loader, SIGKILL), 0);
	cr_assert_eq(waitpid(loader, NULL, 0), loader);
	cr_assert(comes(&over), "it waits for as long as the clock was set back");
	cr_assert_eq(pthread_join(t, NULL), 0);
	mfs_pins_free(p);
}

Test(waits, what_was_not_announced_is_announced_whatever_the_clock_does, .timeout = 200)
{
	struct mfs_version *v1 = fix_version(1, "1.0.0", 10, "a=1 b=1"), *v2 = fix_version(2, "2.0.0", 20, "a=1 b=1");
	int64_t until;
	char line[256];

	fix_open(&f);
	fix_show(&f, 0, v1, NULL);
	mfs_tree_announce(f.serve.tree, 0);
	f.engine[0].versions[1] = f.engine[0].versions[0];
	f.engine[0].versions[1].active = false;
	f.engine[0].versions[1].previous = true;
	f.engine[0].versions[0] = (struct mfs_engine_version){ .v = v2, .active = true };
	f.engine[0].n = 2;
	f.engine[0].generation++;
	atomic_store(&set_back, true);
	fix_restart(&f); /* who swapped died before it said so */
	until = mfs_clock_mono_ms() + PATIENCE_MS;
	do {
		(void)usleep(1000);
		(void)mfs_tree_generation(f.serve.tree, 0, line, sizeof(line));
	} while (strstr(line, " 2.0.0 ") == NULL && mfs_clock_mono_ms() < until);
	cr_assert_not_null(strstr(line, " 2.0.0 "), "never: %s", line);
	fix_close(&f);
}
