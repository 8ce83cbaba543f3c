/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_repair.c - parked READs and their threads, with everything around them faked: a parked READ has an end, whatever
 * becomes of the threads. pthread_create is wrapped by the linker.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "download.h"
#include "io.h"
#include "serve.h"

static struct mfs_file file = { .name = (char *)"model.bin", .size = 1 << 20, .chunk_size = 65536, .chunks = 16 };
static struct mfs_manifest manifest = { .model_id = (char *)"det", .version = (char *)"1.0.0", .files = &file, .n_files = 1 };
static struct mfs_version version = { .m = &manifest };
static struct mfs_config_model model = { .id = (char *)"det", .repo = 0 };
static struct mfs_config config = { .models = &model, .n_models = 1 };
static struct mfs_serve serve;
static struct mfs_repairs *repairs;

/* ---- what is faked ------------------------------------------------------------------------------------------------ */

static _Atomic unsigned threads_left; /* that may be made */
static _Atomic unsigned begun, ended;
static int replied; /* the error of the reply */
static sem_t reply;
static bool interrupt_at_once;
static void (*parking)(void);

struct start {
	void *(*fn)(void *arg);
	void *arg;
};

static void *
thread_main(void *arg)
{
	struct start s = *(struct start *)arg;
	void *result;

	free(arg);
	result = s.fn(s.arg);
	atomic_fetch_add(&ended, 1);
	return result;
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);

int
__wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg)
{
	struct start *s = malloc(sizeof(*s));

	if (s == NULL || atomic_load(&threads_left) == 0) {
		free(s);
		return EAGAIN;
	}
	*s = (struct start){ fn, arg };
	atomic_fetch_sub(&threads_left, 1);
	atomic_fetch_add(&begun, 1);
	return __real_pthread_create(t, attr, thread_main, s);
}

int
fuse_reply_err(fuse_req_t req, int error)
{
	(void)req;
	replied = error;
	return sem_post(&reply);
}

void
fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t fn, void *arg)
{
	if (fn != NULL && interrupt_at_once)
		fn(req, arg);
}

int
mfs_session_park(struct mfs_session *s)
{
	(void)s;
	if (parking != NULL)
		parking();
	return 0;
}

void
mfs_session_answer(struct mfs_session *s, int place, void (*fn)(void *arg), void *arg)
{
	(void)s, (void)place;
	fn(arg);
}

struct mfs_download *
mfs_updates_download(struct mfs_updates *u, size_t repo)
{
	(void)u, (void)repo;
	return NULL;
}

/* It takes as long as there is somebody to wait for it. */
enum mfs_code
mfs_download_repair(struct mfs_download *d, const struct mfs_manifest *m, size_t f, uint64_t first, uint64_t n,
	const _Atomic int *cancel, uint64_t *repaired, struct mfs_err *err)
{
	const struct timespec moment = { 0, 1000000 };

	(void)d, (void)m, (void)f, (void)first, (void)n;
	*repaired = 0;
	while (atomic_load(cancel) == 0)
		(void)nanosleep(&moment, NULL);
	return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
}

void
mfs_event(struct mfs_events *e, const struct mfs_event *event)
{
	(void)e, (void)event;
}

struct mfs_version *
mfs_version_ref(struct mfs_version *v)
{
	return v;
}

void
mfs_version_unref(struct mfs_version *v)
{
	(void)v;
}

/* ---- tests -------------------------------------------------------------------------------------------------------- */

static void
set_up(void)
{
	struct mfs_err err = MFS_ERR_INIT;

	serve = (struct mfs_serve){ .config = &config, .updates = (struct mfs_updates *)&config };
	threads_left = 100;
	cr_assert_eq(sem_init(&reply, 0, 0), 0);
	cr_assert_eq(mfs_repairs_new(&serve, &repairs, &err), MFS_OK, "%s", err.msg);
}

TestSuite(repair, .init = set_up, .timeout = 60);

static void
on_end(struct mfs_repair_read *w, bool was_replied)
{
	(void)w;
	cr_assert(was_replied);
}

static bool
park(struct mfs_repair_read *w)
{
	const struct mfs_err why = { .code = MFS_HASH_MISMATCH };

	*w = (struct mfs_repair_read){ .v = &version, .len = 4096, .fn = on_end,
		.until_ms = mfs_clock_mono_ms() + 50 /* it was parked before */ };
	return mfs_repair_park(repairs, w, &why);
}

static bool
was_replied(void)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	return sem_timedwait(&reply, &until) == 0;
}

/* Whoever has nothing to do may end now; and from here on there is no memory for another thread. */
static void
idle_threads_end(void)
{
	const struct timespec moment = { 0, 1000000 };

	for (int i = 0; i < 300 && atomic_load(&ended) == 0; i++)
		(void)nanosleep(&moment, NULL);
	threads_left = 0;
}

Test(repair, a_parked_read_ends_at_its_time_though_no_thread_can_be_made_any_more)
{
	struct mfs_repair_read w;

	parking = idle_threads_end;
	cr_assert(park(&w));
	cr_assert(was_replied(), "it waits for ever");
	cr_assert_eq(replied, EIO);
	mfs_repairs_stop(repairs);
}

Test(repair, without_a_thread_nothing_is_parked)
{
	struct mfs_repair_read w;

	threads_left = 0;
	cr_assert_not(park(&w));
	threads_left = 1; /* one who works, and nobody who watches */
	cr_assert_not(park(&w));
	mfs_repairs_stop(repairs);
}

Test(repair, who_watches_ends_with_the_last_that_was_interrupted)
{
	struct mfs_repair_read w;

	interrupt_at_once = true;
	cr_assert(park(&w));
	cr_assert(was_replied());
	cr_assert_eq(replied, EINTR);
	while (atomic_load(&ended) == 0)
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	/* And another one for the next. */
	interrupt_at_once = false;
	cr_assert(park(&w));
	cr_assert(was_replied());
	cr_assert_eq(replied, EIO);
	mfs_repairs_stop(repairs);
	while (atomic_load(&ended) < atomic_load(&begun))
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}
